"""Nodule masks as a DICOM segmentation object (SEG) of the series that they were found on."""

from pathlib import Path

import highdicom
import numpy as np
import numpy.typing as npt
import SimpleITK as sitk  # noqa: N813
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentationTypeValues, SegmentDescription
from pydicom.dataset import Dataset

from ggn_tf import __version__
from ggn_tf.cases.dicom.segmentation import MAKER
from ggn_tf.cases.volumes import Volume
from ggn_tf.prediction.dicom_headers import (
    ALGORITHM_FAMILY,
    FINDING,
    FINDING_CATEGORY,
    FINDING_SITE,
    Identity,
    pixel_measures,
    read_sources,
    refusing_headers,
)

# The scanner's own series count from 1.
_SERIES_NUMBER = 300
# As in the overlays; without a colour every viewer picks its own.
_COLOR = highdicom.color.CIELabColor.from_rgb(255, 220, 0)


def write_segmentation(volume: Volume, labels: sitk.Image, identity: Identity, path: Path) -> None:
    """Write a label map as a DICOM SEG that refers to the slices or frames of the CT that it was drawn on.

    Every frame of the object is on one of the series' own slices; labels on a repaired grid are resampled back to them.
    The object takes patient and study from the series, so it names the patient as the series does.

    Args:
        volume: A DICOM series.
        labels: uint8 or uint16 on the volume's stored grid: 0, or the number of a nodule from 1.
        identity: The nodules, label 1 first, the model that found them, and the UIDs.
        path: The file to write.

    Raises:
        VolumeError: The volume is not a DICOM series, or consists of several multi-frame files; its headers lack what a
            DICOM object needs; or no slice contains a nodule.
    """
    on_slices = volume.on_slices(sitk.GetArrayViewFromImage(labels))
    used = np.flatnonzero(on_slices.any(axis=(1, 2))).tolist()
    with refusing_headers(volume, "segmentation", "study, series, frame of reference", "the mask in NIfTI"):
        sources, layers = read_sources(volume, used, on_slices[used])
        written = _segmentation(sources, layers, pixel_measures(volume), identity)
        # Required even where it is unknown (PS3.3 10.9); highdicom leaves it out then.
        written.ContentCreatorName = None
        written.save_as(path)


def _segmentation(
    sources: list[Dataset],
    layers: npt.NDArray[np.integer],
    measures: highdicom.PixelMeasuresSequence,
    identity: Identity,
) -> Segmentation:
    return Segmentation(
        source_images=sources,
        pixel_array=layers,
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=_descriptions(identity),
        series_instance_uid=identity.uid("segmentation series"),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=identity.uid("segmentation"),
        instance_number=1,
        manufacturer=MAKER,
        manufacturer_model_name=MAKER,
        software_versions=__version__,
        device_serial_number=__version__,
        content_label="NODULES",
        series_description=f"{MAKER} nodules",
        pixel_measures=measures,
    )


def _descriptions(identity: Identity) -> list[SegmentDescription]:
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name=MAKER,
        family=ALGORITHM_FAMILY,
        version=__version__,
        parameters={"model": identity.model},
    )
    return [
        SegmentDescription(
            segment_number=number,
            segment_label=nodule.name,
            segmented_property_category=FINDING_CATEGORY,
            segmented_property_type=FINDING,
            algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
            tracking_uid=nodule.uid,
            tracking_id=nodule.name,
            anatomic_regions=[FINDING_SITE],
            display_color=_COLOR,
        )
        for number, nodule in enumerate(identity.nodules, start=1)
    ]
