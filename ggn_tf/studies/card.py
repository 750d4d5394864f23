"""The model card of a study: not of one model, but of what was compared."""

from collections.abc import Sequence

from ggn_tf.evaluation.report.markdown import fact_lines, section
from ggn_tf.evaluation.report.model_card import METHOD, intended_use, limits, optimism_warning
from ggn_tf.studies.description import StudyDescription
from ggn_tf.studies.tables import ScoreTable, markdown


def study_card(description: StudyDescription, tables: Sequence[ScoreTable]) -> str:
    """The card as Markdown.

    Args:
        description: What was compared, and on which data.
        tables: The study's results.
    """
    warning = optimism_warning(description.design.select_on)
    lines = [
        "# Study of classifiers of pulmonary ground-glass nodules",
        "",
        METHOD,
        "",
        *intended_use(),
        "",
        *section("Data", fact_lines(description.data_facts())),
        *section("What was compared", [*fact_lines(description.design_facts()), *(["", *warning] if warning else [])]),
        *limits(),
        markdown(tables).strip(),
    ]
    return "\n".join(lines).rstrip() + "\n"
