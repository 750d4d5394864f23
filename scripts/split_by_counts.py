"""Draws a split with exact numbers of test nodules per label, by whole patients, for `fit --splits`.

python scripts/split_by_counts.py cases.csv split.csv --test AAH=11,AIS=58,MIA=101,IAC=55

These are the numbers of the paper's Table 1. Patients are drawn in random order and taken where they still fit.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import click
import numpy as np
import pandas as pd

from ggn_tf.protocol import SplitProtocol

_ATTEMPTS = 1000


@click.command()
@click.argument("table", type=click.Path(path_type=Path, exists=True))
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--test", "counts", required=True, help="Test nodules per label, for example AAH=11,AIS=58.")
@click.option("--validation-fraction", default=SplitProtocol.validation_fraction, show_default=True)
@click.option("--label-column", default="label", show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(table: Path, output: Path, counts: str, validation_fraction: float, label_column: str, seed: int) -> None:
    cases = pd.read_csv(table, dtype=str, keep_default_na=False).rename(columns={label_column: "label"})
    wanted = {label.strip(): int(count) for label, count in (part.split("=") for part in counts.split(","))}
    split = draw_split(cases, wanted, validation_fraction, seed)
    split.to_csv(output, index=False)
    numbers = split.merge(cases, on="case_id").groupby(["label", "set"]).size().unstack(fill_value=0)
    click.echo(numbers.to_string())


def draw_split(cases: pd.DataFrame, test: Mapping[str, int], validation_fraction: float, seed: int) -> pd.DataFrame:
    """Assign every nodule to a set; columns `case_id` and `set`.

    Args:
        cases: Columns `case_id`, `patient_id`, `label`.
        test: Number of test nodules per label; labels that are not named have none.
        validation_fraction: Fraction of each label's other nodules that validate.
        seed: Seed of the draw.
    """
    chosen = cases["patient_id"].isin(draw_patients(cases, test, seed))
    rest = cases[~chosen]
    wanted = {label: round(validation_fraction * count) for label, count in rest["label"].value_counts().items()}
    validating = cases["patient_id"].isin(draw_patients(rest, wanted, seed + 1))
    sets = np.select([chosen, validating], ["test", "validation"], "train")
    return pd.DataFrame({"case_id": cases["case_id"], "set": sets})


def draw_patients(cases: pd.DataFrame, counts: Mapping[str, int], seed: int) -> set[str]:
    """Whole patients with exactly these numbers of nodules per label."""
    patients = {patient: Counter(rows["label"]) for patient, rows in cases.groupby("patient_id")}
    generator = np.random.default_rng(seed)
    for _ in range(_ATTEMPTS):
        left, chosen = Counter({label: count for label, count in counts.items() if count}), set()
        for patient in generator.permutation(sorted(patients)):
            if patients[patient] <= left:
                left -= patients[patient]
                chosen.add(patient)
        if not left:
            return chosen
    raise click.ClickException(f"No whole patients with these numbers were found: {dict(counts)}")


if __name__ == "__main__":
    main()
