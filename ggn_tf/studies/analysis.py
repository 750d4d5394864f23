"""How the results of a study are analysed: decided before they are known, and changed without a new training."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ggn_tf.errors import GgnError
from ggn_tf.evaluation.statistics import paper_systems as paper
from ggn_tf.evaluation.statistics.system_predictions import System
from ggn_tf.models.names import base_model
from ggn_tf.runs.stages import CLASSIFY, STAGES
from ggn_tf.studies.ablations import VARIANTS

PLANNED_PAIRS = (
    (paper.REFERENCE, paper.RAW),
    (paper.FROZEN, paper.RAW),
    (paper.JOINT, paper.RAW),
    (paper.JOINT, paper.FROZEN),
    (paper.JOINT, paper.REFERENCE),
    (paper.JOINT, paper.MULTITASK),
    (paper.JOINT, paper.TRANSFER),
    (paper.JOINT, paper.RADIOMICS),
    (paper.JOINT, System("diameter", CLASSIFY.name)),
)
"""The paper's claims, and whether its system beats the diameter. Few pairs, so that Holm's correction costs little."""

PRIMARY = "auc"


@dataclass(frozen=True)
class AnalysisPlan:
    """What is compared, and what counts.

    Attributes:
        primary: The score in Holm's family, as in `METRICS`.
        pairs: The planned pairs; None for those of the paper for which there are predictions.
        margin: Largest difference that is irrelevant; None for none.
        sensitivity: Least sensitivity of the operating point; None for none.
        by: Columns of the case table by which nodules are grouped.
    """

    primary: str = PRIMARY
    pairs: tuple[tuple[System, System], ...] | None = None
    margin: float | None = None
    sensitivity: float | None = None
    by: tuple[str, ...] = ()

    def pairs_among(self, present: Collection[System]) -> list[tuple[System, System]]:
        """The pairs to compare: all that were named, or those of which there are predictions.

        These are the pairs of paper and ablations, and each system that starts from a run with the same one without.
        """
        if self.pairs is not None:
            return list(self.pairs)
        variants = [(variant.system, variant.base) for variant in VARIANTS]
        started = [(system, System(base_model(system.model), system.stage)) for system in present]
        pairs = (*PLANNED_PAIRS, *variants, *sorted(pair for pair in started if pair[0] != pair[1]))
        return [pair for pair in pairs if set(pair) <= set(present)]


DEFAULT_PLAN = AnalysisPlan()


def parse_pairs(
    texts: Sequence[str], models: Collection[str], variants: Mapping[str, Sequence[str]] | None = None
) -> tuple[tuple[System, System], ...]:
    """Read pairs such as `cascade/joint:raw`.

    Args:
        texts: A system is a model and, after a slash, its stage; without a stage the last one.
        models: The models for which a study has predictions.
        variants: Further models, of ablations, each with its stages.

    Raises:
        GgnError: A text is not a pair, or names a model or stage that the study does not have.
    """
    stages = {model: [each.name for each in STAGES.get(base_model(model), (CLASSIFY,))] for model in models}
    return tuple(_pair(text, {**stages, **(variants or {})}) for text in texts)


def _pair(text: str, stages: Mapping[str, Sequence[str]]) -> tuple[System, System]:
    systems = [_system(name.strip(), text, stages) for name in text.split(":")]
    if len(systems) != 2 or systems[0] == systems[1]:
        raise _no_pair(text, "two different systems with a colon between them, for example cascade/joint:raw")
    return systems[0], systems[1]


def _system(name: str, text: str, stages: Mapping[str, Sequence[str]]) -> System:
    model, _, stage = name.partition("/")
    if model not in stages:
        raise _no_pair(text, f"systems of the study: {', '.join(stages)}")
    if stage and stage not in stages[model]:
        raise _no_pair(text, f"a stage of {model}: {', '.join(stages[model])}")
    return System(model, stage or stages[model][-1])


def _no_pair(text: str, expected: str) -> GgnError:
    return GgnError(
        "This is not a pair of systems to compare.",
        found=text,
        expected=expected,
        remedy="Name the systems of the pair as in the tables of predictions.",
        arguments=("pairs",),
    )
