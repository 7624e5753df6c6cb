"""A real collector, broken ones, programs that send to them, and spans from anywhere as plain data."""

from __future__ import annotations

import itertools
import json
import os
import socket
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any

import grpc
import rotel
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto_json.collector.trace.v1.trace_service import (
    ExportTraceServiceRequest as JSONExportTraceServiceRequest,
)

Plain = dict[str, Any]


@contextmanager
def refusing() -> Iterator[int]:
    """A port that refuses every connection, until a server listens there.

    It is kept meanwhile: nobody else is given it, nor does a client that knocks there meet itself. A server may share
    it all the same, as servers ask for addresses that are in use.
    """
    with socket.socket() as keeper:
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        keeper.bind(("127.0.0.1", 0))
        yield int(keeper.getsockname()[1])


def free_port() -> int:
    with refusing() as port:
        return port


@dataclass
class Collector:
    """A running collector and what it has passed on.

    Attributes:
        http, grpc: where it listens.
        spans, metrics: what it has passed on; of the metrics the last, by name.
        restart: starts it again where it was, after ``kill()``.
    """

    http: str
    grpc: str
    restart: Callable[[], None] = lambda: None
    spans: list[Plain] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    agent: subprocess.Popen[bytes] | None = None

    def kill(self) -> None:
        assert self.agent is not None
        self.agent.kill()
        self.agent.wait(10)

    def address(self, protocol: str) -> str:
        return self.grpc if protocol == "grpc" else self.http

    def take_metrics(self, request: ExportMetricsServiceRequest) -> None:
        for resource in request.resource_metrics:
            for scope in resource.scope_metrics:
                self.metrics.update({metric.name: metric for metric in scope.metrics})

    def wait(self, condition: Callable[[Collector], object], seconds: float = 10) -> None:
        end = time.monotonic() + seconds
        while not condition(self):
            assert time.monotonic() < end, f"not received: {len(self.spans)} spans, metrics {sorted(self.metrics)}"
            time.sleep(0.02)


@contextmanager
def running_collector() -> Iterator[Collector]:
    """Start rotel, which takes OTLP over HTTP and gRPC, and a sink that it passes everything on to."""
    with refusing() as http_port, refusing() as grpc_port:

        def start() -> None:
            log.truncate(0)
            collector.agent = agent = subprocess.Popen(
                [
                    str(Path(rotel.__file__).with_name("rotel-agent")),
                    "start",
                    *("--otlp-grpc-endpoint", f"127.0.0.1:{grpc_port}"),
                    *("--otlp-http-endpoint", f"127.0.0.1:{http_port}"),
                    *("--exporter", "otlp"),
                    *("--otlp-exporter-protocol", "http"),
                    *("--otlp-exporter-endpoint", f"http://127.0.0.1:{sink.server_address[1]}"),
                ],
                # It is linked with Python's own library, which may lie beside the interpreter alone.
                env={**os.environ, "LD_LIBRARY_PATH": sysconfig.get_config_var("LIBDIR") or ""},
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
            for port in (http_port, grpc_port):
                _wait_for(port, agent, log)

        collector = Collector(f"http://127.0.0.1:{http_port}", f"127.0.0.1:{grpc_port}", start)

        class Sink(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    import gzip

                    body = gzip.decompress(body)
                if self.path == "/v1/traces":
                    collector.spans += spans_of(ExportTraceServiceRequest.FromString(body))
                elif self.path == "/v1/metrics":
                    collector.take_metrics(ExportMetricsServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 128  # many processes that end at once: the collector passes on what each sent

        sink = Server(("127.0.0.1", 0), Sink)
        thread = threading.Thread(target=sink.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        try:
            start()
            yield collector
        finally:
            if collector.agent is not None:
                collector.agent.terminate()
                collector.agent.wait(10)
            log.close()
            sink.shutdown()
            sink.server_close()


def _wait_for(port: int, agent: subprocess.Popen[bytes], log: IO[str]) -> None:
    end = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            log.seek(0)
            assert agent.poll() is None, f"rotel did not start: {log.read()}"
            assert time.monotonic() < end, "rotel does not listen"
            time.sleep(0.02)


@contextmanager
def black_hole() -> Iterator[int]:
    """A port that takes every connection and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        yield int(listener.getsockname()[1])


@contextmanager
def standin_collector(before_answer: Callable[[str], None]) -> Iterator[Collector]:
    """A stand-in over HTTP and gRPC that is as slow as the test says: it calls ``before_answer`` with ``traces`` or
    ``metrics`` before it answers that the request has arrived, or, where that raises, that it is not available.
    """
    collector = Collector("", "")

    def take(signal: str, body: bytes) -> None:
        before_answer(signal)
        if signal == "traces":
            collector.spans += spans_of(ExportTraceServiceRequest.FromString(body))
        else:
            collector.take_metrics(ExportMetricsServiceRequest.FromString(body))

    class Http(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            code, body = 200, self.rfile.read(int(self.headers["Content-Length"]))
            try:
                take(self.path.rpartition("/")[2], body)
            except ConnectionError:
                code = 503
            try:
                self.send_response(code)
                self.send_header("Content-Length", "0")
                self.end_headers()
            except OSError:  # whoever asked has gone
                pass

        def log_message(self, *arguments: object) -> None:
            pass

    class Rpc(grpc.GenericRpcHandler):
        def service(self, details: grpc.HandlerCallDetails) -> Any:
            signal = "traces" if "TraceService" in details.method else "metrics"

            def export(body: bytes, context: grpc.ServicerContext) -> bytes:
                try:
                    take(signal, body)
                except ConnectionError:
                    context.set_code(grpc.StatusCode.UNAVAILABLE)
                return b""

            return grpc.unary_unary_rpc_method_handler(export)

    http = ThreadingHTTPServer(("127.0.0.1", 0), Http)
    http.daemon_threads = True
    http.block_on_close = False
    threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True).start()
    rpc = grpc.server(ThreadPoolExecutor(32), handlers=(Rpc(),))
    collector.grpc = f"127.0.0.1:{rpc.add_insecure_port('127.0.0.1:0')}"
    collector.http = f"http://127.0.0.1:{http.server_address[1]}"
    rpc.start()
    try:
        yield collector
    finally:
        rpc.stop(None)
        http.shutdown()
        http.server_close()


@contextmanager
def trickle() -> Iterator[int]:
    """A port that answers every connection with an HTTP header that takes minutes to arrive."""
    gone = threading.Event()

    def answer(connection: socket.socket) -> None:
        with connection:
            try:
                connection.sendall(b"HTTP/1.1 200 OK\r\nSlow: ")
                while not gone.wait(0.2):
                    connection.sendall(b"x")
            except OSError:  # whoever asked has gone
                pass

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)

        def accept() -> None:
            while not gone.is_set():
                connection, _ = listener.accept()
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            gone.set()
            socket.create_connection(listener.getsockname()).close()  # wakes it


PRELUDE = """
import json, os, sys, time
from opentelemetry import metrics, trace
from ttstrace import semconv
from ttstrace.telemetry import configure

def synthesize(name="text_to_speech heart", **attributes):
    # A span such as the engine makes, by hand.
    span = trace.get_tracer(semconv.SCOPE, "1.0").start_span(name, attributes={
        semconv.GEN_AI_OPERATION_NAME: semconv.OPERATION, semconv.GEN_AI_PROVIDER_NAME: "hibari",
        semconv.TTS_RTF: 0.113, semconv.TTS_INPUT_CHARACTERS: 42, semconv.TTS_COLD_START: True, **attributes})
    span.add_event(semconv.EVENT_UNDERRUN, {semconv.TTS_STREAM_UNDERRUN_DURATION: 0.3})
    span.end()
    return span

def record(rtf=0.113):
    meter = metrics.get_meter(semconv.SCOPE)
    meter.create_histogram(semconv.METRIC_RTF, unit="1").record(rtf, {"model": "heart"})
    meter.create_counter(semconv.METRIC_INPUT_CHARACTERS).add(42)

def in_memory():
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    exporter = InMemorySpanExporter()
    trace.get_tracer_provider().add_span_processor(SimpleSpanProcessor(exporter))
    return exporter

def plain(span):
    # The SDK's own view of a span, without any encoder.
    return {
        "name": span.name, "trace": f"{span.context.trace_id:032x}", "span": f"{span.context.span_id:016x}",
        "parent": f"{span.parent.span_id:016x}" if span.parent else "", "kind": span.kind.value + 1,
        "start": span.start_time, "end": span.end_time, "attributes": dict(span.attributes),
        "events": [[event.name, event.timestamp, dict(event.attributes)] for event in span.events],
        "status": span.status.status_code.value, "scope": [span.instrumentation_scope.name,
        span.instrumentation_scope.version], "resource": dict(span.resource.attributes)}

def say(**facts):
    print(json.dumps(facts), flush=True)
"""


@dataclass
class Ran:
    """How a program ended and when (seconds since the epoch), and what it said."""

    code: int
    ended: float
    said: dict[str, Any]
    out: str
    err: str


def clean_environment(**variables: str) -> dict[str, str]:
    """This process's environment without what says something about telemetry, and with these variables."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OTEL_", "TTSTRACE_")) and name not in ("NO_COLOR", "PYTHONPATH")
    }
    return {**clean, **variables}


def run_program(source: str, folder: Path, *command: str, check: bool = True, **variables: str) -> Ran:
    """Run a program that begins with PRELUDE in ``folder``, with no ``OTEL_*`` variable but those given."""
    program = folder / "program.py"
    program.write_text(PRELUDE + textwrap.dedent(source))
    done = subprocess.run(
        [*(command or (sys.executable,)), str(program)],
        cwd=folder,
        env=clean_environment(**variables),
        capture_output=True,
        text=True,
        timeout=120,
    )
    ended = time.time()
    if check:
        assert done.returncode == 0, done.stderr
    said: dict[str, Any] = {}
    for line in done.stdout.splitlines():
        if line.startswith("{") and line.endswith("}"):
            said.update(json.loads(line))
    return Ran(done.returncode, ended, said, done.stdout, done.stderr)


def every_broken_collector(folder: Path, source: str) -> dict[tuple[str, str], Ran]:
    """Run a program against each kind of broken collector, over both protocols, all at once."""

    def run(case: tuple[str, str]) -> Ran:
        broken, protocol = case
        own = folder / f"{broken}-{protocol.replace('/', '-')}"
        own.mkdir()
        port = swallows if broken == "swallowing" else refuses
        return run_program(source, own, WHERE=f"http://127.0.0.1:{port}", PROTOCOL=protocol)

    cases = list(itertools.product(["refusing", "swallowing"], ["http/protobuf", "grpc"]))
    with black_hole() as swallows, refusing() as refuses, ThreadPoolExecutor(len(cases)) as pool:
        return dict(zip(cases, pool.map(run, cases), strict=True))


def lines_of(path: Path) -> list[Plain]:
    """The spans of a trace file, read by the official decoder; every line must be whole and hold one span."""
    spans = []
    for line in path.read_bytes().decode("utf-8").splitlines():
        found = spans_of(JSONExportTraceServiceRequest.from_json(line))
        assert len(found) == 1
        spans += found
    return spans


def spans_of(request: Any) -> list[Plain]:
    """OTLP, in protobuf's or in JSON's classes, as plain data."""
    return [
        {
            "name": span.name,
            "trace": bytes(span.trace_id).hex(),
            "span": bytes(span.span_id).hex(),
            "parent": bytes(span.parent_span_id or b"").hex(),
            "kind": int(span.kind),
            "start": span.start_time_unix_nano,
            "end": span.end_time_unix_nano,
            "attributes": _values(span.attributes),
            "events": [[event.name, event.time_unix_nano, _values(event.attributes)] for event in span.events],
            "status": int(span.status.code or 0),
            "scope": [scope.scope.name, scope.scope.version],
            "resource": _values(resource.resource.attributes),
        }
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def _values(attributes: Any) -> dict[str, Any]:
    return {attribute.key: _value(attribute.value) for attribute in attributes}


def _value(value: Any) -> Any:
    for kind in ("string_value", "bool_value", "int_value", "double_value"):
        there = value.HasField(kind) if hasattr(value, "HasField") else getattr(value, kind) is not None
        if there:
            return getattr(value, kind)
    raise AssertionError(f"not a plain value: {value}")
