"""The systems that the paper compares (Fig. 3), by model and stage."""

from dataclasses import dataclass

from ggn_tf.evaluation.statistics.system_predictions import System
from ggn_tf.models import names
from ggn_tf.runs import stages


@dataclass(frozen=True)
class PaperSystem:
    """A system of the paper's tables.

    Attributes:
        letter: As in Fig. 3 and Tables 2 and 3; empty for the other systems.
        system: Model and stage.
        title: Name for a reader.
    """

    letter: str
    system: System
    title: str

    def __str__(self) -> str:
        """Letter and title."""
        return f"({self.letter}) {self.title}" if self.letter else self.title


RAW = System(names.RAW, stages.CLASSIFY.name)
REFERENCE = System(names.REFERENCE, stages.CLASSIFY.name)
FROZEN = System(names.CASCADE, stages.CLASSIFY.name)
JOINT = System(names.CASCADE, stages.JOINT.name)
MULTITASK = System(names.MULTITASK, stages.MULTITASK.name)
TRANSFER = System(names.TRANSFER, stages.CLASSIFY.name)
RADIOMICS = System(names.RADIOMICS, stages.CLASSIFY.name)

NETWORKS = (
    PaperSystem("a", RAW, "raw CT"),
    PaperSystem("b", REFERENCE, "reference mask"),
    PaperSystem("c", FROZEN, "cascade, U-Net frozen"),
    PaperSystem("d", JOINT, "cascade, joint"),
    PaperSystem("e", MULTITASK, "multi-task"),
)
"""Tables 2 and 3."""

PAPER_SYSTEMS = (
    *NETWORKS,
    PaperSystem("", TRANSFER, "(b) on automatic masks"),
    PaperSystem("", RADIOMICS, "SVM on radiomics"),
)
"""In the order of the paper's tables: 2 and 3, then 4, then 6."""


def title_of(system: System) -> str:
    """The name of a system for a reader: the paper's, else the model's."""
    titles = {paper.system: str(paper) for paper in PAPER_SYSTEMS}
    other = system.model if system.stage == stages.CLASSIFY.name else str(system)
    return titles.get(system) or other.replace("_", " ")
