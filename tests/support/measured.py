"""Records of nodules for tests in which most of their fields do not matter."""

from typing import Any

from ggn_tf.dataset.case_record import CaseRecord


def case_record(**changes: Any) -> CaseRecord:
    """A nodule whose patch is inside its CT."""
    record: dict[str, Any] = {
        "case_id": "c",
        "patient_id": "p",
        "label": "MIA",
        "columns": {},
        "spacing_mm_zyx": (1.25, 0.7, 0.7),
        "direction": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
        "center_mm_lps": (0.0, 0.0, 0.0),
        "volume_mm3": 100.0,
        "diameter_mm": 5.8,
        "longest_diameter_mm": 7.0,
        "mean_hu": -600.0,
        "solid_fraction": 0.1,
        "perpendicular_diameter_mm": 6.0,
        "mean_diameter_mm": 6.5,
        "diameter_3d_mm": 7.5,
        "mass_mg": 40.0,
        "solid_volume_mm3": 10.0,
        "solid_longest_diameter_mm": 3.0,
        "solid_mean_diameter_mm": 2.5,
        "consolidation_to_tumor_ratio": 0.4,
        "covered_layers": 32,
        "covered_share": 1.0,
        "mask_faces": (),
    }
    return CaseRecord(**(record | changes))
