"""``ttstrace replay``: the spans of a trace file, sent to a collector as they are."""

from __future__ import annotations

import argparse
import base64
import gzip
import json
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ttstrace.cli.errors import Failure, UsageError
from ttstrace.cli.terminal import is_terminal

if TYPE_CHECKING:
    import requests
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    from ttstrace.telemetry.troubles import Trouble

SUMMARY = "send a trace file to a collector or to Jaeger"
DESCRIPTION = """\
Sends the spans of trace files to an OTLP collector, over HTTP: unchanged, with
the ids and the times they have. Lines that hold no spans are skipped, and
counted at the end.

Sending a file again sends the same spans with the same ids: a backend that
keeps spans by their ids has each once, another shows it twice. What stopped
half-way says with which line to go on (--from-line)."""
EPILOG = """\
examples:
  ttstrace replay ttstrace.jsonl --endpoint http://localhost:4318
  ttstrace replay monday.jsonl tuesday.jsonl --endpoint https://otlp.example.com
      headers, such as a key, from OTEL_EXPORTER_OTLP_HEADERS, and the
      certificate to trust from OTEL_EXPORTER_OTLP_CERTIFICATE, as everywhere
  ttstrace replay day.jsonl --endpoint http://localhost:4318 --from-line 513
  ttstrace replay day.jsonl --endpoint http://localhost:4318 --json
      for programs: one JSON object on standard output"""

_PATH = "/v1/traces"
_SPANS_MAX, _BYTES_MAX = 512, 4_000_000  # of one request
_CONNECT, _ANSWER = 5.0, 30.0  # seconds
_TRIES = 5
_WORTH_TRYING_AGAIN = (429, 502, 503, 504)  # as OTLP says


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", metavar="FILE", nargs="+", help="a trace file: OTLP JSON, one line a batch")
    parser.add_argument("--endpoint", metavar="URL", required=True, help=f"the collector's base URL; {_PATH} is added")
    parser.add_argument(
        "--from-line", metavar="N", type=int, default=1, help="begin with this line of the first file (default: 1)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of sentences")


def _request() -> ExportTraceServiceRequest:
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

    return trace_service_pb2.ExportTraceServiceRequest()


@dataclass
class _Batch:
    """What is to be sent in one request, and the line where it ends."""

    file: int
    line: int = 0
    spans: int = 0
    size: int = 0
    request: ExportTraceServiceRequest = field(default_factory=_request)


@dataclass
class _Sent:
    """What has been done so far."""

    spans: int = 0
    rejected: int = 0
    requests: int = 0
    read: int = 0
    """Bytes of the files."""
    skipped: list[tuple[str, int]] = field(default_factory=list)
    """File and line of what holds no spans."""
    metrics: bool = False
    """Whether metrics were among that."""
    said: str = ""
    """What the collector said of spans that it did not take."""


def run(arguments: argparse.Namespace) -> int:
    url = _url(arguments.endpoint)
    if arguments.from_line < 1:
        raise UsageError("--from-line counts from 1", "ttstrace replay")
    total = sum(_size(file) for file in arguments.files)
    sent = _Sent()
    file, line = 0, arguments.from_line - 1
    session = _session(url)
    try:
        for batch in _batches(arguments.files, arguments.from_line, sent):
            if batch.spans:
                _send(session, url, batch, sent)
            file, line = batch.file, batch.line
            _progress(sent, total)
    except BaseException as error:
        _progress(sent, None)
        if isinstance(error, (Failure, KeyboardInterrupt)):
            files = shlex.join(arguments.files[file:])
            go_on = f"ttstrace replay {files} --endpoint {arguments.endpoint} --from-line {line + 1}"
            said = f"{_sentence(sent, url)}\nTo go on where it stopped: {go_on}"
            if isinstance(error, Failure):
                raise Failure(f"{error}\n{said}") from None
            print(said, file=sys.stderr)
        raise
    _progress(sent, None)
    if arguments.json:
        print(json.dumps(_as_json(sent, url, arguments.files), indent=2))
    else:
        print(_sentence(sent, url))
        print(_skipped(sent), end="")
    if sent.rejected:
        raise Failure(f"{sent.rejected} spans were not taken by the collector: {sent.said or 'it does not say why'}")
    return 0


# --- reading -----------------------------------------------------------------------------------------------------


def _size(file: str) -> int:
    try:
        if os.path.isdir(file):
            raise Failure(f"{file} is a folder: name the trace files in it")
        with open(file, "rb"):
            return os.path.getsize(file)
    except OSError as error:
        raise Failure(f"{file} cannot be read: {error.strerror}") from None


def _batches(files: Sequence[str], from_line: int, sent: _Sent) -> Iterator[_Batch]:
    for number, file in enumerate(files):
        batch = _Batch(number)
        with open(file, "rb") as lines:
            for at, line in enumerate(lines, 1):
                sent.read += len(line)
                if at >= (from_line if number == 0 else 1) and line.strip():
                    _take(line, batch, sent, file, at)
                batch.line = at
                if batch.spans >= _SPANS_MAX or batch.size >= _BYTES_MAX:
                    yield batch
                    batch = _Batch(number, at)
        yield batch


def _take(line: bytes, batch: _Batch, sent: _Sent, file: str, at: int) -> None:
    from google.protobuf import json_format  # type: ignore[import-untyped]

    found = _request()
    try:
        plain = json.loads(line)
        spans = [
            span for resource in plain["resourceSpans"] for scope in resource["scopeSpans"] for span in scope["spans"]
        ]
        for span in spans:
            _with_ids_of_protobuf(span)
            for link in span.get("links", ()):
                _with_ids_of_protobuf(link)
        json_format.ParseDict(plain, found, ignore_unknown_fields=True)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError, json_format.Error):
        sent.skipped.append((file, at))
        sent.metrics = sent.metrics or b'"resourceMetrics"' in line
        return
    batch.request.MergeFrom(found)
    batch.spans += len(spans)
    batch.size += len(line)


def _with_ids_of_protobuf(span: dict[str, Any]) -> None:
    """OTLP's JSON has ids in hexadecimal digits, where protobuf's own has base64."""
    for name in ("traceId", "spanId", "parentSpanId"):
        if name in span:
            span[name] = base64.b64encode(bytes.fromhex(span[name])).decode()


# --- sending -----------------------------------------------------------------------------------------------------


def _url(endpoint: str) -> str:
    from ttstrace.telemetry.destinations import resolve

    try:
        resolve(endpoint, "http/protobuf", None)
    except ValueError as error:
        raise UsageError(str(error), "ttstrace replay") from None
    base = endpoint.strip() if "://" in endpoint else f"http://{endpoint.strip()}"
    if urlsplit(base).port == 4317:
        raise UsageError("port 4317 is OTLP over gRPC; replay speaks HTTP, which is port 4318", "ttstrace replay")
    return base.rstrip("/").removesuffix(_PATH) + _PATH


def _session(url: str) -> requests.Session:
    import requests
    from opentelemetry.util.re import parse_env_headers
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    def said(name: str) -> str:
        return os.environ.get(f"OTEL_EXPORTER_OTLP_TRACES_{name}") or os.environ.get(f"OTEL_EXPORTER_OTLP_{name}", "")

    retry = Retry(
        total=_TRIES,
        redirect=0,
        backoff_factor=0.5,
        status_forcelist=_WORTH_TRYING_AGAIN,
        allowed_methods=None,  # POST as well: sending again does no harm
        raise_on_status=False,
        raise_on_redirect=False,
    )
    session = requests.Session()
    session.mount(url, HTTPAdapter(max_retries=retry))
    session.headers.update(parse_env_headers(said("HEADERS"), liberal=True))
    session.headers.update({"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"})
    if certificate := said("CERTIFICATE"):
        session.verify = certificate
    return session


def _send(session: requests.Session, url: str, batch: _Batch, sent: _Sent) -> None:
    import requests

    from ttstrace.telemetry import troubles
    from ttstrace.telemetry.answers import message, response

    body = gzip.compress(batch.request.SerializeToString(), 5)
    try:
        answer = session.post(url, body, timeout=(_CONNECT, _ANSWER), allow_redirects=False)
    except requests.RequestException as error:
        raise _failure(url, troubles.of_request(error)) from None
    kind = answer.headers.get("content-type", "")
    if not 200 <= answer.status_code < 300 or "html" in kind:
        said = message(kind, answer.content).strip()[:300]
        raise _failure(url, troubles.of_status(answer.status_code, answer.reason or "", said, "traces", _PATH))
    sent.requests += 1
    sent.spans += batch.spans
    partial = getattr(response("traces", kind, answer.content), "partial_success", None)
    if partial is not None and partial.rejected_spans > 0:
        sent.spans -= partial.rejected_spans
        sent.rejected += partial.rejected_spans
        sent.said = partial.error_message


def _failure(url: str, trouble: Trouble) -> Failure:
    return Failure(
        f"the collector at {url} {trouble.state}{f' ({trouble.reason})' if trouble.reason else ''}. "
        "Is it running, and is --endpoint its base URL?"
    )


# --- saying ------------------------------------------------------------------------------------------------------


def _progress(sent: _Sent, total: int | None) -> None:
    """One line that is written over, on a terminal only; with no total it goes away."""
    if is_terminal(sys.stderr):
        said = "" if total is None else f"{sent.spans:,} spans sent, {sent.read / max(total, 1):.0%} of the file read"
        print(f"\r\x1b[K{said}", end="", file=sys.stderr, flush=True)


def _sentence(sent: _Sent, url: str) -> str:
    requests = f"{sent.requests} request{'' if sent.requests == 1 else 's'}"
    return f"{sent.spans:,} span{'' if sent.spans == 1 else 's'} sent to {url} in {requests}."


def _skipped(sent: _Sent) -> str:
    if not sent.skipped:
        return ""
    file, line = sent.skipped[0]
    count = len(sent.skipped)
    said = f"{count} line{'' if count == 1 else 's'} skipped that hold{'s' if count == 1 else ''} no whole spans"
    said += f", the first: {file}, line {line}."
    if sent.metrics:
        said += " Some hold metrics, which are no matter of traces."
    return said + "\n"


def _as_json(sent: _Sent, url: str, files: Sequence[str]) -> dict[str, Any]:
    return {
        "url": url,
        "files": list(files),
        "spans_sent": sent.spans,
        "spans_rejected": sent.rejected,
        "requests": sent.requests,
        "lines_skipped": [{"file": file, "line": line} for file, line in sent.skipped],
    }
