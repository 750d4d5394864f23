"""Train the weights of a release: per network its trainings in half precision, an export, cards, scores and digests.

python scripts/train_released_weights.py CASES.csv OUT [--protocol quick]

The table has a row per nodule and the columns of the labels (docs/your-cts.md). OUT/asset is what a release publishes;
OUT/work contains the datasets and runs, and resumes. The asset's `.keras` files are for `fit --start-from`, its models
for `predict --export`.
"""

import io
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import h5py
import numpy as np

import ggn_tf
from ggn_tf.files import atomic_folder, sha256
from ggn_tf.protocol import PROTOCOLS, Protocol

WEIGHTS = "model.weights.h5"
ATTRIBUTION = """# Weights of ggn-tf

Trained with ggn-tf on nodules of LIDC-IDRI, The Cancer Imaging Archive, doi:10.7937/K9/TCIA.2015.LO9QL9SX, licence
CC BY 3.0 (https://creativecommons.org/licenses/by/3.0/): Armato SG 3rd et al., "Data From LIDC-IDRI" (2015), and
Medical Physics 38(2):915-931 (2011). CT cubes from the NODE21 challenge's generation baseline (Apache-2.0), resampled
to 1 mm and cut around the nodules; masks are consensus masks of the readers. The weights are changed material in the
sense of that licence: no creator of the data endorses them.

For research. Not a medical device.

`NAME-SEED.keras` are for `ggn-tf fit --start-from`; `models/NAME`, their mean, for `ggn-tf predict --export`. A card
and the scores of each training are beside it. The `.keras` files are in half precision; the scores are of the weights
in single precision. Tests on LIDC-IDRI, LUNA16 or NODE21 have patients among the test cases of whom these weights have
learned.
"""


@dataclass(frozen=True)
class Network:
    """A network of the release: its name, the column with its labels, its task, and the number of its trainings."""

    name: str
    column: str
    task: str
    trainings: int


NETWORKS = (
    Network("malignancy", "malignancy", "1+2,4+5", 5),
    Network("texture", "texture", "1+2+3,4+5", 1),
)


def store_half(file: Path, target: Path) -> None:
    """Copy a `.keras` file with its weights in half precision."""
    with zipfile.ZipFile(file) as source, zipfile.ZipFile(target, "w") as copy:
        content = io.BytesIO(source.read(WEIGHTS))
        stored = io.BytesIO()
        with h5py.File(content, "r") as weights, h5py.File(stored, "w") as half:
            _copy_half(weights, half)
        for name in source.namelist():
            copy.writestr(name, stored.getvalue() if name == WEIGHTS else source.read(name))


def _copy_half(source: h5py.Group, target: h5py.Group) -> None:
    target.attrs.update(source.attrs)
    for name, item in source.items():
        if isinstance(item, h5py.Group):
            _copy_half(item, target.create_group(name))
        else:
            values = item[()]
            target[name] = values.astype(np.float16) if np.issubdtype(values.dtype, np.floating) else values


def train(table: Path, out: Path, networks: Sequence[Network], protocol: Protocol) -> Path:
    """Train all networks, and write the asset, which must not exist; what is finished is not repeated."""
    work = out / "work"
    runs: list[tuple[Network, int, ggn_tf.Run]] = []
    for network in networks:
        dataset = work / network.name
        if not dataset.exists():
            ggn_tf.prepare(table, dataset, label_column=network.column)
        for seed in range(network.trainings):
            run = ggn_tf.fit(
                dataset, task=network.task, seed=seed, protocol=protocol, run=work / "runs" / f"{network.name}-{seed}"
            )
            ggn_tf.evaluate(run)
            runs.append((network, seed, run))
    with atomic_folder(out / "asset") as asset:
        for network, seed, run in runs:
            store_half(run.folder / "stages" / f"{run.stages[-1]}.keras", asset / f"{network.name}-{seed}.keras")
            for name in ("model_card.md", "scores.json"):
                shutil.copy(run.folder / "evaluation" / name, asset / f"{network.name}-{seed}.{name}")
        for network in networks:
            members = [run for owner, _, run in runs if owner == network]
            ggn_tf.export(members, asset / "models" / network.name)
        (asset / "README.md").write_text(ATTRIBUTION, encoding="utf-8")
        files = sorted(file for file in asset.rglob("*") if file.is_file())
        sums = "".join(f"{sha256(file)}  {file.relative_to(asset).as_posix()}\n" for file in files)
        (asset / "SHA256SUMS").write_text(sums, encoding="utf-8")
    return out / "asset"


@click.command()
@click.argument("table", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--protocol", type=click.Choice(tuple(PROTOCOLS)), default="paper", help="Numbers of the training.")
def command(table: Path, out: Path, protocol: str) -> None:
    """Train the networks of a release on TABLE, into OUT."""
    click.echo(train(table, out, NETWORKS, PROTOCOLS[protocol]()))


if __name__ == "__main__":
    command()
