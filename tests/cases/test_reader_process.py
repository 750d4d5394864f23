"""A process that reads, and may end."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from unittest.mock import Mock

import pytest

from ggn_tf.cases import reader_process
from ggn_tf.cases.reader_process import ReaderEndedError, ReaderProcess


@pytest.fixture(scope="module")
def reader():
    with ReaderProcess() as process:
        yield process


def end(number: int) -> None:
    os.kill(os.getpid(), number)


def test_it_returns_and_raises_what_the_function_does(reader: ReaderProcess) -> None:
    assert reader.run(max, 3, 5) == 5
    assert reader.run(os.getpid) != os.getpid()
    with pytest.raises(ValueError, match="invalid literal"):
        reader.run(int, "x")


def test_relative_paths_are_those_of_the_caller(
    reader: ReaderProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        assert reader.run(os.getcwd) == str(tmp_path / name)


@pytest.mark.parametrize("temporary", ["t", "t" * 100])
def test_it_imports_nothing_from_the_working_folder_and_needs_no_short_temporary_folder(
    temporary: str, tmp_path: Path
) -> None:
    (tmp_path / temporary).mkdir()
    for name in ("random", "code", "types", "csv"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported')", encoding="ascii")
    script = "from ggn_tf.cases.reader_process import run_in_reader; print(run_in_reader(max, 3, 5))"
    environment = {**os.environ, "TMPDIR": str(tmp_path / temporary), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("5\n", "")


def test_without_a_temporary_folder_a_start_ahead_is_left_to_the_first_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_process.tempfile, "gettempdir", Mock(side_effect=FileNotFoundError))
    reader_process.start_ahead()


def test_a_working_folder_that_was_deleted_is_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with ReaderProcess() as process, pytest.raises(FileNotFoundError):
        process.run(max, 3, 5)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL])
def test_its_end_is_an_error_and_the_next_call_has_another(reader: ReaderProcess, number: signal.Signals) -> None:
    with pytest.raises(ReaderEndedError, match=rf"signal {int(number)} \({number.name}\)"):
        reader.run(end, number)
    assert reader.run(max, 3, 5) == 5


def test_memory_that_runs_out_is_an_error(reader: ReaderProcess) -> None:
    with pytest.raises(ReaderEndedError, match="memory ran out"):
        reader.run(bytearray, 1 << 50)


def compute(seconds: float) -> None:
    begun = time.process_time()
    while time.process_time() - begun < seconds:
        pass


def compute_cases(seconds: float, count: int) -> None:
    for _ in range(count):
        reader_process.restart_time()
        compute(seconds)


class SlowToSend:
    def __reduce__(self) -> tuple[type, tuple[()]]:
        compute(0.6)
        return int, ()


needs_timer = pytest.mark.skipif(not hasattr(signal, "SIGPROF"), reason="Windows has no timer of processor time")


@needs_timer
def test_a_function_that_never_returns_ends_its_process_alone() -> None:
    with ReaderProcess(most_processor_s=0.5) as reader:
        with pytest.raises(ReaderEndedError, match=r"more than 0.5 s of processor time"):
            reader.run(sum, itertools.repeat(0, 10**9))
        assert reader.run(max, 3, 5) == 5


@needs_timer
def test_the_time_is_that_of_one_call_and_of_one_of_its_cases() -> None:
    with ReaderProcess(most_processor_s=0.5) as reader:
        first = reader.run(os.getpid)
        for _ in range(3):
            reader.run(compute, 0.3)
        reader.run(compute_cases, 0.3, 3)
        assert reader.run(SlowToSend) == 0
        assert reader.run(os.getpid) == first


def test_outside_of_a_reader_no_time_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[float] = []
    monkeypatch.setattr(reader_process, "_limit_time", limits.append)
    reader_process.restart_time()
    assert limits == []


def test_results_cross_whole(reader: ReaderProcess) -> None:
    assert reader.run(Path, "a") == Path("a")
    with pytest.raises(ReaderEndedError, match="exit status 1"):
        reader.run(threading.Lock)


def test_closing_ends_a_call_of_another_thread() -> None:
    process, ended = ReaderProcess(), []

    def wait() -> None:
        try:
            process.run(signal.pause)
        except ReaderEndedError as error:
            ended.append(error)

    process.run(max, 1, 2)
    thread = threading.Thread(target=wait)
    thread.start()
    process.close()
    thread.join(20)
    assert ended and not thread.is_alive()


def test_closing_waits_for_a_process_that_starts() -> None:
    process, ended = ReaderProcess(), []

    def run() -> None:
        with pytest.raises(ReaderEndedError):
            process.run(signal.pause)
        ended.append(True)

    calls = [threading.Thread(target=run), threading.Thread(target=process.close)]
    with reader_process._STARTING:
        for call in calls:
            call.start()
            call.join(0.3)
        # Both wait: there is nothing yet that could be killed.
        assert all(call.is_alive() for call in calls)
    for call in calls:
        call.join(20)
    assert ended and not any(call.is_alive() for call in calls)
