"""The data in every figure."""

import numpy as np
import pandas as pd
import pytest

from ggn_tf.evaluation.report.calibration import draw_decision, draw_reliability
from ggn_tf.evaluation.report.classification import draw_confusion, draw_roc
from ggn_tf.evaluation.report.dice import draw_budget, draw_change, draw_dice
from ggn_tf.evaluation.report.figure_style import save_figure, style
from ggn_tf.evaluation.report.subgroups import ForestRow, draw_forest
from ggn_tf.evaluation.statistics.calibration import ReliabilityBin
from ggn_tf.evaluation.statistics.curves import DecisionCurve, RocCurve, roc_curve_with_band
from ggn_tf.evaluation.statistics.scores import confusion

TWO = ("AAH+AIS", "MIA+IAC")
THREE = ("AAH+AIS", "MIA", "IAC")


def _curve(frame: pd.DataFrame) -> RocCurve:
    return roc_curve_with_band(frame, 50, 0)


def _texts(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_confusion_matrix_shows_counts_and_row_shares_with_the_first_class_on_top(figure_4):
    axes = draw_confusion(confusion(figure_4("d")), THREE, "").axes[0]
    assert _texts(axes)[:6] == ["27", "39%", "41", "59%", "1", "1%"]
    first, last = (axes.transData.transform(axes.texts[index].get_position())[1] for index in (0, -2))
    assert first > last


def test_confusion_matrix_of_a_class_without_nodules(make_frame):
    axes = draw_confusion(confusion(make_frame(TWO, [0], np.array([[0.8, 0.2]]))), TWO, "").axes[0]
    assert _texts(axes) == ["1", "100%", "0", "0%", "0", "0%", "0", "0%"]


def test_roc_is_of_the_second_class(make_frame):
    curve = _curve(make_frame(TWO, [0, 1], np.array([[0.9, 0.1], [0.3, 0.7]])))
    axes = draw_roc({"joint": curve}, TWO[1], "").axes[0]
    np.testing.assert_array_equal(axes.lines[1].get_xydata()[:2], [[0, 0], [0, 1]])


def test_roc_has_one_band_per_system(drawn_frame):
    curves = {"classify": _curve(drawn_frame(seed=1)), "joint": _curve(drawn_frame(seed=2))}
    axes = draw_roc(curves, TWO[1], "").axes[0]
    for band, curve in zip(axes.collections, curves.values(), strict=True):
        heights = band.get_paths()[0].vertices[:, 1]
        assert heights.min() == pytest.approx(curve.low.min())
        assert set(curve.high) <= set(heights)


def test_roc_of_one_class_is_not_drawn(make_frame):
    curve = _curve(make_frame(TWO, [1, 1], np.array([[0.9, 0.1], [0.3, 0.7]])))
    axes = draw_roc({"joint": curve}, TWO[1], "").axes[0]
    assert axes.lines[1].get_xydata().size == 0


def test_dice_figure_shows_every_nodule_in_one_row_per_system():
    axes = draw_dice({"segment": np.array([0.5, 0.9, 0.7]), "joint": np.array([0.75])}, "").axes[0]
    assert sorted(axes.collections[0].get_offsets()[:, 0]) == [0.5, 0.7, 0.9]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["segment\nmean 0.700", "joint\nmean 0.750"]


def test_change_has_one_mark_per_nodule_in_the_colour_of_its_class_and_no_change_in_the_middle():
    dice, score, label = np.array([0.1, -0.1, 0.0]), np.array([0.2, 0.3, -0.4]), np.array([0, 1, 1])
    axes = draw_change(dice, score, label, TWO, "").axes[0]
    assert [points.get_offsets().tolist() for points in axes.collections] == [[[0.1, 0.2]], [[-0.1, 0.3], [0.0, -0.4]]]
    assert sum(axes.get_xlim()) == pytest.approx(0)
    assert sum(axes.get_ylim()) == pytest.approx(0)


def test_budget_has_the_predicted_mask_on_the_horizontal_axis():
    axes = draw_budget(np.array([0.2]), np.array([0.9]), np.array([0.5]), "").axes[0]
    assert axes.collections[0].get_offsets().tolist() == [[0.2, 0.9]]
    assert axes.get_xlabel().endswith("predicted mask")


def test_dollar_sign_in_a_class_name_is_not_read_as_mathematics(tmp_path):
    with style():
        save_figure(draw_confusion(np.eye(2, dtype=int), ("$a_{", "b$"), "$"), tmp_path / "confusion")
    assert (tmp_path / "confusion.png").exists()


def test_reliability_has_one_point_per_bin_and_its_interval_if_there_is_one():
    bins = [ReliabilityBin(0.2, 0.1, 0.0, 0.3, 12), ReliabilityBin(0.8, 0.7, None, None, 12)]
    axes = draw_reliability({"joint": bins}, ("Predicted", "Share"), "").axes[0]
    assert [line.get_xydata().tolist() for line in axes.lines[1:]] == [
        [[0.2, 0.0], [0.2, 0.3]],
        [[0.2, 0.1], [0.8, 0.7]],
    ]


def test_decision_curve_is_drawn_with_acting_on_all_and_on_none():
    thresholds = np.array([0.25, 0.5])
    low, high, treat_all = np.array([0.3, 0.2]), np.array([0.5, 0.4]), np.array([0.33, 0.0])
    curve = DecisionCurve(thresholds, np.array([0.4, 0.3]), low, high, treat_all)
    everybody, nobody, system = draw_decision({"joint": curve}, TWO[1], "").axes[0].lines
    assert list(everybody.get_ydata()) == [0.33, 0.0]
    assert set(nobody.get_ydata()) == {0}
    assert list(system.get_ydata()) == [0.4, 0.3]


def test_forest_has_one_row_per_group_from_top_to_bottom():
    rows = [ForestRow("Size", heading=True), ForestRow("< 6 mm", 0.5, 0.4, 0.7), ForestRow("few (n = 3)")]
    axes = draw_forest(rows, 0.6, "accuracy", "").axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["Size", "< 6 mm", "few (n = 3)"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]
    whole, interval, point = (line.get_xydata().tolist() for line in axes.lines)
    assert (whole[0][0], interval, point) == (0.6, [[0.4, 1.0], [0.7, 1.0]], [[0.5, 1.0]])
