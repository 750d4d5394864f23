"""The warnings about predictions: thresholds, codes and texts that command line and served graph share.

The model was trained on scans without contrast agent, slices of 1.25 mm, nodules up to 10 mm (paper section 3.1).
"""

from typing import NamedTuple

from ggn_tf.cases.lung_context import BELOW_AIR_HU, NO_LUNG_HU
from ggn_tf.cases.recentring import WARNING_MM

# Twice the distance of the paper's slices: beyond it most of the patch's 1 mm layers are interpolated, not measured.
COARSEST_SPACING_MM = 2.5
# Coronary scores count calcium from here (Agatston et al. 1990): without contrast agent soft tissue stays below.
DENSE_HU = 130.0
# Fraction of the mask's voxels: noise alone does not lift so many voxels of a soft nodule to DENSE_HU.
MOST_DENSE = 0.05


class WarningKind(NamedTuple):
    """One kind of warning about a prediction; where it is not `predicted` all the same, its numbers are NaN."""

    code: str
    text: str
    predicted: bool = True

    @property
    def line(self) -> str:
        """The warning as a line of the output `warning`."""
        return f"{self.code}: {self.text}"


NOT_FINITE = WarningKind(
    "not_finite", "hu contains values that are NaN or infinite: there is no prediction.", predicted=False
)
BAD_GEOMETRY = WarningKind(
    "bad_geometry",
    "spacing_mm is not positive, or center_index is outside the region: there is no prediction.",
    predicted=False,
)
PARTLY_OUTSIDE_CT = WarningKind(
    "partly_outside_ct",
    "The CT, or the region of it that was sent, ends within the patch: the missing part was filled with air.",
)
COARSE_SPACING = WarningKind(
    "coarse_spacing",
    f"Voxels are more than {COARSEST_SPACING_MM:g} mm apart in one direction; the model was trained on finer scans.",
)
NO_LUNG = WarningKind(
    "no_lung",
    f"Hardly any value is below {NO_LUNG_HU:g}, although lung has about -850 HU: the centre is not in the lung, or "
    "the values are not Hounsfield units.",
)
BELOW_AIR = WarningKind(
    "below_air",
    f"At least half of the values are at most {BELOW_AIR_HU:g}, the value of air: the centre is outside the body, or "
    "the values are not Hounsfield units.",
)
DENSE = WarningKind(
    "dense",
    f"More than {MOST_DENSE:.0%} of the nodule is above {DENSE_HU:g} HU: contrast agent, calcium or metal. The model "
    "was trained on soft nodules in scans without contrast agent.",
)
NO_NODULE = WarningKind(
    "no_nodule",
    "The model finds no nodule here, and its classes are those of nodules: the probabilities mean nothing.",
)
LARGER_THAN_PATCH = WarningKind(
    "larger_than_patch",
    "The nodule reaches the patch's border and may extend beyond it: class, mask and measurements are of a part.",
)
MOVED_FAR = WarningKind(
    "moved_far",
    f"Recentring moved the centre by more than {WARNING_MM:g} mm: it may have reached another nodule than the one that "
    "was meant.",
)

UNDECIDED = WarningKind("undecided", "The prediction set contains all classes: none of them can be excluded.")
# Of nodules like the held-out ones one in a hundred; with several models, whose p values are averaged, up to two.
ATYPICAL_BELOW = 0.01
ATYPICAL = WarningKind(
    "atypical",
    "Hardly any nodules of the validation and the test set are as far from those on which the model was trained: it "
    "may not know such nodules.",
)

PATCH_WARNINGS = (NOT_FINITE, NO_LUNG, BELOW_AIR, DENSE, NO_NODULE, LARGER_THAN_PATCH)
REGION_WARNINGS = (BAD_GEOMETRY, PARTLY_OUTSIDE_CT, COARSE_SPACING)
