"""Ends that are easily lost or come too early."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
from conftest import Spans
from opentelemetry import trace

from ttstrace import semconv, stage, synthesis, traced_synthesis

CHUNK = np.zeros(2400, np.float32)


def test_an_awaited_stream_outlives_what_was_awaited(spans: Spans) -> None:
    @traced_synthesis(sample_rate=24000)
    async def speak(text: str) -> AsyncIterator[Any]:
        async def pieces() -> AsyncIterator[Any]:
            for _ in range(3):
                yield CHUNK

        return pieces()

    @traced_synthesis
    def other(text: str) -> None: ...

    async def main() -> None:
        stream = await speak("hello")
        gc.collect()
        other("in between")  # ends what was left behind: the stream was not
        spans.all()
        async for _ in stream:
            pass

    asyncio.run(main())
    attributes = next(dict(s.attributes or {}) for s in spans.syntheses() if s.name.endswith("speak"))
    assert attributes[semconv.TTS_STREAM_CHUNKS] == 3
    assert attributes[semconv.TTS_AUDIO_DURATION] == 0.3
    assert semconv.TTS_INTERRUPTED not in attributes


def _current() -> Any:
    return trace.get_current_span().get_span_context()


def test_a_dropped_stream_leaves_the_current_span_alone(spans: Spans) -> None:
    @traced_synthesis
    def speak(text: str) -> Iterator[Any]:
        with stage("vocoder"):
            yield CHUNK
            yield CHUNK

    @traced_synthesis
    def by_hand(text: str) -> Iterator[Any]:
        with synthesis(text=text), stage("vocoder"):
            yield CHUNK
            yield CHUNK

    for function in (speak, by_hand):
        stream = function("hello")
        next(stream)
        with trace.get_tracer("app").start_as_current_span("app") as span:
            del stream
            assert _current() == span.get_span_context()
        assert not _current().is_valid


def test_a_closed_stream_leaves_the_current_span_alone(spans: Spans) -> None:
    @traced_synthesis
    async def speak(text: str) -> AsyncIterator[Any]:
        with stage("vocoder"):
            yield CHUNK
            yield CHUNK

    async def main() -> None:
        stream = speak("hello")
        await stream.__anext__()
        with contextlib.suppress(GeneratorExit):
            await stream.athrow(GeneratorExit)  # type: ignore[attr-defined]
        assert not _current().is_valid

    asyncio.run(main())
    assert spans.one().attributes["tts.interrupted"] is True  # type: ignore[index]


def test_a_closed_coroutine_leaves_the_current_span_alone(spans: Spans) -> None:
    @traced_synthesis
    async def speak(text: str) -> None:
        await asyncio.sleep(0)

    coroutine = speak("hello")
    coroutine.send(None)
    assert _current().is_valid
    coroutine.close()
    assert not _current().is_valid
    assert spans.one().attributes["tts.interrupted"] is True  # type: ignore[index]


def test_a_future_that_is_dropped(spans: Spans) -> None:
    @traced_synthesis
    def speak(text: str) -> Any:
        return asyncio.get_running_loop().create_future()

    async def main() -> None:
        future = speak("hello")
        del future
        gc.collect()

    asyncio.run(main())
    assert spans.attributes()[semconv.TTS_INTERRUPTED] is True
