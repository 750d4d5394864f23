import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ggn_tf.cli import main
from ggn_tf.evaluation.statistics.run_scores import Estimate, StageScores
from ggn_tf.runs.lock import lock_run
from tests.support.described_run import write_test_scores
from tests.support.untrained_run import write_untrained_run


def runs(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["runs", *map(str, arguments)])


HISTORY = """stage,epoch,learning_rate,loss,validation_loss,validation_dice,validation_accuracy
segment,1,0.0001,0.5,0.5,0.61,
segment,2,0.0001,0.5,0.5,0.71,
classify,1,0.0001,0.5,0.5,,0.8
classify,2,0.0001,0.5,0.5,,0.75
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """runs/run: segment is finished, classify in its second epoch."""
    write_untrained_run(tmp_path / "runs", stages=("segment",))
    (tmp_path / "runs" / "run" / "history.csv").write_text(HISTORY, encoding="utf-8")
    return tmp_path / "runs"


def test_a_run_is_a_line_with_how_far_it_got(folder: Path):
    heading, line = runs(folder).stdout.splitlines()
    assert heading.split() == ["run", "model", "task", "split", "seed", "precision", "reached", "best", "test"]
    expected = "run cascade AAH+AIS,MIA+IAC 1 0 float32 classify 2 validation accuracy 0.800 -"
    assert line.split() == expected.split()


@pytest.mark.parametrize(("selecting", "best"), [("auc", "0.900"), ("classification_loss", "0.400")])
def test_the_best_is_what_selects_the_weights(folder: Path, selecting: str, best: str):
    rows = [f"classify,1,0.0001,0.5,0.5,,0.8,{best}", "classify,2,0.0001,0.5,0.5,,0.75,0.6"]
    history = "\n".join([f"{HISTORY.splitlines()[0]},validation_{selecting}", *rows, ""])
    (folder / "run" / "history.csv").write_text(history, encoding="utf-8")
    assert f"validation {selecting.replace('_', ' ')} {best}" in runs(folder).stdout


def test_a_run_that_is_being_trained_has_a_star(folder: Path):
    with lock_run(folder / "run"):
        assert "classify 2 *" in runs(folder).stdout
    assert "classify 2 *" not in runs(folder).stdout


def test_test_scores_are_those_of_the_last_stage(folder: Path):
    write_test_scores(folder / "run", {"segment": StageScores(dice=Estimate(0.7))})
    assert runs(folder).stdout.splitlines()[1].endswith("dice 0.700")
    both = StageScores(accuracy=Estimate(0.8), auc=Estimate(None, reason="one class"), dice=Estimate(0.7))
    write_test_scores(folder / "run", {"segment": both})
    assert runs(folder).stdout.splitlines()[1].endswith("accuracy 0.800, dice 0.700")


def test_json_is_one_document(folder: Path):
    (told,) = json.loads(runs(folder, "--json").stdout)
    assert told["folder"] == str(folder / "run") and told["finished"] == ["segment"]
    assert (told["stage"], told["epoch"], told["training"]) == ("classify", 2, False)
    assert (told["selected_by"], told["best"]) == ("accuracy", 0.8)


def test_a_run_that_only_began_has_reached_nothing(folder: Path):
    (folder / "run" / "history.csv").unlink()
    assert runs(folder).stdout.splitlines()[1].split()[6:] == ["-", "-", "-"]


def test_a_damaged_run_is_told_beside_the_others(folder: Path):
    (folder / "broken").mkdir()
    (folder / "broken" / "run.json").write_text("{", encoding="utf-8")
    result = runs(folder)
    assert result.exit_code == 0 and "cannot be read" in result.stdout.splitlines()[1]
    assert "broken: run.json: JSONDecodeError" in result.stderr and "classify 2" in result.stdout


def test_a_line_that_is_just_being_written_is_left_out(folder: Path):
    with (folder / "run" / "history.csv").open("a", encoding="utf-8") as stream:
        stream.write("classify,3,0.00")
    assert "classify 2 " in runs(folder).stdout


def test_a_history_that_a_person_has_changed_has_no_best_score(folder: Path):
    history = folder / "run" / "history.csv"
    history.write_text(history.read_text(encoding="utf-8").replace("0.75", "good"), encoding="utf-8")
    result = runs(folder)
    assert result.exit_code == 0 and result.stdout.splitlines()[1].split()[6:] == ["classify", "2", "-", "-"]


def test_no_folder_is_an_error_with_a_remedy(tmp_path: Path):
    result = runs(tmp_path / "none")
    assert result.exit_code == 1 and "remedy:" in result.output


def test_an_empty_folder_has_no_runs(tmp_path: Path):
    result = runs(tmp_path)
    assert result.exit_code == 0 and len(result.stdout.splitlines()) == 1


def test_a_reader_that_leaves_is_no_error(folder: Path):
    command = [sys.executable, "-m", "ggn_tf", "runs", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""


HOSTILE = {
    "no numbers": lambda run: (run / "history.csv").write_text(HISTORY.replace("0.8", "=1").replace("0.75", "nan")),
    "a folder": lambda run: ((run / "history.csv").unlink(), (run / "history.csv").mkdir()),
    "no text": lambda run: (run / "run.json").write_text('{"model": {"a": 1}, "task": ["x"]}'),
    "a pipe": lambda run: ((run / "run.json").unlink(), os.mkfifo(run / "run.json")),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_one_hostile_run_hides_no_other(name: str, folder: Path):
    shutil.copytree(folder / "run", folder / "hostile")
    HOSTILE[name](folder / "hostile")
    result = runs(folder)
    assert result.exit_code == 0 and "hostile" in result.stdout and "classify 2" in result.stdout.splitlines()[2]


def test_folders_may_be_nested_however_deeply(folder: Path):
    deep = folder
    for _ in range(1200):
        deep = deep / "d"
        try:
            deep.mkdir()
        except OSError:
            deep = deep.parent
            break
    try:
        assert "classify 2" in runs(folder).stdout
    finally:
        # Deeper than pytest's own removal reaches.
        while deep != folder:
            deep.rmdir()
            deep = deep.parent


def test_too_little_memory_is_one_block(folder: Path, monkeypatch: pytest.MonkeyPatch):
    def exhausted(_: Path) -> None:
        raise MemoryError

    monkeypatch.setattr("ggn_tf.evaluation.run_list.list_runs", exhausted)
    result = runs(folder)
    assert result.exit_code == 1 and result.stderr.startswith("error: There is too little memory.")
