"""Whatever ttstrace calls breaks, in every way, under every shape of result: the program is what it was without it.

The cells are products: points where ttstrace calls something, times ways to fail, times shapes of result. A cell whose
point the shape does not come by says nothing and is not counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fault_shapes import DECLARED, HOOKS, SHAPES, Backend, by_hand, value
from fault_truth import Processor, Telemetry, fit_for_work, healthy, observed
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace import _Span as SdkSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from ttstrace import (
    audio,
    call,
    decorator,
    lifecycle,
    manual,
    metrics,
    providers,
    pulls,
    stages,
    streams,
    timeline,
)  # fmt: skip
from ttstrace.monitor import window as windows


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
WAYS = {
    **FAILURES,
    **INTERRUPTIONS,
    "blocks": _slow,
    "works": lambda fault, original, args, kwargs: original(*args, **kwargs),
}

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


def _cuda(name: str) -> Install:
    """A function of torch.cuda, as the stand-in has it."""

    def install(patch: pytest.MonkeyPatch, fault: Fault, options: dict[str, Any]) -> None:
        patch.setitem(HOOKS, name, fault.on)

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
        "weights", "text_in",
    ),
    lifecycle.Synthesis: ("take_chunk", "take_text", "follow", "_read_audio", "_record", "_enter_among_others"),
    lifecycle.Concurrency: ("enter", "leave", "observe", "seen"),
}  # fmt: skip
_INSTRUMENTS = {
    "duration": "record", "time_to_first_chunk": "record", "rtf": "record", "time_to_first_audio": "record",
    "audio_duration": "record", "memory_peak": "record", "characters": "add", "active": "add",
}  # fmt: skip
_OPTIONS = ("provider", "model", "voice", "language", "text", "sample_rate", "audio", "format", "device", "attributes")

_CUDA = (
    "Event", "Event.record", "Event.query", "Event.elapsed_time", "is_initialized", "device_count", "current_device",
    "is_current_stream_capturing", "memory_stats_as_nested_dict", "reset_peak_memory_stats", "current_stream",
    "get_device_properties",
)  # fmt: skip

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
    **{f"cuda.{name}": _cuda(name) for name in _CUDA},
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


@pytest.fixture(scope="module")
def telemetry() -> Iterator[Telemetry]:
    with Telemetry() as made:
        healthy("warm")
        gc.collect()
        yield made


class Tally:
    cells = 0
    idle = 0


def cell(telemetry: Telemetry, shape: Any, point: str, fault: Fault, path: Path) -> list[str]:
    """Run one cell; what is wrong with it."""

    @contextlib.contextmanager
    def broken(options: dict[str, Any]) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            POINTS[point](patch, fault, options)
            yield

    backend = Backend(path)
    plainly = observed(None, shape, backend).seen
    after = observed(telemetry, shape, backend, broken, lambda: fault.raised)
    if not fault.struck:
        return []
    Tally.cells += 1
    wrong = [each for each in after.wrong if not any(each.startswith(known) for known in _MAY_LEAVE.get(point, ()))]
    if fault.way in INTERRUPTIONS:
        # A coroutine of the program's that was interrupted on its way to the program warns without ttstrace, too.
        wrong = [each for each in wrong if not (each.startswith("warns") and "never awaited" in each)]
        if after.escaped is not fault.raised:
            wrong.append(f"the interruption does not come out: {after.escaped!r}")
    else:
        if after.escaped is not None:
            wrong.append(f"raises {after.escaped!r}")
        elif len(after.seen) != len(plainly) or any(a is not b for a, b in zip(after.seen, plainly, strict=True)):
            wrong.append("answers something else")
        if after.calls != 1:
            wrong.append(f"the backend is called {after.calls} times")
    if len(after.logged) > 1:
        wrong.append(f"logs {len(after.logged)} times")
    return wrong + fit_for_work(telemetry)


# What cannot be held against it where the very thing that would let go is broken.
_MAY_LEAVE = {
    "span.end": ("leaves a span",), "tracer.start_span": ("leaves a span",), "processor.on_start": ("leaves a span",),
    "active.add": ("leaves an active",), "lifecycle.open_window": ("leaves windows open",),
    "lifecycle.open_gpu_window": ("leaves windows of a card",),
    **{f"Concurrency.{name}": ("leaves some counted",) for name in ("enter", "leave", "observe", "seen")},
}  # fmt: skip


_comes_by: dict[tuple[Any, str], int] = {}


def comes_by(telemetry: Telemetry, shape: Any, point: str, path: Path) -> int:
    """How often a shape comes by a point where nothing fails."""
    found = _comes_by.get((shape, point))
    if found is None:
        fault = Fault("works")
        cell(telemetry, shape, point, fault, path)
        found = _comes_by[shape, point] = fault.hits
    return found


def matrix(telemetry: Telemetry, point: str, faults_of: Callable[[], Iterator[Fault]], path: Path) -> None:
    found = []
    for shape in (*SHAPES, *DECLARED):
        often = comes_by(telemetry, shape, point, path)
        for fault in faults_of():
            if often >= max(1, fault.nth):
                wrong = cell(telemetry, shape, point, fault, path)
                found += [f"{shape.__name__}: {fault.nth}: {each}" for each in wrong]
            else:
                Tally.idle += 1
    assert not found, "\n".join(found)


@pytest.mark.parametrize(("point", "way"), FAULTS)
def test_what_fails_in_ttstrace_is_not_the_programs(telemetry: Telemetry, tmp_path: Path, point: str, way: str) -> None:
    # What always fails often fails before a pull began: what fails only once, later, fails in the midst of one.
    times = (0, 2, 3, 5) if way == "raises" else (0,)
    matrix(telemetry, point, lambda: (Fault(way, nth) for nth in times), tmp_path / "out.wav")


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
