"""A node: what it receives is answered, and the answers are delivered, each in a thread of its own.

Its status is a page and a JSON document, for this machine alone.
"""

import json
import logging
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pydicom
from werkzeug.exceptions import Forbidden, HTTPException, NotFound
from werkzeug.wrappers import Request, Response

from ggn_tf.cases.reader_process import ReaderEndedError
from ggn_tf.dicom_node.receiver import Receiver, ReceiverOptions, cannot_listen
from ggn_tf.dicom_node.study import State, Study
from ggn_tf.dicom_node.study_queue import StudyQueue
from ggn_tf.errors import ArchiveError, GgnError, LocationError, MaskError, PacsError, ServingError, VolumeError
from ggn_tf.evaluation.report.page import Page, Section, Table, page_html
from ggn_tf.monailabel.http_server import HttpServer
from ggn_tf.serving.contract.tls import is_loopback
from ggn_tf.shown_text import kind_of

_HOST = "127.0.0.1"
_MOST_ROWS = 200


class StatusPage:
    """Serves the status on loopback until it is closed: `/` for people, `/status.json` for programs.

    Args:
        port: Port to listen on; 0 picks a free one.

    Raises:
        PacsError: The port is taken.
    """

    def __init__(self, queue: StudyQueue, port: int) -> None:
        self._queue = queue
        try:
            self._server = HttpServer(_HOST, port, Request.application(self._respond), lambda: None)
        except OSError as error:
            raise cannot_listen(f"{_HOST}:{port}", error, "status_port") from error
        self._server.start()
        self.address = f"http://{_HOST}:{self._server.server_port}"

    def close(self) -> None:
        """Stop."""
        self._server.close(0.0)

    def _respond(self, request: Request) -> Response | HTTPException:
        # Another name could lead scripts of a web page to this machine.
        if not is_loopback(request.host.rpartition(":")[0] or request.host):
            return Forbidden()
        if request.path == "/status.json":
            return Response(json.dumps(self._queue.status()), content_type="application/json")
        return Response(_page(self._queue.status()), content_type="text/html") if request.path == "/" else NotFound()


def refuse_taken(port: int) -> None:
    """Raise PacsError where another program uses the port of a status page."""
    try:
        socket.create_server((_HOST, port)).close()
    except OSError as error:
        raise cannot_listen(f"{_HOST}:{port}", error, "status_port") from error


def _page(status: dict[str, Any]) -> str:
    states = Table([], list(status["states"].items()), "Studies by state")
    shown = status["studies"][:_MOST_ROWS]
    heading = [name.capitalize() for name in shown[0]] if shown else []
    studies = Table(heading, [list(study.values()) for study in shown], "Studies that are not delivered, newest first")
    sections = [Section("states", "States", [states]), Section("studies", "Studies", [studies] if shown else [])]
    subtitle = f"{status['bytes'] / 1e6:.0f} MB of instances. Studies are named by the SHA-256 of their UID."
    return page_html(Page("DICOM node", subtitle, [], sections))


log = logging.getLogger(__name__)

Answer = Callable[[Path, Path], tuple[Sequence[Path], str]]
"""Makes the DICOM objects about a study from its instances (`StudyQueue.instances`), in a folder that it may create or
replace; returns their paths in it, and what they lack."""
Deliver = Callable[[Sequence[Path]], None]
"""Stores DICOM objects of one study in an archive; the same ones may be stored again."""
# Their causes pass without a change of the study.
_TEMPORARY = (ServingError, PacsError, OSError, MemoryError)
# Their causes do not, unless memory ran out in the process that read it.
_LASTING = (LocationError, MaskError, VolumeError)
# Attempts of a study that fail for other reasons.
_MOST_FAULTS = 5
_POLL_S, _AFTER_ERROR_S = 0.2, 2.0


class DicomNode(AbstractContextManager["DicomNode"]):
    """Works until its `with` block is left; what is under way then is continued by the next node with the same queue.

    Args:
        status_port: Port of the status page on loopback; 0 picks a free one, None for no page.

    Attributes:
        address: HOST:PORT for DICOM.
        status_address: URL of the status page; None for none.

    Raises:
        PacsError: It cannot listen, or another process uses the queue.
    """

    def __init__(
        self,
        queue: StudyQueue,
        options: ReceiverOptions,
        answer: Answer,
        deliver: Deliver,
        status_port: int | None = None,
    ) -> None:
        self._queue, self._answer, self._deliver = queue, answer, deliver
        self._stopping = threading.Event()
        with ExitStack() as opened:
            opened.enter_context(queue.opened())
            receiver = Receiver(options, queue.receive)
            opened.callback(receiver.close)
            self.address, self.status_address = receiver.address, None
            if status_port is not None:
                page = StatusPage(queue, status_port)
                opened.callback(page.close)
                self.status_address = page.address
            steps = ((State.READY, self._answer_study), (State.ANSWERED, self._deliver_study))
            threads = [threading.Thread(target=self._work, args=step, daemon=True) for step in steps]
            for thread in threads:
                thread.start()
                opened.callback(thread.join)
            opened.callback(self._stopping.set)
            receiver.start()
            self._opened = opened.pop_all()

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def _work(self, state: State, step: Callable[[Study], None]) -> None:
        while not self._stopping.is_set():
            study, pause_s = None, _POLL_S
            try:
                if state is State.READY:
                    self._queue.settle()
                study = self._queue.take(state)
                if study is not None:
                    step(study)
                    continue
            except Exception as error:  # a full disk, or an error in this program, must not end the node
                log.error("%s", kind_of(error))
                pause_s = _AFTER_ERROR_S
                if study is not None:
                    self._queue.postpone(study, _reason(error))
            self._stopping.wait(pause_s)

    def _answer_study(self, study: Study) -> None:
        try:
            files, note = self._answer(self._queue.instances(study), self._queue.answer(study))
            uids = [_uid(path) for path in files]
        except _TEMPORARY as error:
            self._queue.postpone(study, _reason(error))
        except Exception as error:  # of one study, which must not keep others from their answer
            log.error("%s", kind_of(error))
            study.faults += 1
            lasting = isinstance(error, _LASTING) and not isinstance(error.__cause__, ReaderEndedError)
            end = self._queue.fail if lasting or study.faults >= _MOST_FAULTS else self._queue.postpone
            end(study, _reason(error))
        else:
            self._queue.answered(study, files, uids, note)

    def _deliver_study(self, study: Study) -> None:
        try:
            self._deliver([self._queue.answer(study) / name for name in study.record.files])
        except Exception as error:  # the archive may take them later
            self._queue.postpone(study, _reason(error))
        else:
            self._queue.delivered(study)


def _uid(file: Path) -> str:
    header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["SOPInstanceUID"])
    return str(header.SOPInstanceUID)


def _reason(error: Exception) -> str:
    """Why an attempt failed; which archive and what was found only where it never quotes a header or a path."""
    if isinstance(error, PacsError | LocationError) and error.found:
        archive = f" Archive: {error.case}." if isinstance(error, ArchiveError) else ""
        return f"{error.what}{archive} Found: {error.found}."
    return error.what if isinstance(error, GgnError) else f"An unexpected error ({type(error).__name__})."
