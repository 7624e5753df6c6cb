"""Shapes of programs as they are, each where the naive reading says something wrong."""

from __future__ import annotations

import abc
import asyncio
import contextlib
import contextvars
import copy
import ctypes
import dataclasses
import functools
import inspect
import multiprocessing
import pickle
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from backends import RATE, tone, work
from conftest import Metrics, Spans, between
from opentelemetry import trace

import ttstrace
from ttstrace import stage, synthesis, traced_synthesis

# --- callbacks ---------------------------------------------------------------------------------------------------


class Player:
    """What is given the audio, and keeps what it was given."""

    def __init__(self, answer: Any = None, seconds: float = 0.0) -> None:
        self.given: list[Any] = []
        self._answer = answer
        self._seconds = seconds

    def on_audio(self, audio: Any) -> Any:
        self.given.append(audio)
        time.sleep(self._seconds)
        return self._answer


@pytest.mark.keeps_time
def test_a_callback_is_given_the_chunks(spans: Spans) -> None:
    @traced_synthesis(callback="on_audio", sample_rate=RATE, producer="pull")
    def speak(text: str, on_audio: Callable[[Any], Any], times: int = 3) -> str:
        for _ in range(times):
            work(0.05)
            on_audio(tone(0.1))
        work(0.05)
        return "done"

    player = Player(seconds=0.1)
    begun = time.perf_counter()
    assert speak("hello", player.on_audio) == "done"
    whole = time.perf_counter() - begun
    assert len(player.given) == 3
    attributes = spans.attributes()
    assert attributes["gen_ai.request.stream"] is True
    assert attributes["tts.stream.chunks"] == 3
    assert attributes["tts.audio.duration"] == pytest.approx(0.3)
    # The producer works between the callbacks and waits inside them: 0.2 s of 0.5 s are the synthesis's.
    assert attributes["tts.synthesis.duration"] == between(0.2, whole - 0.3)
    assert attributes["tts.stream.hold.duration"] == between(0.3, whole - 0.2)
    assert attributes["gen_ai.response.time_to_first_chunk"] == between(0.05, whole - 0.45)
    assert attributes["tts.rtf"] == pytest.approx(attributes["tts.synthesis.duration"] / 0.3)
    assert attributes["tts.stream.underruns"] == 0  # it was the player that was late


@pytest.mark.keeps_time
@pytest.mark.parametrize(("seconds", "known"), [(0.0, True), (0.1, False)], ids=["quick", "slow"])
def test_a_callback_of_an_undeclared_producer(spans: Spans, seconds: float, known: bool) -> None:
    @traced_synthesis(callback="on_audio", sample_rate=RATE)
    def speak(text: str, on_audio: Callable[[Any], Any]) -> None:
        for _ in range(3):
            work(0.03)
            on_audio(tone(0.1))

    begun = time.perf_counter()
    speak("hello", Player(seconds=seconds).on_audio)
    whole = time.perf_counter() - begun
    attributes = spans.attributes()
    # A service would have gone on while the callback played: nobody outside can know.
    assert ("tts.synthesis.duration" in attributes) is known
    if known:
        assert attributes["tts.synthesis.duration"] == between(0.09, whole)
    assert attributes["gen_ai.response.time_to_first_chunk"] == between(0.03, whole - 0.06 - 3 * seconds)


@pytest.mark.keeps_time
def test_a_callback_inside_the_pulls(spans: Spans) -> None:
    @traced_synthesis(callback="on_audio", sample_rate=RATE, producer="pull")
    def speak(text: str, on_audio: Callable[[Any], Any]) -> Iterator[int]:
        for index in range(3):
            work(0.02)
            on_audio(tone(0.1))
            yield index

    begun = time.perf_counter()
    for _ in speak("hello", Player(seconds=0.25).on_audio):
        time.sleep(0.05)
    whole = time.perf_counter() - begun
    attributes = spans.attributes()
    assert attributes["tts.stream.chunks"] == 3
    assert attributes["tts.synthesis.duration"] == between(0.06, whole - 0.9)
    assert attributes["tts.stream.hold.duration"] == between(0.9, whole - 0.06)
    assert attributes["tts.stream.underruns"] == 0  # it was the player that was late


class Frame:
    def __init__(self, index: int, data: Any) -> None:
        self.index = index
        self.data = data


def test_a_callback_whose_audio_an_option_picks(spans: Spans) -> None:
    @traced_synthesis(callback="sink", audio=lambda call: call.chunk.data, format="pcm_s16le", sample_rate=RATE)
    def speak(text: str, **options: Any) -> None:
        for index in range(4):
            options["sink"](Frame(index, bytes(4800)), "more")
        options["sink"](frame=Frame(9, bytes(4800)))
        options["sink"]()

    given: list[Any] = []
    speak("hello", sink=lambda *args, **named: given.append((args, named)))
    assert [len(args) for args, _ in given] == [2, 2, 2, 2, 0, 0]
    attributes = spans.attributes()
    assert attributes["tts.stream.chunks"] == 5
    assert attributes["tts.audio.duration"] == pytest.approx(0.5)


def test_a_callback_is_passed_through(spans: Spans) -> None:
    seen: list[Any] = []

    def stop(audio: Any) -> bool:
        return False

    @traced_synthesis(callback="on_audio", sample_rate=RATE)
    def speak(text: str, on_audio: Any = None, on_done: Any = None) -> None:
        seen.append((on_audio == stop, on_audio.__name__, inspect.signature(on_audio), on_done is stop))
        seen.append(pickle.loads(pickle.dumps(on_audio)) is on_audio.__wrapped__ if on_audio is not stop else None)
        seen.append(copy.deepcopy(on_audio)(tone(0.1)))
        while on_audio(tone(0.1)):
            pytest.fail("not stopped")

    stop.__qualname__ = "stop"
    globals()["stop"] = stop
    try:
        speak("hello", stop, stop)
        assert seen[1:] == [True, False]
        assert seen[0] == (True, "stop", inspect.signature(stop), True)
    finally:
        del globals()["stop"]
    assert spans.attributes()["tts.stream.chunks"] == 2


def test_a_callback_that_raises(spans: Spans) -> None:
    error = ValueError("the sound card is gone")

    def fail(audio: Any) -> None:
        raise error

    @traced_synthesis(callback="on_audio", sample_rate=RATE)
    def speak(text: str, on_audio: Any) -> str:
        with pytest.raises(ValueError, match="sound card") as raised:
            on_audio(tone(0.1))
        assert raised.value is error
        on_audio(tone(0.1))
        return "not reached"

    with pytest.raises(ValueError, match="sound card") as raised:
        speak("hello", fail)
    assert raised.value is error
    attributes = spans.attributes()
    assert attributes["error.type"] == "ValueError"
    assert attributes["tts.stream.chunks"] == 2


def test_a_callback_from_other_threads(spans: Spans) -> None:
    @traced_synthesis(callback="on_audio", sample_rate=RATE, producer="pull")
    def speak(text: str, on_audio: Callable[[Any], Any]) -> None:
        def produce() -> None:
            for _ in range(25):
                on_audio(tone(0.01))
            on_audio(tone(0.01))

        threads = [threading.Thread(target=produce) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    begun = time.perf_counter()
    speak("hello", Player(seconds=0.002).on_audio)
    elapsed = time.perf_counter() - begun
    attributes = spans.attributes()
    assert attributes["tts.stream.chunks"] == 208
    assert attributes["tts.audio.duration"] == pytest.approx(2.08)
    # Eight at once are inside for 0.416 s together, which is at most the time that passed.
    assert 0.05 < attributes["tts.stream.hold.duration"] <= elapsed
    assert attributes["tts.synthesis.duration"] >= 0.0


def test_an_async_callback(spans: Spans) -> None:
    given: list[Any] = []

    async def on_audio(audio: Any) -> int:
        await asyncio.sleep(0.1)
        given.append(audio)
        return len(given)

    @traced_synthesis(callback="on_audio", sample_rate=RATE, producer="pull")
    async def speak(text: str, on_audio: Any) -> int:
        assert inspect.iscoroutinefunction(on_audio)
        last = 0
        for _ in range(3):
            await asyncio.sleep(0.03)
            pending = on_audio(tone(0.1))
            assert asyncio.iscoroutine(pending)
            assert pending.__name__ == "on_audio"
            last = await pending
        return last

    begun = time.perf_counter()
    assert asyncio.run(speak("hello", on_audio)) == 3
    whole = time.perf_counter() - begun
    attributes = spans.attributes()
    assert attributes["tts.stream.chunks"] == 3
    assert attributes["tts.synthesis.duration"] == between(0.09, whole - 0.3)
    assert attributes["tts.stream.hold.duration"] == between(0.3, whole - 0.09)
    assert attributes["gen_ai.response.time_to_first_chunk"] == between(0.03, whole - 0.36)


@pytest.mark.parametrize("fails", [False, True])
def test_a_callback_that_answers_with_a_task(spans: Spans, fails: bool) -> None:
    """Not a coroutine but a task: who called it goes on at once, and may never look at it."""
    played: list[Any] = []
    error = OSError("the sound card is gone")

    async def play_later(audio: Any) -> int:
        await asyncio.sleep(0.05)
        if fails:
            raise error
        played.append(audio)
        return len(played)

    @traced_synthesis(callback="on_audio", sample_rate=RATE, producer="pull")
    async def speak(text: str, on_audio: Any) -> list[Any]:
        tasks = []
        for _ in range(3):
            tasks.append(on_audio(tone(0.1)))
            assert isinstance(tasks[-1], asyncio.Task)
        return tasks

    async def main() -> list[Any]:
        made: list[Any] = []

        def on_audio(audio: Any) -> Any:
            made.append(asyncio.ensure_future(play_later(audio)))
            return made[-1]

        tasks = await speak("hello", on_audio)
        assert all(given is own for given, own in zip(tasks, made, strict=True))
        return await asyncio.gather(*tasks, return_exceptions=True)

    assert asyncio.run(main()) == ([error] * 3 if fails else [1, 2, 3])
    attributes = spans.attributes()
    assert attributes["tts.stream.chunks"] == 3
    assert attributes["tts.audio.duration"] == pytest.approx(0.3)
    assert "error.type" not in attributes


def test_audio_that_comes_back_as_well_is_counted_once(spans: Spans) -> None:
    @traced_synthesis(callback="on_audio", sample_rate=RATE)
    def whole(text: str, on_audio: Any = None) -> np.ndarray:
        if on_audio is not None:
            on_audio(tone(0.1))
            on_audio(tone(0.1))
        return tone(0.2)

    @traced_synthesis(callback="on_audio", sample_rate=RATE)
    def pieces(text: str, on_audio: Any = None) -> Iterator[np.ndarray]:
        for _ in range(2):
            if on_audio is not None:
                on_audio(tone(0.1))
            yield tone(0.1)

    whole("hello", lambda audio: None)
    whole("hello")
    list(pieces("hello", lambda audio: None))
    list(pieces("hello"))
    found = [span.attributes or {} for span in spans.syntheses()]
    assert [each["tts.audio.duration"] for each in found] == pytest.approx([0.2] * 4)
    assert [each.get("tts.stream.chunks") for each in found] == [2, None, 2, 2]


def test_a_callback_that_is_called_after_the_end(spans: Spans) -> None:
    go, gone = threading.Event(), threading.Event()

    @traced_synthesis(callback="on_audio", sample_rate=RATE)
    def speak(text: str, on_audio: Any) -> None:
        def later() -> None:
            go.wait()
            on_audio(tone(0.1))
            gone.set()

        threading.Thread(target=later).start()

    player = Player()
    speak("hello", player.on_audio)
    attributes = spans.attributes()
    go.set()
    assert gone.wait(10)
    assert len(player.given) == 1
    # The call came back before there was audio: its time is not the synthesis's.
    assert "tts.synthesis.duration" not in attributes
    assert "tts.audio.duration" not in attributes
    assert attributes == spans.attributes()


def play(audio: Any) -> None: ...


def test_a_callback_that_is_not_given(spans: Spans) -> None:
    class Engine:
        @traced_synthesis(callback="on_audio", sample_rate=RATE)
        def speak(self, text: str, on_audio: Any = play) -> np.ndarray:
            on_audio(tone(0.1))
            return tone(0.1)

        @traced_synthesis(callback="on_audio", sample_rate=RATE)
        def listless(self, text: str, on_audio: Any = play, /) -> np.ndarray:
            assert on_audio is play
            return tone(0.1)

        @traced_synthesis(callback="on_audio", sample_rate=RATE)
        def yielding(self, text: str, on_audio: Any = play, /) -> Iterator[np.ndarray]:
            yield tone(0.1)  # the default cannot be replaced: nobody is heard there

        @classmethod
        @traced_synthesis(callback="on_audio", sample_rate=RATE)
        def shared(cls, text: str, *, on_audio: Any) -> None:
            on_audio(tone(0.1))

    Engine().speak("hello")  # its default is a callback, too
    Engine().listless("hello")
    list(Engine().yielding("hello"))
    Engine.speak(Engine(), "hello", play)
    Engine.shared("hello", on_audio=play)
    functools.partial(Engine().speak, on_audio=play)("hello")
    traced_synthesis(callback="on_audio", sample_rate=RATE)(functools.partial(Engine.shared.__wrapped__, on_audio=play))
    found = [span.attributes or {} for span in spans.syntheses()]
    assert [each.get("tts.stream.chunks") for each in found] == [1, None, 1, 1, 1, 1]
    assert [each["tts.audio.duration"] for each in found] == pytest.approx([0.1] * 6)


def test_a_callback_in_c_is_left_alone(spans: Spans) -> None:
    given: list[int] = []
    pointer = ctypes.CFUNCTYPE(None, ctypes.c_int)(given.append)

    @traced_synthesis(callback="on_audio", sample_rate=RATE)
    def speak(text: str, on_audio: Any) -> np.ndarray:
        assert on_audio is pointer
        ctypes.cast(on_audio, ctypes.CFUNCTYPE(None, ctypes.c_int))(7)
        return tone(0.1)

    speak("hello", pointer)
    assert given == [7]
    assert spans.attributes()["tts.audio.duration"] == pytest.approx(0.1)


def test_what_keeps_the_callback_keeps_no_synthesis(spans: Spans) -> None:
    kept: list[Any] = []

    @traced_synthesis(callback="on_audio", sample_rate=RATE)
    def speak(text: str, on_audio: Any) -> None:
        kept.append(on_audio)
        on_audio(tone(0.1))

    speak("hello", play)
    kept[0](tone(0.1))
    assert kept[0]._self_listener._synthesis is None
    assert spans.attributes()["tts.stream.chunks"] == 1


def spoken(text: str, on_audio: Any, voice: str = "ann") -> None:
    on_audio(tone(0.1))


@pytest.mark.parametrize(
    ("callback", "error", "says"),
    [
        ("on_adio", ValueError, "'on_adio': .*spoken has no parameter of that name; did you mean 'on_audio'"),
        ("sink", ValueError, "it has text, on_audio, voice"),
        (play, TypeError, "callback must be the name of the parameter that holds the callback, not function"),
    ],
)
def test_a_bad_callback_is_told_at_once(callback: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        traced_synthesis(callback=callback)(spoken)


def test_a_declared_callback(spans: Spans) -> None:
    path = f"{__name__}:spoken"
    ttstrace.instrument(path, callback="on_audio", sample_rate=RATE)
    try:
        spoken("hello", play)
    finally:
        ttstrace.uninstrument(path)
    assert spans.attributes()["tts.stream.chunks"] == 1
    assert spans.attributes()["tts.audio.duration"] == pytest.approx(0.1)


def test_a_callback_that_marks_its_own_hold(spans: Spans) -> None:
    def on_audio(audio: Any) -> None:
        with stage("playback", synthesis=False):
            time.sleep(0.1)

    @traced_synthesis(callback="on_audio", sample_rate=RATE, producer="pull")
    def speak(text: str, on_audio: Any) -> None:
        for _ in range(2):
            work(0.05)
            on_audio(tone(0.1))

    begun = time.perf_counter()
    speak("hello", on_audio)
    whole = time.perf_counter() - begun
    attributes = spans.attributes()
    assert attributes["tts.stream.hold.duration"] == between(0.2, whole - 0.1)
    assert attributes["tts.synthesis.duration"] == between(0.1, whole - 0.2)


# --- consumers that share a stream -------------------------------------------------------------------------------


class Shared:
    """A body that is made to be pulled by several threads: chunk number n takes what the test says of n."""

    def __init__(self, *seconds: float) -> None:
        self._left = list(enumerate(seconds))
        self._lock = threading.Lock()

    def __iter__(self) -> Shared:
        return self

    def __next__(self) -> np.ndarray:
        with self._lock:
            if not self._left:
                raise StopIteration
            _, seconds = self._left.pop(0)
        time.sleep(seconds)
        return tone(0.1)


class SharedByTasks:
    def __init__(self, *seconds: float) -> None:
        self._left = list(seconds)

    def __aiter__(self) -> SharedByTasks:
        return self

    async def __anext__(self) -> np.ndarray:
        if not self._left:
            raise StopAsyncIteration
        await asyncio.sleep(self._left.pop(0))
        return tone(0.1)


def in_threads(count: int, consume: Callable[[], Any]) -> None:
    threads = [threading.Thread(target=consume) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


@pytest.mark.keeps_time
@pytest.mark.parametrize("producer", ["pull", "push", None])
def test_threads_that_share_a_stream(spans: Spans, producer: Any) -> None:
    @traced_synthesis(sample_rate=RATE, producer=producer)
    def speak(text: str) -> Shared:
        return stream_of_known_times

    class Timed(Shared):
        """Notes when somebody is inside."""

        def __init__(self, *seconds: float) -> None:
            super().__init__(*seconds)
            self.inside: list[tuple[float, float]] = []

        def __next__(self) -> np.ndarray:
            begun = time.perf_counter()
            try:
                return super().__next__()
            finally:
                self.inside.append((begun, time.perf_counter()))

        def union(self) -> float:
            """Seconds in which at least one consumer was inside."""
            total, until = 0.0, 0.0
            for begun, ended in sorted(self.inside):
                total += max(0.0, ended - max(begun, until))
                until = max(until, ended)
            return total

    stream_of_known_times = Timed(0.2, *[0.002] * 99)
    begun = time.perf_counter()
    stream, got = speak("hello"), []
    in_threads(4, lambda: got.extend(stream))
    elapsed = time.perf_counter() - begun
    assert len(got) == 100
    attributes = spans.attributes()
    assert attributes["tts.stream.chunks"] == 100
    assert attributes["tts.audio.duration"] == pytest.approx(10.0)
    # Somebody was waiting nearly all the time: what two consumers wait at once counts once. A machine that is busy
    # makes consumers late, which is hold: a push producer's duration is unknown where that was much.
    duration = attributes.get("tts.synthesis.duration")
    held = attributes["tts.stream.hold.duration"]
    if producer == "pull":
        assert stream_of_known_times.union() - held - 0.002 <= duration <= elapsed
        assert duration + held == pytest.approx(elapsed, abs=max(0.02, elapsed / 20))
    else:
        assert duration is None or stream_of_known_times.union() - held - 0.002 <= duration <= elapsed
        assert duration is not None or held > elapsed / 20
    if producer == "pull":
        first = min(ended for _, ended in stream_of_known_times.inside) - begun
        assert attributes["gen_ai.response.time_to_first_chunk"] <= first + 0.06


class SharedBody:
    """A response body that several consumers read, each when it likes."""

    def __init__(self, *seconds: float) -> None:
        self._shared = Shared(*seconds)

    def read(self, size: int = -1) -> bytes:
        chunk = next(self._shared, None)
        return b"" if chunk is None else bytes((chunk * 32767).astype("<i2"))


def test_threads_that_read_a_body(spans: Spans) -> None:
    """The first to read nothing is not the end: others are still waiting for the last pieces."""

    @traced_synthesis(sample_rate=RATE, format="pcm_s16le", producer="pull")
    def speak(text: str) -> SharedBody:
        return SharedBody(0.01, 0.2, 0.15, 0.1)

    body, got = speak("hello"), []
    begun = time.perf_counter()
    in_threads(4, lambda: got.extend(iter(lambda: body.read(4800), b"")))
    elapsed = time.perf_counter() - begun
    attributes = spans.attributes()
    assert attributes["tts.stream.chunks"] == len(got) == 4
    assert attributes["tts.audio.duration"] == pytest.approx(0.4)
    assert 0.2 - 0.002 <= attributes["tts.synthesis.duration"] <= elapsed
    # Four that wait at once hold nobody up: added up one by one, they would have held for negative seconds.
    assert 0.0 <= attributes["tts.stream.hold.duration"] <= elapsed - 0.2 + 0.002
    assert "tts.interrupted" not in attributes


def test_tasks_that_read_a_body(spans: Spans) -> None:
    class Body:
        def __init__(self) -> None:
            self._left = [0.01, 0.2, 0.15, 0.1]

        async def read(self, size: int = -1) -> bytes:
            if not self._left:
                return b""
            await asyncio.sleep(self._left.pop(0))
            return bytes(4800)

    @traced_synthesis(sample_rate=RATE, format="pcm_s16le", producer="pull")
    def speak(text: str) -> Body:
        return Body()

    async def main() -> tuple[int, float]:
        body, got = speak("hello"), []
        begun = time.perf_counter()

        async def consume() -> None:
            while piece := await body.read(4800):
                got.append(piece)

        await asyncio.gather(*(consume() for _ in range(4)))
        return len(got), time.perf_counter() - begun

    got, elapsed = asyncio.run(main())
    attributes = spans.attributes()
    assert attributes["tts.stream.chunks"] == got == 4
    assert 0.2 - 0.002 <= attributes["tts.synthesis.duration"] <= elapsed
    assert "tts.interrupted" not in attributes


def test_a_task_that_is_cancelled_after_all_was_given(spans: Spans) -> None:
    """One consumer was told that there is no more; another still waits, and is cancelled: nothing was cut off."""

    class Body:
        def __init__(self) -> None:
            self._answers = iter([tone(0.1), None])

        def __aiter__(self) -> Body:
            return self

        async def __anext__(self) -> np.ndarray:
            answer: Any = next(self._answers, "wait")
            if answer is None:
                raise StopAsyncIteration
            if isinstance(answer, str):
                await asyncio.sleep(60)
            else:
                await asyncio.sleep(0.01)
            return answer

    @traced_synthesis(sample_rate=RATE)
    def speak(text: str) -> Body:
        return Body()

    async def main() -> None:
        stream = speak("hello")
        pulls = [asyncio.ensure_future(stream.__anext__()) for _ in range(3)]
        done, waiting = await asyncio.wait(pulls, timeout=0.2)
        assert (len(done), len(waiting)) == (2, 1)
        waiting.pop().cancel()
        await asyncio.gather(*pulls, return_exceptions=True)

    asyncio.run(main())
    attributes = spans.attributes()
    assert attributes["tts.stream.chunks"] == 1
    assert "tts.interrupted" not in attributes


def test_a_consumer_that_is_closed_leaves_the_others(spans: Spans) -> None:
    """Closed from outside while it waits, as a collected task is: the stream is not over, and not cut off."""

    @traced_synthesis(sample_rate=RATE)
    def speak(text: str) -> SharedByTasks:
        return SharedByTasks(0.0, 0.0, 0.0)

    stream, got = speak("hello"), []
    consumers = [(contextvars.copy_context(), stream.__anext__()) for _ in range(4)]
    for context, pull in consumers[:2]:
        context.run(pull.send, None)  # both wait inside
    context, pull = consumers[1]
    context.run(pull.close)
    assert spans.all() == []  # nor is it as soon as what was left behind is ended
    for context, pull in (consumers[0], *consumers[2:]):
        with contextlib.suppress(StopAsyncIteration):
            try:
                context.run(pull.send, None)
                context.run(pull.send, None)
            except StopIteration as answered:
                got.append(answered.value)
    attributes = spans.attributes()
    assert attributes["tts.stream.chunks"] == len(got) == 2
    assert "tts.interrupted" not in attributes


def test_a_shared_stream_ends_with_its_last_consumer(spans: Spans) -> None:
    @traced_synthesis(sample_rate=RATE, producer="pull")
    def speak(text: str) -> Shared:
        return Shared(0.01, 0.2, 0.15, 0.1)  # the first consumer is at the end while the others wait

    begun = time.perf_counter()
    stream, got = speak("hello"), []
    in_threads(4, lambda: got.extend(stream))
    whole = time.perf_counter() - begun
    attributes = spans.attributes()
    assert attributes["tts.stream.chunks"] == len(got) == 4
    assert attributes["tts.synthesis.duration"] == between(0.2, whole)
    assert "error.type" not in attributes


def test_tasks_that_share_a_stream(spans: Spans) -> None:
    @traced_synthesis(sample_rate=RATE, producer="pull")
    def speak(text: str) -> SharedByTasks:
        return SharedByTasks(0.01, 0.2, 0.15, 0.1, 0.3)

    async def main() -> int:
        stream, got = speak("hello"), []

        async def consume() -> None:
            async for chunk in stream:
                got.append(chunk)

        impatient = asyncio.create_task(consume())
        others = [asyncio.create_task(consume()) for _ in range(3)]
        await asyncio.sleep(0.05)
        impatient.cancel()  # gives up its chunk; the others go on
        await asyncio.gather(impatient, *others, return_exceptions=True)
        return len(got)

    got = asyncio.run(main())
    attributes = spans.attributes()
    assert attributes["tts.stream.chunks"] == got == 4
    assert "tts.interrupted" not in attributes
    assert "error.type" not in attributes


def test_threads_that_share_a_generator(spans: Spans) -> None:
    @traced_synthesis(sample_rate=RATE)
    def speak(text: str) -> Iterator[np.ndarray]:
        for _ in range(50):
            time.sleep(0.001)
            yield tone(0.1)

    stream, got, refused = speak("hello"), [], []

    def consume() -> None:
        while True:
            try:
                got.append(next(stream))
            except StopIteration:
                return
            except ValueError as error:  # Python's own: one consumer at a time
                refused.append(str(error))
                time.sleep(0.0005)

    in_threads(2, consume)
    assert set(refused) == {"generator already executing"}
    attributes = spans.attributes()
    assert attributes["tts.stream.chunks"] == len(got) == 50
    assert "error.type" not in attributes


def test_tasks_that_share_an_async_generator(spans: Spans) -> None:
    @traced_synthesis(sample_rate=RATE)
    async def speak(text: str) -> Any:
        for _ in range(20):
            await asyncio.sleep(0.001)
            yield tone(0.1)

    async def main() -> tuple[int, int]:
        stream, got, refused = speak("hello"), [], []

        async def consume() -> None:
            while True:
                try:
                    got.append(await stream.__anext__())
                except StopAsyncIteration:
                    return
                except RuntimeError as error:
                    refused.append(error)
                    await asyncio.sleep(0.0005)

        await asyncio.gather(consume(), consume())
        return len(got), len(refused)

    got, refused = asyncio.run(main())
    assert refused
    assert spans.attributes()["tts.stream.chunks"] == got == 20
    assert "error.type" not in spans.attributes()


def test_a_shared_stream_that_fails(spans: Spans) -> None:
    failures = iter([False] * 5 + [True] * 5)

    class Failing(Shared):
        def __next__(self) -> np.ndarray:
            chunk = super().__next__()
            if next(failures):
                raise OSError("gone")
            return chunk

    @traced_synthesis(sample_rate=RATE)
    def speak(text: str) -> Failing:
        return Failing(*[0.01] * 10)

    stream, raised = speak("hello"), []

    def consume() -> None:
        try:
            for _ in stream:
                pass
        except OSError as error:
            raised.append(error)

    in_threads(3, consume)
    assert raised
    assert spans.attributes()["error.type"] == "OSError"


# --- results and functions that go elsewhere ---------------------------------------------------------------------


def names_of_parents(spans: Spans) -> list[tuple[int, int | None]]:
    """Of each synthesis its characters and those of its parent."""
    found = {span.context.span_id: span for span in spans.syntheses()}
    characters = {key: (span.attributes or {})["tts.input.characters"] for key, span in found.items()}
    return [
        (characters[key], characters.get(span.parent.span_id) if span.parent else None) for key, span in found.items()
    ]


def test_a_result_handed_to_another_thread(spans: Spans) -> None:
    @traced_synthesis(sample_rate=RATE, producer="pull")
    def speak(text: str) -> Iterator[np.ndarray]:
        for _ in range(3):
            work(0.02)
            yield tone(0.1)

    current: list[Any] = []

    def consume(stream: Any) -> None:
        with trace.get_tracer("test").start_as_current_span("consumer") as own:
            for _ in stream:
                current.append(trace.get_current_span() is own)

    begun = time.perf_counter()
    with trace.get_tracer("test").start_as_current_span("caller") as caller:
        stream = speak("hello")
    in_threads(1, lambda: consume(stream))
    whole = time.perf_counter() - begun
    assert current == [True] * 3
    span = spans.one()
    assert span.parent is not None
    assert span.parent.span_id == caller.get_span_context().span_id
    assert (span.attributes or {})["tts.synthesis.duration"] == between(0.06, whole)


def test_a_stream_handed_to_another_event_loop(spans: Spans) -> None:
    @traced_synthesis(sample_rate=RATE)
    async def speak(text: str) -> Any:
        for _ in range(3):
            await asyncio.sleep(0.001)
            yield tone(0.1)

    async def rest(stream: Any) -> int:
        return len([chunk async for chunk in stream])

    async def main() -> int:
        stream = speak("hello")
        await stream.__anext__()
        return await asyncio.to_thread(lambda: asyncio.run(rest(stream)))

    assert asyncio.run(main()) == 2
    assert spans.attributes()["tts.stream.chunks"] == 3


@traced_synthesis(sample_rate=RATE)
def spoken_whole(text: str) -> np.ndarray:
    return tone(0.1)


class Engine:
    """A voice as programs write them."""

    def __init__(self) -> None:
        self.name = "ann"

    @traced_synthesis(sample_rate=RATE)
    def speak(self, text: str) -> np.ndarray:
        return tone(0.1 * len(text))

    @traced_synthesis(sample_rate=RATE)
    @staticmethod
    def static(text: str) -> np.ndarray:
        return tone(0.1)

    @traced_synthesis(sample_rate=RATE)
    @classmethod
    def shared(cls, text: str) -> np.ndarray:
        return tone(0.1)

    greet = functools.partialmethod(speak, "hi")

    @functools.cached_property
    def spoken(self) -> Any:
        return traced_synthesis(sample_rate=RATE)(self._spoken)

    def _spoken(self, text: str) -> np.ndarray:
        return tone(0.3)

    @traced_synthesis(sample_rate=RATE)
    def __call__(self, text: str) -> np.ndarray:
        return tone(0.4)


class LouderEngine(Engine):
    @traced_synthesis(sample_rate=RATE)
    def speak(self, text: str) -> np.ndarray:
        return super().speak(text + "!")


SENT: dict[str, Any] = {
    "function": spoken_whole,
    "partial": functools.partial(spoken_whole),
    "method": Engine().speak,
    "overridden": LouderEngine().speak,
    "of the class": functools.partial(Engine.speak, Engine()),
    "static": Engine.static,
    "static of an instance": Engine().static,
    "of the class itself": Engine.shared,
    "object": Engine(),
}


@pytest.mark.parametrize("name", SENT)
def test_what_is_sent_to_a_process(spans: Spans, name: str) -> None:
    sent = SENT[name]
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
        result = pool.submit(sent, "hi").result()
    assert len(result) == len(pickle.loads(pickle.dumps(sent))("hi")) > 0
    assert len(copy.deepcopy(sent)("hi")) == len(result)
    assert len(pickle.loads(pickle.dumps(sent("hi")))) == len(result)


def test_what_cannot_be_sent_says_so() -> None:
    def local() -> Any:
        class Local:
            @traced_synthesis
            def speak(self, text: str) -> None: ...

        return Local

    for unbound in (local().speak, traced_synthesis(lambda text: (yield))):
        with pytest.raises((AttributeError, pickle.PicklingError)):
            pickle.dumps(unbound)
    with pytest.raises(TypeError, match="cannot pickle 'generator' object"):
        pickle.dumps(traced_synthesis(lambda text: (yield))("hello"))


# --- functions in functions --------------------------------------------------------------------------------------


def test_a_function_that_calls_itself(spans: Spans) -> None:
    @traced_synthesis(sample_rate=RATE)
    def speak(text: str) -> np.ndarray:
        if len(text) > 1:
            return np.concatenate([speak(text[:1]), speak(text[1:])])
        work(0.02)
        return tone(0.1)

    begun = time.perf_counter()
    assert len(speak("abc")) == 7200
    whole = time.perf_counter() - begun
    assert sorted(names_of_parents(spans), key=str) == [(1, 2), (1, 2), (1, 3), (2, 3), (3, None)]
    for span in spans.syntheses():
        attributes = span.attributes or {}
        characters = attributes["tts.input.characters"]
        assert attributes["tts.audio.duration"] == pytest.approx(0.1 * characters)
        assert attributes["tts.synthesis.duration"] == between(0.02 * characters, whole - 0.02 * (3 - characters))


def test_a_generator_that_pulls_itself(spans: Spans) -> None:
    @traced_synthesis(sample_rate=RATE, producer="pull")
    def speak(text: str) -> Iterator[np.ndarray]:
        if len(text) > 1:
            yield from speak(text[:1])
            yield from speak(text[1:])
        else:
            work(0.02)
            yield tone(0.1)

    begun = time.perf_counter()
    for _ in speak("abc"):
        time.sleep(0.03)
    pulled = time.perf_counter() - begun - 0.09
    assert sorted(names_of_parents(spans), key=str) == [(1, 2), (1, 2), (1, 3), (2, 3), (3, None)]
    for span in spans.syntheses():
        attributes = span.attributes or {}
        characters = attributes["tts.input.characters"]
        assert attributes["tts.stream.chunks"] == characters
        assert attributes["tts.synthesis.duration"] == between(0.02 * characters, pulled - 0.02 * (3 - characters))


@pytest.fixture
def patched() -> Iterator[None]:
    path = f"{__name__}:backend"
    ttstrace.instrument(path, sample_rate=RATE, provider="acme")
    yield
    ttstrace.uninstrument(path)


def backend(text: str) -> np.ndarray:
    time.sleep(0.05)
    return tone(0.1)


@pytest.mark.parametrize("parallel", [False, True])
def test_a_function_around_several_patched_calls(
    spans: Spans, recorded: Metrics, patched: None, parallel: bool
) -> None:
    @traced_synthesis(sample_rate=RATE, text="text")
    def speak(text: list[str]) -> np.ndarray:
        if not parallel:
            return np.concatenate([backend(each) for each in text])
        with ThreadPoolExecutor(len(text)) as pool:
            calls = [pool.submit(contextvars.copy_context().run, backend, each) for each in text]
            return np.concatenate([call.result() for call in calls])

    begun = time.perf_counter()
    speak(["one", "two", "three"])
    whole = time.perf_counter() - begun
    *inner, outer = spans.syntheses()
    assert outer.parent is None
    assert {span.parent.span_id for span in inner if span.parent} == {outer.context.span_id}
    assert [(span.attributes or {})["tts.audio.duration"] for span in inner] == pytest.approx([0.1] * 3)
    one = between(0.05, whole if parallel else whole - 0.1)
    assert [(span.attributes or {})["tts.synthesis.duration"] for span in inner] == [one] * 3
    attributes = outer.attributes or {}
    assert attributes["tts.audio.duration"] == pytest.approx(0.3)
    assert attributes["tts.input.characters"] == 11
    assert attributes["tts.synthesis.duration"] == between(0.05 if parallel else 0.15, whole)
    # The outermost alone is active; the innermost alone record what they took.
    assert attributes["tts.concurrency.max"] == 1
    assert sum(point.count for point in recorded.points("gen_ai.client.operation.duration")) == 3
    assert [point.value for point in recorded.points("tts.client.active")] == [0]


# --- classes and wrappers of all kinds ---------------------------------------------------------------------------


def test_methods_of_every_kind(spans: Spans) -> None:
    engine = Engine()
    for result, seconds in (
        (engine.greet(), 0.2),
        (engine.spoken("hello"), 0.3),
        (engine("hello"), 0.4),
        (engine.static("hello"), 0.1),
        (engine.shared("hello"), 0.1),
    ):
        assert len(result) == round(seconds * RATE)
    assert [(span.attributes or {})["tts.audio.duration"] for span in spans.syntheses()] == pytest.approx(
        [0.2, 0.3, 0.4, 0.1, 0.1]
    )
    assert {(span.attributes or {})["gen_ai.provider.name"] for span in spans.syntheses()} == {"Engine"}


def test_a_decorated_class(spans: Spans) -> None:
    """One decorator traces the class's method, one above makes it a singleton: the class is the voice all the same."""

    def traced(cls: Any) -> Any:
        cls.speak = traced_synthesis(sample_rate=RATE)(cls.speak)
        return cls

    def singleton(cls: Any) -> Any:
        return functools.wraps(cls, updated=())(functools.lru_cache(lambda name: cls(name)))

    @singleton
    @traced
    class Voice:
        def __init__(self, name: str) -> None:
            self.name = name

        def speak(self, text: str) -> np.ndarray:
            return tone(0.1 * len(text + self.name))

    with pytest.raises(TypeError, match="Voice is a class: trace the method that synthesizes"):
        traced_synthesis(Voice.__wrapped__)
    assert Voice("ann") is Voice("ann")
    assert len(Voice("ann").speak("hi")) == len(Voice("ann").speak("yo")) == RATE // 2
    Voice("bob").speak("hi")
    found = [span.attributes or {} for span in spans.syntheses()]
    assert [each["gen_ai.provider.name"] for each in found] == ["Voice"] * 3
    assert [each["tts.input.characters"] for each in found] == [2] * 3
    assert [each["tts.cold_start"] for each in found] == [True, False, True]  # the object is what was loaded


def test_a_method_that_calls_super(spans: Spans) -> None:
    LouderEngine().speak("hi")
    inner, outer = spans.syntheses()
    assert inner.parent is not None
    assert inner.parent.span_id == outer.context.span_id
    told = [
        ((span.attributes or {})["gen_ai.provider.name"], (span.attributes or {})["tts.input.characters"])
        for span in (inner, outer)
    ]
    assert told == [("Engine", 3), ("LouderEngine", 2)]


def test_abstract_methods_stay_abstract(spans: Spans) -> None:
    class Base(abc.ABC):
        @traced_synthesis
        @abc.abstractmethod
        def inside(self, text: str) -> None: ...

        @abc.abstractmethod
        @traced_synthesis
        def outside(self, text: str) -> None: ...

    with pytest.raises(TypeError, match=r"abstract methods '?inside'?, '?outside'?"):
        Base()  # type: ignore[abstract]


def test_a_frozen_dataclass_with_slots(spans: Spans) -> None:
    @dataclasses.dataclass(frozen=True, slots=True)
    class Voice:
        sample_rate: int = RATE

        @traced_synthesis
        def speak(self, text: str) -> np.ndarray:
            return tone(0.1, self.sample_rate)

    dataclasses.replace(Voice(), sample_rate=16000).speak("hello")
    assert dataclasses.asdict(Voice()) == {"sample_rate": RATE}
    attributes = spans.attributes()
    assert attributes["tts.audio.sample_rate"] == 16000
    assert attributes["tts.audio.duration"] == pytest.approx(0.1)


def test_single_dispatch(spans: Spans) -> None:
    @functools.singledispatch
    def inside(text: Any) -> np.ndarray:
        raise NotImplementedError

    @inside.register
    @traced_synthesis(sample_rate=RATE)
    def _(text: str) -> np.ndarray:
        return tone(0.1)

    @traced_synthesis(sample_rate=RATE)
    @functools.singledispatch
    def outside(text: Any) -> np.ndarray:
        return tone(0.2)

    outside.register(list)(lambda text: tone(0.3))
    inside("hello")
    outside("hello")
    outside(["hello", "you"])
    found = [span.attributes or {} for span in spans.syntheses()]
    assert [each["tts.audio.duration"] for each in found] == pytest.approx([0.1, 0.2, 0.3])
    assert [each["tts.input.characters"] for each in found] == [5, 5, 8]


def test_a_cache_above_synthesizes_once(spans: Spans) -> None:
    @functools.lru_cache
    @traced_synthesis(sample_rate=RATE)
    def above(text: str) -> np.ndarray:
        return tone(0.1)

    @traced_synthesis(sample_rate=RATE)
    @functools.lru_cache
    def below(text: str) -> np.ndarray:
        return tone(0.1)

    assert above("hello") is above("hello")
    assert len(spans.syntheses()) == 1
    assert below("hello") is below("hello")
    assert below.cache_info().hits == 1  # what it is under stays reachable
    below.cache_clear()


def test_wraps_on_top_keeps_one_span(spans: Spans) -> None:
    @functools.wraps(spoken_whole)
    def outer(*args: Any, **kwargs: Any) -> Any:
        return spoken_whole(*args, **kwargs)

    assert inspect.signature(outer) == inspect.signature(spoken_whole)
    outer("hello")
    assert spans.one().name == f"text_to_speech {__name__}.spoken_whole"


# --- fed by hand, from everywhere --------------------------------------------------------------------------------


def test_by_hand_before_the_start_and_after_the_end(spans: Spans) -> None:
    s = synthesis(text="hello", sample_rate=RATE)
    s.chunk(tone(0.1))  # nothing runs yet
    s.end()
    assert spans.syntheses() == []
    s.start()
    s.chunk(tone(0.2))
    s.end()
    s.end(ValueError("too late"))
    s.chunk(tone(0.4))
    s.add_text("more")
    s.set_attribute("more", 1)
    s.start()
    s.end()
    attributes = spans.attributes()
    assert attributes["tts.audio.duration"] == pytest.approx(0.2)
    assert attributes["tts.input.characters"] == 5
    assert "error.type" not in attributes
    assert "more" not in attributes


def test_by_hand_ended_by_every_thread(spans: Spans, recorded: Metrics) -> None:
    for _ in range(50):
        s = synthesis(text="hello", sample_rate=RATE).start()
        barrier = threading.Barrier(4)

        def finish(s: synthesis = s, barrier: threading.Barrier = barrier) -> None:
            s.chunk(tone(0.1))
            barrier.wait()
            s.end()

        in_threads(4, finish)
    found = spans.syntheses()
    assert len(found) == 50
    assert {(span.attributes or {})["tts.stream.chunks"] for span in found} == {4}
    assert [point.value for point in recorded.points("tts.client.active")] == [0]


def test_by_hand_started_by_every_thread(spans: Spans, recorded: Metrics) -> None:
    for _ in range(50):
        s = synthesis(text="hello", sample_rate=RATE)
        barrier = threading.Barrier(4)

        def begin(s: synthesis = s, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            s.start()

        in_threads(4, begin)
        s.end()
    assert len(spans.syntheses()) == 50
    assert [point.value for point in recorded.points("tts.client.active")] == [0]


# --- text in pieces ----------------------------------------------------------------------------------------------


class LanguageModel:
    """An answer that is iterated, but is no iterator itself."""

    async def __aiter__(self) -> Any:
        for piece in ("Good ", "morning", "."):
            await asyncio.sleep(0.1)
            yield piece


@pytest.mark.parametrize("producer", ["pull", "push"])
def test_a_slow_text_that_is_iterated(spans: Spans, producer: Any) -> None:
    @traced_synthesis(sample_rate=RATE, producer=producer)
    async def speak(text: Any) -> Any:
        async for _ in text:
            await asyncio.sleep(0.03)
            yield tone(0.1)

    async def main() -> int:
        return len([chunk async for chunk in speak(LanguageModel())])

    begun = time.perf_counter()
    assert asyncio.run(main()) == 3
    whole = time.perf_counter() - begun
    attributes = spans.attributes()
    assert attributes["tts.input.characters"] == 13
    assert attributes["tts.input.wait.duration"] == between(0.3, whole - 0.09)
    assert attributes["gen_ai.response.time_to_first_chunk"] == between(0.03, whole - 0.36)
    assert attributes.get("tts.synthesis.duration") == (between(0.09, whole - 0.3) if producer == "pull" else None)


@pytest.mark.keeps_time
def test_a_slow_text_that_another_thread_takes(spans: Spans) -> None:
    def language_model() -> Iterator[str]:
        for piece in ("Good ", "morning", "."):
            time.sleep(0.1)
            yield piece

    @traced_synthesis(sample_rate=RATE, producer="push")
    def speak(text: Iterator[str]) -> Iterator[np.ndarray]:
        made: queue.Queue[Any] = queue.Queue()

        def produce() -> None:
            for _ in text:
                time.sleep(0.1)
                made.put((tone(0.1),))
            made.put(None)

        threading.Thread(target=produce).start()
        return (chunk for (chunk,) in iter(made.get, None))

    begun = time.perf_counter()
    assert len(list(speak(language_model()))) == 3
    whole = time.perf_counter() - begun
    attributes = spans.attributes()
    assert attributes["tts.input.characters"] == 13
    assert attributes["tts.input.wait.duration"] == between(0.3, whole - 0.3)
    assert attributes.get("gen_ai.response.time_to_first_chunk") == between(0.1, whole - 0.5)
    assert "tts.synthesis.duration" not in attributes  # it waited for text most of the time
