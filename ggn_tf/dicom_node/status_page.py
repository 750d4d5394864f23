"""The status of a node as a page and as JSON, for this machine alone."""

import json
import socket
from typing import Any

from werkzeug.exceptions import Forbidden, HTTPException, NotFound
from werkzeug.wrappers import Request, Response

from ggn_tf.dicom_node.receiver import cannot_listen
from ggn_tf.dicom_node.study_queue import StudyQueue
from ggn_tf.evaluation.report.cells import Table
from ggn_tf.evaluation.report.page import Page, Section, page_html
from ggn_tf.monailabel.http_server import HttpServer
from ggn_tf.serving.contract.addresses import is_loopback

_HOST = "127.0.0.1"
_MOST_ROWS = 200


class StatusPage:
    """Serves the status on loopback until it is closed: `/` for people, `/status.json` for programs.

    Args:
        queue: The studies.
        port: Port to listen on; 0 picks a free one.

    Attributes:
        address: The URL.

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
