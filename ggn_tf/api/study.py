"""Train and compare every system of the paper's tables on one dataset."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ggn_tf.api.arguments import (
    DEFAULT_SYSTEMS,
    STUDY_GALLERY,
    SYSTEMS,
    PrecisionChoice,
    SegmentationSet,
    SelectionSet,
    check_choices,
    check_fraction,
    check_training,
    ignore,
)
from ggn_tf.api.fit import dataset_folder
from ggn_tf.api.prepare import PreparedDataset, known_salt
from ggn_tf.api.training_numbers import check_margin, chosen_protocol
from ggn_tf.dataset.fold_list import choose_folds
from ggn_tf.dataset.folds import FOLDS_FILE, Folds, write_folds
from ggn_tf.dataset.own_splits import read_own_splits
from ggn_tf.dataset.records import Dataset, open_dataset
from ggn_tf.dataset.splits import Split, digest_of
from ggn_tf.errors import GgnError
from ggn_tf.evaluation.baselines import MEASURES
from ggn_tf.evaluation.statistics.run_scores import METRICS
from ggn_tf.evaluation.statistics.subgroups import columns_of
from ggn_tf.machine import resolve_precision
from ggn_tf.models.names import ABLATIONS, STARTED, base_model
from ggn_tf.protocol import TABLE_5_JOINT_WEIGHTS, Protocol, ProtocolName
from ggn_tf.runs.stages import STAGES
from ggn_tf.studies.ablations import variant_models
from ggn_tf.studies.analysis import PRIMARY, AnalysisPlan, collect_results, parse_pairs
from ggn_tf.studies.design import StudyDesign, items_of
from ggn_tf.studies.item import Item, WorkFolder
from ggn_tf.studies.pool import WorkerMessage
from ggn_tf.studies.study_report import collect_examples, refuse_foreign_results, write_study
from ggn_tf.studies.tables import ScoreTable, tables_of
from ggn_tf.studies.training import Training
from ggn_tf.studies.workers import choose_workers, run_items
from ggn_tf.tasks import PAPER_TASKS, Task
from ggn_tf.tensorflow_import import keras_defaults

REPORT_ITEM = "report"


@dataclass(frozen=True)
class Study:
    """A finished study.

    Attributes:
        folder: The folder `results` of the study, with report.html, tables.md and one folder per task.
        tables: The paper's tables with this study's scores.
    """

    folder: Path
    tables: tuple[ScoreTable, ...]


@dataclass(frozen=True)
class StudyPlan:
    """What a call of `study` is about to do.

    Attributes:
        design: Tasks, systems, splits, repeats and numbers.
        dataset: The opened dataset.
        precision_reason: Why the precision was chosen.
        items: Number of trainings and predictions.
    """

    design: StudyDesign
    dataset: Dataset
    precision_reason: str
    items: int


@dataclass(frozen=True)
class StudyProgress:
    """How far a study is.

    Attributes:
        item: Name of the training or prediction that this is about; `report` at the end.
        what: What is being done in it, for example `joint epoch 3`.
        share: Part of the item that is done, from 0 to 1.
        items_done: Number of finished items.
        items: Number of all items.
        work_done: Part of the whole work that is done, from 0 to 1.
    """

    item: str
    what: str
    share: float
    items_done: int
    items: int
    work_done: float


@keras_defaults()
def study(
    dataset: PreparedDataset | str | Path,
    folder: str | Path,
    *,
    tasks: Sequence[str | Task] = PAPER_TASKS,
    models: Sequence[str] = DEFAULT_SYSTEMS,
    splits: Sequence[int] | str | Path | None = None,
    folds: int | None = None,
    folds_from: str | Path | None = None,
    repeats: int = 5,
    joint_weights: Sequence[float] = TABLE_5_JOINT_WEIGHTS,
    protocol: ProtocolName | Protocol = "paper",
    seed: int = 0,
    segment_on: SegmentationSet = "all",
    select_on: SelectionSet = "validation",
    ablations: Sequence[str] = (),
    precision: PrecisionChoice = "auto",
    gallery: int = STUDY_GALLERY,
    primary: str = PRIMARY,
    pairs: Sequence[str] = (),
    equivalence: float | None = None,
    sensitivity: float | None = None,
    by: Sequence[str] = (),
    jobs: int | None = None,
    cluster: str | None = None,
    resources: Mapping[str, float] | None = None,
    shared: bool = False,
    command: str = "ggn_tf.study",
    on_start: Callable[[StudyPlan], None] = ignore,
    on_progress: Callable[[StudyProgress], None] = ignore,
    stop: Callable[[], bool] = lambda: False,
) -> Study:
    """Train and compare every system on every task and split: the paper's Tables 2 to 6.

    What is finished is not repeated: the same call resumes a study, and more repeats, splits or models add to it. Each
    training runs in a process of its own, so a script needs `if __name__ == "__main__":`.

    Example:
        >>> study = ggn_tf.study("dataset", "study", protocol="quick", repeats=1)  # doctest: +SKIP
        >>> study.folder  # doctest: +SKIP
        PosixPath('study/results')

    Args:
        dataset: The dataset from `prepare`, or its folder.
        folder: The study's folder.
        tasks: Tasks, each as in `fit`.
        models: Systems: models of `fit`, `transfer` (the reference classifier on automatic masks) and `radiomics`. A
            model with a run, for example `cascade@runs/texture`, starts from it as in `fit`, with a tenth of the
            learning rates, and is compared with the same model without.
        splits: Numbers of the dataset's splits; or a file with your own, all of which are used, as in `fit`. None for 1
            and 2, or where there are folds.
        folds: Number of folds in place of splits, as in `crossval`: every system is trained on each, and what is scored
            and compared is out of fold. They have a class of every task in every fold.
        folds_from: As in `crossval`.
        repeats: Number of trainings per system, task and split or fold.
        joint_weights: Values of lambda (eq. 4) for Table 5, on the second task and the first split, or all folds.
        protocol: As in `fit`.
        seed: Seed of the first repeat, and of folds; the other repeats count on from it.
        segment_on: As in `fit`; with `all`, the tasks of a split and repeat share one U-Net.
        select_on: As in `fit`; with `test` the tables also have the best of the repeats, as the paper does.
        ablations: Names of `ABLATIONS`: variants of the method that are trained and compared as well.
        precision: As in `fit`.
        gallery: Number of nodules per task that the report shows with slices of their CT; 0 for none.
        primary: The score about which claims are made, alone in Holm's correction: `accuracy`, `average_f1`, `mcc`,
            `auc` or `dice`. The others are secondary.
        pairs: The pairs to compare, chosen before the scores are known, for example `("cascade/joint:raw",)`; none for
            the paper's.
        equivalence: Largest difference that is irrelevant; every comparison is then inside, outside or undecided.
        sensitivity: As in `evaluate`.
        by: As in `evaluate`.
        jobs: Number of trainings that run at a time, in processes of this machine; None for 1.
        cluster: Dask cluster that does the trainings instead: the address of its scheduler, for example
            `tcp://HOST:8786`, or `local:2` for one with two workers that is started on this machine. Its workers see
            dataset and folder under the same paths.
        resources: How much each training takes of its worker's resources, for example `{"GPU": 1}`, by the names with
            which the workers were started.
        shared: Whether the umask decides who may enter a new folder of the study, and not its owner alone.
        command: The command, for the records in run.json.
        on_start: Called once, before anything is trained.
        on_progress: Called as items progress.
        stop: Called twice a second; where it returns true the items at work write checkpoints, and KeyboardInterrupt is
            raised.

    Raises:
        KeyboardInterrupt: `stop` returned true; the same call resumes the study.
        GgnError: The first item that failed; an argument has no such value, or cannot be combined with folds; or the
            dataset does not suit the tasks.
    """
    workers = choose_workers(jobs, cluster, resources)
    models, sources = _started_models(models)
    check_training(segment_on, select_on, precision)
    check_choices("ablations", ablations, ABLATIONS)
    check_choices("primary", [primary], METRICS)
    check_fraction("equivalence", equivalence)
    check_fraction("sensitivity", sensitivity)
    variants = variant_models(ablations, models)
    planned = parse_pairs(pairs, (*models, *MEASURES), variants) or None
    plan = AnalysisPlan(primary, planned, equivalence, sensitivity, tuple(by))
    numbers = chosen_protocol(protocol)
    opened = open_dataset(dataset_folder(dataset), numbers.patch)
    check_margin(numbers, opened)
    columns_of(opened.cases, by)
    parsed = tuple(dict.fromkeys(task if isinstance(task, Task) else Task.parse(task) for task in tasks))
    drawn = None
    if folds is not None or folds_from is not None:
        selected = None if select_on == "validation" else select_on
        _refuse_with_folds(splits=splits, sensitivity=sensitivity, select_on=selected)
        drawn = folds_in(Path(folder), opened, parsed, folds, seed, folds_from)
    own, chosen = _splits(splits, opened) if drawn is None else (drawn.by_number, tuple(drawn.by_number))
    resolved, reason = resolve_precision(precision)
    design = StudyDesign(
        tasks=parsed,
        models=tuple(models),
        splits=chosen,
        repeats=repeats,
        joint_weights=tuple(joint_weights),
        seed=seed,
        precision=resolved,
        segment_on=segment_on,
        select_on=select_on,
        protocol=numbers,
        split_digests=tuple(map(digest_of, own.values())) if own else (),
        ablations=tuple(dict.fromkeys(ablations)),
        folds=None if drawn is None else drawn.request.count,
    )
    items = items_of(design, opened, own, sources)
    work = WorkFolder(Path(folder), opened, command, shared, own)
    for item in items:
        if isinstance(item, Training) and item.source is not None and item.repeat == 1:
            # Before the others have trained for days.
            item.plan(work)
    work.create()
    refuse_foreign_results(work.folder)
    if drawn is not None:
        write_folds(drawn, work.folder / FOLDS_FILE)
    on_start(StudyPlan(design, opened, reason, len(items)))
    progress = ItemsProgress(items, on_progress)
    run_items(items, work, workers, progress.item_at, stop)
    results = collect_results(design, items, work, plan)
    examples = collect_examples(design, results, work, gallery, progress.report)
    tables = tables_of(design, results)
    return Study(
        write_study(design, opened, results, tables, Path(folder), examples, plan, shared=shared), tuple(tables)
    )


def folds_in(
    folder: Path, dataset: Dataset, tasks: Sequence[Task], count: int | None, seed: int, file: str | Path | None
) -> Folds:
    """The folds of a folder, drawn or from a file of the user's; raises as `choose_folds`."""
    given = None if file is None else Path(file)
    return choose_folds(folder / FOLDS_FILE, dataset, tasks, count, seed, given, known_salt())


def _splits(
    splits: Sequence[int] | str | Path | None, dataset: Dataset
) -> tuple[dict[int, Split] | None, tuple[int, ...]]:
    """The user's own splits by number, None for the dataset's, and the numbers."""
    if isinstance(splits, str | Path):
        own = read_own_splits(Path(splits), dataset, known_salt())
        return own, tuple(own)
    return None, (1, 2) if splits is None else tuple(splits)


def _refuse_with_folds(**given: object) -> None:
    """Refuse what needs splits, or a set beside the fold's test set."""
    names = [name for name, value in given.items() if value is not None]
    if names:
        raise GgnError(
            "A study of folds cannot have this.",
            found=", ".join(name.replace("_", " ") for name in names),
            expected="out-of-fold predictions alone: no nodule is left for an operating point or a selection on test",
            remedy="Leave this out, or compare splits.",
            arguments=("folds", *names),
        )


def _started_models(models: Sequence[str]) -> tuple[tuple[str, ...], dict[str, Path]]:
    """The names of the systems, and the runs that some of them start from."""
    check_choices("models", [model for model in models if STARTED not in model], SYSTEMS)
    check_choices("models", [base_model(model) for model in models if STARTED in model], STAGES)
    names: list[str] = []
    sources: dict[str, Path] = {}
    for model in models:
        base, started, run = model.partition(STARTED)
        names.append(f"{base}{STARTED}{Path(run).resolve().name}" if started else model)
        if started:
            # Workers of a cluster have other working directories.
            sources[names[-1]] = Path(run).absolute()
    if len(sources) < sum(STARTED in model for model in models):
        raise GgnError(
            "Two systems of the study have the same name.",
            found=", ".join(names),
            expected="runs whose folders have different names",
            remedy="Name each system once, or rename a run folder.",
            arguments=("models",),
        )
    return tuple(names), sources


class ItemsProgress:
    """The progress of items as that of the whole, for `on_progress`."""

    def __init__(self, items: Sequence[Item], on_progress: Callable[[StudyProgress], None]) -> None:
        self._costs = {item.name: item.cost for item in items}
        self._shares = dict.fromkeys(self._costs, 0.0)
        self._on_progress = on_progress

    def item_at(self, message: WorkerMessage) -> None:
        """Report the progress of an item."""
        self._shares[message.item] = message.share
        work_done = sum(self._costs[name] * share for name, share in self._shares.items()) / sum(self._costs.values())
        ended = sum(share == 1.0 for share in self._shares.values())
        self._on_progress(StudyProgress(message.item, message.what, message.share, ended, len(self._costs), work_done))

    def report(self, line: str) -> None:
        """Report a step of what follows the items."""
        self._on_progress(StudyProgress(REPORT_ITEM, line, 0.0, len(self._costs), len(self._costs), 1.0))
