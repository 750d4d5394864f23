"""Clicks on voxels of a CT, and their answer: a mask on the grid of the CT's file, and a document."""

import json
import secrets
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813
from werkzeug.exceptions import BadRequest
from werkzeug.wrappers import Response

from ggn_tf.json_records import parse_document
from ggn_tf.prediction.locations import Voxel
from ggn_tf.prediction.nodules import RESEARCH_ONLY, CtPrediction
from ggn_tf.prediction.patch_warnings import PredictionWarning

_MOST_CLICKS = 64
_LARGEST_INDEX = 2**31
_EXTENSIONS = (".nii.gz", ".nii", ".nrrd")
_BACKGROUND = PredictionWarning("background_ignored", "Background clicks have no effect: the model does not use them.")


@dataclass(frozen=True)
class Clicks:
    """The parameters of a request.

    Attributes:
        nodules: One voxel on each nodule, in the order column, row, slice of the CT's file, from 0. MONAI Label's
            clients send `foreground` so: 3D Slicer by the volume's RAS-to-IJK matrix, OHIF by its volume's indices.
        extension: The mask's format, by the end of a file name.
        compressed: Whether the mask is compressed.
        wide: Whether its voxels have 16 bits instead of 8.
        warnings: What of the request has no effect.
    """

    nodules: tuple[Voxel, ...]
    extension: str = _EXTENSIONS[0]
    compressed: bool = True
    wide: bool = False
    warnings: tuple[PredictionWarning, ...] = ()


def read_clicks(text: str) -> Clicks:
    """Read the field `params` of a form; raises BadRequest."""
    try:
        params = parse_document(text.encode())
    except ValueError as error:
        raise BadRequest("params must be JSON.") from error
    if not isinstance(params, dict):
        raise BadRequest("params must be a JSON object.")
    extension = params.get("result_extension", _EXTENSIONS[0])
    if extension not in _EXTENSIONS:
        raise BadRequest(f"result_extension must be one of {', '.join(_EXTENSIONS)}.")
    return Clicks(
        tuple(map(_voxel, _foreground(params))),
        extension,
        params.get("result_compress") is not False,
        params.get("result_dtype") == "uint16",
        (_BACKGROUND,) if params.get("background") else (),
    )


def _foreground(params: dict[str, Any]) -> list[Any]:
    clicks = params.get("foreground")
    if not isinstance(clicks, list) or not 1 <= len(clicks) <= _MOST_CLICKS:
        raise BadRequest(f"params must contain foreground, a list of 1 to {_MOST_CLICKS} voxels [column, row, slice].")
    return clicks


def _voxel(click: Any) -> Voxel:
    numbers = isinstance(click, list) and len(click) == 3 and all(type(index) in (int, float) for index in click)
    if not numbers or not all(abs(index) < _LARGEST_INDEX for index in click):
        raise BadRequest("A voxel of foreground must be three numbers, [column, row, slice], from 0.")
    return Voxel(*map(round, click))


LABEL = "nodule"
"""The name of the mask's only label, 1."""
_OUTPUTS = ("all", "image", "json")
_CHUNK_BYTES = 1 << 20
_OCTETS = "application/octet-stream"


def refuse_unknown_output(output: str) -> None:
    """Raise BadRequest where there is no such form of an answer."""
    if output not in _OUTPUTS:
        raise BadRequest(f"output must be one of {', '.join(_OUTPUTS)}.")


def answer(prediction: CtPrediction, clicks: Clicks, output: str, folder: Path) -> Response:
    """Make the answer.

    `output` is `all` for a form of `params` and `image`, or one of them alone: `json`, `image`.
    """
    document = json.dumps(_document(prediction, clicks)).encode()
    if output == "json":
        return Response(document, content_type="application/json")
    name, mask = f"{LABEL}-{secrets.token_hex(8)}{clicks.extension}", _mask(prediction, clicks, folder)
    if output == "image":
        return _in_chunks([mask], _OCTETS, {"Content-Disposition": f'attachment; filename="{name}"'})
    boundary = secrets.token_hex(16)
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="params"\r\n'.encode(),
        b"Content-Type: application/json\r\n\r\n",
        document,
        f'\r\n--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
        f"Content-Type: {_OCTETS}\r\n\r\n".encode(),
        mask,
        f"\r\n--{boundary}--\r\n".encode(),
    ]
    return _in_chunks(parts, f"multipart/form-data; boundary={boundary}", {})


def _document(prediction: CtPrediction, clicks: Clicks) -> dict[str, Any]:
    return {
        "label_names": {LABEL: 1},
        "model_version": prediction.model_version,
        "nodules": [nodule.to_dict() for nodule in prediction.nodules],
        "warnings": [warning.to_dict() for warning in (*prediction.warnings, *clicks.warnings)],
        "caution": RESEARCH_ONLY,
    }


def _mask(prediction: CtPrediction, clicks: Clicks, folder: Path) -> bytes:
    # One value for all nodules: the clients expect the label that was clicked, and no other.
    labels = sitk.GetArrayViewFromImage(prediction.labels)
    image = sitk.GetImageFromArray((labels > 0).astype(np.uint16 if clicks.wide else np.uint8))
    image.CopyInformation(prediction.labels)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        file = Path(temporary, f"mask{clicks.extension}")
        sitk.WriteImage(image, str(file), useCompression=clicks.compressed)
        return file.read_bytes()


def _in_chunks(parts: list[bytes], content_type: str, headers: dict[str, str]) -> Response:
    """A response in parts, each of which a client has some seconds to take."""

    def chunks() -> Iterator[bytes]:
        for part in parts:
            for start in range(0, len(part), _CHUNK_BYTES):
                yield part[start : start + _CHUNK_BYTES]

    response = Response(chunks(), content_type=content_type, headers=headers)
    response.content_length = sum(map(len, parts))
    return response
