"""Cross-validation: every nodule predicted by trainings that did not see its patient."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ggn_tf.api.arguments import PrecisionChoice, SegmentationSet, check_choices, check_training, ignore
from ggn_tf.api.fit import dataset_folder
from ggn_tf.api.prepare import PreparedDataset
from ggn_tf.api.study import ItemsProgress, StudyProgress, folds_in
from ggn_tf.api.training_numbers import check_margin, chosen_protocol, with_numbers
from ggn_tf.dataset.folds import FOLDS_FILE, Folds, write_folds
from ggn_tf.dataset.records import Dataset, open_dataset
from ggn_tf.errors import GgnError
from ggn_tf.machine import resolve_precision
from ggn_tf.models.names import CASCADE
from ggn_tf.protocol import Protocol, ProtocolName, SelectionScore
from ggn_tf.runs.run_description import RunDescription
from ggn_tf.runs.stages import STAGES
from ggn_tf.studies.crossval import (
    OUT_OF_FOLD,
    CrossvalDesign,
    check_design,
    cv_runs,
    read_out_of_fold,
    trainings_of,
    write_design,
    write_out_of_fold,
)
from ggn_tf.studies.item import WorkFolder
from ggn_tf.studies.workers import choose_workers, run_items
from ggn_tf.tasks import INDOLENT_INVASIVE, Task
from ggn_tf.tensorflow_import import keras_defaults
from ggn_tf.training.trainer import plan_run


@dataclass(frozen=True)
class Crossval:
    """A finished cross-validation.

    Attributes:
        folder: Its folder, with folds.json, predictions.csv and the run folders in `runs/`.
    """

    folder: Path

    @property
    def runs(self) -> tuple[Path, ...]:
        """The run folders, member by member and in each the folds in order."""
        return tuple(cv_runs(self.folder))

    @property
    def predictions(self) -> pd.DataFrame:
        """One row per nodule and stage, predicted by the trainings of its fold; the column `fold` is its number."""
        return read_out_of_fold(self.folder)


@dataclass(frozen=True)
class CrossvalPlan:
    """What a call of `crossval` is about to do.

    Attributes:
        design: What is trained.
        folds: The folds.
        dataset: The opened dataset.
        precision_reason: Why the precision was chosen.
        trainings: Number of trainings.
    """

    design: CrossvalDesign
    folds: Folds
    dataset: Dataset
    precision_reason: str
    trainings: int


@keras_defaults()
def crossval(
    dataset: PreparedDataset | str | Path,
    folder: str | Path,
    *,
    task: str | Task = INDOLENT_INVASIVE,
    model: str = CASCADE,
    folds: int | None = None,
    members: int = 1,
    folds_from: str | Path | None = None,
    seed: int = 0,
    protocol: ProtocolName | Protocol = "paper",
    epochs: Sequence[int] | None = None,
    learning_rates: Sequence[float] | None = None,
    patience: Sequence[int] | None = None,
    batch_size: int | None = None,
    joint_weight: float | None = None,
    shift_mm: float | Sequence[float] | None = None,
    select_by: SelectionScore | None = None,
    segment_on: SegmentationSet = "all",
    precision: PrecisionChoice = "auto",
    jobs: int | None = None,
    cluster: str | None = None,
    resources: Mapping[str, float] | None = None,
    shared: bool = False,
    command: str = "ggn_tf.crossval",
    on_start: Callable[[CrossvalPlan], None] = ignore,
    on_progress: Callable[[StudyProgress], None] = ignore,
    stop: Callable[[], bool] = lambda: False,
) -> Crossval:
    """Train a model for each fold, and predict every nodule with the trainings that did not see its patient.

    What is finished is not repeated: the same call resumes, and more members or epochs add to it. Each training runs in
    a process of its own, so a script needs `if __name__ == "__main__":`. The weights are selected on a validation set
    that is drawn from the fold's training part.

    Example:
        >>> cv = ggn_tf.crossval("dataset", "cv", task="AAH+AIS,MIA+IAC", protocol="quick")  # doctest: +SKIP
        >>> len(cv.runs)  # doctest: +SKIP
        5
        >>> evaluation = ggn_tf.evaluate(cv.folder)  # doctest: +SKIP

    Args:
        dataset: The dataset from `prepare`, or its folder.
        folder: The folder of the cross-validation.
        task: As in `fit`.
        model: As in `fit`.
        folds: Number of folds; None for 5, or for those of `folds_from`. They are drawn by patient, stratified by
            label, and do not depend on the task, unless a class of it is absent from a fold: then the next seed is
            tried.
        members: Number of trainings per fold, each with its own seed; their probabilities are averaged.
        folds_from: A file with your own folds in place of drawn ones, as nnU-Net's `splits_final.json`: a list of
            objects with lists `train` and `val` of nodule or patient ids. `val` is the fold's test set.
        seed: Seed of the folds and of the first member; the others count on from it.
        protocol: As in `fit`.
        epochs: As in `fit`, like the following six.
        learning_rates: First learning rate of each of the three stages.
        patience: Number of epochs without a better score after which each of the three stages stops.
        batch_size: Patches per step.
        joint_weight: Lambda of eq. 4.
        shift_mm: How far the centre of each patch is shifted at most.
        select_by: Score that selects the weights of classify and joint.
        segment_on: As in `fit`.
        precision: As in `fit`.
        jobs: As in `study`, like the following two.
        cluster: Dask cluster that does the trainings.
        resources: How much each training takes of its worker's resources.
        shared: Whether the umask decides who may enter a new folder, and not its owner alone.
        command: The command, for the records.
        on_start: Called once, before anything is trained.
        on_progress: Called as trainings progress.
        stop: As in `study`.

    Raises:
        KeyboardInterrupt: `stop` returned true; the same call resumes.
        SplitError: A class has fewer patients than there are folds; the file of folds cannot be used; or the stored
            folds were changed.
        RunError: The folder contains a cross-validation with other settings or folds, epochs were added to a stage that
            can no longer be extended, or a training failed.
        GgnError: An argument has no such value, `folds` and `folds_from` differ in number, or the dataset does not suit
            the task.
    """
    workers = choose_workers(jobs, cluster, resources)
    check_choices("model", [model], STAGES)
    check_training(segment_on, "validation", precision)
    base = chosen_protocol(protocol)
    if members < 1:
        raise GgnError(
            "The number of members is too small.",
            found=members,
            expected="at least 1",
            remedy="Choose a larger number.",
            arguments=("members",),
        )
    numbers = with_numbers(base, epochs, learning_rates, patience, batch_size, joint_weight, shift_mm, select_by)
    opened, path = open_dataset(dataset_folder(dataset), numbers.patch), Path(folder)
    check_margin(numbers, opened)
    parsed = task if isinstance(task, Task) else Task.parse(task)
    chosen = folds_in(path, opened, [parsed], folds, seed, folds_from)
    resolved, reason = resolve_precision(precision)
    description = RunDescription(
        task=parsed,
        model=model,
        split=1,
        seed=seed,
        precision=resolved,
        select_on="validation",
        protocol=numbers,
        dataset_fingerprint=opened.fingerprint,
        segment_on=segment_on,
    )
    design = CrossvalDesign(description, members, command)
    trainings = trainings_of(design, chosen)
    for training in trainings:
        plan_run(training.description, opened, chosen.by_number[training.description.split])
    check_design(design, trainings, path)
    work = WorkFolder(path, opened, command, shared, chosen.by_number)
    work.create()
    write_folds(chosen, path / FOLDS_FILE)
    write_design(design, path)
    on_start(CrossvalPlan(design, chosen, opened, reason, len(trainings)))
    if not all(training.is_done(work) for training in trainings):
        (path / OUT_OF_FOLD).unlink(missing_ok=True)
    run_items(trainings, work, workers, ItemsProgress(trainings, on_progress).item_at, stop)
    write_out_of_fold(trainings, work)
    return Crossval(path)
