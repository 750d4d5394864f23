"""Why an answer may be worth little, once: the numbers, codes and texts that command line and served graph share.

The scans of the paper (section 3.1): without contrast agent, slices of 1.25 mm, nodules of at most a centimetre.
"""

from typing import NamedTuple

from ggn_tf.cases.dicom.slices import BELOW_AIR_HU as BELOW_AIR_HU
from ggn_tf.cases.dicom.slices import LEAST_LUNG as LEAST_LUNG
from ggn_tf.cases.dicom.slices import MOST_BELOW_AIR as MOST_BELOW_AIR
from ggn_tf.cases.dicom.slices import NO_LUNG_HU as NO_LUNG_HU

# Twice the distance of the paper's slices: beyond it most of the patch's 1 mm layers are interpolated, not measured.
COARSEST_SPACING_MM = 2.5
# From here on coronary scores count calcium (Agatston et al. 1990): without contrast agent soft tissue stays below.
DENSE_HU = 130.0
# Of the values inside the mask: noise alone does not lift so many of a soft nodule's voxels to DENSE_HU.
MOST_DENSE = 0.05


class WarningKind(NamedTuple):
    """What the output `warning` may say of a patch.

    Attributes:
        code: For a program.
        text: For a person.
        answered: Whether the other outputs are numbers all the same.
    """

    code: str
    text: str
    answered: bool = True

    @property
    def line(self) -> str:
        """As it stands in the output."""
        return f"{self.code}: {self.text}"


NOT_FINITE = WarningKind(
    "not_finite", "hu holds something that is no finite number: there is no answer.", answered=False
)
BAD_GEOMETRY = WarningKind(
    "bad_geometry",
    "spacing_mm is not positive, or center_index lies outside the region: there is no answer.",
    answered=False,
)
PARTLY_OUTSIDE_CT = WarningKind(
    "partly_outside_ct",
    "The CT, or the piece of it that was sent, ends within the patch: what is missing was filled with air.",
)
COARSE_SPACING = WarningKind(
    "coarse_spacing",
    f"Voxels are more than {COARSEST_SPACING_MM:g} mm apart in one direction; the model was trained on finer scans.",
)
NO_LUNG = WarningKind(
    "no_lung",
    f"Hardly a value is below {NO_LUNG_HU:g}, where lung has -850 HU: the centre lies elsewhere, or the values are "
    "not Hounsfield units.",
)
BELOW_AIR = WarningKind(
    "below_air",
    f"Half of the values or more are at most {BELOW_AIR_HU:g}, the value of air: the centre lies elsewhere, or the "
    "values are not Hounsfield units.",
)
DENSE = WarningKind(
    "dense",
    f"More than {MOST_DENSE:.0%} of the nodule is above {DENSE_HU:g} HU: contrast agent, calcium or metal. The model "
    "was trained on soft nodules in scans without contrast agent.",
)
NO_NODULE = WarningKind(
    "no_nodule",
    "The model finds no nodule here, so its classifier saw next to nothing: the probabilities say nothing.",
)
LARGER_THAN_PATCH = WarningKind(
    "larger_than_patch",
    "The nodule reaches the patch's border and may go on beyond it: class, mask and measures are of a part.",
)

OF_PATCHES = (NOT_FINITE, NO_LUNG, BELOW_AIR, DENSE, NO_NODULE, LARGER_THAN_PATCH)
OF_REGIONS = (BAD_GEOMETRY, PARTLY_OUTSIDE_CT, COARSE_SPACING)
