"""The runs of a cross-validation, exported as one model."""

import json
import shutil
from pathlib import Path

import pytest

from ggn_tf.errors import RunError
from ggn_tf.json_records import read_document, with_digest, without_digest
from ggn_tf.serving.contract.export_contract import Difference, difference_of
from ggn_tf.serving.export.run_members import open_runs


def test_a_cross_validation_counts_as_all_of_its_runs(whole_crossval: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(whole_crossval, tmp_path / "cv"))
    opened = open_runs([folder])
    assert [(member.run, member.fold, member.seed) for member in opened.members] == [
        ("fold1-member1", 1, 0),
        ("fold2-member1", 2, 0),
    ]
    assert difference_of(opened.members) is Difference.FOLDS
    assert len(opened.models) == 2 and opened.provenance.split is None
    file = folder / "runs" / "fold2-member1" / "stages.json"
    ledger = without_digest(read_document(file))
    file.write_text(json.dumps(with_digest({"stages": ledger["stages"][:2]})), encoding="utf-8")
    with pytest.raises(RunError) as caught:
        open_runs([folder])
    assert "fold2-member1" in caught.value.found
