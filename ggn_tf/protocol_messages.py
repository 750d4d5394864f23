"""The messages of TensorFlow Serving's protocol without TensorFlow, whose import takes seconds.

They are protobuf's classes in the folders of TensorFlow and of tensorflow-serving-api, and need the code of neither.
Importing this module is enough: later imports of the same names find them, and so does TensorFlow where it is imported
afterwards.
"""

import importlib
import importlib.util
import sys
from contextlib import suppress
from types import ModuleType

_MESSAGES = (
    "tensorflow.core.framework.tensor_pb2",
    "tensorflow.core.protobuf.saved_model_pb2",
    "tensorflow_serving.apis.get_model_metadata_pb2",
    "tensorflow_serving.apis.model_service_pb2_grpc",
    "tensorflow_serving.apis.prediction_log_pb2",
    "tensorflow_serving.apis.prediction_service_pb2_grpc",
)


def _import_messages() -> None:
    spec = importlib.util.find_spec("tensorflow")
    if "tensorflow" in sys.modules or spec is None:
        return
    # A package with TensorFlow's folders whose __init__ does not run.
    package = ModuleType("tensorflow")
    package.__path__ = list(spec.submodule_search_locations or ())
    sys.modules["tensorflow"] = package
    try:
        # What is missing is reported by the module that needs it.
        with suppress(ImportError):
            for name in _MESSAGES:
                importlib.import_module(name)
    finally:
        del sys.modules["tensorflow"]


_import_messages()
