"""The results of a study by task, and how they are analysed; the analysis can be changed without a training."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from ggn_tf.errors import GgnError
from ggn_tf.evaluation.baselines import MEASURES, predict_by_measure
from ggn_tf.evaluation.statistics import paper_systems as paper
from ggn_tf.evaluation.statistics.comparison import Comparison, compare_systems
from ggn_tf.evaluation.statistics.folds import out_of_fold
from ggn_tf.evaluation.statistics.further_scores import score_further
from ggn_tf.evaluation.statistics.predictions_table import read_predictions
from ggn_tf.evaluation.statistics.repeats import score_repeats
from ggn_tf.evaluation.statistics.score_records import RepeatedScore
from ggn_tf.evaluation.statistics.system_predictions import System
from ggn_tf.models.names import base_model
from ggn_tf.runs.run_folder import RunFolder
from ggn_tf.runs.stages import CLASSIFY, STAGES
from ggn_tf.studies.ablations import VARIANTS
from ggn_tf.studies.design import StudyDesign
from ggn_tf.studies.item import Item, WorkFolder
from ggn_tf.studies.training import Training
from ggn_tf.tasks import Task

PLANNED_PAIRS = (
    (paper.REFERENCE, paper.RAW),
    (paper.FROZEN, paper.RAW),
    (paper.JOINT, paper.RAW),
    (paper.JOINT, paper.FROZEN),
    (paper.JOINT, paper.REFERENCE),
    (paper.JOINT, paper.MULTITASK),
    (paper.JOINT, paper.TRANSFER),
    (paper.JOINT, paper.RADIOMICS),
    (paper.JOINT, System("diameter", CLASSIFY.name)),
)
"""The paper's claims, and whether its system beats the diameter. Few pairs, so that Holm's correction costs little."""

PRIMARY = "auc"


@dataclass(frozen=True)
class AnalysisPlan:
    """What is compared, and what counts.

    Attributes:
        primary: The score in Holm's family, as in `METRICS`.
        pairs: The planned pairs; None for those of the paper for which there are predictions.
        margin: Largest difference that is irrelevant; None for none.
        sensitivity: Least sensitivity of the operating point; None for none.
        by: Columns of the case table by which nodules are grouped.
    """

    primary: str = PRIMARY
    pairs: tuple[tuple[System, System], ...] | None = None
    margin: float | None = None
    sensitivity: float | None = None
    by: tuple[str, ...] = ()

    def pairs_among(self, present: Collection[System]) -> list[tuple[System, System]]:
        """The pairs to compare: all that were named, or those of which there are predictions.

        These are the pairs of paper and ablations, and each system that starts from a run with the same one without.
        """
        if self.pairs is not None:
            return list(self.pairs)
        variants = [(variant.system, variant.base) for variant in VARIANTS]
        started = [(system, System(base_model(system.model), system.stage)) for system in present]
        pairs = (*PLANNED_PAIRS, *variants, *sorted(pair for pair in started if pair[0] != pair[1]))
        return [pair for pair in pairs if set(pair) <= set(present)]


DEFAULT_PLAN = AnalysisPlan()


def parse_pairs(
    texts: Sequence[str], models: Collection[str], variants: Mapping[str, Sequence[str]] | None = None
) -> tuple[tuple[System, System], ...]:
    """Read pairs such as `cascade/joint:raw`.

    A system is a model and, after a slash, its stage; without a stage the last one. The variants are models of
    ablations, each with its stages.

    Raises:
        GgnError: A text is not a pair, or names a model or stage that the study does not have.
    """
    stages = {model: [each.name for each in STAGES.get(base_model(model), (CLASSIFY,))] for model in models}
    return tuple(_pair(text, {**stages, **(variants or {})}) for text in texts)


def _pair(text: str, stages: Mapping[str, Sequence[str]]) -> tuple[System, System]:
    systems = [_system(name.strip(), text, stages) for name in text.split(":")]
    if len(systems) != 2 or systems[0] == systems[1]:
        raise _no_pair(text, "two different systems with a colon between them, for example cascade/joint:raw")
    return systems[0], systems[1]


def _system(name: str, text: str, stages: Mapping[str, Sequence[str]]) -> System:
    model, _, stage = name.partition("/")
    if model not in stages:
        raise _no_pair(text, f"systems of the study: {', '.join(stages)}")
    if stage and stage not in stages[model]:
        raise _no_pair(text, f"a stage of {model}: {', '.join(stages[model])}")
    return System(model, stage or stages[model][-1])


def _no_pair(text: str, expected: str) -> GgnError:
    return GgnError(
        "This is not a pair of systems to compare.",
        found=text,
        expected=expected,
        remedy="Name the systems of the pair as in the tables of predictions.",
        arguments=("pairs",),
    )


@dataclass(frozen=True)
class TaskResults:
    """All predictions for a task, their scores, the planned comparisons on the test set, and its further scores.

    `unchecked` has the systems that start from a run of which it is not known whether it has learned of test patients.
    """

    task: Task
    predictions: pd.DataFrame
    scores: tuple[RepeatedScore, ...]
    comparisons: tuple[Comparison, ...]
    further: tuple[RepeatedScore, ...] = ()
    unchecked: tuple[str, ...] = ()


def collect_results(
    design: StudyDesign, items: Sequence[Item], folder: WorkFolder, plan: AnalysisPlan = DEFAULT_PLAN
) -> list[TaskResults]:
    """Read the predictions of a finished study, add the single measures, and score and compare all, by task."""
    return [_task_results(design, items, folder, task, plan) for task in design.tasks]


def _task_results(
    design: StudyDesign, items: Sequence[Item], folder: WorkFolder, task: Task, plan: AnalysisPlan
) -> TaskResults:
    frame = pd.concat([*_read(items, folder, task), *_measured(design, folder, task)], ignore_index=True)
    if design.folds is not None:
        trainings = frame.groupby(["model", "repeat"], sort=False)
        parts = [out_of_fold([rows]).assign(repeat=rows["repeat"].iloc[0]) for _, rows in trainings]
        frame = pd.concat(parts, ignore_index=True)
    present = {System(*key) for key in frame[["model", "stage"]].drop_duplicates().itertuples(index=False)}
    pairs = plan.pairs_among(present)
    compared = compare_systems(frame, pairs, primary=plan.primary, margin=plan.margin) if pairs else []
    further = score_further(frame, plan.sensitivity, ["test"])
    unchecked = tuple(dict.fromkeys(_unchecked(items, folder, task)))
    return TaskResults(task, frame, tuple(score_repeats(frame)), tuple(compared), tuple(further), unchecked)


def _unchecked(items: Sequence[Item], folder: WorkFolder, task: Task) -> Iterator[str]:
    for item in items:
        if isinstance(item, Training) and item.source is not None and item.task == task:
            start = RunFolder.open(folder.run(item.name)).description.start_from
            if start is not None and not start.patients_checked:
                yield item.system


def _read(items: Sequence[Item], folder: WorkFolder, task: Task) -> Iterator[pd.DataFrame]:
    for item in items:
        path = folder.predictions(item.name)
        if item.task == task and folder.has_predictions(item.name):
            yield read_predictions(path)


def _measured(design: StudyDesign, folder: WorkFolder, task: Task) -> Iterator[pd.DataFrame]:
    cases = folder.dataset.case_by_id
    for number in design.splits:
        split = folder.split(number)
        for measure in MEASURES:
            yield predict_by_measure(cases, split, task, measure)
