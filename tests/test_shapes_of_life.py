"""Shapes of programs as they are, each where the naive reading says something wrong."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from backends import RATE, tone, work
from conftest import Spans

import ttstrace
from ttstrace import stage, traced_synthesis


class took:
    """What takes a known time takes a little more on a busy machine, but never less."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __eq__(self, other: object) -> bool:
        return isinstance(other, float) and self._seconds - 0.002 <= other <= self._seconds + 0.06

    def __repr__(self) -> str:
        return f"{self._seconds} s and a little more"


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


def test_a_callback_is_given_the_chunks(spans: Spans) -> None:
    @traced_synthesis(callback="on_audio", sample_rate=RATE, producer="pull")
    def speak(text: str, on_audio: Callable[[Any], Any], times: int = 3) -> str:
        for _ in range(times):
            work(0.05)
            on_audio(tone(0.1))
        work(0.05)
        return "done"

    player = Player(seconds=0.1)
    assert speak("hello", player.on_audio) == "done"
    assert len(player.given) == 3
    attributes = spans.attributes()
    assert attributes["gen_ai.request.stream"] is True
    assert attributes["tts.stream.chunks"] == 3
    assert attributes["tts.audio.duration"] == pytest.approx(0.3)
    # The producer works between the callbacks and waits inside them: 0.2 s of 0.5 s are the synthesis's.
    assert attributes["tts.synthesis.duration"] == took(0.2)
    assert attributes["tts.stream.hold.duration"] == took(0.3)
    assert attributes["gen_ai.response.time_to_first_chunk"] == took(0.05)
    assert attributes["tts.rtf"] == pytest.approx(attributes["tts.synthesis.duration"] / 0.3)
    assert attributes["tts.stream.underruns"] == 0  # it was the player that was late


@pytest.mark.parametrize(("seconds", "known"), [(0.0, True), (0.1, False)], ids=["quick", "slow"])
def test_a_callback_of_an_undeclared_producer(spans: Spans, seconds: float, known: bool) -> None:
    @traced_synthesis(callback="on_audio", sample_rate=RATE)
    def speak(text: str, on_audio: Callable[[Any], Any]) -> None:
        for _ in range(3):
            work(0.03)
            on_audio(tone(0.1))

    speak("hello", Player(seconds=seconds).on_audio)
    attributes = spans.attributes()
    # A service would have gone on while the callback played: nobody outside can know.
    assert ("tts.synthesis.duration" in attributes) is known
    if known:
        assert attributes["tts.synthesis.duration"] == took(0.09)
    assert attributes["gen_ai.response.time_to_first_chunk"] == took(0.03)


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

    assert asyncio.run(speak("hello", on_audio)) == 3
    attributes = spans.attributes()
    assert attributes["tts.stream.chunks"] == 3
    assert attributes["tts.synthesis.duration"] == took(0.09)
    assert attributes["tts.stream.hold.duration"] == took(0.3)
    assert attributes["gen_ai.response.time_to_first_chunk"] == took(0.03)


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

        @classmethod
        @traced_synthesis(callback="on_audio", sample_rate=RATE)
        def shared(cls, text: str, *, on_audio: Any) -> None:
            on_audio(tone(0.1))

    Engine().speak("hello")  # its default is a callback, too
    Engine().listless("hello")
    Engine.speak(Engine(), "hello", play)
    Engine.shared("hello", on_audio=play)
    functools.partial(Engine().speak, on_audio=play)("hello")
    traced_synthesis(callback="on_audio", sample_rate=RATE)(functools.partial(Engine.shared.__wrapped__, on_audio=play))
    found = [span.attributes or {} for span in spans.syntheses()]
    assert [each.get("tts.stream.chunks") for each in found] == [1, None, 1, 1, 1]
    assert [each["tts.audio.duration"] for each in found] == pytest.approx([0.1] * 5)


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

    speak("hello", on_audio)
    attributes = spans.attributes()
    assert attributes["tts.stream.hold.duration"] == took(0.2)
    assert attributes["tts.synthesis.duration"] == took(0.1)


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


@pytest.mark.parametrize("producer", ["pull", "push", None])
def test_threads_that_share_a_stream(spans: Spans, producer: Any) -> None:
    @traced_synthesis(sample_rate=RATE, producer=producer)
    def speak(text: str) -> Shared:
        return Shared(*[0.002] * 100)

    stream, got = speak("hello"), []
    begun = time.perf_counter()
    in_threads(4, lambda: got.extend(stream))
    elapsed = time.perf_counter() - begun
    assert len(got) == 100
    attributes = spans.attributes()
    assert attributes["tts.stream.chunks"] == 100
    assert attributes["tts.audio.duration"] == pytest.approx(10.0)
    # Somebody was waiting nearly all the time: what two consumers wait at once counts once.
    assert attributes["tts.synthesis.duration"] == pytest.approx(elapsed, abs=0.02)
    assert attributes["gen_ai.response.time_to_first_chunk"] == took(0.002)


def test_a_shared_stream_ends_with_its_last_consumer(spans: Spans) -> None:
    @traced_synthesis(sample_rate=RATE, producer="pull")
    def speak(text: str) -> Shared:
        return Shared(0.01, 0.2, 0.15, 0.1)  # the first consumer is at the end while the others wait

    stream, got = speak("hello"), []
    in_threads(4, lambda: got.extend(stream))
    attributes = spans.attributes()
    assert attributes["tts.stream.chunks"] == len(got) == 4
    assert attributes["tts.synthesis.duration"] == took(0.2)
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
    class Failing(Shared):
        def __next__(self) -> np.ndarray:
            chunk = super().__next__()
            if len(self._left) == 5:
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
