import json
from pathlib import Path
from unittest.mock import Mock

import pytest
from click.testing import CliRunner, Result

from ggn_tf.cli import main
from tests.support.bare_command import exits_without_tensorflow
from tests.support.chest import CENTER, write_dicom, write_nifti
from tests.support.follow_scans import lung, write_mask


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scan, a later one of which the nodule has grown from 6 to 6.8 mm, and their masks."""
    folder = tmp_path_factory.mktemp("follow")
    write_nifti(lung(), folder / "earlier.nii")
    write_nifti(lung(6.8), folder / "later.nii")
    write_mask(folder / "earlier_mask.nii")
    write_mask(folder / "later_mask.nii", 6.8)
    return folder


def scans(folder: Path) -> list[str]:
    return ["follow", *("--earlier", str(folder / "earlier.nii"), "--later", str(folder / "later.nii"))]


def masks(folder: Path) -> list[str]:
    return [f"--{scan}-mask={folder / f'{scan}_mask.nii'}" for scan in ("earlier", "later")]


def centre(*coordinates: float) -> list[str]:
    return ["--center-mm", *map(str, coordinates or CENTER)]


def follow(*arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments])


def test_the_summary_compares_every_change_with_its_limit(folder: Path, tmp_path: Path):
    x, y, z = CENTER
    found = follow(*scans(folder), *masks(folder), *centre(-x, -y, z), "--ras", "--days=365", "-o", str(tmp_path / "a"))
    assert found.exit_code == 0, found.output
    assert found.stdout.count("more than measurement error (27 %)") == 2
    assert found.stdout.count("measurement error (2.2 mm)") == 5
    assert "days       365 from the earlier to the later scan, as given\n" in found.stdout
    assert "doubling time" in found.stdout and "not a medical device" in found.stdout
    assert (tmp_path / "a" / "growth.html").is_file()


def test_json_is_the_record(folder: Path):
    limits = ["--volume-limit=60", "--diameter-limit=1"]
    found = follow(*scans(folder), *masks(folder), *centre(), *limits, "--json")
    assert found.exit_code == 0, found.output
    changes = {change["measurement"]: change for change in json.loads(found.stdout)["changes"]}
    assert (changes["volume_mm3"]["compared"], changes["diameter_mm"]["compared"]) == ("within", "more")


@pytest.mark.parametrize(
    ("days", "words"),
    [
        (("20230110", "20240110"), ("365", "AcquisitionDate")),
        (("20230110", "20230110"), ("unknown", "same AcquisitionDate")),
        ((), ("unknown", "no date")),
    ],
)
def test_the_days_are_printed_with_their_source(
    tmp_path: Path, folder: Path, days: tuple[str, ...], words: tuple[str, ...]
):
    of_dicom = [str(write_dicom(lung(), tmp_path / day[:4], {"0008|0022": day})) for day in dict.fromkeys(days)]
    given = ["follow", "--earlier", of_dicom[0], "--later", of_dicom[-1]] if days else scans(folder)
    mask = str(folder / "earlier_mask.nii")
    found = follow(*given, *centre(), "--earlier-mask", mask, "--later-mask", mask)
    (line,) = (line for line in found.stdout.splitlines() if line.startswith("days "))
    assert all(word in line for word in words)


def test_errors_name_the_options_of_this_command(tmp_path: Path, folder: Path):
    image = lung()
    for name, day, patient in (("a", "20240110", "F"), ("b", "20230110", "F"), ("c", "20250110", "M")):
        write_dicom(image, tmp_path / name, {"0008|0022": day, "0010|0040": patient})
    mask = str(folder / "earlier_mask.nii")
    given = [*centre(), "--earlier-mask", mask, "--later-mask", mask]
    reversed_dates = follow("follow", "--earlier", str(tmp_path / "a"), "--later", str(tmp_path / "b"), *given)
    assert reversed_dates.exit_code == 1 and "option --days" in reversed_dates.stderr
    other_patient = follow("follow", "--earlier", str(tmp_path / "a"), "--later", str(tmp_path / "c"), *given)
    assert other_patient.exit_code == 1 and "option --same-patient" in other_patient.stderr


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--export=m", "--server=localhost:1"],
        ["--export=m", "--proxy=localhost:1"],
        ["--export=m", "--align-masks"],
        ["--export=m", "--days=0"],
        ["--export=m", "--volume-limit=nan"],
        ["--export=m", "--diameter-limit=-1"],
    ],
)
def test_wrong_usage(folder: Path, options: list[str]):
    assert follow(*scans(folder), *centre(), *options).exit_code == 2


def test_a_wrong_path_is_reported_before_a_reader_is_started(folder: Path, monkeypatch: pytest.MonkeyPatch):
    started = Mock()
    monkeypatch.setattr("ggn_tf.cli.follow.start_ahead", started)
    assert follow(*scans(folder), *masks(folder), *centre(), "--later=no.nii").exit_code == 1
    started.assert_not_called()


def test_wrong_paths_are_reported_before_tensorflow_is_loaded(folder: Path, tmp_path: Path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    good = [*scans(folder), *centre(), *masks(folder)]
    wrong = (
        ["follow", "--earlier", "no.nii", *good[3:]],
        [*good[:-1], "--later-mask=no.nii"],
        [*good, "-o", str(tmp_path / "mine")],
        [*good, f"--export={tmp_path}"],
    )
    assert exits_without_tensorflow(*wrong) == [1, 1, 1, 1]
