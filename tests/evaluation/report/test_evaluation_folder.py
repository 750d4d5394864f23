import shutil
from pathlib import Path

import pytest

from ggn_tf.errors import GgnError
from ggn_tf.evaluation.report.run_report import refuse_foreign_evaluation, write_evaluation
from ggn_tf.evaluation.statistics.predictions_table import read_predictions
from ggn_tf.evaluation.statistics.run_scores import read_scores_file
from tests.support.described_run import evaluated as evaluated_run


def _files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory, drawn_frame) -> Path:
    frame = drawn_frame()
    folder = tmp_path_factory.mktemp("evaluated") / "evaluation"
    write_evaluation(frame, evaluated_run(frame), folder)
    return folder


def test_evaluation_consists_of_the_documented_files(evaluated):
    assert _files(evaluated) == [
        *(
            f"figures/{name}.{kind}"
            for name in ("confusion-joint", "decision-curve", "dice", "reliability", "roc")
            for kind in ("png", "svg")
        ),
        "model_card.md",
        "predictions.csv",
        "report.html",
        "scores.json",
    ]
    assert [path.name for path in evaluated.parent.iterdir()] == ["evaluation"]


def test_scores_can_be_computed_again_from_the_predictions(evaluated):
    stored = read_scores_file(evaluated / "scores.json")
    assert stored == evaluated_run(read_predictions(evaluated / "predictions.csv"))


@pytest.mark.parametrize("name", ["mine.png", "notes.txt", "inner/mine.svg"])
def test_an_own_file_among_the_figures_is_never_deleted(evaluated, tmp_path, name):
    folder = shutil.copytree(evaluated, tmp_path / "evaluation")
    refuse_foreign_evaluation(folder)
    own = folder / "figures" / name
    own.parent.mkdir(exist_ok=True)
    own.write_text("mine", encoding="utf-8")
    with pytest.raises(GgnError, match="replace something else") as caught:
        refuse_foreign_evaluation(folder)
    assert caught.value.found == f"figures/{name.partition('/')[0]}"


def test_a_file_that_comes_while_the_evaluation_is_written_is_kept(evaluated, tmp_path, monkeypatch, drawn_frame):
    folder, frame = shutil.copytree(evaluated, tmp_path / "evaluation"), drawn_frame()
    monkeypatch.setattr(
        "ggn_tf.evaluation.report.run_report.write_page", lambda *_: (folder / "notes.txt").write_text("mine")
    )
    with pytest.raises(GgnError, match=r"notes\.txt"):
        write_evaluation(frame, evaluated_run(frame), folder)
    assert (folder / "notes.txt").read_text(encoding="utf-8") == "mine" and (folder / "report.html").exists()
