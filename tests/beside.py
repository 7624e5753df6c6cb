"""What the tests of ttstrace together with other libraries share.

A service that sends audio over HTTP, engines that get it by each HTTP client there is, programs in processes of
their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import threading
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import format_span_id, format_trace_id

RATE = 24000
CHUNK = b"\1\0" * (RATE // 10)  # 0.1 s of PCM
CHUNKS = 3


class Service:
    """What it was asked."""

    def __init__(self) -> None:
        self.url = ""
        self.headers: list[dict[str, str]] = []
        """Of each request, by their names in lower case."""


@contextmanager
def serving_audio() -> Iterator[Service]:
    """A service that answers each request with `CHUNKS` times `CHUNK`."""
    service = Service()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            service.headers.append({name.lower(): value for name, value in self.headers.items()})
            self.send_response(200)
            self.send_header("Content-Length", str(CHUNKS * len(CHUNK)))
            self.end_headers()
            for _ in range(CHUNKS):
                self.wfile.write(CHUNK)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        service.url = f"http://127.0.0.1:{server.server_port}/speech"
        try:
            yield service
        finally:
            server.shutdown()
            thread.join()


class Engine:
    """A TTS library that asks such a service."""

    def __init__(self, url: str) -> None:
        self.url = url


class Requests(Engine):
    def speak(self, text: str) -> bytes:
        import requests

        with requests.Session() as session:
            session.trust_env = False
            return session.post(self.url, data=text).content

    def stream(self, text: str) -> Iterator[bytes]:
        import requests

        with requests.Session() as session:
            session.trust_env = False
            with session.post(self.url, data=text, stream=True) as response:
                yield from response.iter_content(len(CHUNK))


class Httpx(Engine):
    def speak(self, text: str) -> bytes:
        import httpx

        with httpx.Client(trust_env=False) as client:
            return client.post(self.url, content=text).content

    def stream(self, text: str) -> Iterator[bytes]:
        import httpx

        with httpx.Client(trust_env=False) as client, client.stream("POST", self.url, content=text) as response:
            yield from response.iter_bytes(len(CHUNK))


class Urllib3(Engine):
    def speak(self, text: str) -> bytes:
        import urllib3

        with urllib3.PoolManager() as pool:
            return pool.request("POST", self.url, body=text).data

    def stream(self, text: str) -> Iterator[bytes]:
        import urllib3

        with urllib3.PoolManager() as pool:
            yield from pool.request("POST", self.url, body=text, preload_content=False).stream(len(CHUNK))


class Urllib(Engine):
    def speak(self, text: str) -> bytes:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(urllib.request.Request(self.url, text.encode())) as response:
            return bytes(response.read())

    def stream(self, text: str) -> Iterator[bytes]:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(urllib.request.Request(self.url, text.encode())) as response:
            while chunk := response.read(len(CHUNK)):
                yield chunk


class AsyncHttpx(Engine):
    async def speak(self, text: str) -> bytes:
        import httpx

        async with httpx.AsyncClient(trust_env=False) as client:
            return (await client.post(self.url, content=text)).content

    async def stream(self, text: str) -> AsyncIterator[bytes]:
        import httpx

        async with (
            httpx.AsyncClient(trust_env=False) as client,
            client.stream("POST", self.url, content=text) as response,
        ):
            async for chunk in response.aiter_bytes(len(CHUNK)):
                yield chunk


class Aiohttp(Engine):
    async def speak(self, text: str) -> bytes:
        import aiohttp

        async with aiohttp.ClientSession() as session, session.post(self.url, data=text) as response:
            return await response.read()

    async def stream(self, text: str) -> AsyncIterator[bytes]:
        import aiohttp

        async with aiohttp.ClientSession() as session, session.post(self.url, data=text) as response:
            async for chunk in response.content.iter_chunked(len(CHUNK)):
                yield chunk


def traceparent(span: Any) -> str:
    """What a request made in a span tells the service of it, by the W3C's definition."""
    context = span.get_span_context() if isinstance(span, trace.Span) else span.context
    return f"00-{format_trace_id(context.trace_id)}-{format_span_id(context.span_id)}-{context.trace_flags:02x}"


def program(script: str, **environment: str) -> Any:
    """Run a program in a process of its own; what it prints last is JSON, and nothing goes to its standard error."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OTEL_", "TTSTRACE_", "DD_", "SENTRY_", "LOGFIRE_"))
        and not name.lower().endswith("_proxy")
    }
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**inherited, "PYTHONPATH": str(Path(__file__).parent), **environment},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout.splitlines()[-1])
