"""The test-retest analysis in the report, the terminal's output and the model card."""

from dataclasses import replace

import pytest

from ggn_tf.evaluation.report.model_card import run_card
from ggn_tf.evaluation.report.page import Drawing, Prose, cell_line
from ggn_tf.evaluation.report.report_data import ReportData
from ggn_tf.evaluation.report.retest import draw_offsets, offset_scores, retest_notes, retest_section, retest_table
from ggn_tf.evaluation.report.run_report import run_page
from ggn_tf.evaluation.report.run_tables import summarise
from ggn_tf.evaluation.statistics.score_records import UNPERTURBED, Perturbation, Retest, RetestScore
from tests.support.described_run import evaluated

OFF = Perturbation("centre_offset", 4.0)
RECENTRED = Perturbation("centre_offset", 4.0, recentred=True)
MIRRORED = Perturbation("mirror", axes="zx")
SCORES = (
    RetestScore(UNPERTURBED, "dice", 0.77, 0.75, 0.79),
    RetestScore(UNPERTURBED, "auc", 0.9, 0.85, 0.94),
    RetestScore(OFF, "dice", 0.64, 0.6, 0.68, None, -0.13, -0.15, -0.11),
    RetestScore(OFF, "auc", 0.88, 0.83, 0.92, None, -0.02, -0.04, 0.0),
    RetestScore(OFF, "changed", 0.09, 0.06, 0.13),
    RetestScore(RECENTRED, "dice", 0.76, 0.74, 0.78, None, -0.01, -0.02, 0.0),
    RetestScore(RECENTRED, "auc", 0.9, 0.85, 0.94, None, 0.0, None, None),
    RetestScore(RECENTRED, "changed", 0.0, 0.0, 0.02),
    RetestScore(MIRRORED, "dice", 0.77, 0.75, 0.79, None, 0.0, None, None),
    RetestScore(MIRRORED, "auc", 0.9, None, None, "no interval here", 0.0, None, None),
    RetestScore(MIRRORED, "changed", 0.01, 0.0, 0.03),
)
RETEST = Retest("joint", 218, 190, margin_mm=4.5, left_out_mm=(6.0, 8.0), scores=SCORES)


def _only(*metrics: str) -> Retest:
    return replace(RETEST, scores=tuple(score for score in SCORES if score.metric in metrics))


def test_the_table_has_a_row_per_perturbation():
    table = retest_table(RETEST)
    assert [[cell_line(cell) for cell in row] for row in (table.heading, *table.rows)] == [
        ["input", "Dice", "change of Dice", "AUC", "change of AUC", "changed predictions"],
        ["unperturbed", "0.770 [0.750, 0.790]", "-", "0.900 [0.850, 0.940]", "-", "-"],
        [
            "centre 4 mm off",
            "0.640 [0.600, 0.680]",
            "-0.130 [-0.150, -0.110]",
            "0.880 [0.830, 0.920]",
            "-0.020 [-0.040, +0.000]",
            "0.090 [0.060, 0.130]",
        ],
        [
            "centre 4 mm off, recentred",
            "0.760 [0.740, 0.780]",
            "-0.010 [-0.020, +0.000]",
            "0.900 [0.850, 0.940]",
            "+0.000",
            "0.000 [0.000, 0.020]",
        ],
        ["mirrored along z, x", "0.770 [0.750, 0.790]", "+0.000", "0.900", "+0.000", "0.010 [0.000, 0.030]"],
    ]
    assert "stage joint: 218 nodules of 190 patients" in table.caption


@pytest.mark.parametrize(
    ("metrics", "heading"),
    [
        (("dice",), ["input", "Dice", "change of Dice"]),
        (("auc", "changed"), ["input", "AUC", "change of AUC", "changed predictions"]),
    ],
)
def test_columns_are_those_of_the_scores_that_a_stage_has(metrics, heading):
    table = retest_table(_only(*metrics))
    assert table.heading == heading
    assert {len(row) for row in table.rows} == {len(heading)}


def test_what_is_missing_is_named_with_its_reason():
    assert retest_notes(RETEST) == [
        "Centres 6, 8 mm off are left out: the dataset has a margin of 4.5 mm around each patch.",
        "AUC: no interval here.",
    ]
    assert "the model gives no mask" in " ".join(retest_notes(_only("auc", "changed")))
    assert "does not classify" in " ".join(retest_notes(_only("dice")))


def test_the_report_has_a_section_with_figures_of_the_distances(drawn_frame):
    data = ReportData(drawn_frame(), "validation")
    section = retest_section(data, RETEST)
    assert [block.name for block in section.blocks if isinstance(block, Drawing)] == ["retest-dice", "retest-changed"]
    without = replace(RETEST, scores=tuple(score for score in SCORES if score.perturbation.kind != "centre_offset"))
    assert not any(isinstance(block, Drawing) for block in retest_section(data, without).blocks)


def test_the_figure_shows_both_ways_over_the_distance():
    assert [score.value for score in offset_scores(RETEST, "dice", recentred=False)] == [0.77, 0.64]
    assert [score.value for score in offset_scores(RETEST, "dice", recentred=True)] == [0.76]
    (axes,) = draw_offsets(RETEST, "dice", "title").axes
    lines = {line.get_label(): list(line.get_xydata()[:, 1]) for line in axes.lines if line.get_label()[0] != "_"}
    assert lines == {"as given": [0.77, 0.64], "recentred": [0.76]}


def test_terminal_report_and_card_have_the_analysis_only_where_it_was_requested(drawn_frame):
    frame = drawn_frame()
    plain = evaluated(frame)
    tested = replace(plain, retest=RETEST)
    assert "centre 4 mm off, recentred" in summarise(tested) and "centre" not in summarise(plain)
    assert "Centres 6, 8 mm off are left out" in summarise(tested)
    anchors = [section.anchor for section in run_page(frame, tested).sections]
    assert set(anchors) - {section.anchor for section in run_page(frame, plain).sections} == {"test-retest"}
    line = (
        "Test-retest of stage joint, largest effect of each kind on the share of changed predictions: "
        "centre 4 mm off 0.090 [0.060, 0.130]; centre 4 mm off, recentred 0.000 [0.000, 0.020]; "
        "mirrored along z, x 0.010 [0.000, 0.030]."
    )
    assert line in run_card(tested, frame) and "Test-retest" not in run_card(plain, frame)


def test_the_cards_line_is_about_dice_where_the_stage_does_not_classify(drawn_frame):
    frame = drawn_frame()
    card = run_card(replace(evaluated(frame), retest=_only("dice")), frame)
    assert "largest effect of each kind on the Dice: centre 4 mm off 0.640 [0.600, 0.680]" in card


def test_the_page_notes_what_is_missing(drawn_frame):
    section = retest_section(ReportData(drawn_frame(), "validation"), RETEST)
    texts = [block.text for block in section.blocks if isinstance(block, Prose)]
    assert any(text.startswith("Centres 6, 8 mm off are left out") for text in texts)
