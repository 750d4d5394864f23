"""The header of a CT slice."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

# In SimpleITK's form: what differs between two passes over a patient, or two reconstructions of one.
ACQUISITION = {
    "AcquisitionNumber": "0020|0012",
    "AcquisitionDate": "0008|0022",
    "AcquisitionTime": "0008|0032",
    "AcquisitionDateTime": "0008|002a",
    "TemporalPositionIdentifier": "0020|0100",
    "ConvolutionKernel": "0018|1210",
    "KVP": "0018|0060",
    "SliceThickness": "0018|0050",
    "FrameOfReferenceUID": "0020|0052",
    "SeriesNumber": "0020|0011",
    "ImageType": "0008|0008",
    "FilterType": "0018|1160",
}
# Of the same kind, but read together with whether an agent was given; not given and not stated are the same.
_AGENT, _NO_AGENT = "ContrastBolusAgent", "none"
# The scale of CT is 12 bits wide, starts at AIR_HU and ends here.
HIGHEST_HU = 3071.0
_NO_CONTRAST = ("", "NONE", "NO", "N", "WITHOUT", "NO CONTRAST", "NATIVE")
# The tolerance for a scanner's rounding of unit lengths and right angles.
_AXES_TOLERANCE = 1e-3


class StoredPixels(NamedTuple):
    """Pixels of 16 bits, little-endian and not compressed.

    Attributes:
        start: Their position in the file, in bytes.
        bits: The lowest bits of each that are its value.
        signed: Whether the value has a sign.
    """

    start: int
    bits: int
    signed: bool


@dataclass(frozen=True)
class Slice:
    """The header of a slice, or of a frame of a multi-frame image.

    Attributes:
        path: Its file.
        series: SeriesInstanceUID.
        description: SeriesDescription.
        uid: SOPInstanceUID.
        modality: For example `CT`.
        localizer: Whether it is a scout image.
        positioned: Whether it has a position and orientation; if not, origin and direction are meaningless.
        size_xyz: Number of voxels; one along z.
        spacing_mm_xyz: Distance of its pixels, 0 where unknown; z is not used.
        origin_mm_lps: Centre of its first pixel.
        direction: As `Grid.direction`; the third column is the normal.
        rescale: Slope and intercept to Hounsfield units; None where unknown.
        padding_hu: The range of values above the scale of CT that mark missing measurements, or None.
        frame: Its number in a multi-frame file, from 0; None for a file that is one slice.
        contrast_agent: Whether its header names one.
        inverted: Whether low values are shown bright (MONOCHROME1), which does not change their meaning.
        acquisition: What distinguishes acquisitions and reconstructions, as (attribute, value).
        patient: PatientID.
        rescale_type: The unit of rescaled values, in capitals; empty where it is not stated.
        lowest_bits: Whether stored values are in the lowest bits of their words, where readers expect them.
        pixels: Where its pixels are; None where only a decoder can read them.
    """

    path: Path
    series: str
    description: str
    uid: str
    modality: str
    localizer: bool
    positioned: bool
    size_xyz: tuple[int, ...]
    spacing_mm_xyz: tuple[float, ...]
    origin_mm_lps: tuple[float, ...]
    direction: tuple[float, ...]
    rescale: tuple[float, float] | None
    padding_hu: tuple[float, float] | None = None
    frame: int | None = None
    contrast_agent: bool = False
    inverted: bool = False
    acquisition: tuple[tuple[str, str], ...] = ()
    patient: str = ""
    rescale_type: str = ""
    lowest_bits: bool = True
    pixels: StoredPixels | None = None

    @property
    def name(self) -> str:
        """The slice's name in errors."""
        return self.path.name if self.frame is None else f"{self.path.name} frame {self.frame + 1}"


@dataclass(frozen=True)
class Damaged:
    """A DICOM file that cannot be read; `series` is None if it is unknown, too."""

    path: Path
    series: str | None
    found: str


def make_slice(
    path: Path,
    *,
    position: Sequence[float] | None,
    orientation: Sequence[float] | None,
    pixel_spacing: Sequence[float] | None,
    size_xy: Sequence[int],
    series: str,
    description: str,
    uid: str,
    modality: str,
    localizer: bool,
    rescale: tuple[float, float] | None,
    padding: tuple[float, float] | None,
    frame: int | None = None,
    contrast: str = "",
    inverted: bool = False,
    acquisition: Mapping[str, str] | None = None,
    patient: str = "",
    rescale_type: str = "",
    bits: tuple[float, float] | None = None,
) -> Slice:
    """A slice from the values of its tags; missing or invalid values count as unknown.

    Args:
        path: Its file.
        position: ImagePositionPatient.
        orientation: ImageOrientationPatient: the direction of its rows, then of its columns.
        pixel_spacing: The distance of rows, then of columns, in mm.
        size_xy: Number of columns and rows.
        series: As in `Slice`.
        description: As in `Slice`.
        uid: As in `Slice`.
        modality: As in `Slice`.
        localizer: As in `Slice`.
        rescale: Slope and intercept.
        padding: PixelPaddingValue and PixelPaddingRangeLimit, stored values. Values that tissue has, too, are ignored:
            some exporters write 0 where 0 is water.
        frame: As in `Slice`.
        contrast: ContrastBolusAgent, which some scanners fill in although there was none.
        inverted: As in `Slice`.
        acquisition: Values of `ACQUISITION`, by attribute; empty ones count as absent.
        patient: As in `Slice`.
        rescale_type: As in `Slice`, in any spelling.
        bits: BitsStored and HighBit.
    """
    agent = contrast.strip()
    given = agent.upper() not in _NO_CONTRAST
    axes = None if orientation is None else _axes(orientation)
    usable = rescale if rescale and np.isfinite(rescale).all() and rescale[0] != 0 else None
    spacing = (pixel_spacing[1], pixel_spacing[0]) if pixel_spacing and min(pixel_spacing) > 0 else (0.0, 0.0)
    return Slice(
        path=path,
        series=series,
        description=description,
        uid=uid,
        modality=modality,
        localizer=localizer,
        positioned=position is not None and axes is not None,
        size_xyz=(*size_xy, 1),
        spacing_mm_xyz=(*spacing, 1.0),
        origin_mm_lps=(0.0, 0.0, 0.0) if position is None else tuple(position),
        direction=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0) if axes is None else axes,
        rescale=usable,
        padding_hu=_high_padding(padding, usable),
        frame=frame,
        contrast_agent=given,
        inverted=inverted,
        acquisition=(
            *((name, value) for name, value in (acquisition or {}).items() if value),
            (_AGENT, agent if given else _NO_AGENT),
        ),
        patient=patient,
        rescale_type=rescale_type.strip().upper(),
        lowest_bits=bits is None or bits[1] == bits[0] - 1,
    )


def _axes(orientation: Sequence[float]) -> tuple[float, ...] | None:
    """The direction of the three axes; None where rows and columns are not at right angles."""
    x0, x1, x2, y0, y1, y2 = orientation
    lengths = (x0 * x0 + x1 * x1 + x2 * x2, y0 * y0 + y1 * y1 + y2 * y2, x0 * y0 + x1 * y1 + x2 * y2)
    if abs(lengths[0] - 1) + abs(lengths[1] - 1) + abs(lengths[2]) > _AXES_TOLERANCE:
        return None
    z0, z1, z2 = x1 * y2 - x2 * y1, x2 * y0 - x0 * y2, x0 * y1 - x1 * y0
    return x0, y0, z0, x1, y1, z1, x2, y2, z2


def _high_padding(
    padding: tuple[float, float] | None, rescale: tuple[float, float] | None
) -> tuple[float, float] | None:
    if padding is None or rescale is None:
        return None
    low, high = sorted(value * rescale[0] + rescale[1] for value in padding)
    return (low, high) if low > HIGHEST_HU else None
