"""Google Translate's speech service on this machine, for a gTTS that nobody has touched.

gTTS takes the proxy from `HTTPS_PROXY` and does not verify certificates: the proxy here answers each CONNECT itself,
and speaks the protocol with audio whose length is known.
"""

from __future__ import annotations

import base64
import json
import ssl
import threading
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import lameenc
import numpy as np
import pytest
import trustme
from backends import RATE, tone

_FRAME_BYTES = 144  # of MPEG-2 layer III at 48 kbit/s and 24 kHz, which is what Google sends
_FRAME_SECONDS = 576 / RATE


def mp3(seconds: float) -> bytes:
    encoder = lameenc.Encoder()
    encoder.set_bit_rate(48)
    encoder.set_in_sample_rate(RATE)
    encoder.set_channels(1)
    encoder.silence()
    data = encoder.encode((tone(seconds) * 32767).astype(np.int16).tobytes())
    return bytes(data + encoder.flush())


def seconds_of(data: bytes) -> float:
    """The length of such an MP3, by its frames."""
    assert len(data) % _FRAME_BYTES == 0
    return len(data) // _FRAME_BYTES * _FRAME_SECONDS


class GoogleTTS:
    """What the service was asked, and how it answers."""

    def __init__(self) -> None:
        self.hosts: list[str] = []
        """Which each request was for: host:port. onnxruntime, once loaded, connects to hosts of its own meanwhile."""
        self.requests: list[tuple[str, str, bool]] = []
        """Text, language, and whether it is to be slow."""
        self.sent: list[bytes] = []
        """The MP3 of each answer."""
        self.headers: list[dict[str, str]] = []
        """Of each request, by their names in lower case."""
        self.delay = 0.0
        """Seconds until each answer."""
        self.statuses: list[int] = []
        """Of the next answers; 200 where there is none."""
        self.mute = False
        """Answer well, but without audio."""

    def answer(self, text: str, language: str, slow: bool) -> tuple[int, bytes]:
        self.requests.append((text, language, slow))
        time.sleep(self.delay)
        status = self.statuses.pop(0) if self.statuses else 200
        if status != 200:
            return status, b"<html>Sorry</html>"
        payload = None
        if not self.mute:
            self.sent.append(mp3(0.25 + 0.01 * len(self.requests)))
            payload = json.dumps([base64.b64encode(self.sent[-1]).decode()])
        line = json.dumps([["wrb.fr", "jQ1olc", payload, None, None, None, "generic"]], separators=(",", ":"))
        return status, f")]}}'\n\n{line}\n".encode()


@contextmanager
def serving(google: GoogleTTS) -> Iterator[str]:
    """Serve; gives the proxy's URL."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("translate.google.com").configure_cert(tls)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_CONNECT(self) -> None:
            self.host = self.path
            self.send_response(200)
            self.end_headers()
            self.close_connection = False  # also for a client that speaks HTTP/1.0 to the proxy
            self.connection = tls.wrap_socket(self.connection, server_side=True)
            self.rfile = self.connection.makefile("rb")
            self.wfile = self.connection.makefile("wb", buffering=0)  # type: ignore[assignment]

        def do_POST(self) -> None:
            form = urllib.parse.parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            ((name, parameters, _, _),) = json.loads(form["f.req"][0])[0]
            text, language, slow, _ = json.loads(parameters)
            assert (name, self.path) == ("jQ1olc", "/_/TranslateWebserverUi/data/batchexecute")
            google.headers.append({name.lower(): value for name, value in self.headers.items()})
            google.hosts.append(self.host)
            status, body = google.answer(text, language, bool(slow))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def finish(self) -> None:
            super().finish()
            self.connection.close()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def in_place_of_google(monkeypatch: pytest.MonkeyPatch) -> Iterator[GoogleTTS]:
    """Serve, and have gTTS of this process ask here."""
    for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    service = GoogleTTS()
    with serving(service) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        yield service
