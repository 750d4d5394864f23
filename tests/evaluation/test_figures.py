import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from ggn_tf.evaluation.figures import draw_confusion, draw_dice, draw_roc, write_figures

TWO = ("AAH+AIS", "MIA+IAC")
THREE = ("AAH+AIS", "MIA", "IAC")


@pytest.fixture
def cascade(drawn_frame) -> pd.DataFrame:
    classify, joint = drawn_frame(stage="classify"), drawn_frame(stage="joint")
    segment = classify.assign(**{"stage": "segment", "p_AAH+AIS": np.nan, "p_MIA+IAC": np.nan})
    return pd.concat([segment, classify, joint], ignore_index=True)


def _texts(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_figures_of_a_two_class_cascade(tmp_path, cascade):
    figures = write_figures(cascade, tmp_path / "figures", "validation")
    assert {caption: path.name for caption, path in figures.items()} == {
        "Confusion matrix, stage classify": "confusion-classify.svg",
        "Confusion matrix, stage joint": "confusion-joint.svg",
        "ROC curves": "roc.svg",
        "Dice of every nodule": "dice.svg",
    }


def test_every_figure_is_there_as_png_and_svg(tmp_path, cascade):
    figures = write_figures(cascade, tmp_path, "validation")
    names = sorted(path.stem + suffix for path in figures.values() for suffix in (".png", ".svg"))
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_three_classes_have_no_roc(tmp_path, drawn_frame):
    assert "ROC curves" not in write_figures(drawn_frame(THREE), tmp_path, "validation")


def test_model_without_masks_has_no_dice(tmp_path, drawn_frame):
    assert "Dice of every nodule" not in write_figures(drawn_frame().assign(dice=np.nan), tmp_path, "validation")


def test_empty_set_has_no_figures(tmp_path, cascade):
    assert write_figures(cascade.assign(set="train"), tmp_path, "validation") == {}


def test_figures_are_the_same_bytes_at_every_run(tmp_path, cascade):
    for folder in ("one", "two"):
        write_figures(cascade, tmp_path / folder, "validation")
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / folder).iterdir()} for folder in ("one", "two"))
    assert one == two


def test_svg_holds_no_date(tmp_path, cascade):
    for path in write_figures(cascade, tmp_path, "validation").values():
        assert not re.search(r"dc:date|\b20\d\d-\d\d-\d\d", path.read_text(encoding="utf-8"))


def test_figures_do_not_depend_on_the_users_matplotlib_settings(tmp_path, cascade):
    import matplotlib as mpl

    write_figures(cascade, tmp_path / "one", "validation")
    with mpl.rc_context({"font.size": 30, "lines.linewidth": 9}):
        write_figures(cascade, tmp_path / "two", "validation")
    assert (tmp_path / "one" / "roc.svg").read_bytes() == (tmp_path / "two" / "roc.svg").read_bytes()


def test_png_is_not_blank_and_large_enough_to_read(tmp_path, cascade):
    for path in write_figures(cascade, tmp_path, "validation").values():
        pixels = imread(path.with_suffix(".png"))
        assert min(pixels.shape[:2]) >= 600
        assert pixels.std() > 0.02


def test_confusion_matrix_shows_counts_and_shares_of_the_row(figure_4):
    axes = draw_confusion(figure_4("d"), "Stage joint, test set").axes[0]
    assert _texts(axes)[:6] == ["27", "39%", "41", "59%", "1", "1%"]


def test_confusion_matrix_has_the_first_class_on_top_and_the_true_class_in_rows(figure_4):
    axes = draw_confusion(figure_4("d"), "Stage joint, test set").axes[0]
    first, last = axes.texts[0], axes.texts[-2]
    assert axes.transData.transform(first.get_position())[1] > axes.transData.transform(last.get_position())[1]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "AAH+AIS\n(n = 69)",
        "MIA\n(n = 101)",
        "IAC\n(n = 55)",
    ]


def test_confusion_matrix_says_how_many_are_right(figure_4):
    axes = draw_confusion(figure_4("d"), "Stage joint, test set").axes[0]
    assert axes.get_title(loc="left") == "Stage joint, test set\n132 of 225 nodules right"


def test_confusion_matrix_of_a_class_without_nodules(make_frame):
    axes = draw_confusion(make_frame(TWO, [0], np.array([[0.8, 0.2]])), "").axes[0]
    assert _texts(axes) == ["1", "100%", "0", "0%", "0", "0%", "0", "0%"]


def test_roc_has_the_auc_of_every_stage_in_its_legend(make_frame):
    better = make_frame(TWO, [0, 0, 1, 1], np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.1, 0.9]]))
    worse = make_frame(TWO, [0, 0, 1, 1], np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.1, 0.9]]))
    axes = draw_roc({"classify": worse, "joint": better}, "ROC, test set").axes[0]
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend == ["classify: AUC 0.750", "joint: AUC 1.000"]


def test_roc_is_of_the_second_class(make_frame):
    frame = make_frame(TWO, [0, 1], np.array([[0.9, 0.1], [0.3, 0.7]]))
    axes = draw_roc({"joint": frame}, "ROC, test set").axes[0]
    assert axes.get_ylabel() == "True positive rate (sensitivity) for MIA+IAC"
    np.testing.assert_array_equal(axes.lines[1].get_xydata()[:2], [[0, 0], [0, 1]])


def test_roc_of_one_class_is_said_to_be_undefined(make_frame):
    frame = make_frame(TWO, [1, 1], np.array([[0.9, 0.1], [0.3, 0.7]]))
    axes = draw_roc({"joint": frame}, "ROC, test set").axes[0]
    assert axes.get_legend().get_texts()[0].get_text() == "joint: no AUC, one class only"


def test_dice_figure_shows_every_nodule_and_the_mean(make_frame):
    frame = make_frame(TWO, [0, 1, 1], dice=[0.5, 0.7, 0.9])
    axes = draw_dice({"segment": frame}, "Dice, test set").axes[0]
    assert sorted(axes.collections[0].get_offsets()[:, 0]) == [0.5, 0.7, 0.9]
    assert axes.get_yticklabels()[0].get_text() == "segment\nmean 0.700"


@pytest.mark.parametrize(("select_on", "said"), [("test", True), ("validation", False)])
def test_figures_of_the_set_that_selected_the_weights_say_so(tmp_path, monkeypatch, cascade, select_on, said):
    from matplotlib.figure import Figure

    titles = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure,
        "savefig",
        lambda self, *a, **k: (titles.append(self.axes[0].get_title(loc="left")), save(self, *a, **k)),
    )
    write_figures(cascade, tmp_path, select_on)
    assert [("weights selected on this set" in title) for title in titles] == [said] * 8


def test_dollar_sign_in_a_class_name_is_drawn_as_it_is(tmp_path: Path, make_frame):
    frame = make_frame(("$a_{", "b$"), [0, 1], np.array([[0.8, 0.2], [0.4, 0.6]]))
    write_figures(frame, tmp_path, "validation")
