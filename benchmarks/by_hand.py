"""The same telemetry as a traced call's, written by hand: what ttstrace is held against."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from typing import Any, NamedTuple

from opentelemetry import metrics, trace
from opentelemetry.context import attach, detach
from opentelemetry.sdk.metrics.export import Histogram, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan
from subject import speak

from ttstrace import semconv

SCOPE = "by hand"


class Record(NamedTuple):
    """One metric record of a traced call, as it can be made again."""

    instrument: str
    attributes: dict[str, Any]
    value: float
    boundaries: tuple[float, ...] | None
    """Of a histogram; None for what counts."""
    monotonic: bool
    exemplars: bool
    """Its data point leads back to the span."""


def records_of(reader: InMemoryMetricReader, scope: str) -> list[Record]:
    """What was recorded so far by one scope, which is one record of each instrument or the benchmark's own mistake."""
    found = []
    gathered = reader.get_metrics_data()
    assert gathered is not None
    for metric in (
        metric
        for resource in gathered.resource_metrics
        for scoped in resource.scope_metrics
        if scoped.scope.name == scope
        for metric in scoped.metrics
    ):
        data: Any = metric.data
        (point,) = data.data_points
        histogram = isinstance(data, Histogram)
        assert not histogram or point.count == 1, f"{metric.name} was recorded {point.count} times"
        found.append(
            Record(
                metric.name,
                dict(point.attributes or {}),
                point.sum if histogram else point.value,
                tuple(point.explicit_bounds) if histogram else None,
                histogram or data.is_monotonic,
                bool(point.exemplars),
            )
        )
    return found


def written(like: ReadableSpan, *, reads: bool, records: list[Record] = []) -> Callable[[str], Any]:  # noqa: B006
    """A call inside a span, as a careful engineer writes it who wants the same telemetry for this one function.

    The attributes are given: the span is held against one that finds each of them out at every call.

    Args:
        like: the span of a traced call.
        reads: make the kernel reads that its figures take.
        records: make the metric records of a traced call.
    """
    tracer, meter = trace.get_tracer(SCOPE), metrics.get_meter(SCOPE)
    name, attributes = like.name, dict(like.attributes or {})
    write, pread, process_time = os.write, os.pread, time.process_time

    def plain(text: str) -> Any:
        with tracer.start_as_current_span(name) as span:
            result = speak(text)
            span.set_attributes(attributes)
        return result

    if not reads:
        return plain

    # What goes up and down is up around the span. All else is recorded inside it, so that exemplars lead to it.
    active: Any = None
    active_attributes: dict[str, Any] = {}
    made: list[tuple[Any, float, dict[str, Any]]] = []
    for each in records:
        if each.boundaries is not None:
            boundaries = list(each.boundaries)
            histogram = meter.create_histogram(each.instrument, explicit_bucket_boundaries_advisory=boundaries)
            made.append((histogram.record, each.value, each.attributes))
        elif each.monotonic:
            made.append((meter.create_counter(each.instrument).add, each.value, each.attributes))
        else:
            active, active_attributes = meter.create_up_down_counter(each.instrument).add, each.attributes

    clear_refs = os.open("/proc/self/clear_refs", os.O_WRONLY)
    statm = os.open("/proc/self/statm", os.O_RDONLY)

    def measured(text: str) -> Any:
        with tracer.start_as_current_span(name) as span:
            write(clear_refs, b"5")
            getrusage(RUSAGE_SELF)
            int(pread(statm, 64, 0).split()[1])
            process_time()
            getrusage(RUSAGE_CHILDREN)
            result = speak(text)
            getrusage(RUSAGE_SELF)
            int(pread(statm, 64, 0).split()[1])
            process_time()
            getrusage(RUSAGE_CHILDREN)
            span.set_attributes(attributes)
            for record, value, told in made:
                record(value, told)
        return result

    if active is None:
        return measured

    def counted(text: str) -> Any:
        active(1, active_attributes)
        try:
            return measured(text)
        finally:
            active(-1, active_attributes)

    return counted


def attached(like: ReadableSpan) -> Callable[[str], Any]:
    """As `written` with the reads, but with the span made current by hand as well: a `with` costs a quarter of a
    span."""
    tracer = trace.get_tracer(SCOPE)
    name, attributes = like.name, dict(like.attributes or {})
    write, pread, process_time = os.write, os.pread, time.process_time
    clear_refs = os.open("/proc/self/clear_refs", os.O_WRONLY)
    statm = os.open("/proc/self/statm", os.O_RDONLY)

    def measured(text: str) -> Any:
        span = tracer.start_span(name)
        token = attach(trace.set_span_in_context(span))
        try:
            write(clear_refs, b"5")
            getrusage(RUSAGE_SELF)
            int(pread(statm, 64, 0).split()[1])
            process_time()
            getrusage(RUSAGE_CHILDREN)
            result = speak(text)
            getrusage(RUSAGE_SELF)
            int(pread(statm, 64, 0).split()[1])
            process_time()
            getrusage(RUSAGE_CHILDREN)
            span.set_attributes(attributes)
        finally:
            detach(token)
            span.end()
        return result

    return measured


def require_same_records(ours: list[Record], others: list[Record]) -> None:
    """Both were made with the same instruments and attributes, and lead back to a span or do not.

    Raises:
        AssertionError: they do not; names the instruments.
    """

    def told(records: list[Record]) -> dict[str, Any]:
        return {each.instrument: (each.attributes, each.boundaries, each.monotonic, each.exemplars) for each in records}

    first, second = told(ours), told(others)
    differing = sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))
    assert not differing, f"not the same records: {', '.join(differing)}"


# What differs from call to call; all else of two spans of the same call must be equal.
_VARYING = (
    semconv.TTS_SYNTHESIS_DURATION,
    semconv.TTS_RTF,
    semconv.TTS_CPU_TIME,
    semconv.TTS_CPU_UTILIZATION,
    semconv.TTS_MEMORY_PEAK,
    semconv.TTS_MEMORY_BURST,
    semconv.TTS_MEMORY_GROWTH,
    semconv.TTS_MEMORY_UTILIZATION,
)


def require_same(ours: ReadableSpan, other: ReadableSpan) -> None:
    """Both say the same: else the cost of one says nothing of the other's.

    Raises:
        AssertionError: they do not, and in what.
    """

    def told(span: ReadableSpan) -> dict[str, Any]:
        attributes = span.attributes or {}
        shape = {"name": span.name, "kind": span.kind, "events": len(span.events), "links": len(span.links)}
        return shape | {
            key: type(value).__name__ if key in _VARYING else (type(value).__name__, value)
            for key, value in attributes.items()
        }

    first, second = told(ours), told(other)
    differing = {key: (first.get(key), second.get(key)) for key in first.keys() | second.keys()}
    differing = {key: pair for key, pair in differing.items() if pair[0] != pair[1]}
    assert not differing, f"not the same span: {differing}"
