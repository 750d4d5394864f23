"""Imports TensorFlow without its start messages."""

import importlib
import logging
import os


def load_tensorflow() -> None:
    """Import TensorFlow with the process's stderr closed off.

    Its C++ side reports processor features and missing GPU libraries before any log level applies, so the level alone
    (`TF_CPP_MIN_LOG_LEVEL`) leaves six lines above every output. Errors of the import itself are still raised. Its
    Python side then logs errors only: with few cases it would warn that every stage traces its step again.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    kept, silent = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(silent, 2)
        importlib.import_module("tensorflow")
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(silent)
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
