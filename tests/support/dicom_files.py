"""DICOM files as scanners, PACS and exporters leave them, made from the slices that `write_series` writes."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import SimpleITK as sitk  # noqa: N813
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.sequence import Sequence as Items
from pydicom.sr.codedict import codes
from pydicom.uid import JPEGLSLossless, RLELossless

from ggn_tf.cases.dicom.series_writer import uid

ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"


def edit(folder: Path, change: Callable[[int, Dataset], Any]) -> None:
    """Change every slice of a folder; `change` gets its number from 0 and its data set."""
    for number, path in enumerate(sorted(folder.iterdir())):
        dataset = pydicom.dcmread(path)
        change(number, dataset)
        dataset.save_as(path)


def store(dataset: Dataset, stored: np.ndarray) -> None:
    """Give a slice other stored values, of 16 bits."""
    signed = stored.dtype.kind == "i"
    dataset.PixelRepresentation = int(signed)
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelData = stored.astype("<i2" if signed else "<u2").tobytes()


def compress(path: Path, syntax: str) -> None:
    """Store a slice in one of the compressed transfer syntaxes; all of them without loss."""
    if syntax in ("JPEG", "JPEG2000"):
        image = sitk.ReadImage(str(path))
        stored = sitk.Cast(image, sitk.sitkInt16)
        for key in image.GetMetaDataKeys():
            if not key.startswith("ITK"):
                stored.SetMetaData(key, image.GetMetaData(key))
        writer = sitk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.UseCompressionOn()
        writer.SetCompressor(syntax)
        writer.SetFileName(str(path))
        writer.Execute(stored)
        return
    dataset = pydicom.dcmread(path)
    dataset.compress({"RLE": RLELossless, "JPEGLS": JPEGLSLossless}[syntax])
    dataset.save_as(path)


def write_enhanced(folder: Path, path: Path, *, slopes: Sequence[float] = (1.0,), order: Sequence[int] = ()) -> None:
    """Join the slices of a folder to one enhanced multi-frame CT.

    Args:
        folder: Of single slices.
        path: Of the new file.
        slopes: Of the frames, taken in turn; one slope stands in the shared functional groups.
        order: Of the frames in the file; empty for that of the slices' names.
    """
    slices = [pydicom.dcmread(name) for name in sorted(folder.iterdir())]
    slices = [slices[number] for number in order or range(len(slices))]
    whole = pydicom.dcmread(sorted(folder.iterdir())[0])
    whole.SOPClassUID = whole.file_meta.MediaStorageSOPClassUID = ENHANCED_CT
    whole.NumberOfFrames = len(slices)
    scales = [_scale(slope, slices[0].RescaleIntercept) for slope in slopes]
    shared = Dataset()
    shared.PixelMeasuresSequence = Items([Dataset()])
    shared.PixelMeasuresSequence[0].PixelSpacing = slices[0].PixelSpacing
    shared.PlaneOrientationSequence = Items([Dataset()])
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = slices[0].ImageOrientationPatient
    frames = []
    for number, item in enumerate(slices):
        frame = Dataset()
        frame.PlanePositionSequence = Items([Dataset()])
        frame.PlanePositionSequence[0].ImagePositionPatient = item.ImagePositionPatient
        if len(scales) > 1:
            frame.PixelValueTransformationSequence = scales[number % len(scales)]
        frames.append(frame)
    if len(scales) == 1:
        shared.PixelValueTransformationSequence = scales[0]
    whole.SharedFunctionalGroupsSequence = Items([shared])
    whole.PerFrameFunctionalGroupsSequence = Items(frames)
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept"):
        delattr(whole, name)
    whole.PixelData = b"".join(item.PixelData for item in slices)
    whole.save_as(path)


def compress_enhanced(folder: Path, path: Path, syntax: str) -> None:
    """Store the frames of an enhanced CT, of the slices of a folder, in one of the compressed transfer syntaxes."""
    write_enhanced(folder, path)
    whole = pydicom.dcmread(path)
    streams = []
    for name in sorted(folder.iterdir()):
        compress(name, syntax)
        packed = pydicom.dcmread(name)
        streams.append(next(generate_frames(packed.PixelData, number_of_frames=1)))
    whole.file_meta.TransferSyntaxUID = packed.file_meta.TransferSyntaxUID
    for name in ("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"):
        setattr(whole, name, getattr(packed, name))
    whole.PixelData = encapsulate(streams)
    whole["PixelData"].is_undefined_length = True
    whole.save_as(path)


def _scale(slope: float, intercept: float) -> Items:
    values = Dataset()
    values.RescaleSlope, values.RescaleIntercept, values.RescaleType = slope, intercept, "HU"
    return Items([values])


def write_report(path: Path, slice_path: Path) -> None:
    """A radiation dose report: a document of the same study, without an image."""
    report = pydicom.dcmread(slice_path)
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.67"
    report.Modality = "SR"
    for name in ("PixelData", "Rows", "Columns", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        delattr(report, name)
    report.save_as(path)


def write_seg(folder, path, masks, kind="BINARY"):
    """`masks` maps labels to arrays [z, y, x] in the order of the slices, or one label to a volume of highdicom."""
    sources = [pydicom.dcmread(name) for name in sorted(folder.iterdir())]
    described = [
        highdicom.seg.SegmentDescription(
            number,
            label,
            codes.SCT.MorphologicallyAbnormalStructure,
            codes.SCT.Nodule,
            highdicom.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, label in enumerate(masks, 1)
    ]
    highdicom.seg.Segmentation(
        sources,
        whole if isinstance(whole := next(iter(masks.values())), highdicom.Volume) else np.stack([*masks.values()], -1),
        kind,
        described,
        uid("seg"),
        9,
        uid(str(path)),
        1,
        "maker",
        "model",
        "1",
        "serial",
    ).save_as(path)
    return path


def write_rtstruct(path, regions, slice_path, kind="CLOSED_PLANAR"):
    """`regions` maps names to lists of contours."""
    whole = pydicom.dcmread(slice_path, stop_before_pixels=True)
    whole.SOPClassUID = whole.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3"
    whole.Modality = "RTSTRUCT"
    named, drawn = [], []
    for number, (name, contours) in enumerate(regions.items(), 1):
        named.append(Dataset())
        named[-1].ROINumber, named[-1].ROIName = number, name
        drawn.append(Dataset())
        drawn[-1].ReferencedROINumber = number
        drawn[-1].ContourSequence = Items([])
        for points in contours:
            item = Dataset()
            item.ContourGeometricType, item.NumberOfContourPoints = kind, len(points)
            item.ContourData = [f"{value:.8g}" for value in points.ravel()]
            drawn[-1].ContourSequence.append(item)
    whole.StructureSetROISequence, whole.ROIContourSequence = Items(named), Items(drawn)
    whole.save_as(path)
    return path
