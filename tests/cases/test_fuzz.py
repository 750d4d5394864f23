"""Altered and cut files: a correct read or an error of ours, never another exception or another grid."""

import itertools
import resource
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ggn_tf.cases.dicom.repair import RepairPolicy
from ggn_tf.cases.dicom.series_writer import write_series
from ggn_tf.cases.geometry.grid import Grid
from ggn_tf.cases.patch_location import NoduleTarget
from ggn_tf.cases.patches import cut_patch_from
from ggn_tf.errors import GgnError
from ggn_tf.protocol import PatchProtocol
from tests.support.case_phantoms import CENTER, ball, noise, rotation
from tests.support.dicom_files import compress, write_enhanced, write_rtstruct, write_seg
from tests.support.whole_volumes import read_mask

PROTOCOL = PatchProtocol()
GRID = Grid.around((12.0, -31.0, 40.0), (20, 18, 8), (0.83, 0.83, 2.0), rotation(0, 0, 0))
SEGMENTATIONS = {"seg.dcm": "BINARY", "fractions.dcm": "FRACTIONAL", "labels.dcm": "LABELMAP"}
MASKS = ("mask.nii", "mask.nii.gz", "mask.nrrd", "mask.mha", *SEGMENTATIONS, "rt.dcm")
CTS = ("ct.nii", "ct.nii.gz", "ct.nrrd", "ct.mha", "series", "packed", "enhanced.dcm")


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("originals")
    image = noise(GRID)
    for name in CTS[:4]:
        sitk.WriteImage(image, str(folder / name))
    for name in MASKS[:4]:
        sitk.WriteImage(ball(GRID, CENTER, 4.0), str(folder / name))
    for name in ("series", "packed"):
        (folder / name).mkdir()
        write_series(image, folder / name, "PHANTOM-0001")
    for path in (folder / "packed").iterdir():
        compress(path, "JPEG2000")
    write_enhanced(folder / "series", folder / "enhanced.dcm")
    for name, kind in SEGMENTATIONS.items():
        write_seg(folder / "series", folder / name, {"Nodule": sitk.GetArrayFromImage(ball(GRID, CENTER, 4.0))}, kind)
    ring = GRID.point_of([(6, 6, 4), (14, 6, 4), (14, 12, 4), (6, 12, 4)])
    write_rtstruct(folder / "rt.dcm", {"GTV": [ring]}, folder / "series" / "0001.dcm")
    return folder


@st.composite
def damages(draw, names=MASKS + CTS):
    """Which file, and what happens to it: a cut, or bytes of the header or of anywhere set to others."""
    name = draw(st.sampled_from(names))
    cut = draw(st.one_of(st.none(), st.none(), st.floats(0, 1)))
    reach = draw(st.sampled_from([64, 400, 2000, 10**9]))
    places = st.tuples(st.floats(0, 0.9999), st.integers(0, 255))
    return name, cut, reach, draw(st.lists(places, min_size=0 if cut is not None else 1, max_size=4))


def damage(path, cut, reach, places):
    content = bytearray(path.read_bytes())
    for share, value in places:
        content[int(share * min(reach, len(content)))] = value
    path.write_bytes(content[: int(cut * len(content))] if cut is not None else content)


def survives(originals, name, cut, reach, places):
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        target = Path(place) / name
        (shutil.copytree if (originals / name).is_dir() else shutil.copy)(originals / name, target)
        damage(target / "0004.dcm" if target.is_dir() else target, cut, reach, places)
        try:
            if name in MASKS:
                mask = read_mask(target, GRID)
                assert Grid.from_image(mask).same_as(GRID, 1e-9)
                assert set(np.unique(sitk.GetArrayViewFromImage(mask)).tolist()) == {0, 1}
            else:
                patch = cut_patch_from(target, NoduleTarget(center_mm_lps=CENTER), PROTOCOL, RepairPolicy(repair=True))
                assert np.isfinite(patch.hu).all()
                assert patch.ct_grid.covers(CENTER)
        except GgnError as error:
            assert error.found or error.remedy


def everything(examples):
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


@everything(60)
@given(damages())
def test_some_damaged_files(originals, case):
    survives(originals, *case)


@pytest.mark.slow
@everything(300)
@given(damages(MASKS))
def test_damaged_masks(originals, case):
    survives(originals, *case)


@pytest.mark.slow
@everything(600)
@given(damages())
def test_many_damaged_files(originals, case):
    before_mb = peak_mb()
    survives(originals, *case)
    # The files have a few kilobytes each.
    assert peak_mb() - before_mb < 200


def peak_mb():
    """The most memory that this process has had; macOS counts bytes, Linux kilobytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


@pytest.mark.parametrize(("name", "cut"), [*itertools.product(MASKS + CTS, [0.0, 0.001, 0.5, 0.98])])
def test_a_cut_file_is_refused(originals, tmp_path, name, cut):
    target = tmp_path / name
    (shutil.copytree if (originals / name).is_dir() else shutil.copy)(originals / name, target)
    damage(target / "0004.dcm" if target.is_dir() else target, cut, 0, [])
    with pytest.raises(GgnError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if name in MASKS:
            read_mask(target, GRID)
        else:
            cut_patch_from(target, NoduleTarget(center_mm_lps=CENTER), PROTOCOL)
