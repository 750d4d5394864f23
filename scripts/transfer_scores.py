#!/usr/bin/env python
"""Compares first weights by the number of training nodules: random, or trained on another label; prints a table.

python scripts/transfer_scores.py CASES.csv OUT [--size 30 --size 60 --size 120] [--draws 5]

Patients are divided once: two fifths test, one fifth selects the weights, and the nodules of each draw come from the
others. The source learned the other label on every nodule of these others. OUT keeps datasets and runs: what is there
is not repeated, and processes for different sizes can share it once the source is trained.
"""

import itertools
from pathlib import Path

import click
import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

import ggn_tf
from ggn_tf.evaluation.run_predictions import predict_run
from ggn_tf.evaluation.statistics.bootstrap import resample
from ggn_tf.evaluation.statistics.predictions_table import probabilities
from ggn_tf.evaluation.statistics.scores import class_indices, resampled_class_auc
from ggn_tf.protocol import quick_protocol
from ggn_tf.runs.run_folder import RunFolder, open_run_dataset, read_run_split

TASK, LABEL = "1+2,4+5", "malignancy"
SOURCE_TASK, SOURCE_LABEL = "1+2+3,4+5", "texture"
RATE = quick_protocol().training.classify.learning_rate
EPOCHS = 30
"""More than those of the protocol `quick`: an epoch of 30 nodules has two steps."""
_REPLICATES = 2000


def divide(table: pd.DataFrame) -> pd.Series:
    """The set of every nodule, by patients: `train` for those that draws are taken from."""
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0).split(table, table[LABEL], table["patient_id"])
    number = pd.Series(-1, table.index)
    for fold, (_, part) in enumerate(folds):
        number.iloc[part] = fold
    return number.map({0: "test", 1: "test", 2: "validation", 3: "train", 4: "train"})


def draw(pool: pd.DataFrame, size: int, seed: int) -> pd.Index:
    """Nodules of a training set with the classes in the pool's shares."""
    malignant = pool[LABEL].isin((4, 5))
    share = round(size * malignant.mean())
    parts = (pool[malignant].sample(share, random_state=seed), pool[~malignant].sample(size - share, random_state=seed))
    return pd.concat(parts).index


def prepare(table: pd.DataFrame, label: str, folder: Path) -> Path:
    """A dataset of these nodules with the split in the column `set`, unless it is there."""
    if not (folder / "dataset").exists():
        folder.mkdir(parents=True, exist_ok=True)
        table.to_csv(folder / "cases.csv", index=False)
        table[["case_id", "set"]].to_csv(folder / "split.csv", index=False)
        ggn_tf.prepare(folder / "cases.csv", folder / "dataset", label_column=label, keep_ids=True)
    return folder


def train(folder: Path, task: str, name: str, start: Path | None, seed: int) -> RunFolder:
    """Train the classifier on CT, or resume."""
    run = folder / name
    ggn_tf.fit(
        folder / "dataset",
        task=task,
        model="raw",
        splits=folder / "split.csv",
        seed=seed,
        start_from=start,
        protocol="quick",
        epochs=(1, EPOCHS, 1),
        # Given, because a run that starts from weights would otherwise have a tenth of them.
        learning_rates=(1e-3, RATE, 1e-4),
        select_by="auc",
        run=run,
    )
    return RunFolder.open(run)


def predict(run: RunFolder) -> pd.DataFrame:
    """The predictions of the test set."""
    dataset = open_run_dataset(run, None)
    rows = predict_run(run, dataset, read_run_split(run, dataset))
    return rows[rows["set"] == "test"].sort_values("case", ignore_index=True)


def print_size(size: int, predictions: dict[str, list[pd.DataFrame]]) -> None:
    """Print the mean AUC over the draws of each way to start, with intervals over patients, as rows of the table."""
    resampling = resample(next(iter(predictions.values()))[0]["patient"].to_numpy(dtype=str), _REPLICATES, 0)
    areas = {
        name: np.array(
            [resampled_class_auc(class_indices(rows)[0], probabilities(rows), resampling.weights) for rows in draws]
        )
        for name, draws in predictions.items()
    }
    first = next(iter(areas.values()))
    for name, each in areas.items():
        mean, less = each.mean(axis=0), each - first
        low, high = resampling.interval(mean) or (np.nan, np.nan)
        cell = f"{mean[0]:.3f} ± {each[:, 0].std(ddof=1):.3f} [{low:.3f}, {high:.3f}]"
        difference = ""
        if each is not first:
            low, high = resampling.difference_interval(less.mean(axis=0)) or (np.nan, np.nan)
            difference = f"{less[:, 0].mean():+.3f} ± {less[:, 0].std(ddof=1):.3f} [{low:+.3f}, {high:+.3f}]"
        click.echo(f"| {size} | {name} | {cell} | {difference} |")


@click.command()
@click.argument("cases", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--size", "sizes", multiple=True, type=int, default=(30, 60, 120), help="Number of training nodules.")
@click.option("--draws", type=click.IntRange(min=2), default=5, help="Number of training sets of each size.")
def command(cases: Path, out: Path, sizes: tuple[int, ...], draws: int) -> None:
    """Compare first weights on the nodules of CASES, in OUT."""
    table = pd.read_csv(cases)
    for column in ("image", "mask"):
        table[column] = [str(cases.parent.absolute() / path) for path in table[column]]
    table = table.assign(set=divide(table))
    source = train(prepare(table, SOURCE_LABEL, out / "source"), SOURCE_TASK, "run", None, 0).folder
    starts = {"random": None, SOURCE_LABEL: source}
    judged = table[table[LABEL] != 3]
    predictions: dict[tuple[int, str], list[pd.DataFrame]] = {}
    for size, seed in itertools.product(sizes, range(draws)):
        kept = draw(judged[judged["set"] == "train"], size, seed)
        folder = prepare(judged[(judged["set"] != "train") | judged.index.isin(kept)], LABEL, out / f"{size}-{seed}")
        for name, start in starts.items():
            run = train(folder, TASK, f"run-{name}", start, seed)
            predictions.setdefault((size, name), []).append(predict(run))
    click.echo(
        "| nodules | first weights | AUC, mean ± SD over draws [95 % over test patients] "
        "| less random, ± SD over draws [95 % over test patients] |\n|---|---|---|---|"
    )
    for size in sizes:
        print_size(size, {name: predictions[size, name] for name in starts})


if __name__ == "__main__":
    command()
