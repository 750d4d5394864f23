"""What lies around a nodule: lung, where the CT's values are Hounsfield units."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ggn_tf.cases.dicom.slices import BELOW_AIR_HU, LEAST_LUNG, MOST_BELOW_AIR, NO_LUNG_HU
from ggn_tf.cases.patches import Patch


class LungContext(NamedTuple):
    """The values of a patch that its CT covers.

    Attributes:
        lowest_hu: What only the lowest hundredth is below.
        middle_hu: What half of them are below.
    """

    lowest_hu: float
    middle_hu: float

    @property
    def below_air(self) -> bool:
        """Whether they are lower than a patch with a nodule can be."""
        return self.middle_hu <= BELOW_AIR_HU

    @property
    def no_lung(self) -> bool:
        """Whether none of them is as low as lung."""
        return self.lowest_hu > NO_LUNG_HU


def lung_context_of(patch: Patch) -> LungContext:
    """Look at a patch's values."""
    lowest, middle = np.percentile(patch.hu[covered_voxels(patch)], (100 * LEAST_LUNG, 100 * MOST_BELOW_AIR)).tolist()
    return LungContext(lowest, middle)


def covered_voxels(patch: Patch) -> npt.NDArray[np.bool_]:
    """[z, y, x]: the patch's voxels that lie in one of the CT's."""
    z, y, x = np.indices(patch.hu.shape)
    index = patch.ct_grid.index_of(patch.grid.point_of(np.stack([x, y, z], axis=-1)))
    covered: npt.NDArray[np.bool_] = np.all((index >= -0.5) & (index < np.array(patch.ct_grid.size_xyz) - 0.5), axis=-1)
    return covered
