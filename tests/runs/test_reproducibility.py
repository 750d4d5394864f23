"""How exactly a run can be had again, measured in processes of their own."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from ggn_tf.runs.reproducibility import Conditions, Difference, Exactness, differences

ROOT = Path(__file__).parents[2]
TRAIN = """
import hashlib, sys
import numpy as np, tensorflow as tf
from ggn_tf.dataset.pipeline import Batch
from ggn_tf.models.systems import build_cascade
from ggn_tf.runs.reproducibility import request_determinism, conditions_here, keep_threads
from ggn_tf.runs.stages import JOINT
from ggn_tf.training.step import TrainStep
from tests.support.tiny_fit import tiny_protocol
if sys.argv[2] == "deterministic":
    request_determinism()
keep_threads({"threads": int(sys.argv[1])})
conditions = conditions_here(sys.argv[2] == "deterministic")
assert conditions.threads == int(sys.argv[1]) and conditions.exactness.bit_for_bit
protocol, generator = tiny_protocol(), np.random.default_rng(0)
model = build_cascade(2, protocol, seed=1)
step = TrainStep(model, JOINT, protocol.training)
for _ in range(8):
    patch = generator.uniform(-1, 1, (4, 16, 16, 16, 1)).astype("f")
    step(Batch(tf.constant(patch), tf.constant(np.float32(patch > 0.8)), tf.constant([0, 1, 1, 0])))
print(hashlib.sha256(b"".join(weight.tobytes() for weight in model.get_weights())).hexdigest())
"""


def train(threads: int, kind: str = "plain") -> str:
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, str(threads), kind], cwd=ROOT, capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_cpu_repeats_its_bits_with_and_without_being_asked_but_not_with_other_threads():
    """Should the last line fail, sums no longer depend on the threads, and `keep_threads` is no longer needed."""
    assert train(2) == train(2)
    assert train(2, "deterministic") == train(2, "deterministic")
    assert train(1) != train(2)


def test_differences_are_those_from_what_the_run_began_with():
    begun = {"device": "AMD EPYC", "threads": 2, "deterministic": False}
    now = Conditions("AMD EPYC", 2, False, 1, Exactness.CPU)
    assert differences(begun, now) == differences({}, now) == ()
    moved = dataclasses.replace(now, threads=8, device="H200")
    assert differences(begun, moved) == (Difference("device", "AMD EPYC", "H200"), Difference("threads", 2, 8))
