"""A server that speaks OTLP over HTTP and gRPC, reads what it is sent, and answers what a test wants."""

from __future__ import annotations

import gzip
import socket
import ssl
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import trustme
from collector import Plain, spans_of
from google.protobuf import any_pb2, duration_pb2, json_format
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

_REQUESTS = {"traces": ExportTraceServiceRequest, "metrics": ExportMetricsServiceRequest}


@dataclass(frozen=True)
class Answer:
    """What to say to a request.

    Attributes:
        status: over HTTP.
        code: over gRPC, by name.
        message: the words of a refusal, or of a partial success.
        retry_after: seconds, in the header or in the RetryInfo; None for none.
        location: of a redirection.
        rejected: how many of what it is sent it does not take, of an answer that it took the rest.
        as_json: answer so over HTTP, whatever was sent.
        page: answer with a web page over HTTP, as what is no collector does.
    """

    status: int = 200
    code: str = "OK"
    message: str = ""
    retry_after: float | None = None
    location: str = ""
    rejected: int = 0
    as_json: bool = False
    page: bool = False


TAKEN = Answer()


@dataclass
class OtlpServer:
    """A running server.

    Attributes:
        endpoint: where to send to.
        protocol: what it speaks.
        answers: what it says next, one answer a request; then ``answer``, whatever it is asked.
        attempts: the signal of each request, in the order in which they came.
        encodings: what each request over HTTP was compressed with.
        spans: what was taken.
        metrics: those taken last, by name.
        hold: requests wait for it before they are answered.
        held: how many wait.
    """

    endpoint: str
    protocol: str
    answer: Answer = TAKEN
    answers: dict[str, deque[Answer]] = field(default_factory=lambda: {"traces": deque(), "metrics": deque()})
    attempts: list[str] = field(default_factory=list)
    encodings: list[str | None] = field(default_factory=list)
    spans: list[Plain] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    hold: threading.Event = field(default_factory=threading.Event)
    held: int = 0

    def receive(self, signal: str, request: Any) -> Answer:
        self.attempts.append(signal)
        queue = self.answers[signal]
        answer = queue.popleft() if queue else self.answer
        if not self.hold.is_set():
            self.held += 1
            self.hold.wait(60)
        if (answer.status, answer.code) == (200, "OK"):
            if signal == "traces":
                spans = spans_of(request)
                self.spans += spans[: len(spans) - answer.rejected]
            else:
                for resource in request.resource_metrics:
                    for scope in resource.scope_metrics:
                        self.metrics.update({metric.name: metric for metric in scope.metrics})
        return answer


def _response(signal: str, answer: Answer) -> Any:
    if signal == "traces":
        traces = ExportTraceServiceResponse()
        if answer.rejected:
            traces.partial_success.rejected_spans = answer.rejected
            traces.partial_success.error_message = answer.message
        return traces
    metrics = ExportMetricsServiceResponse()
    if answer.rejected:
        metrics.partial_success.rejected_data_points = answer.rejected
        metrics.partial_success.error_message = answer.message
    return metrics


@contextmanager
def otlp_server(
    protocol: str, *, port: int = 0, tls: trustme.LeafCert | None = None, host: str = "127.0.0.1"
) -> Iterator[OtlpServer]:
    """Start one; with a certificate it speaks TLS."""
    server = OtlpServer("", protocol)
    server.hold.set()
    run = _over_grpc if protocol == "grpc" else _over_http
    with run(server, port, tls) as bound:
        server.endpoint = f"{'https' if tls else 'http'}://{host}:{bound}"
        yield server


@contextmanager
def _over_http(server: OtlpServer, port: int, tls: trustme.LeafCert | None) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 60

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            encoding = self.headers.get("Content-Encoding")
            server.encodings.append(encoding)
            if encoding == "gzip":
                body = gzip.decompress(body)
            # Whatever stands before it, the path ends so.
            signal = self.path.rpartition("/")[2]
            answer = server.receive(signal, _REQUESTS[signal].FromString(body))
            content, kind = b"", "application/x-protobuf"
            if answer.status == 200:
                response = _response(signal, answer)
                content = response.SerializeToString()
                if answer.as_json:
                    content, kind = json_format.MessageToJson(response).encode(), "application/json"
                if answer.page:
                    content, kind = b"<!doctype html><title>Log in</title>", "text/html"
            elif answer.message:
                content = Status(message=answer.message).SerializeToString()
            try:
                self.send_response(answer.status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                if answer.retry_after is not None:
                    self.send_header("Retry-After", f"{answer.retry_after:g}")
                if answer.location:
                    self.send_header("Location", answer.location)
                self.end_headers()
                self.wfile.write(content)
            except OSError:  # nobody waits for it any more
                self.close_connection = True

        def log_message(self, *arguments: object) -> None:
            pass

    connections: list[socket.socket] = []

    class Server(ThreadingHTTPServer):
        def get_request(self) -> tuple[socket.socket, Any]:
            connection, address = super().get_request()
            connections.append(connection)
            return connection, address

        def handle_error(self, *arguments: object) -> None:
            pass  # a client that does not like the certificate hangs up

    httpd = Server(("127.0.0.1", port), Handler)
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.configure_cert(context)
        httpd.socket = context.wrap_socket(httpd.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield int(httpd.server_address[1])
    finally:
        server.hold.set()
        httpd.shutdown()
        httpd.server_close()
        for connection in connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:  # closed already
                pass


@contextmanager
def _over_grpc(server: OtlpServer, port: int, tls: trustme.LeafCert | None) -> Iterator[int]:
    def export(signal: str, request: Any, context: grpc.ServicerContext) -> Any:
        answer = server.receive(signal, request)
        if answer.code != "OK":
            code = grpc.StatusCode[answer.code]
            if answer.retry_after is not None:
                delay = duration_pb2.Duration(nanos=int(answer.retry_after * 1e9))
                retry, detail = RetryInfo(retry_delay=delay), any_pb2.Any()
                detail.Pack(retry)
                status = Status(code=code.value[0], message=answer.message, details=[detail])
                context.set_trailing_metadata(
                    (
                        ("grpc-status-details-bin", status.SerializeToString()),
                        ("google.rpc.retryinfo-bin", retry.SerializeToString()),  # where the SDK looks for it
                    )
                )
            context.abort(code, answer.message)
        return _response(signal, answer)

    class Traces(trace_service_pb2_grpc.TraceServiceServicer):
        def Export(self, request: Any, context: Any) -> Any:
            return export("traces", request, context)

    class Metrics(metrics_service_pb2_grpc.MetricsServiceServicer):
        def Export(self, request: Any, context: Any) -> Any:
            return export("metrics", request, context)

    with ThreadPoolExecutor(8) as pool:
        running = grpc.server(pool, options=[("grpc.so_reuseport", 0)])
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Traces(), running)
        metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(Metrics(), running)
        address = f"127.0.0.1:{port}"
        if tls is None:
            bound = running.add_insecure_port(address)
        else:
            chain = b"".join(certificate.bytes() for certificate in tls.cert_chain_pems)
            key = tls.private_key_pem.bytes()
            bound = running.add_secure_port(address, grpc.ssl_server_credentials([(key, chain)]))
        running.start()
        try:
            yield bound
        finally:
            server.hold.set()
            running.stop(None).wait(10)
