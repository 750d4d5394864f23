#!/usr/bin/env python
"""Measures which share of patches of each kind an export calls atypical; prints a table of docs/uncertainty.md.

python scripts/typicality_shares.py CV DATASET PHANTOMS THORAX.mha OUT

CV is a finished cross-validation on DATASET, of which every run is exported into OUT with a coverage. Nodules of its
validation and test patients whose label is in no class of the task are held out: their patients were not learned, and
the p values were not calibrated on them. PHANTOMS is a dataset of `ggn-tf phantom`. Places in THORAX, a CT of the whole
chest, are drawn at random.
"""

from pathlib import Path

import click
import numpy as np
import pandas as pd
import SimpleITK as sitk  # noqa: N813
from scipy import ndimage

import ggn_tf
from ggn_tf.dataset.pipeline import CaseStream, read_batches
from ggn_tf.dataset.records import Dataset, open_dataset
from ggn_tf.protocol import PatchProtocol
from ggn_tf.runs.run_folder import RunFolder, read_run_split
from ggn_tf.serving.contract.warning_texts import ATYPICAL_BELOW
from ggn_tf.serving.runtime.predict_request import LocalModel
from ggn_tf.studies.crossval import cv_runs

COUNT = 100
"""Number of places of each kind in the chest."""


def in_hu(patch: np.ndarray, protocol: PatchProtocol) -> np.ndarray:
    """Undo eq. 5."""
    low, high = protocol.window_hu
    return ((patch + 1) / 2 * (high - low) + low).astype(np.float32)


def patches_of(dataset: Dataset, case_ids: list[str]) -> np.ndarray:
    """The patches of nodules in HU, float32 [N, S, S, S, 1]."""
    stream = CaseStream(dataset, case_ids, None)
    batches = [batch.patch.numpy() for batch in read_batches(stream.in_order(16), stream)]
    return in_hu(np.concatenate(batches), dataset.protocol)


def places(ct: np.ndarray, spacing_mm_zyx: np.ndarray, generator: np.random.Generator) -> dict[str, np.ndarray]:
    """Voxels [N, 3] (z, y, x) of each kind, drawn at random in the middle of the CT."""
    solid = ndimage.binary_opening(ct > -300, iterations=2)
    body = np.stack([ndimage.binary_fill_holes(layer) for layer in solid])
    inside = ndimage.binary_erosion(body, iterations=4)
    air, count = ndimage.label((ct < -500) & inside)
    sizes = ndimage.sum_labels(np.ones_like(air), air, np.arange(1, count + 1))
    lung = np.isin(air, 1 + np.argsort(sizes)[-2:])
    closed = ndimage.binary_closing(lung, iterations=4) & inside
    depth_mm = ndimage.distance_transform_edt(closed, sampling=spacing_mm_zyx)
    away_mm = ndimage.distance_transform_edt(~closed, sampling=spacing_mm_zyx)
    kinds = {
        "vessels in the lung": closed & (ct > -200) & (depth_mm > 8),
        "lung without a vessel": lung & (ndimage.maximum_filter(ct, 7) < -600),
        "soft tissue, 15 mm outside the lung": body & (away_mm > 15) & (ct > 0) & (ct < 100),
        "bone": body & (away_mm > 5) & (ct > 300),
        "air outside the body": ~body & (ct < -900),
    }
    middle = np.zeros_like(body)
    middle[tuple(slice(round(17 / step), -round(17 / step)) for step in spacing_mm_zyx)] = True
    found = {name: np.argwhere(mask & middle) for name, mask in kinds.items()}
    return {
        name: voxels[generator.choice(len(voxels), COUNT, replace=False)]
        for name, voxels in found.items()
        if len(voxels) >= COUNT
    }


def held_out_cases(run: RunFolder, dataset: Dataset) -> tuple[list[str], list[str]]:
    """Nodules of held-out patients that are in no class, and all nodules of the test set."""
    split, task = read_run_split(run, dataset), run.description.task
    patients = {case.patient_id for case in dataset.select((*split.validation, *split.test))}
    others = [case for case in dataset.cases if case.patient_id in patients and task.class_of(case.label) is None]
    return [case.case_id for case in others], list(split.test)


def share(values: np.ndarray) -> tuple[int, int]:
    """Number of atypical patches, and of all."""
    return int((values < ATYPICAL_BELOW).sum()), len(values)


def _typicality(network: LocalModel, hu: np.ndarray) -> np.ndarray:
    values = network.predict(hu).typicality
    assert values is not None
    return values


@click.command()
@click.argument("cv", type=click.Path(path_type=Path))
@click.argument("dataset", type=click.Path(path_type=Path))
@click.argument("phantoms", type=click.Path(path_type=Path))
@click.argument("thorax", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
def command(cv: Path, dataset: Path, phantoms: Path, thorax: Path, out: Path) -> None:
    """Print the shares of each kind, over the runs of CV."""
    generator, rows = np.random.default_rng(0), []
    image = sitk.ReadImage(str(thorax))
    chosen = places(sitk.GetArrayFromImage(image), np.array(image.GetSpacing()[::-1]), generator)
    points = {
        name: [
            ggn_tf.Point(*image.TransformIndexToPhysicalPoint([int(index) for index in voxel[::-1]])) for voxel in kind
        ]
        for name, kind in chosen.items()
    }
    for number, folder in enumerate(cv_runs(cv), start=1):
        run, model_folder = RunFolder.open(folder), out / f"fold{number}"
        if not model_folder.exists():
            ggn_tf.export(folder, model_folder, coverage=0.9)
        data = open_dataset(dataset, run.description.protocol.patch)
        phantom_data = open_dataset(phantoms, run.description.protocol.patch)
        others, tested = held_out_cases(run, data)
        whole, phantom = (
            patches_of(data, tested),
            patches_of(phantom_data, [case.case_id for case in phantom_data.cases]),
        )
        shuffled = np.stack([patch[generator.permutation(len(patch))] for patch in whole])
        patches = {"held-out nodules": patches_of(data, others), "phantoms": phantom, "shuffled slices": shuffled}
        with LocalModel(model_folder) as network:
            for name, hu in patches.items():
                parts = [_typicality(network, part) for part in np.array_split(hu, max(1, len(hu) // 16))]
                rows.append((name, *share(np.concatenate(parts))))
        with ggn_tf.load(model_folder) as model:
            for name, kind in points.items():
                nodules = model.predict(thorax, kind, recenter=False).nodules
                rows.append((name, *share(np.array([nodule.typicality for nodule in nodules]))))
    click.echo("| patches | atypical | n |\n|---|---|---|")
    sums = pd.DataFrame(rows, columns=["name", "atypical", "n"]).groupby("name", sort=False).sum()
    for name, atypical, count in sums.itertuples():
        click.echo(f"| {name} | {atypical / count:.1%} | {count} |")


if __name__ == "__main__":
    command()
