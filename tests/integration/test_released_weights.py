"""The script that trains the weights of a release, on phantoms and with the smallest networks."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import ggn_tf
from ggn_tf.cases.phantom.files import write_phantom
from ggn_tf.files import sha256
from ggn_tf.models.systems import BUILDERS
from ggn_tf.runs.model_file import check_model_file
from tests.support.tiny_protocol import tiny_protocol

TASK = "AAH+AIS,MIA+IAC"
SCRIPT = Path(__file__).parents[2] / "scripts" / "train_released_weights.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("train_released_weights", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look up their module.
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
    return module


def test_weights_in_half_precision_are_the_rounded_ones(script: ModuleType, tmp_path: Path) -> None:
    model = BUILDERS["cascade"](2, tiny_protocol(), seed=5)
    model.save(tmp_path / "whole.keras")
    script.store_half(tmp_path / "whole.keras", tmp_path / "half.keras")
    check_model_file(tmp_path / "half.keras")
    half = BUILDERS["cascade"](2, tiny_protocol(), seed=6)
    half.load_weights(tmp_path / "half.keras")
    for stored, weight in zip(half.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(stored, weight.astype(np.float16).astype(np.float32))


@pytest.mark.nightly
def test_the_asset_starts_a_run_and_names_its_data(script: ModuleType, tmp_path: Path) -> None:
    table = write_phantom(tmp_path / "phantom", nodules=60, container="nifti")
    protocol = tiny_protocol(epochs=1, size=32)
    networks = [script.Network("malignancy", "label", TASK, 2), script.Network("texture", "label", TASK, 1)]
    asset = script.train(table, tmp_path / "out", networks, protocol)
    assert {file.name for file in asset.glob("*.keras")} == {
        "malignancy-0.keras",
        "malignancy-1.keras",
        "texture-0.keras",
    }
    assert "CC BY 3.0" in (asset / "README.md").read_text()
    listed = dict(line.split("  ")[::-1] for line in (asset / "SHA256SUMS").read_text().splitlines())
    assert all(sha256(asset / name) == digest for name, digest in listed.items()) and "README.md" in listed
    run = ggn_tf.fit(
        tmp_path / "out" / "work" / "malignancy",
        task=TASK,
        start_from=asset / "malignancy-1.keras",
        protocol=protocol,
        stage="segment",
        run=tmp_path / "run",
    )
    assert run.stages == ("segment",)
    with ggn_tf.load(asset / "models" / "malignancy") as model:
        assert model.protocol.size == 32
