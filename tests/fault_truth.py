"""What a program under a fault is held against: the spans that started and ended, what was logged, a later call."""

from __future__ import annotations

import contextlib
import io
import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from conftest import set_meter_provider, set_tracer_provider
from fault_shapes import ON_A_CARD, OPTIONS_OF, Backend, card
from opentelemetry.context import Context, attach, get_current
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from ttstrace import endings, faults, lifecycle, metrics, traced_synthesis
from ttstrace.call import Options
from ttstrace.decorator import trace
from ttstrace.monitor import window as windows
from ttstrace.monitor.gpu import window as gpu_window

OPTIONS: dict[str, Any] = {"sample_rate": 24_000, "format": "pcm_s16le"}


@traced_synthesis(**OPTIONS)
def healthy(text: str) -> bytes:
    return b"\1\0" * 12_000


class Ledger(SpanProcessor):
    """Which spans started and did not end, and which did."""

    def __init__(self) -> None:
        self.open: set[int] = set()
        self.ended: list[ReadableSpan] = []

    def on_start(self, span: Any, parent_context: Context | None = None) -> None:
        self.open.add(span.get_span_context().span_id)

    def on_end(self, span: ReadableSpan) -> None:
        self.ended.append(span)
        self.open.discard(span.context.span_id)


class Processor(SpanProcessor):
    """The application's own."""


class Telemetry:
    """Providers that all cells share, with their own account of what came."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        for processor in (self.ledger, SimpleSpanProcessor(self.exporter), Processor()):
            self.provider.add_span_processor(processor)
        set_tracer_provider(self.provider)
        self.reader = InMemoryMetricReader()
        set_meter_provider(MeterProvider([self.reader]))

    def __enter__(self) -> Telemetry:
        return self

    def __exit__(self, *error: object) -> None:
        set_tracer_provider(None)
        set_meter_provider(None)


class Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.ours: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith("ttstrace"):
            self.ours.append(record.getMessage())


def fit_for_work(telemetry: Telemetry) -> list[str]:
    """What is wrong with a later, healthy call."""
    telemetry.exporter.clear()
    wrong = []
    if healthy("hello") != b"\1\0" * 12_000:
        wrong.append("a later call answers something else")
    found = telemetry.exporter.get_finished_spans()
    if len(found) != 1:
        return [*wrong, f"a later call has {len(found)} spans"]
    attributes = dict(found[0].attributes or {})
    expected = {
        "tts.input.characters": 5, "tts.audio.duration": 0.5, "tts.audio.sample_rate": 24_000,
        "tts.concurrency.max": attributes.get("tts.concurrency.max", 1), "tts.cold_start": False,
        "gen_ai.request.stream": False,
    }  # fmt: skip
    if attributes.get("tts.concurrency.max", 1) != 1:
        wrong.append(f"a later call is not alone: {attributes['tts.concurrency.max']}")
    for name, right in expected.items():
        if name != "tts.concurrency.max" and attributes.get(name) != right:
            wrong.append(f"a later call's {name} is {attributes.get(name)}")
    if found[0].parent is not None:
        wrong.append("a later call has a parent")
    if "error.type" in attributes or "tts.interrupted" in attributes:
        wrong.append("a later call failed")
    for name in ("tts.synthesis.duration", "tts.rtf", "tts.memory.peak", "tts.cpu.time"):
        if name not in attributes:
            wrong.append(f"a later call's {name} is unknown")
    return wrong


class Observed:
    """What a program did, and what it left behind."""

    def __init__(self) -> None:
        self.seen: Any = None
        self.escaped: BaseException | None = None
        self.calls = 0
        """Of the backend."""
        self.logged: list[str] = []
        """By ttstrace."""
        self.wrong: list[str] = []
        """What is not as it was before."""


@contextlib.contextmanager
def _whole(options: dict[str, Any]) -> Iterator[None]:
    yield


def observed(
    telemetry: Telemetry | None,
    shape: Callable[[Backend, Any], list[Any]],
    backend: Backend,
    broken: Callable[[dict[str, Any]], AbstractContextManager[None]] = _whole,
    raised: Callable[[], BaseException | None] = lambda: None,
) -> Observed:
    """Run a program; without ttstrace where there is no telemetry.

    Args:
        telemetry: the providers.
        shape: the program.
        backend: what it asks.
        broken: breaks something meanwhile, perhaps one of the options it is given.
        raised: what was raised by what is broken, asked for afterwards.
    """
    after = Observed()
    backend.path.unlink(missing_ok=True)
    backend.calls = 0
    backend.error.__context__ = backend.error.__cause__ = backend.error.__traceback__ = None
    if telemetry is None:
        with card() if shape in ON_A_CARD else contextlib.nullcontext() as backend.cuda:
            after.seen = shape(backend, lambda function: function)
        assert backend.calls == 1
        return after
    telemetry.exporter.clear()
    telemetry.ledger.open.clear()
    telemetry.ledger.ended.clear()
    records, printed = Records(), io.StringIO()
    threads, before = set(threading.enumerate()), get_current()
    active: list[int] = []
    faults._reported = False
    with contextlib.ExitStack() as stack:
        logging.getLogger().addHandler(records)
        stack.callback(logging.getLogger().removeHandler, records)
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        warned = stack.enter_context(warnings.catch_warnings(record=True))
        warnings.simplefilter("always")
        stack.enter_context(contextlib.redirect_stdout(printed))
        stack.enter_context(contextlib.redirect_stderr(printed))
        used = metrics.instruments()
        assert used is not None
        add = used.active.add
        patch.setattr(used.active, "add", lambda n, *args, **kwargs: (active.append(n), add(n, *args, **kwargs)))
        patch.setattr(logging.getLogger("opentelemetry"), "disabled", True)
        options = OPTIONS | OPTIONS_OF.get(shape, {})
        stack.enter_context(broken(options))
        if shape in ON_A_CARD:
            backend.cuda = stack.enter_context(card())
        try:
            after.seen = shape(backend, lambda function: trace(function, Options(**options)))
        except BaseException as error:
            after.escaped = error
            del error
        for kept in (after.escaped, raised(), backend.error):
            if kept is not None:  # its frames hold what the program has dropped
                kept.__traceback__ = kept.__context__ = None
        after.wrong += [f"warns: {each.message}" for each in warned[:1]]
        warned.clear()  # a warning holds the coroutine it is about
        if get_current() is not before:
            after.wrong.append("leaves another context")
        try:
            endings.drain(0.02)  # as the program's next call does, in time
        except BaseException as error:
            after.escaped = after.escaped or error
            del error
        attach(before)
        endings.drain_for_good(0.0)  # as at exit: a card may never be done
        meter = gpu_window._meter
        if meter is not None and meter.ledger._open:
            after.wrong.append("leaves windows of a card open")
    after.calls, after.logged = backend.calls, records.ours
    after.wrong += [f"warns: {each.message}" for each in warned[:1]]
    if printed.getvalue():
        after.wrong.append(f"prints {printed.getvalue()[:80]!r}")
    if left := set(threading.enumerate()) - threads:
        after.wrong.append(f"leaves threads {left}")
    if lifecycle._concurrency._open:
        after.wrong.append(f"leaves some counted as open: {len(lifecycle._concurrency._open)}")
        lifecycle._concurrency._open.clear()
    if windows._meter.open:
        after.wrong.append(f"leaves windows open: {windows._meter.open}")
        windows._meter.open = 0
    if sum(active):
        after.wrong.append(f"leaves an active count of {sum(active)}")
    if telemetry.ledger.open:
        after.wrong.append("leaves a span open")
    return after
