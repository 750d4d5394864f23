"""Frozen dataclasses as JSON documents, and read back strictly: a wrong field is reported by its path."""

import dataclasses
import hashlib
import json
import math
import re
import types
import typing
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ggn_tf.errors import GgnError, RecordError
from ggn_tf.files import atomic_file
from ggn_tf.tasks import Task

if TYPE_CHECKING:
    import cattrs

Record = TypeVar("Record")
_Hook = Callable[[Any, Any], Any]
_ADDED_LATER = "added_later"
# Our documents have up to eight levels; Python's limit of nested calls is far above.
_MOST_LEVELS = 32
# A sparse file of gigabytes occupies only kilobytes on the disk.
_MOST_BYTES = 1 << 28
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_LONGEST_TEXT = 200
_DIGEST = "sha256"


def read_document(file: Path, *, most_bytes: int = _MOST_BYTES) -> Any:
    """Read one of our JSON files.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is not a regular file, has more bytes, is not JSON in UTF-8, is nested too deeply, contains a key
            twice, a number that is not finite, or a text that is not Unicode.
    """
    if file.exists() and not file.is_file():
        raise ValueError("not a regular file")
    if (size := file.stat().st_size) > most_bytes:
        raise ValueError(f"{size} bytes, more than {most_bytes}")
    return parse_document(file.read_bytes())


def parse_document(content: bytes) -> Any:
    """As `read_document`, from the file's content."""
    try:
        document = json.loads(
            content.decode("utf-8"), object_pairs_hook=_unique, parse_float=_finite, parse_constant=_finite
        )
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not _nests_little(content) and not _is_shallow(document):
        raise ValueError(f"nested deeper than {_MOST_LEVELS} levels")
    if _SURROGATE.search(content) and not _is_text(document):
        raise ValueError("half of a pair of UTF-16 surrogates, which is not a character")
    return document


def _is_text(document: Any) -> bool:
    """Whether all texts can be written to files."""
    try:
        json.dumps(document, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _nests_little(content: bytes) -> bool:
    """Whether the brackets alone show that a document has few levels; fast, and false also for brackets in texts."""
    brackets = content.translate(None, _NO_BRACKETS)
    for _ in range(_MOST_LEVELS):
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
    return not brackets


def _is_shallow(document: Any) -> bool:
    level = [document]
    for _ in range(_MOST_LEVELS):
        nested = [item for item in level if isinstance(item, (dict, list))]
        level = [inner for item in nested for inner in (item.values() if isinstance(item, dict) else item)]
    return not any(isinstance(item, (dict, list)) for item in level)


def with_digest(document: dict[str, Any]) -> dict[str, Any]:
    """A document of JSON types with the SHA-256 of its content, for `without_digest`."""
    return {**document, _DIGEST: _digest_of(document)}


def without_digest(document: Any, *, required: bool = False) -> dict[str, Any]:
    """The document that `with_digest` was given.

    One without a digest, as of older versions, is returned as it is, unless the digest is `required`.

    Raises:
        ValueError: It is not an object, or does not have its digest.
    """
    if not isinstance(document, dict) or (required and _DIGEST not in document):
        raise ValueError("no JSON object" if not isinstance(document, dict) else "no SHA-256")
    content = {name: value for name, value in document.items() if name != _DIGEST}
    if _DIGEST in document and document[_DIGEST] != _digest_of(content):
        raise ValueError("content that does not have its SHA-256")
    return content


def _digest_of(document: dict[str, Any]) -> str:
    # Of what is read back: all keys are texts, and tuples are lists.
    read_back = json.loads(json.dumps(document, allow_nan=False))
    return hashlib.sha256(json.dumps(read_back, sort_keys=True).encode()).hexdigest()


def write_record(record: Any, file: Path, schema: int) -> None:
    """Save a dataclass with the number of its schema and the SHA-256 of the content, for `read_record`."""
    text = json.dumps(with_digest({"schema": schema, **to_json(record)}), indent=1, allow_nan=False)
    with atomic_file(file) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_record(kind: type[Record], file: Path, schema: int, refused: Callable[[str], GgnError]) -> Record:
    """Read what `write_record` wrote; raises the error that `refused` makes of the reason.

    The file must be there, have the digest of its content, be of this schema, and have the fields of the dataclass.
    """
    try:
        content = without_digest(read_document(file), required=True)
        if content.get("schema") != schema:
            raise ValueError(f"schema {content.get('schema')}")
        return from_json(kind, content, ignore_unknown=True)
    except (OSError, ValueError, RecordError) as error:
        found = f"{error.case}: {error.found}" if isinstance(error, RecordError) else f"{type(error).__name__}: {error}"
        raise refused(found) from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a key occurs twice")
    return document


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is not a finite number")
    return number


def added_later(default: Any) -> Any:
    """A dataclass field that documents of older versions lack.

    Every other field must be in the document, those with a default included.
    """
    return dataclasses.field(default=default, metadata={_ADDED_LATER: True})


def to_json(record: Any) -> dict[str, Any]:
    """A dataclass as JSON types, its fields in their order; `from_json` returns an equal object.

    Takes a dataclass of numbers, text, tuples, mappings, tasks and such dataclasses.
    """
    return typing.cast(dict[str, Any], _converter().unstructure(record))


def from_json(kind: type[Record], document: object, *, ignore_unknown: bool = False) -> Record:
    """Read what `to_json` wrote.

    An int is accepted for a float; a bool is not an int.

    Args:
        kind: The dataclass.
        document: JSON types.
        ignore_unknown: Whether the document may have further fields beside the dataclass's own; those within it never.

    Raises:
        RecordError: A field is missing, unknown, or not of its type; `case` is its path.
    """
    if ignore_unknown and isinstance(document, dict):
        names = {part.name for part in dataclasses.fields(typing.cast(Any, kind))}
        document = {name: value for name, value in document.items() if name in names}
    try:
        return _converter().structure(document, kind)
    except Exception as error:
        raise _wrong_field(error, kind.__name__, document, kind) from error


def _wrong_field(error: BaseException, path: str, found: Any, kind: Any) -> RecordError:
    """The error about the innermost field that is wrong; cattrs notes the steps on the way to it."""
    import cattrs

    if isinstance(error, cattrs.ClassValidationError):
        for inner, field in error.group_exceptions()[0]:
            return _wrong_field(inner, f"{path}.{field.name}", found[field.name], field.type)
    if isinstance(error, cattrs.IterableValidationError):
        for inner, item in error.group_exceptions()[0]:
            return _wrong_field(inner, f"{path}[{item.index!r}]", found[item.index], item.type)
    if dataclasses.is_dataclass(kind) and isinstance(found, dict):
        found, expected = ", ".join(sorted(found)), ", ".join(sorted(part.name for part in dataclasses.fields(kind)))
    else:
        expected = error.expected if isinstance(error, GgnError) and error.expected else _name(kind)
    return RecordError(
        "A stored record cannot be read.",
        case=path,
        found=str(found)[:_LONGEST_TEXT],
        expected=expected,
        remedy="Use the version of ggn-tf that wrote it, or make the dataset or run again.",
    )


def _name(kind: Any) -> str:
    if isinstance(kind, types.UnionType):
        return " or ".join(map(_name, typing.get_args(kind)))
    return kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind).replace("typing.", "")


def _refuse(value: object) -> typing.NoReturn:
    raise ValueError(f"unexpected {type(value).__name__}")


def _read_record(kind: Any, converter: "cattrs.BaseConverter") -> _Hook:
    from cattrs.gen import make_dict_structure_fn

    read = make_dict_structure_fn(kind, converter)
    names = {part.name for part in dataclasses.fields(kind)}
    required = {part.name for part in dataclasses.fields(kind) if _ADDED_LATER not in part.metadata}

    def read_whole(document: Any, _: object) -> Any:
        complete = isinstance(document, dict) and required <= document.keys() <= names
        return read(document, kind) if complete else _refuse(document)

    return read_whole


def _is_tuple(kind: Any) -> bool:
    return typing.get_origin(kind) is tuple


def _read_list(kind: Any, converter: "cattrs.BaseConverter") -> _Hook:
    """Lists for tuples of one type; cattrs alone would read a text letter by letter."""
    from cattrs.cols import list_structure_factory

    *_, last = kinds = typing.get_args(kind)
    length = None if last is Ellipsis else len(kinds)
    read = list_structure_factory(kind, converter)

    def read_tuple(stored: Any, _: object) -> Any:
        fits = isinstance(stored, list) and length in (None, len(stored))
        return tuple(read(stored, kind)) if fits else _refuse(stored)

    return read_tuple


@cache
def _converter() -> "cattrs.Converter":
    # With attrs, a quarter of the time in which the command line starts.
    import cattrs

    converter = cattrs.Converter(unstruct_collection_overrides={tuple: list})
    converter.register_structure_hook_factory(dataclasses.is_dataclass, _read_record)
    converter.register_structure_hook_factory(_is_tuple, _read_list)
    for kind in (int, str, bool):
        converter.register_structure_hook(kind, lambda value, kind: value if type(value) is kind else _refuse(value))
    converter.register_structure_hook(
        float, lambda value, _: float(value) if type(value) in (int, float) else _refuse(value)
    )
    converter.register_structure_hook(Task, lambda text, _: Task.parse(text))
    converter.register_unstructure_hook(Task, str)
    return converter
