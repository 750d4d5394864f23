import os
import shutil
from pathlib import Path

import pytest

from ggn_tf.cases.spelling import folded_id, folded_label
from ggn_tf.cases.tables.table import Case
from ggn_tf.cases.tables.table_consistency import ReadNodule, check_consistency, merge_labels
from ggn_tf.errors import TableError


def case(
    case_id: str, patient_id: str = "p1", image: Path | str = "ct.nii", label: str = "AIS", **changes: object
) -> Case:
    fields = {"mask": Path(f"{case_id}.nii"), "segment": None, "center_mm_lps": None, "extra": {}, **changes}
    return Case(case_id=case_id, patient_id=patient_id, image=Path(image), label=label, **fields)


def nodule(series: str | None = None, x_mm: float = 0, digest: str = "") -> ReadNodule:
    return ReadNodule(series, (x_mm, 0.0, 0.0), 4.0, digest or f"{series} {x_mm}")


def only_error(*cases: Case, **options: object) -> TableError:
    (error,) = check_consistency(cases, **options).errors
    return error


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("7", "0007"),
        ("P7", "p007"),
        ("MRN-0012", "MRN_12"),
        ("P 7", "P7"),
        ("7", "7.0"),
        ("7", "7,0"),
        ("Müller", "Mu\u0308ller"),
        ("P7", "P7\u200b"),
        ("a  b", "a b"),
        ("a\xa0b", "a b"),
        ("\uff11\uff12", "12"),
        ("P-1", "P\u20111"),
        ("0007", "'7"),
        ("Strasse", "STRASSE"),
        ("1,234", "1234"),
        ("12\u202f345\u202f678", "12345678"),
        ("\u041010", "A10"),
    ],
)
def test_spellings_of_one_id(one: str, other: str) -> None:
    assert folded_id(one) == folded_id(other)
    error = only_error(case("a", one, "a.nii"), case("b", other, "b.nii"), case("c", "else", "c.nii"))
    assert error.found == f"{one!r} and {other!r}" and error.arguments == ("distinct_ids",)
    accepted = check_consistency([case("a", one, "a.nii"), case("b", other, "b.nii")], distinct_ids=True)
    assert accepted.errors == () and f"{one!r} and {other!r}" in accepted.notes[0]


@pytest.mark.parametrize(
    ("one", "other"),
    [("7", "70"), ("10", "1"), ("4.5", "4"), ("P1-10", "P11-0"), ("P1-2", "P12"), ("1.0", "10"), ("1,23", "123")],
)
def test_different_ids(one: str, other: str) -> None:
    assert folded_id(one) != folded_id(other)


@pytest.mark.parametrize(
    ("one", "other"), [("4", "4.0"), ("4", "04"), (".5", "0.50"), ("100", "1e2"), ("MIA", "mia"), ("MIA", " MIA\u200b")]
)
def test_spellings_of_one_label(one: str, other: str) -> None:
    assert folded_label(one) == folded_label(other)


@pytest.mark.parametrize(("one", "other"), [("4", "40"), ("T1", "T01"), ("9007199254740992", "9007199254740993")])
def test_different_labels(one: str, other: str) -> None:
    assert folded_label(one) != folded_label(other)


@pytest.mark.parametrize("link", [os.symlink, os.link, shutil.copy])
def test_one_ct_under_two_patients_is_found_through_links_and_copies(tmp_path: Path, link) -> None:
    (tmp_path / "ct.nii").write_bytes(b"one CT" * 9000)
    (tmp_path / "other.nii").write_bytes(b"two CT" * 9000)
    link(tmp_path / "ct.nii", tmp_path / "link.nii")
    cases = [
        case("a", "p1", tmp_path / "ct.nii"),
        case("b", "p2", tmp_path / "x" / ".." / "link.nii"),
        case("c", "p3", tmp_path / "other.nii"),
    ]
    (tmp_path / "x").mkdir()
    error = only_error(*cases)
    assert (error.case, error.found, error.arguments) == ("ct.nii", "patients 'p1' and 'p2' (a, b)", ())
    accepted = check_consistency(cases, distinct_ids=True)
    assert accepted.errors == () and "'p1' and 'p2'" in accepted.notes[0]


def test_several_nodules_of_a_patient_on_one_ct_are_fine() -> None:
    consistency = check_consistency([case("a"), case("b"), case("c", image="other.nii")])
    assert (consistency.errors, consistency.notes) == ((), ())


def test_one_series_in_two_folders_is_one_ct_once_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    cases = [case("a", "p1", tmp_path / "one"), case("b", "p2", tmp_path / "two")]
    assert check_consistency(cases).errors == ()
    error = only_error(*cases, read={"a": nodule("1.2"), "b": nodule("1.2", 50)})
    assert (error.case, error.found) == ("one", "patients 'p1' and 'p2' (a, b)")
    assert check_consistency(cases, {"a": nodule("1.2"), "b": nodule("1.3", 50)}).errors == ()


def test_a_folder_may_contain_the_series_of_two_patients(tmp_path: Path) -> None:
    cases = [case("a", "p1", tmp_path), case("b", "p2", tmp_path)]
    assert check_consistency(cases).errors == ()
    assert check_consistency(cases, {"a": nodule("1.2"), "b": nodule("1.3", 50)}).errors == ()
    named = [case("a", "p1", tmp_path, series="1.2"), case("b", "p2", tmp_path, series="1.2")]
    assert "'p1' and 'p2'" in only_error(*named).found


def test_equal_patches_of_two_patients_are_one_ct() -> None:
    cases = [case("a", "p1", "a.nii"), case("b", "p2", "b.mha")]
    error = only_error(*cases, read={"a": nodule(digest="same"), "b": nodule(digest="same")})
    assert "'p1' and 'p2'" in error.found


@pytest.mark.parametrize(("apart_mm", "same"), [(0.0, True), (3.9, True), (4.1, False)])
def test_two_masks_whose_centres_are_in_each_other_are_one_nodule(apart_mm: float, same: bool) -> None:
    cases = [case("a"), case("b"), case("c")]
    read = {"a": nodule(), "b": nodule(x_mm=apart_mm), "c": nodule(x_mm=50)}
    consistency = check_consistency(cases, read)
    assert consistency.errors == ()
    assert consistency.notes == (("the same nodule in several rows: a, b",) if same else ())
    if same:
        error = only_error(cases[0], case("b", label="IAC"), cases[2], read=read)
        assert error.found == "a 'AIS', b 'IAC'"


def test_a_nodule_entered_twice_is_found_before_it_is_read() -> None:
    twice = {"mask": Path("m.nii"), "center_mm_lps": (1.0, 2.0, 3.0)}
    agreeing = [case("a", **twice), case("b", **twice), case("c", segment="2", mask=Path("m.nii"))]
    assert check_consistency(agreeing).notes == ("the same nodule in several rows: a, b",)
    assert only_error(case("a", **twice), case("b", label="IAC", **twice)).found == "a 'AIS', b 'IAC'"
    spelled = check_consistency([case("a", label="4", **twice), case("b", label="4.0", **twice)])
    assert spelled.errors == () and "several rows" in spelled.notes[0]


def test_labels_that_differ_in_spelling_are_noted_with_their_rows() -> None:
    cases = [case(name, label=label) for name, label in zip("abcde", ["4.0", "4", "4.0", "mia", "AIS"], strict=True)]
    (note,) = check_consistency(cases).notes
    assert note.endswith("'4.0' in 2 rows, '4' in 1 row (as one label: '4')")


@pytest.mark.parametrize(
    ("labels", "merged"),
    [
        (["4.0", "4", "4.0", "5"], ["4", "4", "4", "5"]),
        (["mia", "MIA", "MIA", "AIS"], ["MIA", "MIA", "MIA", "AIS"]),
        (["MIA\u200b", "MIA\u200b", "MIA"], ["MIA", "MIA", "MIA"]),
        (["\u2163", "\u2163", "IV"], ["IV", "IV", "IV"]),
    ],
)
def test_labels_merge_to_the_shortest_number_or_the_most_frequent_word(labels: list[str], merged: list[str]) -> None:
    cases, notes = merge_labels([case(str(number), label=label) for number, label in enumerate(labels)])
    assert [changed.label for changed in cases] == merged and len(notes) == 1
    assert check_consistency(cases).notes == ()


def test_all_faults_are_found_at_once() -> None:
    cases = [
        *(case(name, patient, "one.nii", mask=Path("m"), label=label) for name, patient, label in ("a1X", "b2Y")),
        case("c", "7", "c.nii"),
        case("d", "007", "d.nii"),
    ]
    assert len(check_consistency(cases).errors) == 3


@pytest.mark.parametrize("distinct_ids", [False, True])
def test_a_mistake_in_every_row_is_shown_for_the_first_ones(distinct_ids: bool) -> None:
    cases = [
        case(f"{number}{patient}", f"{patient}{number}", f"{number}.nii", patient, mask=Path(f"{number}-mask.nii"))
        for number in range(100, 300)
        for patient in ("x", "y")
    ]
    several = [case(str(number), f"{number}.", "one.nii") for number in range(90)]
    agreeing = [case(f"{number}{way}", image=f"{number}.nii", mask=Path("m")) for number in range(50) for way in "ab"]
    zeros = [case(f"{zero}{number}", f"{zero}{number}", f"{zero}{number}.mha") for number in range(9) for zero in "a0"]
    zeros += [case(f"00{number}", f"00{number}", f"00{number}.mha") for number in range(9)]
    consistency = check_consistency([*cases, *several, *agreeing, *zeros], distinct_ids=distinct_ids)
    texts = [text for error in consistency.errors for text in (error.case, error.found)] + list(consistency.notes)
    assert len(consistency.errors) == (1 if distinct_ids else 3)
    assert all("more" in text and len(text) < 700 for text in texts), texts


def test_many_rows_of_one_ct_take_no_quadratic_time() -> None:
    cases = [case(str(number)) for number in range(20_000)]
    assert check_consistency(cases).errors == ()


def test_a_path_that_no_file_can_have_is_compared_as_it_is_written() -> None:
    assert check_consistency([case("a", image=5000 * "a"), case("b", image="a\0b")]).errors == ()
