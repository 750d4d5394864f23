"""TensorFlow's C API predicts as its Python package does, in a process that never imports the package."""

import gc
import importlib
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from tensorflow.core.protobuf import saved_model_pb2

from ggn_tf.errors import ExportError
from ggn_tf.serving.contract.export_contract import Member
from ggn_tf.serving.contract.messages import read_golden
from ggn_tf.serving.contract.trust import Trust
from ggn_tf.serving.export.version_writer import export_model
from ggn_tf.serving.runtime import c_session, tensorflow_session
from ggn_tf.serving.runtime.predict_request import predict
from ggn_tf.serving.runtime.servable import Servable, open_servable
from ggn_tf.serving.runtime.session import SessionError
from ggn_tf.tasks import THREE_CLASSES
from ggn_tf.tensorflow_library import load_library, open_library
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


def test_a_closed_session_refuses_to_run_and_can_be_freed(exported: Path):
    opened = c_session.open_session(exported / "1")
    signature = opened.signatures["serving_default"]
    opened.session.close()
    with pytest.raises(SessionError, match="Session has been closed"):
        opened.session.run({signature.inputs["hu"].name: np.zeros((1, *SHAPE, 1), np.float32)}, {})
    del opened
    gc.collect()


def test_a_package_without_the_library_or_its_functions_has_none(tmp_path: Path):
    assert open_library(tmp_path) is None
    shutil.copy(importlib.import_module("_ctypes").__file__, tmp_path / "libtensorflow_cc.so.2")
    assert open_library(tmp_path) is None
    assert load_library() is not None


def process(code: str) -> subprocess.CompletedProcess:
    """This process has imported TensorFlow's package, so that a version is loaded by it."""
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[3])
    run = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(run, env=environment, capture_output=True, text=True, encoding="utf-8")


def test_a_process_without_the_package_predicts_the_same_and_can_import_it_later(exported: Path):
    done = process(
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


DAMAGES = (without_variables, with_unknown_operation, with_unknown_tensor)


@pytest.fixture(params=DAMAGES)
def damaged(request: pytest.FixtureRequest, exported: Path, tmp_path: Path) -> Path:
    version = Path(shutil.copytree(exported / "1", tmp_path / "1"))
    (version / "assets.extra" / "SHA256SUMS").unlink()
    request.param(version)
    return version


def test_a_damaged_version_is_left_to_the_package(damaged: Path):
    assert c_session.open_session(damaged) is None


@pytest.mark.parametrize("damaged", [with_unknown_operation], indirect=True)
def test_a_damaged_version_is_refused_with_the_error_of_the_package(damaged: Path):
    with pytest.raises(ExportError, match="The version cannot be loaded") as caught:
        open_servable(damaged, "ggn", 1, trust=Trust(any_program=True))
    done = process(
        f"""
        from pathlib import Path
        from ggn_tf.errors import ExportError
        from ggn_tf.serving.contract.trust import Trust
        from ggn_tf.serving.runtime.servable import open_servable
        try:
            open_servable(Path({str(damaged)!r}), "ggn", 1, trust=Trust(any_program=True))
        except ExportError as error:
            print(error)
        """
    )
    assert done.stdout == f"{caught.value}\n", done.stderr
