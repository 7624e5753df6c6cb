"""Results of more than one shape: each is still what it was to the caller."""

from __future__ import annotations

import asyncio
import functools
import types
from collections.abc import Awaitable, Callable, Generator
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import numpy as np
import pytest
from conftest import Spans

from ttstrace import semconv, streams, traced_synthesis

CHUNK = np.zeros(2400, np.float32)


class Request:
    """What HTTP clients return: to be awaited, entered or iterated."""

    def __init__(self) -> None:
        self.left = 2
        self.closed = False

    def __await__(self) -> Generator[Any, None, Request]:
        yield from asyncio.sleep(0).__await__()
        return self

    def __aiter__(self) -> Request:
        return self

    async def __anext__(self) -> Any:
        if not self.left:
            raise StopAsyncIteration
        self.left -= 1
        return CHUNK

    async def __aenter__(self) -> Request:
        return self

    async def __aexit__(self, *error: object) -> None:
        self.closed = True


async def _drained(stream: Any) -> int:
    return len([chunk async for chunk in stream])


async def _iterate(request: Any) -> int:
    return await _drained(request)


async def _await(request: Any) -> int:
    return await _drained(await request)


async def _enter(request: Any) -> int:
    async with request as entered:
        return await _drained(entered)


async def _await_and_enter(request: Any) -> int:
    async with await request as entered:
        return await _drained(entered)


@pytest.mark.parametrize("use", [_iterate, _await, _enter, _await_and_enter])
def test_an_awaitable_that_is_a_stream_too(spans: Spans, use: Callable[[Any], Awaitable[int]]) -> None:
    @traced_synthesis(sample_rate=24000)
    def speak(text: str) -> Request:
        return Request()

    async def main() -> None:
        assert await use(speak("hello")) == 2

    asyncio.run(main())
    attributes = spans.attributes()
    assert attributes[semconv.TTS_STREAM_CHUNKS] == 2
    assert attributes[semconv.GEN_AI_REQUEST_STREAM] is True
    assert semconv.TTS_INTERRUPTED not in attributes


def test_an_awaitable_that_is_a_stream_too_left_early(spans: Spans) -> None:
    @traced_synthesis(sample_rate=24000)
    def speak(text: str) -> Request:
        return Request()

    async def main() -> None:
        async with speak("hello") as entered:
            await entered.__anext__()

    asyncio.run(main())
    attributes = spans.attributes()
    assert attributes[semconv.TTS_STREAM_CHUNKS] == 1
    assert attributes[semconv.TTS_INTERRUPTED] is True


class Completion:
    """A language model's answer as its client gives it: an iterator to be entered, and left."""

    def __init__(self) -> None:
        self.pieces = iter(["ab", "cd"])
        self.left = False

    def __iter__(self) -> Completion:
        return self

    def __next__(self) -> str:
        return next(self.pieces)

    def __enter__(self) -> Completion:
        return self

    def __exit__(self, *error: object) -> None:
        self.left = True

    def __aiter__(self) -> Completion:
        return self

    async def __anext__(self) -> str:
        piece = next(self.pieces, None)
        if piece is None:
            raise StopAsyncIteration
        return piece

    async def __aenter__(self) -> Completion:
        return self

    async def __aexit__(self, *error: object) -> None:
        self.left = True

    def __await__(self) -> Generator[Any, None, Completion]:
        yield from asyncio.sleep(0).__await__()
        return self


def test_a_text_in_pieces_that_is_entered(spans: Spans) -> None:
    @traced_synthesis
    def speak(text: Any) -> int:
        with text as pieces:
            return len(list(pieces))

    completion = Completion()
    assert speak(completion) == 2
    assert completion.left
    assert spans.attributes()[semconv.TTS_INPUT_CHARACTERS] == 4


def test_a_text_in_pieces_that_is_awaited_and_entered(spans: Spans) -> None:
    @traced_synthesis
    async def speak(text: Any) -> int:
        await text
        async with text as pieces:
            return len([piece async for piece in pieces])

    completion = Completion()
    assert asyncio.run(speak(completion)) == 2
    assert completion.left
    assert spans.attributes()[semconv.TTS_INPUT_CHARACTERS] == 4


class Connection:
    """A websocket: what is sent over it is no audio."""

    def __init__(self) -> None:
        self.chunks = [CHUNK, CHUNK]

    def __aiter__(self) -> Connection:
        return self

    async def __anext__(self) -> Any:
        if not self.chunks:
            raise StopAsyncIteration
        return self.chunks.pop()

    async def send(self, message: str, text: bool = False) -> tuple[str, bool]:
        return message, text


def test_a_websocket_sends_as_before(spans: Spans) -> None:
    @traced_synthesis(sample_rate=24000)
    def speak(text: str) -> Connection:
        return Connection()

    async def main() -> None:
        connection = speak("hello")
        assert await connection.send("more", text=True) == ("more", True)
        assert await _drained(connection) == 2

    asyncio.run(main())
    assert spans.attributes()[semconv.TTS_STREAM_CHUNKS] == 2


class Body:
    """A lazy body that is no file: bytes, or an array."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def read(self, amt: int | None = None, decode_content: bool | None = None) -> Any:
        part, self.data = (self.data, self.data[:0]) if amt is None else (self.data[:amt], self.data[amt:])
        return part

    def readinto(self, buffer: Any) -> int:
        part = self.read(memoryview(buffer).nbytes)
        memoryview(buffer).cast("B")[: len(part)] = part
        return len(part)


@traced_synthesis(sample_rate=24000, format="pcm_s16le")
def body(text: str, data: Any) -> Body:
    return Body(data)


def test_a_body_that_gives_arrays(spans: Spans) -> None:
    stream = body("hello", np.zeros(2400, np.float32))
    while len(stream.read(1000)):
        pass
    attributes = spans.attributes()
    assert attributes[semconv.TTS_STREAM_CHUNKS] == 3
    assert attributes[semconv.TTS_AUDIO_DURATION] == 0.1
    assert semconv.TTS_INTERRUPTED not in attributes


@pytest.mark.parametrize("buffer", [bytearray(2000), np.zeros(1000, np.int16), np.zeros((2, 500), np.int16)])
def test_a_body_read_into_any_buffer(spans: Spans, buffer: Any) -> None:
    stream = body("hello", bytes(4800))
    read = 0
    while count := stream.readinto(buffer):
        read += count
    assert read == 4800
    attributes = spans.attributes()
    assert attributes[semconv.TTS_STREAM_CHUNKS] == 3
    assert attributes[semconv.TTS_AUDIO_SIZE] == 4800
    assert attributes[semconv.TTS_AUDIO_DURATION] == 0.1


@pytest.mark.parametrize("decode", [True, False, None])
def test_a_body_read_whole_with_arguments_that_are_no_size(spans: Spans, decode: Any) -> None:
    assert len(body("hello", bytes(4800)).read(decode_content=decode)) == 4800
    attributes = spans.attributes()
    assert attributes[semconv.TTS_AUDIO_DURATION] == 0.1
    assert semconv.TTS_INTERRUPTED not in attributes


def test_a_body_that_has_nothing_yet(spans: Spans) -> None:
    class NotYet(Body):
        def read(self, *args: Any, **kwargs: Any) -> Any:
            if self.data is None:
                self.data = bytes(4800)
                return None
            return super().read(*args, **kwargs)

    @traced_synthesis(sample_rate=24000, format="pcm_s16le")
    def speak(text: str) -> NotYet:
        return NotYet(None)

    stream = speak("hello")
    assert stream.read(4800) is None
    assert len(stream.read(4800)) == 4800
    assert stream.read(4800) == b""
    assert spans.attributes()[semconv.TTS_AUDIO_DURATION] == 0.1


@pytest.mark.parametrize("entered", [None, b"audio", (1, 2), CHUNK], ids=["None", "bytes", "tuple", "array"])
def test_what_entering_gives_is_the_object_itself(spans: Spans, entered: Any) -> None:
    class Managed:
        def __iter__(self) -> Managed:
            return self

        def __next__(self) -> Any:
            raise StopIteration

        def __enter__(self) -> Any:
            return entered

        def __exit__(self, *error: object) -> None: ...

        async def __aenter__(self) -> Any:
            return entered

        async def __aexit__(self, *error: object) -> None: ...

        def iter_parts(self) -> Any:
            return entered

    @traced_synthesis
    def speak(text: str) -> Managed:
        return Managed()

    with speak("hello") as given:
        assert given is entered
    assert speak("hello").iter_parts() is entered

    async def main() -> None:
        async with speak("hello") as given:  # type: ignore[attr-defined]
            assert given is entered

    asyncio.run(main())


@types.coroutine
def _generator_to_be_awaited(text: str) -> Generator[Any, None, Any]:
    yield from asyncio.sleep(0).__await__()
    return CHUNK


@pytest.mark.parametrize(
    "function", [_generator_to_be_awaited, lambda text: _generator_to_be_awaited(text)], ids=["itself", "returned"]
)
def test_a_generator_that_is_awaited(spans: Spans, function: Any) -> None:
    speak = traced_synthesis(sample_rate=24000)(function)

    async def main() -> None:
        assert await speak("hello") is CHUNK
        never_awaited = speak("hello")
        never_awaited.close()

    asyncio.run(main())
    attributes = dict(spans.syntheses()[0].attributes or {})
    assert attributes[semconv.TTS_AUDIO_DURATION] == 0.1
    assert attributes[semconv.GEN_AI_REQUEST_STREAM] is False


def test_reading_nothing_is_no_end_and_reading_all_is(spans: Spans) -> None:
    stream = body("hello", bytes(4800))
    assert stream.read(0) == b""
    assert not spans.get_finished_spans()
    assert len(stream.read(amt=4799)) == 4799
    assert not spans.get_finished_spans()
    assert len(stream.read()) == 1
    assert len(spans.get_finished_spans()) == 1


def test_reading_a_negative_size_is_reading_all(spans: Spans) -> None:
    class File(Body):
        def read(self, size: int = -1) -> Any:  # type: ignore[override]
            return super().read(None if size < 0 else size)

    @traced_synthesis(sample_rate=24000, format="pcm_s16le")
    def speak(text: str) -> File:
        return File(bytes(4800))

    stream = speak("hello")
    assert len(stream.read(-1)) == 4800
    assert len(spans.get_finished_spans()) == 1


def test_classes_made_anew_do_not_pile_up(spans: Spans) -> None:
    @traced_synthesis
    def speak(text: str) -> Any:
        return type("Once", (), {"__iter__": lambda self: self, "__next__": lambda self: next(iter(()))})()

    for _ in range(1100):
        list(speak("hello"))
    assert len(streams._classes) <= 128


class Speaker:
    def __call__(self, text: str) -> Generator[Any, None, None]:
        yield CHUNK


class AsyncSpeaker:
    async def __call__(self, text: str) -> Any:
        return CHUNK


@pytest.mark.parametrize(
    "speaker", [Speaker(), functools.partial(Speaker()), AsyncSpeaker()], ids=["object", "partial", "async"]
)
def test_objects_that_are_called_start_like_functions(spans: Spans, speaker: Any) -> None:
    traced_synthesis(speaker)("hello").close()
    assert not spans.all()  # never pulled, never awaited


def test_mocks_are_traced_like_what_they_stand_for(spans: Spans) -> None:
    mock = MagicMock(return_value=CHUNK)
    assert traced_synthesis(mock)("hello") is CHUNK
    mock.assert_called_once_with("hello")
    assert asyncio.run(traced_synthesis(AsyncMock(return_value=CHUNK))("hello")) is CHUNK
    assert len(spans.syntheses()) == 2
