"""A cross-validation: one or more trainings per fold, whose predictions of the fold's test set make one table.

The folder has `folds.json`, `crossval.json` (what is trained), a run folder for each fold and member, and at the end
`predictions.csv`, one out-of-fold row per nodule and stage. Each file has a digest that is verified when it is read.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ggn_tf.dataset.folds import FOLDS_FILE, Folds, read_folds
from ggn_tf.dataset.splits import digest_of
from ggn_tf.errors import RunError
from ggn_tf.evaluation.statistics.folds import out_of_fold
from ggn_tf.evaluation.statistics.predictions_table import read_predictions, write_predictions
from ggn_tf.files import refuse_links
from ggn_tf.json_records import read_record, write_record
from ggn_tf.runs.run_description import RunDescription, check_extension, resume_remedy
from ggn_tf.runs.run_folder import RunFolder
from ggn_tf.runs.stages import stages_up_to
from ggn_tf.studies.item import PREDICTIONS, RUNS, WorkFolder, check_recorded, recorded
from ggn_tf.studies.training import Training

CROSSVAL_FILE, OUT_OF_FOLD = "crossval.json", "predictions.csv"
SCHEMA = 1
_NAMES = (CROSSVAL_FILE, FOLDS_FILE, OUT_OF_FOLD, f"{OUT_OF_FOLD}.sha256", RUNS, PREDICTIONS)


@dataclass(frozen=True)
class CrossvalDesign:
    """What a cross-validation trains.

    Attributes:
        run: The run of the first member of fold 1; the others differ in split and seed.
        members: Number of trainings per fold; each counts the seed on by one.
        command: The command that began it, for the record.
    """

    run: RunDescription
    members: int
    command: str


def is_crossval(folder: Path) -> bool:
    """Whether a folder is that of a cross-validation."""
    return (folder / CROSSVAL_FILE).is_file()


def trainings_of(design: CrossvalDesign, folds: Folds) -> list[Training]:
    """The training of each member and fold; all folds of a member before the next member."""
    return [
        Training(
            name=f"fold{split.number}-member{member}",
            description=dataclasses.replace(
                design.run, split=split.number, seed=design.run.seed + member - 1, split_digest=digest_of(split)
            ),
            repeat=member,
            system=design.run.model,
        )
        for member in range(1, design.members + 1)
        for split in folds.splits
    ]


def check_design(design: CrossvalDesign, trainings: Sequence[Training], folder: Path) -> None:
    """Verify that a folder can be begun, resumed or extended with a design; writes nothing.

    Raises:
        RunError: As in `write_design`; or a run has other settings, or a stage that can no longer be extended.
    """
    _check_former(design, folder)
    for training in trainings:
        RunFolder.check(folder / RUNS / training.name, training.description)


def _check_former(design: CrossvalDesign, folder: Path) -> None:
    if (folder / CROSSVAL_FILE).exists():
        former = read_design(folder)
        check_extension(folder, former.run, design.run, ())
        if former.members > design.members:
            raise RunError(
                "The cross-validation has more members.",
                case=folder,
                found=f"{former.members} members per fold",
                expected=f"at most {design.members}",
                remedy="Name at least as many members, or choose another folder.",
                arguments=("members", "folder"),
            )


def write_design(design: CrossvalDesign, folder: Path) -> None:
    """Save what is trained; in place of a former design of the same runs with fewer members or epochs.

    Raises:
        RunError: The folder contains a cross-validation with other settings or more members.
    """
    _check_former(design, folder)
    write_record(design, folder / CROSSVAL_FILE, SCHEMA)


def read_design(folder: Path) -> CrossvalDesign:
    """Read what a cross-validation trains.

    Raises:
        RunError: The folder is not that of a cross-validation, or its record was changed.
    """
    refuse_links(folder, _NAMES, RunError)
    file = folder / CROSSVAL_FILE
    return read_record(
        CrossvalDesign,
        file,
        SCHEMA,
        lambda found: RunError(
            "The cross-validation cannot be read.",
            case=file,
            found=found,
            expected="the file that the cross-validation wrote",
            remedy="Restore the file from a copy, or repeat the cross-validation in another folder.",
        ),
    )


def cv_runs(folder: Path) -> list[Path]:
    """The run folders of a cross-validation, member by member and in each the folds in order.

    Raises:
        RunError: The folder is not that of a cross-validation; or a training is not finished or has other settings,
            which the error names.
        SplitError: The folds cannot be read, or were changed.
    """
    design, folds = read_design(folder), read_folds(folder / FOLDS_FILE)
    trainings = trainings_of(design, folds)
    _refuse_unfinished(folder, trainings, design.command)
    return [folder / RUNS / training.name for training in trainings]


def _refuse_unfinished(folder: Path, trainings: Sequence[Training], command: str) -> None:
    """Raise RunError with the names of the trainings that are not finished, or have other settings."""
    unfinished = [training.name for training in trainings if not _is_finished(folder / RUNS / training.name, training)]
    if unfinished:
        raise RunError(
            "Folds of the cross-validation are not finished.",
            case=folder,
            found=f"not finished: {', '.join(unfinished)}",
            expected=f"all {len(trainings)} trainings, with the settings in {CROSSVAL_FILE}",
            remedy=resume_remedy(command, CROSSVAL_FILE),
        )


def write_out_of_fold(trainings: Sequence[Training], work: WorkFolder) -> Path:
    """Write the out-of-fold predictions of finished trainings, with their digest; returns the file."""
    for training in trainings:
        check_recorded(work.predictions(training.name), required=True)
    frame = out_of_fold([read_predictions(work.predictions(training.name)) for training in trainings])
    file = work.folder / OUT_OF_FOLD
    with recorded(file):
        write_predictions(frame, file)
    return file


def read_out_of_fold(folder: Path) -> pd.DataFrame:
    """Read the out-of-fold predictions of a finished cross-validation.

    Raises:
        RunError: A training is not finished, or the file is missing or was changed.
        PredictionsError: The file is not a predictions table.
    """
    cv_runs(folder)
    check_recorded(folder / OUT_OF_FOLD, required=True)
    return read_predictions(folder / OUT_OF_FOLD)


def _is_finished(path: Path, training: Training) -> bool:
    if not (path / "run.json").exists():
        return False
    run = RunFolder.open(path)
    stages = stages_up_to(run.description.model, training.last_stage)
    return run.description == training.description and all(run.is_complete(stage.name) for stage in stages)
