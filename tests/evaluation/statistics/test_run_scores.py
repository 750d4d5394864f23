import json
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest

from ggn_tf.errors import RunError
from ggn_tf.evaluation.statistics.further_scores import score_further
from ggn_tf.evaluation.statistics.run_scores import (
    Estimate,
    Evaluation,
    ExtentScore,
    SiteDifference,
    StageScores,
    evaluation_document,
    read_scores_file,
    scores_document,
    stage_document,
    write_scores_file,
)
from ggn_tf.evaluation.statistics.score_records import Perturbation, Retest, RetestScore, SubgroupScore
from ggn_tf.evaluation.statistics.set_thresholds import ClassThreshold, PredictionSets, SetThresholds
from tests.support.described_run import evaluated

SITE = SiteDifference("joint", "accuracy", 0.8, 0.7, -0.1, -0.2, 0.1)


@pytest.fixture
def evaluation(drawn_frame) -> Evaluation:
    parts = []
    for set_name, cases in (("validation", 20), ("test", 40)):
        joint = drawn_frame(cases=cases, set_name=set_name)
        parts += [joint.assign(**{"stage": "segment", "p_AAH+AIS": np.nan, "p_MIA+IAC": np.nan}), joint]
    return evaluated(pd.concat(parts, ignore_index=True))


def test_evaluation_is_read_as_it_was_written(evaluation, drawn_frame, tmp_path):
    extent = (ExtentScore("test", "share", "MIA+IAC", 0.7, 0.6, None, revealing=True),)
    further = tuple(score_further(drawn_frame(), replicates=20))
    groups = (SubgroupScore(**asdict(further[0]), characteristic="sex", group="f"),)
    retest_scores = (
        RetestScore(Perturbation("none"), "auc", 0.9, 0.8, 0.95),
        RetestScore(
            Perturbation("centre_offset", 4.0, recentred=True), "auc", 0.9, None, None, "reason", 0.1, 0.0, 0.2
        ),
    )
    retest = Retest("joint", 40, 30, 8.0, (6.0,), retest_scores)
    thresholds = SetThresholds(0.9, (ClassThreshold("AAH+AIS", 9, 8, 0.0), ClassThreshold("MIA+IAC", 20, 19, 0.25)))
    sets = PredictionSets("joint", "validation", thresholds, groups)
    more = {
        "sets": sets,
        "further": further,
        "sensitivity": 0.9,
        "subgroups": groups,
        "interval_width": 0.2,
        "retest": retest,
    }
    elsewhere = replace(evaluation, sites=(SITE,), external_dataset="elsewhere", extent=extent, **more)
    for number, written in enumerate((evaluation, elsewhere, evaluated(drawn_frame()))):
        write_scores_file(written, tmp_path / f"{number}.json")
        assert read_scores_file(tmp_path / f"{number}.json") == written


def test_document_of_several_stages(evaluation):
    document = evaluation_document(evaluation)
    assert list(document) == ["validation", "test", "counts", "bootstrap", "interval_width", "run"]
    assert list(document["test"]) == ["segment", "joint"]
    assert list(document["test"]["joint"]) == ["accuracy", "average_f1", "mcc", "auc", "dice"]
    assert document["counts"]["test"]["nodules"] == 40
    assert document["bootstrap"] == {
        "unit": "patient",
        "interval": "BCa",
        "replicates": 10,
        "seed": 0,
        "level": 0.95,
    }
    json.dumps(document, allow_nan=False)


def test_document_of_a_single_stage_has_no_level_for_it(drawn_frame):
    assert list(scores_document(evaluated(drawn_frame()).scores)["test"]["accuracy"]) == ["value", "low", "high"]


def test_document_of_another_site(evaluation):
    document = evaluation_document(replace(evaluation, sites=(SITE,), external_dataset="elsewhere"))
    assert list(document)[-4:] == ["sites", "external_dataset", "interval_width", "run"]
    assert document["sites"][0]["difference"] == -0.1


def test_entry_names_a_reason_and_replicates_only_where_there_are_some():
    scores = StageScores(accuracy=Estimate(0.5, 0.0, 1.0), mcc=Estimate(0.0, reason="constant", left_out=3))
    assert stage_document(scores) == {
        "accuracy": {"value": 0.5, "low": 0.0, "high": 1.0},
        "mcc": {"value": 0.0, "low": None, "high": None, "reason": "constant", "left_out": 3},
    }


@pytest.mark.parametrize("text", ["{", "[]", '{"test": {}}', '{"run": {"task": 1}, "bootstrap": {}}'])
def test_damaged_file_is_refused(tmp_path, text):
    (tmp_path / "scores.json").write_text(text, encoding="utf-8")
    with pytest.raises(RunError) as caught:
        read_scores_file(tmp_path / "scores.json")
    assert caught.value.case == str(tmp_path / "scores.json")
