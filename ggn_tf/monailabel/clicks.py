"""What a client asks for: voxels of the CT that were clicked, and the form of the answer."""

from dataclasses import dataclass
from typing import Any

from werkzeug.exceptions import BadRequest

from ggn_tf.json_records import parse_document
from ggn_tf.prediction.locations import Voxel
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
