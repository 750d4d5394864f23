"""Multi-frame CT, and the diagnosis of DICOM files without a readable image, by pydicom."""

import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
import SimpleITK as sitk  # noqa: N813
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.filereader import read_file_meta_info
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, SecondaryCaptureImageStorage

from ggn_tf.cases.dicom.bounds import read_texts
from ggn_tf.cases.dicom.slices import Damaged, Slice, make_slice

_CT_CLASSES = ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")
# What the decoding of pixels depends on.
_IMAGE_PIXEL = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
)
# Longer values stay in the file until they are used.
_DEFERRED_BYTES = 1 << 16
_DIRECTORY = "1.2.840.10008.1.3.10"
_CLASS, _MODALITY, _SERIES = 0x00080016, 0x00080060, 0x0020000E


def look_into(path: Path, found: str | None = None) -> list[Slice] | Damaged:
    """Find out what a DICOM file is that could not be read as an image.

    Returns:
        An empty list for a document (a report, a presentation state, a directory) or another modality; else `Damaged`.
    """
    size = f"{path.stat().st_size} bytes with a DICOM preamble"
    try:
        meta = read_file_meta_info(path)
        if found and meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
            # All of it would be inflated.
            return Damaged(path, None, f"{size}, but {found}")
        texts = read_texts(path, (_CLASS, _MODALITY, _SERIES))
        syntax = UID(meta.get("TransferSyntaxUID", ""))
        kind = texts.get(_CLASS, str(meta.get("MediaStorageSOPClassUID", "")))
        modality, series = texts.get(_MODALITY, ""), texts.get(_SERIES) or None
    except Exception as error:
        # pydicom raises some ten unrelated types on a file that is cut or altered.
        return Damaged(path, None, f"{size}, but no header: {found or error or type(error).__name__}")
    if kind == _DIRECTORY or (kind and kind not in _CT_CLASSES) or (modality and modality != "CT"):
        return []
    undecoded = f"no image that can be decoded (transfer syntax {syntax.name or 'unknown'})"
    return Damaged(path, series, f"{size}, but {found or undecoded}")


def name_classes(paths: Sequence[Path]) -> str:
    """The SOP classes of the DICOM files among some files, as the end of a sentence."""
    classes = Counter[str]()
    for path in paths:
        with suppress(Exception):
            # As above; files that are not DICOM have none.
            kind = UID(str(pydicom.dcmread(path, specific_tags=["SOPClassUID"], stop_before_pixels=True).SOPClassUID))
            classes[f"the private SOP class {kind}" if kind.is_private else kind.name] += 1
    listed = ", ".join(f"{count} of {kind}" for kind, count in classes.most_common(3))
    return f" ({listed})" if listed else ""


def name_unreadable(paths: Sequence[Path]) -> str:
    """The first slice that cannot be decoded, and its transfer syntax: GDCM reports neither."""
    for path in paths:
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True)
            syntax = UID(header.file_meta.get("TransferSyntaxUID", "")).name or "unknown"
            sitk.ReadImage(str(path), imageIO="GDCMImageIO")
        except RuntimeError:
            return f"{path.name} cannot be decoded (transfer syntax {syntax})"
        except Exception as error:
            # As in `look_into`.
            return f"{path.name}: {error or type(error).__name__}"
    return f"slices that do not fit together, from {paths[0].name} to {paths[-1].name}"


def frame_slices(path: Path) -> list[Slice] | Damaged:
    """The frames of a multi-frame image as slices, in the order of the file.

    Args:
        path: A DICOM file with several frames; for other modalities than CT, only the first frame is returned.
    """
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True)
        if header.get("Modality") != "CT" or "PerFrameFunctionalGroupsSequence" not in header:
            return [_frame(path, header, Dataset(), Dataset(), None)]
        shared = (header.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
        frames = header.PerFrameFunctionalGroupsSequence
        count = header.get("NumberOfFrames")
        if count is None or len(frames) != int(count):
            stated = "no NumberOfFrames" if count is None else f"{count} frames"
            found = f"{stated}, and {len(frames)} descriptions of frames"
            return Damaged(path, str(header.get("SeriesInstanceUID", "")) or None, found)
        return [_frame(path, header, shared, groups, number) for number, groups in enumerate(frames)]
    except Exception as error:
        # As above.
        return Damaged(path, None, f"a multi-frame image with a broken header: {error or type(error).__name__}")


def read_frames(slices: Sequence[Slice]) -> npt.NDArray[np.float32]:
    """The frames' voxels in Hounsfield units.

    Args:
        slices: Frames of multi-frame files, or files with one frame.

    Returns:
        [frame, y, x] float32.

    Raises:
        RuntimeError: A frame cannot be decoded.
    """
    layers = []
    for item in slices:
        slope, intercept = item.rescale or (1.0, 0.0)
        try:
            stored = _stored_values(item)
        except Exception as error:
            # The decoders raise any type of their libraries.
            raise RuntimeError(f"{item.name}: {error}") from error
        layers.append((stored.astype(np.float64) * slope + intercept).astype(np.float32))
    return np.stack(layers)


def _stored_values(item: Slice) -> npt.NDArray[Any]:
    """A frame's stored pixels [y, x], decoded by pydicom, or by GDCM where pydicom has no decoder."""
    stored: npt.NDArray[Any]
    with pydicom.dcmread(item.path, defer_size=_DEFERRED_BYTES) as dataset:
        syntax = dataset.file_meta.TransferSyntaxUID
        if not syntax.is_compressed or get_decoder(syntax).is_available:
            stored = pixel_array(item.path, index=item.frame)
            return stored
        count = int(dataset.get("NumberOfFrames") or 1)
        stream = get_frame(dataset.PixelData, item.frame or 0, number_of_frames=count)
        with tempfile.NamedTemporaryFile(suffix=".dcm") as file:
            _single_image(dataset, stream).save_as(file.name)
            stored = sitk.GetArrayFromImage(sitk.ReadImage(file.name, imageIO="GDCMImageIO"))[0]
            return stored


def _single_image(dataset: Dataset, stream: bytes) -> Dataset:
    """A frame as a separate image, without slope and intercept, which may differ per frame."""
    single = Dataset()
    single.file_meta = FileMetaDataset()
    single.file_meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    single.SOPClassUID = single.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    single.SOPInstanceUID = single.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    for name in _IMAGE_PIXEL:
        single[name] = dataset[name]
    # GDCM would invert the values of MONOCHROME1.
    single.PhotometricInterpretation = "MONOCHROME2"
    single.PixelData = encapsulate([stream])
    single["PixelData"].is_undefined_length = True
    return single


def _frame(path: Path, header: Dataset, shared: Dataset, groups: Dataset, number: int | None) -> Slice:
    def item(sequence: str) -> Dataset:
        found = groups.get(sequence) or shared.get(sequence)
        return found[0] if found else Dataset()

    values = item("PixelValueTransformationSequence")
    slope, intercept = values.get("RescaleSlope"), values.get("RescaleIntercept")
    padding = header.get("PixelPaddingValue")
    limit = header.get("PixelPaddingRangeLimit", padding)
    frame_kinds = item("CTImageFrameTypeSequence").get("FrameType", ())
    kinds = (*header.get("ImageType", ()), *frame_kinds)
    return make_slice(
        path,
        position=_floats(item("PlanePositionSequence").get("ImagePositionPatient"), 3),
        orientation=_floats(item("PlaneOrientationSequence").get("ImageOrientationPatient"), 6),
        pixel_spacing=_floats(item("PixelMeasuresSequence").get("PixelSpacing"), 2),
        size_xy=(int(header.Columns), int(header.Rows)),
        series=str(header.get("SeriesInstanceUID", "")),
        description=str(header.get("SeriesDescription", "")),
        uid=str(header.get("SOPInstanceUID", "")),
        modality=str(header.get("Modality", "")) or "unknown",
        localizer="LOCALIZER" in kinds,
        rescale=None if slope is None or intercept is None else (float(slope), float(intercept)),
        padding=None if padding is None else (float(padding), float(limit)),
        frame=number,
        contrast=_contrast(header),
        inverted=header.get("PhotometricInterpretation") == "MONOCHROME1",
        acquisition={
            "AcquisitionNumber": str(item("FrameContentSequence").get("FrameAcquisitionNumber") or ""),
            "TemporalPositionIdentifier": str(item("FrameContentSequence").get("TemporalPositionIndex") or ""),
            "ImageType": "\\".join(frame_kinds),
            "ConvolutionKernel": str(item("CTReconstructionSequence").get("ConvolutionKernel") or ""),
        },
        patient=str(header.get("PatientID") or ""),
        rescale_type=str(values.get("RescaleType") or ""),
        bits=None if "HighBit" not in header else (float(header.BitsStored), float(header.HighBit)),
    )


def _contrast(header: Dataset) -> str:
    agents = header.get("ContrastBolusAgentSequence") or [Dataset()]
    return str(header.get("ContrastBolusAgent") or agents[0].get("CodeMeaning", ""))


def _floats(values: Any, count: int) -> tuple[float, ...] | None:
    if values is None or len(values) != count:
        return None
    numbers = tuple(float(value) for value in values)
    return numbers if np.isfinite(numbers).all() else None
