"""A secret, and every way in which it may lie in bytes; and a collector that keeps all bytes it is sent."""

from __future__ import annotations

import base64
import gzip
import html
import json
import urllib.parse
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import grpc

SECRET = 'Nachtigall42 "singt" im Lindenbaum 린데🌳린데 um Mitternacht'
CONTROL = SECRET.replace("Nachtigall42", "Kontrolle777").replace("Lindenbaum", "Apfelgarten").replace("린데", "사과")
CONTROL = CONTROL.replace("Mitternacht", "Mittagszeit")

ENCODINGS: dict[str, Callable[[str], bytes]] = {
    "as it is": lambda text: text.encode(),
    "UTF-16, little-endian": lambda text: text.encode("utf-16-le"),
    "UTF-16, big-endian": lambda text: text.encode("utf-16-be"),
    "UTF-32": lambda text: text.encode("utf-32-le"),
    "JSON": lambda text: json.dumps(text)[1:-1].encode(),
    "JSON in JSON": lambda text: json.dumps(json.dumps(text))[3:-3].encode(),
    "JSON, not ASCII": lambda text: json.dumps(text, ensure_ascii=False)[1:-1].encode(),
    "repr": lambda text: repr(text)[1:-1].encode(),
    "ascii": lambda text: ascii(text)[1:-1].encode(),
    "repr of bytes": lambda text: repr(text.encode())[2:-1].encode(),
    "in a URL": lambda text: urllib.parse.quote(text).encode(),
    "in a URL, all of it": lambda text: urllib.parse.quote(text, safe="").encode(),
    "in a form": lambda text: urllib.parse.quote_plus(text).encode(),
    "hexadecimal": lambda text: text.encode().hex().encode(),
    "HEXADECIMAL": lambda text: text.encode().hex().upper().encode(),
    "HTML": lambda text: html.escape(text).encode(),
    "backwards": lambda text: text[::-1].encode(),
    "in upper case": lambda text: text.upper().encode(),
    "in lower case": lambda text: text.lower().encode(),
}


def pieces(text: str) -> list[str]:
    """What must not be found either: its beginning, its end, and its long words."""
    return [text, text[:16], text[-16:], *(word for word in text.split() if len(word) > 7), text[35:40]]


def _base64(data: bytes, offset: int, encode: Callable[[bytes], bytes]) -> bytes:
    """What of the data is the same in any base64 that has it `offset` bytes (mod 3) from its beginning."""
    encoded = encode(bytes(offset) + data)
    return encoded[-(-offset * 8 // 6) : (offset + len(data)) * 8 // 6]


def needles(text: str, parts: list[str] | None = None) -> list[bytes]:
    """Everything that tells of a text, or of these parts of it, as bytes to be sought."""
    wanted = set()
    for piece in parts or pieces(text):
        wanted |= {encode(piece) for encode in ENCODINGS.values()}
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            wanted |= {_base64(piece.encode(), offset, encode) for offset in range(3)}
    return sorted(wanted, key=len)


_NEEDLES = needles(SECRET)


def found(data: bytes, wanted: list[bytes] = _NEEDLES) -> list[str]:
    """Where the secret lies in some bytes: what is around each of its traces."""
    traces = []
    for needle in wanted:
        at = data.find(needle)
        if at >= 0:
            traces.append(f"{needle!r}: {data[max(0, at - 300) : at + 200]!r}")
    return traces


def count(data: bytes) -> int:
    """How often something of the secret is told."""
    return sum(data.count(needle) for needle in _NEEDLES)


@dataclass
class RawCollector:
    """Where it listens, and every byte that it was sent: as it came, and unpacked."""

    http: str = ""
    grpc: str = ""
    received: dict[str, list[bytes]] = field(default_factory=dict)

    def keep(self, where: str, body: bytes) -> None:
        self.received.setdefault(where, []).append(body)


@contextmanager
def raw_collector() -> Iterator[RawCollector]:
    """A collector that takes OTLP over HTTP and gRPC and decodes nothing."""
    collector = RawCollector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.keep("headers", str(self.headers).encode())
            if self.headers.get("Content-Encoding") == "gzip":
                collector.keep(f"http, packed {self.path}", body)
                body = gzip.decompress(body)
            collector.keep(f"http {self.path}", body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    class Service(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, details: Any) -> Any:
            def export(request: bytes, context: Any) -> bytes:
                collector.keep("grpc metadata", repr(context.invocation_metadata()).encode())
                collector.keep(f"grpc {details.method}", request)
                return b""

            return grpc.unary_unary_rpc_method_handler(export)

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=http.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=(Service(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    collector.http, collector.grpc = f"http://127.0.0.1:{http.server_address[1]}", f"127.0.0.1:{port}"
    try:
        yield collector
    finally:
        server.stop(None).wait()
        http.shutdown()
        http.server_close()
