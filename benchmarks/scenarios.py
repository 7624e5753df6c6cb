"""What is timed side by side: one process for each scenario, which starts with nothing of OpenTelemetry set up.

`python scenarios.py NAME ROUNDS` prints one JSON object: the times of each way, by its name, and what there is to know
about them. `overhead.py` runs them all.
"""

from __future__ import annotations

import functools
import importlib
import io
import json
import os
import subprocess
import sys
import tempfile
import wave
from collections.abc import Callable
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from time import process_time
from typing import Any

import wrapt
from by_hand import attached, records_of, require_same, require_same_records, written
from least import least
from opentelemetry import metrics, trace
from opentelemetry.context import Context, attach, get_current
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from subject import (
    CHUNKS,
    RATE,
    TEXT,
    Keep,
    bytes_stream,
    decorator,
    play,
    silent_stream,
    speak,
    stream,
)
from timing import Block, Times, alternate, calls, chunks

from ttstrace import semconv, synthesis

traced = decorator(speak)


def listen(**options: Any) -> Keep:
    """Set the TracerProvider, as an application does; returns what its spans end in."""
    keep = Keep()
    provider = TracerProvider(**options)
    provider.add_span_processor(keep)
    trace.set_tracer_provider(provider)
    return keep


def seen(function: Callable[[str], Any], keep: Keep) -> ReadableSpan:
    """The span of a call that is not the first."""
    function(TEXT)
    function(TEXT)
    return keep.last


def bare(provider: TracerProvider | None = None) -> Callable[[str], Any]:
    """One span and nothing in it: what everything is counted in."""
    if provider is None:
        tracer = trace.get_tracer("bare")
    else:
        provider.add_span_processor(Keep())
        tracer = provider.get_tracer("bare")

    def call(text: str) -> None:
        with tracer.start_as_current_span("bare"):
            pass

    return call


# --- the scenarios: ways, timed; and what there is to know ------------------------------------------------------------

Outcome = tuple[Times, dict[str, Any]]


def without_sdk(rounds: int) -> Outcome:
    """Nobody listens."""
    tracer = trace.get_tracer("no-op")

    def inside_a_span(text: str) -> Any:
        with tracer.start_as_current_span("no-op"):
            return speak(text)

    # The SDK's own span, for the unit: by a provider that is not set.
    ways = {"call": traced, "no-op span": inside_a_span, "function": speak, "bare span": bare(TracerProvider())}
    return alternate({name: calls(way) for name, way in ways.items()}, rounds), {}


def spans(rounds: int) -> Outcome:
    """Every call is measured and recorded."""
    keep = listen()
    like = seen(traced, keep)
    if semconv.TTS_MEMORY_METHOD in (like.attributes or {}):
        raise SystemExit("the kernel refuses to reset the mark of memory here: there is nothing to compare with")
    ways = {
        "call": traced,
        "by hand": written(like, reads=True),
        "by hand, no reads": written(like, reads=False),
        "by hand, no with": attached(like),
        "least": least(speak, like, RATE),
        "bare span": bare(),
    }
    for name in ("by hand", "by hand, no reads", "by hand, no with", "least"):
        require_same(like, seen(ways[name], keep))
    return alternate({name: calls(way) for name, way in ways.items()}, rounds), {}


def with_metrics(rounds: int) -> Outcome:
    """A MeterProvider is set as well."""
    traced(TEXT)  # the model is warm from here on: every call has the same attributes
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader]))
    keep = listen()
    traced(TEXT)
    like = keep.last
    records = records_of(reader, semconv.SCOPE)
    by_hand = written(like, reads=True, records=records)
    by_hand(TEXT)
    require_same(like, keep.last)
    made = records_of(reader, "by hand")

    require_same_records(records, made)
    histogram = metrics.get_meter("part").create_histogram("histogram", explicit_bucket_boundaries_advisory=[1.0, 2.0])
    counter = metrics.get_meter("part").create_counter("counter")
    attributes = records[-1].attributes

    def in_a_span(record: Callable[[float, Any], None]) -> Block:
        def block() -> float:
            with trace.get_tracer("part").start_as_current_span("part"):
                return timed()

        timed = calls(lambda text: record(1, attributes))
        return block

    blocks = {name: calls(way) for name, way in {"call": traced, "by hand": by_hand, "bare span": bare()}.items()}
    blocks["histogram"], blocks["counter"] = in_a_span(histogram.record), in_a_span(counter.add)
    blocks["nothing"] = calls(lambda text: None)
    return alternate(blocks, rounds), {}


def streams(rounds: int) -> Outcome:
    """A stream is pulled: of sound, whose onset is found with the first chunks, and of silence, which is searched."""
    listen()
    skipped, searched = 30, 30  # 1.3 s are sought through; 3 s would be
    number = CHUNKS - skipped
    ways = {
        "traced chunk": chunks(decorator(stream), skipped, number),
        "plain chunk": chunks(stream, skipped, number),
        "traced bytes": chunks(decorator(bytes_stream, format="pcm_s16le"), skipped, number),
        "plain bytes": chunks(bytes_stream, skipped, number),
        "traced silent chunk": chunks(decorator(silent_stream), 2, searched),
        "plain silent chunk": chunks(silent_stream, 2, searched),
        "bare span": calls(bare()),
    }
    return alternate(ways, max(2, rounds // 3)), {}


def crowd(rounds: int) -> Outcome:
    """A call while 10,000 others are open."""
    listen()
    one, blocks = calls(traced), min(rounds, 100)
    times: Times = {"call": [], "call, 10,000 open": []}
    for _ in range(max(1, rounds // 50)):
        one()
        times["call"] += [one() for _ in range(blocks)]
        others = [synthesis(text=TEXT).start() for _ in range(10_000)]
        one()
        times["call, 10,000 open"] += [one() for _ in range(blocks)]
        for other in others:
            other.end()
    return times, {}


def imports(rounds: int) -> Outcome:
    """What `import ttstrace` adds to the start of a program, each time in a new interpreter: in CPU time, for these
    blocks are too long to find a busy machine quiet."""

    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory() as compiled:
        environment["PYTHONPYCACHEPREFIX"] = compiled

        def importing(what: str) -> Block:
            code = f"from time import process_time as now; began = now(); import {what}; print(now() - began)"
            command = [sys.executable, "-c", code]
            run = functools.partial(subprocess.run, command, check=True, stdout=subprocess.PIPE, env=environment)
            run()  # what is not compiled yet is compiled here
            return lambda: float(run().stdout)

        ways = {"ttstrace": importing("ttstrace"), "built on": importing("opentelemetry.trace, wrapt, psutil")}
        return alternate(ways, max(2, rounds // 20)), {}


def parts(rounds: int) -> Outcome:
    """What a call is made of, one by one."""
    keep = listen()
    like = seen(traced, keep)
    tracer = trace.get_tracer("part")
    clear_refs = os.open("/proc/self/clear_refs", os.O_WRONLY)
    statm = os.open("/proc/self/statm", os.O_RDONLY)
    events = 10
    file = io.BytesIO()
    with wave.open(file, "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(RATE)
        wav.writeframes(bytes(2 * RATE))
    encoded = file.getvalue()

    def uncurrent(text: str) -> None:
        tracer.start_span("part").end()

    def with_events(text: str) -> None:
        with tracer.start_as_current_span("part") as span:
            for _ in range(events):
                span.add_event("tts.first_audio")

    def in_a_context(text: str) -> None:
        outer = get_current()
        attach(Context({**outer, "one": 1, "two": 2}))
        attach(outer)

    def as_wav(text: str) -> bytes:
        return encoded

    def through(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        return wrapped(*args, **kwargs)

    ways: dict[str, Callable[[str], Any]] = {
        "nothing": lambda text: None,
        "function": speak,
        "function, wrapped": wrapt.FunctionWrapper(speak, through),
        "bare span": bare(),
        "span, not current": uncurrent,
        "span with attributes": written(like, reads=False),
        "span with events": with_events,
        "context": in_a_context,
        "reset": lambda text: os.write(clear_refs, b"5"),
        "getrusage": lambda text: getrusage(RUSAGE_SELF),
        "children": lambda text: getrusage(RUSAGE_CHILDREN),
        "statm": lambda text: int(os.pread(statm, 64, 0).split()[1]),
        "process time": lambda text: process_time(),
        "call": traced,
        "call without audio": decorator(play),
        "call, WAV": decorator(as_wav),
    }
    return alternate({name: calls(way) for name, way in ways.items()}, rounds), {
        "attributes": len(like.attributes or {}),
        "events": events,
    }


def gpu(rounds: int) -> Outcome:
    """A call in a process that uses a GPU, where there is one."""
    try:
        torch: Any = importlib.import_module("torch")
    except ImportError:
        return {}, {"absent": "torch is not installed"}
    if not torch.cuda.is_available():
        return {}, {"absent": "torch finds no CUDA device"}
    listen()
    one, unit = calls(decorator(speak, device="cuda")), calls(bare())
    times = alternate({"call": one, "bare span": unit}, rounds)
    torch.zeros(1, device="cuda")
    used = alternate({"call, GPU": one, "bare span": unit}, rounds)
    return {**times, "call, GPU": used["call, GPU"]}, {}


def unit_and_call(rounds: int) -> Outcome:
    """With whatever the environment says."""
    listen()
    return alternate({"call": calls(traced), "bare span": calls(bare(TracerProvider()))}, rounds), {}


def unsampled(rounds: int) -> Outcome:
    """No span is sampled; first without a MeterProvider, then with one."""
    listen(sampler=ALWAYS_OFF)
    call, unit = calls(traced), calls(bare(TracerProvider()))
    times = alternate({"call": call, "bare span": unit}, rounds)
    metrics.set_meter_provider(MeterProvider([InMemoryMetricReader()]))
    recorded = alternate({"call": call, "bare span": unit}, rounds)
    return {**times, "call, metrics": recorded["call"]}, {}


SCENARIOS: dict[str, Callable[[int], Outcome]] = {
    "without_sdk": without_sdk,
    "spans": spans,
    "with_metrics": with_metrics,
    "streams": streams,
    "crowd": crowd,
    "imports": imports,
    "parts": parts,
    "gpu": gpu,
    "no_reset": unit_and_call,
    "unsampled": unsampled,
}

if __name__ == "__main__":
    scenario, given = sys.argv[1:]
    found, about = SCENARIOS[scenario](int(given))
    json.dump({"times": found, "about": about}, sys.stdout)
