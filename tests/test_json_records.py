import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ggn_tf.dataset.dataset_json import read_description
from ggn_tf.errors import DatasetError, RecordError
from ggn_tf.json_records import (
    added_later,
    from_json,
    parse_document,
    read_document,
    to_json,
    with_digest,
    without_digest,
)
from ggn_tf.protocol import Protocol
from ggn_tf.tasks import Task


@dataclass(frozen=True)
class Note:
    task: Task
    texts: dict[str, str]
    items: tuple[str, ...] = ()
    comment: str = added_later("none")


DOCUMENT = {"task": "AIS+MIA,IAC", "texts": {"b": "2", "a": "1"}, "items": ["x"], "comment": "none"}


def stored(record: object = None) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(json.dumps(to_json(record or Protocol())))
    return document


def test_a_protocol_survives_json() -> None:
    changed = dataclasses.replace(Protocol(), cnn=dataclasses.replace(Protocol().cnn, channels=(2, 2), dropout=0.0))
    assert from_json(Protocol, stored(changed)) == changed


def test_the_protocols_document_keeps_its_form() -> None:
    assert json.dumps(to_json(Protocol().training.joint)) == (
        '{"learning_rate": 1e-05, "max_epochs": 120, '
        '"schedule": {"factor": 0.5, "every": 30, "kind": "steps"}, "patience": 50, "shift_mm": 0.0}'
    )


def test_tasks_are_text_and_fields_keep_their_order() -> None:
    note = Note(Task.parse("AIS+MIA,IAC"), {"b": "2", "a": "1"}, ("x",))
    assert json.dumps(to_json(note)) == json.dumps(DOCUMENT)
    assert from_json(Note, stored(note)) == note


def test_only_a_field_that_was_added_later_may_be_missing() -> None:
    assert from_json(Note, {**DOCUMENT, "comment": "new"}).comment == "new"
    assert from_json(Note, {name: DOCUMENT[name] for name in ("task", "texts", "items")}).comment == "none"
    with pytest.raises(RecordError) as caught:
        from_json(Note, {name: DOCUMENT[name] for name in ("task", "texts")})
    assert (caught.value.case, caught.value.found) == ("Note", "task, texts")
    assert caught.value.expected == "comment, items, task, texts"


def test_unknown_fields_are_refused_except_around_a_record() -> None:
    document = {**DOCUMENT, "surprise": 1}
    with pytest.raises(RecordError, match="surprise"):
        from_json(Note, document)
    assert from_json(Note, document, ignore_unknown=True) == from_json(Note, DOCUMENT)
    document = stored()
    document["patch"]["surprise"] = 1
    with pytest.raises(RecordError, match="surprise"):
        from_json(Protocol, document, ignore_unknown=True)


def test_an_int_is_a_float() -> None:
    document = stored()
    document["training"]["l2"] = 1
    assert isinstance(from_json(Protocol, document).training.l2, float)


@pytest.mark.parametrize(
    ("path", "value", "case", "expected"),
    [
        (("patch", "size"), "32", "Protocol.patch.size", "int"),
        (("patch", "size"), True, "Protocol.patch.size", "int"),
        (("patch", "size"), 32.0, "Protocol.patch.size", "int"),
        (("patch", "window_hu"), [-1024.0], "Protocol.patch.window_hu", "tuple[float, float]"),
        (("patch", "window_hu"), "-1024", "Protocol.patch.window_hu", "tuple[float, float]"),
        (("patch", "window_hu"), [-1024.0, True], "Protocol.patch.window_hu[1]", "float"),
        (("training", "joint", "schedule"), {"kind": "cosine"}, "Protocol.training.joint.schedule", "Plateau or Steps"),
        (("training", "joint", "schedule"), 4, "Protocol.training.joint.schedule", "Plateau or Steps"),
        (("training", "joint", "learning_rate"), None, "Protocol.training.joint.learning_rate", "float"),
    ],
)
def test_a_wrong_value_is_refused_by_its_path(path: tuple[str, ...], value: object, case: str, expected: str) -> None:
    document = stored()
    inner = document
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    with pytest.raises(RecordError) as caught:
        from_json(Protocol, document)
    assert (caught.value.case, caught.value.expected) == (case, expected)


@pytest.mark.parametrize(
    ("change", "case"),
    [
        ({"task": "AIS"}, "Note.task"),
        ({"task": 3}, "Note.task"),
        ({"texts": ["a"]}, "Note.texts"),
        ({"texts": {"a": 1}}, "Note.texts['a']"),
        ({"items": ["a", 1]}, "Note.items[1]"),
    ],
)
def test_tasks_texts_and_lists_are_checked(change: dict[str, object], case: str) -> None:
    with pytest.raises(RecordError) as caught:
        from_json(Note, {**DOCUMENT, **change})
    assert caught.value.case == case


@pytest.mark.parametrize("document", [None, 3, "text", [], {}])
def test_something_else_is_refused(document: object) -> None:
    with pytest.raises(RecordError) as caught:
        from_json(Protocol, document)
    assert caught.value.case == "Protocol"


def test_a_document_has_its_digest_and_older_ones_have_none() -> None:
    document = {"b": [1.5, None], "a": {"é": (1, 2)}, "n": {3: "x"}}
    written = json.loads(json.dumps(with_digest(document)))
    assert without_digest(written) == {"b": [1.5, None], "a": {"é": [1, 2]}, "n": {"3": "x"}}
    assert without_digest(document) == document
    for wrong in ({**written, "b": [1.6, None]}, {**written, "further": 1}, {**written, "sha256": None}, ["a"]):
        with pytest.raises(ValueError, match="SHA-256|no JSON object"):
            without_digest(wrong)


def test_half_a_character_is_refused_and_a_whole_one_is_read() -> None:
    for half in (rb'"\ud83d"', rb'{"\uDE00": 1}', rb'["\ude00\ud83d"]'):
        with pytest.raises(ValueError, match="surrogates"):
            parse_document(half)
    assert parse_document(rb'"\ud83d\ude00"') == "\U0001f600"


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "run.json").open("wb") as file:
        file.truncate(2**28 + 1)
    with pytest.raises(ValueError, match="268435457 bytes, more than 268435456"):
        read_document(tmp_path / "run.json")
    with (tmp_path / "dataset.json").open("wb") as file:
        file.truncate(2**32 + 1)
    with pytest.raises(DatasetError) as caught:
        read_description(tmp_path)
    assert "4294967297 bytes, more than 4294967296" in str(caught.value)


def test_a_pipe_is_not_read(tmp_path: Path) -> None:
    """Nothing may ever be written to it, and a device such as /dev/zero has no end."""
    os.mkfifo(tmp_path / "folds.json")
    with pytest.raises(ValueError, match="not a regular file"):
        read_document(tmp_path / "folds.json")
