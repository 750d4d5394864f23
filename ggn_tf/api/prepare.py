"""From a case table to a dataset: cut, check and store the patches, and split the cases by patient."""

import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import click

from ggn_tf.api.arguments import MARGIN_MM, OnProgress, Progress, check_choices, check_solid_hu, ignore
from ggn_tf.cases.dicom.repair import RepairPolicy
from ggn_tf.cases.patches import CutOptions, Patch
from ggn_tf.cases.radiomics import radiomics_settings
from ggn_tf.cases.remote import local_file, local_folder, url_of
from ggn_tf.cases.tables import table_consistency
from ggn_tf.cases.tables.table import Case, CaseTable, open_table, refuse
from ggn_tf.cases.tables.table_consistency import ReadNodule, check_consistency
from ggn_tf.dataset.case_outcome import AcceptedCase, RejectedCase, outcome_of
from ggn_tf.dataset.case_record import CaseRecord
from ggn_tf.dataset.dataset_json import refuse_existing
from ggn_tf.dataset.id_list import refuse_unwritable, written_id_list
from ggn_tf.dataset.identity import Pseudonyms, read_salt, salt_path
from ggn_tf.dataset.preparation import prepare_cases
from ggn_tf.dataset.splits import check_patients, read_split
from ggn_tf.dataset.table_check import nodule_of, notes_on
from ggn_tf.errors import DatasetError, GgnError, RejectedCasesError, TableError
from ggn_tf.files import refuse_read_only
from ggn_tf.machine import processor_count
from ggn_tf.protocol import LARGEST_MARGIN_MM, SETS, SOLID_HU, PatchProtocol, Protocol, SplitProtocol
from ggn_tf.tensorflow_import import import_tensorflow

if TYPE_CHECKING:
    from ggn_tf.dataset.records import Dataset

Runner = Literal["processes", "beam"]
CutCases = Generator[tuple[Case, Patch | GgnError], None, None]


@dataclass(frozen=True)
class PreparedDataset:
    """A dataset that was written.

    Attributes:
        folder: The dataset's folder or URL.
        cases: Record of every case in the dataset, in the order of the table.
        rejected: Why each of the other cases was left out.
        notes: What to know before training, one sentence each.
        split_counts: Number of cases per label and set of split 1.
        fingerprint: SHA-256 over the protocol and every case's ids, label, patch and mask.
    """

    folder: Path
    cases: tuple[CaseRecord, ...]
    rejected: tuple[GgnError, ...]
    notes: tuple[str, ...]
    split_counts: Mapping[str, Mapping[str, int]]
    fingerprint: str


def prepare(
    table: str | Path,
    output: str | Path = "dataset",
    *,
    label_column: str = "label",
    jobs: int | None = None,
    repair: bool = False,
    align_masks: bool = False,
    distinct_ids: bool = False,
    merge_labels: bool = False,
    margin_mm: float = MARGIN_MM,
    radiomics: bool = False,
    solid_hu: float = SOLID_HU,
    allow_rejects: bool = False,
    keep_ids: bool = False,
    salt_file: str | Path | None = None,
    id_list: str | Path | None = None,
    shared: bool = False,
    splits: int = SplitProtocol.splits,
    seed: int = SplitProtocol.seed,
    runner: Runner = "processes",
    staging: str | None = None,
    beam_options: Sequence[str] = (),
    on_start: Callable[[int], None] = ignore,
    on_progress: OnProgress = ignore,
) -> PreparedDataset:
    """Make a dataset of the nodules of a case table. It is written whole or not at all.

    Example:
        >>> dataset = ggn_tf.prepare("cases.csv", "dataset", jobs=2)  # doctest: +SKIP
        >>> len(dataset.cases), dataset.rejected  # doctest: +SKIP
        (12, ())

    Args:
        table: The case table (.csv or .xlsx), one row per nodule; a path or a URL.
        output: The dataset's new folder; a path or a URL.
        label_column: The table's column with the labels.
        jobs: Number of processes; None for one per processor. More than one needs a script that can be imported
            without starting its work (`if __name__ == "__main__":`).
        repair: Whether slices with a gantry tilt or non-uniform spacing are resampled instead of being rejected.
        align_masks: Whether masks on another grid of the same scan are resampled onto the CT's grid.
        distinct_ids: Whether patient ids that are equal but for zeros, case, `.0` or Unicode form, and patients who
            share a CT, are accepted as different patients.
        merge_labels: Whether labels that differ in spelling only, such as `4` and `4.0`, become one label.
        margin_mm: Width of what is stored around each patch, so that training can shift centres (`fit(shift_mm=...)`).
        radiomics: Whether to measure each nodule's radiomic features too; needs pyradiomics.
        solid_hu: Voxels above it are solid, in each nodule's measurements. HU.
        allow_rejects: Whether cases that cannot be used are left out instead of ending the call.
        keep_ids: Whether to keep the table's ids instead of salted hashes of them.
        salt_file: The file with the salt for hashing ids, created at first use; None for the user's own.
        id_list: A new file that lists which id became which hash.
        shared: Whether the umask decides who may enter the dataset's folder, and not its owner alone.
        splits: Number of splits to draw.
        seed: Seed of the splits.
        runner: `processes` of this machine, or Apache `beam`.
        staging: Folder or URL where Beam's workers on other machines leave patches.
        beam_options: Apache Beam's own options.
        on_start: Called once with the number of cases, after the checks of arguments and table, before a CT is read.
        on_progress: Called after every case.

    Raises:
        TableError: The table cannot be used.
        RejectedCasesError: Cases cannot be used, and `allow_rejects` is false.
        DatasetError: The output exists, or no case is left.
        SplitError: There are too few patients for three sets.
        GgnError: There is no runner of this name.
    """
    check_choices("runner", [runner], get_args(Runner))
    check_solid_hu(solid_hu)
    if not 0 <= margin_mm <= LARGEST_MARGIN_MM:
        raise GgnError(
            "The margin cannot be used.",
            found=f"{margin_mm} mm",
            expected=f"0 to {LARGEST_MARGIN_MM:g} mm",
            remedy="Give a margin that is as wide as the largest shift of the centre in training.",
            arguments=("margin_mm",),
        )
    output, id_path = Path(output), None if id_list is None else Path(id_list)
    refuse_existing(output)
    if url_of(output) is None:
        refuse_read_only(output.absolute().parent)
    settings = radiomics_settings() if radiomics else None
    if id_path is not None:
        refuse_unwritable(id_path, output)
    opened = open_case_table(Path(table), label_column)
    cases, merged = chosen_labels(opened, merge_labels)
    consistency = check_consistency(cases, distinct_ids=distinct_ids)
    refuse([*opened.all_errors(), *consistency.errors], opened.path)
    check_patients(case.patient_id for case in cases)
    pseudonyms = Pseudonyms(None if keep_ids else _read_salt(salt_file, output))
    options, protocol = CutOptions(RepairPolicy(repair, align_masks), radiomics, solid_hu, ct_digest=True), Protocol()
    patch = dataclasses.replace(protocol.patch, margin_mm=margin_mm)
    if runner == "beam":
        cut = _cut_by_beam(cases, patch, beam_options, options, staging)
    else:
        cut = cut_cases(cases, patch, jobs, options, on_progress)
    on_start(len(cases))
    # Imported here: TensorFlow comes with it, and a wrong table is rejected before.
    import_tensorflow()
    from ggn_tf.dataset.writer import write_dataset

    seen = _Seen(opened.path, pseudonyms, allow_rejects, distinct_ids, pseudonyms.identifying_columns(cases))
    outcomes = _outcomes(cases, cut, seen)
    with local_folder(output) as folder, closing(outcomes), written_id_list(id_path, cases, pseudonyms):
        dataset = write_dataset(
            folder,
            patch,
            outcomes,
            split_protocol=protocol.split,
            splits=splits,
            seed=seed,
            radiomics=settings,
            shared=shared,
        )
        counts = _split_counts(dataset)
    notes = (*opened.notes, *merged, *seen.notes, *notes_on(dataset.cases, seen.hidden, seen.outside_lung))
    return PreparedDataset(output, dataset.cases, tuple(seen.rejected), notes, counts, dataset.fingerprint)


def cut_cases(
    cases: Sequence[Case],
    protocol: PatchProtocol,
    jobs: int | None,
    options: CutOptions,
    on_progress: OnProgress = ignore,
) -> CutCases:
    """As `prepare_cases`, with progress; None for `jobs` takes every processor."""
    jobs = max(1, min(jobs or processor_count(), len(cases)))
    prepared = prepare_cases(cases, protocol, jobs, options)
    with closing(prepared):
        for done, outcome in enumerate(prepared):
            on_progress(Progress("cutting patches", done, len(cases)))
            yield outcome
        on_progress(Progress("cutting patches", len(cases), len(cases)))


@dataclass
class _Seen:
    """What is noticed while the cases pass by on their way into the dataset, and how they are treated."""

    table: Path
    pseudonyms: Pseudonyms
    allow_rejects: bool
    distinct_ids: bool
    hidden: set[str]
    rejected: list[GgnError] = field(default_factory=list)
    outside_lung: list[str] = field(default_factory=list)
    notes: tuple[str, ...] = ()


def _outcomes(cases: Sequence[Case], cut: CutCases, seen: _Seen) -> Generator[AcceptedCase | RejectedCase, None, None]:
    read: dict[str, ReadNodule] = {}
    with closing(cut):
        for case, patch in cut:
            if isinstance(patch, GgnError):
                seen.rejected.append(patch)
            outcome = outcome_of(case, patch, seen.pseudonyms, seen.hidden)
            if isinstance(outcome, AcceptedCase):
                read[case.case_id] = nodule_of(outcome)
                if not outcome.in_lung:
                    seen.outside_lung.append(outcome.record.case_id)
            yield outcome
    if seen.rejected and not seen.allow_rejects:
        raise _rejection(seen.rejected, len(cases))
    used = [case for case in cases if case.case_id in read]
    consistency = check_consistency(used, read, distinct_ids=seen.distinct_ids)
    refuse(list(consistency.errors), seen.table)
    hashed = seen.pseudonyms.id_of
    seen.notes = check_consistency(used, read, distinct_ids=seen.distinct_ids, name_id=hashed).notes


def _rejection(rejected: Sequence[GgnError], cases: int) -> RejectedCasesError:
    error = RejectedCasesError(
        f"{len(rejected)} of {cases} cases cannot be used; nothing was written.",
        found=", ".join(str(reason.case) for reason in rejected[:5]),
        expected="every case with a CT, and a mask on it",
        remedy="Correct these cases, or leave them out.",
        arguments=("allow_rejects",),
    )
    error.rejected = tuple(rejected)
    return error


def _split_counts(dataset: "Dataset") -> dict[str, dict[str, int]]:
    split = read_split(dataset, 1)
    labels = {name: Counter(case.label for case in dataset.select(getattr(split, name))) for name in SETS}
    return {label: {name: labels[name][label] for name in SETS} for label in dataset.labels}


def _read_salt(salt_file: str | Path | None, output: Path) -> bytes:
    named = salt_file or os.environ.get("GGN_TF_SALT_FILE")
    path = salt_path(named, Path(click.get_app_dir("ggn-tf")))
    if url_of(output) is None and path.resolve().is_relative_to(output.resolve()):
        raise DatasetError(
            "The salt would be in the dataset.",
            case=path,
            expected=f"a path outside {output}: with the salt, ids can be tried out",
            remedy="Name another file.",
            arguments=("salt_file",),
        )
    return read_salt(path)


def known_salt() -> bytes | None:
    """The user's salt, with which the ids of a case table become those of a dataset; None where there is none."""
    with suppress(DatasetError):
        path = salt_path(os.environ.get("GGN_TF_SALT_FILE"), Path(click.get_app_dir("ggn-tf")))
        return read_salt(path) if path.is_file() else None
    return None


def chosen_labels(table: CaseTable, merge: bool) -> tuple[list[Case], list[str]]:
    """The cases of all rows of a table, with the labels merged if requested, and notes on it."""
    cases = list(table.rows.values())
    return table_consistency.merge_labels(cases) if merge else (cases, [])


def open_case_table(table: Path, label_column: str) -> CaseTable:
    """As `open_table`; the table may be at a URL."""
    try:
        with local_file(table) as file:
            return open_table(file, label_column, table.parent)
    except FileNotFoundError as error:
        raise TableError(
            "The case table does not exist.", case=url_of(table) or table, remedy="Name an existing .csv or .xlsx file."
        ) from error


def _cut_by_beam(
    cases: list[Case],
    protocol: PatchProtocol,
    beam_options: Sequence[str],
    options: CutOptions,
    staging: str | None,
) -> CutCases:
    try:
        from ggn_tf.dataset.beam import prepare_by_beam
    except ImportError as error:
        raise DatasetError(
            "Apache Beam is not installed.",
            found=error,
            remedy='In an environment of its own, without constraints.txt: pip install "ggn-tf[beam]"',
        ) from error
    return prepare_by_beam(cases, protocol, beam_options, options, staging=staging)
