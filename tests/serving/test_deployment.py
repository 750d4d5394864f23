"""The files for the real server: it cannot be run here, so they are held to its messages and to our code."""

import re
from pathlib import Path

import yaml
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from ggn_tf.serving.contract import LARGEST_BATCH, MODEL_NAME, PORT, WARMUP_BATCHES

FOLDER = Path(__file__).parents[2] / "serving"
SERVICE = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))["services"]["tensorflow-serving"]


def mounts():
    """Source by target, of the read-only volumes."""
    parsed = (re.fullmatch(r"(?P<source>.+):(?P<target>/[^:]+):ro", volume) for volume in SERVICE["volumes"])
    return {match["target"]: match["source"] for match in parsed}


def test_the_model_config_is_one_and_names_the_model_as_clients_do():
    config = text_format.Parse(
        (FOLDER / "models.config").read_text(encoding="utf-8"), model_server_config_pb2.ModelServerConfig()
    ).model_config_list.config
    assert [(model.name, model.base_path) for model in config] == [(MODEL_NAME, f"/models/{MODEL_NAME}")]
    assert config[0].model_version_policy.latest.num_versions == 1


def test_every_volume_is_read_only_and_every_mounted_file_exists():
    assert len(mounts()) == len(SERVICE["volumes"])
    assert mounts().pop("/models") == "${MODELS:-../models}"
    files = {target: source for target, source in mounts().items() if target != "/models"}
    assert all((FOLDER / source).is_file() for source in files.values())


def test_every_file_that_a_flag_names_is_mounted():
    named = {flag.split("=")[1] for flag in SERVICE["command"] if flag.split("=")[0].endswith("_file")}
    assert named == set(mounts()) - {"/models"}


def test_ports_are_published_on_loopback_only():
    assert SERVICE["ports"] == [f"127.0.0.1:{port}:{port}" for port in (PORT, 8501)]
    assert f"--port={PORT}" in SERVICE["command"]


def test_batches_are_as_large_as_the_clients_and_the_warm_up():
    text = (FOLDER / "batching.config").read_text(encoding="utf-8")
    largest = int(re.search(r"^max_batch_size \{ value: (\d+) \}$", text, re.M)[1])
    allowed = [int(size) for size in re.findall(r"^allowed_batch_sizes: (\d+)$", text, re.M)]
    assert largest == LARGEST_BATCH == allowed[-1]
    assert allowed == sorted(set(allowed)) and set(WARMUP_BATCHES) <= set(allowed)
