"""Altered and cut files: a correct read or an error of ours, never another exception or another grid."""

import itertools
import json
import random
import resource
import shutil
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.dicom.repair import RepairPolicy
from ggn_tf.cases.dicom.series_writer import write_series
from ggn_tf.cases.geometry.grid import Grid
from ggn_tf.cases.markups import read_markups
from ggn_tf.cases.patch_location import NoduleTarget
from ggn_tf.cases.patches import CutOptions, cut_patch_from
from ggn_tf.cases.reader_process import ReaderEndedError, ReaderProcess
from ggn_tf.cases.tables.table_file import read_table_file
from ggn_tf.errors import GgnError
from ggn_tf.protocol import PatchProtocol
from tests.support.case_phantoms import CENTER, ball, noise, rotation
from tests.support.dicom_files import compress, write_enhanced, write_rtstruct, write_seg
from tests.support.whole_volumes import read_mask

PROTOCOL = PatchProtocol()
GRID = Grid.around((12.0, -31.0, 40.0), (20, 18, 8), (0.83, 0.83, 2.0), rotation(0, 0, 0))
SEGMENTATIONS = {"seg.dcm": "BINARY", "fractions.dcm": "FRACTIONAL", "labels.dcm": "LABELMAP"}
MARKUPS, MOST_SECONDS = "points.mrk.json", 5
PACKED = ("packed.nrrd", "packed.mha")
MASKS = ("mask.nii", "mask.nii.gz", "mask.nrrd", "mask.mha", *PACKED, *SEGMENTATIONS, "rt.dcm")
COLUMNS = ("case_id", "patient_id", "image", "mask", "label", "center_x_mm")
CTS = ("ct.nii", "ct.nii.gz", "ct.nrrd", "ct.mha", "series", "packed", "enhanced.dcm")


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    return write_originals(tmp_path_factory.mktemp("originals"))


def write_originals(folder):
    image = noise(GRID)
    for name in CTS[:4]:
        sitk.WriteImage(image, str(folder / name))
    for name in MASKS[:4]:
        sitk.WriteImage(ball(GRID, CENTER, 4.0), str(folder / name))
    for name in PACKED:
        sitk.WriteImage(ball(GRID, CENTER, 4.0), str(folder / name), useCompression=True)
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
    point = {"label": "N", "position": [1.5, -2.0, 40.0], "positionStatus": "defined"}
    markup = {"type": "Fiducial", "coordinateSystem": "LPS", "coordinateUnits": "mm", "controlPoints": [point, point]}
    (folder / MARKUPS).write_text(json.dumps({"markups": [markup]}), encoding="utf-8")
    rows = pd.DataFrame({name: [f"{name} {row}" for row in range(20)] for name in COLUMNS})
    rows.to_csv(folder / "cases.csv", index=False)
    rows.to_excel(folder / "cases.xlsx", index=False)
    return folder


KINDS = {
    "DICOM": ("series", "packed", "enhanced.dcm"),
    "NIfTI": ("ct.nii", "ct.nii.gz", "mask.nii", "mask.nii.gz"),
    "NRRD": ("ct.nrrd", "mask.nrrd", "packed.nrrd"),
    "MetaImage": ("ct.mha", "mask.mha", "packed.mha"),
    "RTSTRUCT": ("rt.dcm",),
    "SEG": tuple(SEGMENTATIONS),
    "markups": (MARKUPS,),
    "CSV": ("cases.csv",),
    "Excel": ("cases.xlsx",),
}
# What headers are made of: numbers at the ends of their ranges, separators, signs and brackets.
SPECIAL = (0, 1, 127, 128, 255, *b' \n,./-%<[{"')
IN_CI, NIGHTLY = 50, 2000


def damages(kind, number):
    """Which file, and what happens to it: a cut, or bytes of the header or of anywhere set to others.

    Drawn from the number alone, so that each variant can be repeated.
    """
    draw = random.Random(f"{kind} {number}")
    name = draw.choice(KINDS[kind])
    cut = draw.random() if draw.random() < 0.15 else None
    reach = draw.choice([64, 400, 2000, 10**9])
    places = [
        (draw.random() * 0.9999, draw.choice([draw.choice(SPECIAL), draw.randrange(256)]))
        for _ in range(draw.randint(0 if cut is not None else 1, 4))
    ]
    return name, cut, reach, places


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
        check_read(target)


def check_read(target):
    """A finite patch, a mask on the CT's grid, points or a table; or an error of ours."""
    name = target.name
    try:
        if name == MARKUPS:
            assert np.isfinite([point.center_mm_lps for point in read_markups(target)]).all()
        elif name.startswith("cases."):
            read_table_file(target)
        elif name in MASKS:
            mask = read_mask(target, GRID)
            assert Grid.from_image(mask).same_as(GRID, 1e-9)
            assert set(np.unique(sitk.GetArrayViewFromImage(mask)).tolist()) == {0, 1}
        else:
            patch = cut_patch_from(
                target, NoduleTarget(center_mm_lps=CENTER), PROTOCOL, CutOptions(RepairPolicy(repair=True))
            )
            assert np.isfinite(patch.hu).all()
            assert patch.ct_grid.covers(CENTER)
    except GgnError as error:
        assert error.found or error.remedy


def measured(originals, kind, number):
    """Processor seconds, and the peak of the memory afterwards, MB."""
    begin = time.process_time()
    survives(originals, *damages(kind, number))
    return time.process_time() - begin, peak_mb()


def check_variants(originals, kind, count):
    """Every variant, read as the product reads; none may take long, or much more memory than all before it.

    Some end ITK's reader of MetaImage: the product rejects their case.
    """
    slowest, ended = 0.0, []
    with ReaderProcess() as reader:
        first_mb = before_mb = reader.run(measured, originals, kind, 0)[1]
        for number in range(count):
            try:
                seconds, after_mb = reader.run(measured, originals, kind, number)
            except ReaderEndedError:
                ended.append(number)
                before_mb = reader.run(peak_mb)
                continue
            slowest = max(slowest, seconds)
            # The files have a few kilobytes each.
            assert slowest < MOST_SECONDS and after_mb - before_mb < 200, f"{kind} {number}"
            before_mb = after_mb
    print(
        f"{kind:<10} {count:>5} variants  longest {slowest:5.2f} s  "
        f"memory +{before_mb - first_mb:4.0f} MB  {len(ended)} ended their reader"
    )
    assert len(ended) <= count // 100, ended


@pytest.mark.parametrize("kind", KINDS)
def test_some_damaged_files(originals, kind):
    check_variants(originals, kind, IN_CI)


@pytest.mark.nightly
@pytest.mark.parametrize("kind", KINDS)
def test_many_damaged_files(originals, kind):
    check_variants(originals, kind, NIGHTLY)


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
