from pathlib import Path

import pytest

from ggn_tf.cases.table import Case
from ggn_tf.cases.table_consistency import (
    NoteCode,
    check_labels,
    check_nodules,
    check_patients,
    comparable,
    merge_labels,
)


def case(case_id: str, patient_id: str = "p1", image: str = "ct.nii", label: str = "AIS", **changes: object) -> Case:
    fields = {"mask": Path(f"{case_id}.nii"), "segment": None, "center_mm_lps": None, "extra": {}, **changes}
    return Case(case_id=case_id, patient_id=patient_id, image=Path(image), label=label, **fields)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("7", "0007"),
        ("P7", "p007"),
        ("7", "7.0"),
        ("Müller", "Mu\u0308ller"),
        ("MIA", "MIA\u200b"),
        ("a  b", "a b"),
        ("\uff11\uff12", "12"),
    ],
)
def test_spellings_of_one_text(one: str, other: str) -> None:
    assert comparable(one) == comparable(other)


@pytest.mark.parametrize(("one", "other"), [("7", "70"), ("10", "1"), ("4.5", "4"), ("P1-10", "P11-0"), ("1.0", "10")])
def test_different_texts(one: str, other: str) -> None:
    assert comparable(one) != comparable(other)


def test_ids_that_differ_in_zeros_are_one_error_per_patient_unless_they_are_distinct() -> None:
    cases = [
        case("a", "7", "a.nii"),
        case("b", "0007", "b.nii"),
        case("c", "8", "c.nii"),
        case("d", "8.0", "d.nii"),
        case("e", "9", "e.nii"),
    ]
    errors = check_patients(cases)
    assert [error.found for error in errors] == ["patients '7', '0007'", "patients '8', '8.0'"]
    assert all(error.arguments == ("distinct_ids",) for error in errors)
    assert check_patients(cases, distinct_ids=True) == []


def test_one_ct_under_two_patients_is_an_error_even_where_ids_are_distinct(tmp_path: Path) -> None:
    (tmp_path / "ct.nii").touch()
    (tmp_path / "link.nii").symlink_to(tmp_path / "ct.nii")
    cases = [case("a", "p1", str(tmp_path / "ct.nii")), case("b", "p2", str(tmp_path / "link.nii"))]
    for distinct in (False, True):
        (error,) = check_patients(cases, distinct_ids=distinct)
        assert "'p1', 'p2'" in str(error.found) and error.arguments == ()


def test_one_folder_with_two_series_may_hold_two_patients() -> None:
    assert check_patients([case("a", "p1", "study", series="1.2"), case("b", "p2", "study", series="1.3")]) == []


def test_labels_of_one_number_are_noted_and_merged_to_the_most_frequent_spelling() -> None:
    cases = [case("a", label="4.0"), case("b", label="4"), case("c", label="4"), case("d", label="mia")]
    (note,) = check_labels(cases)
    assert note.code is NoteCode.LABEL_SPELLINGS and "'4' (2 nodules), '4.0' (1 nodules)" in note.text
    assert [merged.label for merged in merge_labels(cases)] == ["4", "4", "4", "mia"]


def test_a_nodule_entered_twice_is_noted_and_refused_if_its_labels_differ() -> None:
    twice = {"mask": Path("m.nii"), "center_mm_lps": (1.0, 2.0, 3.0)}
    agreeing = [case("a", **twice), case("b", **twice), case("c", segment="2", mask=Path("m.nii"))]
    errors, (note,) = check_nodules(agreeing)
    assert not errors and note.code is NoteCode.REPEATED_NODULE and "a, b" in note.text
    (error,), notes = check_nodules([case("a", **twice), case("b", label="IAC", **twice)])
    assert error.found == "a: 'AIS', b: 'IAC'" and not notes
