"""The body of a request: `multipart/form-data`, whose file is written to the disk while it is received."""

import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from werkzeug.exceptions import BadRequest, RequestEntityTooLarge, UnsupportedMediaType
from werkzeug.formparser import FormDataParser
from werkzeug.wrappers import Request

from ggn_tf.monailabel.sessions import NoSpaceError

_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")
_MOST_PARTS = 8
_LARGEST_FIELD_BYTES = 256 << 10
_FORM = "multipart/form-data"


class _File:
    """Where the file of a form is written to: a CT in a folder, or nowhere."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self.path: Path | None = None
        self.opened = ExitStack()

    def open(
        self,
        total_content_length: int | None,
        content_type: str | None,
        filename: str | None,
        content_length: int | None = None,
    ) -> IO[bytes]:
        """Werkzeug's stream factory; of the client's file name only the known end is used."""
        if self._folder is None:
            return self.opened.enter_context(Path(os.devnull).open("wb"))
        suffix = next((suffix for suffix in _SUFFIXES if (filename or "").lower().endswith(suffix)), None)
        if suffix is None:
            raise UnsupportedMediaType(f"The name of the CT's file must end with {', '.join(_SUFFIXES)}.")
        if self.path is not None:
            raise BadRequest("The request must contain one file.")
        self.path = self._folder / f"ct{suffix}"
        return self.opened.enter_context(self.path.open("x+b"))


def form_bytes(request: Request, largest_bytes: int) -> int:
    """The size of a form that was not received yet; raises HTTPException where it is none, or is too large."""
    if request.mimetype != _FORM or request.content_length is None:
        raise UnsupportedMediaType(f"The request must be {_FORM} with a Content-Length.")
    if request.content_length > largest_bytes:
        raise RequestEntityTooLarge(f"The request must not have more than {largest_bytes} bytes.")
    return request.content_length


def receive_form(request: Request, folder: Path | None) -> tuple[Mapping[str, str], Path | None]:
    """Receive a form of which `form_bytes` has found the size.

    Args:
        request: The request.
        folder: Where its file is written to; None to discard files.

    Returns:
        The fields that are texts, and the file, if there is one.

    Raises:
        HTTPException: The form is damaged or incomplete, or the disk is full.
    """
    file = _File(folder)
    parser = FormDataParser(file.open, _LARGEST_FIELD_BYTES, silent=False, max_form_parts=_MOST_PARTS)
    try:
        with file.opened:
            _, form, _ = parser.parse(request.stream, _FORM, request.content_length, request.mimetype_params)
    except ValueError as error:
        raise BadRequest("The form is damaged or incomplete.") from error
    except OSError as error:
        # Of the connection's errors, werkzeug makes a BadRequest.
        raise NoSpaceError from error
    return form, file.path
