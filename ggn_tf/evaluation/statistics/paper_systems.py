"""The systems that the paper compares (Fig. 3), and its own scores: Tables 2 to 6 of Wang et al. 2021, as printed.

The scores come from the authors' 740 nodules, with weights selected on the test set and the best of five trainings
(section 3.2), so other datasets should not be expected to reach them. They apply only to tasks of the paper's labels.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType

from ggn_tf.evaluation.statistics.system_predictions import System
from ggn_tf.models import names
from ggn_tf.runs import stages
from ggn_tf.tasks import AIS_MIA, FOUR_CLASSES, INDOLENT_INVASIVE, PAPER_TASKS, Task


@dataclass(frozen=True)
class PaperSystem:
    """A system of the paper's tables, with its letter in Fig. 3; it is empty for the systems of Tables 4 and 6."""

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


# Accuracy and AveF1 are printed in percent, MCC and AUC in tenths, which only Table 2 states.
_UNIT = MappingProxyType({"accuracy": 100.0, "average_f1": 100.0, "mcc": 10.0, "auc": 10.0})

_TABLE_2 = """
accuracy   55.73±0.34 59.11±0.33 57.78±0.24 58.67±0.27 57.33±0.51
accuracy   74.22±0.37 78.22±0.31 76.89±0.25 78.22±0.27 74.33±0.31
accuracy   82.22±0.31 83.56±0.35 82.67±0.27 82.67±0.27 81.33±0.45
accuracy   67.29±0.51 72.32±0.38 71.70±0.31 72.30±0.30 67.67±0.33
average_f1 55.19±0.35 58.88±0.38 58.04±0.31 58.30±0.31 56.72±0.46
average_f1 74.27±0.31 78.62±0.37 75.69±0.29 77.53±0.25 72.06±0.42
average_f1 80.74±0.31 82.27±0.39 81.12±0.25 81.32±0.25 80.74±0.41
average_f1 67.29±0.43 72.95±0.35 70.34±0.35 72.22±0.21 65.78±0.49
mcc        3.259±0.057 3.561±0.054 3.415±0.037 3.430±0.035 3.238±0.047
mcc        4.121±0.039 5.128±0.031 4.467±0.041 4.828±0.037 4.239±0.045
mcc        4.692±0.033 5.134±0.031 4.819±0.025 4.852±0.021 4.548±0.038
mcc        3.000±0.039 4.051±0.039 3.931±0.021 4.029±0.021 3.120±0.048
auc        - - - - -
auc        7.441±0.031 8.140±0.038 7.943±0.039 8.129±0.031 7.483±0.045
auc        7.852±0.031 8.044±0.036 7.884±0.039 7.998±0.041 7.802±0.046
auc        6.557±0.023 7.542±0.035 7.437±0.031 7.412±0.034 6.809±0.048
"""

# The deviation of one MCC is cut off in print ("3.204±0.") and left out.
_TABLE_3 = """
accuracy   54.67±0.31 57.78±0.36 56.00±0.25 54.67±0.21 52.67±0.41
accuracy   72.00±0.33 74.67±0.36 72.89±0.29 73.78±0.21 72.56±0.31
accuracy   82.67±0.31 84.00±0.34 83.11±0.36 83.11±0.36 82.22±0.41
accuracy   64.78±0.41 71.07±0.33 67.92±0.29 67.29±0.35 65.41±0.35
average_f1 52.90±0.31 57.74±0.37 54.40±0.21 53.79±0.21 51.17±0.41
average_f1 70.31±0.31 73.86±0.25 71.00±0.21 71.48±0.23 70.75±0.46
average_f1 81.20±0.33 82.67±0.33 81.98±0.24 81.70±0.24 82.10±0.36
average_f1 64.33±0.31 69.10±0.32 64.69±0.27 66.33±0.29 64.94±0.34
mcc        2.697±0.056 3.418±0.049 2.743±0.047 2.750±0.041 2.731±0.057
mcc        3.204       4.033±0.031 3.232±0.029 3.210±0.026 3.217±0.037
mcc        4.819±0.033 5.263±0.033 5.018±0.029 4.978±0.024 4.821±0.031
mcc        2.351±0.031 3.393±0.030 2.530±0.029 2.657±0.027 2.281±0.031
auc        - - - - -
auc        7.052±0.036 7.469±0.035 7.157±0.031 7.154±0.025 7.057±0.041
auc        7.921±0.043 8.106±0.044 7.942±0.047 8.008±0.041 7.934±0.055
auc        6.072±0.025 6.882±0.025 6.591±0.021 6.567±0.027 6.148±0.037
"""

# Split 1, then split 2; one row per task.
_TABLE_4 = """
57.67±0.31 57.91±0.30 3.399±0.045 -
76.57±0.34 75.22±0.34 4.385±0.030 7.914±0.031
82.47±0.31 81.05±0.37 4.823±0.025 7.815±0.025
71.25±0.31 70.13±0.30 3.857±0.029 7.432±0.021
55.85±0.36 54.19±0.35 2.717±0.049 -
72.97±0.24 70.90±0.24 3.215±0.031 7.132±0.023
83.01±0.33 81.67±0.26 5.015±0.039 7.967±0.034
67.55±0.39 64.27±0.35 2.507±0.029 6.574±0.031
"""

# One row per lambda; split 1, the second task.
_TABLE_5 = """
0.5 78.09±0.31 77.33±0.30 4.817±0.030 8.115±0.029
0.7 78.17±0.25 77.42±0.24 4.823±0.030 8.122±0.031
1.0 78.22±0.27 77.53±0.25 4.828±0.037 8.129±0.031
1.3 78.20±0.25 77.51±0.25 4.828±0.035 8.128±0.030
1.5 78.24±0.29 77.54±0.25 4.830±0.035 8.130±0.033
"""

# Accuracy of radiologists, SVM and the joint cascade, on the 248 nodules of Li et al. 2017.
_TABLE_6 = """
39.6 70.9 72.17±0.33
35.7 73.1 82.31±0.34
60.8 88.1 91.33±0.33
"""


@dataclass(frozen=True)
class PublishedScore:
    """One number of the paper.

    Attributes:
        table: 2 to 6.
        split: 1 or 2; None in Table 6.
        task: Its classes with commas between.
        system: Fig. 3's letter; `automatic` in Table 4, `d, lambda 0.5` and so on in Table 5, `radiologists`, `svm` and
            `d` in Table 6.
        metric: As in `run_scores.METRICS`.
        value: In [0, 1], MCC in [-1, 1].
        deviation: The number after ±, in the same unit; None where there is none.
    """

    table: int
    split: int | None
    task: str
    system: str
    metric: str
    value: float
    deviation: float | None


def published_score(
    metric: str, *, task: str, system: str, split: int | None = None, table: int | None = None
) -> PublishedScore | None:
    """Look up a number of the paper, in the first of Tables 2 to 6 that has it; arguments as in `PublishedScore`."""
    found = (
        score
        for score in PUBLISHED
        if (score.metric, score.task, score.system, score.split) == (metric, task, system, split)
        and table in (None, score.table)
    )
    return next(found, None)


def _scores() -> Iterator[PublishedScore]:
    for table, split, text in ((2, 1, _TABLE_2), (3, 2, _TABLE_3)):
        for row, (metric, *cells) in enumerate(_rows(text)):
            yield from _published(table, split, PAPER_TASKS[row % 4], zip("abcde", [metric] * 5, cells, strict=True))
    for row, line in enumerate(_rows(_TABLE_4)):
        yield from _published(4, 1 + row // 4, PAPER_TASKS[row % 4], zip(["automatic"] * 4, _UNIT, line, strict=True))
    for weight, *cells in _rows(_TABLE_5):
        yield from _published(5, 1, INDOLENT_INVASIVE, zip([f"d, lambda {weight}"] * 4, _UNIT, cells, strict=True))
    for task, line in zip((FOUR_CLASSES, AIS_MIA, INDOLENT_INVASIVE), _rows(_TABLE_6), strict=True):
        yield from _published(6, None, task, zip(("radiologists", "svm", "d"), ["accuracy"] * 3, line, strict=True))


def _rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.strip().splitlines()]


def _published(
    table: int, split: int | None, task: Task, cells: Iterator[tuple[str, str, str]]
) -> Iterator[PublishedScore]:
    for system, metric, printed in cells:
        numbers = [float(number) / _UNIT[metric] for number in re.findall(r"[\d.]+", printed)]
        if numbers:
            deviation = numbers[1] if len(numbers) == 2 else None
            yield PublishedScore(table, split, str(task), system, metric, numbers[0], deviation)


PUBLISHED: tuple[PublishedScore, ...] = tuple(_scores())
