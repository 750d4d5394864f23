"""A cross-validation from the training of its folds to a prediction by its export."""

from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner

import ggn_tf
from ggn_tf.cases.phantom.files import write_phantom
from ggn_tf.cli import main
from ggn_tf.dataset.pipeline import normalise_hu
from ggn_tf.dataset.records import Dataset, read_patches
from ggn_tf.evaluation.statistics.predictions_table import probabilities
from ggn_tf.runs.run_folder import RunFolder
from ggn_tf.serving.runtime.predict_request import LocalModel
from tests.support.tiny_crossval import TASK
from tests.support.tiny_protocol import tiny_protocol


@pytest.mark.slow
def test_the_export_of_the_folds_predicts_their_mean(dataset: Dataset, whole_crossval: Path, tmp_path: Path) -> None:
    cv = ggn_tf.Crossval(whole_crossval)
    predictions = cv.predictions[cv.predictions["stage"] == "joint"]
    cases = [str(case) for case in predictions["case"]]
    patch_hu = read_patches(dataset, cases)[0]
    inputs = normalise_hu(tf.constant(patch_hu), dataset.protocol.window_hu)
    networks = [RunFolder.open(run).load_model() for run in cv.runs]
    members = np.stack([network(inputs, training=False)["probabilities"] for network in networks])
    own = members[predictions["fold"].to_numpy() - 1, np.arange(len(cases))]
    np.testing.assert_allclose(own, probabilities(predictions), atol=1e-5)
    served = LocalModel(ggn_tf.export(cv, tmp_path / "models")).predict(patch_hu)
    np.testing.assert_allclose(served.probabilities, members.mean(axis=0), atol=1e-5)


@pytest.mark.nightly
def test_the_commands_lead_from_phantoms_to_a_prediction(tmp_path: Path) -> None:
    """With worker processes, and tiny networks in place of the quick protocol's."""
    write_phantom(tmp_path / "ct", 40, 0, "nifti")

    def call(command: str, *arguments: str) -> str:
        with patch.dict("ggn_tf.protocol.PROTOCOLS", quick=partial(tiny_protocol, 1, size=32, prior=0.4)):
            done = CliRunner().invoke(main, [command, *arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    data, cv, models, ct = (str(tmp_path / name) for name in ("dataset", "cv", "models", "ct"))
    call("prepare", f"{ct}/cases.csv", "-o", data)
    folds = ("--folds", "3", "--jobs", "2", "--protocol", "quick")
    call("crossval", data, "-o", cv, "--task", TASK, "--precision", "float32", *folds)
    assert "Test-retest" in call("evaluate", cv, "--retest", "--replicates", "100")
    call("export", cv, "-o", f"{models}/ggn")
    image = f"{ct}/images/PHANTOM-0001.nii.gz"
    mask = f"{ct}/masks/PHANTOM-0001-1.nii.gz"
    call("predict", "--ct", image, "--mask", mask, "--export", f"{models}/ggn", "-o", str(tmp_path / "prediction"))
    assert (tmp_path / "prediction" / "result.json").is_file()
    study = str(tmp_path / "study")
    call("study", data, "-o", study, "--tasks", TASK, "--models", "raw,cascade", "--repeats", "1", *folds)
    assert (tmp_path / "study" / "results" / "folds.csv").is_file()
