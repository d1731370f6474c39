"""A web server on this machine that misbehaves on request."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class FileServer(ThreadingHTTPServer):
    """Serves one file under every path. /moved redirects to another path.

    data, etag, modified: the file's content and headers. An empty header is not sent.
    ranges: the server sends a part of the file if asked for one.
    heeds_if_range: if the file has changed, the server sends all of it though asked for a part.
    tells_length: the server says how long the file is.
    statuses: the status codes of the next answers; 200 once the list is empty.
    cuts: the number of bytes after which each of the next answers breaks off; None lets one pass.
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
            self.send_response(302)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        server.asked.append({name.lower(): value for name, value in self.headers.items()})
        status = server.statuses.pop(0) if server.statuses else 200
        if status != 200:
            server.sent.append(0)
            self.send_error(status)
            return
        start, data = 0, server.data
        wanted = self.headers.get("Range", "")
        current = self.headers.get("If-Range") in (None, server.etag, server.modified)
        if server.ranges and wanted and (current or not server.heeds_if_range):
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(data):
                server.sent.append(0)
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        body = data[start:]
        if server.tells_length:
            self.send_header("Content-Length", str(len(body)))
        if server.etag:
            self.send_header("ETag", server.etag)
        if server.modified:
            self.send_header("Last-Modified", server.modified)
        self.end_headers()
        cut = server.cuts.pop(0) if server.cuts else None
        body = body if cut is None else body[:cut]
        server.sent.append(len(body))
        with contextlib.suppress(ConnectionError):  # the client has gone away
            self.wfile.write(body)
            self.wfile.flush()
        if cut is not None and server.stall:
            server.stalled.set()
            server.go.wait(30)
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def serving(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """Runs a server, without a proxy between client and server."""
    monkeypatch.setenv("no_proxy", "*")
    with FileServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.go.set()
        server.shutdown()
        thread.join()
