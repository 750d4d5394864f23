"""The two positions of its voxels that a NIfTI file can state: qform and sform.

ITK reads the qform of most files that have both, nibabel and FSL read the sform. Here it is the sform, too; where the
two differ, that is said.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from ggn_tf.cases.geometry.grid import SAME_GRID_MM, Floats
from ggn_tf.cases.nifti import NiftiHeader


@dataclass(frozen=True)
class NiftiForms:
    """The qform and the sform of a file in which they differ, [4, 4] affines from voxel indices to LPS mm.

    Attributes:
        apart_mm: The largest distance of a voxel's positions by the two, at a corner.
    """

    qform: Floats
    sform: Floats
    apart_mm: float

    @classmethod
    def differing(cls, header: NiftiHeader) -> Self | None:
        """The forms of a header; None if it has only one, or the same voxel grid by both."""
        if header.qform_lps is None:
            return None
        last = np.asarray(header.size[:3], dtype=np.float64) - 1
        corners = np.array([[*(last * ends), 1.0] for ends in np.ndindex(2, 2, 2)])
        shifts = corners @ (header.qform_lps - header.affine_lps).T
        apart_mm = float(np.linalg.norm(shifts[:, :3], axis=1).max())
        return None if apart_mm <= SAME_GRID_MM else cls(header.qform_lps, header.affine_lps, apart_mm)

    def __str__(self) -> str:
        """Both, for a note or an error."""
        forms = {"qform": self.qform, "sform": self.sform}
        listed = ", ".join(f"{name} {np.round(form[:3], 3).tolist()}" for name, form in forms.items())
        return f"qform and sform are up to {self.apart_mm:.2f} mm apart: {listed} (LPS)"
