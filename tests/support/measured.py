"""Measurements of records for tests in which they do not matter."""

FURTHER = {
    "perpendicular_diameter_mm": 6.0,
    "mean_diameter_mm": 6.5,
    "diameter_3d_mm": 7.5,
    "mass_mg": 40.0,
    "solid_volume_mm3": 10.0,
    "solid_longest_diameter_mm": 3.0,
    "solid_mean_diameter_mm": 2.5,
    "consolidation_to_tumor_ratio": 0.4,
}
