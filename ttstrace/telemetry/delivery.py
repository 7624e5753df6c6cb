"""Whether what was recorded has arrived: exports counted, flushed and closed within a time.

The SDK's own answers cannot be used: its ``force_flush()`` returns True after a failed export, ignores its
timeout, and its ``shutdown()`` waits 30 seconds for each signal. It logs every failed try, and says nothing of how
much was lost.
"""

from __future__ import annotations

import itertools
import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    MetricExporter,
    MetricExportResult,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from ttstrace.telemetry import troubles
from ttstrace.telemetry.answers import Answers, quiet_sdk, sdk_quieted
from ttstrace.telemetry.outages import Outages, outages_at
from ttstrace.telemetry.trace_file import MetricFileExporter, SpanFileExporter, SpanFileProcessor
from ttstrace.telemetry.troubles import Trouble

_logger = logging.getLogger(__name__)

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
        self.lock = threading.RLock()
        self._delivered = 0
        self._lost = 0
        self._settled = False
        # What earlier answers have told as lost, and what they knew of.
        self._told = 0
        self._answered_accepted = 0
        self._answered_lost = 0

    def accept(self) -> None:
        next(self._handed)

    def accepted(self) -> int:
        with self.lock:
            # The counter can only be read by counting on.
            accepted = next(self._handed) - self._looks
            self._looks += 1
            return accepted

    def deliver(self, count: int) -> None:
        with self.lock:
            if not self._settled:
                self._delivered += count

    def lose(self, count: int) -> bool:
        """Count a loss; False where it is counted already, as what was still under way at the end."""
        with self.lock:
            if not self._settled:
                self._lost += count
            return not self._settled

    def heal(self) -> None:
        """Take everything as arrived: what came last holds what was lost before it."""
        with self.lock:
            if not self._settled:
                self._delivered, self._lost, self._told, self._answered_lost = self.accepted(), 0, 0, 0

    def close_books(self, accepted: int) -> int:
        """After all up to ``accepted`` was exported: what neither arrived nor failed was dropped by a
        queue. Returns how much that is, beyond what was found so before.
        """
        with self.lock:
            dropped = 0 if self._settled else max(0, accepted - self._delivered - self._lost)
            self._lost += dropped
            return dropped

    def settle(self) -> int:
        """End it: what is still under way counts as lost, whatever becomes of it. Returns how much that is."""
        with self.lock:
            left = self.close_books(self.accepted())
            self._settled = True
            return left

    def all_arrived(self) -> bool:
        """Whether everything ever handed over arrived."""
        return self._lost == 0

    def arrived_since(self) -> bool:
        """Whether everything handed over since the last answer arrived.

        Without anything new the last answer holds: asking again does not turn a loss into a success.
        """
        with self.lock:
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
        self._queue = self._batch_processor._queue
        self._half_full = self._batch_processor._max_queue_size / 2

    def on_end(self, span: ReadableSpan) -> None:
        counted = not self.closed and span.context is not None and span.context.trace_flags.sampled
        # Long before it is full, so that no other threads fill it meanwhile.
        if len(self._queue) < self._half_full:
            super().on_end(span)
        else:
            with sdk_quieted():  # it would log what it drops, again and again
                super().on_end(span)
        if counted:
            # Not before it is in the queue: a flush that begins between would take it for dropped.
            self._tally.accept()

    def waiting(self) -> int:
        """How many spans are in the queue."""
        return len(self._queue)

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

    outages: Outages | None = None
    """What does not arrive there; None where that is a file or the terminal."""

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

    def trouble(self) -> Trouble | None:
        """Why something was lost last, or does not get through at this moment; None where nothing was lost."""
        return None

    def begin_anew(self) -> None:
        """In a forked child: what the parent has not sent yet, and what it sends through, stays the parent's."""
        self.tally.reset()
        if self.outages is not None:
            self.outages.reset()


class SpanOutput(Output):
    """An exporter of spans and the processor that feeds it: a batch, or the file's, which writes at once."""

    def __init__(self, exporter: SpanExporter, identity: tuple[str, str]) -> None:
        super().__init__(("traces", *identity))
        self.processor: SpanProcessor
        self._exporter = exporter
        if isinstance(exporter, SpanFileExporter):
            _count_lines(exporter, self.tally)
            self.processor = SpanFileProcessor(exporter)
            self._sending = None
        else:
            self._sending = sending = _SendingSpans(exporter, self.tally, identity)
            self.outages = sending.outages
            self.processor = sending.batch

    def flush(self, timeout: float) -> bool:
        if self._sending is not None:
            self._sending.flush()
        return self.tally.arrived_since()

    def close(self, timeout: float) -> bool:
        if self._sending is None:
            self.processor.shutdown()
        else:
            self._sending.close(timeout)
        return self.tally.all_arrived()

    def trouble(self) -> Trouble | None:
        return None if self._sending is None else self._sending.answers.trouble or self._sending.trouble

    def begin_anew(self) -> None:
        super().begin_anew()
        _connect_anew(self._exporter)


class MetricOutput(Output):
    """A periodic reader and its exporter."""

    def __init__(self, reader: PeriodicExportingMetricReader, identity: tuple[str, str]) -> None:
        super().__init__(("metrics", *identity))
        self._reader = reader
        if isinstance(reader._exporter, MetricFileExporter):
            self._sending = None
            _count_collections(reader._exporter, self.tally)
        else:
            self._sending = _SendingMetrics(reader._exporter, self.tally, identity)
            self.outages = self._sending.outages

    def flush(self, timeout: float) -> bool:
        self._reader.force_flush(timeout_millis=timeout * 1000)
        return self.tally.arrived_since()

    def close(self, timeout: float) -> bool:
        exports = self._reader._daemon_thread
        # The application may have shut its provider down itself; the reader complains about a second time.
        if not self._reader._shutdown:
            self._reader.shutdown(timeout_millis=timeout * 1000)
        if exports is not None and exports.is_alive():
            if self._sending is not None:
                self._sending.give_up()
            return False
        return self.tally.all_arrived()

    def trouble(self) -> Trouble | None:
        return None if self._sending is None else self._sending.answers.trouble or self._sending.trouble

    def begin_anew(self) -> None:
        super().begin_anew()
        _connect_anew(self._reader._exporter)


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


def _connect_anew(exporter: object) -> None:
    """Leave the open HTTP connections of a parent process alone.

    A forked child inherits them: where both send through one, the collector understands neither, and spans of both
    are lost. gRPC sees to that itself.
    """
    transport = getattr(getattr(exporter, "_client", None), "_transport", None)
    session = getattr(transport, "_session", None)
    for adapter in getattr(session, "adapters", {}).values():
        # As unpickling does: new pools of connections. To close the old ones would take locks that a thread of the
        # parent's may hold.
        adapter.__setstate__(adapter.__getstate__())


# The exporters stay the objects that the SDK made, so that whoever looks for one finds it: only the one
# method is watched.


class _Sending:
    """What one exporter sends to a collector, and what becomes of it."""

    def __init__(self, exporter: Any, signal: Literal["traces", "metrics"], tally: Tally, identity: tuple[str, str]):
        quiet_sdk()
        self.tally = tally
        self.signal = signal
        name, address = identity
        self.outages = outages_at(address or name)
        self.answers = Answers(exporter, name, signal)
        self.trouble: Trouble | None = None

    def lose(self, count: int, trouble: Trouble) -> None:
        with self.tally.lock:  # the end counts what is under way: in both, or in neither
            if self.tally.lose(count):
                self.trouble = trouble
                self.outages.lost(self.signal, count, trouble)
        self.outages.say()

    def debug_or_raise(self, error: BaseException) -> None:
        """Log what an exporter raised: a batch that cannot be encoded, a channel that exit closed beneath it. The SDK
        would do so for every batch.
        """
        if not isinstance(error, Exception):
            raise error
        _logger.debug("Sending %s failed.", self.signal, exc_info=error)

    def give_up(self) -> None:
        """Take for lost what is still under way."""
        with self.tally.lock:
            left = self.tally.settle()
            if left:
                self.trouble = self.answers.trouble or troubles.NO_ANSWER
                self.outages.lost(self.signal, left, self.trouble)
        self.outages.say()


class _SendingSpans(_Sending):
    def __init__(self, exporter: SpanExporter, tally: Tally, identity: tuple[str, str]) -> None:
        super().__init__(exporter, "traces", tally, identity)
        self._export = exporter.export
        exporter.export = self._counted  # type: ignore[method-assign]
        self.batch = CountedBatchProcessor(exporter, tally)

    def flush(self) -> None:
        accepted = self.tally.accepted()
        self.batch.force_flush()
        self._close_books(accepted)

    def close(self, timeout: float) -> None:
        if self.batch.close(timeout):
            self._close_books(self.tally.accepted())
        else:
            self.give_up()

    def _close_books(self, accepted: int) -> None:
        dropped = self.tally.close_books(accepted)
        if dropped:
            self.trouble = self.trouble or troubles.TOO_SLOW
            self.outages.overflowed(dropped, troubles.TOO_SLOW)
            self.outages.say()

    def _counted(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.answers.begin()
        try:
            with sdk_quieted(self.answers):
                result = self._export(spans)
        except BaseException as error:
            self.lose(len(spans), self.answers.trouble or troubles.of_exception(error))
            self.debug_or_raise(error)
            return SpanExportResult.FAILURE
        if self.answers.elsewhere:
            result = SpanExportResult.FAILURE
        lost = min(self.answers.rejected, len(spans)) if result is SpanExportResult.SUCCESS else len(spans)
        self.tally.deliver(len(spans) - lost)
        if lost:
            self.lose(lost, self.answers.why())
        else:
            self.outages.arrived("traces")
        # In this order: what comes between is not taken for dropped, but counted next time.
        accepted = self.tally.accepted()
        self._close_books(accepted - self.batch.waiting())
        return result


class _SendingMetrics(_Sending):
    def __init__(self, exporter: MetricExporter, tally: Tally, identity: tuple[str, str]) -> None:
        super().__init__(exporter, "metrics", tally, identity)
        self._export = exporter.export
        self._cumulative = _is_cumulative(exporter)
        exporter.export = self._counted  # type: ignore[method-assign]

    def _counted(self, metrics_data: Any, *args: Any, **kwargs: Any) -> MetricExportResult:
        self.answers.begin()
        self.tally.accept()
        try:
            with sdk_quieted(self.answers):
                result = self._export(metrics_data, *args, **kwargs)
        except BaseException as error:
            self.lose(1, self.answers.trouble or troubles.of_exception(error))
            self.debug_or_raise(error)
            return MetricExportResult.FAILURE
        if self.answers.elsewhere:
            result = MetricExportResult.FAILURE
        if result is not MetricExportResult.SUCCESS or self.answers.rejected:
            self.lose(1, self.answers.why())
            return result
        if self._cumulative:
            self.tally.heal()
        else:
            self.tally.deliver(1)
        self.outages.arrived("metrics", made_good=self._cumulative)
        return result


def _is_cumulative(exporter: MetricExporter) -> bool:
    """Whether a collection repeats what a lost one held."""
    return AggregationTemporality.DELTA not in (exporter._preferred_temporality or {}).values()


def _count_lines(exporter: SpanFileExporter, tally: Tally) -> None:
    export = exporter.export

    def counted(spans: Any) -> SpanExportResult:
        tally.accept()
        with _loss_counted(tally):
            result = export(spans)
        if result is not SpanExportResult.SUCCESS:
            tally.lose(1)
        return result

    exporter.export = counted  # type: ignore[method-assign]


def _count_collections(exporter: MetricFileExporter, tally: Tally) -> None:
    export = exporter.export

    def counted(metrics_data: Any, *args: Any, **kwargs: Any) -> MetricExportResult:
        tally.accept()
        with _loss_counted(tally):
            result = export(metrics_data, *args, **kwargs)
        if result is MetricExportResult.SUCCESS:
            tally.heal()  # a file's collections are cumulative
        else:
            tally.lose(1)
        return result

    exporter.export = counted  # type: ignore[method-assign]


@contextmanager
def _loss_counted(tally: Tally) -> Iterator[None]:
    try:
        yield
    except BaseException:
        tally.lose(1)
        raise
