import dataclasses
import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases import reader_process
from ggn_tf.cases.dicom.repair import RepairPolicy
from ggn_tf.cases.patch_location import NoduleTarget
from ggn_tf.cases.patches import CutOptions, Patch, cut_patch_from
from ggn_tf.cases.tables.table import Case
from ggn_tf.dataset.case_outcome import AcceptedCase, RejectedCase, outcome_of
from ggn_tf.dataset.identity import Pseudonyms
from ggn_tf.dataset.preparation import groups_of, prepare_case, prepare_cases, prepare_group
from ggn_tf.errors import GgnError, MaskError, VolumeError
from ggn_tf.protocol import PatchProtocol
from tests.support.case_files import read_table, write_case_files

PROTOCOL = PatchProtocol()


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_case_files(tmp_path_factory.mktemp("cases"), 7, bad=(2,))


def test_a_cases_patch_is_the_one_that_is_cut(table: Path) -> None:
    case = read_table(table)[0]
    patch = prepare_case(case, PROTOCOL)
    expected = cut_patch_from(case.image, NoduleTarget(case.mask), PROTOCOL)
    assert isinstance(patch, Patch) and patch.ct_digests and not expected.ct_digests
    np.testing.assert_array_equal(patch.hu, expected.hu)
    np.testing.assert_array_equal(patch.mask, expected.mask)


@pytest.mark.parametrize(("row", "changes"), [(2, {}), (0, {"mask": None, "center_mm_lps": (0.0, 0.0, 0.0)})])
def test_a_case_without_a_nodule_in_its_mask_is_returned_as_its_error(
    table: Path, row: int, changes: dict[str, object]
) -> None:
    error = prepare_case(dataclasses.replace(read_table(table)[row], **changes), PROTOCOL)
    assert isinstance(error, MaskError) and str(error.case).startswith(f"SMITH-000{row}")


@pytest.mark.parametrize(
    "path",
    [
        f"{'x' * 300}/ct.nii.gz",
        "a\0b.nii.gz",
        "\udcff.nii.gz",
        "~nobody/ct.nii.gz",
        "C:\\data\\ct.nii.gz",
        "/proc/self/mem",
        "http://[::1/ct.nii.gz",
        "file:///%zz/ct.nii.gz",
        "no-such-storage://ct.nii.gz",
    ],
)
@pytest.mark.parametrize("wrong", ["image", "mask"])
def test_a_path_that_cannot_be_opened_rejects_its_own_case(table: Path, path: str, wrong: str) -> None:
    """Also in a group of cases that are cut together, and where the reason is hidden from the dataset's readers."""
    good = read_table(table)[0]
    bad = dataclasses.replace(good, case_id="bad", **{wrong: Path(path)})
    (_, first), (_, error), (_, last) = prepare_cases([good, bad, good], PROTOCOL, 1)
    assert isinstance(error, GgnError) and "bad" in str(error.case)
    assert isinstance(first, Patch) and isinstance(last, Patch)
    assert isinstance(outcome_of(bad, error, Pseudonyms(b"salt"), set()), RejectedCase)


@pytest.mark.parametrize("wrong", ["image", "mask"])
def test_a_missing_file_of_a_table_is_relative_to_the_table(table: Path, wrong: str) -> None:
    error = prepare_case(dataclasses.replace(read_table(table)[0], **{wrong: Path("no.nii")}), PROTOCOL)
    assert isinstance(error, GgnError) and error.case == "SMITH-0000 (no.nii)"
    assert "relative to the table" in str(error.remedy)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT])
def test_an_error_of_the_machine_is_no_error_of_a_case(
    table: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def full(*arguments: object, **named: object) -> None:
        raise OSError(number, os.strerror(number))

    case = read_table(table)[0]
    monkeypatch.setattr("ggn_tf.dataset.preparation.cut_patch_from", full)
    monkeypatch.setattr(os, "listdir", full)
    with pytest.raises(OSError) as caught:
        prepare_case(case, PROTOCOL)
    assert caught.value.errno == number


def test_two_processes_give_what_one_gives_in_the_same_order(table: Path) -> None:
    cases = read_table(table)
    alone, together = (list(prepare_cases(cases, PROTOCOL, jobs)) for jobs in (1, 2))
    assert [case for case, _ in alone] == [case for case, _ in together] == cases
    for (_, one), (_, other) in zip(alone, together, strict=True):
        if isinstance(one, GgnError):
            assert str(one) == str(other)
        else:
            np.testing.assert_array_equal(one.hu, other.hu)
            assert one.grid == other.grid


@pytest.fixture(scope="module")
def nodules_of_one_ct(tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    """Eighteen nodules of one compressed CT, each with its own label in one mask; the fourth's label is missing."""
    folder = tmp_path_factory.mktemp("several")
    hu = np.random.default_rng(0).integers(-900, 100, (30, 60, 60)).astype(np.int16)
    labels = np.zeros(hu.shape, dtype=np.uint8)
    for number in set(range(18)) - {3}:
        z, y, x = 3 + number, 5 + 2 * number, 50 - 2 * number
        labels[z : z + 3, y : y + 4, x : x + 5] = number + 1
    for name, voxels in {"ct.nii.gz": hu, "mask.nii.gz": labels}.items():
        sitk.WriteImage(sitk.GetImageFromArray(voxels), str(folder / name))
    return [
        Case(f"{number}", "P", folder / "ct.nii.gz", folder / "mask.nii.gz", "AIS", f"{number + 1}", None, {})
        for number in range(18)
    ]


@pytest.mark.parametrize("jobs", [1, 2])
def test_nodules_of_one_ct_are_cut_as_each_alone(nodules_of_one_ct: list[Case], jobs: int) -> None:
    cases = nodules_of_one_ct[4:]
    prepared = list(prepare_cases(cases, PROTOCOL, jobs))
    assert [case for case, _ in prepared] == cases
    for case, patch in prepared:
        alone = prepare_case(case, PROTOCOL)
        for field in dataclasses.fields(Patch):
            np.testing.assert_array_equal(getattr(patch, field.name), getattr(alone, field.name))


def test_only_the_nodule_that_is_missing_is_rejected(nodules_of_one_ct: list[Case]) -> None:
    prepared = prepare_cases(nodules_of_one_ct, PROTOCOL, 1)
    (rejected,) = [(case, patch) for case, patch in prepared if isinstance(patch, GgnError)]
    assert rejected[0].case_id == "3"
    assert str(rejected[1].case).startswith("3 (")
    assert rejected[1].what == "The mask has no voxel of segment '4'."


def test_an_error_of_any_type_rejects_no_other_nodule_of_the_ct(
    nodules_of_one_ct: list[Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **named: object) -> None:
        raise TypeError("not enough arguments for format string")

    monkeypatch.setattr("ggn_tf.dataset.preparation.cut_patches", fail)
    assert all(isinstance(patch, Patch) for patch in prepare_group(nodules_of_one_ct[:2], PROTOCOL))


@pytest.mark.parametrize("together", [True, False])
def test_each_nodule_of_a_ct_has_the_time_of_one(
    nodules_of_one_ct: list[Case], monkeypatch: pytest.MonkeyPatch, together: bool
) -> None:
    limits: list[float] = []
    monkeypatch.setattr(reader_process, "_allowed_s", 7.0)
    monkeypatch.setattr(reader_process, "_limit_time", limits.append)
    if not together:
        monkeypatch.setattr("ggn_tf.dataset.preparation.open_volume", None)
    prepare_group(nodules_of_one_ct[:3], PROTOCOL)
    # Once to find each, and once to cut it.
    assert limits == [7.0] * (6 if together else 3)


def test_a_compressed_ct_is_decompressed_once_for_its_neighbouring_rows(nodules_of_one_ct: list[Case]) -> None:
    dicom = [dataclasses.replace(case, image=Path("series")) for case in nodules_of_one_ct[:3]]
    cases = [*nodules_of_one_ct, *dicom, *nodules_of_one_ct[:2]]
    groups = list(groups_of(cases))
    assert [len(group) for group in groups] == [16, 2, 1, 1, 1, 2]
    assert [case for group in groups for case in group] == cases


def test_a_case_without_a_mask_is_rejected_among_others_of_its_ct(nodules_of_one_ct: list[Case]) -> None:
    point = dataclasses.replace(nodules_of_one_ct[1], mask=None, segment=None, center_mm_lps=(30.0, 30.0, 15.0))
    cut, rejected = (patch for _, patch in prepare_cases([nodules_of_one_ct[0], point], PROTOCOL, 1))
    assert isinstance(cut, Patch)
    assert isinstance(rejected, MaskError)


class Deadly:
    """A case that ends whichever process unpacks it."""

    case_id = "SMITH-0666"
    image = Path("ct.nii.gz")
    mask = Path("mask.nii.gz")

    def __reduce__(self) -> tuple[object, ...]:
        return os._exit, (1,)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_case_that_ends_its_reader_is_rejected_alone(table: Path, jobs: int) -> None:
    good = read_table(table)[0]
    (_, first), (_, error), (_, last) = prepare_cases([good, Deadly(), good], PROTOCOL, jobs)
    assert isinstance(first, Patch) and isinstance(last, Patch)
    assert isinstance(error, VolumeError)
    assert error.case == "SMITH-0666 (ct.nii.gz)"
    assert str(error.found).startswith("exit status 1, while it read ct.nii.gz and ")


def test_workers_do_not_import_tensorflow() -> None:
    check = "import sys, ggn_tf.dataset.preparation; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], timeout=60).returncode == 0


def test_a_nodule_carries_measures_and_further_columns_but_no_path(table: Path) -> None:
    case = read_table(table)[1]
    patch = prepare_case(case, PROTOCOL)
    nodule = outcome_of(case, patch, Pseudonyms(b"key"), set())
    assert isinstance(nodule, AcceptedCase)
    record = nodule.record
    assert record.columns == {"sex": "M"}
    hidden = outcome_of(case, patch, Pseudonyms(b"key"), {"sex"})
    assert isinstance(hidden, AcceptedCase) and hidden.record.columns == {}
    assert record.label == "MIA"
    assert record.spacing_mm_zyx == pytest.approx((1.25, 0.8, 0.8))
    # The mask is a ball of radius 5 mm.
    assert record.diameter_mm == pytest.approx(10, abs=0.3)
    assert record.mean_hu == pytest.approx(-500, abs=5)
    assert not any(name in str(record) for name in ("SMITH", "MRN", str(table.parent)))


def test_a_rejection_says_what_is_wrong_and_was_expected_without_names(table: Path) -> None:
    case = read_table(table)[2]
    error = MaskError(
        "The mask is odd.", case=case.image, found=f"{case.mask}", expected="a mask", remedy="Correct it."
    )
    rejection = outcome_of(case, error, Pseudonyms(b"key"), set())
    identity = Pseudonyms(b"key").id_of("SMITH-0002")
    assert rejection == RejectedCase(identity, "The mask is odd; expected: a mask", "Correct it.")


def test_a_patch_without_a_mask_is_a_mistake_of_the_caller(table: Path) -> None:
    case = read_table(table)[0]
    patch = cut_patch_from(case.image, NoduleTarget(center_mm_lps=(-34.0, 36.0, -85.0)), PROTOCOL)
    with pytest.raises(ValueError, match="Expected a patch with a mask"):
        outcome_of(case, patch, Pseudonyms(None), set())


def test_what_was_repaired_is_recorded_without_paths_and_uids(table: Path) -> None:
    case = read_table(table)[0]
    patch = prepare_case(case, PROTOCOL)
    assert isinstance(patch, Patch)
    note = f"a gantry tilt in {case.image}, series 1.2.840.113619.2.55.3.1"
    nodule = outcome_of(case, dataclasses.replace(patch, repaired=(note,)), Pseudonyms(b"key"), set())
    assert isinstance(nodule, AcceptedCase)
    assert nodule.record.repaired == ("a gantry tilt in <image>, series <uid>",)


def test_a_mask_on_another_grid_is_aligned_only_where_that_is_allowed(table: Path, tmp_path: Path) -> None:
    case = read_table(table)[0]
    mask = sitk.ReadImage(str(case.mask))
    fine = sitk.Expand(mask, (2, 2, 2), sitk.sitkNearestNeighbor)
    sitk.WriteImage(fine, str(tmp_path / "fine.nii.gz"))
    case = dataclasses.replace(case, mask=tmp_path / "fine.nii.gz")
    refused = prepare_case(case, PROTOCOL)
    assert isinstance(refused, MaskError)
    assert refused.arguments == ("align_masks",)
    aligned = prepare_case(case, PROTOCOL, CutOptions(RepairPolicy(align_masks=True)))
    assert isinstance(aligned, Patch)
    assert aligned.repaired[0].startswith("the mask: put onto the CT's grid from")
