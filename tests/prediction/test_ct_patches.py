from pathlib import Path

import pytest

from ggn_tf.errors import VolumeError
from ggn_tf.prediction import ct_patches
from ggn_tf.prediction.locations import Point
from ggn_tf.protocol import PatchProtocol


def test_whatever_a_reader_raises_is_one_error_of_the_ct(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object):
        raise ZeroDivisionError("of a reader")

    monkeypatch.setattr(ct_patches, "read_patches", fail)
    monkeypatch.setattr(ct_patches, "run_in_reader", lambda function, *arguments: function(*arguments))
    with pytest.raises(VolumeError, match=r"cannot be read\.") as caught:
        ct_patches.open_patches(tmp_path, None, [Point(1, 2, 3)], PatchProtocol())
    assert (caught.value.found, caught.value.case) == ("ZeroDivisionError: of a reader", str(tmp_path))
