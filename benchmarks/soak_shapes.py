"""The calls that the soak makes: one of each shape that a traced call can have, with the truth of each."""

from __future__ import annotations

import asyncio
import contextvars
import io
import math
import os
import struct
import threading
import time
import wave
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from concurrent.futures import Future
from itertools import zip_longest
from types import TracebackType
from typing import Any

import numpy as np
from soak_ledger import Ledger, Truth

from ttstrace import PerformanceMonitor, semconv, stage, synthesis, traced_synthesis
from ttstrace.call import Options
from ttstrace.decorator import trace

RATE = 24_000
TEXT = "Hello there."
CHUNK = (0.5 * np.sin(np.arange(1200) / 5)).astype(np.float32)  # 0.05 s
AUDIO = np.concatenate([CHUNK, CHUNK])
PCM = (AUDIO * 32767).astype("<i2").tobytes()


def _wav() -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(RATE)
        writer.writeframes(PCM)
    return file.getvalue()


WAV = _wav()
# Ten frames of MPEG-2 layer III, 64 kbit/s, 24 kHz, mono: 192 bytes and 576 samples each.
MP3 = (struct.pack(">I", 0xFFF384C4) + bytes(188)) * 10


class Host:
    """What calls need of the thread that makes them; a context manager.

    Args:
        ledger: what ends is told to it.
        path: where files are written to, this host's own.
    """

    def __init__(self, ledger: Ledger, path: str) -> None:
        self.ledger = ledger
        self.path = path
        self.made: Counter[str] = Counter()
        """Spans that the calls so far are to give, as `Ledger.ended` counts them."""
        self.calls = 0
        self._loop = asyncio.new_event_loop()

    def run(self, awaitable: Awaitable[Any]) -> Any:
        return self._loop.run_until_complete(awaitable)

    def call(self, shape: str, number: int) -> None:
        """Make one call."""
        run, makes = SHAPES[shape]
        self.calls += 1
        self.made.update(makes)
        run(self, number)

    def __enter__(self) -> Host:
        return self

    def __exit__(
        self, cls: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.run(self._loop.shutdown_asyncgens())
        self._loop.close()


Run = Callable[[Host, int], None]
SHAPES: dict[str, tuple[Run, tuple[str, ...]]] = {}
"""By name: what makes one call, and the spans it gives."""
TRUTHS: dict[str, Truth] = {}
"""By model."""
OUTER = "outer"
"""The model that has another synthesis inside."""
STAGES = ("text", "vocoder", "playback")
"""Names of the stages."""

_PLAIN = Truth(0.1, characters=len(TEXT))
_STREAM = Truth(0.15, 3, len(TEXT))


def shape(truth: Truth | None, *more: str) -> Callable[[Run], Run]:
    """A shape of call, by the name of the function that makes it; its truth, and which spans it gives besides."""

    def add(run: Run) -> Run:
        name = run.__name__
        if truth is not None:
            TRUTHS[name] = truth
        SHAPES[name] = run, (*(() if truth is None else (name,)), *more)
        return run

    return add


class WrongResult(Exception):
    """The call gave something else than without ttstrace."""


def expect(right: bool) -> None:
    if not right:
        raise WrongResult


# --- results that come whole -------------------------------------------------------------------------------------


@traced_synthesis(model="array", sample_rate=RATE)
def _array(text: str) -> np.ndarray:
    return AUDIO


@shape(_PLAIN)
def array(host: Host, number: int) -> None:
    expect(_array(TEXT) is AUDIO)


@traced_synthesis(model="raw", format="pcm_s16le", sample_rate=RATE)
def _raw(text: str) -> bytes:
    return PCM


@shape(_PLAIN)
def raw(host: Host, number: int) -> None:
    expect(_raw(TEXT) is PCM)


@traced_synthesis(model="wav")
def _wav_bytes(text: str) -> bytes:
    return WAV


@shape(_PLAIN)
def wav(host: Host, number: int) -> None:
    expect(_wav_bytes(TEXT) is WAV)


@traced_synthesis(model="mp3")
def _mp3(text: str) -> bytes:
    return MP3


@shape(Truth(0.24, characters=len(TEXT)))
def mp3(host: Host, number: int) -> None:
    expect(_mp3(TEXT) is MP3)


@traced_synthesis(model="file")
def _file(text: str, path: str) -> None:
    with open(path, "wb") as written:
        written.write(WAV)


@shape(_PLAIN)
def file(host: Host, number: int) -> None:
    _file(TEXT, host.path)
    os.unlink(host.path)


@traced_synthesis(model="timed", sample_rate=RATE)
def _timed(text: str) -> tuple[np.ndarray, float]:
    began = time.perf_counter()
    while (took := time.perf_counter() - began) < 5e-5:
        pass
    return AUDIO, took


@shape(_PLAIN)
def timed(host: Host, number: int) -> None:
    """Its duration lies between what the backend and what the caller sees on the clock."""
    began = time.perf_counter()
    _, inside = _timed(TEXT)
    outside = time.perf_counter() - began
    if host.ledger.most_open == 1:  # else another's ended last
        duration = host.ledger.last.get(semconv.TTS_SYNTHESIS_DURATION, math.nan)
        if not inside <= duration <= outside:
            host.ledger.complain(f"timed: {duration} s is not between {inside} s and {outside} s")


@traced_synthesis(model="awaited", sample_rate=RATE)
async def _awaited(text: str) -> np.ndarray:
    await asyncio.sleep(0)
    return AUDIO


@shape(_PLAIN)
def awaited(host: Host, number: int) -> None:
    expect(host.run(_awaited(TEXT)) is AUDIO)


@traced_synthesis(model="future", sample_rate=RATE)
def _future(text: str, future: Future[np.ndarray]) -> Future[np.ndarray]:
    return future


@shape(_PLAIN)
def future(host: Host, number: int) -> None:
    pending: Future[np.ndarray] = Future()
    expect(_future(TEXT, pending) is pending)
    pending.set_result(AUDIO)


# --- streams -----------------------------------------------------------------------------------------------------


def _chunks(times: int = 3) -> Iterator[np.ndarray]:
    for _ in range(times):
        yield CHUNK


@traced_synthesis(model="generator", sample_rate=RATE, producer="pull")
def _generator(text: str) -> Iterator[np.ndarray]:
    yield from _chunks()


@shape(_STREAM)
def generator(host: Host, number: int) -> None:
    expect([chunk is CHUNK for chunk in _generator(TEXT)] == [True] * 3)


@traced_synthesis(model="agenerator", sample_rate=RATE)
async def _agenerator(text: str) -> AsyncIterator[np.ndarray]:
    for _ in range(3):
        await asyncio.sleep(0)
        yield CHUNK


async def _count(stream: AsyncIterator[np.ndarray]) -> int:
    return len([chunk async for chunk in stream])


@shape(_STREAM)
def agenerator(host: Host, number: int) -> None:
    expect(host.run(_count(_agenerator(TEXT))) == 3)


@traced_synthesis(model="iterator", sample_rate=RATE)
def _iterator(text: str) -> Iterator[np.ndarray]:
    return iter([CHUNK] * 3)


@shape(_STREAM)
def iterator(host: Host, number: int) -> None:
    expect(len(list(_iterator(TEXT))) == 3)


class Body:
    """What a client of HTTP gives: bytes that are still to come."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def read(self, size: int = -1) -> bytes:
        return self._data.read(size)

    def close(self) -> None:
        self._data.close()


@traced_synthesis(model="body", format="pcm_s16le", sample_rate=RATE)
def _body(text: str) -> Body:
    return Body(PCM)


@shape(Truth(0.1, 3, len(TEXT)))
def body(host: Host, number: int) -> None:
    response, data = _body(TEXT), []
    while piece := response.read(1600):
        data.append(piece)
    expect(b"".join(data) == PCM)


@traced_synthesis(model="elsewhere", sample_rate=RATE, producer="pull")
def _elsewhere(text: str) -> Iterator[np.ndarray]:
    yield from _chunks()


@shape(_STREAM)
def elsewhere(host: Host, number: int) -> None:
    """Begun in one thread, consumed in another."""
    stream = _elsewhere(TEXT)
    next(stream)
    thread = threading.Thread(target=list, args=(stream,))
    thread.start()
    thread.join()


@traced_synthesis(model="pieces", sample_rate=RATE, producer="pull")
def _pieces(text: Iterator[str]) -> Iterator[np.ndarray]:
    for _ in text:
        yield CHUNK


@shape(Truth(0.15, 3, 12))
def pieces(host: Host, number: int) -> None:
    expect(len(list(_pieces(iter(["One, ", "two, ", "3."])))) == 3)


@traced_synthesis(model="overlapping", sample_rate=RATE, producer="pull")
def _overlapping(text: str) -> Iterator[np.ndarray]:
    yield from _chunks()


@shape(_STREAM._replace(open=2), "overlapping")
def overlapping(host: Host, number: int) -> None:
    expect(len(list(zip_longest(_overlapping(TEXT), _overlapping(TEXT)))) == 3)


# --- fed by others -----------------------------------------------------------------------------------------------


@traced_synthesis(model="callback", callback="on_audio", sample_rate=RATE, producer="pull")
def _callback(text: str, on_audio: Callable[[np.ndarray], None]) -> None:
    for _ in range(3):
        on_audio(CHUNK)


@shape(_STREAM)
def callback(host: Host, number: int) -> None:
    given: list[np.ndarray] = []
    _callback(TEXT, given.append)
    expect(len(given) == 3)


@shape(_STREAM)
def manual(host: Host, number: int) -> None:
    with synthesis(model="manual", text=TEXT, sample_rate=RATE) as s:
        for _ in range(3):
            s.chunk(CHUNK)


@shape(_STREAM)
def started(host: Host, number: int) -> None:
    s = synthesis(model="started", sample_rate=RATE).start()
    s.add_text(TEXT)
    for _ in range(3):
        s.chunk(CHUNK)
    s.end()


@traced_synthesis(model="played", sample_rate=RATE)
def _played(text: str) -> None:
    for _ in range(3):
        synthesis.current().chunk(CHUNK)
    synthesis.current().set_attribute("played", True)


@shape(_STREAM)
def played(host: Host, number: int) -> None:
    _played(TEXT)


@traced_synthesis(model="staged", sample_rate=RATE)
def _staged(text: str) -> np.ndarray:
    with stage("text"):
        pass
    with stage("vocoder"), stage("playback", synthesis=False):
        return AUDIO


@shape(_PLAIN, *STAGES)
def staged(host: Host, number: int) -> None:
    expect(_staged(TEXT) is AUDIO)


# --- without a good end ------------------------------------------------------------------------------------------


class Refused(Exception):
    pass


@traced_synthesis(model="raising", sample_rate=RATE)
def _raising(text: str) -> np.ndarray:
    raise Refused(text)


_REFUSED = f"{Refused.__module__}.{Refused.__qualname__}"


@shape(Truth(characters=len(TEXT), error=_REFUSED))
def raising(host: Host, number: int) -> None:
    try:
        _raising(TEXT)
    except Refused:
        return
    raise WrongResult


@traced_synthesis(model="broken", sample_rate=RATE)
def _broken(text: str) -> Iterator[np.ndarray]:
    yield CHUNK
    raise Refused(text)


@shape(Truth(0.05, 1, len(TEXT), error=_REFUSED))
def broken(host: Host, number: int) -> None:
    try:
        list(_broken(TEXT))
    except Refused:
        return
    raise WrongResult


@traced_synthesis(model="cancelled", sample_rate=RATE)
async def _cancelled(text: str) -> np.ndarray:
    await asyncio.sleep(60)
    return AUDIO


@shape(Truth(characters=len(TEXT), interrupted=True))
def cancelled(host: Host, number: int) -> None:
    async def cancel() -> None:
        task = asyncio.ensure_future(_cancelled(TEXT))
        await asyncio.sleep(0)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return
        raise WrongResult

    host.run(cancel())


@traced_synthesis(model="interrupted", sample_rate=RATE)
def _interrupted(text: str) -> Generator[np.ndarray, None, None]:
    yield from _chunks()


@shape(Truth(0.05, 1, len(TEXT), interrupted=True))
def interrupted(host: Host, number: int) -> None:
    stream = _interrupted(TEXT)
    next(stream)
    stream.close()


_ABANDONED = Truth(0.05, 1, len(TEXT), interrupted=True, collected=True)


@traced_synthesis(model="abandoned", sample_rate=RATE)
def _abandoned(text: str) -> Iterator[np.ndarray]:
    yield from _chunks()


@shape(_ABANDONED)
def abandoned(host: Host, number: int) -> None:
    next(_abandoned(TEXT))


@traced_synthesis(model="aabandoned", sample_rate=RATE)
async def _aabandoned(text: str) -> AsyncIterator[np.ndarray]:
    for _ in range(3):
        await asyncio.sleep(0)
        yield CHUNK


@shape(_ABANDONED)
def aabandoned(host: Host, number: int) -> None:
    async def begin() -> None:
        stream = _aabandoned(TEXT)
        await stream.__anext__()
        del stream
        await asyncio.sleep(0)  # the loop closes it

    host.run(begin())


class Forever:
    def __await__(self) -> Generator[None, None, None]:
        while True:
            yield


@traced_synthesis(model="dropped", sample_rate=RATE)
async def _dropped(text: str) -> np.ndarray:
    await Forever()
    return AUDIO


@shape(Truth(characters=len(TEXT), interrupted=True, collected=True))
def dropped(host: Host, number: int) -> None:
    contextvars.copy_context().run(_dropped(TEXT).send, None)


@shape(None)
def never_begun(host: Host, number: int) -> None:
    _generator(TEXT)
    _awaited(TEXT).close()


# --- who calls whom ----------------------------------------------------------------------------------------------


@traced_synthesis(model="inner", sample_rate=RATE)
def _inner(text: str) -> np.ndarray:
    return AUDIO


@traced_synthesis(model=OUTER, sample_rate=RATE)
def _outer(text: str) -> np.ndarray:
    return _inner(text)


TRUTHS["inner"] = TRUTHS[OUTER] = _PLAIN


@shape(None, "inner", OUTER)
def nested(host: Host, number: int) -> None:
    expect(_outer(TEXT) is AUDIO)


_deeper = trace(lambda text: AUDIO, Options(model="deeper", sample_rate=RATE), patched=True)
_patched = trace(lambda text: _deeper(text), Options(model="patched", sample_rate=RATE), patched=True)


@shape(_PLAIN)
def patched(host: Host, number: int) -> None:
    """A library's callable reached from inside another one of a library: one synthesis."""
    expect(_patched(TEXT) is AUDIO)


class Voice:
    """A model that is loaded for one call."""

    @traced_synthesis(model="instance", sample_rate=RATE)
    def speak(self, text: str) -> np.ndarray:
        return AUDIO

    @traced_synthesis(model="cyclic", sample_rate=RATE)
    def speak_of_itself(self, text: str) -> np.ndarray:
        self.itself = self
        return AUDIO


@shape(_PLAIN._replace(cold=True))
def instance(host: Host, number: int) -> None:
    """Every one of them is cold, whoever had its address before."""
    expect(Voice().speak(TEXT) is AUDIO)


@shape(_PLAIN._replace(cold=True))
def cyclic(host: Host, number: int) -> None:
    expect(Voice().speak_of_itself(TEXT) is AUDIO)


@shape(_PLAIN._replace(cold=True))
def anew(host: Host, number: int) -> None:
    """Decorated for one call."""

    @traced_synthesis(model="anew", sample_rate=RATE)
    def speak(text: str) -> np.ndarray:
        return AUDIO

    expect(speak(TEXT) is AUDIO)


@traced_synthesis(model="classes", sample_rate=RATE)
def _classes(text: str, body: Any) -> Any:
    return body


@shape(_STREAM)
def classes(host: Host, number: int) -> None:
    """A stream of a class that was made for one call."""

    class Stream:
        def __init__(self) -> None:
            self._chunks = _chunks()

        def __iter__(self) -> Iterator[np.ndarray]:
            return self

        def __next__(self) -> np.ndarray:
            return next(self._chunks)

    expect(len(list(_classes(TEXT, Stream()))) == 3)


@traced_synthesis(model=lambda call: f"many-{call.arguments['number']}", sample_rate=RATE)
def _many(text: str, number: int) -> np.ndarray:
    return AUDIO


@shape(_PLAIN)
def many(host: Host, number: int) -> None:
    """A model that nobody called before."""
    expect(_many(TEXT, number) is AUDIO)


@shape(None)
def measured(host: Host, number: int) -> None:
    with PerformanceMonitor(device="cpu").measure() as metrics:
        pass
    expect(metrics["inference_time"] >= 0 and metrics["peak_memory_mb"] > 0)
