"""A small DICOMweb archive in memory, with the faults of real ones."""

import json
import re
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom

from tests.support.loopback_server import running

JSON = "application/dicom+json; charset=utf-8"
BOUNDARY = "a-boundary"


@dataclass
class Archive:
    """The instances of an archive, and how it fails.

    Attributes:
        instances: Files by SOPInstanceUID.
        status: The status of every answer to a kind of request (`search`, `retrieve`, `store`), instead of the answer.
        hidden: How many announced instances it does not deliver.
        silent: Whether it never answers.
        refused: SOP class whose objects it does not store, though it answers 200.
        body: What every answer contains instead.
        page: How many rows an answer to a search contains at most.
        ignores_offset: Whether each answer to a search begins with the first row.
        requests: Method, path and credentials of each request.
    """

    instances: dict[str, bytes] = field(default_factory=dict)
    status: dict[str, int] = field(default_factory=dict)
    hidden: int = 0
    silent: bool = False
    refused: str | None = None
    body: bytes | None = None
    page: int | None = None
    ignores_offset: bool = False
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)

    def add(self, folder: Path) -> None:
        for path in folder.iterdir():
            self.instances[str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID)] = path.read_bytes()

    def headers(self) -> list[pydicom.Dataset]:
        return [pydicom.dcmread(BytesIO(content), stop_before_pixels=True) for content in self.instances.values()]

    @contextmanager
    def serve(self, tls: ssl.SSLContext | None = None) -> Iterator[str]:
        """Serve on loopback, and give the address."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"archive": self}))
        server.daemon_threads = True
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        with running(server) as port:
            yield f"{'http' if tls is None else 'https'}://127.0.0.1:{port}/dicom-web"


class _Handler(BaseHTTPRequestHandler):
    archive: Archive

    def do_GET(self) -> None:
        found = re.fullmatch(
            r"/dicom-web(?:/studies/([\d.]+))?/series(?:/([\d.]+)(/instances)?)?(?:\?(.*))?", self.path
        )
        study, series, listed, query = found.groups() if found else (None,) * 4
        parameters = dict(pair.split("=") for pair in (query or "").split("&") if pair)
        wanted = series or parameters.get("SeriesInstanceUID")
        headers = [
            header
            for header in self.archive.headers()
            if study in (None, header.StudyInstanceUID) and wanted in (None, header.SeriesInstanceUID)
        ]
        if series and not listed:
            parts = [self.archive.instances[header.SOPInstanceUID] for header in headers[self.archive.hidden :]]
            body = b"".join(
                f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode() + part + b"\r\n" for part in parts
            )
            kind = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'
            self._answer("retrieve", body + f"--{BOUNDARY}--".encode(), kind)
            return
        names = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "Modality", "PatientName")
        rows = {}
        for header in headers:
            row = pydicom.Dataset()
            for name in names[0 if listed else 1 :]:
                row[name] = header[name]
            rows[header.SOPInstanceUID if listed else header.SeriesInstanceUID] = row.to_json_dict()
        start = 0 if self.archive.ignores_offset else int(parameters.get("offset", 0))
        shown = [*rows.values()][start:][: self.archive.page]
        self._answer("search", json.dumps(shown).encode(), JSON)

    def do_POST(self) -> None:
        if self.headers.get("Transfer-Encoding") == "chunked":
            content = b""
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            content = self.rfile.read(int(self.headers["Content-Length"]))
        boundary = re.search('boundary="(.*?)"', self.headers["Content-Type"])[1].encode()
        answer = pydicom.Dataset()
        answer.ReferencedSOPSequence, answer.FailedSOPSequence = [], []
        for part in content.split(b"--" + boundary)[1:-1]:
            stored = part.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n")
            header = pydicom.dcmread(BytesIO(stored))
            item = pydicom.Dataset()
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
            if header.SOPClassUID == self.archive.refused:
                item.FailureReason = 0x0122
                answer.FailedSOPSequence.append(item)
            else:
                answer.ReferencedSOPSequence.append(item)
                if "store" not in self.archive.status:
                    self.archive.instances[str(header.SOPInstanceUID)] = stored
        self._answer("store", answer.to_json().encode(), JSON)

    def _answer(self, kind: str, body: bytes, media_type: str) -> None:
        archive = self.archive
        archive.requests.append((self.command, self.path, self.headers.get("Authorization")))
        if archive.silent:
            time.sleep(5)
            return
        status = archive.status.get(kind, 200)
        # What an archive writes into its errors may name patients.
        body = b"DOE^JOHN" if status != 200 else archive.body if archive.body is not None else body
        self.send_response(status, "DOE^JOHN" if status != 200 else None)
        if 300 <= status < 400:
            self.send_header("Location", "http://127.0.0.1:9/elsewhere")
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass
