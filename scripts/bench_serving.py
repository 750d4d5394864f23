"""The embedded server: its time beside the graph's own, under load, while versions change, with batching; ensembles.

python scripts/bench_serving.py [--precision float32] [--part overhead --part load --part batching --part memory]
                                [--part ensemble] [--seconds 60] [--clients 8] [--json]

The weights are not trained, which does not change the times. Server and clients share the machine.
"""

import json
import statistics
import tempfile
import threading
import time
from pathlib import Path

import click
import grpc
import numpy as np
from rich.console import Console
from rich.table import Table
from serving_load import LoadResult, ServerProcess, add_version, load
from side_by_side import measure
from tensorflow_serving.apis import prediction_service_pb2_grpc
from untrained import with_statistics

from ggn_tf.models.systems import build_cascade
from ggn_tf.protocol import Protocol
from ggn_tf.serving.contract.export_contract import Member
from ggn_tf.serving.contract.messages import make_request
from ggn_tf.serving.export.golden_requests import sample_patches
from ggn_tf.serving.export.version_writer import export_model
from ggn_tf.serving.runtime.predict_request import LocalModel
from ggn_tf.serving.runtime.servable import open_servable
from ggn_tf.tasks import THREE_CLASSES

MIXED = (1, 1, 1, 1, 2, 4, 8, 24)
BATCHING = Path(__file__).parents[1] / "serving" / "batching.config"
PARTS = ("overhead", "load", "batching", "memory", "ensemble")
ROUNDS = 3


def export_two(folder: Path, precision: str) -> list[Path]:
    """Two models with different weights, so that a response shows which of them made it."""
    models = [with_statistics(build_cascade(3, Protocol(), precision=precision, seed=seed)) for seed in (1, 2)]
    return [export_model(model, THREE_CLASSES, Protocol(), folder / "exported") for model in models]


def served(folder: Path, source: Path) -> Path:
    folder.mkdir(parents=True)
    add_version(source, folder, 1)
    return folder


def own_ms(version: Path, patches: np.ndarray, batches: tuple[int, ...], repeats: int) -> dict[int, float]:
    """The graph's own time in ms by batch size, without a server."""
    with LocalModel(version) as model:
        runs = {str(batch): (lambda batch=batch: model.predict(patches[:batch])) for batch in sorted(set(batches))}
        return {int(name): 1e3 * statistics.median(seconds) for name, seconds in measure(runs, repeats).items()}


def overhead(folder: Path, version: Path, patches: np.ndarray) -> dict[str, object]:
    """One client, one request after the other, alternating with the bare session.

    In blocks whose first run does not count: TensorFlow's threads spin for a while after a run, and would take the
    other process's cores.
    """
    rows = {}
    servable = open_servable(version, "ggn", 1)
    signature = servable.signatures["serving_default"]
    fetches = {alias: info.name for alias, info in signature.outputs.items()}
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    model_folder = served(folder / "overhead", version)
    with ServerProcess(model_folder) as server, grpc.insecure_channel(server.target, options) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        for batch, blocks in ((1, 25), (24, 5)):
            hu, request = patches[:batch], make_request(patches[:batch], "ggn")
            contestants = {
                "graph": lambda hu=hu: servable.run({signature.inputs["hu"].name: hu}, fetches),
                "server": lambda request=request: stub.Predict(request, timeout=60),
            }
            seconds: dict[str, list[float]] = {name: [] for name in contestants}
            for _ in range(blocks):
                for name, run in contestants.items():
                    seconds[name] += measure({name: run}, 5, warm_up=1)[name]
            graph_ms, server_ms = (1e3 * statistics.median(seconds[name]) for name in ("graph", "server"))
            rows[batch] = {"graph_ms": graph_ms, "server_ms": server_ms, "overhead_ms": server_ms - graph_ms}
    servable.close()
    return {"rows": rows}


def under_load(folder: Path, versions: list[Path], patches: np.ndarray, clients: int, seconds: float, swap_s: float):
    """Mixed batch sizes, and a new version every few seconds, alternately of each model."""
    probabilities = []
    for version in versions:
        with LocalModel(version) as model:
            probabilities.append(model.predict(patches).probabilities)
    expected = {number: probabilities[(number - 1) % 2] for number in range(1, 1000)}
    compute_ms = own_ms(versions[0], patches, MIXED, 5)
    model_folder, ended, number = served(folder / "load", versions[0]), threading.Event(), 1
    with ServerProcess(model_folder) as server:

        def swap() -> None:
            nonlocal number
            while not ended.wait(swap_s):
                number += 1
                add_version(versions[(number - 1) % 2], model_folder, number)

        swapper = threading.Thread(target=swap)
        swapper.start()
        before = time.monotonic()
        result = load(server.target, clients, seconds, patches, MIXED, expected, atol=0.02)
        took = time.monotonic() - before
        ended.set()
        swapper.join()
    return {"swaps": number - 1, "seconds": took, "responses": result, "compute_ms": compute_ms}


def batching(folder: Path, version: Path, patches: np.ndarray, clients: int, seconds: float) -> dict[str, object]:
    """Single patches from many clients, alternately with and without batching."""
    model_folder = served(folder / "batching", version)
    core_each = "--tensorflow_intra_op_parallelism=1"
    batched = ["--enable_batching", f"--batching_parameters_file={BATCHING}"]
    flags = {
        "without, one at a time": ["--running=1"],
        "without": [],
        "without, a core each": [core_each],
        "with": batched,
        "with, a core each": [*batched, core_each],
    }
    rates: dict[str, list[float]] = {name: [] for name in flags}
    p50: dict[str, list[float]] = {name: [] for name in flags}
    servers = {name: ServerProcess(model_folder, *given) for name, given in flags.items()}
    try:
        for _ in range(ROUNDS):
            for name, server in servers.items():
                load(server.target, clients, 1.0, patches, (1,))
                result = load(server.target, clients, seconds, patches, (1,))
                rates[name].append(result.count / seconds)
                p50[name].append(1e3 * statistics.median(result.seconds[1]))
                if result.failed:
                    raise click.ClickException(result.failed[0])
    finally:
        for server in servers.values():
            server.terminate()
    return {
        name: {"a_second": statistics.median(r), "p50_ms": statistics.median(p50[name])} for name, r in rates.items()
    }


def memory(folder: Path, version: Path, patches: np.ndarray, clients: int, requests: int) -> dict[str, object]:
    """Memory, threads and files of the server as requests add up."""
    rows = []
    with ServerProcess(served(folder / "memory", version)) as server:
        count = 0
        while count < requests:
            count += load(server.target, clients, 5.0, patches, (1, 1, 2)).count
            rows.append((count, server.resident_mib, server.threads, server.files))
    return {"rows": [row for at, row in enumerate(rows) if at in (0, len(rows) // 4, len(rows) // 2, len(rows) - 1)]}


def ensemble(folder: Path, precision: str, patches: np.ndarray, clients: int, seconds: float) -> dict[str, object]:
    """One run, five, and one over the eight mirrors: size, loading, and times of the graph and of the server."""
    models = [with_statistics(build_cascade(3, Protocol(), precision=precision, seed=seed)) for seed in range(5)]
    members = tuple(Member(f"seed{seed}", "joint", 1, seed, "", "") for seed in range(5))
    versions = {
        "1 run": export_model(models[0], THREE_CLASSES, Protocol(), folder / "one"),
        "5 runs": export_model(models, THREE_CLASSES, Protocol(), folder / "five", members=members),
        "1 run, tta": export_model(models[0], THREE_CLASSES, Protocol(), folder / "tta", mirrored=True),
    }
    loading = measure({name: (lambda v=version: LocalModel(v).close()) for name, version in versions.items()}, ROUNDS)
    rows: dict[str, dict[str, float]] = {}
    opened = {name: LocalModel(version) for name, version in versions.items()}
    for name, version in versions.items():
        size = sum(file.stat().st_size for file in version.rglob("*") if file.is_file())
        rows[name] = {"size_mb": size / 1e6, "load_s": statistics.median(loading[name])}
        with ServerProcess(served(folder / "served" / name, version)) as server:
            load(server.target, 1, 1.0, patches, (1, 8))
            rows[name]["server_mib"] = server.resident_mib
            alone = load(server.target, 1, seconds, patches, (1,))
            rows[name]["served_ms"] = 1e3 * statistics.median(alone.seconds[1])
            together = load(server.target, clients, seconds, patches, (1,))
            rows[name]["served_per_s"] = together.count / seconds
    for batch in (1, 8):
        runs = {name: (lambda m=model, b=batch: m.predict(patches[:b])) for name, model in opened.items()}
        for name, times in measure(runs, 2 * ROUNDS + 1).items():
            rows[name][f"batch_{batch}_ms"] = 1e3 * statistics.median(times)
    for model in opened.values():
        model.close()
    return {"rows": rows}


def percentile_ms(seconds: list[float], percent: float) -> float:
    return 1e3 * float(np.percentile(seconds, percent))


def load_table(result: dict) -> Table:
    responses: LoadResult = result["responses"]
    title = (
        f"{responses.count} responses in {result['seconds']:.0f} s, {result['swaps']} swaps, versions "
        f"{min(responses.versions)} to {max(responses.versions)}; "
        f"{len(responses.failed)} failed, {responses.wrong} wrong"
    )
    table = Table("batch", "responses", "graph alone ms", "p50 ms", "p99 ms", title=title)
    for batch, seconds in sorted(responses.seconds.items()):
        own = result["compute_ms"][batch]
        p50, p99 = percentile_ms(seconds, 50), percentile_ms(seconds, 99)
        table.add_row(str(batch), str(len(seconds)), f"{own:.1f}", f"{p50:.0f}", f"{p99:.0f}")
    return table


def show(console: Console, part: str, result: dict) -> None:
    if part == "load":
        console.print(load_table(result))
        for failed in sorted(set(result["responses"].failed)):
            console.print(failed)
        return
    if part == "overhead":
        table = Table("batch", "graph ms", "through the server ms", "overhead ms", "%", title="overhead")
        for batch, row in result["rows"].items():
            share = 100 * row["overhead_ms"] / row["graph_ms"]
            table.add_row(str(batch), *(f"{row[key]:.2f}" for key in row), f"{share:.0f}")
    elif part == "ensemble":
        rows = result["rows"]
        first, *further = rows
        table = Table("", *rows, *(f"{name} / {first}" for name in further), title="ensembles")
        for key, value in rows[first].items():
            ratios = (f"{rows[name][key] / value:.2f}" for name in further)
            table.add_row(key, *(f"{row[key]:.2f}" for row in rows.values()), *ratios)
    elif part == "batching":
        table = Table("batching", "patches a second", "p50 ms", title="single patches")
        for name, row in result.items():
            table.add_row(name, f"{row['a_second']:.1f}", f"{row['p50_ms']:.0f}")
    else:
        table = Table("requests", "resident MiB", "threads", "open files", title="memory")
        for row in result["rows"]:
            table.add_row(*(f"{value:.0f}" for value in row))
    console.print(table)


@click.command()
@click.option("--precision", type=click.Choice(["float32", "bfloat16"]), default="float32", show_default=True)
@click.option("--part", "parts", type=click.Choice(PARTS), multiple=True, default=PARTS)
@click.option(
    "--seconds", default=60.0, show_default=True, help="Duration of the load, s; a tenth for batching, ensembles."
)
@click.option("--swap-seconds", default=10.0, show_default=True, help="Time between two new versions, s.")
@click.option("--clients", default=8, show_default=True, help="Number of clients.")
@click.option("--requests", default=10_000, show_default=True, help="Number of requests for the memory.")
@click.option("--models", type=click.Path(path_type=Path), help="Folder for the exports, which are used if they exist.")
@click.option("--json", "as_json", is_flag=True)
def main(
    precision: str,
    parts: tuple[str, ...],
    seconds: float,
    swap_seconds: float,
    clients: int,
    requests: int,
    models: Path | None,
    as_json: bool,
) -> None:
    patches = sample_patches(Protocol().patch, max(MIXED), seed=1)
    console = Console()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kept = None if models is None else models / precision
        if set(parts) != {"ensemble"} and (kept is None or not kept.exists()):
            export_two(kept or folder, precision)
        versions = [(kept or folder) / "exported" / number for number in ("1", "2")]
        runs = {
            "overhead": lambda: overhead(folder, versions[0], patches),
            "load": lambda: under_load(folder, versions, patches, clients, seconds, swap_seconds),
            "batching": lambda: batching(folder, versions[0], patches, clients, seconds / 10),
            "memory": lambda: memory(folder, versions[0], patches, clients, requests),
            "ensemble": lambda: ensemble(folder / "ensemble", precision, patches, clients, seconds / 10),
        }
        for part in parts:
            result = runs[part]()
            if as_json:
                click.echo(json.dumps({"part": part, "precision": precision, **result}, default=vars))
            else:
                show(console, part, result)


if __name__ == "__main__":
    main()
