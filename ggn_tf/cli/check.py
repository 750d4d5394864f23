"""`ggn-tf check`: everything that `prepare` would find in a case table, without writing a dataset."""

import csv
import dataclasses
import json
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ggn_tf.cli.patch_options import cut_cases, repair_options
from ggn_tf.errors import GgnError

if TYPE_CHECKING:
    from rich.console import Console

    from ggn_tf.cases.patches import Patch
    from ggn_tf.cases.table import Case
    from ggn_tf.dataset.case_outcome import AcceptedCase
    from ggn_tf.dataset.table_check import Finding, LabelCounts

    Cut = Generator[tuple[Case, Patch | GgnError], None, None]

FINDINGS = "cases.csv"
# Where the output is no terminal rich would fold the rows at 80 characters.
_WIDTH = 140


@click.command()
@click.argument("table", type=click.Path(path_type=Path))
@click.option("--label-column", default="label", show_default=True, help="The table's column with the labels.")
@click.option("--jobs", type=click.IntRange(min=1), help="Processes.  [default: one a processor]")
@repair_options
@click.option("-o", "--output", type=click.Path(path_type=Path), help="New folder for contact sheets and cases.csv.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    table: Path,
    label_column: str,
    jobs: int | None,
    repair: bool,
    align_masks: bool,
    output: Path | None,
    as_json: bool,
) -> None:
    """Tell all that `ggn-tf prepare` would find in TABLE (.csv or .xlsx), and write no dataset.

    Ids are shown as the table has them. Exits with 1 where a case would be rejected or the cases cannot be split.
    """
    from ggn_tf.cases.dicom.repair import RepairPolicy
    from ggn_tf.cases.table import read_table
    from ggn_tf.dataset.table_check import count_labels, hidden_columns, notes_on, problems_of, records_of
    from ggn_tf.protocol import Protocol

    cases, protocol = read_table(table, label_column), Protocol()
    cut = cut_cases(cases, protocol.patch, jobs, RepairPolicy(repair, align_masks))
    findings = _examine(cut, output)
    problems, counts = problems_of(findings, protocol.split), count_labels(findings)
    outside_lung = [finding.case.case_id for finding in findings if not finding.in_lung]
    notes = notes_on(records_of(findings), hidden_columns(findings), outside_lung)
    rejected = sum(finding.rejection is not None for finding in findings)
    if as_json:
        document = {
            "table": str(table),
            "rejected": rejected,
            "labels": {label: dataclasses.asdict(count) for label, count in counts.items()},
            "problems": [_parts(problem) for problem in problems],
            "notes": notes,
            "sheets": None if output is None else str(output),
            "cases": [finding.to_dict() for finding in findings],
        }
        click.echo(json.dumps(document, indent=2))
    else:
        _print(findings, counts, problems, notes, output)
    sys.exit(1 if rejected or problems else 0)


def _examine(cut: "Cut", output: Path | None) -> "list[Finding]":
    from ggn_tf.dataset.previews import PreviewWriter

    if output is None:
        return _findings(cut, lambda nodule: None)
    with _new_folder(output) as folder:
        with PreviewWriter(folder) as sheets:
            findings = _findings(
                cut,
                lambda nodule: sheets.add(f"{nodule.record.case_id}  {nodule.record.label}", nodule.hu, nodule.mask),
            )
        _write_findings(folder / FINDINGS, findings)
    return findings


def _findings(cut: "Cut", draw: "Callable[[AcceptedCase], None]") -> "list[Finding]":
    from ggn_tf.dataset.table_check import examine_case

    findings = []
    with closing(cut):
        for case, patch in cut:
            finding, nodule = examine_case(case, patch)
            findings.append(finding)
            if nodule is not None:
                draw(nodule)
    return findings


@contextmanager
def _new_folder(output: Path) -> Iterator[Path]:
    from ggn_tf.files import atomic_folder

    try:
        with atomic_folder(output) as folder:
            yield folder
    except OSError as error:
        exists = isinstance(error, FileExistsError)
        raise GgnError(
            "The findings would be written over something that exists."
            if exists
            else "The findings cannot be written.",
            case=output,
            found=None if exists else error,
            expected="a folder that does not exist, or an empty one",
            remedy="Name another with -o, or move this one away.",
        ) from error


def _write_findings(path: Path, findings: "Sequence[Finding]") -> None:
    rows = [finding.to_dict() for finding in findings]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for row in rows:
            # Points, spacings and notes in one cell each; numbers hold no semicolon and no comma.
            writer.writerow({name: "; ".join(map(str, v)) if isinstance(v, list) else v for name, v in row.items()})


def _print(
    findings: "Sequence[Finding]",
    counts: "Mapping[str, LabelCounts]",
    problems: Sequence[GgnError],
    notes: Sequence[str],
    output: Path | None,
) -> None:
    """The cases, what is wrong with them, and the counts a label."""
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else _WIDTH, markup=False, highlight=False)
    _print_cases(console, findings)
    for finding in findings:
        if finding.error is not None:
            click.echo(f"rejected: {finding.error}\n")
        if finding.record is not None and finding.record.repaired:
            click.echo(f"put right: {finding.case.case_id}: {'; '.join(finding.record.repaired)}\n")
    for problem in problems:
        click.echo(f"problem: {problem}\n")
    _print_counts(console, counts)
    for note in notes:
        click.echo(f"note: {note}")
    if output is not None:
        click.echo(f"sheets and {FINDINGS}: {output}")
    usable = sum(finding.rejection is None for finding in findings)
    click.echo(f"{usable} of {len(findings)} cases can be used")


def _print_cases(console: "Console", findings: "Sequence[Finding]") -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("case", overflow="fold")
    table.add_column("status")
    table.add_column("label", overflow="fold")
    for name in ("spacing x, y, z (mm)", "diameter (mm)", "mean HU", "solid"):
        table.add_column(name, justify="right")
    for finding in findings:
        record = finding.record
        measured = (
            ["", "", "", ""]
            if record is None
            else [
                " x ".join(f"{step:.3g}" for step in record.spacing_mm_zyx[::-1]),
                f"{record.diameter_mm:.1f}",
                f"{record.mean_hu:.0f}",
                f"{record.solid_fraction:.0%}",
            ]
        )
        status = "rejected" if record is None else "usable"
        table.add_row(finding.case.case_id, status, finding.case.label, *measured)
    console.print(table)
    console.print()


def _print_counts(console: "Console", counts: "Mapping[str, LabelCounts]") -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("label", overflow="fold")
    for name in ("cases", "usable", "patients"):
        table.add_column(name, justify="right")
    for label, count in counts.items():
        table.add_row(label, str(count.cases), str(count.usable), str(count.patients))
    console.print(table)
    console.print()


def _parts(error: GgnError) -> dict[str, str | None]:
    return {name: getattr(error, name) for name in ("what", "case", "found", "expected", "remedy")}
