"""Which versions are loaded: a model is a program, and runs with the rights of the process that loads it.

A version that travels can be signed: Ed25519 (RFC 8032) over the list of checksums. A checksum beside the data detects
accidents; a signature also detects people. OpenSSL reads and writes the same:
`openssl pkeyutl -verify -pubin -inkey KEY -rawin -in SHA256SUMS -sigfile SHA256SUMS.sig`.

A graph may have operations that compute on tensors. TensorFlow has no list of those that read files, use the network or
call the host, and plug-ins may add some. So those are listed that our exports consist of, with others that only
compute.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from google.protobuf.message import DecodeError
from tensorflow.core.framework import node_def_pb2, types_pb2
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from ggn_tf.errors import ExportError
from ggn_tf.machine import memory_bytes
from ggn_tf.serving.contract.version_folders import (
    CHECKSUMS_FILE,
    SIGNATURE_FILE,
    check_checksums,
    check_regular,
    entries,
    has_checksums,
    read_record,
    unreadable,
)
from ggn_tf.serving.contract.wire import ASSETS_EXTRA

_LARGEST_KEY_BYTES = 2**16


def sign(version_folder: Path, key: Ed25519PrivateKey) -> None:
    """Write the signature of a version's checksums beside them."""
    signature = key.sign(read_record(version_folder, CHECKSUMS_FILE))
    (version_folder / ASSETS_EXTRA / SIGNATURE_FILE).write_bytes(signature)


def check_signature(version_folder: Path, key: Ed25519PublicKey) -> None:
    """Check that the owner of the key has signed a version's checksums; raises ExportError if not."""
    try:
        key.verify(read_record(version_folder, SIGNATURE_FILE), read_record(version_folder, CHECKSUMS_FILE))
    except (OSError, InvalidSignature) as error:
        raise ExportError(
            "The version is not signed with the expected key.",
            case=version_folder,
            found="no checksums or no signature" if isinstance(error, OSError) else "another signature",
            expected=f"{ASSETS_EXTRA}/{SIGNATURE_FILE} by the owner of the key",
            remedy="Ask the sender for a signed version, or for the public key that belongs to it.",
            arguments=("verify",),
        ) from error


def read_private_key(file: Path) -> Ed25519PrivateKey:
    """Read the key to sign with, a PEM file (PKCS 8); raises ExportError where it is another or cannot be read."""
    try:
        key = serialization.load_pem_private_key(_content(file), None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _bad_key(file, error, "private", "sign") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _bad_key(file, type(key).__name__, "private", "sign")
    return key


def read_public_key(file: Path) -> Ed25519PublicKey:
    """Read the key to verify with, a PEM file; raises ExportError where it is another or cannot be read."""
    try:
        key = serialization.load_pem_public_key(_content(file))
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise _bad_key(file, error, "public", "verify") from error
    if not isinstance(key, Ed25519PublicKey):
        raise _bad_key(file, type(key).__name__, "public", "verify")
    return key


def _content(file: Path) -> bytes:
    if not file.is_file():
        raise FileNotFoundError("no such file")
    with file.open("rb") as stream:
        return stream.read(_LARGEST_KEY_BYTES)


def _bad_key(file: Path, found: object, kind: str, argument: str) -> ExportError:
    return ExportError(
        f"The {kind} key cannot be used.",
        case=file,
        found=found,
        expected=f"a PEM file with an Ed25519 {kind} key, without a password",
        remedy="Make a pair with openssl genpkey -algorithm ed25519 -out KEY and openssl pkey -pubout -in KEY.",
        arguments=(argument,),
    )


GRAPH_FILE = "saved_model.pb"
_LARGEST_GRAPH_BYTES = 2**31 - 1

_COMPUTING = """
Const Placeholder PlaceholderWithDefault Identity IdentityN NoOp EnsureShape PartitionedCall StatefulPartitionedCall
StatelessIf If StatelessWhile While StatelessCase Case VarHandleOp ReadVariableOp Reshape Shape ShapeN Size Rank
Squeeze ExpandDims Transpose Pack Unpack Concat ConcatV2 Split SplitV Slice StridedSlice Gather GatherV2 GatherNd
ScatterNd Tile Pad PadV2 MirrorPad Fill Range BroadcastTo BroadcastArgs ZerosLike OnesLike Reverse ReverseV2 Roll
SpaceToBatchND BatchToSpaceND SpaceToDepth DepthToSpace Where OneHot Add AddV2 AddN Sub Mul Div DivNoNan RealDiv
FloorDiv FloorMod Mod Neg Abs Sign Square SquaredDifference Sqrt Rsqrt Reciprocal Inv Pow Exp Expm1 Log Log1p Erf
Floor Ceil Round Rint Maximum Minimum ClipByValue Cast Bitcast Equal NotEqual Greater GreaterEqual Less LessEqual
LogicalAnd LogicalNot LogicalOr Select SelectV2 IsFinite IsInf IsNan Sum Mean Max Min Prod All Any ArgMax ArgMin
Cumsum TopKV2 Einsum MatMul BatchMatMul BatchMatMulV2 BatchMatMulV3 BiasAdd Conv1D Conv2D Conv3D Conv2DBackpropInput
Conv3DBackpropInput Conv3DBackpropInputV2 DepthwiseConv2dNative MaxPool MaxPool3D AvgPool AvgPool3D FusedBatchNorm
FusedBatchNormV2 FusedBatchNormV3 Relu Relu6 LeakyRelu Elu Selu Sigmoid Tanh Softmax LogSoftmax Softplus Softsign
ResizeNearestNeighbor ResizeBilinear StringJoin StringStrip AsString StringLength
"""
_ALLOWED = frozenset(_COMPUTING.split())
_RESTORING = frozenset({"RestoreV2", "AssignVariableOp"})
"""What TensorFlow's loader runs once, with the path of the version's own variables."""
_SAVING = frozenset(
    {"SaveV2", "MergeV2Checkpoints", "ShardedFilename", "StaticRegexFullMatch", "RegexFullMatch", "DisableCopyOnRead"}
)
"""What TensorFlow's saver needs besides; nothing here runs it."""
_MOST_NAMED = 5


def check_operations(version_folder: Path) -> None:
    """Check what a SavedModel could run, without running anything.

    Raises:
        ExportError: A signature, or what runs while the version is loaded, contains an operation that is not allowed,
            or the graph cannot be read.
    """
    try:
        saved = saved_model_pb2.SavedModel.FromString((version_folder / GRAPH_FILE).read_bytes())
    except (OSError, DecodeError) as error:
        raise ExportError(
            "The version cannot be loaded.",
            case=version_folder,
            found=f"{GRAPH_FILE}: {error}",
            expected="a complete SavedModel",
            remedy="Copy the version again, or export the run again.",
        ) from error
    foreign = sorted({operation for meta_graph in saved.meta_graphs for operation in _foreign(meta_graph)})
    foreign += ["two nodes or functions of one name"] if any(map(_has_twice, saved.meta_graphs)) else []
    if foreign:
        raise ExportError(
            "The graph contains operations that may leave the process.",
            case=version_folder,
            found=", ".join(foreign[:_MOST_NAMED]) + (", ..." if len(foreign) > _MOST_NAMED else ""),
            expected="operations that only compute, as in the exports of ggn-tf",
            remedy="A model is a program that may read and write files: load this one only if you trust its author.",
            arguments=("trust",),
        )


def _foreign(meta_graph: meta_graph_pb2.MetaGraphDef) -> Iterator[str]:
    """Operations that are not allowed, of all nodes; some are, in what only TensorFlow's saver runs."""
    graph = _Graph(meta_graph)
    saver = meta_graph.saver_def
    restoring = graph.reached([saver.restore_op_name])
    saving = graph.reached([saver.save_tensor_name]) - restoring
    served = graph.reached(_entrances(meta_graph))
    served |= graph.reached(name for name in graph.nodes if ("", name) not in saving | restoring)
    served |= {key for key in graph.all_keys() if key not in saving | restoring}
    for key in served | saving | restoring:
        operation = graph.operation(key)
        allowed = operation in _ALLOWED or operation in graph.functions
        if key in restoring and key not in served:
            allowed = (allowed or operation in _RESTORING) and graph.has_given_path(*key, restoring)
        elif key not in served:
            allowed = allowed or operation in _SAVING
        if not allowed:
            yield operation


def _has_twice(meta_graph: meta_graph_pb2.MetaGraphDef) -> bool:
    """Whether a name has two meanings: another one might be run than the one that was checked."""
    graph = meta_graph.graph_def
    scopes = [[function.signature.name for function in graph.library.function], [node.name for node in graph.node]]
    scopes += ([node.name for node in function.node_def] for function in graph.library.function)
    return any(len(set(names)) < len(names) for names in scopes)


def _entrances(meta_graph: meta_graph_pb2.MetaGraphDef) -> Iterator[str]:
    """The tensors and operations that a request, or the loader, may run; of collections it runs the initializers."""
    for signature in meta_graph.signature_def.values():
        yield from (tensor.name for tensor in signature.outputs.values())
    for collection in meta_graph.collection_def.values():
        yield from collection.node_list.value


_Key = tuple[str, str]
"""A node by its function, empty for the graph itself, and its name."""


class _Graph:
    """The nodes of a graph and of its functions, and which of them a node needs."""

    def __init__(self, meta_graph: meta_graph_pb2.MetaGraphDef) -> None:
        library = meta_graph.graph_def.library.function
        self.functions = {function.signature.name: function for function in library}
        self.nodes = {node.name: node for node in meta_graph.graph_def.node}
        self._functions_nodes = {
            name: {node.name: node for node in function.node_def} for name, function in self.functions.items()
        }

    def all_keys(self) -> Iterator[_Key]:
        """All nodes."""
        yield from (("", name) for name in self.nodes)
        yield from ((function, name) for function, nodes in self._functions_nodes.items() for name in nodes)

    def operation(self, key: _Key) -> str:
        """The operation of a node."""
        return self._node(key).op

    def reached(self, tensors: Iterable[str]) -> set[_Key]:
        """The nodes on which tensors or operations of the graph depend, with those of the functions that they call."""
        seen: set[_Key] = set()
        called: set[str] = set()
        open_keys = [("", name) for name in map(_node_name, tensors) if name in self.nodes]
        while open_keys:
            key = open_keys.pop()
            if key in seen:
                continue
            seen.add(key)
            node = self._node(key)
            if not key[0]:
                open_keys += [("", name) for name in map(_node_name, node.input) if name in self.nodes]
            for function in set(_called(node)) - called:
                called.add(function)
                open_keys += [(function, name) for name in self._functions_nodes.get(function, ())]
        return seen

    def has_given_path(self, function: str, name: str, restoring: Iterable[_Key]) -> bool:
        """Whether a node that restores gets its path from outside, and no text in the graph can be one.

        A function that restores is called by the graph itself, where there are no texts.
        """
        node = self._node((function, name))
        if not function:
            return node.op != "RestoreV2" and not (
                node.op == "Const" and node.attr["dtype"].type == types_pb2.DT_STRING
            )
        if node.op != "RestoreV2":
            return True
        given = {argument.name for argument in self.functions[function].signature.input_arg}
        callers = (key for key in restoring if function in _called(self._node(key)))
        return node.input[0] in given and not any(key[0] for key in callers)

    def _node(self, key: _Key) -> node_def_pb2.NodeDef:
        function, name = key
        return self._functions_nodes[function][name] if function else self.nodes[name]


def _node_name(tensor: str) -> str:
    return tensor.removeprefix("^").split(":")[0]


def _called(node: node_def_pb2.NodeDef) -> Iterator[str]:
    yield node.op
    for value in node.attr.values():
        if value.HasField("func"):
            yield value.func.name
        yield from (function.name for function in value.list.func)


def _check_size(version_folder: Path) -> None:
    """Check, before anything is read, that the version fits into memory, and its graph into a protobuf message."""
    try:
        sizes = {entry.name: entry.status.st_size for entry in entries(version_folder)}
    except OSError as error:
        raise unreadable(version_folder, error) from error
    memory = memory_bytes()
    graph, all_files = sizes.get(GRAPH_FILE, 0), sum(sizes.values())
    if graph > _LARGEST_GRAPH_BYTES or all_files > (memory or math.inf):
        raise ExportError(
            "The version is too large to be loaded.",
            case=version_folder,
            found=f"{GRAPH_FILE} of {graph / 2**30:.1f} GiB, all files {all_files / 2**30:.1f} GiB",
            expected="a graph below 2 GiB"
            + (f", and files below the memory of {memory / 2**30:.1f} GiB" if memory else ""),
            remedy="Copy the version again, or serve it on a machine with more memory.",
        )


@dataclass(frozen=True)
class Trust:
    """What a version needs in order to be loaded; a damaged one is never loaded.

    Attributes:
        any_program: Also load versions without checksums, and graphs with operations that our exports do not have, such
            as those that read files.
        key: Load only versions whose checksums are signed by the owner of this key; None for all.
    """

    any_program: bool = False
    key: Ed25519PublicKey | None = None

    def check(self, version_folder: Path) -> None:
        """Raise an ExportError if the version must not be loaded."""
        check_regular(version_folder)
        _check_size(version_folder)
        if self.key is not None:
            check_signature(version_folder, self.key)
        if has_checksums(version_folder):
            check_checksums(version_folder)
        elif not self.any_program:
            raise ExportError(
                "The version has no checksums.",
                case=version_folder,
                found="no SHA256SUMS: another program wrote it, or the list was lost",
                expected="the checksums that ggn-tf export writes",
                remedy="Copy the version again. A model is a program: load another program's only if you trust it.",
                arguments=("trust",),
            )
        if not self.any_program:
            check_operations(version_folder)
