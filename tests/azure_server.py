"""Azure's Speech service on this machine: the websocket that the SDK's native library speaks to, with known audio at
known times."""

from __future__ import annotations

import http
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from socket import SHUT_RDWR
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve


@dataclass
class Request:
    """One synthesis that was asked for. Times are readings of the monotonic clock, in seconds."""

    path: str
    key: str | None
    context: dict[str, Any]
    received: float
    ssml: str = ""
    pieces: list[str] = field(default_factory=list)
    """Of a text that was streamed."""
    sent: list[float] = field(default_factory=list)
    """When each piece of the audio was sent."""

    @property
    def format(self) -> str:
        return str(self.context["synthesis"]["audio"]["outputFormat"])


class SpeechService:
    """What was asked, and what is answered: every request alike."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.handshakes = 0
        self.pieces: list[bytes] = []
        """Of the audio of each answer."""
        self.delay = 0.0
        """Seconds before each piece."""
        self.status = 200
        """Of the handshake: anything else refuses it."""
        self.cut_after: int | None = None
        """Pieces after which the connection breaks."""
        self.silent = False
        """Answer nothing at all."""
        self.go = threading.Event()
        """Cleared, the last piece is kept back until it is set."""
        self.go.set()
        self.port = 0

    @property
    def host(self) -> str:
        return f"ws://127.0.0.1:{self.port}"


def _message(text: str) -> tuple[dict[str, str], str]:
    head, _, body = text.partition("\r\n\r\n")
    lines = (line.partition(":") for line in head.split("\r\n"))
    return {name.strip().lower(): value.strip() for name, _, value in lines}, body


def _text(path: str, request_id: str, body: object) -> str:
    head = f"X-RequestId:{request_id}\r\nContent-Type:application/json; charset=utf-8\r\nPath:{path}\r\n\r\n"
    return head + json.dumps(body)


def _answer(service: SpeechService, socket: ServerConnection, request: Request, request_id: str) -> None:
    socket.send(_text("turn.start", request_id, {"context": {"serviceTag": "x"}}))
    stream = {"context": {"serviceTag": "x"}, "audio": {"type": "inline", "streamId": "1"}}
    socket.send(_text("response", request_id, stream))
    for at, piece in enumerate(service.pieces):
        if at == service.cut_after:
            socket.socket.shutdown(SHUT_RDWR)  # closed alone, it would stay open for the thread that receives
            return
        time.sleep(service.delay)
        if at == len(service.pieces) - 1:
            service.go.wait(60)
        head = f"X-RequestId:{request_id}\r\nX-StreamId:1\r\nContent-Type:audio/x-wav\r\nPath:audio\r\n".encode()
        request.sent.append(time.perf_counter())
        socket.send(len(head).to_bytes(2, "big") + head + piece)
    socket.send(_text("turn.end", request_id, {}))


@contextmanager
def serving(service: SpeechService) -> Iterator[SpeechService]:
    """Serve on a free port of this machine."""

    def refuse(socket: ServerConnection, request: Any) -> Any:
        service.handshakes += 1
        return None if service.status == 200 else socket.respond(http.HTTPStatus(service.status), "")

    def handle(socket: ServerConnection) -> None:
        try:
            context: dict[str, Any] = {}
            for message in socket:
                headers, body = _message(message if isinstance(message, str) else message.decode())
                path, request_id = headers["path"], headers.get("x-requestid", "")
                if path == "synthesis.context":
                    context = json.loads(body)
                if path == "ssml" or (path == "text.piece" and "input" in context["synthesis"]):
                    opened = socket.request
                    assert opened is not None
                    key = opened.headers.get("Ocp-Apim-Subscription-Key")
                    if path == "ssml" or not service.requests or service.requests[-1].context is not context:
                        service.requests.append(Request(opened.path, key, context, time.perf_counter()))
                    if path == "ssml":
                        service.requests[-1].ssml = body
                    else:
                        service.requests[-1].pieces.append(body)
                if path in ("ssml", "text.end") and not service.silent:
                    _answer(service, socket, service.requests[-1], request_id)
        except (ConnectionClosed, OSError):
            pass

    with serve(handle, "127.0.0.1", 0, process_request=refuse, close_timeout=0.1) as server:
        service.port = server.socket.getsockname()[1]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield service
        finally:
            service.go.set()
            server.shutdown()
            thread.join()
