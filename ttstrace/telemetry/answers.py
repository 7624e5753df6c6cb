"""What a collector answers to each request: the SDK's exporters look at the status alone, and take a redirection, a web
page and a partial success for a success.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from ttstrace.telemetry import troubles
from ttstrace.telemetry.troubles import Signal, Trouble


class Answers:
    """What came back for what one exporter sent last.

    Attributes:
        signal: what the exporter sends.
        trouble: why it was not taken, or not all of it; None where it was, or where nothing is known.
        rejected: how many spans, or data points of metrics, of a partial success were not taken.
        elsewhere: whether it was not a collector that answered.
        logged: the format and the message of the last complaint that the SDK would have logged.
    """

    def __init__(self, exporter: Any, name: str, signal: Signal) -> None:
        self.signal = signal
        self.begin()
        # They have no public way in. Where an SDK to come has others, what it logs still tells what is wrong.
        client: Any = getattr(exporter, "_client", None)
        if name == "otlp_proto_http" and hasattr(client, "_transport"):
            self._watch_http(client._transport)
        elif name == "otlp_proto_grpc" and hasattr(exporter, "_stub"):
            self._watch_grpc(exporter)

    def begin(self) -> None:
        """Forget the last export."""
        self.trouble: Trouble | None = None
        self.rejected = 0
        self.elsewhere = False
        self.logged: tuple[str, str] | None = None

    def why(self) -> Trouble:
        """Why the last export failed, as far as it is known."""
        return self.trouble or troubles.of_log(*(self.logged or ("", "")))

    def _watch_http(self, transport: Any) -> None:
        request = transport.request

        def watched(method: str, url: str, **arguments: Any) -> Any:
            result = request(method, url, **arguments)
            if result.error is not None:
                self._failed(troubles.of_request(result.error))
            elif result.status_code is not None:
                status, kind, body = result.status_code, result.headers().get("content-type") or "", result.content()
                if 200 <= status < 300 and "html" not in kind:
                    self._taken(response(self.signal, kind, body))
                else:
                    self.elsewhere = status < 400
                    self.trouble = troubles.of_status(
                        status, result.reason or "", message(kind, body), self.signal, urlsplit(url).path
                    )
            return result

        transport.request = watched

    def _watch_grpc(self, exporter: Any) -> None:
        make = exporter._stub
        # The exporter connects anew after an error, and asks for another stub then.
        exporter._stub = lambda channel: _WatchedStub(make(channel), self)
        exporter._client = _WatchedStub(exporter._client, self)

    def _failed(self, trouble: Trouble) -> None:
        # Of several tries, the time that the last one had left says less than what was wrong before.
        if self.trouble is None or trouble.kind != troubles.NO_ANSWER.kind:
            self.trouble = trouble

    def _taken(self, response: Any) -> None:
        self.trouble = None
        partial = getattr(response, "partial_success", None)
        if partial is not None:
            self.rejected = max(0, partial.rejected_spans if self.signal == "traces" else partial.rejected_data_points)
            if self.rejected:
                self.trouble = troubles.of_rejection(partial.error_message)


class _WatchedStub:
    def __init__(self, stub: Any, answers: Answers) -> None:
        self._stub = stub
        self._answers = answers

    def Export(self, **arguments: Any) -> Any:
        try:
            response = self._stub.Export(**arguments)
        except Exception as error:
            code, details = getattr(error, "code", None), getattr(error, "details", None)
            if code is not None and details is not None:  # an RpcError of the collector's or the network's
                self._answers._failed(troubles.of_call(code().name, details() or "", self._answers.signal))
            raise
        self._answers._taken(response)
        return response


def response(signal: Signal, content_type: str, body: bytes) -> Any:
    """OTLP's own answer; None where there is none that can be read."""
    if not body:
        return None
    from google.protobuf import json_format  # type: ignore[import-untyped]
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    response = ExportTraceServiceResponse() if signal == "traces" else ExportMetricsServiceResponse()
    try:
        if "json" in content_type:  # some collectors answer so whatever they are sent
            return json_format.Parse(body, response, ignore_unknown_fields=True)
        response.ParseFromString(body)
    except (DecodeError, json_format.ParseError, UnicodeDecodeError):
        return None
    return response


def message(content_type: str, body: bytes) -> str:
    """What the collector says of an error: OTLP has it as a google.rpc.Status."""
    if "protobuf" in content_type:
        from google.protobuf.message import DecodeError
        from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

        try:
            return str(Status.FromString(body).message)
        except DecodeError:
            return ""
    return "" if "html" in content_type else body.decode("utf-8", "replace")


# The SDK logs every failed try of every batch. ttstrace says an outage once, so that those lines are for debugging.
_SDK_LOGGERS = (
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.exporter.otlp.proto.http.metric_exporter",
    "opentelemetry.exporter.otlp.proto.grpc.exporter",
    "opentelemetry.sdk._shared_internal",
)


class _Quieted(threading.local):
    """Whether this thread is at work for an exporter of ours: that of an application logs as ever."""

    active = False
    answers: Answers | None = None


_quieted = _Quieted()


class _DebugOnly(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if not _quieted.active or record.levelno <= logging.DEBUG:
            return True
        if _quieted.answers is not None:
            _quieted.answers.logged = str(record.msg), record.getMessage()
        record.levelno, record.levelname = logging.DEBUG, logging.getLevelName(logging.DEBUG)
        return logging.getLogger(record.name).isEnabledFor(logging.DEBUG)


_debug_only = _DebugOnly()


@contextmanager
def sdk_quieted(answers: Answers | None = None) -> Iterator[None]:
    """Have what the SDK logs on this thread go to the level DEBUG, and the last of it to ``answers``."""
    before = _quieted.active, _quieted.answers
    _quieted.active, _quieted.answers = True, answers
    try:
        yield
    finally:
        _quieted.active, _quieted.answers = before


def quiet_sdk() -> None:
    """Make :func:`sdk_quieted` hold; to be called before the first export."""
    for name in _SDK_LOGGERS:
        logging.getLogger(name).addFilter(_debug_only)  # a second time changes nothing
