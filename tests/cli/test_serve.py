import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from ggn_tf.cli import main
from ggn_tf.models.cascade import build_cascade
from ggn_tf.serving.client.client import PredictionClient
from ggn_tf.serving.export.writer import export_model
from ggn_tf.tasks import INDOLENT_INVASIVE
from tests.support.untrained_run import small_protocol


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "ggn"
    protocol = small_protocol()
    export_model(build_cascade(2, protocol), INDOLENT_INVASIVE, protocol, folder)
    return folder


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_says_where_it_is_and_stops_at_a_signal(number, models):
    command = [sys.executable, "-c", "from ggn_tf.cli import main; main()", "serve", str(models), "--port", "0"]
    flags = ["--model_name", "lung", "--file_system_poll_wait_seconds", "1"]
    process = subprocess.Popen(
        [*command, *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )
    try:
        ready = process.stdout.readline()
        told = re.fullmatch(r"serving lung version 1 on (127\.0\.0\.1:\d+)\n", ready)
        assert told, ready + process.stderr.read()
        with PredictionClient(told[1], model_name="lung") as client:
            assert client.patch_shape() == (16, 16, 16, 1)
        os.kill(process.pid, number)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, out) == (0, "")
    assert "Traceback" not in err
    assert "version 1 of lung is unloaded" in err


def test_a_folder_without_versions_is_refused(tmp_path):
    result = CliRunner().invoke(main, ["serve", str(tmp_path), "--port", "0"])
    assert result.exit_code == 1
    assert "There is no export here." in result.stderr and "ggn-tf export" in result.stderr


def test_a_version_directory_is_not_a_model_folder(models):
    result = CliRunner().invoke(main, ["serve", str(models / "1"), "--port", "0"])
    assert result.exit_code == 1
    assert "a model folder with version directories" in result.stderr


def test_a_port_that_cannot_be_is_a_usage_error(models):
    assert CliRunner().invoke(main, ["serve", str(models), "--port", "70000"]).exit_code == 2


BATCHING = Path(__file__).parents[2] / "serving" / "batching.config"


def serve(*arguments, path=None, **environment):
    command = [sys.executable, "-c", "from ggn_tf.cli import main; main()", "serve", *map(str, arguments)]
    environment = {**os.environ, **environment, **({} if path is None else {"PATH": str(path)})}
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", env=environment, timeout=60)


def program(folder, name, text):
    """An executable that stands in for one that cannot be had here; it shows what it was started with."""
    file = folder / name
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)


SHOW = 'for argument in "$@"; do echo "$argument"; done'


def test_the_real_server_is_started_with_the_same_arguments(tmp_path, models):
    program(tmp_path, "tensorflow_model_server", SHOW)
    flags = ["--model_name=lung", "--enable_batching=true", f"--batching_parameters_file={BATCHING}"]
    more = ["--grpc_channel_arguments=grpc.max_concurrent_streams=9", "--rest_api_port=8501"]
    real = ["--engine", "tensorflow_model_server", "--host", "0.0.0.0", "--tensorflow_intra_op_parallelism=1"]
    result = serve(models, "--port", 8600, *flags, *more, *real, path=tmp_path)
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


def test_the_real_server_is_not_started_on_every_interface_unasked(tmp_path, models):
    program(tmp_path, "tensorflow_model_server", SHOW)
    result = serve(models, "--engine", "tensorflow_model_server", path=tmp_path)
    assert (result.returncode, result.stdout) == (1, "")
    assert "listens on every interface" in result.stderr and "--host 0.0.0.0" in result.stderr


def test_the_real_servers_image_runs_on_loopback_with_what_it_reads_mounted(tmp_path, models):
    program(tmp_path, "docker", f'if [ "$1" = run ]; then {SHOW}; fi')
    flags = ["--enable_batching", "--batching_parameters_file", BATCHING, "--rest_api_port=8501"]
    result = serve(models, "--engine", "tensorflow_model_server", *flags, path=tmp_path, TF_SERVING_VERSION="9.9.9")
    told = result.stdout.splitlines()
    assert told[:3] == ["run", "--rm", "--init"]
    assert {"--read-only", "--cap-drop=ALL", f"--user={os.getuid()}:{os.getgid()}"} <= set(told)
    assert [line for line in told if line.startswith("--publish")] == [
        "--publish=127.0.0.1:8500:8500",
        "--publish=127.0.0.1:8501:8501",
    ]
    assert [line for line in told if line.startswith("--volume")] == [
        f"--volume={models}:{models}:ro",
        f"--volume={BATCHING}:{BATCHING}:ro",
    ]
    assert told[told.index("--entrypoint=tensorflow_model_server") + 1] == "tensorflow/serving:9.9.9"
    assert f"--model_base_path={models}" in told and f"--batching_parameters_file={BATCHING}" in told


@pytest.mark.parametrize(("docker", "told"), [(None, "no docker"), ("exit 1", "no image tensorflow/serving:")])
def test_without_the_real_server_the_remedy_is_told(docker, told, tmp_path, models):
    if docker is not None:
        program(tmp_path, "docker", docker)
    result = serve(models, "--engine", "tensorflow_model_server", path=tmp_path)
    assert result.returncode == 1
    assert "TensorFlow Serving is not on this machine." in result.stderr
    assert told in result.stderr and "docker pull tensorflow/serving:" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["MODEL", "--rest_api_port=8501"], "No such option: --rest_api_port=8501"),
        ([], "Name one model folder"),
        (["MODEL", "--model_base_path", "MODEL"], "Name one model folder"),
        (["MODEL", "--batching_parameters_file", "x"], "without --enable_batching"),
        (["MODEL", "--grpc_channel_arguments", "x"], "NAME=VALUE"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(arguments, told):
    result = CliRunner().invoke(main, ["serve", *arguments])
    assert result.exit_code == 2
    assert told in result.stderr


def test_batching_parameters_that_cannot_be_used_are_told(models, tmp_path):
    (tmp_path / "batching").write_text("max_batch: 3")
    flags = ["--enable_batching", "--batching_parameters_file", str(tmp_path / "batching")]
    result = CliRunner().invoke(main, ["serve", str(models), "--port", "0", *flags])
    assert result.exit_code == 1
    assert "The batching parameters cannot be used." in result.stderr


def test_a_full_disk_behind_its_output_does_not_keep_it_from_serving(models):
    if not os.path.exists("/dev/full"):  # noqa: PTH110 a device, not a file
        pytest.skip("this system has no /dev/full")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-c", "from ggn_tf.cli import main; main()", "serve", str(models), "--port", str(port)]
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        process = subprocess.Popen(command, stdout=full, stderr=full)
    try:
        with PredictionClient(f"127.0.0.1:{port}", timeout_s=120, pauses_s=[0.2] * 600) as client:
            assert client.patch_shape() == (16, 16, 16, 1)
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
