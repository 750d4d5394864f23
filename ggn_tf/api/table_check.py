"""Check a case table: everything that `prepare` would find in it, without writing a dataset."""

import csv
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from ggn_tf.api.arguments import MARGIN_MM, OnProgress, ignore
from ggn_tf.api.prepare import CutCases, chosen_labels, cut_cases, open_case_table
from ggn_tf.cases.dicom.repair import RepairPolicy
from ggn_tf.cases.patches import CutOptions
from ggn_tf.cases.tables.table import Case
from ggn_tf.cases.tables.table_consistency import ReadNodule, check_consistency
from ggn_tf.dataset.previews import PreviewWriter
from ggn_tf.dataset.table_check import (
    Finding,
    LabelCounts,
    count_labels,
    examine_case,
    hidden_columns,
    nodule_of,
    notes_on,
    problems_of,
    records_of,
    unusable_row,
)
from ggn_tf.errors import GgnError
from ggn_tf.files import atomic_folder
from ggn_tf.protocol import PatchProtocol, Protocol
from ggn_tf.shown_text import in_spreadsheet

FINDINGS = "cases.csv"


@dataclass(frozen=True)
class TableCheck:
    """What was found in a case table.

    Attributes:
        findings: One per case, in the order of the table.
        counts: Number of cases, usable cases and patients per label.
        problems: Why the usable cases cannot form a dataset.
        notes: What to know before training, one sentence each.
    """

    findings: tuple[Finding, ...]
    counts: Mapping[str, LabelCounts]
    problems: tuple[GgnError, ...]
    notes: tuple[str, ...]

    @property
    def rejected(self) -> int:
        """Number of cases that cannot be used."""
        return sum(finding.rejection is not None for finding in self.findings)


def check_table(
    table: str | Path,
    *,
    label_column: str = "label",
    jobs: int | None = None,
    repair: bool = False,
    align_masks: bool = False,
    distinct_ids: bool = False,
    merge_labels: bool = False,
    output: str | Path | None = None,
    shared: bool = False,
    on_progress: OnProgress = ignore,
) -> TableCheck:
    """Examine every row of a table; the arguments are those of `prepare`.

    `output` is a new folder for contact sheets and cases.csv; None for no files. The other arguments are as in
    `prepare`.

    Raises:
        TableError: The table cannot be read, or lacks a column or rows.
        GgnError: The output exists or cannot be written.
    """
    opened, protocol = open_case_table(Path(table), label_column), Protocol()
    cases, merged = chosen_labels(opened, merge_labels)
    unusable = opened.problems_of_rows()
    rows = [
        unusable_row(case, row, unusable[row]) if row in unusable else case
        for row, case in zip(opened.rows, cases, strict=True)
    ]
    options = CutOptions(RepairPolicy(repair, align_masks), ct_digest=True)
    usable = [row for row in rows if isinstance(row, Case)]
    # With the margin that `prepare` reads by default: a CT may be damaged there.
    patch = dataclasses.replace(protocol.patch, margin_mm=MARGIN_MM)
    with closing(cut_cases(usable, patch, jobs, options, on_progress)) as cut:
        findings, read = _examine(rows, cut, patch, None if output is None else Path(output), shared)
    consistency = check_consistency([finding.case for finding in findings], read, distinct_ids=distinct_ids)
    outside_lung = [finding.case.case_id for finding in findings if not finding.in_lung]
    notes = notes_on(records_of(findings), hidden_columns(findings), outside_lung)
    return TableCheck(
        tuple(findings),
        count_labels(findings),
        (*opened.errors, *consistency.errors, *problems_of(findings, protocol.split)),
        (*opened.notes, *merged, *consistency.notes, *notes),
    )


def _examine(
    rows: Sequence[Case | Finding], cut: CutCases, protocol: PatchProtocol, output: Path | None, shared: bool
) -> tuple[list[Finding], dict[str, ReadNodule]]:
    """The findings in the order of the rows, of which some have one already; and what was read, by case id."""
    findings, read = [], {}
    with nullcontext() if output is None else _new_folder(output, shared) as folder:
        with PreviewWriter(folder or Path(), enabled=folder is not None) as sheets:
            for row in rows:
                finding, nodule = (row, None) if isinstance(row, Finding) else examine_case(*next(cut))
                findings.append(finding)
                if nodule is not None:
                    read[finding.case.case_id] = nodule_of(nodule)
                    hu, mask = protocol.without_margin(nodule.hu), protocol.without_margin(nodule.mask)
                    sheets.add(f"{nodule.record.case_id}  {nodule.record.label}", hu, mask)
        if folder is not None:
            _write_findings(folder / FINDINGS, findings)
    return findings, read


@contextmanager
def _new_folder(output: Path, shared: bool) -> Iterator[Path]:
    try:
        with atomic_folder(output, private=not shared) as folder:
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
            remedy="Name another folder, or move this one away.",
            arguments=("output",),
        ) from error


def _write_findings(path: Path, findings: Sequence[Finding]) -> None:
    rows = [finding.to_dict() for finding in findings]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for row in rows:
            # Points, spacings and notes in one cell each; numbers contain no semicolon and no comma.
            cells = {name: "; ".join(map(str, v)) if isinstance(v, list) else v for name, v in row.items()}
            writer.writerow({name: in_spreadsheet(v) if isinstance(v, str) else v for name, v in cells.items()})
