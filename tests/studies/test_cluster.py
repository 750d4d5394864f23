"""The items of a study on a Dask cluster, without networks: workers are threads of the test's process."""

import dataclasses
import pickle
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from distributed import LocalCluster
from distributed.utils import LoopRunner

import ggn_tf
from ggn_tf.cli import main
from ggn_tf.dataset.records import Dataset
from ggn_tf.dataset.splits import read_split
from ggn_tf.errors import GgnError, GgnWarning, RunError
from ggn_tf.protocol import PatchProtocol
from ggn_tf.studies import cluster as cluster_module
from ggn_tf.studies import item_process
from ggn_tf.studies.cluster import run_on_cluster
from ggn_tf.studies.item import WorkerChannel, WorkFolder
from ggn_tf.studies.item_process import ItemTask, describe_item, do_item, load_item, watch_process
from ggn_tf.studies.pool import WorkerMessage
from ggn_tf.studies.workers import Cluster, choose_workers
from ggn_tf.tasks import INDOLENT_INVASIVE, Task


@dataclasses.dataclass(frozen=True)
class FileItem:
    """Writes the names of the items whose files were there before its own."""

    name: str
    needs: tuple[str, ...] = ()
    task: Task = INDOLENT_INVASIVE
    split: int = 1
    cost: float = 1.0

    def is_done(self, folder: WorkFolder) -> bool:
        return (folder.folder / self.name).exists()

    def run(self, folder: WorkFolder, channel: WorkerChannel) -> None:
        before = sorted(path.name for path in folder.folder.glob("[a-z]*"))
        (folder.folder / self.name).write_text(",".join(before))


ITEMS = (FileItem("a"), FileItem("b", ("a",)), FileItem("c", ("a", "b")), FileItem("d"))


def do_here(task: ItemTask) -> GgnError | OSError | None:
    item, folder = pickle.loads(task.pickled)
    item.run(folder, WorkerChannel())
    return None


def refuse_here(task: ItemTask) -> GgnError | OSError | None:
    return RunError("It cannot be done.", case=task.name)


def fail_here(task: ItemTask) -> GgnError | OSError | None:
    # Dask repeats it twice.
    with (task.folder / "tries").open("a") as file:
        file.write(".")
    if (task.folder / "tries").stat().st_size < 3:
        raise RunError("Its process ended unexpectedly.", case=task.name)
    return do_here(task)


def wait_here(task: ItemTask) -> GgnError | OSError | None:
    time.sleep(1)
    return do_here(task)


def import_here(task: ItemTask) -> GgnError | OSError | None:
    raise ModuleNotFoundError("No module named 'ggn_tf'")


@pytest.fixture(scope="module")
def dask() -> Iterator[Cluster]:
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0", resources={"GPU": 1}
    ) as cluster:
        yield Cluster(cluster.scheduler_address)


@pytest.fixture
def folder(tmp_path: Path) -> WorkFolder:
    return WorkFolder(tmp_path, Dataset(tmp_path, PatchProtocol(), "0" * 64, ()), "")


def run(folder, cluster, perform, items=ITEMS, stop=lambda: False) -> list[WorkerMessage]:
    messages: list[WorkerMessage] = []
    run_on_cluster(items, folder, cluster, messages.append, stop, perform)
    return messages


def test_items_are_done_after_those_that_they_need(dask, folder):
    messages = run(folder, dask, do_here)
    assert sorted(message.item for message in messages if message.done) == ["a", "b", "c", "d"]
    assert {"a"} <= set((folder.folder / "b").read_text().split(","))
    assert {"a", "b"} <= set((folder.folder / "c").read_text().split(","))
    assert not list(folder.folder.glob(".cluster-*"))


def test_what_is_done_is_not_submitted(dask, folder):
    for item in ITEMS:
        item.run(folder, WorkerChannel())
    assert len(run(folder, Cluster("tcp://127.0.0.1:1"), refuse_here)) == 4


def test_an_error_that_a_user_can_correct_is_raised_at_once(dask, folder):
    with pytest.raises(RunError, match="It cannot be done"):
        run(folder, dask, refuse_here)


def test_an_item_whose_process_ended_is_repeated(dask, folder):
    run(folder, dask, fail_here, ITEMS[:1])
    assert (folder.folder / "tries").read_text() == "..."


def test_workers_without_the_package_are_refused(dask, folder):
    with pytest.raises(RunError, match="cannot run the items"):
        run(folder, dask, import_here)


def test_a_lost_scheduler_is_an_error_after_which_the_call_resumes(folder):
    alone = LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0")
    with alone, pytest.raises(RunError, match="was lost") as caught:
        run(folder, Cluster(alone.scheduler_address), wait_here, stop=alone.close)
    assert "it resumes" in caught.value.remedy


def test_items_that_no_worker_can_do_are_noted(dask, folder, monkeypatch):
    monkeypatch.setattr(cluster_module, "_ASK_S", 0.1)
    ends, cluster = time.monotonic() + 1.5, dataclasses.replace(dask, resources={"GPU": 2})
    with pytest.warns(GgnWarning, match="no worker that has GPU 2") as caught, pytest.raises(KeyboardInterrupt):
        run(folder, cluster, do_here, stop=lambda: time.monotonic() > ends)
    assert len(caught) == 1


def test_an_item_that_is_no_longer_wanted_is_stopped(dask, folder, monkeypatch):
    monkeypatch.setattr(item_process, "_PROGRAM", STOPPABLE)
    begun = folder.folder / "begun"
    with pytest.raises(KeyboardInterrupt):
        run(folder, dask, do_without_checks, ITEMS[:1], stop=begun.exists)
    assert (folder.folder / "stopped").exists()
    assert not list(folder.folder.glob(".cluster-*"))


# Programs in place of an item's process, which imports TensorFlow.
CONNECTED = "import os, sys; from multiprocessing.connection import Connection; from pathlib import Path; "
CONNECTED += "from ggn_tf.studies.pool import WorkerMessage; c = Connection(int(sys.argv[1])); t = c.recv_bytes(); "
STOPPABLE = CONNECTED + "f = Path(t.decode()); (f / 'begun').touch(); c.recv_bytes(); (f / 'stopped').touch()"
FINISHING = CONNECTED + "c.send(WorkerMessage('a', 0.5, 'half')); c.send(WorkerMessage('a', 1.0, 'done', True))"
REFUSING = CONNECTED + "from ggn_tf.errors import RunError; c.send(RunError('It is refused.', found='x'))"
ENDING = CONNECTED + "os._exit(9)"


def do_without_checks(task: ItemTask) -> GgnError | OSError | None:
    own = dataclasses.replace(task, pickled=bytes(task.folder), versions=item_process.installed_versions())
    return do_item(dataclasses.replace(own, dataset=own.folder))


def task_of(folder: WorkFolder) -> ItemTask:
    return describe_item(ITEMS[0], folder, "mark", "topic", {})


def watched(folder, monkeypatch, program) -> tuple[GgnError | OSError | None, list[WorkerMessage]]:
    monkeypatch.setattr(item_process, "_PROGRAM", program)
    messages: list[WorkerMessage] = []
    return watch_process(task_of(folder), lambda: True, messages.append), messages


def test_progress_of_a_process_is_passed_on(folder, monkeypatch):
    error, messages = watched(folder, monkeypatch, FINISHING)
    assert error is None
    assert [message.share for message in messages] == [0.5, 1.0]


def test_an_error_of_a_process_is_returned_whole(folder, monkeypatch):
    error, _ = watched(folder, monkeypatch, REFUSING)
    assert isinstance(error, RunError)
    assert error.parts(str) == RunError("It is refused.", found="x").parts(str)


def test_a_process_that_ends_without_a_result_is_an_error(folder, monkeypatch):
    with pytest.raises(RunError, match="ended unexpectedly") as caught:
        watched(folder, monkeypatch, ENDING)
    assert caught.value.found == "exit code 9"


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"versions": {"ggn-tf": "0.0.1"}}, f"ggn-tf {ggn_tf.__version__}"),
        ({"mark": "another"}, "or another one"),
        ({"folder": Path("/nowhere")}, "no folder /nowhere"),
        ({"dataset": Path("/nowhere")}, "no folder /nowhere"),
    ],
)
def test_workers_of_other_versions_or_without_the_folders_are_refused(dask, folder, changes, found):
    def perform(task: ItemTask) -> GgnError | OSError | None:
        return do_item(dataclasses.replace(task, **changes))

    with pytest.raises(RunError, match="A worker of the cluster") as caught:
        run(folder, dask, perform, ITEMS[:1])
    assert found in caught.value.found


def test_a_worker_receives_no_case_and_only_the_splits_of_its_item(dataset, tmp_path):
    own = {number: dataclasses.replace(read_split(dataset, 1), number=number) for number in (1, 2)}
    folder = WorkFolder(tmp_path, dataset, "command", own_splits=own)
    task = describe_item(FileItem("a", split=2), folder, "mark", "topic", {})
    assert len(task.pickled) < 4000
    item, opened = load_item(task.pickled)
    assert item == FileItem("a", split=2)
    assert opened == dataclasses.replace(folder, own_splits={2: own[2]})


def test_another_dataset_in_the_same_place_is_refused(dataset, tmp_path):
    other = dataclasses.replace(dataset, fingerprint="0" * 64)
    with pytest.raises(RunError, match="another dataset"):
        load_item(describe_item(ITEMS[0], WorkFolder(tmp_path, other, ""), "mark", "topic", {}).pickled)


def test_arguments_name_processes_or_a_cluster():
    assert choose_workers(None, None, None) == 1
    assert choose_workers(3, None, None) == 3
    assert choose_workers(None, "local:2", None) == Cluster(None, 2, {})
    assert choose_workers(None, "tls://host:8786", {"GPU": 1.0}) == Cluster("tls://host:8786", 0, {"GPU": 1.0})


@pytest.mark.parametrize(
    ("jobs", "cluster", "resources", "arguments"),
    [
        (1, "local:2", None, ("jobs", "cluster")),
        (None, "local:2", {"GPU": 1}, ("cluster", "resources")),
        (None, None, {"GPU": 1.0}, ("cluster", "resources")),
        *((None, name, None, ("cluster",)) for name in ("local:0", "local:", "local:-1", "local:x", "host:8786", "")),
    ],
)
def test_arguments_that_exclude_each_other_or_name_no_cluster_are_refused(jobs, cluster, resources, arguments):
    with pytest.raises(GgnError) as caught:
        choose_workers(jobs, cluster, resources)
    assert caught.value.arguments == arguments


def test_without_dask_it_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(GgnError, match="Dask is not installed"):
        choose_workers(None, "local:2", None)


@pytest.mark.parametrize(
    "address", ["tcp://127.0.0.1:1", "nonsense://127.0.0.1:1", "tcp://", "tls://127.0.0.1:1", "tcp://127.0.0.1:x"]
)
def test_a_scheduler_that_cannot_be_reached_is_an_error(folder, monkeypatch, address):
    monkeypatch.setattr(cluster_module, "_CONNECT_S", 0.3)
    with pytest.raises(RunError, match="cannot be reached"):
        run(folder, Cluster(address), do_here)
    assert not list(folder.folder.glob(".cluster-*"))


def test_a_loop_that_does_not_start_in_time_is_started_again(dask, folder, monkeypatch):
    class LateRunner(LoopRunner):
        starts = 0

        def start(self) -> None:
            LateRunner.starts += 1
            assert LateRunner.starts > 1
            super().start()

    monkeypatch.setattr(cluster_module, "LoopRunner", LateRunner)
    assert any(message.done for message in run(folder, dask, do_here, ITEMS[:1]))
    assert LateRunner.starts == 2


def test_the_command_line_names_its_options(tmp_path):
    command = [
        "crossval",
        str(tmp_path),
        "-o",
        str(tmp_path / "cv"),
        "--cluster=tcp://127.0.0.1:1",
        "--resources=GPU=1 MEMORY=8e9",
    ]
    (tmp_path / "dataset.json").touch()
    result = CliRunner().invoke(main, [*command, "--jobs=2"])
    assert result.exit_code == 1
    assert "(option --jobs, option --cluster)" in result.stderr


@pytest.mark.parametrize("resources", ["GPU", "GPU=", "=1", "GPU=0", "GPU=nan", "GPU=x"])
def test_resources_without_a_positive_amount_are_refused(tmp_path, resources):
    result = CliRunner().invoke(main, ["study", str(tmp_path), "-o", "x", "--resources", resources])
    assert result.exit_code == 2
