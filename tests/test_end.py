"""A started synthesis ends exactly once, whatever happens to it."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pytest
from backends import RATE, tone, work
from conftest import Spans, between

from ttstrace import lifecycle, stage, synthesis, traced_synthesis


@traced_synthesis(sample_rate=RATE, producer="pull")
def speak(text: str) -> Iterator[np.ndarray]:
    for _ in range(3):
        work(0.02)
        yield tone(0.1)


@traced_synthesis(sample_rate=RATE)
async def aspeak(text: str) -> AsyncIterator[np.ndarray]:
    for _ in range(3):
        await asyncio.sleep(0.02)
        yield tone(0.1)


def length(spans: Spans) -> float:
    span = spans.one()
    return (span.end_time - span.start_time) / 1e9


def test_exhausted_then_closed_and_collected(spans: Spans) -> None:
    stream = speak("hello")
    assert len(list(stream)) == 3
    assert next(stream, None) is None
    stream.close()  # type: ignore[attr-defined]
    del stream
    gc.collect()
    assert "tts.interrupted" not in spans.attributes()


def test_closed_half_way(spans: Spans) -> None:
    begun = time.perf_counter()
    stream = speak("hello")
    next(stream)
    pulled = time.perf_counter() - begun
    time.sleep(0.1)
    stream.close()  # type: ignore[attr-defined]
    attributes = spans.attributes()
    assert attributes["tts.interrupted"] is True
    assert attributes["tts.stream.chunks"] == 1
    assert attributes["tts.audio.duration"] == pytest.approx(0.1)
    assert "error.type" not in attributes
    assert spans.one().status.is_unset
    assert length(spans) == between(0.02, pulled)  # with its last pull
    assert attributes["tts.synthesis.duration"] == between(0.02, pulled)
    assert attributes["tts.cpu.time"] > 0


def test_collected_half_way(spans: Spans) -> None:
    begun = time.perf_counter()
    stream = speak("hello")
    next(stream)
    next(stream)
    pulled = time.perf_counter() - begun
    time.sleep(0.1)
    del stream
    assert not spans.get_finished_spans()  # a finalizer calls nothing of OpenTelemetry
    attributes = spans.attributes()
    assert attributes["tts.interrupted"] is True
    assert attributes["tts.stream.chunks"] == 2
    assert length(spans) == between(0.04, pulled)
    assert not {name for name in attributes if name.startswith(("tts.cpu", "tts.memory", "tts.gpu"))}


def test_collected_in_a_cycle(spans: Spans) -> None:
    stream = speak("hello")
    next(stream)
    cycle: list[Any] = [stream]
    cycle.append(cycle)
    del stream, cycle
    gc.collect()
    assert spans.attributes()["tts.interrupted"] is True


def test_the_next_call_ends_what_was_abandoned(spans: Spans) -> None:
    stream = speak("hello")
    next(stream)
    del stream
    list(speak("again"))
    assert [span.attributes.get("tts.interrupted") for span in spans.get_finished_spans()] == [True, None]


def test_never_pulled_leaves_no_span(spans: Spans) -> None:
    stream = speak("hello")
    stream.close()  # type: ignore[attr-defined]
    speak("hello")
    aspeak("hello")
    gc.collect()
    assert not spans.all()


def test_abandoned_iterator_whose_call_did_start(spans: Spans) -> None:
    @traced_synthesis(sample_rate=RATE)
    def begin(text: str) -> Iterator[np.ndarray]:
        work(0.03)
        return map(tone, [0.1])

    begun = time.perf_counter()
    begin("hello")
    assert spans.attributes()["tts.interrupted"] is True
    assert length(spans) == between(0.03, time.perf_counter() - begun)


def test_abandoned_awaitable_whose_call_did_start(spans: Spans) -> None:
    async def work_later() -> np.ndarray:
        return tone(0.1)

    @traced_synthesis(sample_rate=RATE)
    def begin(text: str) -> Any:
        return work_later()

    with pytest.warns(RuntimeWarning, match="never awaited"):
        begin("hello")
        gc.collect()
    assert spans.attributes()["tts.interrupted"] is True


def test_failed_half_way(spans: Spans) -> None:
    @traced_synthesis(sample_rate=RATE)
    def fail(text: str) -> Iterator[np.ndarray]:
        yield tone(0.1)
        raise OSError("gone")

    stream = fail("hello")
    next(stream)
    with pytest.raises(OSError, match="gone"):
        next(stream)
    assert next(stream, None) is None
    attributes = spans.attributes()
    assert attributes["error.type"] == "OSError"
    assert attributes["tts.stream.chunks"] == 1
    assert "tts.rtf" not in attributes
    assert "tts.interrupted" not in attributes
    assert not spans.one().status.is_ok
    assert [event.name for event in spans.one().events] == ["tts.first_audio", "exception"]


def test_cancelled_coroutine(spans: Spans) -> None:
    @traced_synthesis
    async def slow(text: str) -> bytes:
        running.set()
        await asyncio.sleep(10)
        return b""

    async def consume() -> float:
        begun = time.perf_counter()
        task = asyncio.create_task(slow("hello"))
        await running.wait()
        await asyncio.sleep(0.03)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return time.perf_counter() - begun

    running = asyncio.Event()
    whole = asyncio.run(consume())
    assert spans.attributes()["tts.interrupted"] is True
    assert spans.one().status.is_unset
    assert length(spans) == between(0.03, whole)


def test_timeout_in_an_async_stream(spans: Spans) -> None:
    @traced_synthesis(sample_rate=RATE)
    async def stall(text: str) -> AsyncIterator[np.ndarray]:
        yield tone(0.1)
        await asyncio.sleep(10)

    async def consume() -> None:
        stream = stall("hello")
        await stream.__anext__()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(stream.__anext__(), 0.05)

    asyncio.run(consume())
    attributes = spans.attributes()
    assert attributes["tts.interrupted"] is True
    assert attributes["tts.stream.chunks"] == 1


def test_async_stream_closed_and_abandoned(spans: Spans) -> None:
    async def close() -> None:
        stream = aspeak("hello")
        await stream.__anext__()
        await stream.aclose()  # type: ignore[attr-defined]

    async def abandon() -> None:
        async for _ in aspeak("hello"):
            break
        gc.collect()
        await asyncio.sleep(0)

    asyncio.run(close())
    assert spans.attributes()["tts.interrupted"] is True
    spans.clear()
    asyncio.run(abandon())
    assert spans.attributes()["tts.interrupted"] is True


def test_thrown_into(spans: Spans) -> None:
    stream = speak("hello")
    next(stream)
    with pytest.raises(KeyError):
        stream.throw(KeyError("x"))  # type: ignore[attr-defined]
    assert spans.attributes()["error.type"] == "KeyError"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_interrupts_pass_on(spans: Spans, error: type[BaseException]) -> None:
    @traced_synthesis
    def stop(text: str) -> bytes:
        raise error

    with pytest.raises(error):
        stop("hello")
    assert spans.attributes()["error.type"] == error.__name__


def test_by_hand_with_an_error(spans: Spans) -> None:
    with pytest.raises(ValueError, match="x"), synthesis(text="hello") as s:
        s.chunk(b"12")
        raise ValueError("x")
    assert spans.attributes()["error.type"] == "ValueError"


def test_by_hand_ends_once(spans: Spans) -> None:
    with synthesis(text="hello") as s:
        s.end()
        s.end(ValueError())
        s.chunk(b"late")
        s.set_attribute("late", 1)
        s.add_text("late")
    s.start()
    attributes = spans.attributes()
    assert "error.type" not in attributes
    assert "late" not in attributes
    assert attributes["tts.input.characters"] == 5
    assert "tts.audio.size" not in attributes


def test_attributes_may_be_set_before_the_start(spans: Spans) -> None:
    s = synthesis(text="hello")
    s.set_attribute("request", 7)
    s.start().end()
    assert spans.attributes()["request"] == 7


def test_by_hand_in_a_generator_that_is_dropped(spans: Spans) -> None:
    def body() -> Iterator[int]:
        with synthesis(text="hello"), stage("vocoder"):
            yield 1

    stream = body()
    next(stream)
    del stream
    assert not spans.get_finished_spans()  # nothing of OpenTelemetry is called where a finalizer may be running
    assert spans.attributes()["tts.interrupted"] is True
    assert [span.name for span in spans.all()] == ["vocoder", "text_to_speech"]


def test_no_lock_is_taken_by_a_finalizer(spans: Spans) -> None:
    """Collected while this very thread holds the SDK's and our locks, by a collector that runs at every allocation."""
    streams = [speak("hello") for _ in range(50)]
    for stream in streams:
        next(stream)
    for number, stream in enumerate(streams):
        cycle: list[Any] = [stream]
        cycle.append(cycle)
        streams[number] = None  # type: ignore[call-overload]
    del stream, cycle
    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        with lifecycle._lock:
            list(speak("again"))
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    assert len(spans.syntheses()) == 51


def test_abandoned_streams_are_ended_at_exit(tmp_path: Any) -> None:
    script = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from ttstrace import traced_synthesis

provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(formatter=lambda span: span.name + "\\n")))
trace.set_tracer_provider(provider)

@traced_synthesis(model="m")
def speak(text):
    yield b"1"
    yield b"2"

stream = speak("hello")
next(stream)
del stream
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert result.stdout == "text_to_speech m\n"
    assert result.stderr == ""
