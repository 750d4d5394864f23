"""The systems that the paper compares (Fig. 3), as rows of a predictions table."""

from dataclasses import dataclass


@dataclass(frozen=True)
class System:
    """A model after one of its stages.

    Attributes:
        letter: As in the paper's Fig. 3 and Tables 2 and 3; empty for what has none there.
        model: The table's column `model`.
        stage: The table's column `stage`.
        title: For a reader.
    """

    letter: str
    model: str
    stage: str
    title: str

    @property
    def name(self) -> str:
        """Letter and title."""
        return f"({self.letter}) {self.title}" if self.letter else self.title


TRANSFER = "transfer"
RADIOMICS = "radiomics"

NETWORKS = (
    System("a", "raw", "classify", "raw CT"),
    System("b", "reference", "classify", "reference mask"),
    System("c", "cascade", "classify", "cascade, U-Net frozen"),
    System("d", "cascade", "joint", "cascade, joint"),
    System("e", "multitask", "classify", "multi-task"),
)
SYSTEMS = (
    *NETWORKS,
    System("", TRANSFER, "classify", "(b) on automatic masks"),
    System("", RADIOMICS, "classify", "SVM on radiomics"),
)
"""In the order of the paper's tables: 2 and 3, then 4, then 6."""


def system_of(model: str, stage: str) -> System | None:
    """The system of a predictions row; None for a stage that is none, as the cascade's first."""
    return next((system for system in SYSTEMS if (system.model, system.stage) == (model, stage)), None)
