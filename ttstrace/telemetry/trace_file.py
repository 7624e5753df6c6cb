"""The trace file: OTLP JSON, one line a span, on disk as soon as the span has ended.

Spans and metrics never share a file, so that a file of spans can be dropped on Jaeger's Upload tab as it is.
"""

from __future__ import annotations

import json
import logging
import os
import re
import stat
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.exporter.otlp.json.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.json.common.trace_encoder import encode_spans
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

if TYPE_CHECKING:
    PathLike = str | os.PathLike[str]

EXPORTER_NAME = "ttstrace_file"
"""The name for ``OTEL_TRACES_EXPORTER`` and ``OTEL_METRICS_EXPORTER``."""
PATH_VARIABLE = "TTSTRACE_FILE"
DEFAULT_PATH = "ttstrace.jsonl"

_SPANS = "resourceSpans"
_METRICS = "resourceMetrics"
# An existing file is recognised by its first line; one span does not come near this.
_LONGEST_FIRST_LINE = 1 << 24

_logger = logging.getLogger(__name__)

written_by_name: set[tuple[str, str, str]] = set()
"""Signal, exporter and file of each exporter that the SDK made by its name: ``configure()`` adds it no second
time.
"""


def default_path() -> str:
    """The trace file that ``TTSTRACE_FILE`` names, else ``ttstrace.jsonl`` in the working directory."""
    return os.environ.get(PATH_VARIABLE) or DEFAULT_PATH


def metrics_path(path: PathLike) -> str:
    """The file of metrics that goes with a trace file: ``x.jsonl`` -> ``x.metrics.jsonl``."""
    root, suffix = os.path.splitext(os.fspath(path))
    return f"{root}.metrics{suffix}"


# One escape sequence of JSON at a time, so that an escaped backslash before "ud800" is not taken for a
# surrogate.
_ESCAPE = re.compile(r"\\(?:ud[89ab]..(?:\\ud[c-f]..)?|ud[c-f]..|.)")
# A quote inside a JSON string is escaped: this can only be a key and its value.
_LONG_INTEGER = re.compile(r'"intValue": "(-?\d{19,})"')


def _without_lone_surrogate(escape: re.Match[str]) -> str:
    sequence = escape.group()
    return "\\ufffd" if len(sequence) == 6 and sequence.startswith("\\ud") else sequence


def _integer_that_fits(value: re.Match[str]) -> str:
    digits = value.group(1)
    return value.group() if -(2**63) <= int(digits) < 2**63 else f'"stringValue": "{digits}"'


def to_line(message: str) -> bytes:
    """One OTLP JSON message as one line that every strict reader takes.

    A lone surrogate becomes U+FFFD, and an integer beyond 64 bits a string: either would make a strict reader
    refuse the line, and with it the whole file.
    """
    if "\\ud" in message:
        message = _ESCAPE.sub(_without_lone_surrogate, message)
    if _LONG_INTEGER.search(message):
        message = _LONG_INTEGER.sub(_integer_that_fits, message)
    return message.encode() + b"\n"


class LineFile:
    """A file of lines to which any number of threads and processes append, each line whole.

    Args:
        path: the file; made if it is missing, and appended to if it holds what ``key`` says.
        key: the one key that each line's JSON object has.

    Raises:
        OSError: the folder is missing, or the file cannot be written.
        ValueError: the file exists and holds something else.
    """

    def __init__(self, path: PathLike, key: str) -> None:
        self.path = os.path.abspath(os.fspath(path))
        self._warned = False
        # Whether the file ends in the middle of a line: of one that somebody was killed in, or the disk was
        # full for.
        self._torn = _check(self.path, key)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        try:
            descriptor = os.open(self.path, flags | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0), 0o666)
        except OSError as error:
            raise type(error)(
                f"The trace file {self.path!r} cannot be written ({error.strerror}): "
                f"name another one with file=... or {PATH_VARIABLE}."
            ) from error
        self._descriptor = descriptor
        # Not closed before nobody can write to it any more: the number might be somebody else's file by then.
        weakref.finalize(self, os.close, descriptor).atexit = False

    def write(self, line: bytes) -> bool:
        """Append one line, its newline included; False, and one warning for the file's life, where that
        fails.
        """
        if self._torn:
            line = b"\n" + line
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError as error:
            self._torn = self._torn or len(rest) < len(line)
            if not self._warned:
                self._warned = True
                _logger.warning("%s cannot be written (%s): what does not fit is lost.", self.path, error.strerror)
            return False
        self._torn = False
        return True


def _check(path: str, key: str) -> bool:
    """Refuse what is not ours to append to; True where the last line lacks its end."""
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"The folder of the trace file {path!r} does not exist: create {folder!r} first.")
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(f"The trace file {path!r} is a folder: name a file in it, such as {DEFAULT_PATH!r}.")
    # Before it is opened: opening a pipe would wait for its reader.
    if not stat.S_ISREG(mode):
        raise ValueError(f"The trace file {path!r} is not a regular file: name one that is.")
    try:
        with open(path, "rb") as file:
            first = file.readline(_LONGEST_FIRST_LINE)
            if not first:
                return False
            file.seek(-1, os.SEEK_END)
            torn = file.read(1) != b"\n"
    except PermissionError as error:
        raise PermissionError(
            f"The trace file {path!r} cannot be read ({error.strerror}): name another one."
        ) from error
    if not _holds(first, key):
        what = "spans" if key == _SPANS else "metrics"
        raise ValueError(
            f"{path!r} exists and is not a file of {what} (its first line has no {key!r}): "
            "name another file, or move this one away."
        )
    return torn


def _holds(first_line: bytes, key: str) -> bool:
    try:
        message = json.loads(first_line)
    except ValueError:
        # Too long to be read whole, or cut off by a crash: its beginning tells.
        return first_line.startswith(b'{"%s":' % key.encode()) and not first_line.endswith(b"\n")
    return isinstance(message, dict) and key in message


class SpanFileExporter(SpanExporter):
    """Appends spans to a trace file, one line a span.

    Args:
        path: the trace file. Without one it is that of ``TTSTRACE_FILE``, and spans are written as they end
            even though the SDK puts an exporter that it makes by name
            (``OTEL_TRACES_EXPORTER=ttstrace_file``) behind a batch: the exporter adds a processor of its own
            to the global provider, and takes nothing from the batch. A batch would lose what a killed process
            or a worker of a pool has not sent.
    """

    def __init__(self, path: PathLike | None = None) -> None:
        self._file = LineFile(default_path() if path is None else path, _SPANS)
        self._writes_through = False
        if path is None:
            add = getattr(trace.get_tracer_provider(), "add_span_processor", None)
            written_by_name.add(("traces", EXPORTER_NAME, self._file.path))
            if add is not None:
                add(SpanFileProcessor(SpanFileExporter(self._file.path)))
                self._writes_through = True

    @property
    def path(self) -> str:
        """The trace file, absolute."""
        return self._file.path

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if self._writes_through:
            return SpanExportResult.SUCCESS
        written = [self._file.write(to_line(encode_spans((span,)).to_json())) for span in spans]
        return SpanExportResult.SUCCESS if all(written) else SpanExportResult.FAILURE

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return True

    def shutdown(self) -> None:
        pass


class SpanFileProcessor(SimpleSpanProcessor):
    """Hands each span to the trace file when it ends; silent once shut down."""

    def on_end(self, span: ReadableSpan) -> None:
        if not self._shutdown:
            super().on_end(span)


class MetricFileExporter(MetricExporter):
    """Appends metrics to a file of their own, one line a collection.

    Args:
        path: the file of metrics; without one, that which goes with the trace file of ``TTSTRACE_FILE``.
    """

    def __init__(self, path: PathLike | None = None) -> None:
        super().__init__()
        self._file = LineFile(metrics_path(default_path()) if path is None else path, _METRICS)
        if path is None:
            written_by_name.add(("metrics", EXPORTER_NAME, self._file.path))

    @property
    def path(self) -> str:
        """The file of metrics, absolute."""
        return self._file.path

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        written = self._file.write(to_line(encode_metrics(metrics_data).to_json()))
        return MetricExportResult.SUCCESS if written else MetricExportResult.FAILURE

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        pass
