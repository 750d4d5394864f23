import errno
import json
import os
import tempfile
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from ggn_tf.cli import main
from ggn_tf.evaluation.statistics.further_scores import score_further
from ggn_tf.evaluation.statistics.prediction_sets import fit_thresholds
from ggn_tf.evaluation.statistics.predictions_table import read_predictions
from ggn_tf.evaluation.statistics.retest import score_retest
from ggn_tf.evaluation.statistics.run_scores import read_scores_file
from ggn_tf.evaluation.statistics.scores import score_predictions
from tests.support.description_edits import edit_description
from tests.support.synthetic import write_synthetic_dataset
from tests.support.tiny_protocol import SIZE
from tests.support.untrained_run import write_untrained_run

TWO = ("AAH+AIS", "MIA+IAC")
QUICK = ("--replicates", 50, "--gallery", 0)


def _evaluate(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["evaluate", *map(str, arguments)])


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A run, and its evaluation with everything that can be asked for."""
    folder = tmp_path_factory.mktemp("evaluated")
    write_synthetic_dataset(folder / "dataset", 30, nodules_per_patient=2, size=SIZE, margin_mm=4.0)
    write_untrained_run(folder)
    further = ("--retest", "--by", "sex", "--sensitivity", 0.5, "--interval-width", 0.2, "--coverage", 0.5)
    return folder / "run", _evaluate(folder / "run", "--replicates", 50, "--gallery", 2, *further)


@pytest.mark.slow
def test_evaluate_writes_everything_and_says_where(evaluated):
    run, result = evaluated
    assert result.exit_code == 0, result.output
    for name in ("predictions.csv", "scores.json", "model_card.md", "figures", "report.html", "test_retest.csv"):
        assert (run / "evaluation" / name).exists()
        assert str(run / "evaluation" / name) in result.stdout


def test_evaluate_prints_a_row_a_stage(evaluated):
    _, result = evaluated
    heads = [line.split()[0] for line in result.stdout.splitlines() if line.startswith("  ")]
    assert heads[:11] == [*["stage", "segment", "classify", "joint"] * 2, *["system", "classify", "joint"]]


def test_progress_goes_to_stderr(evaluated):
    _, result = evaluated
    assert "predicting: stage joint, test set" in result.stderr
    assert "test-retest: stage joint, test set" in result.stderr
    assert "predicting" not in result.stdout


def test_scores_are_those_of_the_predictions(evaluated):
    run, _ = evaluated
    stored = read_scores_file(run / "evaluation" / "scores.json").scores
    assert stored == score_predictions(read_predictions(run / "evaluation" / "predictions.csv"), TWO, replicates=50)


def test_further_scores_operating_point_and_groups_are_in_scores_json(evaluated):
    run, result = evaluated
    stored = read_scores_file(run / "evaluation" / "scores.json")
    frame = read_predictions(run / "evaluation" / "predictions.csv")
    assert list(stored.further) == score_further(frame, 0.5, replicates=50)
    assert {score.group for score in stored.subgroups} == {"F", "M"}
    assert (stored.sensitivity, stored.interval_width) == (0.5, 0.2)
    joint = frame[(frame["set"] == "validation") & (frame["stage"] == "joint")]
    assert stored.sets.thresholds == fit_thresholds(joint, 0.5)
    assert [score.value for score in stored.sets.scores[:2]] and "prediction sets of stage joint" in result.stdout
    report = (run / "evaluation" / "report.html").read_text(encoding="utf-8")
    assert "specificity" in report and "By sex" in report and "HD95" in report
    assert "specificity" in result.stdout
    refused = _evaluate(run, "--by", "age")
    assert refused.exit_code == 1 and "predicting" not in refused.stderr
    assert "found:    age" in refused.stderr and "expected: sex" in refused.stderr and "(option --by)" in refused.stderr


def test_retest_is_in_every_output(evaluated):
    run, result = evaluated
    stored = read_scores_file(run / "evaluation" / "scores.json").retest
    assert (stored.stage, stored.left_out_mm) == ("joint", (6.0, 8.0))
    retested = pd.read_csv(run / "evaluation" / "test_retest.csv", keep_default_na=False, float_precision="round_trip")
    assert list(score_retest(retested, 0, 50)) == list(stored.scores)
    for name in ("report.html", "model_card.md"):
        assert "Test-retest" in (run / "evaluation" / name).read_text(encoding="utf-8")
    assert "centre 4 mm off, recentred" in result.stdout


@pytest.mark.parametrize("reveals", [True, False])
def test_scores_that_the_extent_of_the_ct_explains_are_marked_on_top(evaluated, tmp_path, reveals):
    run, result = evaluated
    if reveals:
        run = write_untrained_run(tmp_path, stages=("segment",)).folder
        edit_description(tmp_path / "dataset", extend_invasive_nodules)
        result = _evaluate(run, *QUICK)
    warning = "THE SCORES OF THE TEST SET CANNOT BE TRUSTED"
    assert result.stdout.startswith(warning) is reveals
    for name in ("report.html", "model_card.md"):
        assert (warning in (run / "evaluation" / name).read_text(encoding="utf-8")) is reveals
    stored = json.loads((run / "evaluation" / "scores.json").read_text(encoding="utf-8"))["field_of_view"]
    assert [score["value"] for score in stored] == ([1.0, 0.5] if reveals else [0.5, 0.5])


def extend_invasive_nodules(description):
    for case in description["cases"]:
        case["covered_layers"] = 20 if case["label"] in ("MIA", "IAC") else 10


def test_moved_dataset_has_to_be_named_a_former_evaluation_is_replaced_and_json_is_the_scores_alone(tmp_path):
    run = write_untrained_run(tmp_path, stages=("segment",)).folder
    (tmp_path / "dataset").rename(tmp_path / "moved")
    (run / "evaluation").mkdir()
    former = run / "evaluation" / "scores.json"
    former.write_text("former", encoding="utf-8")
    lost = _evaluate(run)
    assert lost.exit_code == 1
    assert "(option --own-dataset)" in lost.stderr
    assert former.read_text(encoding="utf-8") == "former"
    (run / "evaluation" / "my notes.txt").write_text("mine", encoding="utf-8")
    refused = _evaluate(run, "--own-dataset", tmp_path / "moved")
    assert refused.exit_code == 1 and "my notes.txt" in refused.stderr
    (run / "evaluation" / "my notes.txt").unlink()
    (run / "evaluation" / "test_retest.csv").write_text("former", encoding="utf-8")
    result = _evaluate(run, "--own-dataset", tmp_path / "moved", *QUICK, "--seed", 3, "--json")
    printed, stored = (json.loads(text) for text in (result.stdout, former.read_text(encoding="utf-8")))
    assert printed.pop("evaluation") == str(run / "evaluation")
    assert stored.pop("sha256") and printed == stored
    bootstrap = {"unit": "patient", "interval": "BCa", "replicates": 50, "seed": 3, "level": 0.95}
    assert printed["bootstrap"] == bootstrap
    assert "test_retest" not in printed and not (run / "evaluation" / "test_retest.csv").exists()


def test_a_read_only_run_is_refused_before_it_predicts_and_evaluated_elsewhere(tmp_path, monkeypatch):
    """Its weights were selected on the test set, which is marked everywhere."""
    run = write_untrained_run(tmp_path, stages=("segment",), select_on="test").folder
    genuine = tempfile.TemporaryFile

    def read_only(*arguments, dir=None, **named):
        if dir is not None and Path(dir).is_relative_to(run):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return genuine(*arguments, dir=dir, **named)

    monkeypatch.setattr(tempfile, "TemporaryFile", read_only)
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    refused = _evaluate(run)
    assert refused.exit_code == 1 and "predicting" not in refused.stderr
    assert "Read-only file system" in refused.stderr and "(option --output)" in refused.stderr
    result = _evaluate(run, "-o", tmp_path / "elsewhere", *QUICK)
    assert result.exit_code == 0, result.output
    assert str(tmp_path / "elsewhere" / "report.html") in result.stdout
    assert "WEIGHTS SELECTED ON THE TEST SET" in result.stdout
    assert "WEIGHTS SELECTED ON THE TEST SET" in (tmp_path / "elsewhere" / "report.html").read_text(encoding="utf-8")
    scores = json.loads((tmp_path / "elsewhere" / "scores.json").read_text(encoding="utf-8"))
    assert scores["run"]["select_on"] == "test"
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_only_an_evaluation_is_replaced_elsewhere(tmp_path):
    run = write_untrained_run(tmp_path, stages=("segment",)).folder
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "text.md").touch()
    result = _evaluate(run, "-o", tmp_path / "thesis")
    assert result.exit_code == 1 and "predicting" not in result.stderr
    assert (tmp_path / "thesis" / "text.md").exists()


def test_folder_that_is_no_run_is_refused_in_one_block(tmp_path):
    result = _evaluate(tmp_path)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: The folder is not a readable run folder")
    assert "Traceback" not in result.output


@pytest.mark.parametrize("place", ["seed3", "runs/seed3"])
def test_a_run_that_does_not_exist_is_refused_with_the_nearest_names(tmp_path: Path, place: str):
    run = tmp_path / place
    run.mkdir(parents=True)
    (run / "run.json").touch()
    result = _evaluate(tmp_path / "seed-3")
    assert result.exit_code == 1 and result.stderr.startswith("error: There is no such run folder.")
    assert f"The nearest names are {run}." in result.stderr and "FileNotFoundError" not in result.stderr


@pytest.mark.parametrize("arguments", [["--replicates", "0"], ["--seed", "-1"], ["--sensitivity", "nan"], []])
def test_wrong_usage_exits_with_2(tmp_path, arguments):
    assert _evaluate(*([tmp_path, *arguments] if arguments else [])).exit_code == 2
