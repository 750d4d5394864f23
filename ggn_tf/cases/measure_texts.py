"""What the measurements of a nodule are called, and which guideline uses each. None is a category or advice."""

from typing import NamedTuple


class MeasureText(NamedTuple):
    """One measurement as people read it.

    Attributes:
        unit: The unit after a value, may be empty.
        decimals: Of a printed value.
        used_by: Guidelines and studies; empty without one.
        factor: What a value is multiplied by before it is printed.
    """

    title: str
    unit: str = "mm"
    decimals: int = 1
    used_by: str = ""
    factor: float = 1.0

    def printed(self, value: float) -> str:
        """A value with its unit."""
        return f"{value * self.factor:.{self.decimals}f} {self.unit}".rstrip()


MEASURE_TEXTS = {
    "longest_diameter_mm": MeasureText("Long axis in an axial slice", used_by="TNM, RECIST 1.1"),
    "perpendicular_diameter_mm": MeasureText(
        "Longest perpendicular in that slice", used_by="Fleischner Society 2017, Lung-RADS"
    ),
    "mean_diameter_mm": MeasureText("Mean diameter, of both", used_by="Fleischner Society 2017, Lung-RADS"),
    "diameter_3d_mm": MeasureText("Longest diameter in space"),
    "volume_mm3": MeasureText("Volume", "mm³", 0, "Fleischner Society 2017, BTS, Lung-RADS 2022"),
    "diameter_mm": MeasureText("Diameter of the ball of that volume"),
    "mass_mg": MeasureText("Mass", "mg", 0, "growth of ground-glass nodules (de Hoop et al. 2010)"),
    "mean_hu": MeasureText("Mean density", "HU", 0),
    "solid_fraction": MeasureText("Solid fraction", "%", 0, factor=100.0),
    "solid_volume_mm3": MeasureText("Volume of the solid part", "mm³", 0, "Lung-RADS"),
    "solid_longest_diameter_mm": MeasureText(
        "Long axis of the solid part", used_by="TNM (T of part-solid adenocarcinoma)"
    ),
    "solid_mean_diameter_mm": MeasureText(
        "Mean diameter of the solid part", used_by="Fleischner Society 2017, Lung-RADS"
    ),
    "consolidation_to_tumor_ratio": MeasureText("Consolidation-to-tumour ratio", "", 2, "JCOG 0201"),
    "solid_hu": MeasureText("Threshold above which voxels are solid", "HU", 0),
}
"""By the field of `Measurements`, in the order of reading."""
