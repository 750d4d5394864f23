"""Where the items of a study are done: in processes of this machine, or on a Dask cluster."""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ggn_tf.errors import GgnError
from ggn_tf.studies import pool
from ggn_tf.studies.item import Item, WorkFolder

_LOCAL = "local:"


@dataclass(frozen=True)
class Cluster:
    """A Dask cluster.

    Attributes:
        address: Of its scheduler; None for a cluster that is started on this machine.
        workers: Number of workers to start on this machine.
        resources: How much of each of a worker's resources an item takes.
    """

    address: str | None
    workers: int = 0
    resources: Mapping[str, float] = field(default_factory=dict)


def choose_workers(jobs: int | None, cluster: str | None, resources: Mapping[str, float] | None) -> int | Cluster:
    """The number of processes, or the cluster, that the arguments of `study` and `crossval` request.

    Raises:
        GgnError: The arguments exclude each other, name no cluster, or need a package that is not installed.
    """
    if cluster is None:
        if resources:
            raise GgnError(
                "Only workers of a cluster have resources.",
                found="resources without a cluster",
                expected="a cluster, or no resources",
                remedy="Name the cluster, or leave out the resources.",
                arguments=("cluster", "resources"),
            )
        return 1 if jobs is None else jobs
    if jobs is not None:
        raise GgnError(
            "The number of jobs is that of this machine's own processes, which a cluster replaces.",
            found=f"{jobs} jobs and the cluster {cluster}",
            expected="one of the two",
            remedy="Leave out one; a cluster does as many items at a time as its workers have threads.",
            arguments=("jobs", "cluster"),
        )
    if importlib.util.find_spec("distributed") is None:
        raise GgnError(
            "Dask is not installed, which a cluster needs.",
            expected="the package distributed",
            remedy="Install it: pip install 'ggn-tf[cluster]'.",
        )
    count = cluster.removeprefix(_LOCAL) if cluster.startswith(_LOCAL) else ""
    if count.isdecimal() and int(count) > 0:
        if resources:
            raise GgnError(
                "Workers that are started here all use the devices of this machine.",
                found=f"resources with the cluster {cluster}",
                expected="resources of workers that were started with them",
                remedy="Leave out the resources, or start the workers of a cluster with them.",
                arguments=("cluster", "resources"),
            )
        return Cluster(None, int(count), {})
    if count or "://" not in cluster:
        raise GgnError(
            "This is not the name of a cluster.",
            found=cluster,
            expected="local:N with a number of workers, or the address of a Dask scheduler",
            remedy="Give local:2, or for example tcp://HOST:8786.",
            arguments=("cluster",),
        )
    return Cluster(cluster, 0, resources or {})


def run_items(
    items: Sequence[Item],
    folder: WorkFolder,
    workers: int | Cluster,
    report: Callable[[pool.WorkerMessage], None],
    stop_requested: Callable[[], bool],
) -> None:
    """Do every item that is not done; arguments and errors are those of `pool.run_items`."""
    if isinstance(workers, int):
        pool.run_items(items, folder, workers, report, stop_requested)
    else:
        # Dask is an extra.
        from ggn_tf.studies.cluster import run_on_cluster

        run_on_cluster(items, folder, workers, report, stop_requested)
