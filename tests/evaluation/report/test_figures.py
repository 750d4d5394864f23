import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from ggn_tf.evaluation.report.budget import draw_budget
from ggn_tf.evaluation.report.calibration import draw_decision, draw_reliability
from ggn_tf.evaluation.report.classification import draw_confusion, draw_roc
from ggn_tf.evaluation.report.figure_style import save_figure, style
from ggn_tf.evaluation.report.segmentation import draw_change, draw_dice
from ggn_tf.evaluation.report.subgroups import ForestRow, draw_forest
from ggn_tf.evaluation.statistics.calibration import ReliabilityBin
from ggn_tf.evaluation.statistics.decision_curve import DecisionCurve
from ggn_tf.evaluation.statistics.roc import RocCurve, roc_curve_with_band
from ggn_tf.evaluation.statistics.scores import confusion

TWO = ("AAH+AIS", "MIA+IAC")
THREE = ("AAH+AIS", "MIA", "IAC")


def _curve(frame: pd.DataFrame) -> RocCurve:
    return roc_curve_with_band(frame, 50, 0)


def _legend(figure: Figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def _texts(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_confusion_matrix_shows_counts_and_shares_of_the_row(figure_4):
    axes = draw_confusion(confusion(figure_4("d")), THREE, "Stage joint, test set").axes[0]
    assert _texts(axes)[:6] == ["27", "39%", "41", "59%", "1", "1%"]


def test_confusion_matrix_has_the_first_class_on_top_and_the_true_class_in_rows(figure_4):
    axes = draw_confusion(confusion(figure_4("d")), THREE, "Stage joint, test set").axes[0]
    first, last = axes.texts[0], axes.texts[-2]
    assert axes.transData.transform(first.get_position())[1] > axes.transData.transform(last.get_position())[1]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "AAH+AIS\n(n = 69)",
        "MIA\n(n = 101)",
        "IAC\n(n = 55)",
    ]


def test_confusion_matrix_says_how_many_are_right(figure_4):
    axes = draw_confusion(confusion(figure_4("d")), THREE, "Stage joint, test set").axes[0]
    assert axes.get_title(loc="left") == "Stage joint, test set\n132 of 225 nodules right"


def test_confusion_matrix_of_a_class_without_nodules(make_frame):
    axes = draw_confusion(confusion(make_frame(TWO, [0], np.array([[0.8, 0.2]]))), TWO, "").axes[0]
    assert _texts(axes) == ["1", "100%", "0", "0%", "0", "0%", "0", "0%"]


def test_roc_has_the_auc_of_every_stage_in_its_legend(make_frame):
    better = make_frame(TWO, [0, 0, 1, 1], np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.1, 0.9]]))
    worse = make_frame(TWO, [0, 0, 1, 1], np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.1, 0.9]]))
    figure = draw_roc({"classify": _curve(worse), "joint": _curve(better)}, TWO[1], "ROC, test set")
    assert [line.partition(" [")[0] for line in _legend(figure)] == ["classify: AUC 0.750", "joint: AUC 1.000"]


def test_roc_is_of_the_second_class(make_frame):
    frame = make_frame(TWO, [0, 1], np.array([[0.9, 0.1], [0.3, 0.7]]))
    axes = draw_roc({"joint": _curve(frame)}, TWO[1], "ROC, test set").axes[0]
    assert axes.get_ylabel() == "Sensitivity for MIA+IAC"
    np.testing.assert_array_equal(axes.lines[1].get_xydata()[:2], [[0, 0], [0, 1]])


def test_roc_has_a_band_a_system(drawn_frame):
    curves = {"classify": _curve(drawn_frame(seed=1)), "joint": _curve(drawn_frame(seed=2))}
    axes = draw_roc(curves, TWO[1], "").axes[0]
    for band, curve in zip(axes.collections, curves.values(), strict=True):
        heights = band.get_paths()[0].vertices[:, 1]
        assert heights.min() == pytest.approx(curve.low.min())
        assert set(curve.high) <= set(heights)


def test_roc_of_one_class_is_said_to_be_undefined(make_frame):
    frame = make_frame(TWO, [1, 1], np.array([[0.9, 0.1], [0.3, 0.7]]))
    assert _legend(draw_roc({"joint": _curve(frame)}, TWO[1], "")) == ["joint: no AUC, one class only"]


def test_dice_figure_shows_every_nodule_and_the_mean(make_frame):
    frame = make_frame(TWO, [0, 1, 1], dice=[0.5, 0.7, 0.9])
    axes = draw_dice({"segment": frame["dice"].to_numpy()}, "Dice, test set").axes[0]
    assert sorted(axes.collections[0].get_offsets()[:, 0]) == [0.5, 0.7, 0.9]
    assert axes.get_yticklabels()[0].get_text() == "segment\nmean 0.700"


def test_dice_figure_of_two_systems_has_a_row_each():
    axes = draw_dice({"segment": np.array([0.5]), "joint": np.array([0.75])}, "Dice").axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["segment\nmean 0.500", "joint\nmean 0.750"]


def test_change_has_a_mark_a_nodule_in_its_classs_colour():
    dice, score, label = np.array([0.1, -0.1, 0.0]), np.array([0.2, 0.3, -0.4]), np.array([0, 1, 1])
    axes = draw_change(dice, score, label, TWO, "").axes[0]
    marks = [points.get_offsets().tolist() for points in axes.collections]
    assert marks == [[[0.1, 0.2]], [[-0.1, 0.3], [0.0, -0.4]]]


def test_change_has_nothing_changed_in_its_middle():
    axes = draw_change(np.array([0.3]), np.array([-0.2]), np.array([0]), TWO, "").axes[0]
    assert sum(axes.get_xlim()) == pytest.approx(0)
    assert sum(axes.get_ylim()) == pytest.approx(0)


def test_budget_has_the_predicted_mask_across_and_the_reference_upwards():
    axes = draw_budget(np.array([0.2]), np.array([0.9]), np.array([0.5]), "").axes[0]
    assert axes.collections[0].get_offsets().tolist() == [[0.2, 0.9]]
    assert axes.get_xlabel().endswith("predicted mask")
    assert axes.get_ylabel().endswith("reference mask")


def test_dollar_sign_in_a_class_name_is_drawn_as_it_is(tmp_path):
    with style():
        save_figure(draw_confusion(np.eye(2, dtype=int), ("$a_{", "b$"), "$"), tmp_path / "confusion")
    assert (tmp_path / "confusion.png").exists()


def test_reliability_has_a_point_and_an_interval_a_bin():
    bins = [ReliabilityBin(0.2, 0.1, 0.0, 0.3, 12), ReliabilityBin(0.8, 0.7, 0.6, 0.9, 12)]
    axes = draw_reliability({"joint": bins}, ("Predicted", "Share"), "").axes[0]
    lines = [line.get_xydata().tolist() for line in axes.lines[1:]]
    assert lines == [[[0.2, 0.0], [0.2, 0.3]], [[0.8, 0.6], [0.8, 0.9]], [[0.2, 0.1], [0.8, 0.7]]]


def test_reliability_without_an_interval_has_the_point_alone():
    axes = draw_reliability({"joint": [ReliabilityBin(0.2, 0.1, None, None, 12)]}, ("", ""), "").axes[0]
    assert [line.get_xydata().tolist() for line in axes.lines[1:]] == [[[0.2, 0.1]]]


def test_decision_curve_stands_beside_acting_on_all_and_on_none():
    at = np.array([0.25, 0.5])
    curve = DecisionCurve(at, np.array([0.4, 0.3]), np.array([0.3, 0.2]), np.array([0.5, 0.4]), np.array([0.33, 0.0]))
    figure = draw_decision({"joint": curve}, TWO[1], "")
    assert _legend(figure) == ["act on all as MIA+IAC", "act on none", "joint"]
    everybody, nobody, system = figure.axes[0].lines
    assert list(everybody.get_ydata()) == [0.33, 0.0]
    assert set(nobody.get_ydata()) == {0}
    assert list(system.get_ydata()) == [0.4, 0.3]


def test_forest_has_a_row_a_group_from_top_to_bottom():
    rows = [ForestRow("Size", heading=True), ForestRow("< 6 mm", 0.5, 0.4, 0.7), ForestRow("few (n = 3)")]
    axes = draw_forest(rows, 0.6, "accuracy", "").axes[0]
    labels = axes.get_yticklabels()
    assert [label.get_text() for label in labels] == ["Size", "< 6 mm", "few (n = 3)"]
    assert [label.get_fontweight() for label in labels] == ["bold", "normal", "normal"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]
    whole, interval, point = (line.get_xydata().tolist() for line in axes.lines)
    assert (whole[0][0], interval, point) == (0.6, [[0.4, 1.0], [0.7, 1.0]], [[0.5, 1.0]])
