"""What TensorBoard shows of a run, read back by TensorBoard's own reader."""

from pathlib import Path

import keras
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.util import tensor_util

from ggn_tf.models.systems import build_cascade
from ggn_tf.runs.run_description import RunDescription
from ggn_tf.runs.stages import CLASSIFY
from ggn_tf.training.monitor import EpochResult
from ggn_tf.training.tensorboard import EventWriter, write_scores

ROW = {"stage": "classify", "epoch": 3, "loss": 0.5, "learning_rate": 1e-4, "validation_accuracy": 0.75}


@pytest.fixture(scope="module")
def model(description: RunDescription) -> keras.Model:
    return build_cascade(2, description.protocol)


def written(folder: Path, model: keras.Model, description: RunDescription, **options: bool) -> Path:
    """A process that is stopped after an epoch, then one that finishes the stage."""
    for _ in range(2):
        writer = EventWriter(folder / "tensorboard", description, **options)
        writer.stage_started(CLASSIFY, model)
        writer.epoch_done(CLASSIFY, ROW, EpochResult(0.5, None, 0.75, 0.8, 0.5, None, None))
    writer.stage_done(CLASSIFY, ROW)
    return folder / "tensorboard"


def events(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()


def test_the_graph_is_the_stages_network_and_is_written_once(tmp_path: Path, model, description: RunDescription):
    folder = written(tmp_path, model, description)
    graph: GraphDef = events(folder / "classify").Graph()
    assert sum(node.op == "Conv3D" for node in graph.node) >= 10
    assert sum(b"Conv3D" in file.read_bytes() for file in (folder / "classify").iterdir()) == 1


def test_histograms_are_written_when_asked_for(tmp_path: Path, model, description: RunDescription):
    without = events(written(tmp_path / "a", model, description) / "classify").Tags()["tensors"]
    assert not [tag for tag in without if tag.startswith("weights/")]
    accumulator = events(written(tmp_path / "b", model, description, histograms=True) / "classify")
    tags = [tag for tag in accumulator.Tags()["tensors"] if tag.startswith("weights/")]
    assert len(tags) == len(model.weights)
    event = accumulator.Tensors("weights/classification/conv_1/kernel")[0]
    buckets = tensor_util.make_ndarray(event.tensor_proto)
    kernel = model.get_layer("classification").get_layer("conv_1").kernel
    assert event.step == 3 and buckets[:, 2].sum() == kernel.numpy().size


def test_hparams_hold_the_runs_numbers_and_its_best_scores(tmp_path: Path, model, description: RunDescription):
    folder = written(tmp_path, model, description)
    write_scores(folder, {"test classify/accuracy": 0.5})
    accumulator = events(folder)
    metadata = accumulator.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    started = plugin_data_pb2.HParamsPluginData.FromString(metadata).session_start_info.hparams
    assert started["joint.learning_rate"].number_value == 1e-3 and started["seed"].number_value == 7
    assert started["task"].string_value == "AAH+AIS,MIA+IAC"
    assert {"best classify/validation_accuracy", "best classify/loss", "test classify/accuracy"} <= set(
        accumulator.Tags()["tensors"]
    )
    assert "best classify/learning_rate" not in accumulator.Tags()["tensors"]
