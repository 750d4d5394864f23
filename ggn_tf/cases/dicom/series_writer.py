"""A CT volume as a DICOM series of single slices, as a scanner would send it."""

import uuid
from pathlib import Path

import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.geometry.grid import Grid
from ggn_tf.protocol import AIR_HU

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
# Hounsfield units are stored from 0 upwards, as scanners do; GDCM subtracts the intercept on writing.
_INTERCEPT = f"{AIR_HU:g}"


def write_series(image: sitk.Image, folder: Path, patient: str, tags: dict[str, str] | None = None) -> None:
    """Write a CT as DICOM, one file per slice; the same arguments give the same UIDs.

    Args:
        image: int16 Hounsfield units.
        folder: Must exist; gets 0001.dcm and so on.
        patient: Patient's name and ID; the UIDs are made from it and the series' tags.
        tags: Further tags or other values for those set here, as `{"0008|103e": "thin"}`.
    """
    grid = Grid.from_image(image)
    name = f"{patient}/{sorted((tags or {}).items())}"
    common = {**_series_tags(patient, name, grid.spacing_mm_xyz[2]), **(tags or {})}
    writer = sitk.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.KeepOriginalImageUIDOn()
    for number in range(1, grid.size_xyz[2] + 1):
        layer = image[:, :, number - 1 : number]
        slice_tags = {"0008|0018": uid(f"{name}/{number}"), "0020|0013": str(number)}
        for key, value in {**slice_tags, **common}.items():
            layer.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"{number:04d}.dcm"))
        writer.Execute(layer)


def uid(name: str) -> str:
    """A DICOM UID that depends on nothing but a name (a UUID under the root 2.25, DICOM PS3.5 B.2)."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, name).int}"


def _series_tags(patient: str, name: str, thickness_mm: float) -> dict[str, str]:
    return {
        "0008|0008": "ORIGINAL\\PRIMARY\\AXIAL",
        "0008|0016": CT_IMAGE_STORAGE,
        "0008|0020": "20000101",
        "0008|0021": "20000101",
        "0008|0030": "120000",
        "0008|0060": "CT",
        "0008|103e": "Chest",
        "0010|0010": patient,
        "0010|0020": patient,
        "0018|0050": f"{thickness_mm:g}",
        "0018|0060": "120",
        "0018|5100": "HFS",
        "0020|000d": uid(f"{patient}/study"),
        "0020|000e": uid(f"{name}/series"),
        "0020|0011": "1",
        "0020|0052": uid(f"{patient}/frame"),
        "0028|1052": _INTERCEPT,
        "0028|1053": "1",
        "0028|1054": "HU",
    }
