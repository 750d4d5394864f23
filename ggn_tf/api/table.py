"""Draft a case table from a folder of CTs and masks."""

from pathlib import Path

from ggn_tf.api.arguments import OnProgress, Progress, ignore
from ggn_tf.cases.drafts.draft_table import DraftTable, draft_table, write_draft
from ggn_tf.errors import GgnError
from ggn_tf.files import atomic_file


def draft(folder: str | Path, output: str | Path, *, on_progress: OnProgress = ignore) -> DraftTable:
    """Write a case table with one row per nodule of every mask in a folder, for the labels to be filled in.

    The layout of the folder is free; links are not followed. The table is a new .csv file, whose paths are relative to
    its folder.

    Raises:
        GgnError: The folder contains no mask, or the table exists.
    """
    folder, output = Path(folder), Path(output)
    if output.suffix.lower() != ".csv" or output.exists():
        raise GgnError(
            "The table cannot be written.",
            case=output,
            found="something that exists" if output.exists() else "a name that does not end in .csv",
            expected="a new file whose name ends in .csv",
            remedy="Choose another name.",
            arguments=("output",),
        )
    if not folder.is_dir():
        raise GgnError(
            "There is no such folder.", case=folder, expected="a folder with CTs and masks", remedy="Correct the path."
        )
    table = draft_table(folder, lambda done, count: on_progress(Progress("reading masks", done, count)))
    if not table.rows:
        skipped = "; ".join(f"{item.path.name}: {item.reason}" for item in table.skipped[:5])
        raise GgnError(
            "The folder contains no mask of a nodule.",
            case=folder,
            found=f"{len(table.without_mask)} CTs" + (f"; not used: {skipped}" if skipped else ""),
            expected="CTs and masks in formats that a case table can name",
            remedy="Name the folder that contains both, or write the table by hand.",
        )
    with atomic_file(output) as temporary:
        write_draft(table, temporary, output.parent)
    return table
