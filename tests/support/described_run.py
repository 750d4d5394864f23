"""A run as an evaluation describes it, and the scores of a predictions table."""

from dataclasses import replace
from pathlib import Path

import pandas as pd

from ggn_tf.evaluation.statistics.predictions_table import table_classes
from ggn_tf.evaluation.statistics.run_scores import (
    Estimate,
    Evaluation,
    Scores,
    SetScores,
    StageScores,
    TrainedRun,
    TrainedStage,
    write_scores_file,
)
from ggn_tf.evaluation.statistics.scores import score_predictions

RUN = TrainedRun(
    task="AAH+AIS,MIA+IAC",
    model="cascade",
    split=1,
    seed=3,
    precision="float32",
    select_on="validation",
    dataset_fingerprint="0f1e2d",
    dataset="ggn740",
    versions={"ggn-tf": "1.0.0", "tensorflow": "2.21.0"},
    stages=(
        TrainedStage("segment", 150, 144, "150 epochs"),
        TrainedStage("joint", 71, 21, "50 epochs without a better score"),
    ),
)


def described_run(frame: pd.DataFrame, **changes: object) -> TrainedRun:
    """A run with the stages of a predictions table."""
    stages = tuple(replace(RUN.stages[-1], stage=stage) for stage in dict.fromkeys(frame["stage"]))
    return replace(RUN, stages=stages, **changes)


def evaluated(frame: pd.DataFrame, seed: int = 0, replicates: int = 10, **changes: object) -> Evaluation:
    """The evaluation of a predictions table of one run."""
    scores = score_predictions(frame, table_classes(frame), seed, replicates)
    return Evaluation(scores, described_run(frame, **changes))


def scores_of_test(frame: pd.DataFrame, seed: int = 0, replicates: int = 10) -> dict[str, Estimate]:
    """The scores of the last stage on the test set, by name."""
    scores = score_predictions(frame, table_classes(frame), seed, replicates)
    return list(scores.test.stages.values())[-1].by_metric()


def write_test_scores(run: Path, stages: dict[str, StageScores]) -> None:
    """Write `evaluation/scores.json` of a run that was scored on its test set."""
    trained = replace(RUN, stages=tuple(TrainedStage(stage, 1, 1, "1 epoch") for stage in stages))
    (run / "evaluation").mkdir(exist_ok=True)
    scores = Scores({"test": SetScores(4, 4, {"AAH+AIS": 2, "MIA+IAC": 2}, stages)}, 10, 0, 0.95)
    write_scores_file(Evaluation(scores, trained), run / "evaluation" / "scores.json")
