"""Warm-up: run an export's recorded requests before the version becomes available."""

from pathlib import Path

from ggn_tf.errors import ExportError
from ggn_tf.serving.contract.names import ASSETS_EXTRA, WARMUP_FILE
from ggn_tf.serving.contract.recorded_requests import read_records
from ggn_tf.serving.contract.status_error import StatusError
from ggn_tf.serving.runtime.predict_request import predict
from ggn_tf.serving.runtime.servable import Servable

_MOST_RECORDS = 1000


def warm_up(servable: Servable, version_folder: Path) -> int:
    """Run the warm-up requests of a version, if it has any.

    Returns:
        Their number.

    Raises:
        ExportError: The file is damaged or has more than 1000 records, or a request fails.
    """
    file = version_folder / ASSETS_EXTRA / WARMUP_FILE
    count = 0
    if not file.exists():
        return count
    try:
        for count, log in enumerate(read_records(file), start=1):
            if count > _MOST_RECORDS:
                raise ValueError(f"more than {_MOST_RECORDS} records")
            predict(servable, log.request)
    except (StatusError, ValueError) as error:
        raise ExportError(
            "The version's warm-up failed.",
            case=file,
            found=error.message if isinstance(error, StatusError) else str(error),
            expected="requests that fit the version's signatures",
            remedy="Export the run again.",
        ) from error
    return count
