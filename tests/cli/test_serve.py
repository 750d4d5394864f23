import os
import re
import signal
import subprocess
import sys

import pytest
from click.testing import CliRunner

from ggn_tf.cli import main
from ggn_tf.models.cascade import build_cascade
from ggn_tf.serving.client import PredictionClient
from ggn_tf.serving.export import export_model
from ggn_tf.tasks import INDOLENT_INVASIVE
from tests.untrained_run import small_protocol


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
    process = subprocess.Popen([*command, *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
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
