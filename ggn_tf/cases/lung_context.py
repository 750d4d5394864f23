"""Whether there is lung around a nodule, and whether the CT's values are Hounsfield units: the thresholds, once."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ggn_tf.cases.field_of_view import covered_voxels

if TYPE_CHECKING:
    # Clients of a server need the thresholds, but not SimpleITK.
    from ggn_tf.cases.patches import Patch

# Air in lung is near -850 HU. In all of LIDC-IDRI's crops the lowest hundredth of a patch is below -700 HU.
NO_LUNG_HU, LEAST_LUNG = -500.0, 0.01
# Air itself is -1000 HU: noise alone does not lower half of a patch with a nodule below it.
BELOW_AIR_HU, MOST_BELOW_AIR = -1000.0, 0.5


class LungContext(NamedTuple):
    """The values of a patch that its CT covers.

    Attributes:
        lowest_hu: The percentile that the lowest hundredth of the values is below.
    """

    lowest_hu: float
    middle_hu: float

    @property
    def below_air(self) -> bool:
        """Whether the values are lower than those of a patch with a nodule can be."""
        return self.middle_hu <= BELOW_AIR_HU

    @property
    def no_lung(self) -> bool:
        """Whether none of the values is as low as lung."""
        return self.lowest_hu > NO_LUNG_HU


def lung_context_of(patch: "Patch") -> LungContext:
    """Measure the values around a patch's nodule."""
    lowest, middle = np.percentile(patch.hu[covered_voxels(patch)], (100 * LEAST_LUNG, 100 * MOST_BELOW_AIR)).tolist()
    return LungContext(lowest, middle)
