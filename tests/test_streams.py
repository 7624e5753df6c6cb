"""What a stream's span says of time, against schedules that the test makes itself.

Durations are held against the test's own clocks: no shorter than what the backend takes, no longer than what the
consumer sees of it.
"""

from __future__ import annotations

import asyncio
import collections.abc
import itertools
import queue
import threading
import time
import types
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Generator  # noqa: UP035 - of typing, as backends have it

import numpy as np
import pytest
from backends import RATE, burn, schedule, silence, tone, work
from conftest import Spans, between
from opentelemetry.sdk.trace import ReadableSpan

from ttstrace import stage, synthesis, traced_synthesis
from ttstrace.call import Options
from ttstrace.decorator import trace


class Consumed:
    """A stream consumed as a player does, with the consumer's clock around each pull, and between the pulls."""

    def __init__(self, call: Callable[[], Iterator[Any]], hold: Callable[[], object] = lambda: None) -> None:
        self.pulls: list[float] = []
        """Seconds of each pull; the last gave no chunk."""
        self.arrivals: list[float] = []
        """Seconds since the call at which each chunk was there."""
        self.held = 0.0
        self.begun = begun = time.perf_counter()
        stream = call()
        self.call = time.perf_counter() - begun
        """Seconds of the call itself."""
        while True:
            asked = time.perf_counter()
            chunk = next(stream, None)
            answered = time.perf_counter()
            self.pulls.append(answered - asked)
            if chunk is None:
                break
            self.arrivals.append(answered - begun)
            hold()
            self.held += time.perf_counter() - answered
        self.whole = time.perf_counter() - begun

    @property
    def first(self) -> float:
        """Seconds of the call and of the first pull."""
        return self.call + self.pulls[0]

    @property
    def pulled(self) -> float:
        """Seconds of the call and of all pulls."""
        return self.call + sum(self.pulls)


def length(span: ReadableSpan) -> float:
    return (span.end_time - span.start_time) / 1e9  # type: ignore[operator]


@pytest.mark.parametrize("paced", [False, True], ids=["drained", "paced"])
def test_pull_producer_works_only_inside_the_pulls(spans: Spans, paced: bool) -> None:
    @traced_synthesis(sample_rate=RATE, producer="pull")
    def speak(text: str) -> Iterator[np.ndarray]:
        return schedule((0.05, 0.2), (0.03, 0.2), (0.03, 0.2))

    seen = Consumed(lambda: speak("hello"), (lambda: time.sleep(0.15)) if paced else (lambda: None))
    attributes = spans.attributes()
    assert attributes["tts.synthesis.duration"] == between(0.11, seen.pulled)
    assert attributes["tts.stream.hold.duration"] == between(seen.held, seen.whole - 0.11)
    assert attributes["tts.audio.duration"] == pytest.approx(0.6)
    assert attributes["tts.rtf"] == pytest.approx(attributes["tts.synthesis.duration"] / 0.6)
    assert attributes["gen_ai.response.time_to_first_chunk"] == between(0.05, seen.first)
    assert attributes["tts.time_to_first_audio"] == between(0.05, seen.first)
    assert length(spans.one()) == between(0.11 + seen.held, seen.whole)
    assert attributes["tts.stream.chunks"] == 3


def test_hold_before_the_first_pull_is_the_consumers(spans: Spans) -> None:
    class Speech:
        """An iterator whose synthesis started with the call."""

        def __init__(self) -> None:
            work(0.04)
            self._chunks = schedule((0.03, 0.2), (0.02, 0.2))

        def __iter__(self) -> Speech:
            return self

        def __next__(self) -> np.ndarray:
            return next(self._chunks)

    @traced_synthesis(sample_rate=RATE, producer="pull")
    def speak(text: str) -> Speech:
        return Speech()

    begun = time.perf_counter()
    stream = speak("hello")
    called = time.perf_counter() - begun
    time.sleep(0.2)
    seen = Consumed(lambda: stream)
    attributes = spans.attributes()
    assert attributes["tts.synthesis.duration"] == between(0.09, called + seen.pulled)
    assert attributes["gen_ai.response.time_to_first_chunk"] == between(0.07, called + seen.first)
    assert attributes["tts.time_to_first_audio"] == between(0.07, called + seen.first)
    assert attributes["tts.stream.hold.duration"] == between(0.2, time.perf_counter() - begun - 0.09)


def test_a_generator_starts_with_its_first_pull(spans: Spans) -> None:
    @traced_synthesis(sample_rate=RATE, producer="pull")
    def speak(text: str) -> Iterator[np.ndarray]:
        yield from schedule((0.03, 0.2))

    stream = speak("hello")
    time.sleep(0.1)
    seen = Consumed(lambda: stream)
    attributes = spans.attributes()
    assert attributes["tts.synthesis.duration"] == between(0.03, seen.pulled)
    assert attributes["gen_ai.response.time_to_first_chunk"] == between(0.03, seen.first)
    assert attributes["tts.stream.hold.duration"] == between(seen.held, seen.whole - 0.03)
    assert length(spans.one()) == between(0.03, seen.whole)


class pushed:
    """A stream whose producer goes on while nobody pulls: a thread behind a queue."""

    def __init__(self, *gaps_and_seconds: tuple[float, float]) -> None:
        self._chunks: queue.SimpleQueue[Any] = queue.SimpleQueue()
        threading.Thread(target=self._produce, args=gaps_and_seconds).start()

    def _produce(self, *gaps_and_seconds: tuple[float, float]) -> None:
        for chunk in schedule(*gaps_and_seconds, busy=False):
            self._chunks.put(chunk)
        self._chunks.put(None)

    def __iter__(self) -> pushed:
        return self

    def __next__(self) -> np.ndarray:
        chunk = self._chunks.get()
        if chunk is None:
            raise StopIteration
        return chunk


@pytest.mark.keeps_time
def test_push_producer_drained(spans: Spans) -> None:
    @traced_synthesis(sample_rate=RATE, producer="push")
    def speak(text: str) -> Iterator[np.ndarray]:
        return pushed((0.1, 0.2), (0.1, 0.2), (0.1, 0.2))

    seen = Consumed(lambda: speak("hello"))
    attributes = spans.attributes()
    assert attributes.get("tts.synthesis.duration") == between(0.3, seen.arrivals[-1])
    assert attributes.get("gen_ai.response.time_to_first_chunk") == between(0.1, seen.arrivals[0])


@pytest.mark.keeps_time
def test_push_producer_paced_is_unknown(spans: Spans) -> None:
    """With the hold taken off, a service played in real time would read far too fast; without, too slow."""

    @traced_synthesis(sample_rate=RATE, producer="push")
    def speak(text: str) -> Iterator[np.ndarray]:
        return pushed((0.1, 0.1), (0.05, 0.1), (0.05, 0.1))

    seen = Consumed(lambda: speak("hello"), lambda: time.sleep(0.1))
    attributes = spans.attributes()
    assert "tts.synthesis.duration" not in attributes
    assert "tts.rtf" not in attributes
    assert "tts.rtf.grade" not in attributes
    assert attributes["tts.audio.duration"] == pytest.approx(0.3)
    assert attributes.get("gen_ai.response.time_to_first_chunk") == between(0.1, seen.first)
    assert attributes["tts.stream.hold.duration"] == between(seen.held, seen.whole - 0.1)


def test_push_producer_with_hold_before_the_first_chunk(spans: Spans) -> None:
    @traced_synthesis(sample_rate=RATE, producer="push")
    def speak(text: str) -> Iterator[np.ndarray]:
        return pushed((0.05, 0.1), (0.05, 0.1))

    stream = speak("hello")
    time.sleep(0.1)
    list(stream)
    attributes = spans.attributes()
    assert "gen_ai.response.time_to_first_chunk" not in attributes
    assert "tts.time_to_first_audio" not in attributes
    assert "tts.synthesis.duration" not in attributes


def test_undeclared_generator_that_computes_in_the_pulls_is_pull(spans: Spans) -> None:
    shares: list[float] = []

    def compute() -> Iterator[np.ndarray]:
        cpu, wall = time.thread_time(), time.perf_counter()
        work(0.03)
        shares.append((time.thread_time() - cpu) / (time.perf_counter() - wall))
        yield tone(0.2)
        work(0.03)
        yield tone(0.2)

    @traced_synthesis(sample_rate=RATE)
    def speak(text: str) -> Iterator[np.ndarray]:
        return compute()

    for _ in range(20):
        spans.clear()
        seen = Consumed(lambda: speak("hello"), lambda: time.sleep(0.1))
        if shares[-1] > 0.35:
            break
    else:
        pytest.skip("the machine was too busy to let anybody compute")
    assert spans.attributes().get("tts.synthesis.duration") == between(0.06, seen.pulled)


@pytest.mark.parametrize(
    "make",
    [
        lambda: (chunk for chunk in pushed((0.03, 0.2), (0.03, 0.2))),  # waits for another thread's work
        lambda: pushed((0.03, 0.2), (0.03, 0.2)),  # no generator
    ],
    ids=["generator-that-waits", "iterator"],
)
def test_undeclared_producer_that_may_go_on_meanwhile_is_push(spans: Spans, make: Callable[[], Iterator[Any]]) -> None:
    @traced_synthesis(sample_rate=RATE)
    def speak(text: str) -> Iterator[np.ndarray]:
        return make()

    Consumed(lambda: speak("hello"), lambda: time.sleep(0.1))
    assert "tts.synthesis.duration" not in spans.attributes()


def test_undeclared_generator_around_a_remote_synthesis_is_push(spans: Spans) -> None:
    from ttstrace.call import Options
    from ttstrace.decorator import trace

    remote = trace(lambda text: work(0.03) or tone(0.2), Options(remote=True, sample_rate=RATE))

    @traced_synthesis(sample_rate=RATE)
    def speak(text: str) -> Iterator[np.ndarray]:
        for _ in range(2):
            yield remote(text)

    Consumed(lambda: speak("hello"), lambda: time.sleep(0.1))
    outer = spans.syntheses()[-1]
    assert outer.name.endswith("speak")
    assert "tts.synthesis.duration" not in outer.attributes


@pytest.mark.keeps_time
def test_async_stream(spans: Spans) -> None:
    @traced_synthesis(sample_rate=RATE)
    async def speak(text: str) -> AsyncIterator[np.ndarray]:
        for gap in (0.1, 0.2):
            await asyncio.sleep(gap)
            yield tone(0.2)

    async def consume(hold: float) -> list[float]:
        begun, arrivals = time.perf_counter(), []
        async for _ in speak("hello"):
            arrivals.append(time.perf_counter() - begun)
            if hold:
                await asyncio.sleep(hold)
        return arrivals

    first, last = asyncio.run(consume(0.0))
    attributes = spans.attributes()
    assert attributes.get("tts.synthesis.duration") == between(0.3, last)
    assert attributes.get("gen_ai.response.time_to_first_chunk") == between(0.1, first)
    spans.clear()
    asyncio.run(consume(0.1))
    assert "tts.rtf" not in spans.attributes()  # an async generator may have gone on meanwhile


@pytest.mark.parametrize("piece", [0.01, 0.05, 0.4])
def test_leading_silence(spans: Spans, piece: float) -> None:
    """0.2 s of silence, all there after 0.03 s: a listener hears the tone 0.2 s after the first chunk."""
    audio = np.concatenate([silence(0.2), tone(0.3)])
    size = round(piece * RATE)

    @traced_synthesis(sample_rate=RATE, producer="pull")
    def speak(text: str) -> Iterator[np.ndarray]:
        work(0.03)
        for at in range(0, len(audio), size):
            yield audio[at : at + size]

    seen = Consumed(lambda: speak("hello"))
    attributes = spans.attributes()
    first = attributes["gen_ai.response.time_to_first_chunk"]
    assert first == between(0.03, seen.first)
    assert attributes["tts.time_to_first_audio"] == pytest.approx(first + 0.2, abs=0.002)
    event, span = spans.one().events[0], spans.one()
    assert event.name == "tts.first_audio"
    # The whole was there long before it would have been heard: the mark goes no further than the span.
    assert event.timestamp == span.end_time


def test_onset_counts_from_the_chunk_that_holds_it(spans: Spans) -> None:
    """Chunks of 10 ms, each 30 ms late: the onset lies in the third, although it takes seven more to be sure of it."""

    @traced_synthesis(sample_rate=RATE, producer="pull")
    def speak(text: str) -> Iterator[np.ndarray]:
        audio = np.concatenate([silence(0.02), tone(0.2)])
        for at in range(0, len(audio), 240):
            work(0.03)
            yield audio[at : at + 240]

    seen = Consumed(lambda: speak("hello"))
    assert spans.attributes()["tts.time_to_first_audio"] == between(0.09, seen.arrivals[2])
    span = spans.one()
    assert (span.events[0].timestamp - span.start_time) / 1e9 == between(0.09, seen.arrivals[2])


def test_silent_stream_has_no_first_audio(spans: Spans) -> None:
    @traced_synthesis(sample_rate=RATE)
    def speak(text: str) -> Iterator[np.ndarray]:
        for _ in range(5):
            yield silence(0.1)

    list(speak("hello"))
    attributes = spans.attributes()
    assert "tts.time_to_first_audio" not in attributes
    assert attributes["tts.stream.chunks"] == 5
    assert [event.name for event in spans.one().events] == ["tts.first_chunk"]


@pytest.mark.keeps_time
def test_underruns(spans: Spans) -> None:
    """0.2 s of audio, then 0.1 s each; the third chunk comes 0.35 s and the fourth 0.45 s after the one before."""

    started: list[float] = []
    made: list[float] = []

    @traced_synthesis(sample_rate=RATE, producer="pull")
    def speak(text: str) -> Iterator[np.ndarray]:
        started.append(time.perf_counter())
        for chunk in schedule((0.02, 0.2), (0.05, 0.1), (0.35, 0.1), (0.45, 0.1), (0.05, 0.1)):
            made.append(time.perf_counter())
            yield chunk

    consumed = Consumed(lambda: speak("hello"))
    begun, seen = consumed.begun, [consumed.begun + arrival for arrival in consumed.arrivals]
    # Each chunk arrives after it was made, and before it is seen. The first two are played for 0.3 s.
    first = between(made[2] - seen[0] - 0.3, seen[2] - made[0] - 0.3)
    second = between(made[3] - seen[2] - 0.1, seen[3] - made[2] - 0.1)
    attributes = spans.attributes()
    assert attributes["tts.stream.continuous"] is False
    assert attributes["tts.stream.underruns"] == 2
    assert attributes["tts.stream.underrun.duration"] == between(first.inner + second.inner, first.outer + second.outer)
    assert attributes["tts.stream.underrun.max"] == second
    span = spans.one()
    marks = [event for event in span.events if event.name == "tts.underrun"]
    assert [(mark.timestamp - span.start_time) / 1e9 for mark in marks] == [
        between(made[0] + 0.3 - started[0], seen[0] + 0.3 - begun),
        between(made[2] + 0.1 - started[0], seen[2] + 0.1 - begun),
    ]
    assert [mark.attributes["tts.stream.underrun.duration"] for mark in marks] == [first, second]


@pytest.mark.keeps_time
def test_a_late_consumer_is_no_underrun(spans: Spans) -> None:
    @traced_synthesis(sample_rate=RATE, producer="pull")
    def speak(text: str) -> Iterator[np.ndarray]:
        return schedule((0.02, 0.1), (0.02, 0.1), (0.02, 0.1))

    Consumed(lambda: speak("hello"), lambda: time.sleep(0.3))
    attributes = spans.attributes()
    assert attributes["tts.stream.continuous"] is True
    assert attributes["tts.stream.underruns"] == 0


def test_one_chunk_says_nothing_of_continuity(spans: Spans) -> None:
    @traced_synthesis(sample_rate=RATE)
    def speak(text: str) -> Iterator[np.ndarray]:
        yield tone(0.1)

    list(speak("hello"))
    assert "tts.stream.continuous" not in spans.attributes()
    assert "tts.stream.underruns" not in spans.attributes()


def test_chunks_of_unknown_format(spans: Spans) -> None:
    @traced_synthesis(producer="pull")
    def speak(text: str) -> Iterator[bytes]:
        yield b""
        work(0.02)
        yield b"\x00\x17 no format that anybody knows"
        yield b"\x99" * 100

    seen = Consumed(lambda: speak("hello"))
    attributes = spans.attributes()
    assert attributes["tts.stream.chunks"] == 2
    assert attributes["gen_ai.response.time_to_first_chunk"] == between(0.02, seen.arrivals[1])
    assert attributes["tts.audio.size"] == 131
    for unknown in ("tts.audio.duration", "tts.rtf", "tts.stream.continuous", "tts.time_to_first_audio"):
        assert unknown not in attributes
    assert [event.name for event in spans.one().events] == ["tts.first_chunk"]


def test_wav_header_is_no_audio(spans: Spans) -> None:
    import struct

    def header(size: int) -> bytes:
        body = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16) + struct.pack("<4sI", b"data", size)
        return struct.pack("<4sI4s", b"RIFF", size + 36, b"WAVE") + body

    @traced_synthesis(producer="pull")
    def speak(text: str) -> Iterator[bytes]:
        yield header(9600)
        work(0.05)
        yield (tone(0.2) * 32767).astype("<i2").tobytes()

    seen = Consumed(lambda: speak("hello"))
    attributes = spans.attributes()
    assert attributes["gen_ai.response.time_to_first_chunk"] == between(0.05, seen.arrivals[1])
    assert attributes["tts.stream.chunks"] == 1
    assert attributes["tts.audio.duration"] == pytest.approx(0.2)


def test_stage_seconds_without_hold(spans: Spans) -> None:
    @traced_synthesis(sample_rate=RATE, producer="pull")
    def speak(text: str) -> Iterator[np.ndarray]:
        with stage("acoustic"):
            work(0.03)
        for _ in range(2):
            with stage("vocoder"):
                work(0.02)
                yield tone(0.2)

    seen = Consumed(lambda: speak("hello"), lambda: time.sleep(0.1))
    attributes = spans.attributes()
    assert attributes["tts.stage.duration.acoustic"] == between(0.03, seen.pulls[0] - 0.02)
    assert attributes["tts.stage.duration.vocoder"] == between(0.04, seen.pulled - 0.03)
    parent = spans.one()
    children = [span for span in spans.all() if span.parent is not None]
    assert [span.name for span in children] == ["acoustic", "vocoder", "vocoder"]
    assert {span.parent.span_id for span in children} == {parent.context.span_id}


def test_marked_playback_is_no_synthesis(spans: Spans) -> None:
    first: list[float] = []

    @traced_synthesis(sample_rate=RATE)
    def speak_aloud(text: str) -> None:
        for _ in range(2):
            work(0.03)
            synthesis.current().chunk(tone(0.1))
            first.append(time.perf_counter() - begun)
            with stage("playback", synthesis=False):
                time.sleep(0.1)

    begun = time.perf_counter()
    speak_aloud("hello")
    whole = time.perf_counter() - begun
    attributes = spans.attributes()
    assert attributes["tts.synthesis.duration"] == between(0.06, whole - 0.2)
    assert attributes["tts.stream.hold.duration"] == between(0.2, whole - 0.06)
    assert attributes["tts.rtf"] == pytest.approx(attributes["tts.synthesis.duration"] / 0.2)
    assert attributes["gen_ai.response.time_to_first_chunk"] == between(0.03, first[0])


def test_text_in_pieces(spans: Spans) -> None:
    def language_model() -> Iterator[str]:
        for piece in ("Good ", "morning", "."):
            time.sleep(0.04)
            yield piece

    seen = []

    @traced_synthesis(sample_rate=RATE, producer="pull")
    def speak(text: Iterator[str]) -> Iterator[np.ndarray]:
        for piece in text:
            seen.append(piece)
            work(0.02)
            yield tone(0.2)

    consumed = Consumed(lambda: speak(language_model()))
    assert seen == ["Good ", "morning", "."]
    attributes = spans.attributes()
    assert attributes["tts.input.characters"] == 13
    assert attributes["tts.input.wait.duration"] == between(0.12, consumed.pulled - 0.06)
    assert attributes["tts.synthesis.duration"] == between(0.06, consumed.pulled - 0.12)
    assert attributes["gen_ai.response.time_to_first_chunk"] == between(0.02, consumed.first - 0.04)


class Request:
    """What says who is to speak, or holds a piece of the text."""

    def __init__(self, text: str | None = None, voice: str | None = None) -> None:
        self.text = text
        self.voice = voice


def _in_requests(function: Any) -> Any:
    return trace(
        function,
        Options(
            text="requests",
            piece=lambda call: call.piece.text,
            voice=lambda call: call.first_piece.voice,
            sample_rate=lambda call: int(call.first_piece.voice),
            producer="pull",
        ),
    )


@pytest.mark.parametrize("kind", ["iterator", "async", "list"])
def test_text_inside_requests(spans: Spans, kind: str) -> None:
    """They reach the backend as they are, when it asks for them; the first says how the others are to be spoken."""
    requests = [Request(voice=str(RATE)), Request("Good "), Request(), Request("morning.")]
    given = []
    taken = []

    def program() -> Iterator[Request]:
        for each in requests:
            time.sleep(0.04)
            given.append(each)
            yield each

    async def aprogram() -> AsyncIterator[Request]:
        for each in program():
            yield each

    def speak(requests: Iterator[Request]) -> Iterator[np.ndarray]:
        for each in requests:
            taken.append(each)
            assert kind == "list" or given == taken
            work(0.02)
            if each.text:
                yield tone(0.2)

    async def aspeak(requests: AsyncIterator[Request]) -> AsyncIterator[np.ndarray]:
        async for each in requests:
            taken.append(each)
            assert given == taken
            work(0.02)
            if each.text:
                yield tone(0.2)

    async def consume() -> None:
        async for _ in _in_requests(aspeak)(aprogram()):
            heard.append(time.perf_counter() - begun)

    heard: list[float] = []
    begun = time.perf_counter()
    if kind == "async":
        asyncio.run(consume())
    else:
        for _ in _in_requests(speak)(requests if kind == "list" else program()):
            heard.append(time.perf_counter() - begun)
    took = time.perf_counter() - begun
    assert [id(each) for each in taken] == [id(each) for each in requests]
    attributes = spans.attributes()
    assert attributes["tts.input.characters"] == 13
    assert attributes["gen_ai.speech.voice"] == str(RATE)
    assert attributes["tts.audio.duration"] == pytest.approx(0.4)
    assert attributes["tts.audio.sample_rate"] == RATE
    if kind == "list":
        assert "tts.input.wait.duration" not in attributes
    else:  # of those before the text, too
        assert attributes["tts.input.wait.duration"] == between(0.16, took - 0.08)
        assert attributes["tts.synthesis.duration"] == between(0.08, took - 0.16)
        assert attributes["gen_ai.response.time_to_first_chunk"] == between(0.02, heard[0] - 0.1)


def test_requests_that_cannot_be_looked_into(spans: Spans, no_faults_of_ours: list[BaseException]) -> None:
    requests = [object(), Request("hey", voice="Ann")]
    traced = trace(
        lambda requests: list(requests),
        Options(text="requests", piece=lambda call: call.piece.text, voice=lambda call: call.first_piece.voice),
    )
    assert traced(iter(requests)) == requests
    attributes = spans.attributes()
    assert attributes["tts.input.characters"] == 3
    assert "gen_ai.speech.voice" not in attributes
    assert {type(fault) for fault in no_faults_of_ours} == {AttributeError}
    no_faults_of_ours.clear()


def test_chunks_by_hand_from_another_thread(spans: Spans) -> None:
    done = threading.Event()

    def receive(s: synthesis) -> None:
        for chunk in schedule((0.03, 0.2), (0.03, 0.2), (0.65, 0.2), busy=False):
            made.append(time.perf_counter() - begun)
            s.chunk(chunk)
            taken.append(time.perf_counter() - begun)
        done.set()

    made: list[float] = []
    taken: list[float] = []
    begun = time.perf_counter()
    s = synthesis(text="hello", sample_rate=RATE).start()
    started = time.perf_counter() - begun
    threading.Thread(target=receive, args=(s,)).start()
    done.wait()
    time.sleep(0.1)
    s.end()
    s.end(ValueError("too late"))
    attributes = spans.attributes()
    assert attributes["tts.synthesis.duration"] == between(made[-1] - started, taken[-1])
    assert attributes["tts.audio.duration"] == pytest.approx(0.6)
    assert attributes["tts.stream.underruns"] == 1
    assert attributes["tts.stream.underrun.max"] == between(made[2] - taken[0] - 0.4, taken[2] - made[0] - 0.4)
    assert "error.type" not in attributes


@pytest.mark.parametrize("kind", [Generator, collections.abc.Generator, types.GeneratorType])
def test_generators_are_told_as_such(spans: Spans, kind: Any) -> None:
    """A backend may look whether the text is one, a program whether the audio is."""
    seen = []

    @traced_synthesis(sample_rate=RATE)
    def speak(text: Iterator[str]) -> Iterator[np.ndarray]:
        seen.append(isinstance(text, kind))
        for _ in text:
            yield tone(0.1)

    stream = speak(each for each in ("Hello ", "there."))
    assert isinstance(stream, kind)
    assert len(list(stream)) == 2
    assert seen == [True]
    assert spans.attributes()["tts.input.characters"] == 12


def test_the_span_is_current_inside_the_pulls_only(spans: Spans) -> None:
    from opentelemetry import trace

    tracer = trace.get_tracer("test")
    current = []

    @traced_synthesis(sample_rate=RATE)
    def speak(text: str) -> Iterator[np.ndarray]:
        with tracer.start_as_current_span("body"):
            for _ in range(2):
                current.append(trace.get_current_span().name)  # type: ignore[attr-defined]
                with tracer.start_as_current_span("inside"):
                    pass
                yield tone(0.1)
        current.append(trace.get_current_span().name)  # type: ignore[attr-defined]

    with tracer.start_as_current_span("caller"):
        stream = speak("hello")
        for _ in itertools.islice(stream, 1):
            current.append(trace.get_current_span().name)  # type: ignore[attr-defined]
            with tracer.start_as_current_span("between"):
                pass
    with tracer.start_as_current_span("other"):
        list(stream)
        current.append(trace.get_current_span().name)  # type: ignore[attr-defined]
    assert not trace.get_current_span().get_span_context().is_valid
    name = spans.one().name
    assert current == ["body", "caller", "body", name, "other"]
    names = {span.context.span_id: span.name for span in spans.all()}
    parents = [(span.name, names.get(span.parent.span_id) if span.parent else None) for span in spans.all()]
    assert parents == [
        ("inside", "body"),
        ("between", "caller"),
        ("caller", None),
        ("inside", "body"),
        ("body", name),
        (name, "caller"),
        ("other", None),
    ]


def test_pulls_from_different_threads(spans: Spans, caplog: pytest.LogCaptureFixture) -> None:
    @traced_synthesis(sample_rate=RATE, producer="pull")
    def speak(text: str) -> Iterator[np.ndarray]:
        return schedule(*[(0.01, 0.1)] * 6)

    begun = time.perf_counter()
    stream = speak("hello")
    for _ in range(7):
        thread = threading.Thread(target=lambda: next(stream, None))
        thread.start()
        thread.join()
    assert spans.attributes()["tts.synthesis.duration"] == between(0.06, time.perf_counter() - begun)
    assert not caplog.records


def test_burnt_cpu_of_a_stream(spans: Spans) -> None:
    @traced_synthesis(sample_rate=RATE, producer="pull")
    def speak(text: str) -> Iterator[np.ndarray]:
        for _ in range(3):
            burn(0.05)
            yield tone(0.1)

    before = time.process_time()
    Consumed(lambda: speak("hello"), lambda: time.sleep(0.05))
    assert spans.attributes()["tts.cpu.time"] == between(0.15, time.process_time() - before)
