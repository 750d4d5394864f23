import numpy as np
import pytest

from ggn_tf.errors import RunError
from ggn_tf.models.systems import build_cascade
from ggn_tf.runs.run_description import RunDescription
from ggn_tf.runs.run_folder import RunFolder
from ggn_tf.runs.stages import CLASSIFY, SEGMENT
from ggn_tf.training.audit import audit_stage, snapshot, summarise


@pytest.fixture
def model(description: RunDescription):
    return build_cascade(2, description.protocol)


def move(model, part: str, name: str = "", by: float = 1.0, all_but: str | None = None) -> None:
    for weight in model.get_layer(part).weights:
        if name in weight.path and weight.path != all_but:
            weight.assign(weight + by)


def test_a_run_whose_frozen_part_moved_is_stopped(model):
    before = snapshot(model)
    move(model, "segmentation")
    move(model, "classification")
    with pytest.raises(RunError) as caught:
        audit_stage(model, CLASSIFY, before)
    assert (caught.value.case or "").startswith("segmentation/")


def test_frozen_statistics_stand_still_or_the_run_is_stopped(model):
    before = snapshot(model)
    move(model, "classification")
    move(model, "segmentation", "norm_3/moving_variance", by=1e-3)
    with pytest.raises(RunError, match="segmentation/norm_3/moving_variance") as caught:
        audit_stage(model, CLASSIFY, before)
    assert "found:    its largest change is 0.001" in str(caught.value)


@pytest.mark.parametrize("still", ["conv_2/kernel", "norm_2/moving_mean"])
def test_one_trained_variable_that_stood_still_is_enough(model, still: str):
    before = snapshot(model)
    move(model, "segmentation", all_but=still)
    with pytest.raises(RunError, match=f"segmentation/{still}") as caught:
        audit_stage(model, SEGMENT, before)
    assert "expected: some change" in str(caught.value)


def test_a_bias_without_a_gradient_may_stand_still(model):
    """Batch normalisation takes a convolution's bias out again."""
    before = snapshot(model)
    move(model, "segmentation", all_but="conv_2/bias")
    audit_stage(model, SEGMENT, before)


def test_the_ledger_contains_every_variables_largest_and_mean_change(model):
    before = snapshot(model)
    move(model, "segmentation", by=0.5)
    kernel = next(w for w in model.get_layer("segmentation").weights if w.path == "conv_1/kernel")
    moved = kernel.numpy()
    moved[0, 0, 0, 0, 0] += 1.5
    kernel.assign(moved)
    summary = summarise(audit_stage(model, SEGMENT, before))
    assert summary["largest_change"] == {"segmentation": pytest.approx(2.0), "classification": 0.0}
    expected = {"largest": pytest.approx(2.0), "mean": pytest.approx(0.5 + 1.5 / kernel.numpy().size)}
    assert summary["changes"]["segmentation/conv_1/kernel"] == expected
    assert summary["changes"]["classification/norm_1/moving_mean"] == {"largest": 0.0, "mean": 0.0}


def test_a_real_run_records_what_its_stages_changed(whole_run: RunFolder):
    segment, classify, joint = whole_run.ledger.entries()
    for entry, still in ((segment, "classification"), (classify, "segmentation")):
        frozen = [change["largest"] for name, change in entry["changes"].items() if name.startswith(still)]
        assert frozen and set(frozen) == {0.0}
    assert all(np.isfinite(change["largest"]) for change in joint["changes"].values())
    assert joint["changes"]["segmentation/norm_1/moving_mean"]["largest"] > 0
    assert set(joint["conditions"]) == {
        "device",
        "threads",
        "deterministic",
        "replicas",
        "bit_for_bit",
        "why",
        "kernels",
    }
