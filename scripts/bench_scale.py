"""Time and memory of `ggn-tf prepare` against the number of cases, by both runners.

python scripts/bench_scale.py [--cases 5000,10000,20000]

Small volumes, 64 different ones under as many names as there are cases. Needs the extra [beam] for its rows.
"""

import csv
import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np
import SimpleITK as sitk  # noqa: N813
from rich.console import Console
from rich.table import Table

DIFFERENT = 64
SIZE_ZYX, SPACING_XYZ = (24, 40, 40), (0.8, 0.8, 1.25)
RUNNERS = {
    "processes": ["--jobs", "2"],
    "beam": ["--runner", "beam", "--", "--direct_num_workers=2", "--direct_running_mode=multi_processing"],
}


@click.command()
@click.option("--cases", default="5000,10000,20000", show_default=True, help="Sizes of the table.")
def main(cases: str) -> None:
    table = Table("runner", "cases", "seconds", "cases / s", "largest process MB", "fingerprint")
    with tempfile.TemporaryDirectory() as folder:
        write_volumes(Path(folder))
        for count in map(int, cases.split(",")):
            write_table(Path(folder), count)
            for runner in RUNNERS:
                if runner == "beam" and importlib.util.find_spec("apache_beam") is None:
                    continue
                seconds, megabytes, fingerprint = prepare(Path(folder), runner)
                row = (runner, count, f"{seconds:.1f}", f"{count / seconds:.0f}", f"{megabytes:.1f}", fingerprint)
                table.add_row(*map(str, row))
                # At once, too: the largest sizes take long enough to be stopped.
                click.echo(" ".join(map(str, row)), err=True)
    Console().print(table)


def write_volumes(folder: Path) -> None:
    generator = np.random.default_rng(0)
    z, y, x = np.meshgrid(*(np.arange(size) - size / 2 for size in SIZE_ZYX), indexing="ij")
    for number in range(DIFFERENT):
        mask = (1.25 * z) ** 2 + (0.8 * y) ** 2 + (0.8 * x) ** 2 < generator.uniform(4, 8) ** 2
        hu = generator.normal(-850, 30, SIZE_ZYX) + 350 * mask
        for name, values in (("ct", hu.astype(np.int16)), ("mask", mask.astype(np.uint8))):
            image = sitk.GetImageFromArray(values)
            image.SetSpacing(SPACING_XYZ)
            sitk.WriteImage(image, str(folder / f"{name}{number}.nii"))


def write_table(folder: Path, count: int) -> None:
    """As many cases as asked for; neighbours are different volumes."""
    header = ["case_id", "patient_id", "image", "mask", "label"]
    with (folder / "cases.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(header)
        for number in range(count):
            volume = number % DIFFERENT
            label = ("AAH", "MIA", "IAC")[number % 3]
            rows.writerow(
                [f"case{number:06d}", f"patient{number // 2:06d}", f"ct{volume}.nii", f"mask{volume}.nii", label]
            )


def prepare(folder: Path, runner: str) -> tuple[float, float, str]:
    """Seconds, peak memory of one process in MB, and the SHA-256 of dataset.json.

    The processes are prepare's own and those it waited for; in every run the largest was its own, which assembles.
    """
    with tempfile.TemporaryDirectory() as out:
        dataset, options = Path(out) / "dataset", RUNNERS[runner]
        program = [sys.executable, "-c", "from ggn_tf.cli import main; main()"]
        command = [*program, "prepare", folder / "cases.csv", "-o", dataset, "--keep-ids", *options]
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        if status:
            raise SystemExit(f"prepare failed: {command}")
        digest = hashlib.sha256((dataset / "dataset.json").read_bytes()).hexdigest()
        return seconds, usage.ru_maxrss / 1024, digest[:12]


if __name__ == "__main__":
    main()
