#!/usr/bin/env python
"""Measures how exact a follow-up is where the truth is known; prints the tables of docs/follow-up.md.

`scripts/follow_up_accuracy.py CASES [--count 100] [--export M]`, where CASES is the table of a folder of CTs and masks
of nodules (LIDC-IDRI in the documentation). Each CT is compared with itself, and with itself resampled, rotated by 8
degrees and shifted by 12 mm; pairs of CTs of different patients show what a wrong registration looks like. Without a
model the reference masks are used, moved by the known transform.
"""

import argparse
import csv
import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

import ggn_tf
from ggn_tf.cases.geometry.grid import Grid, Vector, vector
from ggn_tf.cases.growth import Compared
from ggn_tf.cases.masks import centroid_mm_lps
from ggn_tf.cases.phantom.anatomy import Nodule, draw_chest
from ggn_tf.cases.phantom.files import SCANNERS
from ggn_tf.cases.phantom.rendering import render_chest
from ggn_tf.cases.reader_process import run_in_reader
from ggn_tf.cases.registration import register
from ggn_tf.cases.volumes import open_volume
from ggn_tf.errors import FollowUpError
from ggn_tf.protocol import AIR_HU

DEGREES, SHIFT_MM, LATER_SPACING_MM = 8.0, 12.0, 0.8
GROWTHS_PERCENT = (0, 10, 27, 50, 100)
_PHANTOM_DIRECTION = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", type=Path)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--phantoms", type=int, default=20)
    parser.add_argument("--export", type=Path)
    parser.add_argument("--part", choices=("itself", "moved", "others", "phantoms"), action="append")
    arguments = parser.parse_args()
    parts = arguments.part or ["itself", "moved", "others", "phantoms"]
    with arguments.cases.open(encoding="utf-8") as table:
        rows = list(csv.DictReader(table))
    generator = np.random.default_rng(0)
    chosen = sorted(generator.choice(len(rows), min(arguments.count, len(rows)), replace=False).tolist())
    pairs = [(arguments.cases.parent / rows[n]["image"], arguments.cases.parent / rows[n]["mask"]) for n in chosen]
    model = None if arguments.export is None else ggn_tf.load(arguments.export)
    with tempfile.TemporaryDirectory() as name:
        if "itself" in parts:
            _print_itself(pairs, model)
        if "moved" in parts:
            _print_moved(pairs, model, Path(name), generator)
        if "others" in parts:
            patients = [rows[n]["patient_id"] for n in chosen]
            _print_others([image for image, _ in pairs], patients)
        if "phantoms" in parts:
            _print_phantoms(arguments.phantoms, model, Path(name))


def _follow(
    scans: Sequence[Path], masks: Sequence[Path], center: Vector, model: ggn_tf.Model | None
) -> ggn_tf.FollowUp:
    given = {} if model else {"earlier_mask": masks[0], "later_mask": masks[1]}
    return ggn_tf.follow(*scans, ggn_tf.Point(*center), model=model, **given)


def _volume_change(follow_up: ggn_tf.FollowUp) -> float:
    return follow_up.changes[0].relative_percent if follow_up.changes else np.nan


def _print_itself(pairs: Sequence[tuple[Path, Path]], model: ggn_tf.Model | None) -> None:
    found = [
        _follow([image] * 2, [mask] * 2, centroid_mm_lps(sitk.ReadImage(str(mask))), model) for image, mask in pairs
    ]
    known = [follow_up.changes for follow_up in found if follow_up.changes]
    changed = sum(any(change.absolute or change.compared is not Compared.WITHIN for change in row) for row in known)
    print(f"itself: n {len(found)}, with a mask {len(known)}, any change, or not within: {changed}", flush=True)


def _print_moved(
    pairs: Sequence[tuple[Path, Path]], model: ggn_tf.Model | None, folder: Path, generator: np.random.Generator
) -> None:
    changes, errors, correlations, failed = [], [], [], 0
    for image, mask in pairs:
        inside = sitk.ReadImage(str(mask))
        center = centroid_mm_lps(inside)
        transform = _motion(center, generator)
        later = _later_grid(sitk.ReadImage(str(image)), transform, center, generator)
        scan, later_mask = folder / "later.nii", folder / "later_mask.nii"
        sitk.WriteImage(_moved(sitk.ReadImage(str(image)), later, transform, sitk.sitkLinear, AIR_HU), str(scan))
        sitk.WriteImage(_moved(inside, later, transform, sitk.sitkNearestNeighbor, 0), str(later_mask))
        try:
            follow_up = _follow((image, scan), (mask, later_mask), center, model)
        except FollowUpError:
            failed += 1
            continue
        place = transform.TransformPoint(follow_up.registration.center_mm_lps)
        errors.append(
            np.linalg.norm(np.subtract(follow_up.registration.carried(follow_up.registration.center_mm_lps), place))
        )
        correlations.append(follow_up.registration.correlation)
        changes.append(_volume_change(follow_up))
    known = np.abs(np.array(changes)[np.isfinite(changes)])
    print(f"moved: n {len(pairs)}, failed {failed}, with both masks {len(known)}")
    print(f"  registration error (mm): {_spread(errors)}; correlation: {_spread(correlations)}")
    print(f"  |change of volume| (%): {_spread(known)}; more than 27 %: {np.count_nonzero(known > 27)}", flush=True)


def _print_others(images: Sequence[Path], patients: Sequence[str]) -> None:
    found = []
    for number, image in enumerate(images):
        other = next(n for n in range(number + 1, 2 * len(images)) if patients[n % len(images)] != patients[number])
        volumes = open_volume(image), open_volume(images[other % len(images)])
        center = vector(volumes[0].grid.corners_mm_lps().mean(axis=0))
        registration = run_in_reader(register, *volumes, center)
        found.append((registration.correlation, registration.failed) if registration else (0.0, True))
    correlations = [correlation for correlation, _ in found]
    failed = sum(failed for _, failed in found)
    print(f"others: n {len(found)}, correlation {_spread(correlations)}, recognised {failed}", flush=True)


def _print_phantoms(count: int, model: ggn_tf.Model | None, folder: Path) -> None:
    print("| growth of volume | measured: mean ± standard deviation | largest error | compared as more | n |")
    print("|---|---|---|---|---|")
    found: dict[int, list[tuple[float, bool]]] = {growth: [] for growth in GROWTHS_PERCENT}
    for number in range(count):
        scanner = dataclasses.replace(SCANNERS[number % 4], turned=False)
        chest = draw_chest([("AAH", "AIS", "MIA", "IAC")[number // 4 % 4]], scanner, np.random.default_rng(number))
        earlier = _write_phantom(folder / "earlier", chest, 1000 + number, (0.0, 0.0, 0.0))
        for growth in GROWTHS_PERCENT:
            grown = dataclasses.replace(chest, nodules=tuple(_grown(item, growth) for item in chest.nodules))
            later = _write_phantom(folder / "later", grown, 2000 + number, (7.0, -6.0, 7.7))
            center = centroid_mm_lps(sitk.ReadImage(str(earlier[1])))
            try:
                follow_up = _follow((earlier[0], later[0]), (earlier[1], later[1]), center, model)
            except FollowUpError:
                continue
            if follow_up.changes:
                found[growth].append((_volume_change(follow_up), follow_up.changes[0].compared.value == "more"))
    for growth, measured in found.items():
        changes = np.array([change for change, _ in measured])
        error, more = np.abs(changes - growth).max(initial=0), sum(more for _, more in measured)
        spread = f"{changes.mean():+.1f} ± {changes.std(ddof=1):.1f} %"
        print(f"| {growth} % | {spread} | {error:.1f} % | {more} | {len(measured)} |", flush=True)


def _grown(nodule: Nodule, percent: float) -> Nodule:
    factor = (1 + percent / 100) ** (1 / 3)
    larger = [dataclasses.replace(blob, radius_mm=blob.radius_mm * factor) for blob in (nodule.body, *nodule.cores)]
    return dataclasses.replace(nodule, body=larger[0], cores=tuple(larger[1:]))


def _write_phantom(stem: Path, chest: object, seed: int, origin: Vector) -> tuple[Path, Path]:
    """A CT and its mask; the seed is of texture and noise."""
    ct, masks = render_chest(chest, np.random.default_rng(seed))
    depth_mm, height_mm, width_mm = chest.scanner.spacing_mm_zyx
    grid = Grid(ct.shape[::-1], (width_mm, height_mm, depth_mm), origin, _PHANTOM_DIRECTION)
    paths = stem.with_suffix(".nii"), Path(f"{stem}_mask.nii")
    for path, voxels in zip(paths, (ct, masks[0]), strict=True):
        sitk.WriteImage(grid.image_of(voxels), str(path))
    return paths


def _motion(center: Vector, generator: np.random.Generator) -> sitk.VersorRigid3DTransform:
    axis, shift = generator.normal(size=(2, 3))
    transform = sitk.VersorRigid3DTransform()
    transform.SetCenter(center)
    transform.SetRotation((axis / np.linalg.norm(axis)).tolist(), float(np.radians(DEGREES)))
    transform.SetTranslation((SHIFT_MM * shift / np.linalg.norm(shift)).tolist())
    return transform


def _later_grid(image: sitk.Image, transform: sitk.Transform, center: Vector, generator: np.random.Generator) -> Grid:
    """As large as the CT, around a point up to 4 mm beside the nodule: its middle does not show where the nodule is."""
    grid = Grid.from_image(image)
    size = np.ceil(np.array(grid.size_xyz) * grid.spacing_mm_xyz / LATER_SPACING_MM).astype(int).tolist()
    middle = np.add(transform.TransformPoint(center), generator.uniform(-4, 4, 3))
    return Grid.around(vector(middle), tuple(size), (LATER_SPACING_MM,) * 3, grid.direction)


def _moved(image: sitk.Image, grid: Grid, transform: sitk.Transform, interpolator: int, outside: float) -> sitk.Image:
    place = (
        grid.size_xyz,
        transform.GetInverse(),
        interpolator,
        grid.origin_mm_lps,
        grid.spacing_mm_xyz,
        grid.direction,
    )
    return sitk.Resample(image, *place, outside)


def _spread(values: Sequence[float]) -> str:
    quantiles = np.quantile(values, [0.5, 0.9, 0.95, 1.0])
    return "median {:.3g}, 90 % {:.3g}, 95 % {:.3g}, largest {:.3g}".format(*quantiles)


if __name__ == "__main__":
    main()
