"""Which process of a shared training this is."""

import json

import pytest

from ggn_tf.errors import RunError
from ggn_tf.training.distributed.cluster import Rank, rank_of


def environment(cluster, task):
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})}


TWO = {"worker": ["a:1", "b:1"]}


@pytest.mark.parametrize(
    ("cluster", "task", "rank"),
    [
        (TWO, {"type": "worker", "index": 0}, Rank("multiworker", 0, 2)),
        (TWO, {"type": "worker", "index": 1}, Rank("multiworker", 1, 2)),
        (TWO, {"type": "worker", "index": "1"}, Rank("multiworker", 1, 2)),
        ({"chief": ["c:1"], **TWO}, {"type": "chief", "index": 0}, Rank("multiworker", 0, 3)),
        ({"chief": ["c:1"], **TWO}, {"type": "worker", "index": 0}, Rank("multiworker", 1, 3)),
        ({"worker": ["a:1"]}, {"type": "worker", "index": 0}, Rank("multiworker", 0, 1)),
    ],
)
def test_the_chief_comes_first_and_then_the_workers(cluster, task, rank):
    assert rank_of("multiworker", environment(cluster, task)) == rank
    assert rank.is_chief == (rank.worker == 0)


@pytest.mark.parametrize("strategy", ["one", "mirrored"])
def test_one_machine_needs_no_tf_config(strategy):
    assert rank_of(strategy, {}) == Rank(strategy, 0, 1)


def test_one_device_ignores_tf_config():
    assert rank_of("one", environment(TWO, {"type": "worker", "index": 1})) == Rank("one", 0, 1)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "{",
        "[]",
        "{}",
        json.dumps({"cluster": TWO}),
        json.dumps({"cluster": TWO, "task": {"type": "worker"}}),
        json.dumps({"cluster": TWO, "task": {"type": "worker", "index": 2}}),
        json.dumps({"cluster": TWO, "task": {"type": "worker", "index": -1}}),
        json.dumps({"cluster": TWO, "task": {"type": "ps", "index": 0}}),
        json.dumps({"cluster": {**TWO, "ps": ["c:1"]}, "task": {"type": "worker", "index": 0}}),
        json.dumps({"cluster": TWO["worker"], "task": {"type": "worker", "index": 0}}),
    ],
)
def test_a_wrong_tf_config_is_refused_with_a_right_one_beside_it(text):
    with pytest.raises(RunError) as refused:
        rank_of("multiworker", {} if text is None else {"TF_CONFIG": text})
    assert (text or "not set") in str(refused.value)
    assert '"index": 0' in refused.value.expected


def test_mirrored_refuses_a_tf_config_that_tensorflow_would_read():
    with pytest.raises(RunError, match="one machine"):
        rank_of("mirrored", environment(TWO, {"type": "worker", "index": 1}))
