"""What the report, the model card and the terminal show of a cross-validation beside the means over its folds."""

from collections.abc import Mapping

from ggn_tf.evaluation.report.cells import Cell, Number, PValue, Table
from ggn_tf.evaluation.statistics.fold_score import FoldScores

_POOLED = (
    "Pooled AUC: the nodules of all folds together. The probabilities of different models are not on one scale, so it "
    "differs from the mean over the folds, and is often lower"
)
_BASELINES = (
    "Baselines, each fitted on one measure of the reference mask in the training sets of the same folds: mean AUC over "
    "the folds. The difference is stage {stage} minus the baseline, paired; interval and p are over patients, and not "
    "corrected for the number of baselines"
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
            None
            if score.difference is None
            else Number(score.difference, score.difference_low, score.difference_high, signed=True),
            None if score.p is None else PValue(score.p),
        ]
        for score in crossval.baselines
    ]
    stage = crossval.baselines[0].stage if crossval.baselines else ""
    return Table(["baseline", "AUC", f"{stage} - baseline", "p"], rows, _BASELINES.format(stage=stage))
