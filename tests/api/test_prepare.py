from pathlib import Path

import pytest

import ggn_tf
from ggn_tf.api.table_check import check_table
from ggn_tf.dataset.records import open_dataset
from ggn_tf.errors import DatasetError, MaskError, RejectedCasesError
from ggn_tf.protocol import PatchProtocol
from tests.support.case_files import shift_mask, write_case_files


def test_a_dataset_is_what_was_written(tmp_path: Path) -> None:
    seen: list[ggn_tf.Progress] = []
    salt = tmp_path / "salt"
    table = write_case_files(tmp_path / "cases", 12)
    dataset = ggn_tf.prepare(table, tmp_path / "dataset", jobs=1, salt_file=salt, on_progress=seen.append)
    written = open_dataset(dataset.folder, PatchProtocol())
    assert (dataset.fingerprint, dataset.cases) == (written.fingerprint, written.cases)
    assert dataset.rejected == () and salt.is_file()
    assert {label: sum(counts.values()) for label, counts in dataset.split_counts.items()} == dict(written.label_counts)
    assert [progress.done for progress in seen] == list(range(13)) and {progress.total for progress in seen} == {12}


def test_cases_that_cannot_be_used_are_in_the_error_or_left_out(tmp_path: Path) -> None:
    table = write_case_files(tmp_path / "cases", 12, bad=(2, 5))
    with pytest.raises(RejectedCasesError) as caught:
        ggn_tf.prepare(table, tmp_path / "dataset", jobs=1, keep_ids=True)
    assert [str(error.case)[:10] for error in caught.value.rejected] == ["SMITH-0002", "SMITH-0005"]
    assert all(isinstance(error, MaskError) for error in caught.value.rejected)
    assert caught.value.arguments == ("allow_rejects",) and not (tmp_path / "dataset").exists()
    dataset = ggn_tf.prepare(table, tmp_path / "dataset", jobs=1, keep_ids=True, allow_rejects=True)
    assert (len(dataset.cases), len(dataset.rejected)) == (10, 2)
    with pytest.raises(DatasetError):
        ggn_tf.prepare(table, tmp_path / "dataset", jobs=1)


def test_an_unknown_runner_is_refused(tmp_path: Path) -> None:
    table = write_case_files(tmp_path / "cases", 2)
    with pytest.raises(ggn_tf.GgnError) as caught:
        ggn_tf.prepare(table, tmp_path / "dataset", runner="threads")  # type: ignore[arg-type]
    assert caught.value.arguments == ("runner",)


def test_a_check_finds_what_prepare_would(tmp_path: Path) -> None:
    table = write_case_files(tmp_path / "cases", 12, bad=(2,))
    shift_mask(table, 5)
    check = check_table(table, jobs=1, output=tmp_path / "sheets")
    assert check.rejected == 2 and check.problems == ()
    assert check_table(table, jobs=1, align_masks=True).rejected == 1
    assert (tmp_path / "sheets" / "cases.csv").is_file()
