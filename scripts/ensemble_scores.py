#!/usr/bin/env python
"""Compares ensembles with their members, out of fold: AUC, Brier score and Dice, paired; prints Markdown tables.

python scripts/ensemble_scores.py DATASET FOLDS.json RUN... [--mirrors] [--measure mean_diameter]

The runs are those of one study or cross-validation by folds, for a task of two classes; runs of one model and fold are
members. An ensemble has the mean probabilities and the mean soft mask of its members, as an export has. Every system is
also combined with a measurement of the reference mask, as `evaluate` combines them. The runs are read, and nothing is
written.
"""

import itertools
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import click
import numpy as np
import pandas as pd
import tensorflow as tf

from ggn_tf.dataset.folds import Folds, read_folds
from ggn_tf.dataset.pipeline import CaseStream, read_batches
from ggn_tf.dataset.records import Dataset, open_dataset
from ggn_tf.dataset.splits import digest_of
from ggn_tf.evaluation.baselines import MEASURES, predict_by_measure
from ggn_tf.evaluation.statistics.folds import combine, resample_in_folds, resampled_in_folds
from ggn_tf.evaluation.statistics.predictions_table import (
    FOLD,
    identify,
    nodules_of,
    probabilities,
    probability_columns,
)
from ggn_tf.evaluation.statistics.scores import class_indices, resampled_class_auc
from ggn_tf.evaluation.uncertainty import MIRRORS
from ggn_tf.runs.run_folder import RunFolder
from ggn_tf.runs.stages import STAGES
from ggn_tf.tasks import Task
from ggn_tf.training.losses import dice_score
from ggn_tf.training.monitor import traced_inference

_BATCH, _REPLICATES = 16, 2000
_MIRRORED = ", mirrored"
_SCORES = ("auc", "brier", "dice")

Outputs = tuple[np.ndarray, np.ndarray | None]
"""Probabilities [N, C], and soft masks [N, S, S, S, 1] of networks that segment."""


class FoldNodules:
    """The test nodules of a fold, read once."""

    def __init__(self, dataset: Dataset, case_ids: tuple[str, ...], task: Task) -> None:
        """Read the nodules of the task."""
        self.records, self.task = nodules_of(dataset.select(case_ids), task), task
        stream = CaseStream(dataset, [case.case_id for case in self.records], task)
        self._batches = list(read_batches(stream.in_order(_BATCH), stream))
        self._reference = np.concatenate([batch.mask.numpy() for batch in self._batches])

    def predict(self, run: RunFolder, *, mirrors: bool) -> Outputs:
        """Predict with a run's last stage; with mirrors the mean over the eight."""
        stage = STAGES[run.description.model][-1]
        size = run.description.protocol.patch.size
        inference = traced_inference(stage.network(run.load_model(stage.name)), (None, size, size, size, 1))
        probability: list[np.ndarray] = []
        mask: list[np.ndarray] = []
        chosen = MIRRORS if mirrors else MIRRORS[:1]
        for batch in self._batches:
            sums: dict[str, np.ndarray] = {}
            for axes in chosen:
                outputs = inference(*(tf.reverse(part, axes) if axes else part for part in (batch.patch, batch.mask)))
                if "mask" in outputs and axes:
                    outputs["mask"] = tf.reverse(outputs["mask"], axes)
                for name, value in outputs.items():
                    sums[name] = sums.get(name, 0) + value.numpy() / len(chosen)
            probability.append(sums["probabilities"])
            mask += [sums["mask"]] if "mask" in sums else []
        return np.concatenate(probability), np.concatenate(mask) if mask else None

    def rows(self, members: list[Outputs], fold: int) -> pd.DataFrame:
        """The rows of the members' mean."""
        masks = [mask for _, mask in members if mask is not None]
        dice = dice_score(self._reference, np.mean(masks, axis=0)) if masks else np.nan
        probability = np.stack([each for each, _ in members]).mean(axis=0, dtype=np.float64)
        named = probability_columns(probability, self.task.class_names)
        return identify(self.records, self.task).assign(**{FOLD: fold}, dice=dice, **named)


def resampled(rows: pd.DataFrame, weights: np.ndarray) -> dict[str, np.ndarray]:
    """AUC, Brier score (of two classes, from 0 to 1) and Dice on resampled nodules."""
    label, probability = class_indices(rows)[0], probabilities(rows)
    squares = np.square(probability[:, 1] - (label == 1))
    means = {name: weights @ each / weights.sum(axis=1) for name, each in (("brier", squares), ("dice", rows["dice"]))}
    return {"auc": resampled_class_auc(label, probability, weights), **means}


def compare(systems: Mapping[str, pd.DataFrame], pairs: list[tuple[str, list[str]]]) -> None:
    """Print every system's scores, and for each pair the difference of a system and the mean of others."""
    resampling = resample_in_folds(next(iter(systems.values())), _REPLICATES, 0)
    found = {name: resampled_in_folds(rows, resampling.weights, resampled) for name, rows in systems.items()}
    click.echo("| system | AUC | Brier | Dice |\n|---|---|---|---|")
    for name, scores in found.items():
        cells = [_cell(scores[score], resampling.interval(scores[score]), "") for score in _SCORES]
        click.echo(f"| {name} | {' | '.join(cells)} |")
    click.echo("\n| difference | AUC | Brier | Dice |\n|---|---|---|---|")
    for name, others in pairs:
        cells = []
        for score in _SCORES:
            drawn = found[name][score] - np.mean([found[other][score] for other in others], axis=0)
            cells.append(_cell(drawn, resampling.difference_interval(drawn), "+"))
        other = others[0] if len(others) == 1 else f"mean of {len(others)} members"
        click.echo(f"| {name} - {other} | {' | '.join(cells)} |")


def _cell(drawn: np.ndarray, interval: tuple[float, float] | None, sign: str) -> str:
    if np.isnan(drawn[0]):
        return ""
    return f"{drawn[0]:{sign}.3f}" + (f" [{interval[0]:{sign}.3f}, {interval[1]:{sign}.3f}]" if interval else "")


def _add_mixed(outputs: dict[str, dict[str, Outputs]]) -> None:
    """Add the members of every ensemble of different kinds."""
    for suffix in ("", _MIRRORED):
        kinds = [kind for kind in outputs if kind.endswith(_MIRRORED) == bool(suffix) and "+" not in kind]
        for size in range(2, len(kinds) + 1):
            for chosen in itertools.combinations(kinds, size):
                name = " + ".join(kind.removesuffix(suffix) for kind in chosen) + suffix
                outputs[name] = dict(itertools.chain.from_iterable(outputs[kind].items() for kind in chosen))


def _predict(
    dataset: Dataset, folds: Folds, runs: list[RunFolder], mirrors: bool
) -> tuple[dict[str, dict[int, pd.DataFrame]], dict[str, list[str]]]:
    """The rows of each system and fold, and the names of each ensemble's members."""
    digests = {split.number: digest_of(split) for split in folds.splits}
    identities = Counter((run.description.model, run.description.seed, run.description.split) for run in runs)
    for run in runs:
        described = run.description
        if described.split_digest != digests.get(described.split):
            raise click.ClickException(f"{run.folder} was not trained on a fold of the file.")
        if described.task != runs[0].description.task or len(described.task.classes) != 2:
            raise click.ClickException(f"{run.folder} has another task than the first run, or not two classes.")
    trained = {identity[:2] for identity in identities}
    if set(identities.values()) != {1} or len(identities) != len(trained) * len(digests):
        raise click.ClickException("Each model and seed needs one run in every fold.")
    systems: dict[str, dict[int, pd.DataFrame]] = {}
    members: dict[str, list[str]] = {}
    for split in folds.splits:
        nodules = FoldNodules(dataset, split.test, runs[0].description.task)
        outputs: dict[str, dict[str, Outputs]] = {}
        for run in (each for each in runs if each.description.split == split.number):
            name = f"{run.description.model}, seed {run.description.seed}"
            outputs.setdefault(run.description.model, {})[name] = nodules.predict(run, mirrors=False)
            if mirrors:
                own = outputs.setdefault(run.description.model + _MIRRORED, {})
                own[name + _MIRRORED] = nodules.predict(run, mirrors=True)
        _add_mixed(outputs)
        for kind, parts in outputs.items():
            for name, each in parts.items():
                systems.setdefault(name, {})[split.number] = nodules.rows([each], split.number)
            if len(parts) > 1:
                name = f"{kind}, mean of {len(parts)}"
                systems.setdefault(name, {})[split.number] = nodules.rows([*parts.values()], split.number)
                members[name] = [*parts]
    return systems, members


@click.command()
@click.argument("dataset", type=click.Path(path_type=Path))
@click.argument("folds", type=click.Path(path_type=Path))
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--mirrors", is_flag=True, help="Also the mean over the eight mirrors of each patch.")
@click.option("--measure", type=click.Choice(tuple(MEASURES)), default="mean_diameter", help="Measure to compare with.")
def command(dataset: Path, folds: Path, runs: tuple[Path, ...], mirrors: bool, measure: str) -> None:
    """Compare ensembles of RUNS with their members on the folds of DATASET."""
    opened = [RunFolder.open(run) for run in runs]
    data, splits = open_dataset(dataset, opened[0].description.protocol.patch), read_folds(folds)
    by_fold, members = _predict(data, splits, opened, mirrors)
    task = opened[0].description.task
    ruler = [
        predict_by_measure(data.case_by_id, split, task, measure).query("set == 'test'").assign(**{FOLD: split.number})
        for split in splits.splits
    ]
    systems = {name: pd.concat(parts.values(), ignore_index=True) for name, parts in by_fold.items()}
    order = next(iter(systems.values()))["case"]
    systems[measure] = pd.concat(ruler, ignore_index=True).set_index("case").loc[order].reset_index()
    combined = {
        f"{name}, with {measure}": combine(rows, systems[measure]) for name, rows in systems.items() if name != measure
    }
    pairs = [(name, [measure]) for name in (*members, *combined)]
    compare(systems | combined, [*members.items(), *pairs])


if __name__ == "__main__":
    command()
