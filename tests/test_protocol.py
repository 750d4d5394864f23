import dataclasses
import json
import math
from typing import Any

import pytest

from ggn_tf.errors import RecordError
from ggn_tf.json_records import from_json, to_json
from ggn_tf.protocol import PatchProtocol, Plateau, Protocol, Steps, TrainingProtocol, robust_protocol


def test_the_papers_numbers():
    protocol = Protocol()
    assert protocol.patch.size == 32 and protocol.patch.spacing_mm_zyx == (1.0, 0.7, 0.7)
    assert protocol.patch.window_hu == (-1024.0, 400.0)
    assert protocol.cnn.channels == (16, 16, 32, 32, 64, 64, 256, 256)
    assert protocol.unet.dilations_down + protocol.unet.dilations_up == (1, 1, 2, 2, 2, 2, 4, 4, 2, 2, 2, 2, 1, 1)
    training = protocol.training
    assert (training.batch_size, training.l2, training.joint_weight) == (24, 1e-4, 1.0)
    assert training.segment.schedule == training.classify.schedule == Plateau(0.8, 10)
    assert training.joint.schedule == Steps(0.5, 30)
    assert [stage.learning_rate for stage in (training.segment, training.classify, training.joint)] == [
        1e-4,
        1e-4,
        1e-5,
    ]


def test_the_robust_protocol_differs_from_the_papers_in_a_table_of_numbers():
    training = robust_protocol().training
    stages = (training.segment, training.classify, training.joint)
    assert [(stage.max_epochs, stage.learning_rate, stage.shift_mm) for stage in stages] == [
        (30, 1e-3, 8.0),
        (30, 3e-4, 2.0),
        (10, 1e-4, 2.0),
    ]
    assert training.select_by == "auc"


@pytest.mark.parametrize(
    "changed",
    [
        {"size": 0},
        {"size": 10**6},
        {"margin_mm": 1e9},
        {"margin_mm": -1.0},
        {"spacing_mm_zyx": (1.0, 0.0, 0.7)},
        {"spacing_mm_zyx": (1.0, 1e-9, 0.7)},
        {"spacing_mm_zyx": (1.0, math.nan, 0.7)},
    ],
)
def test_a_stored_protocol_reserves_no_more_than_a_patch(changed: dict[str, Any]) -> None:
    document = to_json(PatchProtocol()) | changed
    with pytest.raises(RecordError):
        from_json(PatchProtocol, json.loads(json.dumps(document)))


def test_a_batch_has_a_patch() -> None:
    with pytest.raises(ValueError, match="batch_size 0"):
        dataclasses.replace(TrainingProtocol(), batch_size=0)
