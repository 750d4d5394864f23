import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from ggn_tf import TrainingProgress
from ggn_tf.cli import main
from ggn_tf.cli.stop_signal import StopSignal
from ggn_tf.cli.terminal import EpochBars
from tests.support.shared_fit import configurations
from tests.support.synthetic import write_synthetic_dataset


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dataset of 24 nodules, whose patches are the paper's size."""
    folder = tmp_path_factory.mktemp("work")
    write_synthetic_dataset(folder / "dataset", cases=24)
    return folder


@pytest.fixture
def folder(data: Path, tmp_path: Path) -> Path:
    (tmp_path / "dataset").symlink_to(data / "dataset")
    return tmp_path


def fit(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str):
    monkeypatch.chdir(folder)
    return CliRunner().invoke(main, ["fit", *arguments])


@pytest.mark.parametrize(
    "arguments",
    [
        ("--epochs", "1,2"),
        ("--epochs", "1,x,3"),
        ("--learning-rates", "1,0,1"),
        ("--learning-rates", "nan,1,1"),
        ("--joint-weight", "nan"),
        ("--joint-weight=-1",),
        ("--checkpoint-minutes", "inf"),
    ],
)
def test_numbers_must_be_finite_and_those_of_stages_three(folder: Path, monkeypatch, arguments: tuple[str, ...]):
    assert fit(folder, monkeypatch, *arguments).exit_code == 2


def test_a_single_number_of_epochs_is_refused_with_an_example(folder: Path, monkeypatch):
    assert "as 12,20,6 is" in fit(folder, monkeypatch, "--epochs", "1").stderr


@pytest.mark.parametrize(
    ("strategy", "config", "message"),
    [
        ("multiworker", None, "not set"),
        ("multiworker", '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 5}}', '"index": 5'),
        ("mirrored", '{"cluster": {"worker": ["a:1", "b:1"]}}', "one machine"),
    ],
)
def test_machines_that_are_not_known_begin_no_run(folder: Path, monkeypatch, strategy: str, config: str, message: str):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config:
        monkeypatch.setenv("TF_CONFIG", config)
    result = fit(folder, monkeypatch, "--strategy", strategy)
    assert result.exit_code == 1
    assert message in result.output and "TF_CONFIG" in result.output and "Traceback" not in result.output
    assert not (folder / "runs").exists()


@pytest.mark.parametrize("index", [pytest.param(0, marks=pytest.mark.nightly), pytest.param(1, marks=pytest.mark.slow)])
def test_a_machine_that_waits_for_another_is_ended_by_ctrl_c(folder: Path, index: int):
    config = configurations(2)[index]
    command = [sys.executable, "-m", "ggn_tf", "fit", "--strategy", "multiworker", "-o", "run"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "TF_CONFIG": config}
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
    told = process.stdout.readline()
    assert ("worker 1 of 2" if index else "dataset") in told
    time.sleep(1)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("elsewhere",), "elsewhere"),
        (("--task", "AAH"), "one class"),
        (("--task", "1+2,4+5"), "labels AAH, AIS, IAC, MIA"),
        (("--split", "99"), "99"),
        (("--splits", "missing.csv"), "(option --splits)"),
    ],
)
def test_bad_input_is_one_block_and_begins_no_run(folder: Path, monkeypatch, arguments: tuple[str, ...], message: str):
    result = fit(folder, monkeypatch, *arguments)
    assert result.exit_code == 1
    assert result.output.startswith("error: ") and message in result.output and "remedy:" in result.output
    assert "Traceback" not in result.output
    assert not (folder / "runs").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_to_stop_and_the_second_ends(number: signal.Signals):
    with StopSignal("stopping") as stop:
        assert not stop.requested()
        os.kill(os.getpid(), number)
        assert stop.requested()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)


@pytest.mark.parametrize(("epoch", "done", "verb"), [(1, 0, "begins:"), (1, 1, "resumes:"), (2, 0, "resumes:")])
def test_each_stage_reports_once_that_it_begins_or_resumes(
    capsys: pytest.CaptureFixture[str], epoch: int, done: int, verb: str
):
    with EpochBars() as bars:
        for stage, first in (("segment", (epoch, done)), ("joint", (1, 0))):
            bars.show(TrainingProgress(stage, *first, 3))
            bars.show(TrainingProgress(stage, 3, 1, 3, loss=0.5))
    lines = [line.split()[:2] for line in capsys.readouterr().err.splitlines() if "first step" in line]
    assert lines == [["segment", verb], ["joint", "begins:"]]


def test_a_place_that_cannot_be_written_is_one_block(folder: Path, monkeypatch):
    result = fit(folder, monkeypatch, "-o", "/proc/run")
    assert result.exit_code == 1 and "  case:     /proc/run" in result.output
    assert "Traceback" not in result.output


@pytest.mark.nightly
def test_without_arguments_the_joint_model_of_the_dataset_here_is_trained(folder: Path, monkeypatch):
    result = fit(folder, monkeypatch, "--epochs", "1,1,1")
    assert result.exit_code == 0, result.output
    assert "task       AAH+AIS,MIA+IAC" in result.stdout and "joint      up to 1 epochs" in result.stdout
    assert "joint     epoch   1" in result.stderr
    run = folder / "runs" / "cascade-AAH+AIS_MIA+IAC-split1-seed0"
    assert (run / "model.keras").is_file() and (run / "history.csv").read_text(encoding="utf-8").count("\n") == 4
    assert "exact      to the bit: on a CPU" in result.stdout
    conditions = json.loads((run / "run.json").read_text(encoding="utf-8"))["conditions"]
    assert conditions["bit_for_bit"] is True and conditions["threads"] >= 1 and conditions["deterministic"] is False
    again = fit(folder, monkeypatch, "--epochs", "1,1,1")
    assert again.exit_code == 0 and "joint      finished" in again.output
    other = fit(folder, monkeypatch, "--epochs", "2,1,1", "-o", str(run))
    assert other.exit_code == 1 and "protocol.training.segment.max_epochs = 1" in other.output
