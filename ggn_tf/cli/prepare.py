"""`ggn-tf prepare`: cut, check and store the patches of a case table, and split them by patient."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import ggn_tf
from ggn_tf.api.arguments import MARGIN_MM
from ggn_tf.cli.options import (
    AT_LEAST_0,
    AT_LEAST_1,
    FILE,
    PATH,
    FiniteRange,
    error_text,
    jobs_option,
    repair_options,
    shared_option,
    solid_option,
    table_options,
)
from ggn_tf.errors import RejectedCasesError
from ggn_tf.protocol import LARGEST_MARGIN_MM, SplitProtocol
from ggn_tf.tensorflow_import import load_tensorflow

if TYPE_CHECKING:
    from ggn_tf.api.prepare import PreparedDataset


@click.command()
@click.argument("table", type=PATH)
@click.option("-o", "--output", type=PATH, default="dataset", help="New folder of the dataset.")
@table_options
@jobs_option
@click.option(
    "--runner",
    type=click.Choice(["processes", "beam"]),
    default="processes",
    help="Cut patches in processes of this machine, or by Apache Beam, whose own options follow after --.",
)
@click.option(
    "--staging", metavar="FOLDER|URL", help="New folder or URL where Beam's workers on other machines leave patches."
)
@click.option("--allow-rejects", is_flag=True, help="Leave out cases that cannot be used, instead of writing nothing.")
@repair_options
@click.option(
    "--margin-mm",
    type=FiniteRange(min=0, max=LARGEST_MARGIN_MM),
    default=MARGIN_MM,
    help="Width of what is stored around each patch, so that training can shift the centres (fit --shift-mm).",
)
@click.option(
    "--radiomics",
    is_flag=True,
    help="Also measure each nodule's radiomic features on the CT's own voxels, for the SVM; needs pyradiomics.",
)
@solid_option
@click.option("--keep-ids", is_flag=True, help="Keep the table's ids, instead of salted hashes of them.")
@click.option(
    "--salt-file",
    type=FILE,
    envvar="GGN_TF_SALT_FILE",
    help="File with the salt for hashing ids, created at first use. The same salt gives a patient the same hash in "
    "every dataset.  [default: one per user; env: GGN_TF_SALT_FILE]",
)
@shared_option
@click.option("--id-list", type=FILE, help="New file that lists which id became which hash.")
@click.option("--splits", type=AT_LEAST_1, default=SplitProtocol.splits, help="Number of splits to draw.")
@click.option("--seed", type=AT_LEAST_0, default=SplitProtocol.seed, help="Seed of the splits.")
@click.argument("beam_options", nargs=-1, type=click.UNPROCESSED, metavar="[-- BEAM OPTIONS]")
def command(table: Path, runner: Any, staging: str | None, beam_options: tuple[str, ...], **arguments: Any) -> None:
    """Make a dataset of the nodules in TABLE (.csv or .xlsx; one row per nodule).

    Each CT and mask is checked, the patch around the nodule is cut and resampled, and the cases are split into
    training, validation and test sets by patient. The dataset is written whole or not at all.

    TABLE, its CTs and masks and the output may be URLs of object storage (gs://, s3://).
    """
    if runner != "beam" and (beam_options or staging):
        raise click.UsageError(f"{beam_options[0] if beam_options else '--staging'} needs --runner beam.")
    from ggn_tf.cli.terminal import CountBar

    try:
        with CountBar() as bar:
            dataset = ggn_tf.prepare(
                table,
                runner=runner,
                staging=staging,
                beam_options=beam_options,
                on_start=lambda cases: load_tensorflow(keras=False),
                on_progress=bar.show,
                **arguments,
            )
    except RejectedCasesError as error:
        _print_rejected(error.rejected)
        raise
    _print_rejected(dataset.rejected)
    _print_summary(dataset)
    if dataset.notes and not arguments["keep_ids"]:
        click.echo("Ids in notes are the dataset's; ggn-tf check prints the same notes with the table's ids.")


def _print_rejected(rejected: "tuple[ggn_tf.GgnError, ...]") -> None:
    for error in rejected:
        click.echo(f"rejected: {error_text(error)}\n", err=True)


def _print_summary(dataset: "PreparedDataset") -> None:
    from ggn_tf.cases.remote import url_of
    from ggn_tf.cli.terminal import print_table
    from ggn_tf.dataset.previews import PREVIEWS
    from ggn_tf.dataset.writer import REJECTED

    folder = url_of(dataset.folder) or dataset.folder
    patients = len({case.patient_id for case in dataset.cases})
    click.echo(f"{len(dataset.cases)} cases of {patients} patients in {folder}\n\nsplit 1")
    sets = list(next(iter(dataset.split_counts.values())))
    rows = [
        [label, *(str(counts[name]) for name in sets), str(sum(counts.values()))]
        for label, counts in dataset.split_counts.items()
    ]
    print_table(["label", *sets, "all"], rows)
    click.echo(f"\npreviews:    {folder}/{PREVIEWS}\nfingerprint: {dataset.fingerprint[:12]}")
    if dataset.rejected:
        click.echo(f"rejected:    {len(dataset.rejected)}, listed in {folder}/{REJECTED}")
    repaired = sum(bool(case.repaired) for case in dataset.cases)
    if repaired:
        click.echo(f"repaired:    {repaired} cases, each with a description under 'repaired' in dataset.json")
    for note in dataset.notes:
        click.echo(f"note: {note}")
