"""The page of `cep annotate serve`: HTTP on 127.0.0.1 only, for whoever has the printed address.

The address holds a random token; requests for data must carry it, and the Host header must be the
server's own, so that other sites that a browser has open can neither read nor answer.
"""

import json
import secrets
import sys
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cepcli.annotate.frames import Frames
from cepcli.annotate.session import AnswerError, Conflict, Session, described, said
from cepcli.errors import CepError, ConfigError

_PAGE = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_POLL_SECONDS = 0.1
_LONGEST_BODY = 100_000


class AnnotationServer(ThreadingHTTPServer):
    """Serves one session to any number of tabs, on `port` or, if that is 0, on a free one.

    Raises:
        ConfigError: if the port is taken.
    """

    daemon_threads = True

    def __init__(self, session: Session, frames: Frames, title: str, port: int = 0) -> None:
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except OSError as error:
            raise ConfigError(
                f"Cannot listen on port {port}: {error.strerror}.",
                "Choose another --port, or leave it out for a free one.",
            ) from error
        self.session, self.frames, self.title = session, frames, title
        self.token = secrets.token_urlsafe(16)
        self.hosts = {f"{name}:{self.server_port}" for name in ("127.0.0.1", "localhost")}

    @property
    def address(self) -> str:
        """What to open in a browser."""
        return f"http://127.0.0.1:{self.server_port}/?token={self.token}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Show what went wrong, unless a tab was merely closed before it had its answer."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def serve_until(self, stop: Callable[[], bool]) -> None:
        """Serve until `stop()`, which is asked ten times a second; no answer is taken after it."""
        thread = Thread(target=self.serve_forever, args=(_POLL_SECONDS,), daemon=True)
        thread.start()
        while not stop():
            time.sleep(_POLL_SECONDS)
        self.shutdown()
        thread.join()
        self.server_close()
        self.session.close()


class _Refused(Exception):
    """An answer other than 200: status, message."""


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    #: Seconds after which a silent connection is given up.
    timeout = 10

    @property
    def _owner(self) -> AnnotationServer:
        assert isinstance(self.server, AnnotationServer)
        return self.server

    def do_GET(self) -> None:
        """Answer a request for the page, a state or a frame."""
        self._respond(self._get)

    def do_POST(self) -> None:
        """Take an answer, or an undo."""
        self._respond(self._post)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing: the terminal is for what went wrong."""

    def _respond(self, handle: Any) -> None:
        try:
            self._check_host()
            status, kind, body = handle(urlsplit(self.path).path)
        except _Refused as refused:
            status, kind, body = _json(refused.args[0], {"error": refused.args[1]})
        except Conflict as conflict:
            status, kind, body = _json(HTTPStatus.CONFLICT, {"error": str(conflict)})
        except CepError as error:
            # if it is no wrong answer, the disk is full, say: the page keeps the answer, shows why
            wrong = isinstance(error, AnswerError)
            status, kind, body = _json(
                HTTPStatus.BAD_REQUEST if wrong else HTTPStatus.SERVICE_UNAVAILABLE,
                {"error": error.message, "hint": error.hint},
            )
        self.send_response(status)
        for name, value in {**_HEADERS, "Content-Type": kind}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _check_host(self) -> None:
        if self.headers.get("Host") not in self._owner.hosts:
            raise _Refused(HTTPStatus.FORBIDDEN, "This server answers to 127.0.0.1 only.")

    def _check_token(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        given = self.headers.get("X-Cep-Token") or query.get("token", [""])[0]
        if not secrets.compare_digest(given.encode(), self._owner.token.encode()):
            raise _Refused(
                HTTPStatus.FORBIDDEN,
                "This address is of another `cep annotate serve`. "
                "Open the one that the command printed last.",
            )

    def _get(self, path: str) -> tuple[int, str, bytes]:
        if path in ("/page.css", "/page.js"):
            return _file(path)
        self._check_token()
        if path == "/":
            return _file(path)
        session = self._owner.session
        if path == "/api/overview":
            overview = session.overview()
            return _json(HTTPStatus.OK, {
                **overview,
                "title": self._owner.title,
                "notice": session.notice,
                "defects": [defect._asdict() for defect in session.defects],
                "frames": self._owner.frames.reason,
            })  # fmt: skip
        if path.startswith("/api/state/"):
            return _json(HTTPStatus.OK, described(session.view(path.rpartition("/")[2])))
        if path.startswith("/frame/"):
            picture, reason = self._owner.frames.png(session.state(path.rpartition("/")[2]))
            if not picture:
                raise _Refused(HTTPStatus.NOT_FOUND, reason)
            return HTTPStatus.OK, "image/png", picture
        raise _Refused(HTTPStatus.NOT_FOUND, f"There is no `{path}` here.")

    def _post(self, path: str) -> tuple[int, str, bytes]:
        self._check_token()
        body = self._body()
        session = self._owner.session
        if path == "/api/answer":
            view = session.answer(
                *(str(body.get(key, "")) for key in ("state", "revision", "text", "primitive"))
            )
            following = session.next_after(view.state.id)
            return _json(HTTPStatus.OK, {"revision": view.revision, "next": following})
        if path == "/api/undo":
            undone = session.undo()
            if undone is None:
                raise _Refused(HTTPStatus.BAD_REQUEST, "There is nothing to undo.")
            return _json(HTTPStatus.OK, {"state": undone.state, "undone": said(undone)})
        raise _Refused(HTTPStatus.NOT_FOUND, f"There is no `{path}` here.")

    def _body(self) -> dict[str, Any]:
        if self.headers.get("Content-Type", "").partition(";")[0] != "application/json":
            raise _Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Expected application/json.")
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > _LONGEST_BODY:
            raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The answer is too long.")
        try:
            body = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError) as error:
            raise _Refused(HTTPStatus.BAD_REQUEST, f"Not JSON: {error}.") from error
        if not isinstance(body, dict):
            raise _Refused(HTTPStatus.BAD_REQUEST, "Expected a JSON object.")
        return body


def _json(status: int, value: Any) -> tuple[int, str, bytes]:
    return status, "application/json", json.dumps(value).encode()


def _file(path: str) -> tuple[int, str, bytes]:
    name, kind = _PAGE[path]
    folder = resources.files("cepcli.annotate") / "page"
    return HTTPStatus.OK, kind, (folder / name).read_bytes()
