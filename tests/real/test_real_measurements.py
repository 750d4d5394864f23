"""Measurements of reference masks against pyradiomics, which measures a mesh through the middle between voxels."""

import csv
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.measurements import measure

pytestmark = pytest.mark.real
radiomics = pytest.importorskip("radiomics", reason="pyradiomics is not installed; scripts/radiomics.sh builds it")


class Differences(NamedTuple):
    """Ours less pyradiomics's: mm of the long axis, mm of the 3D diameter, fraction of the volume, mm of its ball."""

    in_slice_mm: float
    in_space_mm: float
    volume: float
    ball_mm: float


def by_radiomics(inside: np.ndarray, spacing_xyz: Sequence[float], feature: str) -> float:
    from radiomics.shape import RadiomicsShape

    mask = sitk.GetImageFromArray(np.pad(inside, 1).astype(np.uint8))
    mask.SetSpacing(spacing_xyz)
    shape = RadiomicsShape(mask, mask)
    shape.disableAllFeatures()
    shape.enableFeatureByName(feature)
    return float(shape.execute()[feature])


def differences(folder: Path, row: dict[str, str]) -> Differences:
    image, mask = (sitk.ReadImage(str(folder / row[name])) for name in ("image", "mask"))
    inside, spacing = sitk.GetArrayFromImage(mask) > 0, mask.GetSpacing()
    found = measure(image, mask)
    # Slice by slice: of the whole mask, the feature is also the longest distance between vertices that are in no slice
    # but between two, where it joins voxels of both.
    in_slices = [by_radiomics(layer[None], spacing, "Maximum2DDiameterSlice") for layer in inside if layer.any()]
    mesh_mm3 = by_radiomics(inside, spacing, "MeshVolume")
    assert found.volume_mm3 == pytest.approx(by_radiomics(inside, spacing, "VoxelVolume"))
    return Differences(
        found.longest_diameter_mm - max(in_slices),
        found.diameter_3d_mm - by_radiomics(inside, spacing, "Maximum3DDiameter"),
        found.volume_mm3 / mesh_mm3 - 1,
        found.diameter_mm - (6 * mesh_mm3 / np.pi) ** (1 / 3),
    )


@pytest.mark.parametrize("every", [33, pytest.param(1, marks=pytest.mark.nightly)])
def test_diameters_and_volumes_are_those_of_pyradiomics_within_a_voxel(every: int, real_data: Path) -> None:
    logging.getLogger("radiomics").setLevel(logging.CRITICAL)
    folder = real_data / "lidc_context"
    with (folder / "cases.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))[::every]
    found = np.array([differences(folder, row) for row in rows])
    assert len(found) == (669 if every == 1 else 21)
    in_slice_mm, in_space_mm, volume, ball_mm = found.T
    # Voxels of 1 mm. Both extend from edge to edge; a mesh cuts the corners of voxels.
    assert np.all((in_slice_mm > -0.01) & (in_slice_mm < 0.42))
    assert np.all((in_space_mm > 0) & (in_space_mm < 0.74))
    assert np.all((volume > 0) & (volume < 0.25)) and np.median(volume) < 0.05
    assert np.all((ball_mm > 0) & (ball_mm < 0.5))
