"""Programs that synthesize, one for every shape of result: the same with ttstrace and without it.

A program gets a backend and what decorates its function, and gives back what it saw, object by object.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import wave
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from opentelemetry.context import get_current

from ttstrace import stage, synthesis

Decorate = Callable[[Any], Any]


class BackendError(Exception):
    """What a backend itself may raise."""


class Backend:
    """What it says and how often it was asked: half a second of audio, in one piece or in two."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.calls = 0
        self.whole = b"\1\0" * 12_000
        self.array = np.full(12_000, 0.1, dtype=np.float32)
        self.pieces = [b"\1\0" * 6_000, b"\2\0" * 6_000]
        self.error = BackendError("no")


class Body:
    """A response body: read, iterated or entered."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._left = iter([*pieces, b""])

    def read(self, size: int = -1) -> bytes:
        return next(self._left)

    def close(self) -> None: ...


class Entered:
    """A body that is entered first."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._left = iter(pieces)

    def __enter__(self) -> Entered:
        return self

    def __exit__(self, *error: object) -> None: ...

    def __iter__(self) -> Entered:
        return self

    def __next__(self) -> bytes:
        return next(self._left)


def value(backend: Backend, decorate: Decorate) -> list[Any]:
    @decorate
    def speak(text: str) -> bytes:
        backend.calls += 1
        return backend.whole

    return [speak("hello")]


def array(backend: Backend, decorate: Decorate) -> list[Any]:
    @decorate
    def speak(text: str) -> Any:
        backend.calls += 1
        return backend.array

    return [speak("hello")]


def generator(backend: Backend, decorate: Decorate) -> list[Any]:
    @decorate
    def speak(text: str) -> Iterator[bytes]:
        backend.calls += 1
        yield from backend.pieces

    return list(speak("hello"))


def returned_iterator(backend: Backend, decorate: Decorate) -> list[Any]:
    @decorate
    def speak(text: str) -> Iterator[bytes]:
        backend.calls += 1
        return iter(backend.pieces)

    return list(speak("hello"))


def broken_generator(backend: Backend, decorate: Decorate) -> list[Any]:
    @decorate
    def speak(text: str) -> Iterator[bytes]:
        backend.calls += 1
        yield backend.pieces[0]
        raise backend.error

    seen: list[Any] = []
    try:
        seen.extend(iter(speak("hello")))
    except BackendError as error:
        seen.append(error)
    return seen


def closed_generator(backend: Backend, decorate: Decorate) -> list[Any]:
    @decorate
    def speak(text: str) -> Iterator[bytes]:
        backend.calls += 1
        yield from backend.pieces

    stream: Any = speak("hello")
    seen = [next(stream)]
    stream.close()
    return seen


def async_generator(backend: Backend, decorate: Decorate) -> list[Any]:
    @decorate
    async def speak(text: str) -> AsyncIterator[bytes]:
        backend.calls += 1
        for piece in backend.pieces:
            yield piece

    async def listen() -> list[Any]:
        return [piece async for piece in speak("hello")]

    return run(listen())


def coroutine(backend: Backend, decorate: Decorate) -> list[Any]:
    @decorate
    async def speak(text: str) -> bytes:
        backend.calls += 1
        return backend.whole

    async def listen() -> list[Any]:
        return [await speak("hello")]

    return run(listen())


def awaitable(backend: Backend, decorate: Decorate) -> list[Any]:
    async def later() -> bytes:
        return backend.whole

    @decorate
    def speak(text: str) -> Any:
        backend.calls += 1
        return later()

    async def listen() -> list[Any]:
        return [await speak("hello")]

    return run(listen())


class AsyncBody:
    """A response body that is read by awaiting."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._left = iter([*pieces, b""])

    async def read(self, size: int = -1) -> bytes:
        return next(self._left)

    async def aclose(self) -> None: ...


def async_body(backend: Backend, decorate: Decorate) -> list[Any]:
    @decorate
    def speak(text: str) -> AsyncBody:
        backend.calls += 1
        return AsyncBody(backend.pieces)

    async def listen() -> list[Any]:
        stream = speak("hello")
        seen = []
        while piece := await stream.read(4096):
            seen.append(piece)
        await stream.aclose()
        return seen

    return run(listen())  # type: ignore[no-any-return]


def dropped_generator(backend: Backend, decorate: Decorate) -> list[Any]:
    @decorate
    def speak(text: str) -> Iterator[bytes]:
        backend.calls += 1
        yield from backend.pieces

    stream = speak("hello")
    seen = [next(stream)]
    del stream
    return seen


def staged(backend: Backend, decorate: Decorate) -> list[Any]:
    traced = decorate(staged) is not staged

    left: list[bool] = []

    @decorate
    def speak(text: str) -> bytes:
        inside = get_current()
        with stage("vocoder") if traced else contextlib.nullcontext():
            backend.calls += 1
        left.append(get_current() is inside)
        with stage("playback", synthesis=False) if traced else contextlib.nullcontext():
            return backend.whole

    return [speak("hello"), *left]


class Hostile:
    """A result that fails at every look."""

    def __getattr__(self, name: str) -> Any:
        raise BackendError(name)

    def __len__(self) -> int:
        raise BackendError("len")


def hostile(backend: Backend, decorate: Decorate) -> list[Any]:
    given = Hostile()

    @decorate
    def speak(text: str) -> Hostile:
        backend.calls += 1
        return given

    return [speak("hello") is given]


def body(backend: Backend, decorate: Decorate) -> list[Any]:
    @decorate
    def speak(text: str) -> Body:
        backend.calls += 1
        return Body(backend.pieces)

    stream = speak("hello")
    seen = []
    while piece := stream.read(4096):
        seen.append(piece)
    stream.close()
    return seen


def context_manager(backend: Backend, decorate: Decorate) -> list[Any]:
    @decorate
    def speak(text: str) -> Entered:
        backend.calls += 1
        return Entered(backend.pieces)

    with speak("hello") as stream:
        return list(stream)


def future(backend: Backend, decorate: Decorate) -> list[Any]:
    promised: concurrent.futures.Future[bytes] = concurrent.futures.Future()

    @decorate
    def speak(text: str) -> Any:
        backend.calls += 1
        return promised

    given = speak("hello")
    promised.set_result(backend.whole)
    return [given is promised, given.result()]


def output_file(backend: Backend, decorate: Decorate) -> list[Any]:
    @decorate
    def speak(text: str, path: str) -> None:
        backend.calls += 1
        with wave.open(path, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(24_000)
            file.writeframes(backend.whole)

    answer = speak("hello", str(backend.path))
    return [answer, backend.path.read_bytes().endswith(backend.whole)]


def exception(backend: Backend, decorate: Decorate) -> list[Any]:
    @decorate
    def speak(text: str) -> bytes:
        backend.calls += 1
        raise backend.error

    try:
        return [speak("hello")]
    except BackendError as error:
        return [error, error.__cause__, error.__context__]


def nested(backend: Backend, decorate: Decorate) -> list[Any]:
    @decorate
    def inner(text: str) -> bytes:
        backend.calls += 1
        return backend.whole

    @decorate
    def outer(text: str) -> bytes:
        return inner(text)  # type: ignore[no-any-return]

    return [outer("hello")]


def pieces_of_text(backend: Backend, decorate: Decorate) -> list[Any]:
    heard = []

    @decorate
    def speak(text: Iterator[str]) -> bytes:
        backend.calls += 1
        heard.extend(text)
        return backend.whole

    return [speak(iter(["hel", "lo"])), *heard]


class _NoSynthesis(contextlib.nullcontext[None]):
    def chunk(self, audio: object) -> None: ...
    def set_attribute(self, name: str, value: object) -> None: ...
    def add_text(self, text: str) -> None: ...


def by_hand(backend: Backend, decorate: Decorate) -> list[Any]:
    traced = decorate(by_hand) is not by_hand
    by: Any = synthesis("hello", sample_rate=24_000, format="pcm_s16le") if traced else _NoSynthesis()
    seen = []
    with by as s:
        s = s or by
        backend.calls += 1
        for piece in backend.pieces:
            s.chunk(piece)
            seen.append(piece)
        s.add_text("more")
        s.set_attribute("x", 1)
    return seen


def run(coroutine: Any) -> Any:
    """Run a coroutine of which nothing is waited for: no event loop is needed, and none has a thread or a log."""
    try:
        coroutine.send(None)
    except StopIteration as stopped:
        return stopped.value
    raise AssertionError("it waits for something")


SHAPES: tuple[Callable[[Backend, Decorate], list[Any]], ...] = (
    value, array, generator, returned_iterator, broken_generator, closed_generator, async_generator, coroutine,
    awaitable, body, async_body, dropped_generator, staged, hostile, context_manager, future, output_file, exception,
    nested, pieces_of_text, by_hand,
)  # fmt: skip
