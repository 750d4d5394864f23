"""Tables of the scores beside the paper's: operating points, single classes, and the surfaces of masks."""

from collections.abc import Iterable, Mapping, Sequence

from ggn_tf.evaluation.report.page import Block, Cell, Number, Prose, Section, Table
from ggn_tf.evaluation.report.report_data import ReportData
from ggn_tf.evaluation.statistics.further_scores import BY_CLASS, OPERATING
from ggn_tf.evaluation.statistics.paper_systems import title_of
from ggn_tf.evaluation.statistics.score_records import RepeatedScore
from ggn_tf.evaluation.statistics.system_predictions import System

_OPERATING = dict(zip(OPERATING, ("sensitivity", "specificity", "PPV", "NPV"), strict=True))
_BY_CLASS = dict(zip(BY_CLASS, ("precision", "recall", "F1"), strict=True))
_WHOLE = {"balanced_accuracy": "balanced accuracy", "average_precision": "AUPRC"}
_MASKS = {
    "low_dice": "Dice below 0.5",
    "empty_mask": "empty masks",
    "hd95_mm": "HD95, mm",
    "surface_distance_mm": "mean surface distance, mm",
    "surface_dice_1mm": "surface Dice at 1 mm",
    "volume_bias_mm3": "volume: mean difference, mm³",
    "volume_low_mm3": "lower limit of agreement, mm³",
    "volume_high_mm3": "upper limit of agreement, mm³",
}
MOST_PROBABLE = "most probable class"


def further_section(data: ReportData) -> Section | None:
    """All tables of one set; None without scores."""
    tables = further_tables(data.further_of_set, data.caption, data.sensitivity)
    if not tables:
        return None
    explained = (
        "Shares are of nodules. Surfaces are voxels of the patch's grid. Dice on the CT's own grid is not computed: a "
        "dataset does not contain masks on that grid. Distances are means over the nodules with a predicted mask. "
        "Volumes are predicted minus reference, with limits of agreement (Bland and Altman). "
        f"In brackets {data.interval}."
    )
    blocks: list[Block] = [*tables, Prose(explained)]
    return Section(f"{data.prefix}further", "Operating points, classes and masks", blocks)


def further_tables(scores: Sequence[RepeatedScore], caption: str, sensitivity: float | None) -> list[Table]:
    """The tables that have a row, of the scores of one set."""
    tables = [operating_table(scores, caption, sensitivity)]
    tables.append(
        _table("Single classes", _by_system_and(scores, "class_name", _BY_CLASS), "class", _BY_CLASS, caption)
    )
    for title, names in (("All classes", _WHOLE), ("Masks", _MASKS)):
        tables.append(_table(title, _by_system_and(scores, "", names), "", names, caption))
    return [table for table in tables if table.rows]


def operating_table(scores: Sequence[RepeatedScore], caption: str, sensitivity: float | None) -> Table:
    """Sensitivity, specificity, PPV and NPV for the most probable class, and at the operating point."""
    chosen = [score for score in scores if score.metric in _OPERATING]
    title = f"Second class, {chosen[0].class_name}" if chosen else ""
    if sensitivity is not None and chosen:
        found = any(score.threshold is not None for score in chosen)
        title += (
            f"; thresholds for a sensitivity of at least {sensitivity:g} on the validation set"
            if found
            else f"; no threshold for a sensitivity of {sensitivity:g}: the validation set has too few patients"
        )
    return _table(title, _by_system_and(chosen, "threshold", _OPERATING), "decision", _OPERATING, caption)


Rows = Mapping[tuple[str, str], Mapping[str, RepeatedScore]]


def _by_system_and(scores: Iterable[RepeatedScore], attribute: str, names: Mapping[str, str]) -> Rows:
    rows: dict[tuple[str, str], dict[str, RepeatedScore]] = {}
    known = [score for score in scores if score.metric in names]
    one_model = len({score.model for score in known}) == 1
    for score in known:
        system = score.stage if one_model else title_of(System(score.model, score.stage))
        rows.setdefault((system, _key(score, attribute)), {})[score.metric] = score
    return rows


def _key(score: RepeatedScore, attribute: str) -> str:
    if attribute == "threshold":
        return MOST_PROBABLE if score.threshold is None else f"probability ≥ {score.threshold:.3f}"
    return score.class_name if attribute else ""


def _table(title: str, rows: Rows, second: str, names: Mapping[str, str], caption: str) -> Table:
    shown = [name for name in names if any(name in scores for scores in rows.values())]
    cells: list[list[Cell]] = [
        [system, *([key] if second else []), *(_cell(scores.get(name)) for name in shown)]
        for (system, key), scores in rows.items()
    ]
    heading = ["system", *([second] if second else []), *(names[name] for name in shown)]
    return Table(heading, cells, f"{title}. {caption}")


def _cell(score: RepeatedScore | None) -> Number | None:
    if score is None:
        return None
    decimals = 0 if score.metric.endswith("mm3") else 2 if score.metric.endswith("_mm") else 3
    return Number(score.value, *interval_of(score), score.deviation, decimals)


def interval_of(score: RepeatedScore) -> tuple[float | None, float | None]:
    """The interval over patients and trainings, if the trainings were repeated, else over patients."""
    return (score.low, score.high) if score.low_retrained is None else (score.low_retrained, score.high_retrained)
