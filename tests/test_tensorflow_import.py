from pathlib import Path

import pytest

import ggn_tf
from ggn_tf.tensorflow_import import keras_defaults
from tests.support.processes import run_code

OTHERS = """{"floatx": "float16", "epsilon": 0.1, "backend": "torch", "image_data_format": "channels_first"}"""


def test_tensorflow_logs_errors_only_and_a_process_that_never_built_a_model_loads_one(whole_run):
    done = run_code(
        "from ggn_tf.tensorflow_import import load_tensorflow; load_tensorflow(); import tensorflow as tf\n"
        "tf.get_logger().warning('chatter'); tf.get_logger().error('trouble')\n"
        "from ggn_tf.runs.run_folder import RunFolder; from pathlib import Path\n"
        f"print(RunFolder.open(Path({str(whole_run.folder)!r})).load_model().name)"
    )
    assert (done.returncode, done.stdout) == (0, "cascade\n"), done.stderr
    assert done.stderr.splitlines() == ["ERROR:tensorflow:trouble"]


def test_what_others_print_is_not_lost_while_a_thread_of_a_server_imports_tensorflow():
    done = run_code(
        """
        import os, sys, threading
        from ggn_tf.tensorflow_import import import_for_model, load_predictor
        load_predictor()
        dup2, redirected = os.dup2, []
        os.dup2 = lambda *files: redirected.append(files) or dup2(*files)
        thread = threading.Thread(target=import_for_model)
        thread.start()
        thread.join()
        print("tensorflow" in sys.modules, redirected)
        """
    )
    assert done.stdout == "True []\n", done.stderr


def test_a_server_and_its_client_do_not_import_tensorflow_which_uses_their_messages_when_the_host_imports_it():
    modules = (
        "ggn_tf.api.load, ggn_tf.serving.client.server_check, ggn_tf.monailabel.server, ggn_tf.serving.server.server"
    )
    done = run_code(
        f"import sys, {modules}; print('tensorflow' in sys.modules, 'keras' in sys.modules)\n"
        "from ggn_tf.serving.contract.tensors import decode; import tensorflow as tf\n"
        "from tensorflow.core.framework import tensor_pb2; proto = tf.make_tensor_proto([[1, 2]], tf.int64)\n"
        "print(isinstance(proto, tensor_pb2.TensorProto), decode(proto).tolist(), tf.__version__ != '')"
    )
    assert done.stdout == "False False\nTrue [[1, 2]] True\n", done.stderr


@pytest.mark.parametrize(
    ("keras_json", "environment"),
    [
        (OTHERS, {"TF_USE_LEGACY_KERAS": "1"}),
        pytest.param(
            '{"epsilon": 1}',
            {"KERAS_BACKEND": "jax", "KERAS_MAX_EPOCHS": "many", "KERAS_NNX_ENABLED": "true"},
            marks=pytest.mark.nightly,
        ),
        pytest.param(
            "[]", {"KERAS_BACKEND": "no-such-backend", "KERAS_MAX_STEPS_PER_EPOCH": "1"}, marks=pytest.mark.nightly
        ),
    ],
)
def test_settings_for_other_programs_have_no_effect_and_stay(
    tmp_path: Path, small_export, keras_json: str, environment
):
    """The attributes of the API import their modules, which import TensorFlow and, those that train, Keras.

    An export predicts without Keras.
    """
    (tmp_path / "keras.json").write_text(keras_json, encoding="utf-8")
    done = run_code(
        "import os, sys, ggn_tf\n"
        "def variables(): return {n: v for n, v in os.environ.items() if 'KERAS' in n}\n"
        "before = variables(); ggn_tf.load, ggn_tf.serve; import numpy as np\n"
        "from ggn_tf.serving.runtime.predict_request import LocalModel\n"
        f"from pathlib import Path; model = LocalModel(Path({str(small_export)!r}))\n"
        "size = model.contract.protocol.patch.size\n"
        "found = model.predict(np.zeros((1, size, size, size, 1), np.float32)); model.close()\n"
        "assert found.probabilities.shape == (1, 3) and np.isfinite(found.probabilities).all()\n"
        "assert 'tensorflow' in sys.modules and 'keras' not in sys.modules and variables() == before\n"
        "ggn_tf.fit, ggn_tf.evaluate, ggn_tf.load, ggn_tf.export; assert variables() == before\n"
        "import keras; from keras.src.backend.config import keras_home\n"
        "c = keras.config\n"
        "print(c.backend(), c.floatx(), c.epsilon(), c.image_data_format(), c.max_steps_per_epoch(), keras_home())",
        KERAS_HOME=str(tmp_path),
        **environment,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"tensorflow float32 1e-07 channels_last None {tmp_path}\n"
    assert (tmp_path / "keras.json").read_text(encoding="utf-8") == keras_json


def test_the_host_keeps_its_own_settings_and_the_api_does_not_see_them():
    import keras

    def settings() -> tuple[str, str]:
        return keras.config.floatx(), keras.config.dtype_policy().name

    former = settings()
    try:
        keras.config.set_floatx("float16")
        keras.config.set_dtype_policy("mixed_float16")
        assert keras_defaults()(settings)() == ("float32", "float32")
        assert settings() == ("float16", "mixed_float16")
    finally:
        keras.config.set_floatx(former[0])
        keras.config.set_dtype_policy(former[1])


@pytest.mark.parametrize("name", ["fit", "evaluate", "export", "study"])
def test_a_host_with_another_backend_is_refused_but_may_predict(name: str, monkeypatch: pytest.MonkeyPatch):
    import keras

    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    monkeypatch.delitem(vars(ggn_tf), name, raising=False)
    with pytest.raises(ggn_tf.GgnError, match="Keras runs on another backend in this process.") as caught:
        getattr(ggn_tf, name)
    assert caught.value.found == "backend jax"
    assert callable(ggn_tf.load) and callable(ggn_tf.serve)
