import pickle

from ggn_tf.errors import GgnError, MaskError


def test_the_block_names_case_found_expected_and_remedy():
    error = MaskError("The mask is empty.", case="P7-2", found="0 voxels", expected="one or more", remedy="Draw it.")
    assert str(error) == (
        "The mask is empty.\n  case:     P7-2\n  found:    0 voxels\n  expected: one or more\n  remedy:   Draw it."
    )


def test_parts_that_are_not_known_are_left_out():
    assert str(GgnError("Wrong.", found=0)) == "Wrong.\n  found:    0"


def test_an_error_crosses_a_process_boundary_whole():
    error = MaskError("Empty.", case="a", remedy="Draw.")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is MaskError and str(again) == str(error)
