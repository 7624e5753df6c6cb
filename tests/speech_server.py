"""A speech service on this machine, for SDKs that nobody has touched: known audio in pieces at known times."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class SpeechServer:
    """What was asked, and what is answered: every request alike."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, bytes]] = []
        """Method, path and body."""
        self.pieces: list[bytes] = []
        """The answer's body."""
        self.delay = 0.0
        """Seconds before the first piece, and between pieces."""
        self.status = 200
        self.content_type = "audio/wav"
        self.headers: dict[str, str] = {}
        self.traceparents: list[str | None] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def serving(service: SpeechServer) -> Iterator[SpeechServer]:
    """Serve on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            service.requests.append((self.command, self.path, body))
            service.traceparents.append(self.headers.get("traceparent"))
            self.send_response(service.status)
            self.send_header("Content-Type", service.content_type)
            self.send_header("Transfer-Encoding", "chunked")
            for name, value in service.headers.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                for piece in service.pieces:
                    time.sleep(service.delay)
                    if not piece:  # it would be the end
                        continue
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                    self.wfile.flush()
                self.wfile.write(b"0\r\n\r\n")
            except OSError:  # the client went away
                self.close_connection = True

        do_GET = do_POST

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    service.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def refused_port() -> Iterator[int]:
    """A port of this machine where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # held, so that nobody else gets it, but not listened to
        yield taken.getsockname()[1]
