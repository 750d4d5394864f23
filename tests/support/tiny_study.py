"""A whole study with tiny networks. As a program, `ggn-tf study` with a tiny protocol in place of the quick one:

python -m tests.support.tiny_study DATASET STUDY EPOCHS [--cluster=CLUSTER]
"""

import sys
from functools import partial
from unittest.mock import patch

from ggn_tf.cli import main
from ggn_tf.studies.design import StudyDesign
from ggn_tf.tasks import AIS_MIA, INDOLENT_INVASIVE, THREE_CLASSES, Task
from tests.support.tiny_protocol import tiny_protocol

THREE_TASKS = (THREE_CLASSES, INDOLENT_INVASIVE, AIS_MIA)
ALL_MODELS = ("raw", "reference", "cascade", "multitask", "transfer")


def tiny_design(
    tasks: tuple[Task, ...] = (INDOLENT_INVASIVE,),
    models: tuple[str, ...] = ALL_MODELS,
    splits: tuple[int, ...] = (1,),
    repeats: int = 1,
    joint_weights: tuple[float, ...] = (1.0,),
) -> StudyDesign:
    return StudyDesign(
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


OPTIONS = (
    "--protocol=quick --tasks=AAH+AIS,MIA+IAC --models=raw,cascade,transfer --splits=1 --repeats=1 --joint-weights=1 "
    "--precision=float32 --gallery=0"
)

if __name__ == "__main__":
    dataset, study, epochs, *workers = sys.argv[1:]
    # The processes of the trainings receive the numbers, and need no patch.
    with patch.dict("ggn_tf.protocol.PROTOCOLS", quick=partial(tiny_protocol, int(epochs))):
        main(["study", dataset, "-o", study, *OPTIONS.split(), *(workers or ["--jobs=2"])])
