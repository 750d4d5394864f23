"""Tasks: which labels a classifier separates, and which it merges (paper section 3.3)."""

from collections.abc import Iterable
from dataclasses import dataclass

from ggn_tf.errors import TaskError

LONGEST_LABEL = 200
"""Characters; a name is drawn into figures."""


@dataclass(frozen=True)
class Task:
    """An ordered grouping of labels into classes.

    Attributes:
        classes: For each class, in the order of the classifier's outputs, the labels that it merges.
    """

    classes: tuple[tuple[str, ...], ...]

    @classmethod
    def parse(cls, text: str) -> "Task":
        """Read a task: a comma separates classes, a plus merges labels.

        >>> Task.parse("AAH+AIS,MIA,IAC").class_names
        ('AAH+AIS', 'MIA', 'IAC')

        Args:
            text: For example `AAH+AIS,MIA,IAC`, or `1+2,4+5` for a score from 1 to 5.

        Raises:
            TaskError: A class or label is empty, a label is very long or occurs twice, or there are fewer than two
                classes.
        """
        classes = tuple(tuple(label.strip() for label in group.split("+")) for group in text.split(","))
        labels = [label for group in classes for label in group]
        problem = None
        if not all(labels):
            problem = "an empty label"
        elif max(map(len, labels)) > LONGEST_LABEL:
            problem = f"a label of {max(map(len, labels))} characters"
        elif len(set(labels)) < len(labels):
            problem = f"label {next(label for label in labels if labels.count(label) > 1)!r} twice"
        elif len(classes) < 2:
            problem = "one class"
        if problem:
            raise TaskError(
                f"The task {text!r} does not parse.",
                found=problem,
                expected="at least two classes, every label once: a comma separates classes, a plus merges labels",
                remedy='Write it like "AAH+AIS,MIA,IAC" or "1+2,4+5".',
            )
        return cls(classes)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the outputs."""
        return tuple("+".join(group) for group in self.classes)

    def __str__(self) -> str:
        """The text that `parse` reads."""
        return ",".join(self.class_names)

    @property
    def file_name(self) -> str:
        """The task in the name of a file or folder.

        >>> Task.parse("AAH+AIS,MIA").file_name
        'AAH+AIS_MIA'
        """
        return "".join(letter if letter.isalnum() or letter in "+-" else "_" for letter in str(self))

    def class_of(self, label: str) -> int | None:
        """The index of the class with a label; None where the task leaves the label out."""
        return next((index for index, group in enumerate(self.classes) if label in group), None)

    def check_labels(self, labels: Iterable[str]) -> None:
        """Raise TaskError for a task with labels that do not occur in the data."""
        present = set(labels)
        missing = [label for group in self.classes for label in group if label not in present]
        if missing:
            raise TaskError(
                f"The task {str(self)!r} names labels that no nodule has.",
                found=f"labels {', '.join(sorted(present))}",
                expected=f"among them {', '.join(missing)}",
                remedy="Name labels as in the case table, or prepare the dataset with another label column.",
                arguments=("label_column",),
            )


THREE_CLASSES = Task.parse("AAH+AIS,MIA,IAC")
INDOLENT_INVASIVE = Task.parse("AAH+AIS,MIA+IAC")
NOT_IAC_IAC = Task.parse("AAH+AIS+MIA,IAC")
AIS_MIA = Task.parse("AIS,MIA")
FOUR_CLASSES = Task.parse("AAH,AIS,MIA,IAC")
PAPER_TASKS = (THREE_CLASSES, INDOLENT_INVASIVE, NOT_IAC_IAC, AIS_MIA)
"""The rows 1) to 4) of the paper's Tables 2 to 4."""
