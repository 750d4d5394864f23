"""`ggn-tf table`: a draft of a case table from a folder of CTs and masks."""

from pathlib import Path

import click

from ggn_tf.cli.options import FILE, PATH


@click.command()
@click.argument("folder", type=PATH)
@click.option("-o", "--output", type=FILE, default=Path("cases.csv"), help="New table (.csv).")
def command(folder: Path, output: Path) -> None:
    """Draft a case table with one row per nodule of every mask in FOLDER and below it.

    The labels are for you to fill in. What is uncertain is listed, and is in the column `question` of its row.
    """
    from ggn_tf.api.table import draft
    from ggn_tf.cli.terminal import CountBar, print_table

    with CountBar() as bar:
        table = draft(folder, output, on_progress=bar.show)
    rows = [
        (row.case_id, "-" if row.volume_mm3 is None else f"{row.volume_mm3:.0f}", row.mask.name, row.segment or "")
        for row in table.rows
    ]
    print_table(("case", "volume (mm3)", "mask", "segment"), rows, left=1)
    click.echo()
    asked: dict[str, list[str]] = {}
    for row in table.rows:
        for question in row.questions:
            asked.setdefault(question, []).append(row.case_id)
    for question, cases in asked.items():
        more = f" and {len(cases) - 3} more" if len(cases) > 3 else ""
        click.echo(f"question: {', '.join(cases[:3])}{more}: {question}")
    for question in table.questions:
        click.echo(f"question: {question}")
    for ct in table.without_mask:
        click.echo(f"no row: {ct.path}{f', series {ct.series}' if ct.series else ''}: a CT without a mask")
    for item in table.skipped:
        click.echo(f"no row: {item.path}: {item.reason}")
    click.echo(f"{len(table.rows)} rows, labels to be filled in: {output}")
