"""Ends that are easily lost or come too early."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import threading
import time
from collections.abc import AsyncIterator, Generator, Iterator
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest
from conftest import Metrics, Spans
from opentelemetry import trace

from ttstrace import semconv, stage, synthesis, traced_synthesis
from ttstrace.metrics import instruments

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


class _Forever:
    def __await__(self) -> Generator[None, None, None]:
        while True:
            yield


def test_what_is_awaited_and_collected_in_a_cycle_ends_after_its_start(spans: Spans, recorded: Metrics) -> None:
    @traced_synthesis
    async def speak(text: str, holder: list[Any]) -> None:
        await _Forever()

    for _ in range(10):
        holder: list[Any] = []
        holder.append(speak("hello", holder))
        time.sleep(0.01)
        contextvars.copy_context().run(holder[0].send, None)
    del holder
    gc.collect()
    found = spans.syntheses()
    assert len(found) == 10
    for span in found:
        assert span.end_time >= span.start_time  # type: ignore[operator]
        attributes = span.attributes or {}
        assert attributes["tts.interrupted"] is True
        assert attributes.get("tts.synthesis.duration", 0.0) >= 0.0
    points = recorded.points("gen_ai.client.operation.duration")
    assert sum(point.count for point in points) == 10  # the SDK takes none below 0


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


def test_by_hand_and_dropped(spans: Spans) -> None:
    s = synthesis(text="hello", sample_rate=24000, producer="pull").start()
    s.chunk(CHUNK)
    chunk_came = time.time_ns()
    time.sleep(0.02)
    del s
    gc.collect()
    assert not spans.get_finished_spans()  # a finalizer calls nothing of OpenTelemetry
    span = spans.one()
    assert span.attributes["tts.interrupted"] is True  # type: ignore[index]
    assert span.end_time is not None
    assert span.end_time <= chunk_came


def test_by_hand_with_refused_options_is_dropped_in_silence(recwarn: pytest.WarningsRecorder) -> None:
    with pytest.raises(ValueError, match="sample_rate"):
        synthesis(sample_rate=1)
    gc.collect()
    assert not [w for w in recwarn if "xception" in str(w.message)]


def test_by_hand_dropped_unstarted_leaves_no_span(spans: Spans) -> None:
    synthesis(text="hello")
    gc.collect()
    assert not spans.all()


def test_where_none_is_running_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "SPAN_ONLY")
    none = synthesis.current()
    none.add_text("secret")
    none.chunk(CHUNK)
    none.set_attribute("a", 1)
    assert (none.text, none.characters, none.reader) == (None, None, None)


def test_a_meter_that_fails_costs_no_span(
    spans: Spans,
    recorded: Metrics,
    no_faults_of_ours: list[BaseException],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Broken:
        def add(self, amount: int, *args: Any) -> None:
            if amount < 0:
                raise RuntimeError

    used = instruments()
    assert used is not None
    monkeypatch.setattr(used, "active", Broken())

    @traced_synthesis
    def speak(text: str) -> Any:
        return CHUNK

    assert speak("hello") is CHUNK
    assert spans.attributes()[semconv.TTS_INPUT_CHARACTERS] == 5
    assert [type(fault) for fault in no_faults_of_ours] == [RuntimeError]
    no_faults_of_ours.clear()


def test_leaving_the_block_is_the_end(spans: Spans) -> None:
    class Managed:
        def __aiter__(self) -> Managed:
            return self

        async def __anext__(self) -> Any:
            return CHUNK

        async def __aenter__(self) -> Managed:
            return self

        async def __aexit__(self, *error: object) -> None: ...

    @traced_synthesis
    def speak(text: str) -> Managed:
        return Managed()

    async def main() -> None:
        managed = speak("hello")
        async with managed as stream:
            await stream.__anext__()
        assert len(spans.get_finished_spans()) == 1
        assert spans.attributes()[semconv.TTS_INTERRUPTED] is True

    asyncio.run(main())


def test_a_cancelled_future_is_the_end(spans: Spans) -> None:
    @traced_synthesis
    def speak(text: str) -> Future[Any]:
        return Future()

    future = speak("hello")
    future.cancel()
    future.set_running_or_notify_cancel()
    assert len(spans.get_finished_spans()) == 1
    assert spans.attributes()[semconv.TTS_INTERRUPTED] is True


def test_the_next_plain_call_ends_what_was_abandoned(spans: Spans) -> None:
    @traced_synthesis
    def stream(text: str) -> Iterator[Any]:
        yield CHUNK
        yield CHUNK

    @traced_synthesis
    def plain(text: str) -> None: ...

    pieces = stream("hello")
    next(pieces)
    del pieces
    gc.collect()
    plain("hello")
    assert [span.name.rpartition(".")[2] for span in spans.get_finished_spans()] == ["stream", "plain"]


def test_a_result_that_cannot_be_looked_at_is_handed_on(spans: Spans, no_faults_of_ours: list[BaseException]) -> None:
    class Hidden:
        @property
        def read(self) -> Any:
            raise RuntimeError

        def __getattribute__(self, name: str) -> Any:
            raise RuntimeError

    hidden = Hidden()

    @traced_synthesis
    def speak(text: str) -> Any:
        return hidden

    @traced_synthesis
    async def aspeak(text: str) -> Any:
        return hidden

    assert speak("hello") is hidden
    assert asyncio.run(aspeak("hello")) is hidden
    assert len(spans.syntheses()) == 2
    no_faults_of_ours.clear()


def test_by_hand_started_twice_is_one(spans: Spans, recorded: Metrics) -> None:
    s = synthesis(text="hello").start()
    s.start()
    with s:
        pass
    s.start()
    assert len(spans.syntheses()) == 1
    assert [point.value for point in recorded.points(semconv.METRIC_ACTIVE)] == [0]
    assert spans.attributes()[semconv.TTS_CONCURRENCY_MAX] == 1


def test_a_closed_stream_ends_its_own_blocks_first(spans: Spans) -> None:
    @traced_synthesis
    def speak(text: str) -> Iterator[Any]:
        with stage("part"):
            yield CHUNK
            yield CHUNK

    pieces = speak("hello")
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    assert [span.name.partition(" ")[0] for span in spans.get_finished_spans()] == ["part", "text_to_speech"]


@pytest.mark.parametrize("error", [GeneratorExit(), asyncio.CancelledError()], ids=["closed", "cancelled"])
def test_by_hand_interrupted_is_no_error(spans: Spans, error: BaseException) -> None:
    synthesis(text="hello").start().end(error)
    attributes = spans.attributes()
    assert attributes[semconv.TTS_INTERRUPTED] is True
    assert semconv.ERROR_TYPE not in attributes


def test_a_value_error_of_a_stream_is_an_error(spans: Spans) -> None:
    @traced_synthesis
    def speak(text: str) -> Iterator[Any]:
        yield CHUNK
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        list(speak("hello"))
    assert spans.attributes()[semconv.ERROR_TYPE] == "ValueError"


def test_a_chunk_that_is_being_taken_when_another_thread_ends_it(spans: Spans) -> None:
    inside, ended = threading.Event(), threading.Event()

    class Slow:
        sample_rate = 24000

        @property
        def audio(self) -> object:
            inside.set()
            ended.wait(0.2)
            return CHUNK

    found = synthesis(text="hello")
    found.start()
    receiver = threading.Thread(target=found.chunk, args=(Slow(),))
    receiver.start()
    assert inside.wait(10)
    found.end()
    ended.set()
    receiver.join()
    assert spans.attributes()[semconv.TTS_AUDIO_DURATION] == 0.1
    assert spans.attributes()[semconv.TTS_STREAM_CHUNKS] == 1
