"""Environment variables of other programs."""

import os

import pytest

from ggn_tf.cli import main


def test_a_backend_of_figures_that_is_not_installed_has_no_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "module://not_installed.backend_inline")
    with pytest.raises(SystemExit):
        main.main(["--version"])
    assert os.environ["MPLBACKEND"] == "agg"
