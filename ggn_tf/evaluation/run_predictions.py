"""The predictions of a run's models for every case of its split, and for the nodules of another site."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import tensorflow as tf

from ggn_tf.dataset.pipeline import Batch, CaseStream, read_batches
from ggn_tf.dataset.records import Dataset, open_dataset, patch_digests
from ggn_tf.dataset.splits import Split
from ggn_tf.errors import RunError
from ggn_tf.evaluation.statistics.mask_measures import MASK_COLUMNS, measure_masks
from ggn_tf.evaluation.statistics.paper_systems import TRANSFER
from ggn_tf.evaluation.statistics.predictions_table import (
    EXTERNAL,
    identify,
    join_parts,
    nodules_of,
    probability_columns,
    probability_names,
)
from ggn_tf.evaluation.statistics.run_scores import FirstWeights, TrainedRun, TrainedStage
from ggn_tf.json_records import to_json
from ggn_tf.models.names import SEGMENTATION
from ggn_tf.protocol import MASK_THRESHOLD, SETS
from ggn_tf.runs.run_folder import RunFolder
from ggn_tf.runs.stages import CLASSIFY, SEGMENT, STAGES, Network
from ggn_tf.runs.started_from import TrainedOn
from ggn_tf.tasks import Task
from ggn_tf.training.losses import dice_score
from ggn_tf.training.monitor import traced_inference

Inference = Callable[[tf.Tensor, tf.Tensor], dict[str, tf.Tensor]]
"""Takes patches and reference masks; returns `mask`, `probabilities` or both."""
_Reduced = TypeVar("_Reduced")


class CasePredictor:
    """The nodules of a task among some cases, read once and predicted by several networks."""

    def __init__(self, dataset: Dataset, case_ids: Sequence[str], task: Task) -> None:
        """Open the stream of the task's nodules."""
        self._task, self._spacing_mm_zyx = task, dataset.protocol.spacing_mm_zyx
        self._records = nodules_of(dataset.select(case_ids), task)
        self._stream = CaseStream(dataset, [case.case_id for case in self._records], task) if self._records else None

    def __len__(self) -> int:
        """Number of nodules."""
        return len(self._records)

    def predict(self, inference: Inference, batch_size: int, **columns: Any) -> pd.DataFrame:
        """One row per nodule: case, patient, label, `p_<class>` for each class, Dice, and the further columns as given.

        Masks are measured (`MASK_COLUMNS`) except those of the training set, which is not scored. NaN where the network
        does not segment, or does not classify. No rows where there are no nodules.
        """
        if self._stream is None:
            return pd.DataFrame()
        measured = None if columns.get("set") == "train" else self._spacing_mm_zyx
        batches = read_batches(self._stream.in_order(batch_size), self._stream)
        outputs = _gather(inference, batches, self._task, measured)
        return identify(self._records, self._task).assign(**columns, **outputs)


def _gather(
    inference: Inference,
    batches: Iterable[Batch],
    task: Task,
    spacing_mm_zyx: tuple[float, float, float] | None,
) -> dict[str, np.ndarray]:
    """Dice [N], probabilities [N] of each class and, with a spacing, the masks' measurements [N].

    They are reduced batch by batch so that masks never fill the memory.
    """

    def reduce(batch: Batch) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        outputs = {name: output.numpy() for name, output in inference(batch.patch, batch.mask).items()}
        missing = np.full((len(batch.label), len(task.classes)), np.nan)
        probabilities = outputs.get("probabilities", missing)
        if "mask" not in outputs:
            return probabilities, missing[:, 0], None
        reference, mask = batch.mask.numpy(), outputs["mask"]
        dice = dice_score(reference, mask)
        if spacing_mm_zyx is None:
            return probabilities, dice, None
        masks = reference[..., 0] > 0, mask[..., 0] >= MASK_THRESHOLD
        return probabilities, dice, measure_masks(*masks, spacing_mm_zyx)

    probabilities, dice, measured = zip(*_two_at_once(reduce, batches), strict=True)
    probability = np.concatenate(probabilities).astype(np.float64)
    found = {**probability_columns(probability, task.class_names), "dice": np.concatenate(dice)}
    if measured[0] is None:
        return found
    return {**found, **dict(zip(MASK_COLUMNS, np.concatenate(measured).T, strict=True))}


def _two_at_once(reduce: Callable[[Batch], _Reduced], batches: Iterable[Batch]) -> Iterator[_Reduced]:
    """Reduce batches in two threads, in order: where an operation of one uses one core, the other's uses the rest."""
    threads = ThreadPoolExecutor(2)
    started: deque[Future[_Reduced]] = deque()
    try:
        for batch in batches:
            # Also what has ended, so that none starts after an error.
            while len(started) == 2 or (started and started[0].done()):
                yield started.popleft().result()
            started.append(threads.submit(reduce, batch))
        while started:
            yield started.popleft().result()
    finally:
        threads.shutdown()


def predict_run(
    run: RunFolder,
    dataset: Dataset,
    split: Split,
    *,
    repeat: int = 1,
    announce: Callable[[str], None] = lambda line: None,
) -> pd.DataFrame:
    """Predict every case of the split with every finished stage's model.

    Nodules whose label is in no class of the task are left out, as in training.

    Returns:
        A checked predictions table: stages in the order of training, in each the sets train, validation, test, in each
        the cases in the split's order. The stage `segment` has no probabilities.

    Raises:
        RunError: No stage is finished, or a model cannot be read.
        DatasetError: The dataset lacks a case, or its patch is damaged.
    """
    description = run.description
    finished = [stage for stage in STAGES[description.model] if stage.name in run.finished_stages()]
    if not finished:
        raise RunError(
            "The run has nothing to evaluate.",
            case=run.folder,
            found="no finished stage",
            expected="at least one finished stage",
            remedy=run.resume_remedy(),
        )
    return _predict_stages(run, dataset, _sets(description.task, dataset, split), split.number, repeat, announce)


def _predict_stages(
    run: RunFolder,
    dataset: Dataset,
    sets: Mapping[str, CasePredictor],
    split_number: int,
    repeat: int,
    announce: Callable[[str], None],
) -> pd.DataFrame:
    """Predict every set with the model of every finished stage; stages and sets in their order."""
    description = run.description
    parts: dict[tuple[str, str], pd.DataFrame] = {}
    finished = [stage for stage in STAGES[description.model] if stage.name in run.finished_stages()]
    # Only these two are compared; apart from them one model is in memory at a time.
    compared = [stage for stage in finished if stage in (SEGMENT, CLASSIFY)]
    networks: dict[str, Network] = {stage.name: stage.network(run.load_model(stage.name)) for stage in compared}
    frozen = _has_frozen_segmenter(networks)
    for stage in finished:
        network = networks.pop(stage.name, None) or stage.network(run.load_model(stage.name))
        if stage == SEGMENT and frozen:
            continue
        inference = _trace(network, dataset)
        for name, cases in sets.items():
            announce(f"predicting: stage {stage.name}, {name} set, {len(cases)} nodules")
            row = {"split": split_number, "set": name, "model": description.model, "stage": stage.name}
            batch_size = description.protocol.training.batch_size
            parts[stage.name, name] = cases.predict(inference, batch_size, **row, repeat=repeat)
    if frozen:
        unknown = dict.fromkeys(probability_names(description.task.class_names), np.nan)
        for name in sets:
            parts[SEGMENT.name, name] = parts[CLASSIFY.name, name].assign(stage=SEGMENT.name, **unknown)
    return join_parts([parts[stage.name, name] for stage in finished for name in sets], description.task)


def _has_frozen_segmenter(networks: Mapping[str, Network]) -> bool:
    """Whether stage classify did not change the U-Net, which it freezes: one prediction then gives both masks."""
    if not {SEGMENT.name, CLASSIFY.name} <= networks.keys():
        return False
    own = networks[CLASSIFY.name].model.get_layer(SEGMENTATION).get_weights()
    return all(map(np.array_equal, networks[SEGMENT.name].model.get_weights(), own))


def predict_transfer(
    classifier: RunFolder,
    segmenter: RunFolder,
    dataset: Dataset,
    split: Split,
    *,
    repeat: int = 1,
    binary: bool = False,
) -> pd.DataFrame:
    """Predict with the classifier of the reference masks on a U-Net's masks (Table 4): model `transfer`.

    They are soft as in the cascade, or thresholded to be `binary`, as the classifier's were in training.
    """
    task, batch_size = classifier.description.task, classifier.description.protocol.training.batch_size
    segment, classify = SEGMENT.network(segmenter.load_model(SEGMENT.name)), CLASSIFY.network(classifier.load_model())

    def network(patch: tf.Tensor, mask: tf.Tensor, *, training: bool) -> dict[str, tf.Tensor]:
        found = segment(patch, mask, training=training)["mask"]
        seen = tf.cast(found >= MASK_THRESHOLD, tf.float32) if binary else found
        return {"mask": found, **classify(patch, seen, training=training)}

    row = {"split": split.number, "model": TRANSFER.model, "stage": CLASSIFY.name, "repeat": repeat}
    sets, inference = _sets(task, dataset, split).items(), _trace(network, dataset)
    return join_parts([cases.predict(inference, batch_size, set=name, **row) for name, cases in sets], task)


def describe_run(run: RunFolder, dataset: Dataset) -> TrainedRun:
    """What was trained; of the dataset only the folder's name is used, so that a report names no home directory."""
    description = to_json(run.description)
    names = ("task", "model", "split", "seed", "precision", "select_on", "dataset_fingerprint")
    stages = (
        TrainedStage(entry["stage"], *(entry.get(key) for key in ("epochs", "best_epoch", "ended")))
        for entry in run.ledger.entries()
    )
    start = run.description.start_from
    first = None if start is None else FirstWeights(start.kind, start.name, start.sha256, start.patients_checked)
    return TrainedRun(
        **{name: description[name] for name in names},
        dataset=dataset.folder.resolve().name,
        versions=run.versions,
        stages=tuple(stages),
        start_from=first,
        select_by=run.description.protocol.training.select_by,
    )


def _trace(network: Callable[..., dict[str, tf.Tensor]], dataset: Dataset) -> Inference:
    """Trace a network for any number of patches of a dataset: one trace serves all sets."""
    return traced_inference(network, (None, *[dataset.protocol.size] * 3, 1))


def _sets(task: Task, dataset: Dataset, split: Split) -> dict[str, CasePredictor]:
    sets = {name: CasePredictor(dataset, getattr(split, name), task) for name in SETS}
    return {name: cases for name, cases in sets.items() if len(cases)}


def open_external(run: RunFolder, own_dataset: Dataset, folder: Path) -> Dataset:
    """Open another site's dataset for a run.

    Ids are salted hashes. A patient of both datasets is recognised where both were prepared with one salt; otherwise
    only an identical patch is. The patients of whom the source of the run's first weights has learned count too, as far
    as they are known (`StartedFrom.patients_checked`).

    Raises:
        DatasetError: The dataset cannot be read, or its patches were cut with other settings.
        RunError: A patient or a patch is in both datasets, or the source of the run's first weights has learned of it.
    """
    other = open_dataset(folder, run.description.protocol.patch)
    # Digests cover the margin, which may differ.
    stored = own_dataset.protocol.stored_zyx == other.protocol.stored_zyx
    own = TrainedOn(tuple(case.patient_id for case in own_dataset.cases), ())
    _refuse_shared(own, other, "the run's own dataset")
    own_patches = tuple(patch_digests(own_dataset, stored=stored).values())
    _refuse_shared(TrainedOn((), own_patches), other, "the run's own dataset", stored=stored)
    _refuse_shared(run.source_cases(), other, "those that the source of the run's first weights was trained on")
    return other


def _refuse_shared(known: TrainedOn, other: Dataset, whose: str, *, stored: bool = False) -> None:
    shared = sorted({case.patient_id for case in other.cases} & set(known.patients))
    if shared:
        raise _overlap("patients", whose, other.folder, f"{len(shared)} patients in both, for example {shared[0]}")
    digests = patch_digests(other, stored=stored) if known.patches else {}
    copies = [case_id for case_id, digest in digests.items() if digest in set(known.patches)]
    if copies:
        found = f"{len(copies)} identical patches under other ids, for example {copies[0]}"
        hint = "With one salt file for both tables, equal ids show which they are."
        raise _overlap("nodules", whose, other.folder, found, hint)


def _overlap(what: str, whose: str, folder: Path, found: str, hint: str = "") -> RunError:
    return RunError(
        f"The other dataset contains {what} of {whose}.",
        case=folder,
        found=found,
        expected="patients that the run has never seen",
        remedy=f"Remove these patients from the other case table, and prepare it again. {hint}".rstrip(),
        arguments=("salt_file",) if hint else (),
    )


def predict_external(
    run: RunFolder, other: Dataset, announce: Callable[[str], None] = lambda line: None
) -> pd.DataFrame:
    """Predict every nodule of another dataset with every finished stage's model, as the set `external`."""
    description = run.description
    description.task.check_labels(case.label for case in other.cases)
    cases = CasePredictor(other, [case.case_id for case in other.cases], description.task)
    return _predict_stages(run, other, {EXTERNAL: cases}, description.split, 1, announce)
