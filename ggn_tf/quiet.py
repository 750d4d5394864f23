"""Importing TensorFlow without its start-up chatter."""

import importlib
import os


def load_tensorflow() -> None:
    """Import TensorFlow with the process's stderr closed off.

    Its C++ side reports processor features and missing GPU libraries before any log level applies, so the level alone
    (`TF_CPP_MIN_LOG_LEVEL`) leaves six lines above every answer. Errors of the import itself are raised as ever.
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
