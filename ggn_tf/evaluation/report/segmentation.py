"""The Dice of every nodule, and what joint training changed (paper Fig. 6)."""

from functools import partial

import numpy as np

from ggn_tf.evaluation.changes import JointChange, paired_stages
from ggn_tf.evaluation.evidence import Evidence
from ggn_tf.evaluation.figures.dice import draw_change, draw_dice
from ggn_tf.evaluation.report.blocks import Drawing, Prose, Section, Table


def segmentation_section(evidence: Evidence) -> Section | None:
    """The Dice of every nodule, a row a system, and its change against that of the class score.

    None where no system gives masks. Of several repeats a nodule's Dice is the mean.
    """
    systems = _dice_of_systems(evidence)
    if not systems:
        return None
    drawing = Drawing(
        f"{evidence.prefix}dice",
        "Dice of every nodule: points; box, the quartiles and the median; whiskers, 5% to 95%. " + evidence.caption,
        partial(draw_dice, systems, f"Dice, {evidence.set_name} set{evidence.mark}"),
    )
    change = paired_stages(evidence.rows)
    blocks = (
        _joint_blocks(change, evidence)
        if change is not None and bool(change.changes["dice_change"].notna().all())
        else []
    )
    return Section(f"{evidence.prefix}segmentation", "Segmentation and joint training", [drawing, *blocks])


def _dice_of_systems(evidence: Evidence) -> dict[str, np.ndarray]:
    """The Dice [N] of every system; stages that share a segmenter stand together."""
    alike: dict[tuple[float, ...], list[str]] = {}
    for name, rows in evidence.segmented.items():
        alike.setdefault(tuple(rows.groupby("case")["dice"].mean()), []).append(name)
    return {",\n".join(names): np.array(dice) for dice, names in alike.items()}


def _joint_blocks(change: JointChange, evidence: Evidence) -> list[Drawing | Prose | Table]:
    pairs = change.changes
    classes = evidence.classes
    label = pairs["label"].map({name: index for index, name in enumerate(classes)}).to_numpy()
    dice, score = (pairs[f"{name}_change"].to_numpy(dtype=np.float64) for name in ("dice", "score"))
    correlation = "undefined" if change.correlation is None else f"{change.correlation:.2f}"
    repeated = " A mark a nodule and repeat." if evidence.repeats > 1 else ""
    drawing = Drawing(
        f"{evidence.prefix}joint-change",
        "What joint training changed: Dice across, probability of the true class upwards; above the middle line the "
        f"classifier became surer of the truth. Spearman's correlation {correlation}.{repeated} {evidence.caption}",
        partial(
            draw_change, dice, score, label, classes, f"Joint minus frozen, {evidence.set_name} set{evidence.mark}"
        ),
    )
    counts = change.quadrants
    rows = [
        [f"Dice {name}", *(str(count) for count in counts.loc[name])] for name in counts.index if counts.loc[name].any()
    ]
    what = "nodules and repeats" if evidence.repeats > 1 else "nodules"
    heading = ["", *(f"class score {name}" for name in counts.columns)]
    table = Table(heading, rows, f"Joint against frozen cascade, {what} (n = {len(pairs)})")
    means = (
        f"On average joint training changed the true class's probability by {score.mean():+.3f} and the Dice by "
        f"{dice.mean():+.3f}. The paper reports a rise of the class score for all of its examples (section 3.4, "
        "Fig. 6); the table counts all nodules."
    )
    return [drawing, Prose(means), table]
