import json
import shutil

import pytest
from click.testing import CliRunner

from ggn_tf.cli import main
from ggn_tf.evaluation.statistics.run_scores import Estimate, StageScores
from ggn_tf.json_records import read_document, with_digest, without_digest
from ggn_tf.serving.contract.export_contract import read_contract
from tests.support.described_run import write_test_scores
from tests.support.untrained_run import write_untrained_run


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
    first = export(run, "-o", tmp_path / "models" / "ggn")
    second = export(run, "-o", tmp_path / "models" / "ggn")
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert first.stdout == f"{tmp_path / 'models' / 'ggn' / '1'}\n"
    assert second.stdout == f"{tmp_path / 'models' / 'ggn' / '2'}\n"
    provenance = read_contract(tmp_path / "models" / "ggn" / "2").provenance
    assert (provenance["run"], provenance["stage"], provenance["seed"]) == ("run", "joint", 0)
    assert len(provenance["dataset_fingerprint"]) > 8


def test_the_card_tells_the_scores_of_the_exported_stage(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    shares = {"classify": 0.5, "joint": 0.625}
    stages = {stage: StageScores(accuracy=Estimate(share, 0.0, 1.0)) for stage, share in shares.items()}
    write_test_scores(copy, stages)
    result = export(copy, "-o", tmp_path / "models")
    assert result.exit_code == 0, result.output
    assert "- accuracy: 0.625 [0.000, 1.000]" in card_of(tmp_path / "models" / "1")
    assert "0.500" not in card_of(tmp_path / "models" / "1")


def test_scores_of_an_earlier_stage_are_not_told_as_the_exports(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    write_test_scores(copy, {"segment": StageScores(dice=Estimate(0.75, 0.5, 0.875))})
    assert export(copy, "-o", tmp_path / "models").exit_code == 0
    assert "The run was not evaluated" in card_of(tmp_path / "models" / "1")


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
