import numpy as np
import pytest

from ggn_tf.errors import PredictionsError
from ggn_tf.evaluation.statistics.system_predictions import System, split_by_system


def test_table_is_split_by_split_set_and_system(drawn_study):
    systems = split_by_system(drawn_study(repeats=2, splits=(2, 1)))
    assert [(system.split, system.set_name, str(system.system), list(system.repeats)) for system in systems] == [
        (1, "test", "raw classify", [1, 2]),
        (1, "test", "cascade joint", [1, 2]),
        (2, "test", "raw classify", [1, 2]),
        (2, "test", "cascade joint", [1, 2]),
    ]


def test_task_is_written_as_it_is_parsed(drawn_study):
    assert split_by_system(drawn_study())[0].task == "AAH+AIS,MIA+IAC"


def test_order_of_the_rows_does_not_matter(drawn_study):
    frame = drawn_study()
    shuffled = frame.sample(frac=1, random_state=1)
    one, other = (
        {str(system.system): system.probabilities for system in split_by_system(table, ["test"])}
        for table in (frame, shuffled)
    )
    np.testing.assert_array_equal(one["cascade joint"], other["cascade joint"])


def test_probabilities_are_of_repeat_nodule_and_class(drawn_study):
    frame = drawn_study(repeats=3)
    system = split_by_system(frame)[1]
    rows = frame[(frame["model"] == "cascade") & (frame["repeat"] == 2) & (frame["case"] == "test0005")]
    assert system.system == System("cascade", "joint")
    assert system.probabilities.shape == (3, 60, 2)
    assert system.probabilities[1, 5, 1] == rows["p_MIA+IAC"].item()


def test_repeat_without_a_case_is_refused(drawn_study):
    frame = drawn_study(repeats=2)
    gone = (frame["model"] == "cascade") & (frame["repeat"] == 2) & (frame["case"] == "test0007")
    with pytest.raises(PredictionsError) as caught:
        split_by_system(frame[~gone])
    assert caught.value.case == "cascade joint, repeat 2"
    assert caught.value.found == "1 cases missing, 0 additional, for example test0007"


def test_system_with_another_label_is_refused(drawn_study):
    frame = drawn_study(repeats=1)
    row = frame.index[(frame["model"] == "cascade") & (frame["case"] == "test0003")][0]
    other = {"AAH+AIS": "MIA+IAC", "MIA+IAC": "AAH+AIS"}[frame.loc[row, "label"]]
    frame.loc[row, "label"] = other
    with pytest.raises(PredictionsError, match="another patient, label or fold for 1 cases, for example test0003"):
        split_by_system(frame)
