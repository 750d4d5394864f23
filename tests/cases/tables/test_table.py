import pandas as pd
import pytest

from ggn_tf.errors import TableError
from tests.support.case_files import read_table

HEADER = "case_id,patient_id,image,mask,label"


def table(tmp_path, text, name="cases.csv", encoding="utf-8"):
    path = tmp_path / name
    path.write_text(text, encoding=encoding)
    return path


def test_a_row_becomes_a_case_with_paths_relative_to_the_table(tmp_path):
    path = table(tmp_path, f"{HEADER},age\nn1,p1,ct/1,mask/1.nii.gz,AIS,63\n")
    (case,) = read_table(path)
    assert (case.case_id, case.patient_id, case.label, case.extra) == ("n1", "p1", "AIS", {"age": "63"})
    assert (case.image, case.mask) == (tmp_path / "ct/1", tmp_path / "mask/1.nii.gz")
    assert (case.segment, case.center_mm_lps) == (None, None)


def test_an_absolute_path_stays(tmp_path):
    (case,) = read_table(table(tmp_path, f"{HEADER}\nn1,p1,/data/ct,/data/m.nii,AIS\n"))
    assert str(case.image) == "/data/ct"


def test_centre_and_segment(tmp_path):
    text = f"{HEADER},segment,center_x_mm,center_y_mm,center_z_mm\nn1,p1,a,b,AIS,Nodule 2,-1.5,20,3e1\n"
    (case,) = read_table(table(tmp_path, text))
    assert (case.segment, case.center_mm_lps, case.extra) == ("Nodule 2", (-1.5, 20.0, 30.0), {})


def test_centres_do_instead_of_a_mask_column(tmp_path):
    header = "case_id,patient_id,image,label,center_x_mm,center_y_mm,center_z_mm"
    (case,) = read_table(table(tmp_path, f"{header}\nn1,p1,a,AIS,1,2,3\n"))
    assert (case.mask, case.center_mm_lps) == (None, (1.0, 2.0, 3.0))


def test_another_label_column_leaves_label_among_the_extra_ones(tmp_path):
    path = table(tmp_path, f"{HEADER},malignancy\nn1,p1,a,b,AIS,4\n")
    (case,) = read_table(path, label_column="malignancy")
    assert (case.label, case.extra) == ("4", {"label": "AIS"})


@pytest.mark.parametrize("text", ["1", "01", "NA", "1.50", "None"])
def test_text_stays_as_it_is_written(tmp_path, text):
    (case,) = read_table(table(tmp_path, f"{HEADER}\n{text},p1,a,b,{text}\n"))
    assert (case.case_id, case.label) == (text, text)


def test_excel_numbers_stay_whole(tmp_path):
    path = tmp_path / "cases.xlsx"
    rows = {
        "case_id": [7, 8],
        "patient_id": ["p1", 2],
        "image": "a",
        "mask": "b",
        "label": [1, 5],
        "score": [2.5, None],
    }
    pd.DataFrame(rows).to_excel(path, index=False)
    first, second = read_table(path)
    assert (first.case_id, first.label, first.extra) == ("7", "1", {"score": "2.5"})
    assert (second.patient_id, second.label, second.extra) == ("2", "5", {"score": ""})


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_the_separator_of_the_country_and_a_byte_order_mark(tmp_path, separator):
    text = f"{HEADER}\nn1,p1,a,b,AIS\n".replace(",", separator)
    (case,) = read_table(table(tmp_path, text, encoding="utf-8-sig"))
    assert case.case_id == "n1"


def test_blank_lines_and_spaces_are_left_out(tmp_path):
    cases = read_table(table(tmp_path, f"{HEADER}\n\n n1 ,p1,a,b, AIS\n,,,,\nn2,p1,a,b,MIA\n\n"))
    assert [(case.case_id, case.label) for case in cases] == [("n1", "AIS"), ("n2", "MIA")]


def test_files_that_do_not_exist_are_no_error_of_the_table(tmp_path):
    (case,) = read_table(table(tmp_path, f"{HEADER}\nn1,p1,nowhere.nii,nothing.nii,AIS\n"))
    assert not case.image.exists()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("n1,p1,a,b,AIS+MIA", "row 2: label 'AIS+MIA'"),
        ('n1,p1,a,b,"AIS,MIA"', "row 2: label 'AIS,MIA'"),
        ("n1,p1,a,b,", "row 2: no label"),
        ("n1,,a,b,AIS", "row 2: no patient_id"),
        (",p1,a,b,AIS", "row 2: no case_id"),
        ("n1,p1,,b,AIS", "row 2: no image"),
        ("n1,p1,a,,AIS", "row 2: neither a mask nor a centre"),
        ("n1,p1,a,b,AIS\n\nn1,p2,a,b,MIA", "rows 2, 4: the same case_id 'n1'"),
        ("n1,p1,a,b,AIS,1,,3", "row 2: center_y_mm is ''"),
        ('n1,p1,a,b,AIS,1,"2,5",3', "row 2: center_y_mm is '2,5'"),
        ("n1,p1,a,b,AIS,1,2,inf", "row 2: center_z_mm is 'inf'"),
        ("n1,p1,a,b,A+B\nn2,p1,a,,AIS", "row 2: label 'A+B'; row 3: neither a mask nor a centre"),
    ],
)
def test_rows_that_are_refused_are_named(tmp_path, rows, message):
    path = table(tmp_path, f"{HEADER},center_x_mm,center_y_mm,center_z_mm\n{rows}\n")
    with pytest.raises(TableError) as caught:
        read_table(path)
    assert caught.value.found == message
    assert caught.value.case == str(path)


def test_only_the_first_bad_rows_are_listed(tmp_path):
    rows = "\n".join(f"n{number},p1,a,,AIS" for number in range(14))
    with pytest.raises(TableError, match="14 unusable rows") as caught:
        read_table(table(tmp_path, f"{HEADER}\n{rows}\n"))
    assert caught.value.found.endswith("; and 4 more")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("case_id,image,mask,label", "lacks the column patient_id"),
        ("case,image,mask,label", "lacks the columns case_id, patient_id"),
        ("case_id,patient_id,image,mask,type", "lacks the column label"),
        ("case_id,patient_id,image,label,center_x_mm", "lacks the column mask"),
    ],
)
def test_a_missing_column_is_named_with_those_that_are_there(tmp_path, header, message):
    with pytest.raises(TableError, match=message) as caught:
        read_table(table(tmp_path, f"{header}\n{header}\n"))
    assert caught.value.found == f"columns {', '.join(header.split(','))}"


def test_an_unknown_label_column_points_to_the_option(tmp_path):
    with pytest.raises(TableError, match="lacks the column grade") as caught:
        read_table(table(tmp_path, f"{HEADER}\nn1,p1,a,b,AIS\n"), label_column="grade")
    assert caught.value.arguments == ("label_column",)


def test_a_missing_table(tmp_path):
    with pytest.raises(TableError, match="does not exist"):
        read_table(tmp_path / "cases.csv")


@pytest.mark.parametrize("text", [f"{HEADER}\n", "", f"{HEADER}\n\n,,,,\n"])
def test_a_table_without_a_row(tmp_path, text):
    with pytest.raises(TableError, match=r"has no row|cannot be read as a table"):
        read_table(table(tmp_path, text))


@pytest.mark.parametrize(("name", "content"), [("a.csv", b"\x00\xff\xfe\x81PNG"), ("a.xlsx", b"no workbook at all")])
def test_what_is_no_table(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(TableError, match="cannot be read as a table"):
        read_table(path)


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ("n1,p1,a,b,AIS\nn2,p1,a,b,AIS,63", "row 3: 6 cells for 5 columns"),
        ("n1,p1,a,b,AIS,63", "row 2: 6 cells for 5 columns"),
    ],
)
def test_a_row_with_more_cells_than_columns_is_refused(tmp_path, rows, found):
    with pytest.raises(TableError, match="1 unusable row") as caught:
        read_table(table(tmp_path, f"{HEADER}\n{rows}\n"))
    assert caught.value.found == found


@pytest.mark.parametrize("column", ["case_id", "patient_id", "label"])
def test_a_text_that_is_too_long_for_figures_is_refused(tmp_path, column):
    row = {"case_id": "n1", "patient_id": "p1", "image": "a", "mask": "b", "label": "AIS", column: "x" * 201}
    with pytest.raises(TableError, match=f"row 2: {column} of 201 characters"):
        read_table(table(tmp_path, HEADER + "\n" + ",".join(row.values()) + "\n"))
