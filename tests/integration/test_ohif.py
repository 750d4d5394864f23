"""OHIF opens DICOM segmentations by a parser that runs in Node, too: see tests/ohif."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ggn_tf.cases.volumes import Volume, open_volume
from ggn_tf.prediction.dicom_seg_writer import write_segmentation
from tests.support.chest import TURNED, lung_grid, lung_with_balls, tilt, write_dicom
from tests.support.dicom_files import edit, write_enhanced
from tests.support.dicom_predictions import identity
from tests.support.dicom_segmentations import frames_of

PARSER = Path(__file__).parents[1] / "ohif" / "bundle.mjs"
pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or not PARSER.is_file(),
    reason="needs Node 20, and in tests/ohif: npm install, npm run bundle",
)


def straight(folder: Path) -> Volume:
    return open_volume(folder)


def enhanced(folder: Path) -> Volume:
    path = folder.with_name("enhanced.dcm")
    write_enhanced(folder, path, order=np.random.default_rng(0).permutation(72).tolist())
    return open_volume(path)


def tilted(folder: Path) -> Volume:
    return open_volume(tilt(folder), repair=True)


def uneven(folder: Path) -> Volume:
    def move(number, header):
        x, y, z = (float(value) for value in header.ImagePositionPatient)
        header.ImagePositionPatient = [x, y, z + 0.4 * (number % 3 == 0)]

    edit(folder, move)
    return open_volume(folder, repair=True)


@pytest.mark.parametrize("kind", [straight, enhanced, tilted, uneven])
def test_ohifs_parser_puts_every_voxel_on_its_image(kind: Callable[[Path], Volume], tmp_path: Path) -> None:
    volume = kind(write_dicom(lung_with_balls(lung_grid(direction=TURNED)), tmp_path / "dicom"))
    labels = np.zeros(volume.grid.size_xyz[::-1], np.uint8)
    labels[20:24, 30:36, 30:39] = 1
    labels[22:25, 5:9, 5:15] = 2
    path = tmp_path / "seg.dcm"
    write_segmentation(volume, volume.grid.image_of(labels), identity("F-1", "F-2"), path)
    found = read(path, sorted(set(volume.slices)))
    expected: dict[tuple[str, int | None], np.ndarray] = {}
    for frame in frames_of(path):
        layer = expected.setdefault((frame.source, frame.source_frame), np.zeros(frame.inside.shape, int))
        layer[frame.inside] = frame.segment
    assert found["names"] == ["F-1", "F-2"]
    assert len(expected) >= 3
    assert {(layer["image"], layer["frame"]) for layer in found["layers"]} == set(expected)
    for layer in found["layers"]:
        image = np.zeros((60, 64), int)
        for at, label in layer["voxels"]:
            image.flat[at] = label
        np.testing.assert_array_equal(image, expected[layer["image"], layer["frame"]])


def read(segmentation: Path, images: list[Path]) -> dict:
    output = segmentation.with_suffix(".json")
    subprocess.run(["node", PARSER, segmentation, output, *images], stdout=subprocess.DEVNULL, timeout=120, check=True)
    return json.loads(output.read_text(encoding="utf-8"))
