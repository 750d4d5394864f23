"""Recorded requests in an export: TFRecord files of PredictionLog, TensorFlow Serving's format of warm-up requests."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from ggn_tf.errors import ExportError
from ggn_tf.serving.contract.names import ASSETS_EXTRA, GOLDEN_FILE


def write_records(
    file: Path, pairs: Iterable[tuple[predict_pb2.PredictRequest, predict_pb2.PredictResponse | None]]
) -> None:
    """Write requests, each with its response where there is one."""
    with tf.io.TFRecordWriter(str(file)) as writer:
        for request, response in pairs:
            log = prediction_log_pb2.PredictLog(request=request, response=response)
            writer.write(prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString())


def read_records(file: Path) -> Iterator[prediction_log_pb2.PredictLog]:
    """Read requests with their responses.

    Raises:
        ValueError: The file is missing or damaged.
    """
    try:
        for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
            yield prediction_log_pb2.PredictionLog.FromString(record).predict_log
    except (tf.errors.OpError, DecodeError) as error:
        raise ValueError(str(error).splitlines()[0]) from error


def read_golden(version_folder: Path) -> list[tuple[predict_pb2.PredictRequest, predict_pb2.PredictResponse]]:
    """Read the golden requests of a version with the responses that the export gave.

    Raises:
        ExportError: There are none, or the file is damaged.
    """
    file = version_folder / ASSETS_EXTRA / GOLDEN_FILE
    try:
        pairs = [(log.request, log.response) for log in read_records(file)]
        if not pairs:
            raise ValueError("no record")
    except ValueError as error:
        raise ExportError(
            "The version's golden predictions cannot be read.",
            case=file,
            found=str(error),
            expected="a TFRecord file of PredictionLog",
            remedy="Export the run again.",
        ) from error
    return pairs
