"""The training of tests/support/tiny_fit.py by several replicas. A program, a process of those that train together:

python -m tests.support.shared_fit DATASET RUN STRATEGY DEVICES EPOCHS STAGE

With `multiworker` TF_CONFIG says which process this is; DEVICES are logical CPUs of this process.
"""

import json
import os
import socket
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import tensorflow as tf

from ggn_tf.cli.stop_signal import StopSignal
from ggn_tf.dataset.records import Dataset, open_dataset
from ggn_tf.dataset.splits import read_split
from ggn_tf.errors import GgnError
from ggn_tf.runs.lock import lock_run
from ggn_tf.runs.run_folder import RunFolder
from ggn_tf.training.distributed.cluster import connect_replicas, rank_of
from ggn_tf.training.train_options import TrainOptions
from ggn_tf.training.trainer import plan_run, train
from tests.support.tiny_fit import tiny_description, tiny_protocol

ROOT = Path(__file__).parents[2]


def start(
    dataset: Dataset,
    run: Path,
    strategy: str,
    *,
    devices: int = 1,
    epochs: int = 2,
    stage: str = "joint",
    config: str | None = None,
) -> subprocess.Popen:
    """A process of a shared training; what it says in the end is in its stderr."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **({"TF_CONFIG": config} if config else {})}
    arguments = [dataset.folder, run, strategy, devices, epochs, stage]
    command = [sys.executable, "-m", "tests.support.shared_fit", *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, cwd=ROOT, start_new_session=True, stderr=pipe, text=True)


def configurations(workers: int) -> list[str]:
    """TF_CONFIG of each of so many processes on this machine."""
    sockets = [socket.socket() for _ in range(workers)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    return [
        json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}})
        for index in range(workers)
    ]


def main(dataset: str, run: str, strategy: str, devices: str, epochs: str, stage: str) -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * int(devices))
    opened = open_dataset(Path(dataset), tiny_protocol().patch)
    asked = tiny_description(opened, int(epochs))
    plan = plan_run(asked, opened, read_split(opened, asked.split), stage)
    place = rank_of(strategy, os.environ)
    try:
        with lock_run(Path(run)) if place.is_chief else nullcontext():
            if place.is_chief:
                folder = RunFolder.create(Path(run), asked, opened.folder, {}, "")
            else:
                folder = RunFolder(Path(run), asked, opened.folder, {})
            replicas = connect_replicas(place, asked.protocol.training.batch_size)
            # Not before: TensorFlow takes SIGTERM for itself when it starts a cluster.
            with StopSignal("stopping") as stop:
                options = TrainOptions(stop_requested=stop.requested, checkpoint_minutes=0.0)
                train(folder, opened, plan, options, replicas)
    except GgnError as error:
        raise SystemExit(str(error)) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main(*sys.argv[1:])
