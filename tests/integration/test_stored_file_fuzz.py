"""Changed copies of every file that we read back: an error block or a result, in bounded time and memory."""

import copy
import hashlib
import json
import shutil
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from ggn_tf.dataset.dataset_json import DIGEST, description_digest
from ggn_tf.dataset.records import open_dataset, read_patches_uint8
from ggn_tf.dataset.splits import _checksum, read_split
from ggn_tf.errors import GgnError
from ggn_tf.evaluation.run_list import describe
from ggn_tf.evaluation.run_predictions import describe_run
from ggn_tf.protocol import PatchProtocol, Protocol
from ggn_tf.runs.checkpoints import Checkpoint, CheckpointStore
from ggn_tf.runs.run_folder import RunFolder
from ggn_tf.serving.contract.export_contract import ExportContract, read_contract
from ggn_tf.serving.contract.wire import ASSETS_EXTRA, CONTRACT_FILE
from ggn_tf.tasks import INDOLENT_INVASIVE
from tests.support.untrained_run import write_untrained_run

LONGEST_S = 5.0
MOST_BYTES = 64 * 2**20
COUNTS = [50, pytest.param(2000, marks=pytest.mark.nightly)]
LONG = "x" * 100_000
VALUES = [
    *(None, True, False, 0, -1, 1, 2, 10**9, 2**63, 10**400, 1e308, float("nan"), float("inf"), -0.5),
    *("", "..", "../../etc/passwd", "/etc/passwd", "patches-00000-of-00001.tfrecord/../x", "\0", "\ud800", LONG),
    *([], {}, [[]], {"": None}, [None] * 1000, {"a": {"b": {"c": []}}}),
]
BYTES = [b"", b"[" * 100_000, b'{"a":' * 5000, b"\xff\xfe", b"\0" * 100, b"1" * 10_000, b'{"a":1,"a":2}', b"NaN"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_originals(tmp_path_factory.mktemp("stored"))


def write_originals(folder: Path) -> Path:
    """A dataset, a run, a checkpoint and the contract of an export."""
    write_untrained_run(folder)
    arrays = {f"model/{number}": np.zeros((4, 5), np.float32) for number in range(3)}
    CheckpointStore(folder / "checkpoints", "joint").write(Checkpoint({"step": 3, "rows": [{"loss": 0.5}]}, arrays))
    (folder / "1" / ASSETS_EXTRA).mkdir(parents=True)
    contract = ExportContract(INDOLENT_INVASIVE, Protocol()).to_dict()
    (folder / "1" / ASSETS_EXTRA / CONTRACT_FILE).write_text(json.dumps(contract), encoding="utf-8")
    return folder


class Kind(NamedTuple):
    """A kind of file: where it is, how it is read, and how a changed document gets the digest of its content."""

    path: str
    read: Callable[[Path], object]
    signed: Callable[[dict[str, Any]], dict[str, Any]] = lambda document: document


def _read_dataset(folder: Path) -> object:
    dataset = open_dataset(folder / "dataset", PatchProtocol(size=16))
    return read_patches_uint8(dataset, [case.case_id for case in dataset.cases[:3]])


def _read_run(folder: Path) -> object:
    describe(folder / "run")
    run = RunFolder.open(folder / "run")
    for stage in ("segment", "classify", "joint"):
        run.is_complete(stage)
        run.ledger.history(stage)
    run.ledger.refresh_history()
    return describe_run(run, open_dataset(folder / "dataset", PatchProtocol(size=16)))


def _sign_description(document: dict[str, Any]) -> dict[str, Any]:
    return {**document, DIGEST: description_digest(document)}


def _sign_splits(document: dict[str, Any]) -> dict[str, Any]:
    content = {name: value for name, value in document.items() if name != "checksum"}
    return {**content, "checksum": _checksum(content)}


def _without_digest(document: dict[str, Any]) -> dict[str, Any]:
    """As of an older version, so that what else was changed is read."""
    return {name: value for name, value in document.items() if name != "sha256"}


KINDS = {
    "dataset.json": Kind("dataset/dataset.json", _read_dataset, _sign_description),
    "splits.json": Kind(
        "dataset/splits.json",
        lambda folder: read_split(open_dataset(folder / "dataset", PatchProtocol(size=16)), 1),
        _sign_splits,
    ),
    "run.json": Kind("run/run.json", _read_run, _without_digest),
    "ledger": Kind("run/stages.json", _read_run, _without_digest),
    "contract.json": Kind(f"1/{ASSETS_EXTRA}/{CONTRACT_FILE}", lambda folder: read_contract(folder / "1")),
    "checkpoint": Kind(
        "checkpoints/joint-000001.npz", lambda folder: CheckpointStore(folder / "checkpoints", "joint").latest()
    ),
}


def _places(document: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inner = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in inner:
        yield (*place, key)
        if isinstance(value, (dict, list)):
            yield from _places(value, (*place, key))


def _changed_document(document: Any, generator: np.random.Generator) -> Any:
    """A copy with one to three values replaced or removed, or with a further key."""
    document = json.loads(json.dumps(document))
    for _ in range(generator.integers(1, 4)):
        places = list(_places(document))
        *way, last = places[generator.integers(len(places))]
        parent = document
        for key in way:
            parent = parent[key]
        action = generator.integers(6)
        if action == 0:
            del parent[last]
        elif action == 1 and isinstance(parent, dict):
            parent[str(VALUES[generator.integers(len(VALUES))])[:100]] = parent[last]
        else:
            parent[last] = copy.deepcopy(VALUES[generator.integers(len(VALUES))])
        if not document:
            break
    return document


def _changed_bytes(content: bytes, generator: np.random.Generator) -> bytes:
    """A copy that is cut, has other bytes, or contains something else."""
    changed = bytearray(content)
    action = generator.integers(4)
    if action == 0:
        return bytes(changed[: generator.integers(len(changed))])
    if action == 1:
        return BYTES[generator.integers(len(BYTES))]
    for _ in range(generator.integers(1, 9)):
        changed[generator.integers(len(changed))] = generator.integers(256)
    return bytes(changed)


def _variants(kind: Kind, content: bytes, count: int) -> Iterator[bytes]:
    generator = np.random.default_rng(0)
    for number in range(count):
        if kind.path.endswith(".npz"):
            inner = _changed_bytes(content[:-32], generator)
            yield inner + hashlib.sha256(inner).digest()
        elif number % 4 == 0:
            yield _changed_bytes(content, generator)
        else:
            document = _changed_document(json.loads(content), generator)
            if number % 4 > 1:
                with suppress(TypeError, ValueError, AttributeError):
                    document = kind.signed(document)
            yield json.dumps(document).encode("utf-8", "surrogatepass")


@dataclass
class Cost:
    """The largest costs of reading a variant; seconds of all processors, as other tests run at the same time."""

    seconds: float = 0.0
    size: int = 0
    refused: int = 0


def _measure(read: Callable[[], object], cost: Cost) -> None:
    tracemalloc.reset_peak()
    before, begun = tracemalloc.get_traced_memory()[0], time.process_time()
    try:
        read()
    except GgnError as error:
        assert len(str(error)) < 3000, "the block quotes the file"
        cost.refused += 1
    cost.seconds = max(cost.seconds, time.process_time() - begun)
    cost.size = max(cost.size, tracemalloc.get_traced_memory()[1] - before)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", KINDS)
def test_a_changed_file_is_refused_or_read(name: str, count: int, folder: Path, tmp_path: Path):
    kind, changed, cost = KINDS[name], tmp_path / "stored", Cost()
    shutil.copytree(folder, changed)
    content = (changed / kind.path).read_bytes()
    kind.read(changed)
    tracemalloc.start()
    try:
        for number, variant in enumerate(_variants(kind, content, count)):
            (changed / kind.path).write_bytes(variant)
            try:
                _measure(lambda: kind.read(changed), cost)
            except Exception as error:
                raise AssertionError(f"variant {number}: {type(error).__name__}: {variant[:2000]!r}") from error
    finally:
        tracemalloc.stop()
    print(
        f"\n{name}: {count} variants, {cost.refused} refused, {cost.seconds:.2f} s, {cost.size / 2**20:.1f} MB at most"
    )
    assert cost.seconds < LONGEST_S and cost.size < MOST_BYTES
