"""What the soak keeps of every span: that it ended once, and that its figures are what was spoken; never the span."""

from __future__ import annotations

import logging
import math
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from opentelemetry.context import Context
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from ttstrace import semconv
from ttstrace.telemetry.trace_file import SpanFileExporter

_COMPLAINTS_MAX = 20
Attributes = Mapping[str, Any]


class Truth(NamedTuple):
    """What is known of a synthesis before it is measured."""

    seconds: float | None = None
    """Of audio."""
    chunks: int | None = None
    """None for a result that came whole."""
    characters: int | None = None
    error: str | None = None
    interrupted: bool = False
    collected: bool = False
    """The garbage collector ended it: it has no figures of the process."""
    cold: bool | None = None
    """None where it depends on the calls before."""
    open: int | None = 1
    """Most syntheses open at once while it was, where nothing else runs; None where that is not known."""


def doubts(attributes: Attributes, truth: Truth, most_open: int) -> str | None:
    """What is wrong with a synthesis's figures; None where nothing is."""
    for name, expected in (
        (semconv.TTS_STREAM_CHUNKS, truth.chunks),
        (semconv.TTS_INPUT_CHARACTERS, truth.characters),
        (semconv.ERROR_TYPE, truth.error),
        (semconv.TTS_INTERRUPTED, truth.interrupted or None),
    ):
        if attributes.get(name) != expected:
            return f"{name} is {attributes.get(name)}, not {expected}"
    seconds = attributes.get(semconv.TTS_AUDIO_DURATION)
    if (seconds is None) != (truth.seconds is None) or (
        seconds is not None and not math.isclose(seconds, truth.seconds or 0.0, rel_tol=1e-9)
    ):
        return f"{semconv.TTS_AUDIO_DURATION} is {seconds}, not {truth.seconds}"
    if truth.cold is not None and attributes.get(semconv.TTS_COLD_START) != truth.cold:
        return f"{semconv.TTS_COLD_START} is {attributes.get(semconv.TTS_COLD_START)}, not {truth.cold}"
    together = attributes.get(semconv.TTS_CONCURRENCY_MAX, 0)
    if most_open > 1 or truth.open is None:
        if not 1 <= together <= most_open:
            return f"{semconv.TTS_CONCURRENCY_MAX} is {together}, not 1 to {most_open}"
    elif together != truth.open:
        return f"{semconv.TTS_CONCURRENCY_MAX} is {together}, not {truth.open}"
    if (semconv.TTS_MEMORY_PEAK in attributes) == truth.collected:
        return f"{semconv.TTS_MEMORY_PEAK} is {attributes.get(semconv.TTS_MEMORY_PEAK)}"
    duration, rtf = attributes.get(semconv.TTS_SYNTHESIS_DURATION), attributes.get(semconv.TTS_RTF)
    if duration is not None and not duration >= 0:
        return f"{semconv.TTS_SYNTHESIS_DURATION} is {duration}"
    if rtf is not None and (not seconds or duration is None or not math.isclose(rtf * seconds, duration)):
        return f"{semconv.TTS_RTF} is {rtf}, of {duration} s for {seconds} s"
    return None


class Ledger(SpanProcessor):
    """Counts what started and what ended, on any threads.

    A synthesis's model says which truth holds for it: the model's name, up to its first hyphen.
    """

    def __init__(self, truths: Mapping[str, Truth]) -> None:
        self._truths = truths
        self.checks: dict[str, Callable[[Attributes], str | None]] = {}
        """By model, what a truth cannot say beforehand; what it returns is wrong."""
        self.ended: Counter[str] = Counter()
        """Syntheses by model, other spans by name."""
        self.started = 0
        self.twice = 0
        """Ended again, or never started."""
        self.most_open = 1
        """How many syntheses may be open at once."""
        self.last: Attributes = {}
        """Of the synthesis that ended last."""
        self.wrong = 0
        self.complaints: list[str] = []
        """The first of what is wrong."""
        self._open: set[int] = set()
        self._lock = threading.Lock()
        self._holder = 0

    @property
    def open(self) -> int:
        """Spans that started and did not end."""
        return len(self._open)

    def complain(self, what: str) -> None:
        self.wrong += 1
        if len(self.complaints) < _COMPLAINTS_MAX:
            self.complaints.append(what)

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        if self._entered():
            try:
                self.started += 1
                self._open.add(span.get_span_context().span_id)
            finally:
                self._left()

    def on_end(self, span: ReadableSpan) -> None:
        if self._entered():
            try:
                self._take(span)
            except Exception as error:
                self.complain(f"{span.name}: {error!r}")
            finally:
                self._left()

    def _entered(self) -> bool:
        # A finalizer that calls OpenTelemetry would hang here, as it would in any exporter's lock.
        if self._holder == threading.get_ident():
            self.complain("a finalizer started or ended a span")
            return False
        self._lock.acquire()
        self._holder = threading.get_ident()
        return True

    def _left(self) -> None:
        self._holder = 0
        self._lock.release()

    def _take(self, span: ReadableSpan) -> None:
        context = span.get_span_context()
        identity = 0 if context is None else context.span_id
        if identity in self._open:
            self._open.remove(identity)
        else:
            self.twice += 1
        attributes = span.attributes or {}
        if semconv.GEN_AI_OPERATION_NAME not in attributes:
            self.ended[span.name] += 1
            return
        model = str(attributes[semconv.GEN_AI_REQUEST_MODEL]).partition("-")[0]
        self.ended[model] += 1
        self.last = attributes
        check = self.checks.get(model)
        why = doubts(attributes, self._truths[model], self.most_open) if check is None else check(attributes)
        if why is not None:
            self.complain(f"{span.name}: {why}")


class Sink(SpanExporter):
    """Drops the spans, or writes them to a trace file first."""

    def __init__(self) -> None:
        self.file: SpanFileExporter | None = None

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS if self.file is None else self.file.export(spans)

    def shutdown(self) -> None:
        pass


class Faults(logging.Handler):
    """What ttstrace says went wrong in itself, and what Python cannot raise: all of it is a complaint."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(logging.DEBUG)
        self._ledger = ledger
        self._logger = logging.getLogger("ttstrace")
        self._before = self._logger.level, sys.unraisablehook

    def emit(self, record: logging.LogRecord) -> None:
        self._ledger.complain(f"said in the log: {record.getMessage()}")

    def __enter__(self) -> Faults:
        self._logger.addHandler(self)
        self._logger.setLevel(logging.DEBUG)
        sys.unraisablehook = lambda unraisable: self._ledger.complain(f"not raised: {unraisable.exc_value!r}")
        return self

    def __exit__(self, *error: object) -> None:
        self._logger.removeHandler(self)
        level, sys.unraisablehook = self._before
        self._logger.setLevel(level)


def metric_doubts(reader: InMemoryMetricReader, innermost: int) -> list[str]:
    """What is wrong with the metrics of everything that ran so far.

    Args:
        reader: of the MeterProvider.
        innermost: syntheses so far with none inside: those the metrics are recorded of.
    """
    data = reader.get_metrics_data()
    points: dict[str, list[Any]] = {
        metric.name: list(metric.data.data_points)
        for resource in (data.resource_metrics if data is not None else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    wrong = []
    recorded = sum(point.count for point in points.get(semconv.METRIC_OPERATION_DURATION, ()))
    if recorded != innermost:
        wrong.append(f"{semconv.METRIC_OPERATION_DURATION} has {recorded} records, not {innermost}")
    for name, found in points.items():
        models = {(point.attributes or {}).get(semconv.GEN_AI_REQUEST_MODEL) for point in found}
        if len(models) > 101:
            wrong.append(f"{name} tells {len(models)} models apart, more than 100 and _other")
    for point in points.get(semconv.METRIC_ACTIVE, ()):
        if point.value:
            wrong.append(f"{semconv.METRIC_ACTIVE} is {point.value} at the end")
    return wrong
