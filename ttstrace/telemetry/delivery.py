"""Whether what was recorded has arrived: exports counted, flushed and closed within a time.

The SDK's own answers cannot be used: its ``force_flush()`` returns True after a failed export, ignores its
timeout, and its ``shutdown()`` waits 30 seconds for each signal.
"""

from __future__ import annotations

import itertools
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    MetricExporter,
    MetricExportResult,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from ttstrace.telemetry.trace_file import SpanFileExporter, SpanFileProcessor

EXIT_SECONDS = 5.0
"""The longest that the end of a process waits for a collector."""


class Tally:
    """What was handed over, what arrived and what was lost, counted in spans or in collections of metrics."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew, as a forked child does: what its parent had not sent yet is the parent's to send."""
        # A span may end in a finalizer that interrupts its own thread anywhere, also in here: to hand over
        # takes no lock, and the lock of the rest may be taken twice.
        self._handed = itertools.count()
        self._looks = 0
        self._lock = threading.RLock()
        self._delivered = 0
        self._lost = 0
        # What earlier answers have told as lost, and what they knew of.
        self._told = 0
        self._answered_accepted = 0
        self._answered_lost = 0

    def accept(self) -> None:
        next(self._handed)

    def accepted(self) -> int:
        with self._lock:
            # The counter can only be read by counting on.
            accepted = next(self._handed) - self._looks
            self._looks += 1
            return accepted

    def deliver(self, count: int) -> None:
        with self._lock:
            self._delivered += count

    def lose(self, count: int) -> None:
        with self._lock:
            self._lost += count

    def heal(self) -> None:
        """Take everything as arrived: what came last holds what was lost before it."""
        with self._lock:
            self._delivered, self._lost, self._told, self._answered_lost = self.accepted(), 0, 0, 0

    def close_books(self, accepted: int) -> None:
        """After all up to ``accepted`` was exported: what neither arrived nor failed was dropped by a
        queue.
        """
        with self._lock:
            self._lost += max(0, accepted - self._delivered - self._lost)

    def all_arrived(self) -> bool:
        """Whether everything ever handed over arrived."""
        return self._lost == 0

    def arrived_since(self) -> bool:
        """Whether everything handed over since the last answer arrived.

        Without anything new the last answer holds: asking again does not turn a loss into a success.
        """
        with self._lock:
            accepted = self.accepted()
            if accepted > self._answered_accepted:
                self._told = self._answered_lost
            self._answered_accepted, self._answered_lost = accepted, self._lost
            return self._lost == self._told


class CountedBatchProcessor(BatchSpanProcessor):
    """The SDK's batch processor, with a tally of what it took and a shutdown that ends in time."""

    def __init__(self, exporter: SpanExporter, tally: Tally) -> None:
        super().__init__(exporter)
        self._tally = tally
        self.closed = False

    def on_end(self, span: ReadableSpan) -> None:
        if not self.closed and span.context is not None and span.context.trace_flags.sampled:
            self._tally.accept()
        super().on_end(span)

    def close(self, timeout: float) -> bool:
        """Export what is queued and stop; False where that took longer than ``timeout`` seconds."""
        self.closed = True
        # The public shutdown() takes no timeout; the batch behind it does.
        self._batch_processor.shutdown(timeout_millis=int(timeout * 1000))
        return not self._batch_processor._worker_thread.is_alive()

    def shutdown(self) -> None:
        self.close(EXIT_SECONDS)


Identity = tuple[str, str, str]
"""``traces`` or ``metrics``, the exporter's name, and the file or collector."""


class Output(ABC):
    """One place where spans or metrics go."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.tally = Tally()

    @abstractmethod
    def flush(self, timeout: float) -> bool:
        """Send what was recorded so far; whether everything since the last flush arrived.

        May outlast ``timeout`` seconds: the SDK does not heed it.
        """

    @abstractmethod
    def close(self, timeout: float) -> bool:
        """Send what is left and stop, within ``timeout`` seconds; whether everything ever recorded
        arrived.
        """


class SpanOutput(Output):
    """An exporter of spans and the processor that feeds it: a batch, or the file's, which writes at once."""

    def __init__(self, exporter: SpanExporter, identity: tuple[str, str]) -> None:
        super().__init__(("traces", *identity))
        self.processor: SpanProcessor
        if isinstance(exporter, SpanFileExporter):
            _count_lines(exporter, self.tally)
            self.processor = SpanFileProcessor(exporter)
            self._batch = None
        else:
            self.processor = self._batch = batch = CountedBatchProcessor(exporter, self.tally)
            _count_spans(exporter, self.tally, lambda: batch.closed)

    def flush(self, timeout: float) -> bool:
        if self._batch is not None:
            accepted = self.tally.accepted()
            self._batch.force_flush()
            self.tally.close_books(accepted)
        return self.tally.arrived_since()

    def close(self, timeout: float) -> bool:
        if self._batch is None:
            self.processor.shutdown()
        elif not self._batch.close(timeout):
            return False
        else:
            self.tally.close_books(self.tally.accepted())
        return self.tally.all_arrived()


class MetricOutput(Output):
    """A periodic reader and its exporter."""

    def __init__(self, reader: PeriodicExportingMetricReader, identity: tuple[str, str]) -> None:
        super().__init__(("metrics", *identity))
        self._reader = reader
        _count_metrics(reader._exporter, self.tally)

    def flush(self, timeout: float) -> bool:
        self._reader.force_flush(timeout_millis=timeout * 1000)
        return self.tally.arrived_since()

    def close(self, timeout: float) -> bool:
        exports = self._reader._daemon_thread
        # The application may have shut its provider down itself; the reader complains about a second time.
        if not self._reader._shutdown:
            self._reader.shutdown(timeout_millis=timeout * 1000)
        if exports is not None and exports.is_alive():
            return False
        return self.tally.all_arrived()


class ConsoleOutput(Output):
    """The terminal: whether a person saw a line is nobody's to say, so it counts nothing."""

    def __init__(self, processor: SpanProcessor) -> None:
        super().__init__(("traces", "ttstrace_console", ""))
        self.processor = processor

    def flush(self, timeout: float) -> bool:
        return True

    def close(self, timeout: float) -> bool:
        self.processor.shutdown()
        return True


# The exporters stay the objects that the SDK made, so that whoever looks for one finds it: only the one
# method is watched.


def _count_lines(exporter: SpanFileExporter, tally: Tally) -> None:
    export = exporter.export

    def counted(spans: Any) -> SpanExportResult:
        tally.accept()
        with _loss_counted(tally, 1):
            result = export(spans)
        if result is not SpanExportResult.SUCCESS:
            tally.lose(1)
        return result

    exporter.export = counted  # type: ignore[method-assign]


def _count_spans(exporter: SpanExporter, tally: Tally, closed: Callable[[], bool]) -> None:
    export = exporter.export

    def counted(spans: Any) -> SpanExportResult:
        try:
            with _loss_counted(tally, len(spans)):
                result = export(spans)
        except Exception:
            if not closed():
                raise
            # When its time is over, exit closes a channel in the midst of a batch. That the batch is lost is
            # counted; the SDK would log a traceback of it.
            return SpanExportResult.FAILURE
        if result is SpanExportResult.SUCCESS:
            tally.deliver(len(spans))
        else:
            tally.lose(len(spans))
        return result

    exporter.export = counted  # type: ignore[method-assign]


def _count_metrics(exporter: MetricExporter, tally: Tally) -> None:
    export = exporter.export
    # A cumulative collection repeats what a lost one held.
    cumulative = AggregationTemporality.DELTA not in (exporter._preferred_temporality or {}).values()

    def counted(metrics_data: Any, *args: Any, **kwargs: Any) -> MetricExportResult:
        tally.accept()
        with _loss_counted(tally, 1):
            result = export(metrics_data, *args, **kwargs)
        if result is not MetricExportResult.SUCCESS:
            tally.lose(1)
        elif cumulative:
            tally.heal()
        return result

    exporter.export = counted  # type: ignore[method-assign]


@contextmanager
def _loss_counted(tally: Tally, count: int) -> Iterator[None]:
    try:
        yield
    except BaseException:
        tally.lose(count)
        raise
