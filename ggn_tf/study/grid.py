"""The grid of a study: which trainings answer what is asked, and which of them share a stage."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from ggn_tf.dataset.radiomics import read_radiomics
from ggn_tf.dataset.records import Dataset
from ggn_tf.dataset.splits import read_split
from ggn_tf.models.names import CASCADE, RADIOMICS, REFERENCE, TRANSFER
from ggn_tf.protocol import Protocol
from ggn_tf.runs.run_description import RunDescription
from ggn_tf.runs.stages import CLASSIFY, JOINT, SEGMENT, STAGES
from ggn_tf.study.item import Item
from ggn_tf.study.radiomics import Radiomics
from ggn_tf.study.training import Training, with_joint_weight
from ggn_tf.study.transfer import Transfer
from ggn_tf.tasks import Task
from ggn_tf.training.stage_reuse import stage_key
from ggn_tf.training.trainer import plan_run


@dataclass(frozen=True)
class StudyDesign:
    """What a study is asked.

    Attributes:
        tasks: The paper's four, or others.
        models: Of those that can be trained, `transfer` and `radiomics`.
        splits: Numbers of the dataset's splits.
        repeats: Trainings of each cell, with seeds of their own.
        joint_weights: Lambdas of the paper's Table 5, asked of the second task (or the only one) on the first split.
        seed: Of the first repeat; the others count on.
        precision: As resolved.
        select_on: `validation`, or `test` as the paper did.
        protocol: All numbers.
    """

    tasks: tuple[Task, ...]
    models: tuple[str, ...]
    splits: tuple[int, ...]
    repeats: int
    joint_weights: tuple[float, ...]
    seed: int
    precision: str
    select_on: str
    protocol: Protocol

    @property
    def weighted_task(self) -> Task:
        """The task whose lambda is varied: the paper's is its second."""
        return self.tasks[min(1, len(self.tasks) - 1)]


def table_name(system: str, task: Task, split: int, repeat: int) -> str:
    """The name of a run and of its predictions, for example `raw-AAH+AIS_MIA-split1-repeat2`."""
    return f"{system}-{task.file_name}-split{split}-repeat{repeat}"


def weighted_system(weight: float) -> str:
    """What a joint training with another lambda is called."""
    return f"{CASCADE}-lambda{weight:g}"


def items_of(question: StudyDesign, dataset: Dataset) -> list[Item]:
    """Every piece of work, each after those that it needs; a repeat of everything before the next repeat.

    Raises:
        TaskError: The dataset does not hold a task's labels.
        SplitError: A split does not exist, or one of its sets has no nodule of a class.
        DatasetError: The radiomics baseline is asked for, and the dataset holds no features.
    """
    items: dict[str, Item] = {}
    segmenters: dict[str, str] = {}
    if RADIOMICS in question.models:
        read_radiomics(dataset)
    for repeat, split, task in product(range(1, question.repeats + 1), question.splits, question.tasks):
        for item in _cell(question, dataset, segmenters, task, split, repeat):
            items.setdefault(item.name, item)
    return list(items.values())


def _cell(
    question: StudyDesign, dataset: Dataset, segmenters: dict[str, str], task: Task, split: int, repeat: int
) -> Iterator[Item]:
    asked = RunDescription(
        task=task,
        model=CASCADE,
        split=split,
        seed=question.seed + repeat - 1,
        precision=question.precision,
        select_on=question.select_on,
        protocol=question.protocol,
        dataset_fingerprint=dataset.fingerprint,
    )
    plan = plan_run(asked, dataset, read_split(dataset, split))
    segmenter = None
    if {CASCADE, TRANSFER} & set(question.models):
        key = stage_key(asked, plan.cases, SEGMENT.name)
        segmenter = segmenters.setdefault(key, table_name("unet", task, split, repeat))
        if segmenter == table_name("unet", task, split, repeat):
            yield Training(segmenter, asked, repeat, "unet", last_stage=SEGMENT.name, told=())
    if repeat == 1 and RADIOMICS in question.models:
        yield Radiomics(table_name(RADIOMICS, task, split, repeat), task, split, question.seed)
    alone = [model for model in STAGES if model != CASCADE and model in question.models]
    if TRANSFER in question.models and REFERENCE not in alone:
        alone.append(REFERENCE)
    for model in alone:
        name = table_name(model, task, split, repeat)
        yield Training(name, dataclasses.replace(asked, model=model), repeat, model)
    if segmenter and CASCADE in question.models:
        yield from _cascades(question, asked, repeat, segmenter)
    if segmenter and TRANSFER in question.models:
        name, reference = (table_name(system, task, split, repeat) for system in (TRANSFER, REFERENCE))
        yield Transfer(name, task, split, repeat, reference, segmenter)


def _cascades(question: StudyDesign, asked: RunDescription, repeat: int, segmenter: str) -> Iterator[Training]:
    """The cascade, and its joint stage once more for every other lambda."""
    name = table_name(CASCADE, asked.task, asked.split, repeat)
    yield Training(name, asked, repeat, CASCADE, takes=((SEGMENT.name, segmenter),))
    if asked.task != question.weighted_task or asked.split != question.splits[0]:
        return
    for weight in question.joint_weights:
        if weight != asked.protocol.training.joint_weight:
            system = weighted_system(weight)
            yield Training(
                table_name(system, asked.task, asked.split, repeat),
                with_joint_weight(asked, weight),
                repeat,
                system,
                takes=((SEGMENT.name, name), (CLASSIFY.name, name)),
                told=(JOINT.name,),
            )
