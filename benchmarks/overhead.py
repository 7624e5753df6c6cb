"""What measuring costs, as ratios of one run: `python benchmarks/overhead.py [--json]`.

Every row compares two ways of doing the same in short alternating blocks, and takes the fastest block of each: that
holds to about 1 % on a machine that does other things as well. The bars are those of the design; none is asserted.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

from ttstrace import semconv, synthesis, traced_synthesis
from ttstrace.metrics import Instruments

AUDIO = np.zeros(24_000, np.float32)
CHUNK = (0.5 * np.sin(np.arange(1024) / 5)).astype(np.float32)


def speak(text: str) -> np.ndarray:
    return AUDIO


traced = traced_synthesis(provider="acme", model="m", voice="v", language="en", device="cpu", sample_rate=24_000)(speak)


@traced_synthesis(sample_rate=24_000, producer="pull")
def traced_stream(text: str) -> Iterator[np.ndarray]:
    for _ in range(1030):
        yield CHUNK


def plain_stream(text: str) -> Iterator[np.ndarray]:
    for _ in range(1030):
        yield CHUNK


class Keep(SpanProcessor):
    """The span that ended last."""

    last: ReadableSpan

    def on_end(self, span: ReadableSpan) -> None:
        self.last = span


def fastest(ways: dict[str, Callable[[], object]], calls: int = 50, blocks: int = 200) -> dict[str, float]:
    """Seconds of one call by each way."""
    best = dict.fromkeys(ways, float("inf"))
    for way in ways.values():
        way()
    gc.collect()
    for _ in range(blocks):
        for name, way in ways.items():
            began = time.perf_counter()
            for _ in range(calls):
                way()
            best[name] = min(best[name], (time.perf_counter() - began) / calls)
    return best


def by_hand(like: ReadableSpan, reads: bool, used: Instruments | None = None) -> Callable[[], object]:
    """A span as somebody would write it who wants the same attributes."""
    tracer = trace.get_tracer("by hand")
    attributes = dict(like.attributes or {})
    name = like.name
    clear_refs = os.open("/proc/self/clear_refs", os.O_WRONLY)
    statm = os.open("/proc/self/statm", os.O_RDONLY)
    told = {key: attributes[key] for key in (semconv.GEN_AI_PROVIDER_NAME, semconv.GEN_AI_REQUEST_MODEL)}

    def read() -> None:
        resource.getrusage(resource.RUSAGE_SELF)
        int(os.pread(statm, 64, 0).split()[1])
        time.process_time()
        resource.getrusage(resource.RUSAGE_CHILDREN)

    def call() -> object:
        with tracer.start_as_current_span(name) as span:
            if reads:
                os.write(clear_refs, b"5")
                read()
            result = speak("hello")
            if reads:
                read()
            span.set_attributes(attributes)
        if used is not None:
            used.active.add(1, told)
            used.active.add(-1, told)
            used.duration.record(0.1, told)
            used.rtf.record(0.1, told)
            used.audio_duration.record(0.1, told)
            used.memory_peak.record(100, told)
            used.characters.add(5, told)
        return result

    return call


def chunk_cost(blocks: int = 60) -> float:
    """Seconds that one chunk of a stream costs more than untraced, once the onset is found."""

    def drain(stream: Iterator[Any]) -> float:
        for _ in range(30):
            next(stream)
        began = time.perf_counter()
        for _ in stream:
            pass
        return (time.perf_counter() - began) / 1000

    best_traced = best_plain = float("inf")
    for _ in range(blocks):
        best_traced = min(best_traced, drain(traced_stream("hello")))
        best_plain = min(best_plain, drain(plain_stream("hello")))
    return best_traced - best_plain


def import_cost() -> tuple[float, float]:
    """Seconds that importing ttstrace takes, and importing what it builds on."""

    def took(code: str) -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - began

    bare = ours = base = float("inf")
    for _ in range(15):
        bare = min(bare, took("pass"))
        base = min(base, took("import opentelemetry.trace, wrapt, psutil"))
        ours = min(ours, took("import ttstrace"))
    return ours - bare, base - bare


def rows() -> Iterator[tuple[str, float, float, float | None]]:
    """What, seconds, seconds of what it is held against, the bar of their ratio."""
    tracer = trace.get_tracer("bare")

    def bare() -> None:
        with tracer.start_as_current_span("bare"):
            pass

    found = fastest({"ours": lambda: traced("hello"), "no-op span": bare})
    yield "a decorated call without an SDK, against a no-op span", found["ours"], found["no-op span"], 0.75

    keep = Keep()
    provider = TracerProvider()
    provider.add_span_processor(keep)
    trace.set_tracer_provider(provider)
    traced("hello")
    traced("hello")
    like = keep.last
    found = fastest(
        {"ours": lambda: traced("hello"), "reads": by_hand(like, True), "none": by_hand(like, False), "bare": bare}
    )
    yield "a decorated call, against a span by hand with the same kernel reads", found["ours"], found["reads"], 1.10
    yield "the same, against a span by hand without the reads", found["ours"], found["none"], None
    yield "one chunk of a stream, against one bare span", chunk_cost(), found["bare"], 0.10

    alone = fastest({"ours": lambda: traced("hello")})["ours"]
    others = [synthesis(text="hello").start() for _ in range(10_000)]
    crowded = fastest({"ours": lambda: traced("hello")})["ours"]
    for other in others:
        other.end()
    yield "a call with 10,000 others open, against with none", crowded, alone, 2.0

    metrics.set_meter_provider(MeterProvider([InMemoryMetricReader()]))
    used = Instruments(metrics.get_meter_provider())
    found = fastest({"ours": lambda: traced("hello"), "hand": by_hand(like, True, used)})
    yield "with a MeterProvider, against the same span and records by hand", found["ours"], found["hand"], 1.10
    yield "import ttstrace, against what it builds on", *import_cost(), 1.3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="for machines")
    arguments = parser.parse_args()
    table = []
    for what, seconds, against, bar in rows():
        table.append({"what": what, "seconds": seconds, "against": against, "ratio": seconds / against, "bar": bar})
        if not arguments.json:
            limit = "" if bar is None else f"  (at most {bar:g})"
            print(f"{seconds / against:6.2f}x  {seconds * 1e6:8.1f} us / {against * 1e6:8.1f} us  {what}{limit}")
    if arguments.json:
        print(json.dumps(table, indent=2))


if __name__ == "__main__":
    main()
