"""A system of a study that starts from a run, compared with the same one from initial weights."""

import shutil
from pathlib import Path
from unittest.mock import patch

import pytest

import ggn_tf
from ggn_tf.dataset.records import Dataset
from ggn_tf.errors import GgnError
from ggn_tf.evaluation.report.run_tables import UNCHECKED
from ggn_tf.evaluation.statistics.system_predictions import System
from ggn_tf.runs.ledger import read_json, write_json
from ggn_tf.runs.run_folder import RunFolder
from ggn_tf.studies.analysis import AnalysisPlan, collect_results
from ggn_tf.studies.design import items_of
from ggn_tf.studies.item import WorkerChannel, WorkFolder
from ggn_tf.studies.study_report import refuse_foreign_results, write_study
from ggn_tf.studies.tables import tables_of
from tests.support.tiny_protocol import tiny_protocol
from tests.support.tiny_study import tiny_design
from tests.support.untrained_training import finish_untrained

DESIGN = tiny_design(models=("raw", "raw@source"))
STARTED, INITIAL = System("raw@source", "classify"), System("raw", "classify")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, whole_run: RunFolder) -> Path:
    folder = tmp_path_factory.mktemp("sources") / "source"
    shutil.copytree(whole_run.folder, folder)
    return folder


def test_it_is_compared_with_the_same_one_from_initial_weights() -> None:
    assert AnalysisPlan().pairs_among({STARTED, INITIAL}) == [(STARTED, INITIAL)]
    assert AnalysisPlan().pairs_among({STARTED}) == []


def test_it_has_a_row_and_its_training_is_not_repeated(tmp_path: Path, dataset: Dataset, source: Path) -> None:
    work = WorkFolder(tmp_path / "study", dataset, "ggn-tf study")
    items = items_of(DESIGN, dataset, sources={"raw@source": source})
    items[0].run(work, WorkerChannel())
    with patch("ggn_tf.studies.training.train_run", finish_untrained):
        items[1].run(work, WorkerChannel())
    run = RunFolder.open(work.run("raw@source-AAH+AIS_MIA+IAC-split1-repeat1"))
    record = run.description.start_from
    assert record is not None and record.name == "source" and record.patients_checked
    assert run.description.protocol.training.classify.learning_rate == pytest.approx(1e-4)
    shutil.rmtree(source)
    assert all(item.is_done(work) for item in items)
    results = collect_results(DESIGN, items, work)
    tables = {table.name: table for table in tables_of(DESIGN, results)}
    assert [row[2] for row in tables["ablations"].rows] == ["(a) raw CT", "(a) raw CT: started from source"]
    description = read_json(run.folder / "run.json")
    description["start_from"]["patients_checked"] = False
    write_json(run.folder / "run.json", description)
    again = {table.name: table for table in tables_of(DESIGN, collect_results(DESIGN, items, work))}
    assert again["ablations"].rows[1][2] == f"(a) raw CT: started from source; {UNCHECKED}"
    written = write_study(DESIGN, dataset, results, list(tables.values()), work.folder)
    # A second call may replace it.
    assert (written / "ablations.csv").is_file()
    refuse_foreign_results(work.folder)
    compared = tables["comparisons-AAH+AIS_MIA+IAC-split1"].rows
    assert "raw@source - (a) raw CT" in {row[0] for row in compared}


@pytest.mark.parametrize("model", ["raw@missing", "transfer@missing", "raw@"])
def test_a_run_that_cannot_be_used_is_refused_before_anything_is_trained(
    tmp_path: Path, dataset: Dataset, model: str
) -> None:
    with pytest.raises(GgnError):
        ggn_tf.study(dataset.folder, tmp_path / "study", tasks=["AAH+AIS,MIA+IAC"], models=["raw", model], splits=[1],
                     protocol=tiny_protocol())  # fmt: skip
    assert not (tmp_path / "study").exists()
