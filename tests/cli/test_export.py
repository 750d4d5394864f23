import json
import re
import shutil

import numpy as np
import pytest
from click.testing import CliRunner

from ggn_tf.cli import main
from ggn_tf.evaluation.statistics.run_scores import Estimate, StageScores
from ggn_tf.files import sha256
from ggn_tf.json_records import read_document, with_digest, without_digest
from ggn_tf.models.systems import build_cascade
from ggn_tf.runs.run_folder import RunFolder
from ggn_tf.serving.contract.export_contract import read_contract
from ggn_tf.serving.export.version_writer import provenance_of
from ggn_tf.serving.runtime.predict_request import LocalModel
from tests.support.chest import CENTER, lung_grid, lung_with_balls, write_nifti
from tests.support.described_run import write_test_scores
from tests.support.tiny_protocol import SIZE
from tests.support.untrained_run import write_untrained_run

PATCHES = np.random.default_rng(0).uniform(-1, 1, (2, SIZE, SIZE, SIZE, 1)).astype(np.float32)


def export(*arguments):
    return CliRunner().invoke(main, ["export", *map(str, arguments)])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    write_untrained_run(folder)
    return folder / "run"


def card_of(folder):
    return (folder / "assets.extra" / "model_card.md").read_text(encoding="utf-8")


def test_export_prints_the_version_directory_and_nothing_else(run, tmp_path):
    (tmp_path / "models" / "ggn" / "1").mkdir(parents=True)
    result = export(run, "-o", tmp_path / "models" / "ggn")
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'models' / 'ggn' / '2'}\n")
    provenance = read_contract(tmp_path / "models" / "ggn" / "2").provenance
    assert (provenance["run"], provenance["stage"], provenance["seed"]) == ("run", "joint", 0)
    assert len(provenance["dataset_fingerprint"]) > 8


def test_sets_are_in_the_contract_and_in_every_output_of_a_prediction(run, tmp_path):
    result = export(run, "-o", tmp_path / "models", "--coverage", 0.5)
    assert result.exit_code == 0, result.output
    assert "No nodule will be atypical" in result.stderr and "needs 100" in result.stderr
    uncertainty = read_contract(tmp_path / "models" / "1").uncertainty
    assert (uncertainty.coverage, uncertainty.patients_needed) == (0.5, 1)
    ct = write_nifti(lung_with_balls(lung_grid(), [(CENTER, 6.0)]), tmp_path / "ct.nii")
    point = ["predict", "--ct", ct, "--center-mm", *CENTER, "--export", tmp_path / "models", "-o", tmp_path / "out"]
    predicted = CliRunner().invoke(main, list(map(str, [*point, "--sets"])))
    assert predicted.exit_code == 0, predicted.output
    (nodule,) = json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8"))["nodules"]
    least = dict(zip(nodule["probabilities"], uncertainty.least_probabilities, strict=True))
    inside = [name for name, probability in nodule["probabilities"].items() if probability >= least[name]]
    assert nodule["prediction_set"] == inside and 0 < nodule["typicality"] <= 1
    assert f"set        {', '.join(inside) or 'no class'}" in predicted.stdout and "typicality " in predicted.stdout


def test_too_few_patients_for_a_coverage_are_named_with_their_number(run, tmp_path):
    """Before the export is written, which is impossible here."""
    (tmp_path / "file").touch()
    result = export(run, "-o", tmp_path / "file", "--coverage", 0.9)
    assert result.exit_code == 1 and "The export cannot be written." in result.stderr
    assert "Every prediction set will contain AAH+AIS" in result.stderr and "needs 9" in result.stderr


@pytest.mark.parametrize("scored", [("classify", "joint"), ("segment",)])
def test_the_scores_of_an_export_are_those_of_its_stage(run, tmp_path, scored):
    copy = shutil.copytree(run, tmp_path / "run")
    shares = {"segment": 0.75, "classify": 0.5, "joint": 0.625}
    stages = {stage: StageScores(accuracy=Estimate(shares[stage], 0.0, 1.0)) for stage in scored}
    write_test_scores(copy, stages)
    assert provenance_of(RunFolder.open(copy)).scores == stages.get("joint")


def test_scores_that_cannot_be_read_are_refused(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    (copy / "evaluation").mkdir()
    (copy / "evaluation" / "scores.json").write_text("{", encoding="utf-8")
    result = export(copy, "-o", tmp_path / "models")
    assert result.exit_code == 1
    assert "scores cannot be read" in result.stderr
    assert not (tmp_path / "models").exists()


def test_a_run_that_only_segments_is_refused(tmp_path):
    write_untrained_run(tmp_path, stages=("segment",))
    result = export(tmp_path / "run", "-o", tmp_path / "models")
    assert result.exit_code == 1
    assert "finished: segment" in result.stderr and "joint" in result.stderr
    assert not (tmp_path / "models").exists()


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    result = export(tmp_path, "-o", tmp_path / "models")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert str(tmp_path) in result.stderr


def test_the_output_is_asked_for(tmp_path):
    result = export(tmp_path)
    assert result.exit_code == 2
    assert "--output" in result.stderr


@pytest.mark.parametrize(("model", "why"), [("raw", "predicts no mask"), ("reference", "needs the expert's mask")])
def test_a_model_that_cannot_be_asked_about_a_ct_is_refused(model, why, run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    stored = without_digest(read_document(copy / "run.json"))
    (copy / "run.json").write_text(json.dumps(with_digest({**stored, "model": model})), encoding="utf-8")
    result = export(copy, "-o", tmp_path / "models")
    assert result.exit_code == 1
    assert f"model {model}, which {why}" in result.stderr
    assert "cascade or multitask" in result.stderr
    assert not (tmp_path / "models").exists()


@pytest.fixture(scope="module")
def runs(run, tmp_path_factory):
    """Three runs that differ in their seed alone."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "dataset").symlink_to(run.parent / "dataset")
    folders = [shutil.copytree(run, folder / "a")]
    for seed, name in enumerate("bc", start=1):
        folders.append(shutil.copytree(run, folder / name))
        change_description(folders[-1], seed=seed)
        retrain(folders[-1], seed)
    return folders


def change_description(folder, **values):
    stored = without_digest(read_document(folder / "run.json"))
    patch = values.pop("patch", {})
    stored["protocol"]["patch"] |= patch
    (folder / "run.json").write_text(json.dumps(with_digest({**stored, **values})), encoding="utf-8")


def retrain(folder, seed):
    opened = RunFolder.open(folder)
    model = build_cascade(len(opened.description.task.classes), opened.description.protocol, seed=10 + seed)
    opened.finish_stage(model, {"stage": "joint", "epochs": 2, "best_epoch": 1, "ended": "2 epochs"})


@pytest.mark.slow
def test_several_runs_become_one_model(runs, tmp_path):
    pair = runs[:2]
    result = export(*pair, "-o", tmp_path / "models")
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{tmp_path / 'models' / '1'}\n"
    assert re.fullmatch(r"size \d+\.\d MB, one patch \d+\.\d ms on this machine\n", result.stderr)
    contract = read_contract(tmp_path / "models" / "1")
    assert [(member.run, member.seed, member.stage) for member in contract.members] == [
        ("a", 0, "joint"),
        ("b", 1, "joint"),
    ]
    for folder, member in zip(pair, contract.members, strict=True):
        assert member.model_sha256 == sha256(folder / "stages" / "joint.keras")
        assert member.dataset_fingerprint == RunFolder.open(folder).description.dataset_fingerprint
    assert contract.provenance["run"] is None and contract.provenance["split"] == 1
    assert "trained on the same data with different seeds" in card_of(tmp_path / "models" / "1")
    expected = [RunFolder.open(folder).load_model()(PATCHES, training=False) for folder in pair]
    with LocalModel(tmp_path / "models") as model:
        found = model.predict((PATCHES + 1) / 2 * 1424 - 1024)
    np.testing.assert_allclose(found.mask, np.mean([each["mask"] for each in expected], axis=0), atol=1e-5)
    np.testing.assert_allclose(found.spread, np.std([each["probabilities"] for each in expected], axis=0), atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "found", "expected"),
    [
        ({"task": "AAH+AIS,MIA"}, "task AAH+AIS,MIA", "task AAH+AIS,MIA+IAC"),
        ({"task": "MIA+IAC,AAH+AIS"}, "class order MIA+IAC,AAH+AIS", "class order AAH+AIS,MIA+IAC"),
        ({"patch": {"size": 8}}, "patch size 8", "patch size 16"),
        ({"patch": {"window_hu": [-1000.0, 400.0]}}, "patch window_hu (-1000.0, 400.0)", "window_hu (-1024.0, 400.0)"),
        ({"patch": {"spacing_mm_zyx": [1.0, 0.8, 0.7]}}, "spacing_mm_zyx (1.0, 0.8, 0.7)", "(1.0, 0.7, 0.7)"),
        ({"precision": "bfloat16"}, "precision bfloat16", "precision float32"),
    ],
)
def test_runs_that_cannot_be_averaged_are_named_with_both_values(changes, found, expected, runs, tmp_path):
    other = shutil.copytree(runs[1], tmp_path / "other")
    change_description(other, **changes)
    assert_refused([runs[0], runs[2], other], tmp_path, other, found, expected)


def assert_refused(folders, tmp_path, named, *texts):
    result = export(*folders, "-o", tmp_path / "models")
    assert result.exit_code == 1
    assert f"case:     {named}\n" in result.stderr
    assert all(text in result.stderr for text in texts), result.stderr
    assert not (tmp_path / "models").exists()


def test_a_run_on_a_dataset_of_another_schema_is_named(runs, tmp_path):
    dataset, other = tmp_path / "dataset", shutil.copytree(runs[1], tmp_path / "other")
    dataset.mkdir()
    (dataset / "dataset.json").write_text('{"schema": 2}', encoding="utf-8")
    change_description(other, dataset=str(dataset))
    assert_refused([runs[0], other], tmp_path, other, "dataset schema 2", "dataset schema 3")


@pytest.mark.parametrize("unfinished", [0, 1])
def test_an_unfinished_run_is_named_whatever_its_place(unfinished, runs, tmp_path):
    folders = [runs[0], shutil.copytree(runs[1], tmp_path / "other")]
    ledger = without_digest(read_document(folders[1] / "stages.json"))
    content = json.dumps(with_digest({"stages": ledger["stages"][:2]}))
    (folders[1] / "stages.json").write_text(content, encoding="utf-8")
    other = folders[1]
    assert_refused(folders if unfinished else folders[::-1], tmp_path, other, "not finished: joint")


@pytest.mark.parametrize("repeat", ["same", "link", "copy"])
def test_a_run_that_occurs_twice_is_named(repeat, runs, tmp_path):
    other = tmp_path / "other"
    if repeat == "link":
        other.symlink_to(runs[0])
    elif repeat == "copy":
        shutil.copytree(runs[0], other)
    second = runs[0] if repeat == "same" else other
    assert_refused([runs[0], second], tmp_path, second, "the same model as in")


def test_a_damaged_member_is_named_and_nothing_is_written(runs, tmp_path):
    other = shutil.copytree(runs[1], tmp_path / "other")
    (other / "stages" / "joint.keras").write_bytes(b"damaged")
    assert_refused([runs[0], other], tmp_path, other / "stages" / "joint.keras", "another SHA-256")
