"""Dynamic batching: requests of several clients in one run of the graph, by TensorFlow's own scheduler."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from ggn_tf.errors import ServingError
from ggn_tf.serving.contract.tensors import leads_with_batch

_NUMBERS = ("max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads")
_SIZES = "allowed_batch_sizes"
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")


@dataclass(frozen=True)
class BatchingParameters:
    """How requests are joined; the defaults are TensorFlow Serving's.

    Attributes:
        max_batch_size: Patches in a batch; a request with more is refused.
        batch_timeout_micros: A request waits at most so long for company.
        max_enqueued_batches: What waits beyond is refused as UNAVAILABLE.
        num_batch_threads: Batches that are worked on at a time.
        allowed_batch_sizes: Batches are padded to one of these; the last one is `max_batch_size`. Empty: no padding.
    """

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    allowed_batch_sizes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Check, so that a scheduler is never made of what it would refuse at the first request."""
        sizes = self.allowed_batch_sizes
        rising = list(sizes) == sorted(set(sizes)) and (
            not sizes or (sizes[0] > 0 and sizes[-1] == self.max_batch_size)
        )
        if min(self.max_batch_size, self.max_enqueued_batches, self.num_batch_threads) < 1 or not rising:
            raise ValueError("counts are positive, and allowed_batch_sizes rise to max_batch_size")


def read_batching_parameters(file: Path) -> BatchingParameters:
    """Read a text `BatchingParameters`, the file that TensorFlow Serving takes as --batching_parameters_file.

    `thread_pool_name` changes nothing, nor does `pad_variable_length_inputs`: requests of several sizes are not joined.

    Raises:
        ServingError: The file cannot be read, or says what the scheduler cannot do.
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
            remedy="Correct the file; --batching_parameters_file names it.",
        ) from error


def add_batching(
    graph: tf.Graph, signatures: Mapping[str, meta_graph_pb2.SignatureDef], parameters: BatchingParameters
) -> dict[str, str]:
    """Put a scheduler before each signature whose requests can be joined: rows of one shape, of any number.

    A signature that TensorFlow saved is one call of a function. The scheduler calls the same function, with the same
    weights; what is asked for through it is fetched from tensors of its own.

    Returns:
        The name of the batched tensor by the name of the plain one.
    """
    batched: dict[str, str] = {}
    for signature in signatures.values():
        if not signature.method_name:
            continue
        outputs = [graph.as_graph_element(info.name) for info in signature.outputs.values()]
        calls = {output.op for output in outputs if output.op.type in _CALLS}
        if len(calls) != 1 or not all(map(_joinable, signature.inputs.values())):
            continue
        call = calls.pop()
        batched.update(
            {
                plain.name: joined.name
                for plain, joined in zip(call.outputs, _join(graph, call, parameters), strict=True)
            }
        )
    return batched


def _joinable(info: meta_graph_pb2.TensorInfo) -> bool:
    """Whether rows of several requests can be joined: their number is open, and all other sizes are known."""
    return leads_with_batch(info) and all(dim.size > 0 for dim in info.tensor_shape.dim[1:])


def _join(graph: tf.Graph, call: tf.Operation, parameters: BatchingParameters) -> list[tf.Tensor]:
    """The call's outputs by way of a scheduler.

    The call's inputs are what is asked about and, in models of other programs, the variables, which are not joined.
    """
    fed = [tensor for tensor in call.inputs if tensor.op.type == "Placeholder"]
    weights = [tensor for tensor in call.inputs if tensor.op.type != "Placeholder"]
    order = [tensor.name for tensor in fed + weights]

    # What a scheduler calls is run as it is written. A function that is not merged into it is optimized by itself, so
    # that a convolution, its bias and its ReLU become one operation here too.
    @tf.function(autograph=False, experimental_attributes={"_noinline": True})
    def answer(*args: tf.Tensor) -> list[tf.Tensor]:
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
    def joined(*rows: tf.Tensor) -> list[tf.Tensor]:
        args = dict(zip(order, (*rows, *weights), strict=True))
        return answer(*(args[tensor.name] for tensor in call.inputs))

    with graph.as_default():
        outputs: list[tf.Tensor] = joined(*fed)
    return outputs


def _message_class() -> type:
    """The message that no Python package brings, with TensorFlow Serving's own field names."""
    file = descriptor_pb2.FileDescriptorProto(
        name="batching_parameters.proto",
        package="ggn_tf",
        syntax="proto3",
        dependency=["google/protobuf/wrappers.proto"],
    )
    message = file.message_type.add(name="BatchingParameters")
    kinds = descriptor_pb2.FieldDescriptorProto
    for name in _NUMBERS:
        message.field.add(name=name, type=kinds.TYPE_MESSAGE, type_name=".google.protobuf.Int64Value")
    message.field.add(name="thread_pool_name", type=kinds.TYPE_MESSAGE, type_name=".google.protobuf.StringValue")
    message.field.add(name=_SIZES, type=kinds.TYPE_INT64)
    message.field.add(name="pad_variable_length_inputs", type=kinds.TYPE_BOOL)
    for number, described in enumerate(message.field, start=1):
        described.number = number
        described.label = kinds.LABEL_REPEATED if described.name == _SIZES else kinds.LABEL_OPTIONAL
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("ggn_tf.BatchingParameters"))
