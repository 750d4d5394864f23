"""Write random nodules with other programs, read them back, and print the table of docs/results/masks.md.

    python -W ignore scripts/mask_writers.py --nodules 200 --writers /path/to/venv

The environment of the writers has rt-utils, opencv-python-headless and dcmqi; plastimatch (Debian) is on the PATH.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

sys.path.insert(0, str(Path(__file__).parents[1]))
from ggn_tf.cases.dicom.series_writer import write_series
from ggn_tf.cases.geometry.grid import Grid
from ggn_tf.cases.masks import place_mask
from ggn_tf.cases.volumes import Volume, open_volume
from tests.support.case_phantoms import noise
from tests.support.dicom_files import write_seg
from tests.support.random_nodules import random_nodule

# rt-utils 1.2.7 mixes up rows and columns where their numbers differ.
GRIDS = (
    Grid((46, 46, 24), (0.7, 0.7, 1.25), (-17.0, -46.0, 25.0)),
    Grid((44, 44, 18), (0.9, 0.9, 2.0), (-17.0, -46.0, 25.0)),
)
RT_UTILS = """
import sys, numpy as np
from rt_utils import RTStructBuilder
ct, pin_holes, *masks = sys.argv[1:]
for mask in masks:
    structures = RTStructBuilder.create_new(dicom_series_path=ct)
    voxels = np.transpose(np.load(mask).astype(bool), (1, 2, 0))
    structures.add_roi(mask=voxels, name="N", use_pin_hole=pin_holes == "True")
    path = mask.replace(".npy", ".dcm")
    structures.save(path)
    read = RTStructBuilder.create_from(dicom_series_path=ct, rt_struct_path=path).get_roi_mask_by_name("N")
    np.save(mask.replace(".npy", "-read.npy"), np.transpose(read, (2, 0, 1)))
"""
CODES = {
    "SegmentedPropertyCategoryCodeSequence": ("49755003", "Morphologically Abnormal Structure"),
    "SegmentedPropertyTypeCodeSequence": ("27925004", "Nodule"),
}

# Writes masks of a CT, and gives each one's file, and what the program itself reads in it.
Write = Callable[[Path, list[np.ndarray], Path], Iterator[tuple[Path, np.ndarray]]]


def with_highdicom(kind: str, ct: Path, masks: list[np.ndarray], folder: Path) -> Iterator[tuple[Path, np.ndarray]]:
    """The three kinds of DICOM SEG."""
    for number, mask in enumerate(masks):
        yield write_seg(ct, folder / f"{number}.dcm", {"N": mask}, kind), mask


def with_dcmqi(
    program: Path, kind: str, ct: Path, masks: list[np.ndarray], folder: Path
) -> Iterator[tuple[Path, np.ndarray]]:
    """The program of 3D Slicer's QuantitativeReporting."""
    codes = {
        name: {"CodeValue": value, "CodingSchemeDesignator": "SCT", "CodeMeaning": meaning}
        for name, (value, meaning) in CODES.items()
    }
    segment = {"labelID": 1, "SegmentLabel": "N", "SegmentAlgorithmType": "MANUAL", **codes}
    (folder / "meta.json").write_text(json.dumps({"BodyPartExamined": "CHEST", "segmentAttributes": [[segment]]}))
    for number, image in enumerate(_images(ct, masks, folder)):
        path = folder / f"{number}.dcm"
        files = ("--inputDICOMDirectory", ct, "--inputImageList", image, "--inputMetadata", folder / "meta.json")
        _run(program, *files, "--segmentationType", kind, "--outputDICOM", path)
        yield path, masks[number]


def with_rt_utils(
    python: Path, pin_holes: bool, ct: Path, masks: list[np.ndarray], folder: Path
) -> Iterator[tuple[Path, np.ndarray]]:
    """The most common writer of RTSTRUCT; pin holes lead into holes, so that one contour is enough."""
    files = [folder / f"{number}.npy" for number in range(len(masks))]
    for file, mask in zip(files, masks, strict=True):
        np.save(file, mask)
    _run(python, "-W", "ignore", "-c", RT_UTILS, ct, pin_holes, *files)
    for file in files:
        yield file.with_suffix(".dcm"), np.load(file.with_name(f"{file.stem}-read.npy"))


def with_plastimatch(ct: Path, masks: list[np.ndarray], folder: Path) -> Iterator[tuple[Path, np.ndarray]]:
    """A program of radiotherapy."""
    for image in _images(ct, masks, folder):
        written, read = folder / f"{image.stem}-dicom", folder / f"{image.stem}-read.nrrd"
        _run("plastimatch", "convert", "--input-ss-img", image, "--referenced-ct", ct, "--output-dicom", written)
        (path,) = written.glob("rtss*")
        _run("plastimatch", "convert", "--input", path, "--referenced-ct", ct, "--output-labelmap", read)
        yield path, sitk.GetArrayFromImage(sitk.ReadImage(str(read)))


def main() -> None:
    """Print one row per writer."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--nodules", type=int, default=200)
    parser.add_argument("--writers", type=Path, required=True)
    arguments = parser.parse_args()
    programs = arguments.writers / "bin"
    writers: dict[str, Write] = {
        **{f"highdicom, {kind}": partial(with_highdicom, kind) for kind in ("BINARY", "FRACTIONAL", "LABELMAP")},
        **{f"dcmqi, {k}": partial(with_dcmqi, programs / "itkimage2segimage", k) for k in ("binary", "labelmap")},
        "rt-utils": partial(with_rt_utils, programs / "python", False),
        "rt-utils, pin holes": partial(with_rt_utils, programs / "python", True),
        "plastimatch": with_plastimatch,
    }
    print("| writer | nodules | equal to its reader | largest difference, voxels | of the volume | equal to the mask |")
    print("|---|---|---|---|---|---|")
    for name, write in writers.items():
        print(_row(name, write, arguments.nodules), flush=True)


def _row(name: str, write: Write, count: int) -> str:
    different, shares, changed = [], [], 0
    for part, grid in enumerate(GRIDS):
        seeds = range(part, count, len(GRIDS))
        masks = [random_nodule(np.random.default_rng(s), grid.size_xyz[::-1], grid.spacing_mm_zyx) for s in seeds]
        with tempfile.TemporaryDirectory() as place:
            ct = Path(place) / "ct"
            ct.mkdir()
            write_series(noise(grid), ct, "PHANTOM-0001")
            volume = open_volume(ct)
            for mask, (path, own) in zip(masks, write(ct, masks, Path(place)), strict=True):
                found = _read_back(path, volume)
                different.append(int(np.count_nonzero(found != (own > 0))))
                shares.append(abs(int(found.sum()) / int(np.count_nonzero(own)) - 1))
                changed += not np.array_equal(found, mask > 0)
    return f"| {name} | {count} | {different.count(0)} | {max(different)} | {max(shares):.1%} | {count - changed} |"


def _read_back(path: Path, volume: Volume) -> np.ndarray:
    image = place_mask(path, volume).image
    whole = np.zeros(volume.grid.size_xyz[::-1], dtype=bool)
    block = volume.grid.block_of(Grid.from_image(image))
    assert block is not None
    whole[block.slices_zyx] = sitk.GetArrayViewFromImage(image)
    return volume.axes.to_stored(whole)


def _images(ct: Path, masks: list[np.ndarray], folder: Path) -> Iterator[Path]:
    grid = open_volume(ct).stored_grid
    for number, mask in enumerate(masks):
        path = folder / f"{number}.nrrd"
        sitk.WriteImage(grid.image_of(mask), str(path))
        yield path


def _run(*command: object) -> None:
    subprocess.run([str(part) for part in command], check=True, capture_output=True)


if __name__ == "__main__":
    main()
