"""Why a stage ended, in new ledgers and in those of ggn-tf 0.1, which contain the sentence alone."""

import dataclasses
import json
from pathlib import Path

import pytest

from ggn_tf.models.systems import build_cascade
from ggn_tf.protocol import Protocol
from ggn_tf.runs.ledger import StopReason, stop_reason_of
from ggn_tf.runs.run_description import RunDescription
from ggn_tf.runs.run_folder import RunFolder


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"ended": "all 150 epochs done"}, StopReason.ALL_EPOCHS),
        ({"ended": "no better score for 50 epochs"}, StopReason.NO_BETTER_SCORE),
        ({"ended": "any wording", "ended_code": "all_epochs"}, StopReason.ALL_EPOCHS),
        ({"ended": "all 150 epochs done", "ended_code": "no_better_score"}, StopReason.NO_BETTER_SCORE),
        ({"ended": "all 150 epochs done", "ended_code": "of a later version"}, None),
        ({"ended": "all is well"}, None),
        ({}, None),
    ],
)
def test_the_code_decides_and_without_one_the_old_sentence(entry: dict[str, str], reason: StopReason | None):
    assert stop_reason_of(entry) is reason


@pytest.mark.parametrize("reason", StopReason)
def test_a_text_of_today_is_read_back_without_its_code(reason: StopReason):
    numbers = Protocol().training.segment
    assert reason.text(numbers).split()[-3 if reason is StopReason.ALL_EPOCHS else -2] in {"150", "50"}
    assert stop_reason_of({"ended": reason.text(numbers)}) is reason


def test_a_ledger_of_the_first_version_can_be_extended(tmp_path: Path, description: RunDescription):
    """`stages.json` as ggn-tf 0.1 wrote it, but for the changes and the history."""
    run = RunFolder.create(tmp_path / "run", description, tmp_path / "dataset", {}, "")
    run.finish_stage(build_cascade(2, description.protocol), {"stage": "segment"})
    (written,) = run.ledger.entries()
    old = {"stage": "segment", "epochs": 2, "ended": "all 2 epochs done", "best_epoch": 2, "sha256": written["sha256"]}
    (run.folder / "stages.json").write_text(json.dumps({"stages": [old]}), encoding="utf-8")
    assert RunFolder.open(run.folder).is_complete("segment")
    segment = dataclasses.replace(description.protocol.training.segment, max_epochs=3)
    training = dataclasses.replace(description.protocol.training, segment=segment)
    longer = dataclasses.replace(description, protocol=dataclasses.replace(description.protocol, training=training))
    assert not RunFolder.create(run.folder, longer, run.dataset, {}, "").is_complete("segment")
