"""Whatever ttstrace calls breaks, in every way, under every shape of result: the program is what it was without it.

The cells are products: points where ttstrace calls something, times ways to fail, times shapes of result. A cell whose
point the shape does not come by says nothing and is not counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import logging
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import set_meter_provider, set_tracer_provider
from fault_shapes import SHAPES, Backend, by_hand, value
from opentelemetry.context import Context, attach, get_current
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace import _Span as SdkSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from ttstrace import (
    audio,
    call,
    decorator,
    faults,
    lifecycle,
    manual,
    metrics,
    providers,
    pulls,
    stages,
    streams,
    timeline,
    traced_synthesis,
)  # fmt: skip
from ttstrace.monitor import window as windows

OPTIONS: dict[str, Any] = {"sample_rate": 24_000, "format": "pcm_s16le"}


@pytest.fixture(autouse=True)
def no_faults_of_ours() -> None:
    """Here faults are what is looked for: `report` is the real one."""


# --- what a point is ---------------------------------------------------------------------------------------------


class Broken(Exception):
    """Something that ttstrace called failed."""


# What a panic in a library written in Rust is in Python: each such library has a class of its own, by this name.
Panic = type("PanicException", (BaseException,), {"__module__": "pyo3_runtime"})


class Nonsense:
    """A wrong answer that nothing can be done with."""

    __slots__ = ()


class Fault:
    """What a hooked callable does in place of what it does, and how often it was struck."""

    def __init__(self, way: str, nth: int = 0) -> None:
        self.way = way
        self.nth = nth
        self.struck = 0
        self.hits = 0
        self.inside = False
        self.raised: BaseException | None = None

    def on(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def hooked(*args: Any, **kwargs: Any) -> Any:
            self.hits += 1
            if self.inside or (self.nth and self.hits != self.nth):
                return original(*args, **kwargs)
            self.struck += 1
            return WAYS[self.way](self, original, args, kwargs)

        return hooked

    def fail(self, error: BaseException) -> Any:
        self.raised = error
        try:
            raise error
        finally:
            del error  # else a cycle through this frame keeps what the program has dropped


@traced_synthesis(**OPTIONS)
def healthy(text: str) -> bytes:
    return b"\1\0" * 12_000


def _re_enter(fault: Fault, original: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    fault.inside = True
    try:
        healthy("inside")
    finally:
        fault.inside = False
    return original(*args, **kwargs)


def _late(fault: Fault, original: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    original(*args, **kwargs)
    return fault.fail(Broken("late"))


def _slow(fault: Fault, original: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    if fault.struck == 1:
        time.sleep(1)
    return original(*args, **kwargs)


FAILURES: dict[str, Callable[[Fault, Callable[..., Any], Any, Any], Any]] = {
    "raises": lambda fault, original, args, kwargs: fault.fail(Broken("no")),
    "raises late": _late,
    "panics": lambda fault, original, args, kwargs: fault.fail(Panic("no")),
    "answers None": lambda fault, original, args, kwargs: None,
    "answers nonsense": lambda fault, original, args, kwargs: Nonsense(),
    "re-enters": _re_enter,
}
INTERRUPTIONS: dict[str, Callable[[Fault, Callable[..., Any], Any, Any], Any]] = {
    "KeyboardInterrupt": lambda fault, original, args, kwargs: fault.fail(KeyboardInterrupt()),
    "SystemExit": lambda fault, original, args, kwargs: fault.fail(SystemExit(3)),
    "CancelledError": lambda fault, original, args, kwargs: fault.fail(asyncio.CancelledError()),
}
WAYS = {**FAILURES, **INTERRUPTIONS, "blocks": _slow}

Install = Callable[[pytest.MonkeyPatch, Fault, dict[str, Any]], None]


def _attribute(owner: Any, name: str) -> Install:
    def install(patch: pytest.MonkeyPatch, fault: Fault, options: dict[str, Any]) -> None:
        patch.setattr(owner, name, fault.on(getattr(owner, name)))

    return install


def _context(name: str) -> Install:
    """A function of OpenTelemetry's context, broken for ttstrace alone."""

    def install(patch: pytest.MonkeyPatch, fault: Fault, options: dict[str, Any]) -> None:
        hooked = fault.on(getattr(decorator, name))
        for module in (lifecycle, decorator, pulls, streams, manual, stages):
            patch.setattr(module, name, hooked)

    return install


class _Hooked:
    """An instrument, one method of which is broken."""

    def __init__(self, instrument: Any, method: str, fault: Fault) -> None:
        setattr(self, method, fault.on(getattr(instrument, method)))


def _instrument(name: str, method: str) -> Install:
    def install(patch: pytest.MonkeyPatch, fault: Fault, options: dict[str, Any]) -> None:
        used = metrics.instruments()
        patch.setattr(used, name, _Hooked(getattr(used, name), method, fault))

    return install


def _provider(name: str) -> Install:
    def install(patch: pytest.MonkeyPatch, fault: Fault, options: dict[str, Any]) -> None:
        patch.setattr(providers, "_tracer_provider", None)
        patch.setattr(providers, "_tracer", None)
        patch.setattr(metrics, "_current", None)
        owner = TracerProvider if name == "get_tracer" else MeterProvider
        patch.setattr(owner, name, fault.on(getattr(owner, name)))

    return install


def _option(name: str) -> Install:
    answers = {
        "text": lambda call: "hello", "sample_rate": lambda call: 24_000, "format": lambda call: "pcm_s16le",
        "audio": lambda call: call.result if call.chunk is None else call.chunk,
        "attributes": lambda call: {"x": 1},
    }  # fmt: skip

    def install(patch: pytest.MonkeyPatch, fault: Fault, options: dict[str, Any]) -> None:
        options[name] = fault.on(answers.get(name, lambda call: "some"))

    return install


def _one_attribute(patch: pytest.MonkeyPatch, fault: Fault, options: dict[str, Any]) -> None:
    options["attributes"] = {"x": fault.on(lambda call: 1)}


def _value(base: type, method: str) -> Install:
    """A value of an attribute that cannot be looked at."""

    def install(patch: pytest.MonkeyPatch, fault: Fault, options: dict[str, Any]) -> None:
        original = getattr(base, method, lambda self: 1)
        hostile = type("Hostile", (base,), {method: fault.on(original)})
        options["attributes"] = lambda call: {"x": hostile()}
        options["model"] = lambda call: hostile()
        options["voice"] = lambda call: hostile()

    return install


class Ledger(SpanProcessor):
    """Which spans started and which ended."""

    def __init__(self) -> None:
        self.open: set[int] = set()
        self.ended: list[ReadableSpan] = []

    def on_start(self, span: Any, parent_context: Context | None = None) -> None:
        self.open.add(id(span))

    def on_end(self, span: ReadableSpan) -> None:
        self.ended.append(span)


class Processor(SpanProcessor):
    """The application's own."""


_SDK_SPAN = ("set_attributes", "set_attribute", "add_event", "set_status", "update_name", "is_recording", "end")
_LIFECYCLE = (
    "open_window", "close_window", "open_gpu_window", "close_gpu_window", "load_nvml", "is_cold", "whole_array",
    "tracer", "instruments", "sampler_looks_at_attributes", "running", "_promises", "rtf_grade", "record_exception",
    "capture_content", "type_name", "_describe_gpu", "_register_exit_hook",
)  # fmt: skip
_MODULES = {
    decorator: ("running", "suppressed", "drain", "idle", "hand_on"),
    pulls: ("drain",),
    streams: ("drain", "_seekable", "hand_on"),
    manual: ("drain", "suppressed"),
    call: ("count_pieces", "is_text", "parse_format", "is_cold"),
}
_METHODS = {
    audio.AudioReader: ("feed", "finish", "__init__"),
    audio.OutputFile: ("__init__", "read", "is_at"),
    timeline.Timeline: ("chunk", "settle", "piece", "__init__", "waited"),
    call.CallSynthesis: (
        "take_arguments", "is_synthesis", "describe_request", "describe_result", "find_output", "declared_format",
        "weights",
    ),
    lifecycle.Synthesis: ("take_chunk", "take_text", "follow", "_read_audio", "_record", "_enter_among_others"),
    lifecycle.Concurrency: ("enter", "leave", "observe", "seen"),
}  # fmt: skip
_INSTRUMENTS = {
    "duration": "record", "time_to_first_chunk": "record", "rtf": "record", "time_to_first_audio": "record",
    "audio_duration": "record", "memory_peak": "record", "characters": "add", "active": "add",
}  # fmt: skip
_OPTIONS = ("provider", "model", "voice", "language", "text", "sample_rate", "audio", "format", "device", "attributes")

_ELSEWHERE: dict[str, Install] = {
    **{f"span.{name}": _attribute(SdkSpan, name) for name in _SDK_SPAN},
    "tracer.start_span": _attribute(sys.modules["opentelemetry.sdk.trace"].Tracer, "start_span"),
    "provider.get_tracer": _provider("get_tracer"),
    "provider.get_meter": _provider("get_meter"),
    "context.attach": _context("attach"),
    "context.get_current": _context("get_current"),
    **{f"kernel.{name}": _attribute(windows, name) for name in ("_read", "_write", "_rusage")},
    "exporter.export": _attribute(InMemorySpanExporter, "export"),
    "processor.on_start": _attribute(Processor, "on_start"),
    "processor.on_end": _attribute(Processor, "on_end"),
    **{f"{name}.{method}": _instrument(name, method) for name, method in _INSTRUMENTS.items()},
    **{f"option {name}": _option(name) for name in _OPTIONS},
    "option of one attribute": _one_attribute,
    **{
        f"value {base.__name__}.{method}": _value(base, method)
        for base, method in (
            (int, "__int__"), (float, "__float__"), (str, "isascii"), (str, "__str__"), (object, "__str__"),
            (object, "__fspath__"), (object, "__eq__"), (object, "__hash__"),
        )
    },
}  # fmt: skip
_INSIDE: dict[str, Install] = {
    **{f"lifecycle.{name}": _attribute(lifecycle, name) for name in _LIFECYCLE},
    **{
        f"{module.__name__.rpartition('.')[2]}.{name}": _attribute(module, name)
        for module, names in _MODULES.items()
        for name in names
    },
    **{f"{cls.__name__}.{name}": _attribute(cls, name) for cls, names in _METHODS.items() for name in names},
}
POINTS = {**_ELSEWHERE, **_INSIDE}
# What is ttstrace's own answers what it answers: only what comes from elsewhere can be nonsense.
FAULTS = [
    (point, way)
    for point in POINTS
    for way in FAILURES
    if not (way.startswith("answers") and (point in _INSIDE or point == "context.get_current"))
    # Handed on and failed afterwards: a proxy that nobody got.
    and not (way == "raises late" and point.endswith(".hand_on"))
    # Where it says that it is not recording, it is not: nobody ends it.
    and (point, way) != ("span.is_recording", "answers None")
]


# --- what is held against what -----------------------------------------------------------------------------------


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


@pytest.fixture(scope="module")
def telemetry() -> Iterator[Telemetry]:
    made = Telemetry()
    healthy("warm")
    gc.collect()
    yield made
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


class Tally:
    cells = 0
    idle = 0


def cell(telemetry: Telemetry, shape: Any, point: str, fault: Fault, path: Path) -> list[str]:
    """Run one cell; what is wrong with it."""
    backend = Backend(path)
    path.unlink(missing_ok=True)
    plainly = shape(backend, lambda function: function)
    assert backend.calls == 1
    backend.calls = 0
    path.unlink(missing_ok=True)
    backend.error.__context__ = backend.error.__cause__ = backend.error.__traceback__ = None
    telemetry.exporter.clear()
    telemetry.ledger.open.clear()
    telemetry.ledger.ended.clear()
    records, printed = Records(), io.StringIO()
    threads, before = set(threading.enumerate()), get_current()
    active: list[int] = []
    seen: Any = None
    escaped: BaseException | None = None
    logging.getLogger().addHandler(records)
    faults._reported = False
    try:
        with (
            pytest.MonkeyPatch.context() as patch,
            warnings.catch_warnings(record=True) as warned,
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(printed),
        ):
            warnings.simplefilter("always")
            used = metrics.instruments()
            assert used is not None
            add = used.active.add
            patch.setattr(used.active, "add", lambda n, *args, **kwargs: (active.append(n), add(n, *args, **kwargs)))
            logging.getLogger("opentelemetry").disabled = True
            options = dict(OPTIONS)
            POINTS[point](patch, fault, options)
            try:
                seen = shape(backend, traced_synthesis(**options))
            except BaseException as error:
                escaped = error
                del error
            for kept in (escaped, fault.raised, backend.error):
                if kept is not None:  # its frames hold what the program has dropped
                    kept.__traceback__ = kept.__context__ = None
            after = get_current()
            try:
                lifecycle.drain()  # as the program's next call does
            except BaseException as error:
                escaped = escaped or error
    finally:
        logging.getLogger().removeHandler(records)
    attach(before)
    lifecycle.drain()
    if not fault.struck:
        Tally.idle += 1
        return []
    Tally.cells += 1
    wrong: list[str] = []
    if fault.way in INTERRUPTIONS:
        if escaped is not fault.raised:
            wrong.append(f"the interruption does not come out: {escaped!r}")
    else:
        if escaped is not None:
            wrong.append(f"raises {escaped!r}")
        elif len(seen) != len(plainly) or any(a is not b for a, b in zip(seen, plainly, strict=True)):
            wrong.append("answers something else")
        if backend.calls != 1:
            wrong.append(f"the backend is called {backend.calls} times")
    if after is not before:
        wrong.append("the context is another one")
    # A coroutine of the program's that was interrupted on its way to the program warns without ttstrace, too.
    if warned and not (fault.way in INTERRUPTIONS and "never awaited" in str(warned[0].message)):
        wrong.append(f"warns: {warned[0].message}")
    if printed.getvalue():
        wrong.append(f"prints {printed.getvalue()[:80]!r}")
    if len(records.ours) > 1:
        wrong.append(f"logs {len(records.ours)} times")
    left = set(threading.enumerate()) - threads
    if left:
        wrong.append(f"leaves threads {left}")
    if lifecycle._concurrency._open and not point.startswith("Concurrency."):
        wrong.append(f"leaves {len(lifecycle._concurrency._open)} counted as open")
    lifecycle._concurrency._open.clear()
    if windows._meter.open and "window" not in point and not point.startswith("Concurrency."):
        wrong.append(f"leaves {windows._meter.open} windows open")
    windows._meter.open = 0
    if sum(active) and point != "active.add":
        wrong.append(f"leaves {sum(active)} active")
    ended = {id(span) for span in telemetry.ledger.ended}
    if len(telemetry.ledger.open) > len(ended) and point not in ("span.end", "tracer.start_span", "processor.on_start"):
        wrong.append("leaves a span open")
    return wrong + fit_for_work(telemetry)


def matrix(telemetry: Telemetry, point: str, faults_of: Callable[[], Iterator[Fault]], path: Path) -> None:
    found = []
    for shape in SHAPES:
        for fault in faults_of():
            found += [f"{shape.__name__}: {fault.nth}: {wrong}" for wrong in cell(telemetry, shape, point, fault, path)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(("point", "way"), FAULTS)
def test_what_fails_in_ttstrace_is_not_the_programs(telemetry: Telemetry, tmp_path: Path, point: str, way: str) -> None:
    matrix(telemetry, point, lambda: iter([Fault(way)]), tmp_path / "out.wav")


@pytest.mark.parametrize("way", INTERRUPTIONS)
@pytest.mark.parametrize("point", POINTS)
def test_an_interruption_is_the_programs(telemetry: Telemetry, tmp_path: Path, point: str, way: str) -> None:
    matrix(telemetry, point, lambda: (Fault(way, nth) for nth in (1, 2, 3, 4)), tmp_path / "out.wav")


@pytest.mark.parametrize("point", ["exporter.export", "option model", "duration.record", "lifecycle.open_window"])
@pytest.mark.parametrize("shape", [value, by_hand])
def test_what_blocks_is_waited_for(telemetry: Telemetry, tmp_path: Path, point: str, shape: Any) -> None:
    assert not cell(telemetry, shape, point, Fault("blocks"), tmp_path / "out.wav")


def test_the_matrix_is_a_large_one(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("-k") or len(request.session.items) < len(FAULTS):
        pytest.skip("not the whole matrix was run")
    with request.getfixturevalue("capsys").disabled():
        print(f"\nfault matrix: {Tally.cells} cells, {Tally.idle} products without a meaning")
    assert Tally.cells >= 500
