"""Results of an SDK's own kinds: a future of which a method is waited for, a failure that is no exception, audio that
is read by what is made with the result. Figures are held against a backend in a thread of its own."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Spans, between
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from ttstrace.exceptions import Failure
from ttstrace.instrumentor import Opened, Patch, Patches, Pulled, Saved

TEXT = "Hello there"
RATE = 24_000
PIECE = b"\1\0" * 6_000  # a quarter of a second
WORK = 0.2  # seconds; a program that is held up for a tenth of it learns no times, so that some tests keep time


class Result:
    """Of which the audio is in `audio`, or is still to come in pieces of a known size."""

    def __init__(self, audio: bytes = b"", pieces: int = 0) -> None:
        self.audio = audio
        self.pieces = pieces
        self.error: BaseException | None = None


class Future:
    """Neither of concurrent.futures nor of asyncio."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.done = 0.0
        self._answer: list[Any] = []
        self._work = work
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._answer = [self._work(), None]
        except Exception as error:
            self._answer = [None, error]
        self.done = time.perf_counter()

    def fetch(self, patience: float = 60.0) -> Any:
        self._thread.join(patience)
        result, error = self._answer
        if error is not None:
            raise error
        return result

    def __len__(self) -> int:
        return 7


class Stream:
    """What reads the pieces of a result into buffers; it can go back."""

    def __init__(self, of: Result) -> None:
        self._audio = b"".join(PIECE for _ in range(of.pieces))
        self.at = 0
        self.error: BaseException | None = None

    def fill(self, buffer: bytearray) -> int:
        if self.error is not None:
            raise self.error
        piece = self._audio[self.at : self.at + len(buffer)]
        buffer[: len(piece)] = piece
        self.at += len(piece)
        return len(piece)

    def save(self, to: Path) -> int:
        return to.write_bytes(self._audio)


class Engine:
    def __init__(self) -> None:
        self.calls = 0
        self.result: Any = Result(PIECE * 4)
        self.raises: Exception | None = None

    def _synthesize(self) -> Any:
        self.calls += 1
        time.sleep(WORK)
        if self.raises is not None:
            raise self.raises
        return self.result

    def speak(self, text: str) -> Any:
        return Future(self._synthesize)

    def speak_at_once(self, text: str) -> Any:
        return self._synthesize()


Patched = Callable[..., None]


@pytest.fixture
def patch() -> Iterator[Patched]:
    applied = Patches()

    def put_on(**options: Any) -> None:
        defaults = {"sample_rate": RATE, "format": "pcm_s16le", "audio": _audio, "remote": True}
        patches = [
            Patch(f"{__name__}:Engine.speak", wait="fetch", **options),
            Patch(f"{__name__}:Engine.speak_at_once", **options),
            Opened(f"{__name__}:Stream.__init__", of="of"),
            Saved(f"{__name__}:Stream.save", to="to"),
            Pulled(f"{__name__}:Stream.fill", into="buffer", end=lambda stream: stream.at),
        ]
        applied.apply(patches, defaults)

    yield put_on
    applied.remove()


def _audio(call: Any) -> Any:
    return call.chunk if call.deferred else call.result.audio


def length(span: ReadableSpan) -> float:
    """Seconds."""
    return ((span.end_time or 0) - (span.start_time or 0)) / 1e9


# --- waiting -----------------------------------------------------------------------------------------------------


@pytest.mark.keeps_time
def test_waited_for_at_once(spans: Spans, patch: Patched) -> None:
    patch()
    engine = Engine()
    with trace.get_tracer("caller").start_as_current_span("caller") as caller:
        begun = time.perf_counter()
        future = engine.speak(TEXT)
        assert isinstance(future, Future)
        assert len(future) == 7
        assert spans.syntheses() == []
        assert future.fetch(patience=60.0) is engine.result
        outer = time.perf_counter() - begun
        assert trace.get_current_span() is caller
    assert future.fetch() is engine.result
    assert engine.calls == 1
    span = spans.one()
    assert span.parent is not None
    assert span.parent.span_id == caller.get_span_context().span_id
    attributes = dict(span.attributes or {})
    expected = {
        "tts.input.characters": len(TEXT),
        "tts.audio.duration": 1.0,
        "tts.synthesis.duration": between(WORK, outer),
        "gen_ai.request.stream": False,
        "tts.stream.hold.duration": None,  # it is no stream
    }
    assert {name: attributes.get(name) for name in expected} == expected
    assert length(span) == between(WORK, outer)


def test_waited_for_late(spans: Spans, patch: Patched) -> None:
    """It was done somewhere in between: nobody knows when."""
    patch()
    future = Engine().speak(TEXT)
    time.sleep(2 * WORK)
    future.fetch()
    span = spans.one()
    assert length(span) >= 2 * WORK
    attributes = dict(span.attributes or {})
    assert attributes["tts.audio.duration"] == 1.0
    assert {"tts.synthesis.duration", "tts.rtf"}.isdisjoint(attributes)


@pytest.mark.parametrize(
    ("said", "known"), [(0.125, 0.125), (0, 0.0), (None, None), (-1, None), (float("nan"), None), ("0.5", None)]
)
def test_the_duration_that_the_result_says(spans: Spans, patch: Patched, said: Any, known: float | None) -> None:
    patch(duration=lambda call: said)
    engine = Engine()
    engine.speak(TEXT).fetch()
    engine.speak_at_once(TEXT)
    for span in spans.syntheses():
        assert (span.attributes or {}).get("tts.synthesis.duration") == known
        assert length(span) >= WORK
        assert ("tts.rtf" in (span.attributes or {})) is (known is not None)


def test_waiting_raises(spans: Spans, patch: Patched) -> None:
    patch()
    engine = Engine()
    engine.raises = ValueError(TEXT)
    with pytest.raises(ValueError, match=TEXT) as raised:
        engine.speak(TEXT).fetch()
    assert raised.value is engine.raises
    span = spans.one()
    assert (span.attributes or {})["error.type"] == "ValueError"
    assert TEXT not in span.to_json()


@pytest.mark.parametrize("goes_on", [False, True])
def test_many_threads_wait(spans: Spans, patch: Patched, goes_on: bool) -> None:
    patch(continues=lambda call: goes_on)
    engine = Engine()
    future = engine.speak(TEXT)
    got: list[Any] = []
    threads = [threading.Thread(target=lambda: got.append(future.fetch())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [engine.result] * 8
    if goes_on:
        assert spans.syntheses() == []
        engine.result.pieces = 4
        read_all(Stream(engine.result))
    assert spans.attributes()["tts.audio.duration"] == 1.0


def test_the_method_alone_is_kept(spans: Spans, patch: Patched) -> None:
    patch()
    engine = Engine()
    fetch = engine.speak(TEXT).fetch
    gc.collect()
    assert fetch() is engine.result
    assert spans.attributes()["tts.audio.duration"] == 1.0


def test_nobody_waits(spans: Spans, patch: Patched) -> None:
    """What became of it is not known; that is no interruption."""
    patch()
    begun = time.perf_counter()
    future = Engine().speak(TEXT)
    called = time.perf_counter()
    while not future.done:
        assert time.perf_counter() - called < 60
        time.sleep(0.001)
    del future
    gc.collect()
    span = spans.one()
    unknown = {"tts.interrupted", "tts.synthesis.duration", "tts.audio.duration", "gen_ai.request.stream", "error.type"}
    assert unknown.isdisjoint(span.attributes or {})
    assert (span.attributes or {})["tts.input.characters"] == len(TEXT)
    assert length(span) == between(0.0, called - begun)  # what was seen of it


def test_what_runs_while_it_waits_is_the_same_synthesis(
    spans: Spans, patch: Patched, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(future: Future) -> Any:
        with trace.get_tracer("engine").start_as_current_span("inside"):
            return Engine().speak_at_once(TEXT)  # another door

    monkeypatch.setattr(Future, "fetch", fetch)
    patch()
    Engine().speak(TEXT).fetch()
    span = spans.one()
    (inside,) = [each for each in spans.all() if each.name == "inside"]
    assert inside.parent is not None
    assert inside.parent.span_id == span.context.span_id
    assert (span.attributes or {})["tts.audio.duration"] == 1.0


def test_a_result_that_has_no_such_method(spans: Spans, patch: Patched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "speak", Engine.speak_at_once)
    patch()
    engine = Engine()
    assert engine.speak(TEXT) is engine.result
    assert "tts.synthesis.duration" in spans.attributes()


# --- failures ----------------------------------------------------------------------------------------------------


def error_of(call: Any) -> BaseException | None:
    error: BaseException | None = call.result.error
    return error


@pytest.mark.keeps_time
@pytest.mark.parametrize("waited", [False, True])
@pytest.mark.parametrize("capture", [False, True])
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Failure("TooManyRequests", TEXT), "TooManyRequests"),
        (Failure(TEXT, TEXT), "ttstrace.exceptions.Failure"),  # no name
        (ValueError(TEXT), "ValueError"),
    ],
)
def test_a_failure_that_is_no_exception(
    spans: Spans,
    patch: Patched,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    kind: str,
    capture: bool,
    waited: bool,
) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "SPAN_ONLY" if capture else "")
    patch(failed=error_of, voice=lambda call: call.result and "ann")
    engine = Engine()
    engine.result.error = error
    begun = time.perf_counter()
    assert (engine.speak(TEXT).fetch() if waited else engine.speak_at_once(TEXT)) is engine.result
    outer = time.perf_counter() - begun
    span = spans.one()
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == (TEXT if capture else None)
    attributes = dict(span.attributes or {})
    assert attributes["error.type"] == kind
    assert attributes["gen_ai.speech.voice"] == "ann"  # the result says more than that it failed
    assert attributes["tts.synthesis.duration"] == between(WORK, outer)
    assert "tts.audio.duration" not in attributes
    (event,) = span.events
    told = {"exception.type": kind, "exception.message": TEXT} if capture else {"exception.type": kind}
    assert dict(event.attributes or {}) == told
    assert (TEXT in span.to_json()) is capture


def test_a_result_that_says_that_the_program_ended_it(spans: Spans, patch: Patched) -> None:
    patch(failed=error_of)
    engine = Engine()
    engine.result.error = asyncio.CancelledError()
    engine.speak(TEXT).fetch()
    span = spans.one()
    assert span.status.status_code is StatusCode.UNSET
    assert (span.attributes or {})["tts.interrupted"] is True


@pytest.mark.keeps_time
@pytest.mark.parametrize("option", ["failed", "duration", "continues"])
def test_an_option_that_fails(
    spans: Spans, patch: Patched, no_faults_of_ours: list[BaseException], option: str
) -> None:
    def broken(call: Any) -> Any:
        raise ZeroDivisionError

    patch(**{option: broken})
    engine = Engine()
    assert engine.speak(TEXT).fetch() is engine.result
    assert [type(fault) for fault in no_faults_of_ours] == [ZeroDivisionError]
    no_faults_of_ours.clear()
    attributes = spans.attributes()
    assert attributes["tts.audio.duration"] == 1.0
    assert ("tts.synthesis.duration" in attributes) is (option != "duration")


# --- audio that is read elsewhere --------------------------------------------------------------------------------


def continues(call: Any) -> bool:
    return bool(call.result.pieces)


def read_all(stream: Stream, size: int = len(PIECE)) -> bytes:
    heard, buffer = b"", bytearray(size)
    while filled := stream.fill(buffer):
        heard += bytes(buffer[:filled])
    return heard


@pytest.mark.keeps_time
@pytest.mark.parametrize("waited", [False, True])
def test_read_elsewhere(spans: Spans, patch: Patched, waited: bool) -> None:
    patch(continues=continues)
    engine = Engine()
    engine.result = Result(pieces=3)
    begun = time.perf_counter()
    result = engine.speak(TEXT).fetch() if waited else engine.speak_at_once(TEXT)
    assert result is engine.result
    assert spans.syntheses() == []
    heard = read_all(Stream(result))
    outer = time.perf_counter() - begun
    assert heard == PIECE * 3
    attributes = spans.attributes()
    expected = {
        "gen_ai.request.stream": True,
        "tts.stream.chunks": 3,
        "tts.audio.duration": 0.75,
        "tts.audio.size": len(heard),
        "gen_ai.response.time_to_first_chunk": between(WORK, outer),
        "tts.synthesis.duration": between(WORK, outer),
    }
    assert {name: attributes.get(name) for name in expected} == expected
    assert engine.calls == 1


def test_the_readers_own_time_is_hold(spans: Spans, patch: Patched) -> None:
    patch(continues=continues)
    engine = Engine()
    engine.result = Result(pieces=2)
    future = engine.speak(TEXT)
    stream: list[Stream] = []
    steps: list[Callable[[], Any]] = [
        future.fetch,
        lambda: stream.append(Stream(engine.result)),
        *[lambda: stream[0].fill(bytearray(len(PIECE)))] * 3,
    ]
    held, begun = 0.0, time.perf_counter()
    for step in steps:
        paused = time.perf_counter()
        time.sleep(WORK / 2)
        held += time.perf_counter() - paused
        step()
    outer = time.perf_counter() - begun
    attributes = spans.attributes()
    assert attributes["tts.stream.hold.duration"] == between(held - 0.001, outer)
    assert {"tts.synthesis.duration", "gen_ai.response.time_to_first_chunk"}.isdisjoint(attributes)


def test_what_is_read_again_is_counted_once(spans: Spans, patch: Patched) -> None:
    patch(continues=continues)
    engine = Engine()
    engine.result = Result(pieces=2)
    stream = Stream(engine.speak_at_once(TEXT))
    stream.fill(buffer=bytearray(8_000))
    stream.at = 4_000
    stream.fill(bytearray(8_000))  # 4,000 of them once more
    stream.at = 0
    stream.fill(bytearray(2_000))  # all of them once more
    stream.at = 12_000
    read_all(stream)
    attributes = spans.attributes()
    assert attributes["tts.audio.size"] == 2 * len(PIECE)
    assert attributes["tts.audio.duration"] == 0.5


def test_reading_raises(spans: Spans, patch: Patched) -> None:
    patch(continues=continues)
    engine = Engine()
    engine.result = Result(pieces=2)
    stream = Stream(engine.speak_at_once(TEXT))
    stream.fill(bytearray(len(PIECE)))
    stream.error = ConnectionError(TEXT)
    with pytest.raises(ConnectionError) as raised:
        stream.fill(bytearray(len(PIECE)))
    assert raised.value is stream.error
    span = spans.one()
    assert (span.attributes or {})["error.type"] == "ConnectionError"
    assert TEXT not in span.to_json()


def test_the_end_says_a_failure(spans: Spans, patch: Patched) -> None:
    patch(continues=continues, failed=lambda call: Failure("Cut") if isinstance(call.result, Stream) else None)
    engine = Engine()
    engine.result = Result(pieces=2)
    assert read_all(Stream(engine.speak(TEXT).fetch())) == PIECE * 2
    assert spans.attributes()["error.type"] == "Cut"


@pytest.mark.keeps_time
@pytest.mark.parametrize("reads", [False, True])
def test_dropped(spans: Spans, patch: Patched, reads: bool) -> None:
    """Half read, it was interrupted; never read, nobody knows."""
    patch(continues=continues)
    engine = Engine()
    engine.result = Result(pieces=2)
    stream = Stream(engine.speak_at_once(TEXT))
    if reads:
        stream.fill(bytearray(len(PIECE)))
    engine.result = None
    del stream
    gc.collect()
    attributes = spans.attributes()
    assert attributes.get("tts.interrupted") is (True if reads else None)
    assert attributes.get("tts.audio.duration") == (0.25 if reads else None)
    assert ("tts.synthesis.duration" in attributes) is reads


def test_never_opened(spans: Spans, patch: Patched) -> None:
    patch(continues=continues)
    engine = Engine()
    engine.result = Result(pieces=2)
    engine.speak(TEXT).fetch()
    assert spans.syntheses() == []  # the program may yet open it
    engine.result = None
    gc.collect()
    assert {"tts.interrupted", "tts.synthesis.duration"}.isdisjoint(spans.attributes())


def test_opened_twice_and_for_nothing(spans: Spans, patch: Patched) -> None:
    patch(continues=continues)
    engine = Engine()
    engine.result = Result(pieces=2)
    result = engine.speak_at_once(TEXT)
    assert [read_all(stream) for stream in (Stream(result), Stream(result), Stream(Result(pieces=2)))] == [
        PIECE * 2
    ] * 3
    assert spans.attributes()["tts.audio.duration"] == 0.5


def test_two_readers_by_turns(spans: Spans, patch: Patched) -> None:
    """They read the same: the first is measured."""
    patch(continues=continues)
    engine = Engine()
    engine.result = Result(pieces=2)
    result = engine.speak_at_once(TEXT)
    streams = [Stream(result), Stream(result)]
    for _ in range(3):
        for stream in streams:
            stream.fill(bytearray(len(PIECE)))
    attributes = spans.attributes()
    assert attributes["tts.audio.duration"] == 0.5
    assert attributes["tts.stream.chunks"] == 2


def test_a_reader_that_cannot_be_kept_in_sight(spans: Spans, patch: Patched) -> None:
    class Unhashable(Stream):
        __hash__ = None  # type: ignore[assignment]

    patch(continues=continues)
    engine = Engine()
    engine.result = Result(pieces=2)
    stream = Stream(engine.speak_at_once(TEXT))
    assert read_all(Unhashable(Result(pieces=1))) == PIECE
    assert read_all(stream) == PIECE * 2
    assert spans.attributes()["tts.audio.duration"] == 0.5


@pytest.mark.keeps_time
@pytest.mark.parametrize("reads", [False, True])
def test_saved(spans: Spans, patch: Patched, tmp_path: Path, reads: bool) -> None:
    """What was read before is in the file as well."""
    patch(continues=continues)
    engine = Engine()
    engine.result = Result(pieces=3)
    begun = time.perf_counter()
    stream = Stream(engine.speak(TEXT).fetch())
    if reads:
        stream.fill(bytearray(len(PIECE)))
    assert stream.save(tmp_path / "speech.pcm") == 3 * len(PIECE)
    outer = time.perf_counter() - begun
    attributes = spans.attributes()
    expected = {
        "gen_ai.request.stream": reads,
        "tts.audio.duration": 0.75,
        "tts.audio.size": 3 * len(PIECE),
        "tts.synthesis.duration": between(WORK, outer),
        "tts.interrupted": None,
    }
    assert {name: attributes.get(name) for name in expected} == expected


def test_a_result_that_cannot_be_kept_in_sight(
    spans: Spans, patch: Patched, no_faults_of_ours: list[BaseException]
) -> None:
    patch(continues=lambda call: True)
    engine = Engine()
    engine.result = [PIECE]  # no weak reference is possible
    assert engine.speak_at_once(TEXT) is engine.result
    assert [type(fault) for fault in no_faults_of_ours] == [TypeError]
    no_faults_of_ours.clear()
    assert len(spans.syntheses()) == 1
