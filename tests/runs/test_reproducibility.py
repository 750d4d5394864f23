"""How exactly a run can be had again, measured in processes of their own."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from ggn_tf.dataset.pipeline import Batch
from ggn_tf.models.systems import build_cascade
from ggn_tf.runs.reproducibility import (
    Conditions,
    Difference,
    Exactness,
    conditions_here,
    differences,
    keep_threads,
    kernel_variables,
    request_determinism,
)
from ggn_tf.runs.stages import JOINT
from ggn_tf.training.step import TrainStep
from tests.support.processes import Process
from tests.support.tiny_protocol import tiny_protocol


def train(result: Path, threads: int, deterministic: bool) -> None:
    """Take eight steps and write a hash of the weights."""
    if deterministic:
        request_determinism()
    keep_threads({"threads": threads})
    conditions = conditions_here(deterministic)
    assert conditions.threads == threads and conditions.exactness.bit_for_bit
    protocol, generator = tiny_protocol(), np.random.default_rng(0)
    model = build_cascade(2, protocol, seed=1)
    step = TrainStep(model, JOINT, protocol.training)
    for _ in range(8):
        patch = generator.uniform(-1, 1, (4, 16, 16, 16, 1)).astype("f")
        step(Batch(tf.constant(patch), tf.constant(np.float32(patch > 0.8)), tf.constant([0, 1, 1, 0])))
    weights = b"".join(weight.tobytes() for weight in model.get_weights())
    result.write_text(hashlib.sha256(weights).hexdigest(), encoding="utf-8")


@pytest.mark.nightly
def test_a_cpu_repeats_its_bits_with_and_without_being_asked_but_not_with_other_threads(tmp_path: Path):
    """Should the last line fail, sums no longer depend on the threads, and `keep_threads` is no longer needed."""
    ways = [(2, False), (2, False), (2, True), (2, True), (1, False)]
    started = [Process(train, tmp_path / str(number), *way) for number, way in enumerate(ways)]
    assert [process.wait() for process in started] == [0] * len(ways)
    plain, again, deterministic, repeated, other = (path.read_text("utf-8") for path in sorted(tmp_path.iterdir()))
    assert plain == again
    assert deterministic == repeated
    assert other != plain


def test_differences_are_those_from_what_the_run_began_with():
    begun = {"device": "AMD EPYC", "threads": 2, "deterministic": False}
    now = Conditions("AMD EPYC", 2, False, 1, Exactness.CPU)
    assert differences(begun, now) == differences({}, now) == ()
    moved = dataclasses.replace(now, threads=8, device="H200")
    assert differences(begun, moved) == (Difference("device", "AMD EPYC", "H200"), Difference("threads", 2, 8))


def test_variables_that_choose_kernels_are_conditions():
    """oneDNN's own example: sums in another order. Old records do not have them."""
    chosen = {
        "TF_ENABLE_ONEDNN_OPTS": "0",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
    }
    chosen |= {"NVIDIA_TF32_OVERRIDE": "0", "TF_DETERMINISTIC_OPS": "1", "DNNL_MAX_CPU_ISA": "SSE41"}
    others = {"ONEDNN_VERBOSE": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "TF_USE_LEGACY_KERAS": "1", "PATH": "/bin"}
    assert kernel_variables({**others, **chosen}) == chosen
    now = Conditions("AMD EPYC", 2, False, 1, Exactness.CPU, {"TF_ENABLE_ONEDNN_OPTS": "0"})
    begun = {"device": "AMD EPYC", "threads": 2, "deterministic": False, "replicas": 1}
    assert differences(begun, now) == ()
    assert differences({**begun, "kernels": {"ONEDNN_MAX_CPU_ISA": "AVX2"}}, now) == (
        Difference("ONEDNN_MAX_CPU_ISA", "AVX2", "not set"),
        Difference("TF_ENABLE_ONEDNN_OPTS", "not set", "0"),
    )
    assert differences(now.to_dict(), now) == ()


def test_paths_and_dumps_are_no_conditions():
    flags = (
        "--xla_dump_to=/home/NAME/x --xla_a=1  --xla_dump_hlo_as_text '--xla_b=/home/A B/y' --xla_c=\"/home/A B C/y\""
    )
    paths = {"MIOPEN_USER_DB_PATH": "/home/NAME/db", "TF_XLA_FLAGS": "--tf_xla_clustering_debug --dump_graphs=1"}
    assert kernel_variables({"XLA_FLAGS": f"{flags} --xla_d=x", **paths}) == {
        "TF_XLA_FLAGS": "--tf_xla_clustering_debug",
        "XLA_FLAGS": "--xla_a=1 --xla_d=x",
    }
    assert kernel_variables({"XLA_FLAGS": "/home/NAME/flags.txt"}) == {}


def test_the_process_s_variables_are_recorded(monkeypatch):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert conditions_here(False).to_dict()["kernels"]["ONEDNN_MAX_CPU_ISA"] == "AVX2"
