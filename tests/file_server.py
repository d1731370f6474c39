"""A web server on this machine that misbehaves on request."""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


@dataclass(kw_only=True)
class Answer:
    """One answer of the server.

    chunked: the body goes out in chunks, without a length.
    reset: the connection is reset after the body, as by a router that was switched off.
    pause: seconds before each byte.
    whole: the body is all of it, and was not cut.
    """

    status: int
    headers: dict[str, str]
    body: bytes = b""
    chunked: bool = False
    reset: bool = False
    pause: float = 0
    whole: bool = True


class FileServer(ThreadingHTTPServer):
    """Serves one file under every path. /moved redirects to another path.

    data, etag, modified: the file's content and headers. An empty header is not sent.
    ranges: the server sends a part of the file if asked for one.
    heeds_if_range: if the file has changed, the server sends all of it though asked for a part.
    tells_length: the server says how long the file is.
    statuses: the status codes of the next answers; 200 once the list is empty.
    cuts: the number of bytes after which each of the next answers breaks off; None lets one pass.
    alter: changes each answer before it is cut and sent.
    stall: the server waits for `go` instead of breaking off.
    asked: the headers of every request.
    sent: the number of bytes of the body in every answer.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.data = b""
        self.etag = '"1"'
        self.modified = "Mon, 01 Jan 2024 00:00:00 GMT"
        self.ranges = self.heeds_if_range = self.tells_length = True
        self.statuses: list[int] = []
        self.cuts: list[int | None] = []
        self.alter: Callable[[Answer], object] = lambda _: None
        self.stall = False
        self.stalled, self.go = threading.Event(), threading.Event()
        self.asked: list[dict[str, str]] = []
        self.sent: list[int] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: FileServer  # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server = self.server
        self.close_connection = True
        if self.path == "/moved":
            self._send(Answer(status=302, headers={"Location": "/elsewhere", "Content-Length": "0"}))
            return
        server.asked.append({name.lower(): value for name, value in self.headers.items()})
        answer = self._answer()
        server.alter(answer)
        cut = server.cuts.pop(0) if answer.status in (200, 206) and server.cuts else None
        if cut is not None:
            answer.body, answer.whole = answer.body[:cut], False
        server.sent.append(len(answer.body))
        self._send(answer)
        if cut is not None and server.stall:
            server.stalled.set()
            server.go.wait(30)
        with contextlib.suppress(OSError):
            if answer.reset:  # closing with a linger of no time is a reset
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
            else:
                self.connection.shutdown(socket.SHUT_RDWR)

    def _answer(self) -> Answer:
        """Returns the answer of a server that does as the fields say."""
        server = self.server
        status = server.statuses.pop(0) if server.statuses else 200
        if status != 200:
            return Answer(status=status, headers={"Content-Length": "0"})
        start, data = 0, server.data
        headers: dict[str, str] = {}
        wanted = self.headers.get("Range", "")
        current = self.headers.get("If-Range") in (None, server.etag, server.modified)
        if server.ranges and wanted and (current or not server.heeds_if_range):
            start, status = int(wanted.removeprefix("bytes=").removesuffix("-")), 206
            if start >= len(data):
                return Answer(status=416, headers={"Content-Length": "0"})
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        if server.tells_length:
            headers["Content-Length"] = str(len(data) - start)
        if server.etag:
            headers["ETag"] = server.etag
        if server.modified:
            headers["Last-Modified"] = server.modified
        return Answer(status=status, headers=headers, body=data[start:])

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        if answer.chunked:
            answer.headers.pop("Content-Length", None)
            answer.headers["Transfer-Encoding"] = "chunked"
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # the client has gone away
            if answer.chunked:
                self.wfile.write(b"%x\r\n" % len(answer.body) + answer.body + b"\r\n")
                if answer.whole:  # a chunk of no bytes is the end
                    self.wfile.write(b"0\r\n\r\n")
            elif answer.pause:
                for i in range(len(answer.body)):
                    time.sleep(answer.pause)
                    self.wfile.write(answer.body[i : i + 1])
            else:
                self.wfile.write(answer.body)
            self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def serving(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """Runs a server, without a proxy between client and server."""
    monkeypatch.setenv("no_proxy", "*")
    with running() as server:
        yield server


@contextlib.contextmanager
def running() -> Iterator[FileServer]:
    """Runs a server."""
    with FileServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.go.set()
        server.shutdown()
        thread.join()
