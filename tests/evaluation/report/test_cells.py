import pytest

from ggn_tf.evaluation.report.page import Cell, Label, Link, Number, PValue, cell_line


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (Number(0.8456, 0.7544, 0.9279), "0.846 [0.754, 0.928]"),
        (Number(0.8456, deviation=0.0123, low=0.7544, high=0.9279), "0.846 ± 0.012 [0.754, 0.928]"),
        (Number(0.0123, -0.05, 0.07, signed=True), "+0.012 [-0.050, +0.070]"),
        (Number(0.5867, deviation=0.0027, decimals=4), "0.5867 ± 0.0027"),
        (Number(None), "undefined"),
        (PValue(0.0214), "0.021"),
        (PValue(0.0004), "< 0.001"),
        (Link("case", "place"), "case"),
        (Label("AUC", "split 1"), "AUC split 1"),
        (12, "12"),
        (None, "-"),
    ],
)
def test_cell_is_printed(cell: Cell, text: str):
    assert cell_line(cell) == text
