"""`ggn-tf check`: everything that `prepare` would find in a case table, without writing a dataset."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ggn_tf.cli.options import (
    PATH,
    error_parts,
    error_text,
    jobs_option,
    json_option,
    repair_options,
    shared_option,
    table_options,
)

if TYPE_CHECKING:
    from ggn_tf.api.table_check import TableCheck
    from ggn_tf.dataset.table_check import Finding


@click.command()
@click.argument("table", type=PATH)
@table_options
@jobs_option
@repair_options
@click.option("-o", "--output", type=PATH, help="New folder for contact sheets and cases.csv.")
@shared_option
@json_option
def command(table: Path, output: Path | None, as_json: bool, **arguments: Any) -> None:
    """Report all that `ggn-tf prepare` would find in TABLE (.csv or .xlsx), and write no dataset.

    Ids are shown as they are in the table. The exit code is 1 where a case would be rejected or the cases cannot be
    split.
    """
    from ggn_tf.api.table_check import check_table
    from ggn_tf.cli.terminal import CountBar

    with CountBar() as bar:
        check = check_table(table, output=output, on_progress=bar.show, **arguments)
    if as_json:
        click.echo(json.dumps(_document(check, table, output), indent=2))
    else:
        _print(check, output)
    sys.exit(1 if check.rejected or check.problems else 0)


def _document(check: "TableCheck", table: Path, output: Path | None) -> dict[str, Any]:
    return {
        "table": str(table),
        "rejected": check.rejected,
        "labels": {label: dataclasses.asdict(count) for label, count in check.counts.items()},
        "problems": list(map(error_parts, check.problems)),
        "notes": list(check.notes),
        "sheets": None if output is None else str(output),
        "cases": [finding.to_dict() for finding in check.findings],
    }


def _print(check: "TableCheck", output: Path | None) -> None:
    from ggn_tf.api.table_check import FINDINGS
    from ggn_tf.cli.terminal import print_table

    measures = ("spacing x, y, z (mm)", "diameter (mm)", "mean HU", "solid", "in the CT", "mask touches")
    print_table(["case", "status", "label", *measures], map(_row, check.findings), left=3)
    click.echo()
    for finding in check.findings:
        if finding.error is not None:
            click.echo(f"rejected: {error_text(finding.error)}\n")
        if finding.record is not None and finding.record.repaired:
            click.echo(f"repaired: {finding.case.case_id}: {'; '.join(finding.record.repaired)}\n")
    for problem in check.problems:
        click.echo(f"problem: {error_text(problem)}\n")
    counts = [(label, *map(str, dataclasses.astuple(count))) for label, count in check.counts.items()]
    print_table(["label", "cases", "usable", "patients"], counts)
    click.echo()
    for note in check.notes:
        click.echo(f"note: {note}")
    if output is not None:
        click.echo(f"sheets and {FINDINGS}: {output}")
    click.echo(f"{len(check.findings) - check.rejected} of {len(check.findings)} cases can be used")


def _row(finding: "Finding") -> list[str]:
    record = finding.record
    if record is None:
        return [finding.case.case_id, "rejected", finding.case.label, *[""] * 6]
    return [
        finding.case.case_id,
        "usable",
        finding.case.label,
        " x ".join(f"{step:.3g}" for step in record.spacing_mm_zyx[::-1]),
        f"{record.diameter_mm:.1f}",
        f"{record.mean_hu:.0f}",
        f"{record.solid_fraction:.0%}",
        f"{record.covered_share:.0%}",
        ", ".join(record.mask_faces),
    ]
