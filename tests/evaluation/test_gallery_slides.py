from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from ggn_tf.dataset.records import Dataset, read_patches
from ggn_tf.dataset.splits import read_split
from ggn_tf.evaluation.report_inputs import (
    CORRECT,
    GAINED,
    LOST,
    WORST_MASK,
    WRONG,
    ReportInputs,
    Slides,
    choose_cases,
    collect_report_inputs,
    predict_with_reference,
)
from ggn_tf.evaluation.run_predictions import predict_run
from ggn_tf.evaluation.statistics.predictions_table import probabilities
from ggn_tf.runs.run_folder import RunFolder, open_run_dataset
from ggn_tf.training.losses import dice_score
from tests.support.untrained_run import write_untrained_run

TWO = ("AAH+AIS", "MIA+IAC")


def _probabilities(true_class: list[float], label: list[int]) -> np.ndarray:
    """Probabilities from those of the true class."""
    return np.array([[p, 1 - p] if index == 0 else [1 - p, p] for p, index in zip(true_class, label, strict=True)])


@pytest.fixture
def cascade(make_frame) -> pd.DataFrame:
    """Five nodules; the last four rose by 0.3, fell by 0.1, fell by 0.4, rose by 0.1."""
    label = [0, 1, 0, 1, 0]
    classify = make_frame(TWO, label, _probabilities([0.5, 0.6, 0.7, 0.6, 0.2], label), stage="classify")
    joint = make_frame(TWO, label, _probabilities([0.5, 0.9, 0.6, 0.2, 0.3], label), dice=[0.9, 0.8, 0.1, 0.7, 0.6])
    return pd.concat([classify, joint], ignore_index=True)


def test_reasons_take_turns(cascade):
    assert choose_cases(cascade, 5) == {
        "test0001": GAINED,
        "test0003": LOST,
        "test0004": WRONG,
        "test0002": WORST_MASK,
        "test0000": WORST_MASK,
    }


def test_no_more_than_requested_and_no_nodule_twice(cascade):
    assert list(choose_cases(cascade, 2)) == ["test0001", "test0003"]
    assert sorted(choose_cases(cascade, 99)) == sorted(set(cascade["case"]))
    assert choose_cases(cascade, 0) == {}


def test_choice_does_not_depend_on_the_order_of_the_rows(cascade):
    other = cascade.sort_values(["stage", "case"], ascending=[True, False])
    assert choose_cases(other, 4) == choose_cases(cascade, 4)


def test_equal_nodules_go_by_their_id(make_frame):
    frame = make_frame(TWO, [0, 0, 0], _probabilities([0.2, 0.2, 0.2], [0, 0, 0]), dice=[np.nan] * 3)
    assert list(choose_cases(frame.iloc[::-1], 2)) == ["test0000", "test0001"]


def test_run_of_one_stage_shows_correct_and_wrong_predictions(make_frame):
    frame = make_frame(TWO, [0, 0, 0], _probabilities([0.9, 0.2, 0.8], [0, 0, 0]), dice=[np.nan] * 3)
    assert choose_cases(frame, 3) == {"test0000": CORRECT, "test0001": WRONG, "test0002": CORRECT}


def test_run_without_classifier_shows_the_worst_masks(make_frame):
    frame = make_frame(TWO, [0, 0, 0], dice=[0.9, 0.2, 0.8], stage="segment")
    assert choose_cases(frame, 2) == {"test0001": WORST_MASK, "test0002": WORST_MASK}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return write_untrained_run(tmp_path_factory.mktemp("gallery"))


@pytest.fixture(scope="module")
def dataset(run: RunFolder) -> Dataset:
    return open_run_dataset(run)


@pytest.fixture(scope="module")
def rows(run: RunFolder, dataset: Dataset) -> pd.DataFrame:
    frame = predict_run(run, dataset, read_split(dataset, 1))
    return frame[frame["set"] == "test"]


@pytest.fixture(scope="module")
def inputs(run, dataset, rows) -> ReportInputs:
    return collect_report_inputs(run, dataset, rows, gallery=4)


@pytest.fixture(scope="module")
def slides(inputs) -> Sequence[Slides]:
    return inputs.slides


def test_slides_are_of_the_chosen_cases_with_masks_of_the_first_and_the_last_segmenter(slides, rows, inputs, dataset):
    assert inputs.nodules == dataset.case_by_id
    assert [each.case_id for each in slides] == list(choose_cases(rows, 4))
    assert all(list(each.masks) == ["segment", "joint"] for each in slides)
    assert all(each.heat.shape == each.gray.shape and each.heat.max() <= 1 for each in slides)


@pytest.mark.parametrize("stage", ["segment", "joint"])
def test_masks_have_the_dice_of_the_predictions(slides, rows, stage):
    predicted = rows[rows["stage"] == stage].set_index("case")["dice"]
    for each in slides:
        dice = dice_score(each.reference[np.newaxis], each.masks[stage][np.newaxis])[0]
        assert dice == pytest.approx(predicted[each.case_id])


def test_gray_is_the_window(slides, dataset):
    hu, mask = read_patches(dataset, [slides[0].case_id])
    expected = np.rint(np.clip((hu[0, ..., 0] + 1024) / 1424, 0, 1) * 255)
    np.testing.assert_allclose(slides[0].gray, expected, atol=1)
    np.testing.assert_array_equal(slides[0].reference, mask[0, ..., 0] > 0)


def test_reference_masks_change_the_probabilities_of_the_last_stage_alone(run, dataset, rows, inputs):
    joint = rows[rows["stage"] == "joint"]
    assert list(inputs.reference["case"]) == list(joint["case"])
    hu, mask = read_patches(dataset, list(joint["case"]))
    patch = np.clip((hu + 1024) / 1424, 0, 1) * 2 - 1
    classifier = run.load_model("joint").get_layer("classification")
    expected = np.asarray(classifier(patch * mask, training=False))
    np.testing.assert_allclose(probabilities(inputs.reference), expected, atol=1e-5)


def test_stage_without_classifier_has_no_reference_side(run, dataset, rows):
    assert predict_with_reference(run, dataset, rows[rows["stage"] == "segment"]) is None


def test_run_without_test_cases_has_no_gallery(run, dataset, rows):
    inputs = collect_report_inputs(run, dataset, rows.assign(set="validation"), gallery=4)
    assert (inputs.reference, inputs.slides) == (None, ())
