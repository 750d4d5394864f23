"""Every test of the API: it prints nothing, and leaves signal handlers and environment as they were."""

import os
import signal
from collections.abc import Iterator

import pytest

from ggn_tf.tensorflow_import import load_tensorflow


@pytest.fixture(autouse=True)
def quiet(capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    # TensorFlow's own import sets variables and logs.
    load_tensorflow()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    environment = dict(os.environ)
    yield
    changed = {name for name in os.environ.keys() | environment if os.environ.get(name) != environment.get(name)}
    assert changed <= {"PYTEST_CURRENT_TEST"}
    assert {number: signal.getsignal(number) for number in handlers} == handlers
    assert capsys.readouterr() == ("", "")
