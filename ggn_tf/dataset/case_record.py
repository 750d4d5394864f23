"""The record of a nodule in `dataset.json`."""

from dataclasses import dataclass

from ggn_tf.json_records import added_later
from ggn_tf.protocol import SOLID_HU


@dataclass(frozen=True, slots=True)
class CaseRecord:
    """What a dataset knows about a nodule besides its patch.

    Attributes:
        case_id: Its id in this dataset: a salted hash, unless the table's ids were kept.
        patient_id: The patient's id, likewise; a patient has the same hash in all datasets made with one salt.
        label: The label in the case table.
        columns: The table's further columns, as text.
        spacing_mm_zyx: Spacing of the CT from which the patch was cut.
        direction: Direction cosines of that CT and of the patch, row by row.
        center_mm_lps: The patch's centre.
        volume_mm3: The nodule's volume; this and the following are its `Measurements`, on the CT's own voxels.
        diameter_mm: As there, and so on to the ratio.
        longest_diameter_mm:
        mean_hu:
        solid_fraction:
        perpendicular_diameter_mm:
        mean_diameter_mm:
        diameter_3d_mm:
        mass_mg:
        solid_volume_mm3:
        solid_longest_diameter_mm:
        solid_mean_diameter_mm:
        consolidation_to_tumor_ratio:
        covered_layers: Number of the patch's layers along z that are at least partly inside the CT.
        covered_share: Share of the patch's voxels that are inside the CT.
        mask_faces: The ends of the CT that the mask touches, as in `FieldOfView`; usually none.
        repaired: What was wrong with the CT or the mask and was repaired; usually empty.
        solid_hu: Above it voxels are solid, in these measurements.
        shard: Name of the file with the patch; empty until it is written, as are the following.
        offset: Position of its record in that file, in bytes.
        digest: SHA-256 of the patch's and the mask's bytes.
    """

    case_id: str
    patient_id: str
    label: str
    columns: dict[str, str]
    spacing_mm_zyx: tuple[float, float, float]
    direction: tuple[float, ...]
    center_mm_lps: tuple[float, float, float]
    volume_mm3: float
    diameter_mm: float
    longest_diameter_mm: float
    mean_hu: float
    solid_fraction: float
    perpendicular_diameter_mm: float
    mean_diameter_mm: float
    diameter_3d_mm: float
    mass_mg: float
    solid_volume_mm3: float
    solid_longest_diameter_mm: float
    solid_mean_diameter_mm: float
    consolidation_to_tumor_ratio: float
    covered_layers: int
    covered_share: float
    mask_faces: tuple[str, ...]
    repaired: tuple[str, ...] = added_later(())
    solid_hu: float = added_later(SOLID_HU)
    shard: str = ""
    offset: int = 0
    digest: str = ""
