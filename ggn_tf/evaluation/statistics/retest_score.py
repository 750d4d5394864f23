"""How far scores and predictions change where the input is perturbed (test-retest robustness), as data."""

from dataclasses import dataclass
from typing import Literal

from ggn_tf.json_records import added_later

Kind = Literal["none", "centre_offset", "noise", "mirror", "slice_spacing"]

DICE, AUC, CHANGED = "dice", "auc", "changed"
RETEST_METRICS = (DICE, AUC, CHANGED)


@dataclass(frozen=True)
class Perturbation:
    """One change of the input of a network.

    Attributes:
        kind: `none`; `centre_offset`: the patch is around another point; `noise`: Gaussian noise is added to the CT;
            `mirror`: the patch is mirrored; `slice_spacing`: the CT is resampled to thicker slices and back.
        amount: Distance of the centre or of the slices in mm, standard deviation of the noise in HU; 0 for the others.
        axes: The mirrored axes, for example `zx`; empty for the others.
        recentred: Whether the centre was then moved to the centroid of the predicted mask.
    """

    kind: Kind
    amount: float = 0.0
    axes: str = ""
    recentred: bool = False


UNPERTURBED = Perturbation("none")


@dataclass(frozen=True)
class RetestScore:
    """A score under one perturbation.

    Attributes:
        perturbation: The change of the input.
        metric: `dice`, `auc`, or `changed`: the share of nodules whose most probable class is another one than without
            the perturbation.
        value: The score; None where it is undefined.
        low, high: Interval over patients at 95 %; None where there is none.
        reason: Why the value or its interval is None, for a reader.
        difference: `value` minus the unperturbed score; None for `changed`, and of the unperturbed score itself.
        difference_low, difference_high: Paired percentile interval over patients at 95 %; None where there is none,
            also where the difference is the same in every replicate.
    """

    perturbation: Perturbation
    metric: str
    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str | None = None
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None


@dataclass(frozen=True)
class Retest:
    """The test-retest analysis of a run's last stage on its test set.

    Attributes:
        stage: The stage.
        nodules, patients: Size of the test set.
        margin_mm: Width of what the dataset stores around each patch.
        left_out_mm: Distances of the centre that are larger than this margin.
        scores: Every perturbation in its order, the unperturbed input first, with the scores that the stage has.
        folds: Number of folds over which Dice and AUC are averaged; None for the test set of a run.
    """

    stage: str
    nodules: int
    patients: int
    margin_mm: float
    left_out_mm: tuple[float, ...]
    scores: tuple[RetestScore, ...]
    folds: int | None = added_later(None)

    def by_perturbation(self) -> dict[Perturbation, dict[str, RetestScore]]:
        """The scores by perturbation and metric."""
        rows: dict[Perturbation, dict[str, RetestScore]] = {}
        for score in self.scores:
            rows.setdefault(score.perturbation, {})[score.metric] = score
        return rows
