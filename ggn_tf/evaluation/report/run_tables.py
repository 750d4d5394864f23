"""The tables and remarks on one run that its report, its model card and the terminal share."""

import io
from collections.abc import Iterable, Mapping

import pandas as pd
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as TextTable
from rich.text import Text

from ggn_tf.evaluation.report.further_scores import operating_table
from ggn_tf.evaluation.report.page import Cell, Number, PValue, Table, cell_line, score_cell
from ggn_tf.evaluation.report.prediction_sets import coverage_table, too_few_note
from ggn_tf.evaluation.report.retest import retest_notes, retest_table
from ggn_tf.evaluation.statistics.bootstrap import patients_for_width
from ggn_tf.evaluation.statistics.predictions_table import EXTERNAL, PREDICTED_SETS, table_classes
from ggn_tf.evaluation.statistics.run_scores import (
    LAYERS,
    SHARE,
    Evaluation,
    ExtentScore,
    Scores,
    SetScores,
    TrainedRun,
)
from ggn_tf.evaluation.statistics.score_records import FoldScores

METRIC_NAMES = {"accuracy": "accuracy", "average_f1": "average F1", "mcc": "MCC", "auc": "AUC", "dice": "Dice"}
OPTIMISTIC = "WEIGHTS SELECTED ON THE TEST SET, as in the paper: the test scores are optimistic."
_EXTENT_NAMES = {LAYERS: "the number of patch layers inside the CT", SHARE: "the share of the patch inside the CT"}
_READING_ORDER = ("test", EXTERNAL, "validation")


def sets_to_show(scores: Scores) -> dict[str, SetScores]:
    """The scores by set, the test set first."""
    return {name: scores.by_set[name] for name in _READING_ORDER if name in scores.by_set}


def selection(run: TrainedRun) -> str:
    """How the weights were selected, and what this means for the scores."""
    if run.select_on == "test":
        return OPTIMISTIC
    return f"Weights selected on the {run.select_on} set; no test case took part."


def extent_warnings(extent: Iterable[ExtentScore]) -> list[str]:
    """The warning that the extent of the CT gives the classes away, on each set where it does."""
    by_set: dict[str, list[str]] = {}
    for score in (score for score in extent if score.revealing):
        text = f"{_EXTENT_NAMES[score.measure]} has an AUC of {cell_line(score_cell(score.estimate))}"
        by_set.setdefault(score.set_name, []).append(f"{text} for {score.class_name}")
    return [
        f"THE SCORES OF THE {name.upper()} SET CANNOT BE TRUSTED: where the CT ends gives the class away. Without any "
        f"voxel of the nodule, {'; '.join(texts)}. Use CTs that were not cropped at the nodule."
        for name, texts in by_set.items()
    ]


def parts_of(evaluation: Evaluation) -> str:
    """The split, or the folds and members of a cross-validation."""
    return f"split {evaluation.run.split}" if evaluation.crossval is None else fold_text(evaluation.crossval)


UNCHECKED = "whether they have learned of test patients, or of those of another site, cannot be checked"


def training_facts(run: TrainedRun) -> list[tuple[str, Cell]]:
    """How the run was trained: names and values."""
    return [
        ("Task", run.task),
        ("Model", run.model),
        ("Selection of the weights", selection(run)),
        ("Score that selected the classifier", run.select_by),
        *_first_weights(run),
        ("Seed of the training", run.seed),
        ("Precision", run.precision),
        ("Versions", ", ".join(f"{name} {version}" for name, version in run.versions.items())),
    ]


def _first_weights(run: TrainedRun) -> list[tuple[str, Cell]]:
    start = run.start_from
    if start is None:
        return []
    note = "" if start.patients_checked else f"; {UNCHECKED}"
    return [("First weights", f"of the {start.kind} {start.name}, SHA-256 {start.sha256[:12]}{note}")]


def data_facts(evaluation: Evaluation) -> list[tuple[str, Cell]]:
    """What the run was trained on: names and values."""
    run, folds = evaluation.run, evaluation.crossval
    parts: list[tuple[str, Cell]] = [("Split", run.split)] if folds is None else fold_facts(folds)
    return [("Dataset", run.dataset), ("Dataset fingerprint", run.dataset_fingerprint), *parts]


def sets_table(frame: pd.DataFrame) -> Table:
    """Nodules and patients of each set of one run's predictions, including the training set, one row per set."""
    classes = table_classes(frame)
    rows: list[list[Cell]] = []
    for name in (name for name in PREDICTED_SETS if bool((frame["set"] == name).any())):
        nodules = frame[frame["set"] == name].drop_duplicates("case")
        by_class = (int((nodules["label"] == label).sum()) for label in classes)
        rows.append([name, len(nodules), int(nodules["patient"].nunique()), *by_class])
    return Table(["set", "nodules", "patients", *classes], rows, "Nodules of each set; no patient is in two sets")


def training_table(evaluation: Evaluation) -> Table:
    """How every stage was trained, one row per stage, and of a cross-validation per training."""
    if evaluation.crossval is not None:
        return fold_training_table(evaluation.crossval)
    rows = [[stage.stage, stage.epochs, stage.best_epoch, stage.ended] for stage in evaluation.run.stages]
    return Table(["stage", "epochs", "best epoch", "ended by"], rows, "Stages of the training")


def score_tables(evaluation: Evaluation) -> list[Table]:
    """The scores of each set, the test set first, the differences between two sites, and the scores of the extent."""
    tables = [_set_table(evaluation, name, scores) for name, scores in sets_to_show(evaluation.scores).items()]
    for name, part in sets_to_show(evaluation.scores).items():
        if name != "validation":
            found = [score for score in evaluation.further if score.set == name]
            caption = f"{name.capitalize()} set, n = {part.nodules} nodules of {part.patients} patients."
            tables += [table for table in [operating_table(found, caption, evaluation.sensitivity)] if table.rows]
    if evaluation.external_dataset:
        tables.append(_sites_table(evaluation))
    if evaluation.crossval is not None:
        tables += fold_tables(evaluation.crossval, METRIC_NAMES)
    return [*tables, _extent_table(evaluation)] if evaluation.extent else tables


def _set_table(evaluation: Evaluation, set_name: str, scores: SetScores) -> Table:
    by_stage = {stage: part.by_metric() for stage, part in scores.stages.items()}
    shown = [metric for metric in METRIC_NAMES if any(metric in part for part in by_stage.values())]
    rows: list[list[Cell]] = [
        [stage, *(score_cell(part[metric]) if metric in part else None for metric in shown)]
        for stage, part in by_stage.items()
    ]
    classes = ", ".join(f"{name} {count}" for name, count in scores.nodules_by_class.items())
    selected = ", weights selected on it" if evaluation.run.select_on == set_name else ""
    name = set_name if evaluation.crossval is None else f"mean over the test sets of {evaluation.crossval.folds} folds"
    caption = f"{name}: {scores.nodules} nodules of {scores.patients} patients ({classes}){selected}"
    return Table(["stage", *(METRIC_NAMES[metric] for metric in shown)], rows, caption)


def _sites_table(evaluation: Evaluation) -> Table:
    rows: list[list[Cell]] = [
        [
            site.stage,
            METRIC_NAMES[site.metric],
            Number(site.test),
            Number(site.external),
            Number(site.difference, site.low, site.high, signed=True),
        ]
        for site in evaluation.sites
    ]
    caption = "test set against the external set; in brackets the percentile interval over the patients of both sites"
    return Table(["stage", "score", "test", "external", "external - test"], rows, caption)


def _extent_table(evaluation: Evaluation) -> Table:
    rows: list[list[Cell]] = [
        [score.set_name, score.class_name, _EXTENT_NAMES[score.measure], score_cell(score.estimate)]
        for score in evaluation.extent
    ]
    caption = (
        "What the extent of the CT alone predicts: AUC of a class against the rest, 0.5 is chance; in brackets the "
        "percentile interval over the patients"
    )
    return Table(["set", "class", "measure", "AUC"], rows, caption)


def interval_note(scores: Scores) -> str:
    """What the brackets mean."""
    return (
        f"In brackets the {scores.level:.0%} BCa interval over {scores.replicates} bootstrap replicates "
        f"of the patients, seed {scores.seed}."
    )


def score_notes(scores: Scores) -> list[str]:
    """What is undefined and why, and how many replicates an interval leaves out."""
    reasons, left_out = dict[tuple[str, str, tuple[str, ...]], list[str]](), dict[tuple[str, int], list[str]]()
    for set_name, part in sets_to_show(scores).items():
        found = [(stage, *score) for stage, each in part.stages.items() for score in each.by_metric().items()]
        by_reason: dict[tuple[str, str], list[str]] = {}
        for stage, metric, estimate in found:
            if estimate.reason:
                by_reason.setdefault((METRIC_NAMES[metric], estimate.reason), []).append(stage)
            elif estimate.left_out:
                left_out.setdefault((set_name, estimate.left_out), []).append(METRIC_NAMES[metric])
        for (name, reason), stages in by_reason.items():
            reasons.setdefault((set_name, reason, tuple(stages)), []).append(name)
    return [
        *(
            f"{', '.join(names)} of stage {', '.join(stages)} on the {set_name} set: {reason}."
            for (set_name, reason, stages), names in reasons.items()
        ),
        *(
            f"On the {set_name} set {count} replicates lack a class and are left out of "
            f"{' and '.join(dict.fromkeys(names))}."
            for (set_name, count), names in left_out.items()
        ),
    ]


def remarks(evaluation: Evaluation) -> list[str]:
    """What is undefined or unchecked and why, and how many patients a narrower interval and prediction sets need."""
    folds = [] if evaluation.crossval is None else fold_notes(evaluation.crossval)
    too_few = [] if evaluation.sets is None else too_few_note(evaluation.sets)
    start = evaluation.run.start_from
    unchecked = [] if start is None or start.patients_checked else [f"First weights of {start.name}: {UNCHECKED}."]
    return [*score_notes(evaluation.scores), *folds, *_patients_note(evaluation), *too_few, *unchecked]


def _patients_note(evaluation: Evaluation) -> list[str]:
    test, width = evaluation.scores.test, evaluation.interval_width
    if test is None:
        return []
    stage, scores = list(test.stages.items())[-1]
    needed = [
        f"{METRIC_NAMES[name]} {patients_for_width((score.low, score.high), test.patients, width)}"
        for name, score in scores.by_metric().items()
        if score.low is not None and score.high is not None
    ]
    if not needed:
        return []
    return [
        f"Patients like those of the test set that an interval {width:g} wide would need, stage {stage}: "
        f"{', '.join(needed)}. The test set has {test.patients}."
    ]


def summarise(evaluation: Evaluation) -> str:
    """The scores as plain text: one table per set, one row per stage, one column per score."""
    run = evaluation.run
    retest = evaluation.retest
    sets = [] if evaluation.sets is None else [coverage_table(evaluation.sets, name) for name in _READING_ORDER]
    tables = [*score_tables(evaluation), *sets, *([] if retest is None else [retest_table(retest)])]
    notes = [] if retest is None else retest_notes(retest)
    blocks = [
        *extent_warnings(evaluation.extent),
        f"{run.model}, task {run.task}, {parts_of(evaluation)}, seed {run.seed}\n{selection(run)}",
        *(f"{table.caption}\n{text_table(table)}" for table in tables if table.rows),
        "\n".join([interval_note(evaluation.scores), *remarks(evaluation), *notes]),
    ]
    return "\n\n".join(blocks)


def text_table(table: Table) -> str:
    """A table with aligned columns, without its caption; lines are as long as they need to be."""
    aligned = TextTable(box=None, padding=(0, 2, 0, 0), header_style="")
    for cell in table.heading:
        aligned.add_column(_text(cell))
    for row in table.rows:
        aligned.add_row(*map(_text, row))
    console = Console(file=io.StringIO(), width=10_000)
    with console.capture() as captured:
        console.print(Padding(aligned, (0, 0, 0, 2)))
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def _text(cell: Cell) -> Text:
    """Not as a string, in which rich would read brackets as markup."""
    return Text(cell_line(cell), no_wrap=True)


_POOLED = (
    "Pooled AUC: the nodules of all folds together. The probabilities of different models are not on one scale, so it "
    "differs from the mean over the folds, and is often lower"
)
_BASELINES = (
    "Baselines, each fitted on one measure of the reference mask in the training sets of the same folds: mean AUC over "
    "the folds. The differences are stage {stage} minus the baseline, and both combined (the normalised geometric mean "
    "of their probabilities) minus the baseline. They are paired; intervals and p are over patients, and not corrected "
    "for the number of baselines. Both are combined with the same weight, so the result depends on how well the "
    "stage's probabilities are calibrated: one that is not above 0 does not show that the stage adds nothing"
)


def fold_text(crossval: FoldScores) -> str:
    """Folds and members."""
    members = "" if crossval.members == 1 else f" with {crossval.members} members each"
    return f"{crossval.folds} folds{members}"


def fold_facts(crossval: FoldScores) -> list[tuple[str, Cell]]:
    """Folds and members: names and values."""
    return [("Folds, by patient", crossval.folds), ("Members per fold", crossval.members)]


def fold_tables(crossval: FoldScores, names: Mapping[str, str]) -> list[Table]:
    """The scores of each fold, the pooled AUC, and the baselines; `names` are those of the scores."""
    return [table for table in (_by_fold(crossval, names), _pooled(crossval), _baselines(crossval)) if table.rows]


def fold_notes(crossval: FoldScores) -> list[str]:
    """What the intervals are of, and why some are missing."""
    missing = [
        *(f"Pooled AUC of stage {score.stage}: {score.reason}." for score in crossval.pooled if score.reason),
        *(f"Baseline {score.model}: {score.reason}." for score in crossval.baselines if score.reason),
    ]
    return [
        "The intervals are of the mean over the folds: patients are drawn within each fold. They do not contain the "
        "variation over trainings.",
        *missing,
    ]


def fold_training_table(crossval: FoldScores) -> Table:
    """How every stage was trained, one row per training and stage."""
    rows = [
        [stage.stage, stage.fold, stage.member, stage.seed, stage.epochs, stage.best_epoch, stage.ended]
        for stage in crossval.trainings
    ]
    heading = ["stage", "fold", "member", "seed", "epochs", "best epoch", "ended by"]
    return Table(heading, rows, "Stages of the trainings")


def _by_fold(crossval: FoldScores, names: Mapping[str, str]) -> Table:
    shown = [metric for metric in names if any(score.metric == metric for score in crossval.by_fold)]
    scores = {(score.stage, score.fold, score.metric): score for score in crossval.by_fold}
    rows: list[list[Cell]] = []
    for stage, fold in dict.fromkeys((score.stage, score.fold) for score in crossval.by_fold):
        found = [scores.get((stage, fold, metric)) for metric in shown]
        size = next(score for score in found if score is not None)
        cells = (None if score is None else Number(score.value) for score in found)
        rows.append([stage, fold, size.nodules, size.patients, *cells])
    return Table(["stage", "fold", "nodules", "patients", *(names[metric] for metric in shown)], rows, "Each fold")


def _pooled(crossval: FoldScores) -> Table:
    rows: list[list[Cell]] = [[score.stage, Number(score.value, score.low, score.high)] for score in crossval.pooled]
    return Table(["stage", "pooled AUC"], rows, _POOLED)


def _baselines(crossval: FoldScores) -> Table:
    rows: list[list[Cell]] = [
        [
            score.model,
            Number(score.value, score.low, score.high),
            *_difference(score.difference, score.difference_low, score.difference_high, score.p),
            *_difference(score.added, score.added_low, score.added_high, score.added_p),
        ]
        for score in crossval.baselines
    ]
    stage = crossval.baselines[0].stage if crossval.baselines else ""
    heading = ["baseline", "AUC", f"{stage} - baseline", "p", "both - baseline", "p (both)"]
    return Table(heading, rows, _BASELINES.format(stage=stage))


def _difference(value: float | None, low: float | None, high: float | None, p: float | None) -> list[Cell]:
    return [None if value is None else Number(value, low, high, signed=True), None if p is None else PValue(p)]
