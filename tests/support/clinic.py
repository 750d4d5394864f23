"""A simulated clinic with known true scores: coverage of intervals and false positives of tests.

python -m tests.support.clinic   prints the table of docs/statistics.md (about 20 minutes on one core).
"""

import itertools
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import click
import numpy as np
from scipy.special import expit, softmax
from scipy.stats import beta, norm

from ggn_tf.evaluation.statistics import bootstrap
from ggn_tf.evaluation.statistics.calibration import resampled_slope
from ggn_tf.evaluation.statistics.paired_tests import auc_difference, over_trainings, swap_p_value
from ggn_tf.evaluation.statistics.repeats import add_trainings
from ggn_tf.evaluation.statistics.scores import resampled_class_auc
from tests.support.single_auc import auc_interval

LEVEL = 0.95


class Study(NamedTuple):
    """Nodules of one study, and two systems' logits [N, C], equally good."""

    patients: np.ndarray
    label: np.ndarray
    a: np.ndarray
    b: np.ndarray


@dataclass(frozen=True)
class Clinic:
    """One to four nodules per patient, 1.9 on average; half of label and noise is shared by a patient's nodules."""

    patients: int
    classes: int
    gain: float

    def draw(self, generator: np.random.Generator, patients: int) -> Study:
        patient_of = np.repeat(np.arange(patients), generator.choice([1, 1, 1, 2, 2, 3, 4], patients))
        nodules = patient_of.size

        def noise() -> np.ndarray:
            patient_part = generator.normal(size=(patients, self.classes))[patient_of]
            return np.sqrt(0.5) * (patient_part + generator.normal(size=(nodules, self.classes)))

        patient_part = generator.integers(0, self.classes, patients)[patient_of]
        single = generator.integers(0, self.classes, nodules)
        label = np.where(generator.random(nodules) < 0.5, patient_part, single)
        # What both systems see of a nodule correlates their predictions.
        shared = self.gain * np.eye(self.classes)[label] + np.sqrt(0.5) * noise()
        return Study(patient_of, label, shared + np.sqrt(0.5) * noise(), shared + np.sqrt(0.5) * noise())

    @cached_property
    def truth(self) -> dict[str, float]:
        """The scores of 300 000 patients."""
        study = self.draw(np.random.default_rng(12), 300_000)
        return {name: float(score[0]) for name, score in resampled(study.label, study.a, _ones(study)).items()}


def resampled(label: np.ndarray, logits: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    classes = logits.shape[1]
    matrices = bootstrap.resampled_confusion(label, logits.argmax(axis=1), classes, weights)
    scores = {
        "accuracy": bootstrap.resampled_accuracy(matrices),
        "average_f1": bootstrap.resampled_average_f1(matrices),
        "mcc": bootstrap.resampled_mcc(matrices),
    }
    scores["auc"] = resampled_class_auc(label, softmax(logits, axis=1), weights)
    return scores


def coverage(clinic: Clinic, studies: int, replicates: int, seed: int = 0) -> dict[str, float]:
    """The share of studies whose 95 % interval contains the true score."""
    generator = np.random.default_rng(seed)
    covered = defaultdict(list)
    for number in range(studies):
        study = clinic.draw(generator, clinic.patients)
        resampling = bootstrap.resample(study.patients, replicates, number)
        for name, score in resampled(study.label, study.a, resampling.weights).items():
            low, high = resampling.interval(score) or (np.nan, np.nan)
            covered[name].append(low <= clinic.truth[name] <= high)
        if clinic.classes == 2:
            wald = auc_interval(study.label == 1, study.a[:, 1] - study.a[:, 0], study.patients)
            covered["auc, Obuchowski"].append(wald.low is not None and wald.low <= clinic.truth["auc"] <= wald.high)
    return {name: float(np.mean(values)) for name, values in covered.items()}


def false_alarms(clinic: Clinic, studies: int, replicates: int, seed: int = 0) -> dict[str, float]:
    """The share of studies in which two equally good systems differ by p < 0.05."""
    generator = np.random.default_rng(seed)
    alarms = defaultdict(list)
    for number in range(studies):
        study = clinic.draw(generator, clinic.patients)
        resampling = bootstrap.resample(study.patients, replicates, number)
        scores_a, scores_b = (resampled(study.label, logits, resampling.weights) for logits in (study.a, study.b))
        for name in ("average_f1", "mcc"):
            alarms[name].append((resampling.p_value(scores_a[name] - scores_b[name]) or 1) < 1 - LEVEL)
        won = (study.a.argmax(axis=1) == study.label).astype(int) - (study.b.argmax(axis=1) == study.label)
        by_patient = np.bincount(study.patients, weights=won).astype(int)
        alarms["accuracy"].append(swap_p_value(by_patient) < 1 - LEVEL)
        if clinic.classes == 2:
            scores = (logits[:, 1] - logits[:, 0] for logits in (study.a, study.b))
            found = auc_difference(study.label == 1, *scores, study.patients)
            alarms["auc"].append((1 if found.p is None else found.p) < 1 - LEVEL)
    return {name: float(np.mean(values)) for name, values in alarms.items()}


def false_alarms_of_trainings(
    patients: int, repeats: int, luck: float, studies: int, seed: int = 0
) -> tuple[float, float, float]:
    """Two equally good methods, whose trainings vary, compared by AUC.

    Args:
        patients: Patients per study.
        repeats: Trainings of either method.
        luck: Standard deviation of the distance between a training's classes around 1.
        studies: Number of studies.
        seed: Seed of the studies.

    Returns:
        The share of studies with p < 0.05 over patients alone; the same over patients and trainings; the mean ratio of
        the standard errors over trainings and over patients.
    """
    generator = np.random.default_rng(seed)
    clinic = Clinic(patients, 2, 0.0)
    alarms, ratio = [], []
    for _ in range(studies):
        study = clinic.draw(generator, patients)
        positive = study.label == 1

        def trained(seen: np.ndarray, positive: np.ndarray = positive) -> np.ndarray:
            gains = generator.normal(1.0, luck, (repeats, 1))
            return seen[:, 0] + gains * positive + 0.3 * generator.normal(size=(repeats, len(positive)))

        a, b = trained(study.a), trained(study.b)
        found = auc_difference(positive, a, b, study.patients)
        aucs = (np.array([auc_interval(positive, score).value for score in scores]) for scores in (a, b))
        error, _, _, p = over_trainings(found.value, found.standard_error, *aucs, paired=True, patients=patients)
        alarms.append((found.p < 1 - LEVEL, p < 1 - LEVEL))
        ratio.append(error / found.standard_error)
    over_patients, over_both = np.mean(alarms, axis=0)
    return float(over_patients), float(over_both), float(np.mean(ratio))


def coverage_of_dice_and_slope(patients: int, studies: int, replicates: int, seed: int = 0) -> dict[str, float]:
    """The share of studies, among those with an interval, whose 95 % interval contains the true value.

    The Dice of a nodule is skewed, 0.79 in the mean, and half of its variation is shared by the patient's nodules. The
    probabilities are overconfident, with a slope of 0.7 in the mean of an infinite study.
    """
    generator = np.random.default_rng(seed)
    clinic = Clinic(patients, 2, 1.2)

    def draw(number: int) -> tuple[Study, np.ndarray, np.ndarray]:
        study = clinic.draw(generator, number)
        skill = np.sqrt(0.5) * (generator.normal(size=number)[study.patients] + generator.normal(size=study.label.size))
        odds = 2.5 * (study.a[:, 1] - study.a[:, 0])
        return study, beta.ppf(norm.cdf(skill), 5, 1.3), expit(odds)

    study, dice, chance = draw(200_000)
    truth = {"dice": dice.mean(), "slope": resampled_slope(chance, study.label == 1, _ones(study))[0]}
    covered = defaultdict(list)
    for number in range(studies):
        study, dice, chance = draw(patients)
        resampling = bootstrap.resample(study.patients, replicates, number)
        scores = {
            "dice": bootstrap.resampled_mean(dice, resampling.weights),
            "slope": resampled_slope(chance, study.label == 1, resampling.weights),
        }
        for name, score in scores.items():
            interval = resampling.interval(score)
            covered[f"{name} has an interval"].append(interval is not None)
            if interval is not None:
                covered[name].append(interval[0] <= truth[name] <= interval[1])
    return {name: float(np.mean(values)) for name, values in sorted(covered.items())}


def coverage_of_rare_share(patients: int, share: float, studies: int, replicates: int, seed: int = 0) -> float:
    """How often the 95 % interval of a rare share of nodules, such as of a Dice below 0.5, contains the true share.

    Half of what makes a nodule one of them is shared by the patient's nodules.
    """
    generator = np.random.default_rng(seed)
    clinic = Clinic(patients, 2, 1.2)
    covered = []
    for number in range(studies):
        study = clinic.draw(generator, patients)
        skill = generator.normal(size=patients)[study.patients] + generator.normal(size=study.label.size)
        rare = (np.sqrt(0.5) * skill < norm.ppf(share)).astype(float)
        resampling = bootstrap.resample(study.patients, replicates, number)
        scores = bootstrap.resampled_mean(rare, resampling.weights)
        low, high = resampling.interval(scores, proportion_of=patients) or (np.nan, np.nan)
        covered.append(low <= share <= high)
    return float(np.mean(covered))


def coverage_of_retrained_auc(patients: int, repeats: int, luck: float, studies: int, replicates: int) -> float:
    """The share of studies whose interval over patients and trainings contains the expected AUC of one training."""
    generator = np.random.default_rng(0)
    clinic = Clinic(patients, 2, 0.0)

    def aucs(study: Study, weights: np.ndarray, trainings: int) -> np.ndarray:
        positive = study.label == 1
        gains = generator.normal(1.0, luck, (trainings, 1))
        scores = study.a[:, 0] + gains * positive + 0.3 * generator.normal(size=(trainings, len(positive)))
        return np.array([bootstrap.resampled_auc(positive, score, weights) for score in scores])

    whole = clinic.draw(generator, 5000)
    truth = float(aucs(whole, _ones(whole), 400).mean())
    covered = []
    for number in range(studies):
        study = clinic.draw(generator, patients)
        resampling = bootstrap.resample(study.patients, replicates, number)
        areas = aucs(study, resampling.weights, repeats)
        interval = add_trainings(resampling.interval(areas.mean(axis=0)), areas[:, 0])
        covered.append(interval[0] <= truth <= interval[1])
    return float(np.mean(covered))


def _ones(study: Study) -> np.ndarray:
    return np.ones((1, study.label.size))


@click.command
@click.option("--studies", default=2000, show_default=True)
@click.option("--replicates", default=1000, show_default=True)
def main(studies: int, replicates: int) -> None:
    for measure in (coverage, false_alarms):
        for patients in (25, 50, 100, 180):
            for classes, gain in ((2, 1.0), (2, 1.7), (3, 1.2)):
                clinic = Clinic(patients, classes, gain)
                shares = measure(clinic, studies, replicates)
                cells = (
                    f"{name} {clinic.truth.get(name, np.nan):.3f}: {100 * share:.1f}" for name, share in shares.items()
                )
                click.echo(f"{measure.__name__} {patients} patients, {classes} classes | " + " | ".join(cells))
    for patients in (12, 25, 50, 100):
        shares = coverage_of_dice_and_slope(patients, studies, replicates)
        click.echo(
            f"{patients} patients | " + " | ".join(f"{name} {100 * share:.1f}" for name, share in shares.items())
        )
    for patients, rare in itertools.product((25, 50, 100, 270), (0.02, 0.05, 0.1)):
        found = coverage_of_rare_share(patients, rare, studies, replicates)
        click.echo(f"{patients} patients, share {rare}: {100 * found:.1f}")
    for patients, repeats, luck in ((50, 3, 0.25), (80, 3, 0.25), (80, 5, 0.25), (180, 3, 0.0)):
        share = coverage_of_retrained_auc(patients, repeats, luck, studies, replicates)
        click.echo(
            f"{patients} patients, {repeats} trainings, luck {luck}: retrained interval covers {100 * share:.1f}"
        )
    for patients, repeats, luck in ((80, 3, 0.25), (80, 5, 0.25), (180, 3, 0.15), (180, 3, 0.0)):
        over_patients, over_both, ratio = false_alarms_of_trainings(patients, repeats, luck, studies)
        click.echo(
            f"{patients} patients, {repeats} trainings, luck {luck}: p {100 * over_patients:.1f}, "
            f"p_retrained {100 * over_both:.1f}, errors {ratio:.2f}"
        )


if __name__ == "__main__":
    main()
