"""Dynamic batching: requests of several clients in one run of the graph, by TensorFlow's own batch scheduler."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from ggn_tf.errors import ServingError
from ggn_tf.serving.contract.tensors import leads_with_batch

if TYPE_CHECKING:
    import tensorflow as tf

_NUMBERS = ("max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads")
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
# The message of TensorFlow Serving, which no Python package contains, with its field names.
_BATCHING_PARAMETERS = """
name: "batching_parameters.proto" package: "ggn_tf" syntax: "proto3" dependency: "google/protobuf/wrappers.proto"
message_type { name: "BatchingParameters"
  field { number: 1 name: "max_batch_size" type: TYPE_MESSAGE type_name: ".google.protobuf.Int64Value" }
  field { number: 2 name: "batch_timeout_micros" type: TYPE_MESSAGE type_name: ".google.protobuf.Int64Value" }
  field { number: 3 name: "max_enqueued_batches" type: TYPE_MESSAGE type_name: ".google.protobuf.Int64Value" }
  field { number: 4 name: "num_batch_threads" type: TYPE_MESSAGE type_name: ".google.protobuf.Int64Value" }
  field { number: 5 name: "thread_pool_name" type: TYPE_MESSAGE type_name: ".google.protobuf.StringValue" }
  field { number: 6 name: "allowed_batch_sizes" type: TYPE_INT64 label: LABEL_REPEATED }
  field { number: 7 name: "pad_variable_length_inputs" type: TYPE_BOOL } }
"""


@dataclass(frozen=True)
class BatchingParameters:
    """How requests are joined; the defaults are TensorFlow Serving's.

    Attributes:
        max_batch_size: Largest batch, patches; a larger request is refused.
        batch_timeout_micros: Longest time that a request waits for others, microseconds.
        max_enqueued_batches: Batches that may wait; further requests are refused as UNAVAILABLE.
        num_batch_threads: Batches processed in parallel.
        allowed_batch_sizes: Batches are padded to one of these; the last is `max_batch_size`. Empty: no padding.
    """

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    allowed_batch_sizes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Check what the scheduler would refuse only at the first request."""
        if min(self.max_batch_size, self.max_enqueued_batches, self.num_batch_threads) < 1:
            raise ValueError("counts must be positive")
        sizes = list(self.allowed_batch_sizes)
        if sizes and (sizes != sorted(set(sizes)) or sizes[0] < 1 or sizes[-1] != self.max_batch_size):
            raise ValueError("allowed_batch_sizes must be positive and rise to max_batch_size")


def read_batching_parameters(file: Path) -> BatchingParameters:
    """Read the file that TensorFlow Serving takes as `batching_parameters_file`, a text BatchingParameters.

    `thread_pool_name` and `pad_variable_length_inputs` have no effect.

    Raises:
        ServingError: The file cannot be read, or contains values that the scheduler cannot use.
    """
    try:
        message = text_format.Parse(file.read_text(encoding="utf-8"), _message_class()())
        numbers = {name: getattr(message, name).value for name in _NUMBERS if message.HasField(name)}
        return BatchingParameters(**numbers, allowed_batch_sizes=tuple(message.allowed_batch_sizes))
    except (OSError, ValueError, text_format.ParseError) as error:
        raise ServingError(
            "The batching parameters cannot be used.",
            case=file,
            found=str(error),
            expected="a text BatchingParameters, as serving/batching.config",
            remedy="Correct the file, or give another one.",
            arguments=("batching_parameters_file",),
        ) from error


def add_batching(
    graph: "tf.Graph", signatures: Mapping[str, meta_graph_pb2.SignatureDef], parameters: BatchingParameters
) -> dict[str, str]:
    """Add a batch scheduler for each signature whose requests can be joined, that is with rows of one known shape.

    A signature that TensorFlow saved is one call of a function. The scheduler calls the same function with the same
    weights, and has output tensors of its own; returns their names by the names of the plain ones.
    """
    batched: dict[str, str] = {}
    for signature in signatures.values():
        if not signature.method_name or not all(map(_can_be_joined, signature.inputs.values())):
            continue
        outputs = [graph.as_graph_element(info.name) for info in signature.outputs.values()]
        calls = {output.op for output in outputs if output.op.type in _CALLS}
        if len(calls) == 1:
            call = calls.pop()
            names = [tensor.name for tensor in _through_scheduler(graph, call, parameters)]
            batched |= dict(zip((plain.name for plain in call.outputs), names, strict=True))
    return batched


def _can_be_joined(info: meta_graph_pb2.TensorInfo) -> bool:
    return leads_with_batch(info) and all(dim.size > 0 for dim in info.tensor_shape.dim[1:])


def _through_scheduler(graph: "tf.Graph", call: "tf.Operation", parameters: BatchingParameters) -> "list[tf.Tensor]":
    """The call's outputs, computed for the rows of several requests at a time.

    Of the call's inputs only the placeholders are joined; the others are variables of other programs' models.
    """
    # Imported here: a server that joins no requests does not need the package.
    import tensorflow as tf

    fed = [tensor for tensor in call.inputs if tensor.op.type == "Placeholder"]
    weights = [tensor for tensor in call.inputs if tensor.op.type != "Placeholder"]
    order = [tensor.name for tensor in fed + weights]

    # TensorFlow does not optimize the function that a scheduler calls, but it optimizes one that is not inlined into
    # it, so that a convolution, its bias and its ReLU become one operation here too.
    @tf.function(autograph=False, experimental_attributes={"_noinline": True})
    def run(*args: tf.Tensor) -> list[tf.Tensor]:
        outputs: list[tf.Tensor] = tf.raw_ops.StatefulPartitionedCall(
            args=args, Tout=[output.dtype for output in call.outputs], f=call.get_attr("f")
        )
        return outputs

    @tf.nondifferentiable_batch_function(
        parameters.num_batch_threads,
        parameters.max_batch_size,
        parameters.batch_timeout_micros,
        list(parameters.allowed_batch_sizes) or None,
        parameters.max_enqueued_batches,
        autograph=False,
        enable_large_batch_splitting=False,
    )
    def run_joined(*rows: tf.Tensor) -> list[tf.Tensor]:
        args = dict(zip(order, (*rows, *weights), strict=True))
        return run(*(args[tensor.name] for tensor in call.inputs))

    with graph.as_default():
        outputs: list[tf.Tensor] = run_joined(*fed)
    return outputs


def _message_class() -> type:
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(text_format.Parse(_BATCHING_PARAMETERS, descriptor_pb2.FileDescriptorProto()))
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("ggn_tf.BatchingParameters"))
