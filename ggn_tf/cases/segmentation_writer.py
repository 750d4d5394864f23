"""Nodule masks as a DICOM segmentation object (SEG) of the series that they were found on."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import SimpleITK as sitk  # noqa: N813
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentationTypeValues, SegmentDescription
from pydicom.sr.codedict import codes

from ggn_tf import __version__
from ggn_tf.cases.grid import Grid
from ggn_tf.errors import VolumeError

_MAKER = "ggn_tf"
# Beside the scanner's own series, which count from 1.
_SERIES_NUMBER = 300
# A label's longest text in DICOM (LO).
_LONGEST_TEXT = 64


def write_segmentation(
    labels: sitk.Image, slices: Sequence[Path], names: Sequence[str], path: Path, model: str
) -> None:
    """Write a label map as a DICOM SEG that refers to the slices it was drawn on.

    The object takes patient and study from the series, as it belongs to them; so it names the patient as the series
    does. Each call makes new UIDs.

    Args:
        labels: uint8 on the grid of the series: 0, or the number of a nodule from 1; at least one voxel of a nodule.
        slices: The files of the series, in the order of the z axis.
        names: Of the nodules, label 1 first.
        path: The file to write.
        model: What found the nodules; told in the segments.

    Raises:
        VolumeError: The headers of the series lack what a DICOM object needs.
    """
    try:
        # What it warns of, such as names of one part, is the series' own.
        with warnings.catch_warnings(action="ignore"):
            _segmentation(labels, slices, names, model).save_as(path)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise VolumeError(
            "The series cannot be referred to by a DICOM segmentation.",
            case=slices[0].parent,
            found=f"{type(error).__name__}: {error}",
            expected="slices with patient, study, series, frame of reference and instance UIDs",
            remedy="Use the mask in NIfTI, or export the series again with all of its headers.",
        ) from error


def _segmentation(labels: sitk.Image, slices: Sequence[Path], names: Sequence[str], model: str) -> Segmentation:
    voxels = sitk.GetArrayViewFromImage(labels)
    used = np.flatnonzero(voxels.any(axis=(1, 2))).tolist()
    width_mm, height_mm, depth_mm = Grid.from_image(labels).spacing_mm_xyz
    return Segmentation(
        source_images=[pydicom.dcmread(slices[number], stop_before_pixels=True) for number in used],
        pixel_array=voxels[used],
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=_descriptions(names, model),
        series_instance_uid=highdicom.UID(),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer=_MAKER,
        manufacturer_model_name=_MAKER,
        software_versions=__version__,
        device_serial_number=__version__,
        content_label="NODULES",
        series_description=f"{_MAKER} nodules",
        # Of the grid: headers often lack the distance of slices, and readers would take their thickness for it.
        pixel_measures=highdicom.PixelMeasuresSequence(
            (height_mm, width_mm), slice_thickness=depth_mm, spacing_between_slices=depth_mm
        ),
    )


def _descriptions(names: Sequence[str], model: str) -> list[SegmentDescription]:
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name=_MAKER,
        family=codes.cid7162.ArtificialIntelligence,
        version=__version__,
        parameters={"model": model},
    )
    return [
        SegmentDescription(
            segment_number=number,
            segment_label=name[:_LONGEST_TEXT],
            # 3D Slicer knows this code by its older name, Morphologically Altered Structure.
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=codes.SCT.Nodule,
            algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
            anatomic_regions=[codes.SCT.Lung],
        )
        for number, name in enumerate(names, start=1)
    ]
