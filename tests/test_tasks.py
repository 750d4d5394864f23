import pytest

from ggn_tf.errors import TaskError
from ggn_tf.tasks import FOUR_CLASSES, THREE_CLASSES, Task


def test_a_comma_separates_classes_and_a_plus_merges_labels():
    task = Task.parse(" AAH + AIS , MIA,IAC")
    assert task == THREE_CLASSES
    assert [task.class_of(label) for label in ("AAH", "AIS", "MIA", "IAC", "other")] == [0, 0, 1, 2, None]


def test_a_task_survives_as_text():
    assert Task.parse(str(Task.parse("1+2,4+5"))) == Task.parse("1+2,4+5")


@pytest.mark.parametrize(
    ("text", "name"), [("AAH+AIS,MIA", "AAH+AIS_MIA"), ("1/2,..", "1_2___"), ("non-solid,solid", "non-solid_solid")]
)
def test_a_task_names_a_file_and_no_other_folder(text: str, name: str):
    assert Task.parse(text).file_name == name


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "empty label"),
        ("AAH+AIS", "one class"),
        ("A,,B", "empty label"),
        ("A+,B", "empty label"),
        ("A,B+A", "'A' twice"),
    ],
)
def test_text_outside_the_grammar_is_refused(text: str, found: str):
    with pytest.raises(TaskError, match=found) as caught:
        Task.parse(text)
    assert "a comma separates classes" in str(caught.value)


def test_labels_that_no_nodule_has_are_named():
    with pytest.raises(TaskError, match="among them AAH") as caught:
        FOUR_CLASSES.check_labels(["AIS", "MIA", "IAC"])
    assert "labels AIS, IAC, MIA" in str(caught.value)


def test_a_name_that_is_too_long_for_a_figure_is_refused() -> None:
    with pytest.raises(TaskError, match="a label of 201 characters"):
        Task.parse("a" * 201 + ",b")
