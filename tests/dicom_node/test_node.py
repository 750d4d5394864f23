"""A node with a model of these tests and a DICOMweb archive of these tests."""

import logging
import re
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from ggn_tf.cases.reader_process import ReaderEndedError
from ggn_tf.dicom_node.node import DicomNode
from ggn_tf.dicom_node.study import digest_of
from ggn_tf.dicom_node.study_queue import StudyQueue
from ggn_tf.errors import PacsError, ServingError, VolumeError
from tests.support.fake_dicomweb import Archive
from tests.support.node_studies import (
    NAME,
    PATIENT,
    SOON,
    SR,
    answer,
    deliver_to,
    expected_uid,
    instance,
    options,
    send,
    whole_study,
)

Node = tuple[DicomNode, StudyQueue, Archive]


@contextmanager
def running(folder: Path, respond: Callable = answer, archive: Archive | None = None):
    archive, queue = archive or Archive(), StudyQueue(folder, SOON)
    with archive.serve() as url, DicomNode(queue, options(), respond, deliver_to(url), status_port=0) as node:
        yield node, queue, archive


def wait(condition: Callable[[], bool], patience_s: float = 60.0) -> None:
    ends = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < ends, "it takes too long"
        time.sleep(0.02)


def states(queue: StudyQueue) -> dict[str, int]:
    return {state: count for state, count in queue.status()["states"].items() if count}


def test_a_marked_study_is_answered_and_delivered_and_its_data_are_deleted(tmp_path: Path, caplog) -> None:
    caplog.set_level(logging.DEBUG, "ggn_tf")
    with running(tmp_path / "queue") as (node, queue, archive):
        assert send(node.address, whole_study(1)) == [0, 0, 0]
        wait(lambda: states(queue) == {"delivered": 1})
        assert [*archive.instances] == [expected_uid([instance(1, SR).SOPInstanceUID])]
        page = requests.get(node.status_address, timeout=5).text
        assert (
            "delivered" in page
            and requests.get(f"{node.status_address}/status.json", timeout=5).json() == queue.status()
        )
    files = [path for path in (tmp_path / "queue").rglob("*") if path.is_file()]
    assert sorted(path.name for path in files) == [".lock", "known.txt", "record.json"]
    seen = page + caplog.text + "".join(path.read_text() for path in files)
    assert NAME not in seen and PATIENT not in seen and "2.25." not in seen
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o700}


def test_what_is_sent_again_is_not_answered_again_but_a_new_mark_is(tmp_path: Path) -> None:
    with running(tmp_path) as (node, queue, archive):
        send(node.address, whole_study(1))
        wait(lambda: states(queue) == {"delivered": 1})
        report = archive.headers()[0]
        # The archive routes the study again, with our own report.
        send(node.address, [*whole_study(1), report])
        wait(lambda: states(queue) == {"delivered": 1})
        assert len(archive.requests) == 1
        send(node.address, [*whole_study(1), instance(1, SR, number=1)])
        wait(lambda: states(queue) == {"delivered": 2})
        markers = [instance(1, SR, number).SOPInstanceUID for number in (0, 1)]
        assert {*archive.instances} == {expected_uid([marker]) for marker in markers}


def test_an_archive_that_does_not_take_the_answer_gets_it_later(tmp_path: Path, caplog) -> None:
    archive = Archive(status={"store": 503})
    with running(tmp_path, archive=archive) as (node, queue, _):
        send(node.address, whole_study(1))
        wait(lambda: len(archive.requests) > 2)
        (study,) = queue.status()["studies"]
        assert study["state"] == "answered" and "503" in study["reason"] and study["attempts"] >= 2
        archive.status.clear()
        wait(lambda: states(queue) == {"delivered": 1})
    assert len(archive.instances) == 1
    assert re.search(
        rf"study {study['study']}: attempt 1 failed: .* Archive: http://127\.0\.0\.1:\d+/.*503", caplog.text
    )


def test_what_may_pass_is_tried_again_and_a_study_that_cannot_be_answered_has_failed(tmp_path: Path, caplog) -> None:
    caplog.set_level(logging.DEBUG, "ggn_tf")
    ended = VolumeError("The process that read the CT ended.")
    ended.__cause__ = ReaderEndedError("memory ran out")
    data = VolumeError("No CT.", case=NAME, found=NAME)
    credentials = PacsError("No credentials.", case=tmp_path / NAME, found="no text")
    passing = [credentials, ServingError("No server."), MemoryError(), ended]
    errors = [*passing, *[ValueError(NAME)] * 3, data, *[ValueError(NAME)] * 5]

    def respond(instances: Path, output: Path) -> tuple[list[Path], str]:
        raise errors.pop(0)

    with running(tmp_path, respond) as (node, queue, archive):
        for study in (1, 2):
            send(node.address, whole_study(study))
            wait(lambda study=study: states(queue) == {"failed": study})
        reasons = [study["reason"] for study in queue.status()["studies"]]
    assert reasons == ["An unexpected error (ValueError).", "No CT."] and not archive.requests and not errors
    assert "attempt 1 failed: No credentials. Found: no text." in caplog.text
    failed = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    digests = [digest_of(instance(study, SR).StudyInstanceUID) for study in (1, 2)]
    assert [text for text in failed if "attempt" not in text] == [
        f"study {digest}: failed {reason}" for digest, reason in zip(digests, reversed(reasons), strict=True)
    ]
    assert NAME not in caplog.text and str(tmp_path) not in caplog.text and "ValueError in test_node.py" in caplog.text
    assert not [*tmp_path.rglob("*.dcm")]
    # Sent again, it is answered.
    with running(tmp_path) as (node, queue, archive):
        assert states(queue) == {"failed": 2}
        send(node.address, whole_study(1))
        wait(lambda: states(queue) == {"failed": 2, "delivered": 1})


def test_a_queue_belongs_to_one_process(tmp_path: Path) -> None:
    with running(tmp_path), pytest.raises(PacsError) as caught, running(tmp_path):
        pass
    assert caught.value.arguments == ("queue",)


def test_the_status_page_is_for_this_machine(tmp_path: Path) -> None:
    with running(tmp_path / "queue") as (node, _, _):
        taken = int(node.status_address.rsplit(":", 1)[1])
        with pytest.raises(PacsError) as caught:
            DicomNode(StudyQueue(tmp_path / "other"), options(), answer, deliver_to(""), status_port=taken)
        assert caught.value.arguments == ("status_port",)
        strange = requests.get(node.status_address, headers={"Host": "evil.example:80"}, timeout=5)
        assert strange.status_code == 403
        assert requests.get(f"{node.status_address}/other", timeout=5).status_code == 404
