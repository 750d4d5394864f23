"""The grid of a study: its design, the trainings that this needs, and which of them share a stage."""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from ggn_tf.dataset.radiomics import read_radiomics
from ggn_tf.dataset.records import Dataset
from ggn_tf.dataset.splits import Split, digest_of, read_split
from ggn_tf.json_records import added_later
from ggn_tf.models.names import BINARY_MASKS, CASCADE, FROZEN_UNET, RADIOMICS, REFERENCE, TRANSFER, base_model
from ggn_tf.protocol import Protocol, start_protocol
from ggn_tf.runs.run_description import RunDescription
from ggn_tf.runs.stages import CLASSIFY, JOINT, SEGMENT, STAGES
from ggn_tf.studies.ablations import (
    BACKGROUNDS_HU,
    VARIANTS,
    variant_models,
    with_background,
    with_frozen_unet,
)
from ggn_tf.studies.item import Item, Radiomics, Transfer
from ggn_tf.studies.training import Training, with_joint_weight
from ggn_tf.tasks import Task
from ggn_tf.training.initial_model import stage_key
from ggn_tf.training.trainer import plan_run


@dataclass(frozen=True)
class StudyDesign:
    """What a study compares.

    Attributes:
        tasks: The paper's four, or others.
        models: Models that can be trained, `transfer` and `radiomics`; and models started from a run, `MODEL@RUN`.
        splits: Numbers of the splits.
        joint_weights: Values of lambda for the paper's Table 5, on the second (or only) task and the first split, or on
            all folds.
        segment_on: The nodules of the stage `segment`: `all`, or those of the `task`.
        select_on: The set whose score selects the weights: `validation`, or `test` as in the paper.
        split_digests: `digest_of` each fold or each of the user's own splits; empty for the dataset's splits.
        ablations: Names of `ABLATIONS`, each of which adds systems.
        folds: Number of folds, whose numbers are then those of the splits; None where splits are compared.
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
    segment_on: str = added_later("task")
    split_digests: tuple[str, ...] = added_later(())
    ablations: tuple[str, ...] = added_later(())
    folds: int | None = added_later(None)

    @property
    def scored_splits(self) -> tuple[int, ...]:
        """The splits in the results: the out-of-fold predictions of all folds are those of one."""
        return self.splits if self.folds is None else (1,)

    def part_name(self, split: int) -> str:
        """A scored split for a reader."""
        return f"split {split}" if self.folds is None else f"out of fold, {self.folds} folds"

    def part_file(self, split: int) -> str:
        """A scored split in file names."""
        return f"split{split}" if self.folds is None else "folds"

    @property
    def weighted_task(self) -> Task:
        """The task on which lambda is varied: the second, as in the paper."""
        return self.tasks[min(1, len(self.tasks) - 1)]


def table_name(system: str, task: Task, split: int, repeat: int) -> str:
    """The name of a run and of its predictions, for example `raw-AAH+AIS_MIA-split1-repeat2`."""
    return f"{system}-{task.file_name}-split{split}-repeat{repeat}"


def weighted_system(weight: float) -> str:
    """The name of a joint training with another lambda."""
    return f"{CASCADE}-lambda{weight:g}"


def items_of(
    design: StudyDesign,
    dataset: Dataset,
    own_splits: Mapping[int, Split] | None = None,
    sources: Mapping[str, Path] | None = None,
) -> list[Item]:
    """Every item of a study, after those that it needs; one repeat of everything before the next repeat.

    Without `own_splits`, the folds or the user's own splits by number, those of the dataset are used. `sources` has the
    run from which each model `MODEL@RUN` starts.
    """
    items: dict[str, Item] = {}
    segmenters: dict[str, str] = {}
    if RADIOMICS in design.models:
        read_radiomics(dataset)
    for repeat, split, task in product(range(1, design.repeats + 1), design.splits, design.tasks):
        chosen = read_split(dataset, split) if own_splits is None else own_splits[split]
        for item in _items(design, dataset, segmenters, task, chosen, repeat, sources or {}):
            items.setdefault(item.name, item)
    return list(items.values())


def _items(
    design: StudyDesign,
    dataset: Dataset,
    segmenters: dict[str, str],
    task: Task,
    chosen: Split,
    repeat: int,
    sources: Mapping[str, Path],
) -> Iterator[Item]:
    split = chosen.number
    description = RunDescription(
        task=task,
        model=CASCADE,
        split=split,
        seed=design.seed + repeat - 1,
        precision=design.precision,
        select_on=design.select_on,
        protocol=design.protocol,
        dataset_fingerprint=dataset.fingerprint,
        segment_on=design.segment_on,
        split_digest=digest_of(chosen),
    )
    plan = plan_run(description, dataset, chosen)
    segmenter = None
    if {CASCADE, TRANSFER} & set(design.models):
        key = stage_key(description, plan.cases, plan.segment_cases, SEGMENT.name)
        segmenter = segmenters.setdefault(key, table_name("unet", task, split, repeat))
        if segmenter == table_name("unet", task, split, repeat):
            yield Training(segmenter, description, repeat, "unet", last_stage=SEGMENT.name, predicted_stages=())
    if repeat == 1 and RADIOMICS in design.models:
        yield Radiomics(table_name(RADIOMICS, task, split, repeat), task, split, design.seed)
    alone = [model for model in STAGES if model != CASCADE and model in design.models]
    if TRANSFER in design.models and REFERENCE not in alone:
        alone.append(REFERENCE)
    for model in alone:
        name = table_name(model, task, split, repeat)
        yield Training(name, dataclasses.replace(description, model=model), repeat, model)
    for system, source in sources.items():
        name, numbers = table_name(system, task, split, repeat), start_protocol(description.protocol)
        changed = dataclasses.replace(description, model=base_model(system), protocol=numbers)
        yield Training(name, changed, repeat, system, source=source)
    if segmenter and CASCADE in design.models:
        yield from _cascades(design, description, repeat, segmenter)
    if segmenter and TRANSFER in design.models:
        name, reference = (table_name(system, task, split, repeat) for system in (TRANSFER, REFERENCE))
        yield Transfer(name, task, split, repeat, reference, segmenter)
    yield from _variants(design, description, repeat, segmenter)


def _variants(
    design: StudyDesign, description: RunDescription, repeat: int, segmenter: str | None
) -> Iterator[Training | Transfer]:
    """The systems of the ablations."""
    task, split = description.task, description.split
    for model, stages in variant_models(design.ablations, design.models).items():
        (variant, *_) = (variant for variant in VARIANTS if variant.model == model)
        name, base = (table_name(system, task, split, repeat) for system in (model, variant.base.model))
        if variant.ablation == BINARY_MASKS and segmenter:
            reference = table_name(REFERENCE, task, split, repeat)
            yield Transfer(name, task, split, repeat, reference, segmenter, model, binary=True)
        elif variant.ablation == FROZEN_UNET:
            reused = (SEGMENT.name, base), (CLASSIFY.name, base)
            yield Training(name, with_frozen_unet(description), repeat, model, reused=reused, predicted_stages=stages)
        elif variant.ablation in BACKGROUNDS_HU:
            changed = with_background(description, BACKGROUNDS_HU[variant.ablation])
            changed = dataclasses.replace(changed, model=variant.base.model)
            reused_unet = ((SEGMENT.name, segmenter),) if segmenter and changed.model == CASCADE else ()
            yield Training(name, changed, repeat, model, reused=reused_unet, predicted_stages=stages)


def _cascades(design: StudyDesign, description: RunDescription, repeat: int, segmenter: str) -> Iterator[Training]:
    """The cascade, and its joint stage again for every other lambda."""
    name = table_name(CASCADE, description.task, description.split, repeat)
    yield Training(name, description, repeat, CASCADE, reused=((SEGMENT.name, segmenter),))
    if description.task != design.weighted_task or (design.folds is None and description.split != design.splits[0]):
        return
    for weight in design.joint_weights:
        if weight != description.protocol.training.joint_weight:
            system = weighted_system(weight)
            yield Training(
                table_name(system, description.task, description.split, repeat),
                with_joint_weight(description, weight),
                repeat,
                system,
                reused=((SEGMENT.name, name), (CLASSIFY.name, name)),
                predicted_stages=(JOINT.name,),
            )
