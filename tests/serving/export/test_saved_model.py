"""What is in an export, and who can run it besides our own Python."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from ggn_tf.dataset.pipeline import normalise_hu
from ggn_tf.models.systems import build_cascade, build_multitask
from ggn_tf.protocol import PatchProtocol, Protocol
from ggn_tf.serving.export.golden_requests import sample_patches
from ggn_tf.serving.export.version_writer import export_model
from ggn_tf.serving.runtime.predict_request import LocalModel
from ggn_tf.tasks import THREE_CLASSES

# What every SavedModel has for variables, of which there are none; then the network; then what is around it.
OPERATIONS = {
    *("MergeV2Checkpoints", "NoOp", "PartitionedCall", "RestoreV2", "SaveV2", "ShardedFilename"),
    *("StatefulPartitionedCall", "StaticRegexFullMatch", "StringJoin"),
    *("AvgPool3D", "BiasAdd", "Cast", "ConcatV2", "Const", "Conv3D", "Conv3DBackpropInputV2", "EnsureShape"),
    *("ExpandDims", "Identity", "MatMul", "MaxPool3D", "Mul", "Relu", "ReverseV2", "Sigmoid", "Softmax", "Split"),
    *("SplitV", "Sub", "Transpose", "Unpack", "Pack", "Placeholder"),
    *("AddV2", "All", "Any", "Floor", "GatherV2", "Greater", "GreaterEqual", "IsFinite", "Less", "LessEqual"),
    *("LogicalAnd", "LogicalNot", "LogicalOr", "Max", "Maximum", "Minimum", "NotEqual", "RealDiv", "Reshape"),
    *("Select", "SelectV2", "Shape", "StridedSlice", "StringStrip", "Sum", "Tile"),
    *("ArgMin", "BatchMatMulV2", "Fill", "OneHot", "Pad", "Round", "Sqrt", "Square", "StatelessWhile"),
}

NARROW = dataclasses.replace(
    Protocol(),
    patch=PatchProtocol(size=16),
    cnn=dataclasses.replace(Protocol().cnn, channels=(4,) * 8, fc_units=(8, 8)),
    unet=dataclasses.replace(Protocol().unet, channels_down=(4,) * 8, channels_up=(4,) * 6),
)


def graph_of(folder: Path) -> tf.compat.v1.GraphDef:
    (meta_graph,) = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes()).meta_graphs
    return meta_graph.graph_def


def operations(folder: Path) -> set[str]:
    graph = graph_of(folder)
    return {node.op for nodes in (graph.node, *(f.node_def for f in graph.library.function)) for node in nodes}


@pytest.mark.parametrize(
    ("precision", "tolerance"), [("float32", 1e-5), pytest.param("bfloat16", 0.02, marks=pytest.mark.nightly)]
)
@pytest.mark.parametrize("build", [build_cascade, build_multitask])
def test_only_standard_operations_are_used_and_predict_as_the_model(build, precision, tolerance, tmp_path):
    """The paper's depth, so that every kind of layer is there; few channels and voxels, so that it takes seconds."""
    model = build(3, NARROW, precision=precision)
    folder = export_model(model, THREE_CLASSES, NARROW, tmp_path)
    assert operations(folder) - OPERATIONS == set()
    patches = sample_patches(NARROW.patch, 2, seed=5)
    expected = model(normalise_hu(patches, NARROW.patch.window_hu), training=False)
    with LocalModel(folder) as served:
        prediction = served.predict(patches)
    np.testing.assert_allclose(prediction.probabilities, expected["probabilities"], atol=tolerance)
    np.testing.assert_allclose(prediction.mask, expected["mask"], atol=tolerance)


def test_no_operation_calls_python_and_no_function_has_a_gradient_of_its_own(exported):
    assert not {name for name in operations(exported / "1") if "Py" in name or name.startswith("Custom")}
    assert not graph_of(exported / "1").library.gradient


@pytest.mark.nightly
def test_openvino_predicts_alike(exported, tiny):
    """An independent runtime. It has no string operations, so only the numeric outputs are converted."""
    openvino = pytest.importorskip("openvino")
    patches = sample_patches(tiny.patch, 3, seed=7)
    with LocalModel(exported) as model:
        expected = model.predict(patches)
    converted = openvino.convert_model(str(exported / "1"), output=["probabilities", "mask"])
    compiled = openvino.Core().compile_model(converted, "CPU", {"INFERENCE_PRECISION_HINT": openvino.Type.f32})
    found = compiled(patches)
    np.testing.assert_allclose(found["probabilities"], expected.probabilities, atol=1e-4)
    np.testing.assert_allclose(found["mask"], expected.mask, atol=1e-4)
    assert np.ptp(expected.mask) > 1e-2
