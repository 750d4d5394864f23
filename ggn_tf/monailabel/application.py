"""The requests of MONAI Label's protocol that its clients need to segment at a click; all others are 404."""

import json
import logging
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import BadRequest, Forbidden, HTTPException, NotFound
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from ggn_tf.errors import GgnError
from ggn_tf.monailabel.answers import LABEL, Clicks, answer, read_clicks, refuse_unknown_output
from ggn_tf.monailabel.sessions import Session, Sessions, form_bytes, receive_form
from ggn_tf.prediction.locations import Voxel
from ggn_tf.prediction.nodules import CtPrediction
from ggn_tf.serving.runtime.servable import StatusError, client_text

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

log = logging.getLogger(__name__)

Predict = Callable[[Path, str | None, Sequence[Voxel]], CtPrediction]
_THIS_MACHINE = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?", re.ASCII | re.IGNORECASE)
_UID = re.compile(r"[0-9.]{1,64}", re.ASCII)
_ROUTES = Map(
    [
        Rule("/info/", endpoint="info", methods=["GET"]),
        Rule("/session/", endpoint="create", methods=["PUT", "POST"]),
        Rule("/session/<name>", endpoint="session", methods=["GET", "DELETE"]),
        Rule("/infer/<model>", endpoint="infer", methods=["POST"]),
    ],
    strict_slashes=False,
)
_DESCRIPTION = "Segments and classifies the ground-glass nodule at each foreground click. For research."


class Application:
    """A WSGI application.

    Args:
        sessions: Where uploaded CTs are kept.
        predict: Predicts the nodules of a CT: a file, or a DICOM folder with the SeriesInstanceUID.
        images: A DICOM folder whose series can be named by their SeriesInstanceUIDs, as OHIF does; None for none.
        origins: Web pages (`http://host:port`) whose scripts may use the server.
        local: Whether only programs of the same machine are to reach the server.
    """

    def __init__(
        self,
        model_name: str,
        sessions: Sessions,
        predict: Predict,
        images: Path | None = None,
        origins: Sequence[str] = (),
        local: bool = True,
    ) -> None:
        self._model_name, self._sessions, self._predict = model_name, sessions, predict
        # Absolute, for errors show clients no absolute path.
        self._images = None if images is None else images.resolve()
        self._origins, self._local = {origin.rstrip("/") for origin in origins}, local

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answer a request."""
        request = Request(environ)
        response = self._respond(request)
        origin = request.headers.get("Origin")
        if origin in self._origins:
            response.headers.update({"Access-Control-Allow-Origin": origin, "Vary": "Origin"})
        return response(environ, start_response)

    def _respond(self, request: Request) -> Response:
        try:
            return self._route(request)
        except HTTPException as error:
            return _failure(error.code or 500, error.description or "")
        except GgnError as error:
            return _failure(400, " ".join(filter(None, (error.what, _finding(error), error.remedy))))
        except StatusError as error:
            return _failure(503, error.message)
        except MemoryError:
            return _failure(503, "The server has too little memory for this request.")
        except Exception as error:  # a request must not write a traceback, nor show clients what the error says
            log.error("a request failed: %s", type(error).__name__)
            log.debug("", exc_info=True)
            return _failure(500, "The server cannot process this request.")

    def _route(self, request: Request) -> Response:
        # A page of another origin can send forms here without a question, and by a name that leads to this machine also
        # read the answers.
        origin = request.headers.get("Origin")
        if origin is not None and origin not in self._origins:
            raise Forbidden("Pages of this origin may not use the server.")
        if self._local and not _THIS_MACHINE.fullmatch(request.headers.get("Host", "")):
            raise Forbidden("The server is not addressed by this name.")
        if request.method == "OPTIONS":
            return Response(headers={"Access-Control-Allow-Methods": "*", "Access-Control-Allow-Headers": "*"})
        endpoint, values = _ROUTES.bind("", path_info=request.path, default_method=request.method).match()
        responses: dict[str, Callable[..., Response]] = {
            "info": self._info,
            "create": self._create,
            "session": self._session,
            "infer": self._infer,
        }
        return responses[endpoint](request, **values)

    def _info(self, request: Request) -> Response:
        model = {"type": "deepgrow", "labels": [LABEL], "dimension": 3, "description": _DESCRIPTION, "config": {}}
        nothing: dict[str, Any] = {"trainers": {}, "strategies": {}, "scoring": {}, "train_stats": {}, "datastore": {}}
        return _json(
            {
                "name": f"ggn_tf {self._model_name}",
                "description": _DESCRIPTION,
                "version": "2.0",
                "labels": [LABEL],
                "models": {self._model_name: model},
                **nothing,
            }
        )

    def _create(self, request: Request) -> Response:
        with self._sessions.upload(self._form_bytes(request)) as session:
            _, session.image = receive_form(request, session.folder)
            if session.image is None:
                raise BadRequest("The request must contain a file.")
            return _json({"session_id": session.name, "session_info": self._described(session)})

    def _session(self, request: Request, name: str) -> Response:
        if request.method == "DELETE":
            return _json(self._described(self._sessions.delete(name)))
        with self._sessions.use(name) as session:
            return _json(self._described(session))

    def _described(self, session: Session) -> dict[str, Any]:
        return {
            "name": session.name,
            "create_ts": int(session.created_at),
            "last_access_ts": int(session.last_used_at),
            "expiry": int(self._sessions.limits.age_s),
        }

    def _infer(self, request: Request, model: str) -> Response:
        output, name = request.args.get("output", "all"), request.args.get("session_id")
        refuse_unknown_output(output)
        if model != self._model_name:
            raise NotFound("There is no such model.")
        size, series = self._form_bytes(request), None
        with ExitStack() as used:
            if name:
                ct: Path | None = used.enter_context(self._sessions.use(name)).image
                form, _ = receive_form(request, None)
            else:
                form, ct = receive_form(request, used.enter_context(self._sessions.upload(size)).folder)
            clicks = read_clicks(form.get("params") or "{}")
            if ct is None:
                ct, series = self._stored(request.args.get("image", ""))
            prediction = self._predicted(ct, series, clicks)
            return answer(prediction, clicks, output, self._sessions.folder)

    def _predicted(self, ct: Path, series: str | None, clicks: Clicks) -> CtPrediction:
        try:
            return self._predict(ct, series, clicks.nodules)
        except GgnError as error:
            if series is not None:
                # They may describe the folder's other series, which the client did not send.
                error.found = error.expected = None
            raise

    def _form_bytes(self, request: Request) -> int:
        return form_bytes(request, self._sessions.limits.upload_bytes)

    def _stored(self, image: str) -> tuple[Path, str]:
        if self._images is None or not _UID.fullmatch(image):
            raise NotFound("The server has no such image: upload the CT as a session.")
        return self._images, image


def _finding(error: GgnError) -> str:
    found, expected = (f"{name}: {text}." for name, text in (("Found", error.found), ("Expected", error.expected)))
    return " ".join(text for text, part in ((found, error.found), (expected, error.expected)) if part)


def _json(document: dict[str, Any]) -> Response:
    return Response(json.dumps(document), content_type="application/json")


def _failure(code: int, text: str) -> Response:
    """An error as MONAI Label's own server writes it."""
    response = _json({"detail": client_text(text)})
    response.status_code = code
    return response
