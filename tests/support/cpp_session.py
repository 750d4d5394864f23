"""TensorFlow's C++ runtime alone: its SavedModel loader and session, called through the C interface.

    python cpp_session.py FOLDER_OF_THE_LIBRARY VERSION_DIRECTORY FEEDS.npz FETCHES...

A process of its own that never imports the Python package tensorflow: what only that package can do would fail here.
FEEDS.npz contains one array per input tensor of the graph; each of FETCHES is printed as one line of JSON numbers.
"""

import ctypes
import json
import sys
from ctypes import POINTER, c_char_p, c_int, c_int64, c_size_t, c_void_p
from pathlib import Path

import numpy as np

_TYPES = {"float32": 1, "float64": 2}


class _Output(ctypes.Structure):
    _fields_ = [("operation", c_void_p), ("index", c_int)]


def load(folder: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(folder / "libtensorflow_cc.so.2"))
    for name in (
        "TF_NewStatus",
        "TF_NewGraph",
        "TF_NewSessionOptions",
        "TF_LoadSessionFromSavedModel",
        "TF_GraphOperationByName",
        "TF_AllocateTensor",
        "TF_TensorData",
    ):
        getattr(library, name).restype = c_void_p
    library.TF_Message.restype = c_char_p
    library.TF_TensorByteSize.restype = c_size_t
    library.TF_Dim.restype = c_int64
    return library


def main(library_folder: str, version: str, feeds_file: str, *fetches: str) -> None:
    tf = load(Path(library_folder))
    status, graph = c_void_p(tf.TF_NewStatus()), c_void_p(tf.TF_NewGraph())
    tags = (c_char_p * 1)(b"serve")
    options = c_void_p(tf.TF_NewSessionOptions())
    session = c_void_p(tf.TF_LoadSessionFromSavedModel(options, None, version.encode(), tags, 1, graph, None, status))
    check(tf, status)

    def output(name: str) -> _Output:
        operation, index = name.split(":")
        found = tf.TF_GraphOperationByName(graph, operation.encode())
        if not found:
            raise SystemExit(f"no operation {operation}")
        return _Output(found, int(index))

    feeds = dict(np.load(feeds_file))
    inputs = (_Output * len(feeds))(*map(output, feeds))
    values = (c_void_p * len(feeds))(*(tensor(tf, array) for array in feeds.values()))
    outputs = (_Output * len(fetches))(*map(output, fetches))
    results = (c_void_p * len(fetches))()
    tf.TF_SessionRun(session, None, inputs, values, len(feeds), outputs, results, len(fetches), None, 0, None, status)
    check(tf, status)
    for result in results:
        print(json.dumps(numbers(tf, c_void_p(result))))


def tensor(tf: ctypes.CDLL, array: np.ndarray) -> int:
    data = np.ascontiguousarray(array)
    shape = (c_int64 * data.ndim)(*data.shape)
    made: int = tf.TF_AllocateTensor(_TYPES[data.dtype.name], shape, data.ndim, c_size_t(data.nbytes))
    ctypes.memmove(tf.TF_TensorData(c_void_p(made)), data.ctypes.data, data.nbytes)
    return made


def numbers(tf: ctypes.CDLL, result: c_void_p) -> list[float]:
    count = tf.TF_TensorByteSize(result) // 4
    data = ctypes.cast(c_void_p(tf.TF_TensorData(result)), POINTER(ctypes.c_float))
    return np.ctypeslib.as_array(data, (count,)).astype(float).tolist()


def check(tf: ctypes.CDLL, status: c_void_p) -> None:
    if tf.TF_GetCode(status):
        raise SystemExit(tf.TF_Message(status).decode())


if __name__ == "__main__":
    main(*sys.argv[1:])
