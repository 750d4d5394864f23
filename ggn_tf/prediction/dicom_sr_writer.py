"""Predictions as DICOM structured reports: Comprehensive 3D SR, template TID 1500 with one group per nodule.

The codes are those of DICOM PS3.16; what it has no code for is in a private scheme that the report declares.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pydicom
from highdicom import sr
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from ggn_tf import __version__
from ggn_tf.cases.dicom.segmentation import MAKER
from ggn_tf.cases.dicom.series_writer import uid
from ggn_tf.prediction.class_codes import PRIVATE_SCHEME, ClassCode, private_code
from ggn_tf.prediction.dicom_headers import (
    ALGORITHM_FAMILY,
    FINDING,
    FINDING_CATEGORY,
    FINDING_SITE,
    Identity,
    dicom_text,
    read_headers,
    refusing_headers,
)
from ggn_tf.prediction.nodules import RESEARCH_ONLY, CtPrediction, NodulePrediction
from ggn_tf.prediction.slice_regions import SliceRegion, region_of
from ggn_tf.shown_text import printable

_Group = sr.PlanarROIMeasurementsAndQualitativeEvaluations | sr.VolumetricROIMeasurementsAndQualitativeEvaluations
# After the SEG's.
_SERIES_NUMBERS = {"planar report": 301, "volumetric report": 302}
_CT_OF_CHEST = sr.CodedConcept("169069000", "SCT", "CT of chest")
_PREDICTED_CLASS = sr.CodedConcept("CLASS", PRIVATE_SCHEME, "Predicted class")
_SOLID_SHARE = sr.CodedConcept("SOLID", PRIVATE_SCHEME, "Solid share of the volume")
_REFERENCE = ("report", "study, series", "result.json")
# What a library entry describes of a slice of a single-frame series.
_DESCRIBED = (
    "FrameOfReferenceUID",
    "PixelSpacing",
    "SliceThickness",
    "ImagePositionPatient",
    "ImageOrientationPatient",
)


def write_planar_report(
    prediction: CtPrediction, class_codes: Mapping[str, ClassCode], identity: Identity, path: Path
) -> None:
    """Write a report that viewers show: each group (TID 1410) has the nodule's outline on the slice of its long axis.

    A nodule of which the model finds nothing has its centre instead, and no measurements.

    Names and UIDs are those of the SEG. Classes without a code are in the private scheme.

    Raises:
        VolumeError: The series' headers lack what a DICOM object needs.
    """
    volume = prediction.volume
    stack = volume.stack.slices if volume.stack else ()
    with refusing_headers(volume, *_REFERENCE):
        regions = [region_of(volume, nodule.mask, nodule.center_mm_lps) for nodule in prediction.nodules]
        headers = read_headers(volume, [region.number for region in regions])
        groups = []
        for number, (region, header) in enumerate(zip(regions, headers, strict=True)):
            where = _image_region(region, header, stack[region.number].frame)
            content = _content(prediction, number, class_codes, identity)
            group = sr.PlanarROIMeasurementsAndQualitativeEvaluations(referenced_region=where, **content)
            groups.append(_with_comments(group, prediction, number))
        _document("planar report", groups, headers, headers, class_codes, identity).save_as(path)


def write_volumetric_report(
    prediction: CtPrediction, class_codes: Mapping[str, ClassCode], identity: Identity, path: Path, segmentation: Path
) -> None:
    """Write a report for dcmqi: each group (TID 1411) refers to the nodule's segment. OHIF 3.13 cannot open it.

    Nodules of which the model finds nothing are left out. `segmentation` is the SEG of the same prediction.

    Raises:
        VolumeError: The series' headers lack what a DICOM object needs.
    """
    with refusing_headers(prediction.volume, *_REFERENCE):
        seg = pydicom.dcmread(segmentation, stop_before_pixels=True)
        headers = read_headers(prediction.volume, [0])
        series = sr.SourceSeriesForSegmentation(headers[0].SeriesInstanceUID)
        groups = []
        for number, nodule in enumerate(prediction.nodules):
            if nodule.mask is not None:
                # Not its from_segmentation, which fails on a SEG of one segment.
                segment = sr.ReferencedSegment(seg.SOPClassUID, seg.SOPInstanceUID, number + 1, source_series=series)
                content = _content(prediction, number, class_codes, identity)
                group = sr.VolumetricROIMeasurementsAndQualitativeEvaluations(referenced_segment=segment, **content)
                groups.append(_with_comments(group, prediction, number))
        _document("volumetric report", groups, [*headers, seg], headers, class_codes, identity).save_as(path)


def _image_region(region: SliceRegion, header: Dataset, frame: int | None) -> sr.ImageRegion:
    frames = None if frame is None else [frame + 1]
    source = sr.SourceImageForRegion(header.SOPClassUID, header.SOPInstanceUID, frames)
    kind = sr.GraphicTypeValues.POINT if len(region.points) == 1 else sr.GraphicTypeValues.POLYLINE
    return sr.ImageRegion(kind, region.points, source)


def _content(
    prediction: CtPrediction, number: int, class_codes: Mapping[str, ClassCode], identity: Identity
) -> dict[str, Any]:
    """What groups of both kinds contain about a nodule."""
    nodule, tracked = prediction.nodules[number], identity.nodules[number]
    decision = nodule.decision
    code = None if decision is None else class_codes.get(decision) or private_code("C", decision, decision)
    return {
        "tracking_identifier": sr.TrackingIdentifier(tracked.uid, tracked.name),
        "finding_category": FINDING_CATEGORY,
        "finding_type": FINDING,
        "finding_sites": [sr.FindingSite(FINDING_SITE)],
        "algorithm_id": sr.AlgorithmIdentification(
            MAKER, __version__, [f"model {identity.model}"], family=ALGORITHM_FAMILY
        ),
        # OHIF 3.13 shows the first five, without what they are derived from.
        "measurements": [*_probabilities(nodule), *_measurements(nodule), *_deviations(nodule)],
        "qualitative_evaluations": [sr.QualitativeEvaluation(_PREDICTED_CLASS, _concept(code))] if code else [],
    }


def _measurements(nodule: NodulePrediction) -> Iterator[sr.Measurement]:
    measured = nodule.measurements
    if measured is None:
        return
    yield sr.Measurement(codes.SCT.LongAxis, measured.longest_diameter_mm, codes.UCUM.Millimeter)
    yield sr.Measurement(codes.SCT.ShortAxis, measured.perpendicular_diameter_mm, codes.UCUM.Millimeter)
    yield sr.Measurement(codes.SCT.Volume, measured.volume_mm3, codes.UCUM.CubicMillimeter)
    mean = codes.SCT.Mean
    yield sr.Measurement(codes.DCM.AttenuationCoefficient, measured.mean_hu, codes.UCUM.HounsfieldUnit, derivation=mean)
    yield sr.Measurement(_SOLID_SHARE, 100 * measured.solid_fraction, codes.UCUM.Percent)


def _probabilities(nodule: NodulePrediction) -> Iterator[sr.Measurement]:
    for name, probability in nodule.probabilities.items():
        concept = _concept(private_code("P", name, f"Probability of {name}"))
        yield sr.Measurement(concept, 100 * probability, codes.UCUM.Percent)


def _deviations(nodule: NodulePrediction) -> Iterator[sr.Measurement]:
    deviation = codes.SCT.StandardDeviation
    for name, spread in (nodule.spread or {}).items():
        concept = _concept(private_code("D", name, f"Standard deviation of probability of {name}"))
        yield sr.Measurement(concept, 100 * spread, codes.UCUM.Percent, derivation=deviation)


def _concept(code: ClassCode) -> sr.CodedConcept:
    return sr.CodedConcept(code.value, code.scheme, dicom_text(code.meaning))


def _with_comments(group: _Group, prediction: CtPrediction, number: int) -> _Group:
    """The group with what has no code, and every warning about the nodule and about all nodules."""
    nodule = prediction.nodules[number]
    found = (*prediction.warnings, *nodule.warnings)
    for text in (RESEARCH_ONLY, *_notes(nodule), *(warning.text for warning in found)):
        group[0].ContentSequence.append(
            sr.TextContentItem(codes.DCM.Comment, printable(text), sr.RelationshipTypeValues.CONTAINS)
        )
    return group


def _notes(nodule: NodulePrediction) -> Iterator[str]:
    if nodule.measurements is not None:
        yield f"Solid share: voxels above {nodule.measurements.solid_hu:g} HU."
    further = []
    if nodule.prediction_set is not None:
        further.append(f"Prediction set: {', '.join(nodule.prediction_set) or 'no class'}.")
    if nodule.typicality is not None:
        further.append(f"Typicality: {nodule.typicality:.2g}, the share of held-out nodules that are no more typical.")
    if further:
        yield " ".join(further)


def _document(
    kind: str,
    groups: Sequence[_Group],
    evidence: Sequence[Dataset],
    images: Sequence[Dataset],
    class_codes: Mapping[str, ClassCode],
    identity: Identity,
) -> sr.Comprehensive3DSR:
    observer = sr.DeviceObserverIdentifyingAttributes(
        uid(f"{MAKER}/{__version__}/{identity.model}"),
        MAKER,
        manufacturer_name=MAKER,
        model_name=f"{MAKER} {__version__}",
    )
    context = sr.ObservationContext(observer_device_context=sr.ObserverContext(codes.DCM.Device, observer))
    library = {image.SOPInstanceUID: _described(image) for image in images}
    report = sr.MeasurementReport(context, _CT_OF_CHEST, groups, referenced_images=[*library.values()])
    return sr.Comprehensive3DSR(
        evidence=evidence,
        content=report,
        series_instance_uid=identity.uid(f"{kind} series"),
        series_number=_SERIES_NUMBERS[kind],
        sop_instance_uid=identity.uid(kind),
        instance_number=1,
        manufacturer=MAKER,
        manufacturer_model_name=MAKER,
        software_versions=__version__,
        device_serial_number=__version__,
        is_complete=True,
        series_description=f"{MAKER} {kind} (research)",
        coding_schemes=_schemes(class_codes),
    )


def _described(image: Dataset) -> Dataset:
    """The part of a header that the image library describes; of a multi-frame file it has no single position."""
    part = Dataset()
    for name in ("SOPClassUID", "SOPInstanceUID", "Rows", "Columns"):
        setattr(part, name, image[name].value)
    part.Modality = "OT" if "NumberOfFrames" in image else "CT"
    for name in _DESCRIBED:
        if name in image:
            setattr(part, name, image[name].value)
    return part


def _schemes(class_codes: Mapping[str, ClassCode]) -> list[CodingSchemeIdentificationItem]:
    """The private schemes of the report; standard ones need no declaration."""
    others = {code.scheme for code in class_codes.values() if code.scheme.startswith("99")} - {PRIVATE_SCHEME}
    own = CodingSchemeIdentificationItem(
        PRIVATE_SCHEME, f"{MAKER} classes and measures", responsible_organization=f"The {MAKER} contributors"
    )
    return [own, *map(CodingSchemeIdentificationItem, sorted(others))]
