import pytest

from ggn_tf.runs.run_description import resume_remedy


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("ggn-tf fit 'my data' -o runs/a", "ggn-tf fit 'my data' -o runs/a"),
        ("ggn-tf fit data; rm a", "run.json"),
        ("ggn-tf fit $(rm a)", "run.json"),
        ("ggn-tf fit 'a\nb'", "run.json"),
        ("ggn-tf fit 'a", "run.json"),
        ("rm a", "run.json"),
        ("ggn_tf.fit", "run.json"),
        (None, "run.json"),
    ],
)
def test_the_command_that_resumes_is_shown_where_it_is_one_of_this_program(command: object, shown: str) -> None:
    remedy = resume_remedy(command, "run.json")
    assert shown in remedy and (str(command) in remedy) == (shown == command)
