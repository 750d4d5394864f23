"""The training of tests/support/tiny_fit.py by several replicas. A program, a process of those that train together:

python -m tests.support.shared_fit DATASET RUN STRATEGY DEVICES EPOCHS STAGE

With `multiworker` TF_CONFIG says which process this is; DEVICES are logical CPUs of this process.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import tensorflow as tf

import ggn_tf
from ggn_tf.cli.stop_signal import StopSignal
from ggn_tf.dataset.records import Dataset, open_dataset
from ggn_tf.errors import GgnError
from tests.support.tiny_fit import tiny_description, tiny_protocol

ROOT = Path(__file__).parents[2]
# At ten times this rate, rounding in the first steps grows to thousandths of the loss by the last stage.
LEARNING_RATE = 1e-4


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
    """A process of a shared training; its error, if any, is in its stderr."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **({"TF_CONFIG": config} if config else {})}
    arguments = [dataset.folder, run, strategy, devices, epochs, stage]
    command = [sys.executable, "-m", "tests.support.shared_fit", *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, cwd=ROOT, start_new_session=True, stderr=pipe, text=True)


def configurations(workers: int) -> list[str]:
    """TF_CONFIG of each of so many processes on this machine."""
    sockets = [socket.socket() for _ in range(workers)]
    for bound in sockets:
        bound.bind(("127.0.0.1", 0))
    addresses = [f"127.0.0.1:{bound.getsockname()[1]}" for bound in sockets]
    for bound in sockets:
        bound.close()
    return [
        json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}})
        for index in range(workers)
    ]


def main(dataset: str, run: str, strategy: str, devices: str, epochs: str, stage: str) -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * int(devices))
    asked = tiny_description(open_dataset(Path(dataset), tiny_protocol().patch), int(epochs), LEARNING_RATE)
    try:
        with StopSignal("stopping") as stop:
            ggn_tf.fit(
                dataset,
                task=asked.task,
                stage=stage,
                seed=asked.seed,
                protocol=asked.protocol,
                precision=asked.precision,
                checkpoint_minutes=0.0,
                strategy=strategy,
                run=run,
                stop=stop.requested,
                connecting=stop.suspended(),
            )
    except GgnError as error:
        raise SystemExit(str(error)) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main(*sys.argv[1:])
