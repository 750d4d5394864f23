import numpy as np
import pandas as pd
import pytest

from ggn_tf.errors import PredictionsError
from ggn_tf.evaluation.statistics.predictions_table import (
    check_predictions,
    columns,
    probabilities,
    read_predictions,
    table_classes,
    write_predictions,
)

TWO = ("AAH+AIS", "MIA+IAC")


def test_columns_are_the_contract():
    assert ",".join(columns(TWO)) == "case,patient,split,set,model,stage,repeat,label,p_AAH+AIS,p_MIA+IAC,dice"


def test_table_reads_back_equal_to_the_last_bit(tmp_path, drawn_frame):
    frame = drawn_frame(cases=500)
    write_predictions(frame, tmp_path / "predictions.csv")
    pd.testing.assert_frame_equal(read_predictions(tmp_path / "predictions.csv"), frame, check_exact=True)


def test_float32_probabilities_read_back_equal(tmp_path, make_frame):
    chance = np.random.default_rng(0).dirichlet([1, 1], 50).astype(np.float32).astype(np.float64)
    write_predictions(make_frame(TWO, [0, 1] * 25, chance), tmp_path / "p.csv")
    np.testing.assert_array_equal(probabilities(read_predictions(tmp_path / "p.csv")), chance)


def test_stage_without_probabilities_has_empty_fields(tmp_path, make_frame):
    write_predictions(make_frame(TWO, [0], stage="segment"), tmp_path / "p.csv")
    assert (tmp_path / "p.csv").read_text(encoding="utf-8").splitlines()[1] == (
        "test0000,test-p0000,1,test,cascade,segment,1,AAH+AIS,,,0.5"
    )


def test_empty_probabilities_read_as_nan(tmp_path, make_frame):
    write_predictions(make_frame(TWO, [0, 1], stage="segment"), tmp_path / "p.csv")
    assert np.isnan(probabilities(read_predictions(tmp_path / "p.csv"))).all()


def test_labels_that_look_like_numbers_or_missing_values_stay_text(tmp_path, make_frame):
    frame = make_frame(("1", "NA"), [0, 1], np.array([[0.9, 0.1], [0.2, 0.8]]))
    write_predictions(frame, tmp_path / "p.csv")
    assert list(read_predictions(tmp_path / "p.csv")["label"]) == ["1", "NA"]


def test_probability_columns_give_the_order_of_the_classes(make_frame):
    assert table_classes(make_frame(("b", "a"), [0])) == ("b", "a")


def test_leading_columns_may_stand_in_any_order(tmp_path, drawn_frame):
    frame = drawn_frame()
    write_predictions(frame[["dice", *frame.columns[:-1]]], tmp_path / "p.csv")
    assert list(read_predictions(tmp_path / "p.csv").columns) == columns(TWO)


def test_failed_write_leaves_the_former_table(tmp_path, make_frame, drawn_frame):
    path = tmp_path / "p.csv"
    write_predictions(drawn_frame(), path)
    before = path.read_bytes()
    with pytest.raises(AttributeError):
        write_predictions("no frame", path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["p.csv"]


def _changed(frame: pd.DataFrame, row: int, **values: object) -> pd.DataFrame:
    changed = frame.astype(dict.fromkeys(values, object))
    for name, value in values.items():
        changed.loc[row, name] = value
    return changed


WRONG_ROWS = {
    "unknown label": ({"label": "IAC"}, "label IAC"),
    "unknown set": ({"set": "tset"}, "set tset"),
    "sum of probabilities": ({"p_AAH+AIS": 0.6, "p_MIA+IAC": 0.6}, "p_AAH+AIS 0.6, p_MIA+IAC 0.6"),
    "one probability missing": ({"p_AAH+AIS": np.nan}, "p_AAH+AIS nan"),
    "negative probability": ({"p_AAH+AIS": -0.5, "p_MIA+IAC": 1.5}, "p_AAH+AIS -0.5"),
    "Dice in percent": ({"dice": 81.5}, "dice 81.5"),
    "split is no number": ({"split": np.nan}, "split nan"),
    "repeat is no whole number": ({"repeat": 1.5}, "repeat 1.5"),
    "case twice": ({"case": "test0000"}, "case test0000"),
    "Dice missing for one case": ({"dice": np.nan}, "stage joint, dice nan"),
}


@pytest.mark.parametrize(("values", "found"), WRONG_ROWS.values(), ids=WRONG_ROWS)
def test_wrong_row_is_refused_by_its_line(tmp_path, drawn_frame, values, found):
    path = tmp_path / "p.csv"
    write_predictions(_changed(drawn_frame(cases=9), 4, **values), path)
    with pytest.raises(PredictionsError) as caught:
        read_predictions(path)
    assert found in caught.value.found
    assert f"{path}, line 6, case" in caught.value.case
    assert caught.value.what == "The predictions table is wrong in 1 of 9 rows."


def test_stage_with_probabilities_for_some_cases_is_refused(drawn_frame):
    frame = drawn_frame(cases=9)
    frame.loc[3, ["p_AAH+AIS", "p_MIA+IAC"]] = np.nan
    with pytest.raises(PredictionsError, match="found:    stage joint, p_AAH\\+AIS nan"):
        check_predictions(frame)


def test_stages_of_different_cases_are_refused(drawn_frame):
    frame = pd.concat([drawn_frame(stage="classify"), drawn_frame(stage="joint").iloc[:-1]])
    with pytest.raises(PredictionsError) as caught:
        check_predictions(frame)
    assert caught.value.found == "classify: 60 cases, joint: 59 cases"


BAD_HEADERS = {
    "missing": (lambda frame: frame.drop(columns=["patient", "dice"]), "no column patient, dice"),
    "unknown": (lambda frame: frame.assign(site="A"), "unknown column site"),
    "one class": (lambda frame: frame.drop(columns="p_AAH+AIS"), "1 probability columns"),
    "empty": (lambda frame: frame.iloc[:0], "a header without rows"),
}


@pytest.mark.parametrize(("change", "found"), BAD_HEADERS.values(), ids=BAD_HEADERS)
def test_bad_header_is_refused(tmp_path, drawn_frame, change, found):
    write_predictions(change(drawn_frame()), tmp_path / "p.csv")
    with pytest.raises(PredictionsError) as caught:
        read_predictions(tmp_path / "p.csv")
    assert caught.value.found == found


def test_text_in_place_of_a_number_is_refused(tmp_path, drawn_frame):
    write_predictions(_changed(drawn_frame(), 0, dice="0,81"), tmp_path / "p.csv")
    with pytest.raises(PredictionsError, match="line 2\n  found:    dice 0,81\n  expected: a number"):
        read_predictions(tmp_path / "p.csv")


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe\x00"], ids=["missing", "empty", "not text"])
def test_file_that_is_no_table_is_refused(tmp_path, content):
    path = tmp_path / "p.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PredictionsError) as caught:
        read_predictions(path)
    assert caught.value.what == "The predictions table cannot be read."
    assert caught.value.case == str(path)


def test_rounded_probabilities_are_taken(make_frame):
    check_predictions(make_frame(("a", "b", "c"), [0], np.array([[0.3333, 0.3333, 0.3333]])))
