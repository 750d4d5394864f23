"""The training of tests/support/tiny_fit.py by several replicas: devices of a process, or processes."""

import json
import tempfile
from pathlib import Path

import tensorflow as tf

import ggn_tf
from ggn_tf.cli.stop_signal import StopSignal
from ggn_tf.dataset.records import Dataset, open_dataset
from ggn_tf.errors import GgnError
from tests.support.loopback_server import free_port
from tests.support.processes import Process
from tests.support.tiny_fit import tiny_description
from tests.support.tiny_protocol import tiny_protocol

# At ten times this rate, rounding in the first steps grows to thousandths of the loss by the last stage.
LEARNING_RATE = 1e-4


def start(
    dataset: Dataset,
    run: Path,
    strategy: str,
    *,
    devices: int = 1,
    epochs: int = 2,
    stage: str | None = None,
    model: str = "cascade",
    config: str | None = None,
) -> Process:
    """A process of a shared training. TF_CONFIG, `config`, says which of several; `devices` are its logical CPUs."""
    environment, errors = {"TF_CONFIG": config} if config else {}, Path(tempfile.mkstemp(prefix="shared-fit-")[1])
    arguments = dataset.folder, run, strategy, devices, epochs, stage, model
    return Process(train, *arguments, environment=environment, errors=errors)


def configurations(workers: int) -> list[str]:
    """TF_CONFIG of each of so many processes on this machine."""
    addresses = [f"127.0.0.1:{free_port()}" for _ in range(workers)]
    return [
        json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}})
        for index in range(workers)
    ]


def train(dataset: Path, run: Path, strategy: str, devices: int, epochs: int, stage: str | None, model: str) -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * devices)
    asked = tiny_description(open_dataset(dataset, tiny_protocol().patch), epochs, LEARNING_RATE)
    try:
        with StopSignal("stopping") as stop:
            ggn_tf.fit(
                dataset,
                task=asked.task,
                model=model,
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
