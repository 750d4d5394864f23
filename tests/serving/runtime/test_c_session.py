"""TensorFlow's C API predicts as its Python package does, in a process that never imports the package."""

import gc
import importlib
import shutil
import sys
import weakref
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import saved_model_pb2

from ggn_tf.errors import ExportError
from ggn_tf.serving.contract.export_contract import Member
from ggn_tf.serving.contract.messages import read_golden
from ggn_tf.serving.export.version_writer import export_model
from ggn_tf.serving.runtime import c_session, tensorflow_session
from ggn_tf.serving.runtime.predict_request import predict
from ggn_tf.serving.runtime.servable import Servable
from ggn_tf.serving.runtime.session import SessionError
from ggn_tf.tasks import THREE_CLASSES
from ggn_tf.tensorflow_library import load_library, open_library
from tests.support.processes import run_code
from tests.support.small_model import build_small_model
from tests.support.tiny_protocol import TINY

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only TensorFlow's package for Linux has the library")
SHAPE = (TINY.patch.size,) * 3


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models in bfloat16, over eight mirrors: with the output `spread`."""
    models = [build_small_model("mixed_bfloat16", seed=seed) for seed in range(2)]
    members = [Member(f"s{seed}", "joint", 1, seed, str(seed), "f") for seed in range(2)]
    folder = tmp_path_factory.mktemp("ensemble")
    return export_model(models, THREE_CLASSES, TINY, folder, members=members, mirrored=True)


@pytest.mark.parametrize("kind", ["single", "ensemble"])
def test_all_signatures_give_the_same_bits(kind: str, exported: Path, request: pytest.FixtureRequest):
    version = exported / "1" if kind == "single" else request.getfixturevalue("ensemble")
    opened = [module.open_session(version) for module in (c_session, tensorflow_session)]
    here, there = (Servable("ggn", 1, each.session, each.signatures) for each in opened)
    requests = [golden for golden, _ in read_golden(version)]
    assert {each.model_spec.signature_name for each in requests} == {"serving_default", "roi", "roi_recentered"}
    for each in requests:
        assert predict(here, each) == predict(there, each)


def test_a_run_that_fails_has_the_same_code_and_message(exported: Path):
    failures = []
    for module in (c_session, tensorflow_session):
        opened = module.open_session(exported / "1")
        signature = opened.signatures["roi"]
        values = {"hu": np.zeros((1, *SHAPE)), "spacing_mm": np.ones((2, 3)), "center_index": np.ones((1, 3))}
        feeds = {signature.inputs[name].name: array for name, array in values.items()}
        feeds[signature.inputs["hu"].name] = feeds[signature.inputs["hu"].name].astype(np.float32)
        with pytest.raises(SessionError) as caught:
            opened.session.run(feeds, {"mask": signature.outputs["mask"].name})
        failures.append((caught.value.code, caught.value.message))
    assert failures[0] == failures[1] and failures[0][0] == 3


def test_a_closed_session_refuses_to_run_and_is_freed(exported: Path, monkeypatch: pytest.MonkeyPatch):
    freed, free = [], c_session._free
    monkeypatch.setattr(c_session, "_free", lambda *arguments: freed.append(arguments) or free(*arguments))
    opened = c_session.open_session(exported / "1")
    signature = opened.signatures["serving_default"]
    opened.session.close()
    with pytest.raises(SessionError, match="Session has been closed"):
        opened.session.run({signature.inputs["hu"].name: np.zeros((1, *SHAPE, 1), np.float32)}, {})
    session = weakref.ref(opened.session)
    assert not freed
    del opened
    gc.collect()
    assert session() is None and len(freed) == 1


def test_a_feed_with_any_strides_gives_the_same_bits(exported: Path):
    opened = c_session.open_session(exported / "1")
    signature = opened.signatures["serving_default"]
    hu = np.random.default_rng(0).normal(-600, 300, (4, *SHAPE, 1)).astype(np.float32)
    transposed = hu.transpose(0, 3, 2, 1, 4)
    fetches = {"probabilities": signature.outputs["probabilities"].name}
    found = [
        opened.session.run({signature.inputs["hu"].name: values}, fetches)["probabilities"].tolist()
        for values in (transposed, np.ascontiguousarray(transposed))
    ]
    assert found[0] == found[1]


def test_a_tensor_without_memory_is_deleted():
    deleted = []
    library = SimpleNamespace(
        TF_AllocateTensor=lambda *_: 1, TF_TensorData=lambda _: None, TF_DeleteTensor=deleted.append
    )
    with pytest.raises(MemoryError):
        c_session._to_tensor(library, np.zeros(3))
    assert deleted == [1]


@pytest.mark.parametrize("dtype", [np.int32, object])
def test_a_feed_of_another_type_is_refused(dtype: type, exported: Path):
    opened = c_session.open_session(exported / "1")
    name = opened.signatures["serving_default"].inputs["hu"].name
    with pytest.raises(SessionError, match=f"A tensor of {np.dtype(dtype)} cannot be given") as caught:
        opened.session.run({name: np.zeros((1, *SHAPE, 1), dtype)}, {})
    assert caught.value.code == 3


def test_a_package_without_the_library_or_its_functions_has_none(tmp_path: Path):
    assert open_library(tmp_path) is None
    shutil.copy(importlib.import_module("_ctypes").__file__, tmp_path / "libtensorflow_cc.so.2")
    assert open_library(tmp_path) is None
    assert load_library() is not None


def test_where_devices_are_plug_ins_the_package_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    package = tmp_path / "tensorflow"
    package.symlink_to(Path(load_library()._name).parent)
    assert open_library(package) is not None
    (tmp_path / "tensorflow-plugins").mkdir()
    assert open_library(package) is None
    monkeypatch.setenv("TF_PLUGGABLE_DEVICE_LIBRARY_PATH", "/opt/devices")
    assert load_library() is None


def test_a_process_without_the_package_predicts_the_same_and_can_import_it_later(exported: Path):
    done = run_code(
        f"""
        import sys, ggn_tf
        from pathlib import Path
        from ggn_tf.serving.contract.messages import read_golden
        from ggn_tf.serving.runtime.predict_request import predict
        from ggn_tf.serving.runtime.servable import open_servable
        version = Path({str(exported / "1")!r})
        def differing():
            servable = open_servable(version, "ggn", 1)
            return sum(predict(servable, golden).outputs != found.outputs for golden, found in read_golden(version))
        print(differing(), "tensorflow" in sys.modules)
        import tensorflow
        print(differing(), "keras" in sys.modules)
        """
    )
    assert done.stdout == "0 False\n0 True\n", done.stderr
    assert "Reading SavedModel" not in done.stderr


def test_a_request_of_another_type_is_refused_without_importing_the_package(exported: Path):
    done = run_code(
        f"""
        import sys
        from pathlib import Path
        from ggn_tf.serving.contract.messages import read_golden
        from ggn_tf.serving.runtime.predict_request import predict
        from ggn_tf.serving.runtime.servable import StatusError, open_servable
        from tensorflow.core.framework import types_pb2
        version = Path({str(exported / "1")!r})
        request, _ = read_golden(version)[0]
        request.inputs["hu"].dtype = types_pb2.DT_HALF
        try:
            predict(open_servable(version, "ggn", 1), request)
        except StatusError as error:
            print(error.code.name, "tensorflow" in sys.modules)
        """
    )
    assert done.stdout == "INVALID_ARGUMENT False\n", done.stderr


def without_variables(version: Path) -> None:
    (version / "variables" / "variables.index").unlink()


def with_unknown_operation(version: Path) -> None:
    file = version / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    saved.meta_graphs[0].graph_def.node[0].op = "NoSuchOperation"
    file.write_bytes(saved.SerializeToString())


def with_unknown_tensor(version: Path) -> None:
    file = version / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    saved.meta_graphs[0].signature_def["roi"].outputs["mask"].name = "no_such_tensor:0"
    file.write_bytes(saved.SerializeToString())


def with_text_as_input(version: Path) -> None:
    file = version / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    signature = saved.meta_graphs[0].signature_def["roi"]
    signature.inputs["hu"].CopyFrom(signature.outputs["class_names"])
    file.write_bytes(saved.SerializeToString())


@pytest.fixture
def damaged(request: pytest.FixtureRequest, exported: Path, tmp_path: Path) -> Path:
    version = Path(shutil.copytree(exported / "1", tmp_path / "1"))
    (version / "assets.extra" / "SHA256SUMS").unlink()
    request.param(version)
    return version


@pytest.mark.parametrize("damaged", [with_unknown_tensor, with_text_as_input], indirect=True)
def test_a_version_with_other_tensors_than_ours_is_left_to_the_package(damaged: Path):
    assert c_session.open_session(damaged) is None


@pytest.mark.parametrize(
    ("error", "expected"),
    [(DecodeError("wrong"), None), (MemoryError("full"), MemoryError)],
)
def test_a_session_whose_signatures_cannot_be_read_is_deleted(
    error: Exception, expected: type[Exception] | None, exported: Path, monkeypatch: pytest.MonkeyPatch
):
    deleted, delete = [], c_session._delete
    monkeypatch.setattr(c_session, "_delete", lambda *arguments: deleted.append(arguments) or delete(*arguments))
    monkeypatch.setattr(c_session.ctypes, "string_at", Mock(side_effect=error))
    with nullcontext() if expected is None else pytest.raises(expected):
        assert c_session.open_session(exported / "1") is None
    assert len(deleted) == 1


def test_a_version_that_memory_is_too_small_for_is_not_left_to_the_package(
    exported: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(c_session, "CSession", Mock(side_effect=SessionError(8, "OOM when allocating tensor")))
    with pytest.raises(MemoryError, match="OOM when allocating"):
        c_session.open_session(exported / "1")


@pytest.mark.parametrize("damaged", [without_variables, with_unknown_operation], indirect=True)
def test_a_version_that_tensorflow_cannot_load_is_refused_without_importing_the_package(damaged: Path):
    with pytest.raises(ExportError, match="The version cannot be loaded"):
        tensorflow_session.open_session(damaged)
    done = run_code(
        f"""
        import sys
        from pathlib import Path
        from ggn_tf.errors import ExportError
        from ggn_tf.serving.contract.trust import Trust
        from ggn_tf.serving.runtime.servable import open_servable
        try:
            open_servable(Path({str(damaged)!r}), "ggn", 1, trust=Trust(any_program=True))
        except ExportError as error:
            print(error.what, "tensorflow" in sys.modules)
        """
    )
    assert done.stdout == "The version cannot be loaded. False\n", done.stderr
