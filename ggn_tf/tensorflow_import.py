"""Imports TensorFlow, and Keras where it is needed, so that settings for other programs have no effect."""

import importlib
import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ggn_tf.errors import GgnError
from ggn_tf.tensorflow_library import load_library

_BACKEND = "tensorflow"
# Keras reads a settings file in this folder and makes both: where there can be no folder, it does neither.
_NO_FOLDER = os.path.join(os.devnull, "keras")  # noqa: PTH118 - no path of ours
_DEFAULTS: dict[str, Any] = {
    "floatx": "float32",
    "epsilon": 1e-7,
    "image_data_format": "channels_last",
    "dtype_policy": "float32",
    "max_epochs": None,
    "max_steps_per_epoch": None,
}


def import_tensorflow() -> None:
    """Import TensorFlow without Keras, which takes a second and is not needed where an export predicts.

    The environment is the same afterwards, and Keras can be imported later, by us or by others. Until TensorFlow is
    imported, another thread's `import keras` fails with ModuleNotFoundError. Until Keras is imported,
    `tf.saved_model.load` does not know the optimizers of Keras models.
    """
    # TensorFlow imports it in order to register optimizers, and accepts that it is missing.
    eager = "keras.src.optimizers"
    hidden = "tensorflow" not in sys.modules and eager not in sys.modules
    with _without_keras_variables():
        try:
            if hidden:
                sys.modules[eager] = None  # type: ignore[assignment]
            importlib.import_module("tensorflow")
        finally:
            if hidden:
                del sys.modules[eager]


def import_keras() -> None:
    """Import TensorFlow, and Keras with its defaults: keras.json and its environment variables have no effect.

    The environment is the same afterwards. Where the process has imported Keras before, only `tf.keras` is resolved.

    Raises:
        GgnError: The process has imported Keras with another backend.
    """
    own_settings = "keras" in sys.modules
    import_tensorflow()
    with _without_keras_variables():
        importlib.import_module("keras")
        # Resolved at first use, and TensorBoard uses it: later, TF_USE_LEGACY_KERAS would be read.
        dir(sys.modules["tensorflow"].keras)
    if not own_settings:
        # The folder in which Keras keeps downloads, for other code of this process.
        home = os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras")  # noqa: PTH111 - may have no home
        vars(importlib.import_module("keras.src.backend.config"))["_KERAS_DIR"] = home
    backend = importlib.import_module("keras").config.backend()
    if backend != _BACKEND:
        raise GgnError(
            "Keras runs on another backend in this process.",
            found=f"backend {backend}",
            expected=f"backend {_BACKEND}, on which the networks of ggn-tf run",
            remedy="Use ggn_tf in a process of its own, or its fit, evaluate, export or study before importing Keras.",
        )


@contextmanager
def keras_defaults() -> Iterator[None]:
    """Give Keras its defaults in the block, as `import_keras`, whatever the process has set; usable as a decorator."""
    import_keras()
    config = importlib.import_module("keras").config
    former = {name: getattr(config, name)() for name in _DEFAULTS}
    _configure(config, _DEFAULTS)
    try:
        yield
    finally:
        _configure(config, former)


def load_tensorflow(*, keras: bool = True) -> None:
    """Import TensorFlow, and Keras where it is needed, for a program of ours, with the process's stderr closed off.

    Its C++ side reports processor features and missing GPU libraries before any log level applies, so the level alone
    (`TF_CPP_MIN_LOG_LEVEL`) leaves six lines above every output. Errors of the import itself are still raised. Its
    Python side then logs errors only: with few cases it would warn that every stage traces its step again.
    """
    with _without_stderr():
        (import_keras if keras else import_tensorflow)()
    logging.getLogger("tensorflow").setLevel(logging.ERROR)


# Whether this process is a program of ours that has loaded only TensorFlow's library.
_only_predicts = False


def load_predictor() -> None:
    """As `load_tensorflow`, for a program that only predicts by an export: TensorFlow's library is enough."""
    global _only_predicts
    _only_predicts = True
    with _without_stderr():
        found = load_library()
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    if found is None:
        load_tensorflow(keras=False)


def import_for_model() -> None:
    """Import TensorFlow for a model that its library is not enough for; after `load_predictor`, nothing is printed.

    In a thread of a server, however, stderr stays: what other threads print would be lost.
    """
    if _only_predicts and threading.current_thread() is threading.main_thread():
        load_tensorflow(keras=False)
    else:
        import_tensorflow()


@contextmanager
def _without_stderr() -> Iterator[None]:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    kept, silent = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(silent, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(silent)


@contextmanager
def _without_keras_variables() -> Iterator[None]:
    hidden = {
        name: value for name, value in os.environ.items() if name.startswith("KERAS_") or name == "TF_USE_LEGACY_KERAS"
    }
    ours = {"KERAS_BACKEND": _BACKEND, "KERAS_HOME": _NO_FOLDER}
    for name in hidden:
        del os.environ[name]
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            del os.environ[name]
        os.environ.update(hidden)


def _configure(config: Any, values: dict[str, Any]) -> None:
    for name, value in values.items():
        getattr(config, f"set_{name}")(value)
