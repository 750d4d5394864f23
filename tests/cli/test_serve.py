import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import grpc
import numpy as np
import pytest
from click.testing import CliRunner
from tensorflow_serving.apis import prediction_service_pb2_grpc

from ggn_tf.cli import main
from ggn_tf.serving.client.client import PredictionClient
from ggn_tf.serving.contract.messages import make_request
from ggn_tf.serving.contract.version_folders import write_checksums
from ggn_tf.serving.server.server import ModelServer
from tests.support.loopback_server import free_port
from tests.support.processes import run_code


@pytest.fixture(scope="module")
def models(small_export):
    return small_export


@contextmanager
def serving(folder, *flags, **variables):
    """The command as a process, which is killed in the end."""
    command = [sys.executable, "-c", "from ggn_tf.cli import main; main()", "serve", str(folder), "--port", "0"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "encoding": "utf-8"}
    with subprocess.Popen([*command, *flags], **pipes, env={**os.environ, **variables}) as process:
        try:
            yield process
        finally:
            process.kill()


def test_serve_prints_its_address_and_stops_at_a_signal(models, tmp_path):
    flags = ["--model_name", "lung", "--file_system_poll_wait_seconds", "1", "--monailabel-port", "0"]
    with serving(models, *flags, TMPDIR=str(tmp_path)) as process:
        ready = process.stdout.readline()
        match = re.fullmatch(r"serving lung version 1 on (127\.0\.0\.1:\d+)\n", ready)
        assert match, ready + process.stderr.read()
        with PredictionClient(match[1], model_name="lung") as client:
            assert client.patch_shape() == (32, 32, 32, 1)
        url = process.stdout.readline().removeprefix("serving MONAI Label's protocol on ").strip()
        with urllib.request.urlopen(f"{url}/info/", timeout=30) as response:
            assert list(json.load(response)["models"]) == ["lung"]
        (folder,) = tmp_path.glob(".ggn-tf-temporary.monailabel.*")
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        process.terminate()
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "")
    assert "Traceback" not in err
    assert "version 1 of lung is unloaded" in err
    assert not folder.exists()


def test_a_signal_while_200_requests_wait_leaves_none_without_a_response(models):
    with serving(models, "--running", "1", "--waiting", "300") as process:
        target = process.stdout.readline().rpartition(" ")[2].strip()
        request = make_request(np.zeros((8, 32, 32, 32, 1), np.float32), "ggn")
        with ExitStack() as stack:
            channels = [
                stack.enter_context(grpc.insecure_channel(target, [("grpc.use_local_subchannel_pool", 1)]))
                for _ in range(20)
            ]
            stubs = [prediction_service_pb2_grpc.PredictionServiceStub(channel) for channel in channels]
            calls = [stub.Predict.future(request, timeout=120) for stub in stubs for _ in range(10)]
            answered = threading.Event()
            for call in calls:
                call.add_done_callback(lambda _: answered.set())
            answered.wait(60)
            waiting = sum(not call.done() for call in calls)
            process.terminate()
            _, err = process.communicate(timeout=60)
            ends = {(call.code(), call.details()) for call in calls}
    served = (grpc.StatusCode.OK, "")
    assert waiting > 0
    assert {served} <= ends <= {served, (grpc.StatusCode.UNAVAILABLE, "The server is stopping.")}
    assert process.returncode == 0 and "Traceback" not in err


def has_open(process, name):
    """Whether the process has a file of this name open; what else it has open may close meanwhile."""
    with suppress(FileNotFoundError):
        return any(path.resolve().name == name for path in Path(f"/proc/{process.pid}/fd").iterdir())
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists the open files of a process")
@pytest.mark.parametrize("served", [False, True])
def test_a_signal_while_a_version_is_loaded_ends_the_server(served, models, tmp_path):
    """A file of a GiB makes loading take long: first its digest is computed."""
    if served:
        shutil.copytree(models / "1", tmp_path / "ggn" / "1")
    shutil.copytree(models / "1", tmp_path / "2")
    with (tmp_path / "2" / "variables" / "large").open("wb") as file:
        file.truncate(2**30)
    write_checksums(tmp_path / "2")
    (tmp_path / "ggn").mkdir(exist_ok=True)
    with serving(tmp_path / "ggn", "--file_system_poll_wait_seconds", "0.05") as process:
        if served:
            process.stdout.readline()
        (tmp_path / "2").rename(tmp_path / "ggn" / "2")
        end = time.monotonic() + 60
        while process.poll() is None and not has_open(process, "large"):
            if time.monotonic() > end:
                pytest.fail("the version is not loaded")
            time.sleep(0.01)
        assert process.poll() is None
        process.terminate()
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0 and "Traceback" not in err


@pytest.mark.skipif(sys.platform != "linux", reason="only TensorFlow's package for Linux has the library")
def test_a_server_does_not_import_tensorflow(models):
    done = run_code(
        f"""
        import os, sys
        from ggn_tf.cli import main
        from ggn_tf.serving.server.server import ModelServer
        def report(server, start=ModelServer.start):
            print(start(server), "tensorflow" in sys.modules, flush=True)
            os._exit(0)
        ModelServer.start = report
        main(["serve", {str(models)!r}, "--port", "0"])
        """
    )
    assert done.stdout == "1 False\n", done.stderr


def test_a_folder_without_versions_is_refused(tmp_path):
    result = CliRunner().invoke(main, ["serve", str(tmp_path), "--port", "0"])
    assert result.exit_code == 1
    assert "ggn-tf export" in result.stderr


def test_a_version_directory_is_not_a_model_folder(models):
    result = CliRunner().invoke(main, ["serve", str(models / "1"), "--port", "0"])
    assert result.exit_code == 1
    assert "a model folder with version directories" in result.stderr


def test_an_impossible_port_is_a_usage_error(models):
    assert CliRunner().invoke(main, ["serve", str(models), "--port", "70000"]).exit_code == 2


BATCHING = Path(__file__).parents[2] / "serving" / "batching.config"


def serve_by_program(path, *arguments):
    """The embedded server's command line for the other program, with `path` as the only folder on PATH."""
    command = [sys.executable, "-c", "from ggn_tf.cli import main; main()", "serve", *map(str, arguments)]
    return subprocess.run(
        [*command, "--engine", "tensorflow_model_server"],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PATH": str(path)},
        timeout=60,
    )


@pytest.fixture
def program(tmp_path):
    """A folder with a stand-in for the program, which cannot be installed here; it prints its arguments."""
    file = tmp_path / "tensorflow_model_server"
    file.write_text('#!/bin/sh\nfor argument in "$@"; do echo "$argument"; done\n')
    file.chmod(0o755)
    return tmp_path


def test_tensorflow_serving_is_started_with_the_same_arguments(program, models):
    flags = ["--model_name=lung", "--enable_batching=true", f"--batching_parameters_file={BATCHING}"]
    more = ["--grpc_channel_arguments=grpc.max_concurrent_streams=9", "--rest_api_port=8501"]
    shared = ["--host", "0.0.0.0", "--tensorflow_intra_op_parallelism=1"]
    result = serve_by_program(program, models, "--port", 8600, *flags, *more, *shared)
    assert result.stdout.splitlines() == [
        "--port=8600",
        "--model_name=lung",
        f"--model_base_path={models}",
        "--file_system_poll_wait_seconds=1",
        "--enable_batching=true",
        f"--batching_parameters_file={BATCHING}",
        "--grpc_channel_arguments=grpc.max_concurrent_streams=9",
        "--tensorflow_intra_op_parallelism=1",
        "--rest_api_port=8501",
    ]


def test_tensorflow_serving_needs_the_user_to_accept_every_interface(program, models):
    result = serve_by_program(program, models)
    assert (result.returncode, result.stdout) == (1, "")
    assert "0.0.0.0" in result.stderr and "(option --host)" in result.stderr


def test_without_the_program_the_remedy_names_the_compose_file(tmp_path, models):
    result = serve_by_program(tmp_path, models)
    assert result.returncode == 1
    assert "serving/compose.yaml" in result.stderr and "(option --engine)" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["MODEL", "--rest_api_port=8501"], "--rest_api_port=8501"),
        ([], "--model_base_path"),
        (["MODEL", "--model_base_path", "MODEL"], "--model_base_path"),
        (["MODEL", "--batching_parameters_file", "x"], "--enable_batching"),
        (["MODEL", "--monailabel-images", "x"], "--monailabel-port"),
        (["MODEL", "--monailabel-origin", "http://localhost"], "--monailabel-port"),
        (["MODEL", "--monailabel-port", "70000"], "--monailabel-port"),
        (["MODEL", "--grpc_channel_arguments", "x"], "NAME=VALUE"),
    ],
)
def test_contradictory_options_are_a_usage_error(arguments, named):
    result = CliRunner().invoke(main, ["serve", *arguments])
    assert result.exit_code == 2
    assert named in result.stderr


def test_batching_parameters_that_cannot_be_used_are_refused(models, tmp_path):
    (tmp_path / "batching").write_text("max_batch: 3")
    flags = ["--enable_batching", "--batching_parameters_file", str(tmp_path / "batching")]
    result = CliRunner().invoke(main, ["serve", str(models), "--port", "0", *flags])
    assert result.exit_code == 1
    assert "(option --batching_parameters_file)" in result.stderr


@pytest.mark.nightly
def test_a_full_disk_behind_stdout_does_not_stop_the_server(models):
    if not os.path.exists("/dev/full"):  # noqa: PTH110 a device, not a file
        pytest.skip("this system has no /dev/full")
    port = free_port()
    command = [sys.executable, "-c", "from ggn_tf.cli import main; main()", "serve", str(models), "--port", str(port)]
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        process = subprocess.Popen(command, stdout=full, stderr=full)
    try:
        with PredictionClient(f"127.0.0.1:{port}", timeout_s=120, pauses_s=[0.2] * 600) as client:
            assert client.patch_shape() == (32, 32, 32, 1)
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (["--tls-cert", "server.pem"], "option --tls-key"),
        (["--tls-cert", "server.pem", "--tls-key", "server.key"], "(option --tls-cert)"),
        (["--verify", "own.pub"], "(option --verify)"),
    ],
)
def test_a_file_that_is_missing_is_reported_before_anything_is_loaded(given, named, models):
    result = CliRunner().invoke(main, ["serve", str(models), "--port", "0", *given])
    assert result.exit_code == 1
    assert named in result.stderr


@pytest.mark.parametrize("option", ["--verify", "--tls-cert", "--tls-key", "--tls-client-ca", "--monailabel-port"])
def test_tensorflow_serving_does_not_silently_lack_what_was_asked_for(option, models):
    value = "0" if option == "--monailabel-port" else "file"
    result = CliRunner().invoke(main, ["serve", str(models), "--engine", "tensorflow_model_server", option, value])
    assert result.exit_code == 2
    assert "--engine embedded" in result.stderr


def test_ctrl_c_ends_a_start_that_hangs(models, monkeypatch):
    """As TensorFlow would, if a version's file became a pipe after it was checked."""
    ended, handlers = (
        threading.Event(),
        {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)},
    )

    def leave(code):
        ended.set()
        raise SystemExit(code)

    monkeypatch.setattr(ModelServer, "start", lambda _: (os.kill(os.getpid(), signal.SIGINT), ended.wait(60)))
    monkeypatch.setattr(os, "_exit", leave)
    try:
        assert CliRunner().invoke(main, ["serve", str(models), "--port", "0"]).exit_code == 0
        assert ended.is_set()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
