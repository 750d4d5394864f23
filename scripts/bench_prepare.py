"""A nodule's patch from a whole thorax in DICOM: ours, SimpleITK resampling everything, and MONAI, in one run.

python scripts/bench_prepare.py [--repeats 9] [--scaling] [--parts] [--json]

Every way must end in the same patch, or the script fails.
"""

import importlib.util
import json
import logging
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import SimpleITK as sitk  # noqa: N813
from rich.console import Console
from rich.table import Table
from side_by_side import measure, report

from ggn_tf.cases.geometry.grid import Grid, vector
from ggn_tf.cases.masks import place_mask
from ggn_tf.cases.patch_location import NoduleTarget
from ggn_tf.cases.patches import cut_patch_from
from ggn_tf.cases.tables.table import Case
from ggn_tf.cases.volumes import open_volume
from ggn_tf.dataset.preparation import prepare_cases
from ggn_tf.protocol import PatchProtocol

PROTOCOL = PatchProtocol()
SHAPE = (PROTOCOL.size,) * 3
SPACING_XYZ = PROTOCOL.spacing_mm_zyx[::-1]
MASK = "LIDC-IDRI-0063_R_4_mask.nii.gz"
Found = tuple[np.ndarray, np.ndarray]


def default_folder() -> Path:
    real = os.environ.get("GGN_TF_REAL_DATA", Path(__file__).parents[2] / "shared" / "data")
    return Path(real) / "lidc_0063"


def ours(ct: Path, mask: Path) -> Found:
    patch = cut_patch_from(ct, NoduleTarget(mask), PROTOCOL)
    return patch.hu, patch.mask


def resample_everything(ct: Path, mask: Path) -> Found:
    """The whole CT and the whole mask to the patch's spacing, then the 32 voxels around the nodule.

    Its voxels are at the positions of ours, because the new lattice is shifted by less than a voxel so that the
    nodule's centroid falls between two of them. That costs it no time.
    """
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(ct)))
    reader.SetOutputPixelType(sitk.sitkFloat32)
    image = reader.Execute()
    labels = sitk.ReadImage(str(mask), sitk.sitkUInt8)
    shape = sitk.LabelShapeStatisticsImageFilter()
    shape.Execute(labels)
    native = Grid.from_image(image)
    patch = Grid.around(shape.GetCentroid(1), SHAPE, SPACING_XYZ, native.direction)
    before = np.floor(-patch.index_of(native.origin_mm_lps)).astype(int)
    size = np.ceil(np.multiply(native.size_xyz, native.spacing_mm_xyz) / SPACING_XYZ).astype(int)
    whole = Grid(tuple(size.tolist()), SPACING_XYZ, vector(patch.point_of(-before)), native.direction)
    geometry = (whole.origin_mm_lps, whole.spacing_mm_xyz, whole.direction)
    hu = sitk.Resample(image, whole.size_xyz, sitk.Transform(), sitk.sitkLinear, *geometry)
    nodule = sitk.Resample(labels, whole.size_xyz, sitk.Transform(), sitk.sitkNearestNeighbor, *geometry)
    hu, nodule = (sitk.RegionOfInterest(image, SHAPE, before.tolist()) for image in (hu, nodule))
    return sitk.GetArrayFromImage(hu), sitk.GetArrayFromImage(nodule)


def monai_way(reader: str) -> Callable[[Path, Path], Found]:
    """MONAI's transforms in their thriftiest order: load both, crop around the mask, resample the crop alone.

    `Spacing` would place its voxels by the crop's corner. `SpatialResample` takes the patch's own affine instead: they
    are at the positions of ours, and there are exactly 32 x 32 x 32.
    """
    # MONAI imports TensorFlow where it is installed, and both have much to say about what they lack.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("monai").setLevel(logging.ERROR)
    import torch
    from monai.transforms import CropForegroundd, LoadImaged, Orientationd, SpatialResample

    keys = ("image", "mask")
    load = LoadImaged(keys, reader=reader, ensure_channel_first=True)
    # Which way the slices are stacked is not the same for both files with every reader.
    turn = Orientationd(keys, axcodes="LPS", labels=None)
    crop = CropForegroundd(keys, source_key="mask", margin=(24, 24, 12))
    linear = SpatialResample(mode="bilinear", padding_mode="border", align_corners=True, dtype=torch.float32)
    nearest = SpatialResample(mode="nearest", padding_mode="zeros", align_corners=True, dtype=torch.float32)

    def run(ct: Path, mask: Path) -> Found:
        cropped = crop(turn(load({"image": str(ct), "mask": str(mask)})))
        affine = cropped["mask"].affine.numpy()
        centroid = affine[:3, :3] @ np.argwhere(cropped["mask"][0].numpy() > 0).mean(axis=0) + affine[:3, 3]
        target = np.eye(4)
        target[:3, :3] = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0) * SPACING_XYZ
        target[:3, 3] = centroid - target[:3, :3] @ ((np.array(SHAPE) - 1) / 2)
        target = torch.from_numpy(target)
        hu = linear(cropped["image"], dst_affine=target, spatial_size=SHAPE)
        labels = nearest(cropped["mask"], dst_affine=target, spatial_size=SHAPE)
        return hu[0].numpy().transpose(2, 1, 0), labels[0].numpy().transpose(2, 1, 0)

    return run


def peers() -> tuple[dict[str, Callable[[Path, Path], Found]], dict[str, str]]:
    """What can be run here, and why the others cannot."""
    found: dict[str, Callable[[Path, Path], Found]] = {"SimpleITK, all resampled": resample_everything}
    skipped = {}
    for reader, package in {"ITKReader": "itk", "PydicomReader": "pydicom"}.items():
        missing = [name for name in ("monai", package, "nibabel") if not importlib.util.find_spec(name)]
        if missing:
            skipped[f"MONAI, {reader}"] = f"{', '.join(missing)} not installed (extra [bench])"
        else:
            found[f"MONAI, {reader}"] = monai_way(reader)
    return found, skipped


def check_same(found: dict[str, Found]) -> None:
    """End the script unless all patches are ours, to 1 HU."""
    (_, (hu, mask)), *others = found.items()
    for name, (other_hu, other_mask) in others:
        apart, differing = float(np.abs(other_hu - hu).max()), int(np.count_nonzero(other_mask != mask))
        if apart > 1 or differing:
            raise click.ClickException(f"{name}: another patch, by up to {apart:.1f} HU and {differing} mask voxels.")


def compare(ct: Path, mask: Path, repeats: int, as_json: bool) -> None:
    others, skipped = peers()
    ways = {"ggn_tf": ours, **others}
    check_same({name: way(ct, mask) for name, way in ways.items()})
    contestants = {name: (lambda way=way: way(ct, mask)) for name, way in ways.items()}
    report("a patch of a thorax in DICOM", measure(contestants, repeats, warm_up=1), "ggn_tf", as_json, skipped)


def split_up(ct: Path, mask: Path, repeats: int, as_json: bool) -> None:
    """Where our time goes, and how long the reading alone of the same bytes takes."""
    patch = cut_patch_from(ct, NoduleTarget(mask), PROTOCOL)
    volume = open_volume(ct)
    box = volume.grid.box_around(patch.grid)
    needed = volume.slices[box.start_xyz[2] : box.last_xyz[2] + 1]

    def read_bytes() -> None:
        for path in volume.slices:
            with path.open("rb", buffering=0) as file:
                file.read(1 << 14)
        for path in (*needed, mask):
            path.read_bytes()

    parts = {
        "a patch": lambda: cut_patch_from(ct, NoduleTarget(mask), PROTOCOL),
        f"headers of {len(volume.slices)} slices": lambda: open_volume(ct),
        "mask": lambda: place_mask(mask, volume),
        f"voxels of {len(needed)} slices": lambda: volume.read(box),
        "reading these bytes alone": read_bytes,
    }
    report("where the time goes", measure(parts, repeats), "a patch", as_json, {})


def scale(ct: Path, mask: Path, count: int, repeats: int, as_json: bool) -> None:
    """Every run in a process of its own, so that its peak memory is its own."""
    runs: dict[int, list[dict[str, float]]] = {1: [], 2: []}
    for _ in range(repeats):
        for jobs, done in runs.items():
            code = f"import bench_prepare; bench_prepare.print_run({str(ct)!r}, {str(mask)!r}, {count}, {jobs})"
            command = [sys.executable, "-c", code]
            output = subprocess.run(command, cwd=Path(__file__).parent, stdout=subprocess.PIPE, check=True).stdout
            done.append(json.loads(output))
    rows = [
        {"jobs": jobs, **{name: statistics.median(run[name] for run in done) for name in done[0]}}
        for jobs, done in runs.items()
    ]
    title = f"prepare_cases, {count} cases"
    if as_json:
        click.echo(json.dumps({"title": title, "rows": rows}))
        return
    names = ("processes", "cases a second", "to the first, s", "processor ms a case", "peak MB", "of a worker, MB")
    table = Table(*names, title=title)
    for row in rows:
        table.add_row(
            str(row["jobs"]),
            f"{row['cases_a_second']:.1f}",
            f"{row['first_s']:.1f}",
            f"{row['processor_ms_a_case']:.0f}",
            f"{row['peak_mb']:.0f}",
            f"{row['worker_peak_mb']:.0f}",
        )
    Console().print(table)


def print_run(ct: str, mask: str, count: int, jobs: int) -> None:
    """Prepare a thorax as often as asked, each time under another name, as if it were another CT."""
    with tempfile.TemporaryDirectory() as folder:
        cases = []
        for number in range(count):
            image = Path(folder) / f"thorax-{number:03d}"
            image.symlink_to(ct, target_is_directory=True)
            cases.append(Case(image.name, image.name, image, Path(mask), "IAC", None, None, {}))
        start = time.perf_counter()
        moments = []
        for _, patch in prepare_cases(cases, PROTOCOL, jobs):
            if isinstance(patch, Exception):
                raise patch
            moments.append(time.perf_counter() - start)
            if len(moments) == count:
                workers = [process.pid for process in multiprocessing.active_children()]
                peaks = [peak_mb(process) for process in workers]
                busy_s = sum(map(processor_s, (os.getpid(), *workers)))
        measured = {
            "seconds": moments[-1],
            "cases_a_second": count / moments[-1],
            "first_s": moments[0],
            "processor_ms_a_case": 1e3 * busy_s / count,
            "peak_mb": peak_mb(os.getpid()) + sum(peaks),
            "worker_peak_mb": max(peaks, default=0.0),
        }
        click.echo(json.dumps(measured))


def peak_mb(process: int) -> float:
    """Peak memory of a process in MB; NaN where the system does not report it."""
    status = Path(f"/proc/{process}/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.is_file() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), float("nan"))


def processor_s(process: int) -> float:
    """The processor time of a process, imports included: unlike the clock's, it is the same on a busy machine."""
    stat = Path(f"/proc/{process}/stat")
    if not stat.is_file():
        return float("nan")
    # The name, in brackets, may contain blanks; the times are fields 14 and 15 (proc(5)).
    fields = stat.read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@click.command()
@click.option("--data", type=click.Path(path_type=Path), default=default_folder, help="Folder of dicom/ and mask.")
@click.option("--repeats", default=9, show_default=True)
@click.option("--parts", is_flag=True, help="Also print the time of our parts.")
@click.option("--scaling", is_flag=True, help="Cases a second and memory of 1 and 2 processes.")
@click.option("--cases", default=40, show_default=True, help="For --scaling.")
@click.option("--json", "as_json", is_flag=True)
def main(data: Path, repeats: int, parts: bool, scaling: bool, cases: int, as_json: bool) -> None:
    ct, mask = data / "dicom", data / MASK
    if not ct.is_dir() or not mask.is_file():
        raise click.ClickException(f"no thorax in {data}: give --data, or set GGN_TF_REAL_DATA")
    warnings.filterwarnings("ignore", module="monai")
    compare(ct, mask, repeats, as_json)
    if parts:
        split_up(ct, mask, repeats, as_json)
    if scaling:
        scale(ct, mask, cases, 3, as_json)


if __name__ == "__main__":
    main()
