"""Studies and cross-validations whose processes are killed by the operating system and that are started again."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from ggn_tf.dataset.records import Dataset
from ggn_tf.runs.run_folder import RunFolder
from tests.support.processes import Process, has_begun_writing, kill_when, run_module
from tests.support.tiny_fit import results

# Time for a training to see that its parent is gone: the start of TensorFlow and one step, on a busy machine.
PATIENCE_S = 180


def begin(program: str, dataset: Dataset, study: Path, epochs: int) -> Process:
    return Process(run_module, f"tests.support.{program}", dataset.folder, study, epochs)


def progress_of(study: Path) -> int:
    """The number of finished epochs and predictions tables."""
    epochs = sum(len(path.read_text(encoding="utf-8").splitlines()) - 1 for path in study.glob("runs/*/history.csv"))
    return epochs + len(list(study.glob("predictions/*.csv")))


def has_reached(study: Path, moment: float) -> bool:
    return progress_of(study) >= moment


def is_writing_results(study: Path) -> bool:
    return has_begun_writing(study, "results")


def outputs(study: Path) -> dict[str, str]:
    """Weights and history of every run, the predictions, and the tables, exact to the bit."""
    runs = {path.name: str(results(RunFolder.open(path))) for path in study.glob("runs/*")}
    folders = ("predictions", "results")
    files = [path for folder in folders for path in (study / folder).rglob("*") if path.suffix in (".csv", ".md")]
    files += study.glob("*.csv")
    return runs | {str(path.relative_to(study)): path.read_text(encoding="utf-8") for path in files}


def kill_again_and_again(program: str, dataset: Dataset, folder: Path, kills: int, epochs: int, writing: int) -> None:
    """Kill a program at random moments of its progress, and the last times while it writes its results."""
    whole, killed = folder / "whole", folder / "killed"
    assert begin(program, dataset, whole, epochs).wait() == 0
    generator = np.random.default_rng(4)
    moments = np.sort(generator.uniform(0, progress_of(whole) - 1, kills - writing))
    ready = [partial(has_reached, killed, moment) for moment in moments] + [
        partial(is_writing_results, killed)
    ] * writing
    for number, reached in enumerate(ready):
        delay, workers_too = float(generator.uniform(0, 0.3)), number % 2 == 1
        process = begin(program, dataset, killed, epochs)
        kill_when(process, reached, delay, workers_too=workers_too, patience_s=PATIENCE_S)
        unfinished = [killed / name for name in ("results", "predictions.csv") if (killed / name).exists()]
        assert not unfinished, "half-written results have the name of complete ones"
    assert begin(program, dataset, killed, epochs).wait() == 0
    assert outputs(killed) == outputs(whole)


@pytest.mark.nightly
def test_a_study_killed_at_random_moments_ends_in_the_same_bits(dataset: Dataset, tmp_path: Path):
    kill_again_and_again("tiny_study", dataset, tmp_path, kills=20, epochs=5, writing=4)


@pytest.mark.nightly
def test_a_cross_validation_killed_at_random_moments_ends_in_the_same_bits(dataset: Dataset, tmp_path: Path):
    kill_again_and_again("tiny_crossval", dataset, tmp_path, kills=20, epochs=5, writing=0)
