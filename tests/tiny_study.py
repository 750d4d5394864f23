"""A whole study with tiny networks. As a program, a process that can be killed:

python -m tests.tiny_study DATASET STUDY
"""

import sys
from pathlib import Path

from ggn_tf.dataset.records import open_dataset
from ggn_tf.evaluation.study.grid import Question, items_of
from ggn_tf.evaluation.study.item import Place
from ggn_tf.evaluation.study.pool import work
from ggn_tf.tasks import AIS_MIA, INDOLENT_INVASIVE, THREE_CLASSES, Task
from tests.tiny_fit import tiny_protocol

THREE_TASKS = (THREE_CLASSES, INDOLENT_INVASIVE, AIS_MIA)
ALL_MODELS = ("raw", "reference", "cascade", "multitask", "transfer")


def tiny_question(
    tasks: tuple[Task, ...] = (INDOLENT_INVASIVE,),
    models: tuple[str, ...] = ALL_MODELS,
    splits: tuple[int, ...] = (1,),
    repeats: int = 1,
    joint_weights: tuple[float, ...] = (1.0,),
) -> Question:
    return Question(
        tasks=tasks,
        models=models,
        splits=splits,
        repeats=repeats,
        joint_weights=joint_weights,
        seed=7,
        precision="float32",
        select_on="validation",
        protocol=tiny_protocol(),
    )


if __name__ == "__main__":
    opened = open_dataset(Path(sys.argv[1]), tiny_protocol().patch)
    asked = tiny_question(models=("raw", "cascade", "transfer"))
    work(items_of(asked, opened), Place(Path(sys.argv[2]), opened, ""), 2, print, lambda: False)
