"""A SavedModel in a session of TensorFlow's C API: as `tensorflow_session` to the bit, without its package."""

import ctypes
import math
import os
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from ggn_tf.serving.runtime.session import OpenedModel, SessionError, Signatures, not_loaded
from ggn_tf.tensorflow_library import Output, load_library

_TAG, _VARIABLES = b"serve", "variables/variables.index"
# ConfigProto(allow_soft_placement=True), as TensorFlow's Python package has it.
_CONFIG = b"\x38\x01"
_NUMBERS: dict[int, np.dtype[Any]] = {
    types_pb2.DT_FLOAT: np.dtype(np.float32),
    types_pb2.DT_DOUBLE: np.dtype(np.float64),
}
_SIZEOF_STRING = 24
_INVALID_ARGUMENT, _NOT_FOUND, _RESOURCE_EXHAUSTED = 3, 5, 8


def open_session(folder: Path) -> OpenedModel | None:
    """Load a version directory's SavedModel.

    Returns None where TensorFlow's package must do it: there is no library, or a signature has tensors that ours never
    have.

    Raises:
        ExportError: The library cannot load it, and neither can TensorFlow's package.
        MemoryError: Loading needs more than there is.
    """
    library = load_library()
    if library is None:
        return None
    try:
        session = CSession(library, folder)
    except SessionError as error:
        if error.code == _RESOURCE_EXHAUSTED:
            raise MemoryError(error.message) from error
        raise not_loaded(folder, error.message) from error
    except (DecodeError, KeyError):
        return None
    return OpenedModel(session, session.signatures)


class CSession:
    """A `Session` of the C API, for tensors of signatures.

    Raises:
        SessionError: TensorFlow cannot load the version.
        DecodeError: Its signatures cannot be read.
        KeyError: A tensor of a signature is not in the graph, or has another type than float32, float64 and, of an
            output, string.
    """

    def __init__(self, library: ctypes.CDLL, folder: Path) -> None:
        self._library = library
        graph = library.TF_NewGraph()
        session = None
        try:
            session, self.signatures = _load(library, graph, folder)
            self._tensors = dict(_tensors(library, graph, self.signatures))
        except BaseException:
            _free(library, session, graph)
            raise
        self._session = session
        # Not in `close`, because another thread may run it.
        weakref.finalize(self, _free, library, session, graph).atexit = False

    def run(self, feeds: Mapping[str, np.ndarray], fetches: Mapping[str, str]) -> dict[str, np.ndarray]:
        """As `Session.run`."""
        library, names = self._library, list(fetches.values())
        given, computed = (ctypes.c_void_p * len(feeds))(), (ctypes.c_void_p * len(names))()
        with ExitStack() as stack:
            stack.callback(lambda: [library.TF_DeleteTensor(each) for each in (*given, *computed) if each])
            for number, values in enumerate(feeds.values()):
                given[number] = _to_tensor(library, values)
            with _status(library) as status:
                library.TF_SessionRun(
                    self._session,
                    None,
                    self._outputs(list(feeds)),
                    given,
                    len(feeds),
                    self._outputs(names),
                    computed,
                    len(names),
                    None,
                    0,
                    None,
                    status,
                )
            return {alias: _to_array(library, each) for alias, each in zip(fetches, computed, strict=True)}

    def _outputs(self, names: Sequence[str]) -> "ctypes.Array[Output]":
        return (Output * len(names))(*(self._tensors[name] for name in names))

    def close(self) -> None:
        """As `Session.close`."""
        with _status(self._library) as status:
            self._library.TF_CloseSession(self._session, status)


@contextmanager
def _status(library: ctypes.CDLL) -> Iterator[int]:
    """A status for one call, which raises SessionError after a call that failed."""
    status = library.TF_NewStatus()
    try:
        yield status
        if code := library.TF_GetCode(status):
            raise SessionError(code, library.TF_Message(status).decode(errors="replace"))
    finally:
        library.TF_DeleteStatus(status)


def _load(library: ctypes.CDLL, graph: int, folder: Path) -> tuple[int, Signatures]:
    with ExitStack() as stack:
        options = library.TF_NewSessionOptions()
        stack.callback(library.TF_DeleteSessionOptions, options)
        meta_graph = library.TF_NewBuffer()
        stack.callback(library.TF_DeleteBuffer, meta_graph)
        with _status(library) as status:
            library.TF_SetConfig(options, _CONFIG, len(_CONFIG), status)
        tags = (ctypes.c_char_p * 1)(_TAG)
        with _status(library) as status:
            session: int = library.TF_LoadSessionFromSavedModel(
                options, None, os.fsencode(folder), tags, len(tags), graph, meta_graph, status
            )
        try:
            content = ctypes.string_at(meta_graph.contents.data, meta_graph.contents.length)
            loaded = meta_graph_pb2.MetaGraphDef.FromString(content)
            if loaded.HasField("saver_def") and not (folder / _VARIABLES).is_file():
                # The library would leave the variables empty.
                raise SessionError(_NOT_FOUND, f"{_VARIABLES} is missing")
            return session, dict(loaded.signature_def)
        except BaseException:
            _delete(library, session)
            raise


def _tensors(library: ctypes.CDLL, graph: int, signatures: Signatures) -> Iterator[tuple[str, Output]]:
    for signature in filter(lambda each: each.method_name, signatures.values()):
        known = [(info, {*_NUMBERS}) for info in signature.inputs.values()]
        known += [(info, {*_NUMBERS, types_pb2.DT_STRING}) for info in signature.outputs.values()]
        for info, types in known:
            operation, _, index = info.name.partition(":")
            found = library.TF_GraphOperationByName(graph, operation.encode())
            if not found or not index.isdecimal() or info.dtype not in types:
                raise KeyError(info.name)
            yield info.name, Output(found, int(index))


def _to_tensor(library: ctypes.CDLL, values: np.ndarray) -> int:
    dtype = next((number for number, kind in _NUMBERS.items() if kind == values.dtype), None)
    if dtype is None:
        raise SessionError(_INVALID_ARGUMENT, f"A tensor of {values.dtype} cannot be given.")
    # A name of its own: it must exist until it is copied.
    content = np.ascontiguousarray(values)
    shape = (ctypes.c_int64 * values.ndim)(*values.shape)
    tensor: int = library.TF_AllocateTensor(dtype, shape, values.ndim, values.nbytes)
    data = library.TF_TensorData(tensor)
    if data is None and values.nbytes:
        library.TF_DeleteTensor(tensor)
        raise MemoryError
    ctypes.memmove(data, content.ctypes.data, values.nbytes)
    return tensor


def _to_array(library: ctypes.CDLL, tensor: int) -> np.ndarray:
    shape = tuple(library.TF_Dim(tensor, axis) for axis in range(library.TF_NumDims(tensor)))
    data, dtype = library.TF_TensorData(tensor), library.TF_TensorType(tensor)
    if dtype == types_pb2.DT_STRING:
        places = (data + _SIZEOF_STRING * number for number in range(math.prod(shape)))
        texts = [
            ctypes.string_at(library.TF_StringGetDataPointer(place), library.TF_StringGetSize(place))
            for place in places
        ]
        return np.array(texts, object).reshape(shape)
    values = np.empty(shape, _NUMBERS[dtype])
    ctypes.memmove(values.ctypes.data, data, values.nbytes)
    return values


def _free(library: ctypes.CDLL, session: int | None, graph: int) -> None:
    if session is not None:
        _delete(library, session)
    library.TF_DeleteGraph(graph)


def _delete(library: ctypes.CDLL, session: int) -> None:
    status = library.TF_NewStatus()
    library.TF_DeleteSession(session, status)
    library.TF_DeleteStatus(status)
