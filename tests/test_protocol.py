import dataclasses
import json

import pytest

from ggn_tf.errors import ProtocolError
from ggn_tf.protocol import Plateau, Protocol, Steps


def stored() -> dict:
    return json.loads(json.dumps(Protocol().to_dict()))


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


def test_a_protocol_survives_json():
    changed = dataclasses.replace(Protocol(), cnn=dataclasses.replace(Protocol().cnn, channels=(2, 2), dropout=0.0))
    assert Protocol.from_dict(json.loads(json.dumps(changed.to_dict()))) == changed


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("patch", "size"), "32", "Protocol.patch.size"),
        (("patch", "size"), True, "Protocol.patch.size"),
        (("patch", "window_hu"), [-1024.0], "Protocol.patch.window_hu"),
        (("training", "joint", "schedule"), {"kind": "cosine"}, "plateau or steps"),
        (("training", "joint", "learning_rate"), None, "Protocol.training.joint.learning_rate"),
    ],
)
def test_a_wrong_value_is_refused_by_its_place(path: tuple[str, ...], value: object, message: str):
    tree = stored()
    inner = tree
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    with pytest.raises(ProtocolError, match=message):
        Protocol.from_dict(tree)


def test_unknown_and_missing_fields_are_refused():
    with pytest.raises(ProtocolError, match="surprise"):
        Protocol.from_dict({**stored(), "surprise": 1})
    with pytest.raises(ProtocolError, match="expected"):
        Protocol.from_dict({"patch": stored()["patch"]})
