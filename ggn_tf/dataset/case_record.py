"""What a dataset knows about a nodule besides its patch."""

from dataclasses import dataclass

from ggn_tf.json_records import added_later


@dataclass(frozen=True, slots=True)
class CaseRecord:
    """What a dataset knows about a nodule besides its patch.

    Attributes:
        case_id: Its id in this dataset: a salted hash, unless the table's own ids were kept.
        patient_id: Likewise; the same patient has the same hash in every dataset made with one salt.
        label: As in the case table.
        columns: The table's further columns, as text.
        spacing_mm_zyx: Of the CT that the patch was cut from.
        direction: Direction cosines of that CT and of the patch, row by row.
        center_mm_lps: The patch's centre.
        volume_mm3: The nodule's volume on the CT's own voxels, as the following.
        diameter_mm: Diameter of the ball of that volume.
        longest_diameter_mm: Longest distance within one slice.
        mean_hu: Mean inside the mask.
        solid_fraction: Share of the mask above -300 HU.
        repaired: What was wrong with the CT or the mask and was put right; mostly nothing.
        shard: The file that holds the patch.
        offset: Where its record starts there, in bytes.
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
    repaired: tuple[str, ...] = added_later(())
    shard: str = ""
    offset: int = 0
    digest: str = ""
