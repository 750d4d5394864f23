import pytest

from ggn_tf.errors import GgnError
from ggn_tf.evaluation.statistics import paper_systems as paper
from ggn_tf.evaluation.statistics.system_predictions import System
from ggn_tf.studies.analysis import PLANNED_PAIRS, AnalysisPlan, parse_pairs

MODELS = ("raw", "cascade", "diameter")


def test_a_pair_is_two_systems_whose_stage_is_the_last_where_none_is_named():
    assert parse_pairs(["cascade:raw", "cascade/classify:diameter"], MODELS) == (
        (paper.JOINT, paper.RAW),
        (paper.FROZEN, System("diameter", "classify")),
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cascade", "two different systems with a colon between them, for example cascade/joint:raw"),
        ("cascade:cascade/joint", "two different systems with a colon between them, for example cascade/joint:raw"),
        ("cascade:raw:raw", "two different systems with a colon between them, for example cascade/joint:raw"),
        ("cascade:multitask", "systems of the study: raw, cascade, diameter"),
        ("cascade/second:raw", "a stage of cascade: segment, classify, joint"),
        ("", "systems of the study: raw, cascade, diameter"),
    ],
)
def test_what_is_no_pair_of_the_study_is_refused(text, expected):
    with pytest.raises(GgnError) as caught:
        parse_pairs([text], MODELS)
    assert (caught.value.found, caught.value.expected, caught.value.arguments) == (text, expected, ("pairs",))


def test_without_named_pairs_those_of_the_paper_with_predictions_are_compared():
    assert AnalysisPlan().pairs_among({paper.RAW, paper.FROZEN, paper.JOINT}) == [
        (paper.FROZEN, paper.RAW),
        (paper.JOINT, paper.RAW),
        (paper.JOINT, paper.FROZEN),
    ]
    assert AnalysisPlan(pairs=PLANNED_PAIRS[:1]).pairs_among({paper.RAW}) == [PLANNED_PAIRS[0]]
