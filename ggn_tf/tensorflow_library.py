"""TensorFlow's C API, in the shared library of its package, without the package's Python code, which takes seconds.

The API is TensorFlow's stable one (`tensorflow/c/c_api.h`). A later import of TensorFlow in the same process uses the
same library.
"""

import ctypes
import importlib.util
import os
import threading
from functools import cache
from pathlib import Path

_FILE = "libtensorflow_cc.so.2"
_LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
# Libraries of further devices, which only the package's Python code loads.
_PLUGINS_VARIABLE, _PLUGINS_FOLDER = "TF_PLUGGABLE_DEVICE_LIBRARY_PATH", "tensorflow-plugins"
# Of the environment, and of the library that is loaded once.
_LOADING = threading.Lock()


class Buffer(ctypes.Structure):
    """TF_Buffer: bytes that TensorFlow owns."""

    _fields_ = (("data", ctypes.c_void_p), ("length", ctypes.c_size_t), ("deallocator", ctypes.c_void_p))


class Output(ctypes.Structure):
    """TF_Output: a tensor of a graph, by its operation."""

    _fields_ = (("operation", ctypes.c_void_p), ("index", ctypes.c_int))


_P, _INT, _SIZE, _TEXT = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t, ctypes.c_char_p
_OUTPUTS, _TENSORS, _SHAPE = ctypes.POINTER(Output), ctypes.POINTER(_P), ctypes.POINTER(ctypes.c_int64)
_FUNCTIONS: dict[str, tuple[type | None, tuple[type, ...]]] = {
    "TF_NewStatus": (_P, ()),
    "TF_GetCode": (_INT, (_P,)),
    "TF_Message": (_TEXT, (_P,)),
    "TF_DeleteStatus": (None, (_P,)),
    "TF_NewSessionOptions": (_P, ()),
    "TF_SetConfig": (None, (_P, _TEXT, _SIZE, _P)),
    "TF_DeleteSessionOptions": (None, (_P,)),
    "TF_NewGraph": (_P, ()),
    "TF_GraphOperationByName": (_P, (_P, _TEXT)),
    "TF_DeleteGraph": (None, (_P,)),
    "TF_NewBuffer": (ctypes.POINTER(Buffer), ()),
    "TF_DeleteBuffer": (None, (ctypes.POINTER(Buffer),)),
    "TF_LoadSessionFromSavedModel": (
        _P,
        (_P, _P, _TEXT, ctypes.POINTER(_TEXT), _INT, _P, ctypes.POINTER(Buffer), _P),
    ),
    "TF_SessionRun": (None, (_P, _P, _OUTPUTS, _TENSORS, _INT, _OUTPUTS, _TENSORS, _INT, _P, _INT, _P, _P)),
    "TF_CloseSession": (None, (_P, _P)),
    "TF_DeleteSession": (None, (_P, _P)),
    "TF_AllocateTensor": (_P, (_INT, _SHAPE, _INT, _SIZE)),
    "TF_TensorData": (_P, (_P,)),
    "TF_TensorType": (_INT, (_P,)),
    "TF_NumDims": (_INT, (_P,)),
    "TF_Dim": (ctypes.c_int64, (_P, _INT)),
    "TF_DeleteTensor": (None, (_P,)),
    "TF_StringGetDataPointer": (_P, (_P,)),
    "TF_StringGetSize": (_SIZE, (_P,)),
}


def load_library() -> ctypes.CDLL | None:
    """The library of the installed package.

    None where it has none of this name, as outside Linux, or an older one, and where devices are plug-ins.
    """
    if os.environ.get(_PLUGINS_VARIABLE):
        return None
    with _LOADING:
        return _installed_library()


@cache
def _installed_library() -> ctypes.CDLL | None:
    spec = importlib.util.find_spec("tensorflow")
    folders = () if spec is None else spec.submodule_search_locations or ()
    return next(filter(None, map(open_library, map(Path, folders))), None)


def open_library(folder: Path) -> ctypes.CDLL | None:
    """The library in a folder with the functions that are used here; None without them, and beside plug-ins."""
    if (folder.parent / _PLUGINS_FOLDER).is_dir():
        return None
    chosen = os.environ.get(_LOG_LEVEL)
    try:
        # It reads the level now; below 1 it would report every step of loading a model.
        os.environ[_LOG_LEVEL] = chosen or "1"
        library = ctypes.CDLL(str(folder / _FILE))
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError):
        return None
    finally:
        os.environ.pop(_LOG_LEVEL, None)
        if chosen is not None:
            os.environ[_LOG_LEVEL] = chosen
    return library
