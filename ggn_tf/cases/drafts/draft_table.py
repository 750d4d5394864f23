"""A draft of a case table: one row per nodule of every mask in a folder, with what is uncertain about it."""

import csv
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ggn_tf.cases.dicom.series import SeriesQuery
from ggn_tf.cases.drafts.folder_contents import FolderContents, FoundCt, FoundMask, Skipped, scan_folder
from ggn_tf.cases.drafts.mask_contents import FoundNodule, fits, read_nodules
from ggn_tf.cases.geometry.grid import Vector
from ggn_tf.cases.reader_process import ReaderEndedError, run_in_reader
from ggn_tf.cases.tables.table import CENTER
from ggn_tf.cases.volumes import Volume, open_volume
from ggn_tf.errors import GgnError
from ggn_tf.shown_text import in_spreadsheet, one_line

COLUMNS = (
    *("case_id", "patient_id", "image", "series", "mask", "segment", *CENTER, "label", "volume_mm3", "question"),
)
_NAMED = "Is this the patient's id? It is the name of a folder or file."
# Of a ball of 30 mm, the largest that is called a nodule (Bankier et al. 2024, Radiology 310:e232558); ten times that
# is an organ.
_LARGEST_MM3 = np.pi / 6 * 30.0**3
_ORGAN_MM3 = 10 * _LARGEST_MM3


@dataclass(frozen=True)
class DraftRow:
    """A row of the draft; the label is for the user to fill in.

    Attributes:
        case_id: Patient and number.
        patient_id: From the CT's headers, or from names of folders and files.
        ct: The CT; None where none was found.
        mask: The mask's file.
        segment: The segment's name or number, where there are several.
        center_mm_lps: A point in the nodule, where its segment has several.
        volume_mm3: The nodule's volume; None without a CT.
        questions: What is uncertain, one sentence each.
    """

    case_id: str
    patient_id: str
    ct: FoundCt | None
    mask: Path
    segment: str | None = None
    center_mm_lps: Vector | None = None
    volume_mm3: float | None = None
    questions: tuple[str, ...] = ()


@dataclass(frozen=True)
class DraftTable:
    """The rows, what is not in them, and what is uncertain about all of them.

    Attributes:
        skipped: Files and segments that are in no row.
        without_mask: CTs without a nodule.
        questions: What is uncertain about several rows, one sentence each.
    """

    rows: list[DraftRow]
    skipped: list[Skipped]
    without_mask: list[FoundCt]
    questions: list[str]


def draft_table(folder: Path, on_progress: Callable[[int, int], None]) -> DraftTable:
    """Draft a case table from a folder.

    Raises:
        OSError: The folder cannot be read.
    """
    contents = scan_folder(folder)
    opened = _open_all(contents)
    patients = {ct: ct.patient or _name_of(ct.path, folder) for ct in opened}
    rows: list[DraftRow] = []
    for number, mask in enumerate(contents.masks, start=1):
        rows += _rows_of(mask, folder, opened, patients, contents.skipped)
        on_progress(number, len(contents.masks))
    used = {row.ct for row in rows}
    return DraftTable(
        _numbered(rows), contents.skipped, [ct for ct in opened if ct not in used], _questions(patients, rows)
    )


def write_draft(draft: DraftTable, path: Path, folder: Path) -> None:
    """Write the rows as CSV, with paths relative to a folder."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for row in draft.rows:
            writer.writerow(in_spreadsheet(one_line(str(cell))) for cell in _cells(row, folder.absolute()))


def _open_all(contents: FolderContents) -> dict[FoundCt, Volume]:
    opened = {}
    for ct in contents.cts:
        try:
            opened[ct] = run_in_reader(open_volume, ct.path, SeriesQuery(ct.series))
        except (GgnError, OSError, ReaderEndedError) as error:
            contents.skipped.append(Skipped(ct.path, _reason(error)))
    return opened


def _rows_of(
    mask: FoundMask,
    folder: Path,
    opened: dict[FoundCt, Volume],
    patients: dict[FoundCt, str],
    skipped: list[Skipped],
) -> list[DraftRow]:
    try:
        ct, questions = _ct_of(mask, folder, opened)
        if ct is None:
            return [DraftRow("", _name_of(mask.path, folder), None, mask.path, questions=questions)]
        found = run_in_reader(read_nodules, mask.path, opened[ct])
    except (GgnError, OSError, ReaderEndedError) as error:
        skipped.append(Skipped(mask.path, _reason(error)))
        return []
    rows = []
    for nodule in found:
        if isinstance(nodule, GgnError):
            skipped.append(Skipped(mask.path, _reason(nodule)))
        elif nodule.volume_mm3 > _ORGAN_MM3:
            size = f"{nodule.volume_mm3 / 1000:.0f} ml"
            skipped.append(Skipped(mask.path, f"segment {nodule.segment or 1}: {size} is not the size of a nodule"))
        else:
            doubts = (*questions, *_doubts(nodule), *(() if ct.patient else (_NAMED,)))
            rows.append(DraftRow("", patients[ct], ct, mask.path, *nodule, questions=doubts))
    return rows


def _doubts(nodule: FoundNodule) -> list[str]:
    if nodule.volume_mm3 <= _LARGEST_MM3:
        return []
    return [f"Is it a nodule? Its volume of {nodule.volume_mm3 / 1000:.0f} ml is that of a ball of over 30 mm."]


def _ct_of(mask: FoundMask, folder: Path, opened: dict[FoundCt, Volume]) -> tuple[FoundCt | None, tuple[str, ...]]:
    """The CT that a mask was drawn on, and what is uncertain about that."""
    cts, references = list(opened), mask.references
    if references is not None:
        possible = [ct for ct in cts if ct.series in references.series]
        if not possible and not references.series:
            possible = [ct for ct in cts if references.patient and ct.patient == references.patient]
    else:
        possible = [cts[index] for index in run_in_reader(fits, mask.path, list(opened.values()))]
    if not possible:
        return None, ("Which CT? None in the folder is the one that the mask references, or has its voxels.",)
    nearness = [_nearness(mask.path, ct, folder) for ct in possible]
    nearest = [ct for ct, near in zip(possible, nearness, strict=True) if near == max(nearness)]
    if len(nearest) > 1:
        names = ", ".join(_place(ct, folder) for ct in nearest[:5])
        return None, (f"Which CT? {len(nearest)} have the mask's voxels: {names}.",)
    if len(possible) > 1 and max(nearness)[1] == 0:
        others = len(possible) - 1
        return nearest[0], (f"Is it the right CT? {others} other CTs have the mask's voxels; this one is nearest.",)
    return nearest[0], ()


def _nearness(mask: Path, ct: FoundCt, folder: Path) -> tuple[int, int]:
    """Number of folders that the paths share, and of parts of their names."""
    parent = ct.path if ct.series else ct.path.parent
    shared = zip(mask.parent.relative_to(folder).parts, parent.relative_to(folder).parts, strict=False)
    same = [one == other for one, other in shared]
    folders = same.index(False) if False in same else len(same)
    return folders, len(_tokens(mask.relative_to(folder)) & _tokens(ct.path.relative_to(folder)))


def _tokens(path: Path) -> set[str]:
    return set(re.findall(r"[^\W_]+", _stem(path).casefold()))


def _stem(path: Path) -> str:
    return re.sub(r"(\.seg)?(\.nii\.gz|\.[A-Za-z]{3,4})$", "", path.name, flags=re.IGNORECASE)


def _name_of(path: Path, folder: Path) -> str:
    """The top folder that the file is in, if it looks like a patient's; else the file's name."""
    parts = path.relative_to(folder).parts
    return parts[0] if len(parts) > 1 and re.search(r"\d", parts[0]) else _stem(path)


def _numbered(rows: Iterable[DraftRow]) -> list[DraftRow]:
    count = Counter[str]()
    numbered = []
    for row in rows:
        count[row.patient_id] += 1
        numbered.append(replace(row, case_id=f"{row.patient_id}_{count[row.patient_id]}"))
    return numbered


def _questions(patients: dict[FoundCt, str], rows: Sequence[DraftRow]) -> list[str]:
    used = {row.ct for row in rows if row.ct is not None}
    named = sorted({patients[ct] for ct in used if not ct.patient})
    several = Counter(patients[ct] for ct in used)
    repeated = sorted(patient for patient, count in several.items() if count > 1)
    questions = []
    if named:
        questions.append(
            f"{len(named)} patient ids are names of folders or files: has every patient one id in all rows?"
        )
    for alike in _alike(named):
        questions.append(f"One patient? The ids {', '.join(alike)} differ in their end alone.")
    if repeated:
        listed = ", ".join(repeated[:10])
        questions.append(f"Patients with several CTs ({listed}): is a nodule in the table once for each of them?")
    return questions


def _alike(names: Sequence[str]) -> list[list[str]]:
    """Names that share their beginning, with a number in it, and differ in their last part."""
    groups = defaultdict(list)
    for name in names:
        parts = re.findall(r"[^\W_]+", name)
        # A single letter before the last number belongs to it: R_1, R_2, L_1.
        kept = parts[: -2 if len(parts) > 2 and len(parts[-2]) == 1 and parts[-2].isalpha() else -1]
        if any(part.isdigit() for part in kept):
            groups[tuple(kept)].append(name)
    return [group for group in groups.values() if len(group) > 1]


def _cells(row: DraftRow, folder: Path) -> list[object]:
    return [
        row.case_id,
        row.patient_id,
        "" if row.ct is None else _relative(row.ct.path, folder),
        (row.ct.series or "") if row.ct else "",
        _relative(row.mask, folder),
        row.segment or "",
        *("" if row.center_mm_lps is None else f"{value:.2f}" for value in row.center_mm_lps or (0, 0, 0)),
        "",
        "" if row.volume_mm3 is None else f"{row.volume_mm3:.0f}",
        " ".join(row.questions),
    ]


def _relative(path: Path, folder: Path) -> str:
    text = Path(os.path.relpath(path.absolute(), folder)).as_posix()
    # A path that begins like a formula stays a path.
    return text if in_spreadsheet(text) == text else f"./{text}"


def _place(ct: FoundCt, folder: Path) -> str:
    path = ct.path.relative_to(folder).as_posix()
    return f"{path} (series {ct.series})" if ct.series else path


def _reason(error: Exception) -> str:
    if not isinstance(error, GgnError):
        return str(error)
    return error.what + (f" Found: {error.found}." if error.found else "")
