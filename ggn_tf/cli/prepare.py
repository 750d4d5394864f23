"""`ggn-tf prepare`: cut, check and store the patches of a case table, and split them by patient."""

from collections import Counter
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ggn_tf.cli.patch_options import cut_cases, repair_options
from ggn_tf.dataset.id_list import refuse_unwritable, written_id_list
from ggn_tf.errors import DatasetError, GgnError
from ggn_tf.tensorflow_import import load_tensorflow

if TYPE_CHECKING:
    from ggn_tf.cases.dicom.repair import RepairPolicy
    from ggn_tf.cases.patches import Patch
    from ggn_tf.cases.table import Case
    from ggn_tf.dataset.case_outcome import AcceptedCase, RejectedCase
    from ggn_tf.dataset.identity import Pseudonyms
    from ggn_tf.dataset.records import Dataset
    from ggn_tf.protocol import PatchProtocol


def _user_salt() -> Path:
    return Path(click.get_app_dir("ggn-tf")) / "salt"


@click.command()
@click.argument("table", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("dataset"), show_default=True)
@click.option("--label-column", default="label", show_default=True, help="The table's column with the labels.")
@click.option("--jobs", type=click.IntRange(min=1), help="Processes.  [default: one a processor]")
@click.option(
    "--runner",
    type=click.Choice(["processes", "beam"]),
    default="processes",
    show_default=True,
    help="Cut in processes of this machine, or by Apache Beam, whose own options stand behind --.",
)
@click.option(
    "--staging", metavar="FOLDER|URL", help="Where Beam's workers on other machines leave patches; a new one."
)
@click.option("--allow-rejects", is_flag=True, help="Leave out the cases that cannot be used, instead of refusing all.")
@repair_options
@click.option(
    "--radiomics",
    is_flag=True,
    help="Measure each nodule's radiomic features on the CT's own voxels too, for the SVM; needs pyradiomics.",
)
@click.option("--keep-ids", is_flag=True, help="Keep the table's ids, instead of salted hashes of them.")
@click.option(
    "--salt-file",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="GGN_TF_SALT_FILE",
    help="Of the hashed ids; made at first use. The same salt gives a patient the same hash in every dataset.  "
    "[default: one a user; env: GGN_TF_SALT_FILE]",
)
@click.option("--id-list", type=click.Path(path_type=Path, dir_okay=False), help="Write which id became which hash.")
@click.option("--splits", type=click.IntRange(min=1), default=5, show_default=True, help="How many to draw.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the splits.")
@click.argument("beam_options", nargs=-1, type=click.UNPROCESSED, metavar="[-- BEAM OPTIONS]")
def command(
    table: Path,
    output: Path,
    label_column: str,
    jobs: int | None,
    runner: str,
    staging: str | None,
    allow_rejects: bool,
    repair: bool,
    align_masks: bool,
    radiomics: bool,
    keep_ids: bool,
    salt_file: Path | None,
    id_list: Path | None,
    splits: int,
    seed: int,
    beam_options: tuple[str, ...],
) -> None:
    """Make a dataset of the nodules in TABLE (.csv or .xlsx; a row a nodule).

    Each CT and mask is checked, the patch around the nodule is cut and resampled, and the cases are split into
    training, validation and test sets by patient. The dataset is written whole or not at all.

    TABLE, its CTs and masks and the output may be URLs of object storage (gs://, s3://).
    """
    from ggn_tf.cases.dicom.repair import RepairPolicy
    from ggn_tf.cases.radiomics import radiomics_settings
    from ggn_tf.dataset.dataset_json import refuse_existing
    from ggn_tf.dataset.identity import Pseudonyms, read_salt
    from ggn_tf.protocol import Protocol

    if runner != "beam" and (beam_options or staging):
        raise click.UsageError(f"{beam_options[0] if beam_options else '--staging'} needs --runner beam.")
    refuse_existing(output)
    settings = radiomics_settings() if radiomics else None
    if id_list is not None:
        refuse_unwritable(id_list, output)
    cases = _read_table(table, label_column)
    load_tensorflow()
    from ggn_tf.dataset.splits import check_patients

    check_patients(case.patient_id for case in cases)
    pseudonyms = Pseudonyms(None if keep_ids else read_salt(salt_file or _user_salt()))
    protocol, repair_policy = Protocol().patch, RepairPolicy(repair, align_masks)
    if runner == "beam":
        prepared = _by_beam(cases, protocol, beam_options, repair_policy, staging, radiomics)
    else:
        prepared = cut_cases(cases, protocol, jobs, repair_policy, radiomics=radiomics)
    _write(output, cases, prepared, pseudonyms, allow_rejects, id_list, splits=splits, seed=seed, radiomics=settings)


def _read_table(table: Path, label_column: str) -> list["Case"]:
    from ggn_tf.cases.remote import local_file, url_of
    from ggn_tf.cases.table import read_table

    try:
        with local_file(table) as file:
            return read_table(file, label_column, table.parent)
    except FileNotFoundError as error:
        raise DatasetError(
            "The case table does not exist.", case=url_of(table) or table, remedy="Name an existing .csv or .xlsx file."
        ) from error


def _by_beam(
    cases: list["Case"],
    protocol: "PatchProtocol",
    options: tuple[str, ...],
    repair_policy: "RepairPolicy",
    staging: str | None,
    radiomics: bool,
) -> Generator[tuple["Case", "Patch | GgnError"], None, None]:
    try:
        from ggn_tf.dataset.beam import prepare_by_beam
    except ImportError as error:
        raise DatasetError(
            "Apache Beam is not installed.",
            found=error,
            remedy='In an environment of its own, without constraints.txt: pip install "ggn-tf[beam]"',
        ) from error
    return prepare_by_beam(cases, protocol, options, repair_policy, staging=staging, radiomics=radiomics)


def _write(
    output: Path,
    cases: list["Case"],
    prepared: Generator[tuple["Case", "Patch | GgnError"], None, None],
    pseudonyms: "Pseudonyms",
    allow_rejects: bool,
    id_list: Path | None,
    **asked: Any,
) -> None:
    """Write the dataset to a folder or a URL, and tell what it holds; `asked` goes to `write_dataset`."""
    from ggn_tf.cases.remote import local_folder, url_of
    from ggn_tf.dataset.table_check import notes_on
    from ggn_tf.dataset.writer import write_dataset
    from ggn_tf.protocol import Protocol

    protocol, hidden = Protocol(), pseudonyms.identifying_columns(cases)
    outside_lung: list[str] = []
    outcomes = _outcomes(cases, prepared, pseudonyms, hidden, allow_rejects, outside_lung)
    with local_folder(output) as folder:
        with closing(outcomes), written_id_list(id_list, cases, pseudonyms):
            dataset = write_dataset(folder, protocol.patch, outcomes, split_protocol=protocol.split, **asked)
        rejected, notes = len(cases) - len(dataset.cases), notes_on(dataset.cases, hidden, outside_lung)
        _print_summary(dataset, url_of(output) or output, rejected, notes)


def _outcomes(
    cases: list["Case"],
    prepared: Generator[tuple["Case", "Patch | GgnError"], None, None],
    pseudonyms: "Pseudonyms",
    hidden: set[str],
    allow_rejects: bool,
    outside_lung: list[str],
) -> Generator["AcceptedCase | RejectedCase", None, None]:
    """The cases as they are cut, noting which lie outside lung.

    Rejects are told at the end, and end it all unless they are allowed.
    """
    from ggn_tf.dataset.case_outcome import AcceptedCase, outcome_of

    rejects: list[GgnError] = []
    with closing(prepared):
        for case, patch in prepared:
            if isinstance(patch, GgnError):
                rejects.append(patch)
            outcome = outcome_of(case, patch, pseudonyms, hidden)
            if isinstance(outcome, AcceptedCase) and not outcome.in_lung:
                outside_lung.append(outcome.record.case_id)
            yield outcome
    for reject in rejects:
        click.echo(f"rejected: {reject}\n", err=True)
    if rejects and not allow_rejects:
        raise DatasetError(
            f"{len(rejects)} of {len(cases)} cases cannot be used; nothing was written.",
            expected="every case with a CT, and a mask on it",
            remedy="Mend them as said above, or leave them out with --allow-rejects.",
        )


def _print_summary(dataset: "Dataset", place: str | Path, rejected: int, notes: list[str]) -> None:
    """Counts a label and a set, what was left out, and what to know before training."""
    from ggn_tf.dataset.previews import PREVIEWS
    from ggn_tf.dataset.writer import REJECTED

    patients = len({case.patient_id for case in dataset.cases})
    click.echo(f"{len(dataset.cases)} cases of {patients} patients in {place}\n")
    click.echo(_label_table(dataset))
    click.echo(f"\npreviews:    {place}/{PREVIEWS}\nfingerprint: {dataset.fingerprint[:12]}")
    if rejected:
        click.echo(f"rejected:    {rejected}, listed in {place}/{REJECTED}")
    repaired = [case for case in dataset.cases if case.repaired]
    if repaired:
        click.echo(f"put right:   {len(repaired)} cases, each with what was done under 'repaired' in dataset.json")
    for note in notes:
        click.echo(f"note: {note}")


def _label_table(dataset: "Dataset") -> str:
    """Cases a label in every set of split 1."""
    from ggn_tf.dataset.splits import SETS, read_split

    split = read_split(dataset, 1)
    counts = {name: Counter(case.label for case in dataset.select(getattr(split, name))) for name in SETS}
    width = max(map(len, (*dataset.labels, "label")))
    lines = [f"  {'label':<{width}}" + "".join(f"{name:>12}" for name in (*SETS, "all")) + "   (split 1)"]
    for label, total in sorted(dataset.label_counts.items()):
        lines.append(f"  {label:<{width}}" + "".join(f"{counts[name][label]:>12}" for name in SETS) + f"{total:>12}")
    return "\n".join(lines)
