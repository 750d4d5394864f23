"""A process that reads, and may end."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

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


def never_return() -> None:
    reader_process._limit_time(0.1)
    while True:
        pass


@pytest.mark.skipif(not hasattr(signal, "SIGPROF"), reason="Windows has no timer of processor time")
def test_a_function_that_never_returns_ends_its_process_alone(reader: ReaderProcess) -> None:
    with pytest.raises(ReaderEndedError, match="more than 600 s of processor time"):
        reader.run(never_return)
    assert reader.run(max, 3, 5) == 5


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
