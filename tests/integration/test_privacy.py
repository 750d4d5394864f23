"""What leaves the hospital names nobody: from a DICOM series to an export, every file is searched."""

import dataclasses
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from click.testing import CliRunner

from ggn_tf.cli import main
from ggn_tf.dataset.records import open_dataset
from tests.support.case_files import read_rows, write_table
from tests.support.tiny_fit import fit, tiny_description
from tests.support.tiny_protocol import tiny_protocol

pytestmark = pytest.mark.slow

TAGS = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "StudyDate",
    "AccessionNumber",
    "InstitutionName",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SOPInstanceUID",
    "FrameOfReferenceUID",
)
NAMES = ("DOE_JOHN", "JANE ROE", "Jim Muster")


def call(*arguments: object) -> str:
    result = CliRunner().invoke(main, [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Synthetic DICOM series; the first nodule's mask is that of another patient, so it is rejected with a reason."""
    folder = tmp_path_factory.mktemp("hospital") / "Pat^ients"
    call("phantom", folder, "--nodules", 12)
    masks = sorted((folder / "masks").iterdir())
    masks[0].write_bytes(masks[-1].read_bytes())
    _add_what_is_told_by_file(folder, masks[-1])
    return folder / "cases.csv"


def _add_what_is_told_by_file(folder: Path, mask: Path) -> None:
    """Further rejected cases: a folder with one slice, and one with two series; the files bear the patients' names."""
    rows = read_rows(folder / "cases.csv")
    first, second = sorted({row["image"] for row in rows})[:2]
    one, two = folder / "images" / "single", folder / "images" / "double"
    for place in (one, two):
        place.mkdir()
    shutil.copy(sorted((folder / first).iterdir())[0], one / "DOE_JOHN_19500101.dcm")
    for who, image in (("JANE ROE", first), ("Jim Muster", second)):
        for number, path in enumerate(sorted((folder / image).iterdir())):
            shutil.copy(path, two / f"{who} {number}.dcm")
    new = [
        {**rows[0], "case_id": case, "image": str(place.relative_to(folder)), "mask": str(mask.relative_to(folder))}
        for case, place in (("PHANTOM-ONE", one), ("PHANTOM-TWO", two))
    ]
    write_table(folder / "cases.csv", [*rows, *new])


@pytest.fixture(scope="module")
def secrets(table: Path) -> set[bytes]:
    """Everything that the source knows a patient by: headers of every file, the table's ids, paths."""
    found = {str(table.parent)}
    for path in (table.parent / "images").rglob("*.dcm"):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        found |= {str(header[tag].value) for tag in TAGS}
        # The phantom's own files are named by their number alone.
        found |= {path.name, path.stem} if path.stem.startswith(NAMES) else set()
    for row in read_rows(table):
        found |= {row["case_id"], row["patient_id"], row["image"], row["mask"]}
    assert {"Fake^Phantom-0001", "PHANTOM-0001", "20000101", "19010101", "Phantom Hospital"} <= found
    found |= set(NAMES)
    return {text.lower().encode() for text in found}


@pytest.fixture(scope="module")
def released(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dataset, a run, an export, and what the commands printed."""
    out = tmp_path_factory.mktemp("released")
    salt = tmp_path_factory.mktemp("salt") / "salt"
    (out / "logs").mkdir()
    # stderr names the rejected case by its own id, for the person who has to correct it.
    result = CliRunner().invoke(
        main,
        ["prepare", str(table), "-o", str(out / "dataset"), "--jobs", "1", "--allow-rejects", "--salt-file", str(salt)],
    )
    assert result.exit_code == 0, result.output
    assert "one slice, DOE_JOHN_19500101.dcm" in result.stderr
    assert "contains 2 CT series" in result.stderr
    (out / "logs" / "prepare.txt").write_text(result.stdout, encoding="utf-8")
    protocol = tiny_protocol(1, size=32)
    dataset = open_dataset(out / "dataset", protocol.patch)
    description = dataclasses.replace(tiny_description(dataset), model="multitask", protocol=protocol)
    fit(out / "runs" / "one", description, dataset, "classify")
    (out / "logs" / "evaluate.txt").write_text(
        call("evaluate", out / "runs" / "one", "--replicates", 50, "--gallery", 2), encoding="utf-8"
    )
    (out / "logs" / "export.txt").write_text(
        call("export", out / "runs" / "one", "-o", out / "models" / "ggn"), encoding="utf-8"
    )
    return out


def contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file under its path, and what archives hold."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = str(path.relative_to(folder))
        yield name, path.read_bytes()
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for part in archive.namelist():
                    yield f"{name}/{part}", archive.read(part)


def leaks(folder: Path, secrets: set[bytes]) -> list[str]:
    texts = ((name, b"\n".join((name.encode(), content)).lower()) for name, content in contents(folder))
    return [f"{name}: {secret.decode()}" for name, text in texts for secret in secrets if secret in text]


def test_no_file_of_dataset_run_and_export_tells_who_it_was(released: Path, secrets: set[bytes]) -> None:
    names = [name for name, _ in contents(released)]
    for part in (
        "rejected.csv",
        "tfrecord",
        "run.json",
        "tfevents",
        "predictions.csv",
        "saved_model.pb",
        "config.json",
    ):
        assert any(part in name for name in names), part
    assert (released / "dataset" / "rejected.csv").read_text(encoding="utf-8").count("\n") == 4
    assert leaks(released, secrets) == []


def test_the_search_finds_ids_that_were_kept(table: Path, secrets: set[bytes], tmp_path: Path) -> None:
    call("prepare", table, "-o", tmp_path / "dataset", "--jobs", "1", "--allow-rejects", "--keep-ids")
    found = leaks(tmp_path, secrets)
    assert "dataset/dataset.json: phantom-0002" in found
    assert "dataset/rejected.csv: phantom-0001-1" in found
