import hashlib
import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ggn_tf.cli import main
from ggn_tf.training.profile import op_table, read_ops
from tests.support.untrained_run import write_untrained_run


def profile(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["profile", *map(str, arguments)])


def sums(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file() and "profile" not in path.parts]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run and its dataset."""
    folder = tmp_path_factory.mktemp("work")
    write_untrained_run(folder, stages=("segment", "classify"))
    return folder


@pytest.fixture(scope="module")
def document(work: Path) -> dict:
    """What --json prints; the run is the same afterwards."""
    before = sums(work)
    result = profile(work / "run", "--steps", 4, "--warm-up", 2, "--json")
    assert result.exit_code == 0, result.output
    assert sums(work) == before
    document: dict = json.loads(result.stdout)
    return document


def test_the_last_stage_is_traced_into_the_runs_tensorboard_folder(document: dict, work: Path):
    assert document["stage"] == "classify"
    trace = Path(document["trace"])
    assert trace.is_relative_to(work / "run" / "tensorboard" / "profile" / "plugins" / "profile")
    assert trace.name.endswith(".xplane.pb")
    # What TensorFlow's converter would leave there, the plugin would read instead of the trace.
    assert list(trace.parent.iterdir()) == [trace]
    assert len(document["step_ms"]) == len(document["waited_ms"]) == 4


def test_the_input_pipelines_share_is_the_wait_within_the_step(document: dict):
    assert all(0 <= waited < step for waited, step in zip(document["waited_ms"], document["step_ms"], strict=True))
    assert document["input_share"] == pytest.approx(sum(document["waited_ms"]) / sum(document["step_ms"]))


def test_ten_operations_are_told_and_run_once_a_step(document: dict):
    dearest = document["slowest_ops"]
    assert len(dearest) == 10
    assert [op["self_ms"] for op in dearest] == sorted((op["self_ms"] for op in dearest), reverse=True)
    assert any("Conv3D" in op["kind"] for op in dearest)
    assert all(op["calls"] == 4 for op in dearest if "Conv3D" in op["kind"] and op["name"].startswith("cascade"))
    assert sum(op.share for op in read_ops(Path(document["trace"]))) == pytest.approx(1.0)


def test_they_agree_with_the_profile_plugins_own_table(document: dict, tmp_path: Path):
    """The plugin reads the same file with a converter of its own."""
    trace = shutil.copy(document["trace"], tmp_path)
    converter = pytest.importorskip("xprof.convert.raw_to_tool_data", reason='needs pip install "ggn-tf[profile]"')
    content, _ = converter.xspace_to_tool_data([trace], "framework_op_stats", {})
    theirs = op_table(json.loads(content))[:10]
    told = [(op["kind"], op["name"], op["calls"], op["self_ms"], op["share"]) for op in document["slowest_ops"]]
    assert told == [(op.kind, op.name, op.calls, op.self_ms, op.share) for op in theirs]


def test_as_text_it_names_stage_input_and_operations(work: Path, tmp_path: Path):
    result = profile(work / "run", "--steps", 2, "--warm-up", 1, "-o", tmp_path / "trace")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("stage      classify, 2 steps of ")
    assert "a step waits " in result.stdout and f"tensorboard --logdir {tmp_path / 'trace'}" in result.stdout
    assert sum("Conv3D" in line for line in result.stdout.splitlines()) >= 1
    assert list((tmp_path / "trace").glob("plugins/profile/*/*.xplane.pb"))


def test_what_is_no_run_is_refused(tmp_path: Path):
    result = profile(tmp_path)
    assert result.exit_code == 1 and result.output.startswith("error: ")


def test_a_table_of_the_plugin_is_read_without_its_idle_time():
    names = ("type", "operation", "occurrences", "total_self_time")

    def table(*rows: tuple) -> dict:
        return {"cols": [{"id": name} for name in names], "rows": [{"c": [{"v": v} for v in row]} for row in rows]}

    busy = [("MatMul", "a", 4.0, 1000.0), ("Conv3D", "b", 2.0, 3000.0)]
    dearest, other = op_table([table(("IDLE", "IDLE", 0.0, 9000.0), *busy), table(*busy)])
    assert (dearest.kind, dearest.calls, dearest.self_ms, dearest.share) == ("Conv3D", 2, 3.0, 0.75)
    assert (other.name, other.share) == ("a", 0.25)
