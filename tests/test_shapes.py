"""Every shape of a result gives one span, and the whole of it is known."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import io
import time
import wave
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pytest
from backends import RATE, tone
from conftest import Spans, snapshot_of
from inline_snapshot import snapshot

from ttstrace import stage, synthesis, traced_synthesis

pytestmark = pytest.mark.usefixtures("spans")

TEXT = "안녕하세요, world"
CHUNKS = [tone(0.2), tone(0.3)]


def wav(seconds: float) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((tone(seconds) * 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def test_plain_value(spans: Spans) -> None:
    @traced_synthesis(
        model="acme-1", voice="ann", language="ko_KR", sample_rate=RATE, device="cpu", attributes={"app": "x"}
    )
    def speak(text: str) -> np.ndarray:
        return tone(0.5)

    audio = speak(TEXT)
    assert len(audio) == 12000
    assert snapshot_of(spans.one()) == snapshot(
        {
            "name": "text_to_speech acme-1",
            "kind": "INTERNAL",
            "status": "UNSET",
            "attributes": {
                "app": "x",
                "code.function.name": "test_shapes.test_plain_value.<locals>.speak",
                "gen_ai.operation.name": "text_to_speech",
                "gen_ai.output.type": "speech",
                "gen_ai.provider.name": "test_shapes",
                "gen_ai.request.model": "acme-1",
                "gen_ai.request.stream": False,
                "gen_ai.speech.voice": "ann",
                "tts.audio.channels": 1,
                "tts.audio.duration": 0.5,
                "tts.audio.format": "pcm_f32le",
                "tts.audio.sample_rate": 24000,
                "tts.audio.size": 48000,
                "tts.cold_start": True,
                "tts.concurrency.max": 1,
                "tts.cpu.time": "<float>",
                "tts.cpu.utilization": "<float>",
                "tts.device": "cpu",
                "tts.input.characters": 12,
                "tts.language": "ko-KR",
                "tts.memory.burst": "<int>",
                "tts.memory.growth": "<int>",
                "tts.memory.peak": "<int>",
                "tts.memory.utilization": "<float>",
                "tts.rtf": "<float>",
                "tts.rtf.grade": "<str>",
                "tts.synthesis.duration": "<float>",
            },
            "events": [],
        }
    )


def test_coroutine(spans: Spans) -> None:
    @traced_synthesis(format="pcm_s16le", sample_rate=16000)
    async def speak(text: str) -> bytes:
        await asyncio.sleep(0.05)
        return bytes(32000)

    assert asyncio.run(speak(text=TEXT)) == bytes(32000)
    assert snapshot_of(spans.one()) == snapshot(
        {
            "name": "text_to_speech test_shapes.test_coroutine.<locals>.speak",
            "kind": "INTERNAL",
            "status": "UNSET",
            "attributes": {
                "code.function.name": "test_shapes.test_coroutine.<locals>.speak",
                "gen_ai.operation.name": "text_to_speech",
                "gen_ai.output.type": "speech",
                "gen_ai.provider.name": "test_shapes",
                "gen_ai.request.stream": False,
                "tts.audio.channels": 1,
                "tts.audio.duration": 1.0,
                "tts.audio.format": "pcm_s16le",
                "tts.audio.sample_rate": 16000,
                "tts.audio.size": 32000,
                "tts.cold_start": True,
                "tts.concurrency.max": 1,
                "tts.cpu.time": "<float>",
                "tts.cpu.utilization": "<float>",
                "tts.input.characters": 12,
                "tts.memory.burst": "<int>",
                "tts.memory.growth": "<int>",
                "tts.memory.peak": "<int>",
                "tts.memory.utilization": "<float>",
                "tts.rtf": "<float>",
                "tts.rtf.grade": "<str>",
                "tts.synthesis.duration": "<float>",
            },
            "events": [],
        }
    )


def test_generator(spans: Spans) -> None:
    @traced_synthesis(sample_rate=RATE, producer="pull")
    def speak(text: str) -> Iterator[np.ndarray]:
        with stage("vocoder"):
            yield CHUNKS[0]
        yield CHUNKS[1]

    assert [id(chunk) for chunk in speak(TEXT)] == [id(chunk) for chunk in CHUNKS]
    assert snapshot_of(spans.one()) == snapshot(
        {
            "name": "text_to_speech test_shapes.test_generator.<locals>.speak",
            "kind": "INTERNAL",
            "status": "UNSET",
            "attributes": {
                "code.function.name": "test_shapes.test_generator.<locals>.speak",
                "gen_ai.operation.name": "text_to_speech",
                "gen_ai.output.type": "speech",
                "gen_ai.provider.name": "test_shapes",
                "gen_ai.request.stream": True,
                "gen_ai.response.time_to_first_chunk": "<float>",
                "tts.audio.channels": 1,
                "tts.audio.duration": 0.5,
                "tts.audio.format": "pcm_f32le",
                "tts.audio.sample_rate": 24000,
                "tts.audio.size": 48000,
                "tts.cold_start": True,
                "tts.concurrency.max": 1,
                "tts.cpu.time": "<float>",
                "tts.cpu.utilization": "<float>",
                "tts.input.characters": 12,
                "tts.memory.burst": "<int>",
                "tts.memory.growth": "<int>",
                "tts.memory.peak": "<int>",
                "tts.memory.utilization": "<float>",
                "tts.rtf": "<float>",
                "tts.rtf.grade": "<str>",
                "tts.stage.duration.vocoder": "<float>",
                "tts.stream.chunks": 2,
                "tts.stream.continuous": True,
                "tts.stream.hold.duration": "<float>",
                "tts.stream.underrun.duration": "<float>",
                "tts.stream.underrun.max": "<float>",
                "tts.stream.underruns": 0,
                "tts.synthesis.duration": "<float>",
                "tts.time_to_first_audio": "<float>",
            },
            "events": [("tts.first_audio", {})],
        }
    )
    assert [span.name for span in spans.all()] == [
        "vocoder",
        "text_to_speech test_shapes.test_generator.<locals>.speak",
    ]


@pytest.mark.keeps_time
def test_async_generator(spans: Spans) -> None:
    @traced_synthesis(sample_rate=RATE)
    async def speak(text: str) -> AsyncIterator[np.ndarray]:
        for chunk in CHUNKS:
            await asyncio.sleep(0.05)
            yield chunk

    async def consume() -> list[Any]:
        return [chunk async for chunk in speak(TEXT)]

    assert [id(chunk) for chunk in asyncio.run(consume())] == [id(chunk) for chunk in CHUNKS]
    assert snapshot_of(spans.one()) == snapshot(
        {
            "name": "text_to_speech test_shapes.test_async_generator.<locals>.speak",
            "kind": "INTERNAL",
            "status": "UNSET",
            "attributes": {
                "code.function.name": "test_shapes.test_async_generator.<locals>.speak",
                "gen_ai.operation.name": "text_to_speech",
                "gen_ai.output.type": "speech",
                "gen_ai.provider.name": "test_shapes",
                "gen_ai.request.stream": True,
                "gen_ai.response.time_to_first_chunk": "<float>",
                "tts.audio.channels": 1,
                "tts.audio.duration": 0.5,
                "tts.audio.format": "pcm_f32le",
                "tts.audio.sample_rate": 24000,
                "tts.audio.size": 48000,
                "tts.cold_start": True,
                "tts.concurrency.max": 1,
                "tts.cpu.time": "<float>",
                "tts.cpu.utilization": "<float>",
                "tts.input.characters": 12,
                "tts.memory.burst": "<int>",
                "tts.memory.growth": "<int>",
                "tts.memory.peak": "<int>",
                "tts.memory.utilization": "<float>",
                "tts.rtf": "<float>",
                "tts.rtf.grade": "<str>",
                "tts.stream.chunks": 2,
                "tts.stream.continuous": True,
                "tts.stream.hold.duration": "<float>",
                "tts.stream.underrun.duration": "<float>",
                "tts.stream.underrun.max": "<float>",
                "tts.stream.underruns": 0,
                "tts.synthesis.duration": "<float>",
                "tts.time_to_first_audio": "<float>",
            },
            "events": [("tts.first_audio", {})],
        }
    )


class Chunks:
    """An iterator that is no generator."""

    def __init__(self) -> None:
        self._chunks = iter(CHUNKS)
        self.voice = "ann"

    def __iter__(self) -> Chunks:
        return self

    def __next__(self) -> np.ndarray:
        return next(self._chunks)

    def __len__(self) -> int:
        return 2


def test_iterator_object(spans: Spans) -> None:
    @traced_synthesis(sample_rate=RATE, producer="pull")
    def speak(text: str) -> Chunks:
        return Chunks()

    chunks = speak(TEXT)
    assert (chunks.voice, len(chunks), isinstance(chunks, Chunks)) == ("ann", 2, True)
    assert [id(chunk) for chunk in chunks] == [id(chunk) for chunk in CHUNKS]
    assert snapshot_of(spans.one()) == snapshot(
        {
            "name": "text_to_speech test_shapes.test_iterator_object.<locals>.speak",
            "kind": "INTERNAL",
            "status": "UNSET",
            "attributes": {
                "code.function.name": "test_shapes.test_iterator_object.<locals>.speak",
                "gen_ai.operation.name": "text_to_speech",
                "gen_ai.output.type": "speech",
                "gen_ai.provider.name": "test_shapes",
                "gen_ai.request.stream": True,
                "gen_ai.response.time_to_first_chunk": "<float>",
                "tts.audio.channels": 1,
                "tts.audio.duration": 0.5,
                "tts.audio.format": "pcm_f32le",
                "tts.audio.sample_rate": 24000,
                "tts.audio.size": 48000,
                "tts.cold_start": True,
                "tts.concurrency.max": 1,
                "tts.cpu.time": "<float>",
                "tts.cpu.utilization": "<float>",
                "tts.input.characters": 12,
                "tts.memory.burst": "<int>",
                "tts.memory.growth": "<int>",
                "tts.memory.peak": "<int>",
                "tts.memory.utilization": "<float>",
                "tts.rtf": "<float>",
                "tts.rtf.grade": "<str>",
                "tts.stream.chunks": 2,
                "tts.stream.continuous": True,
                "tts.stream.hold.duration": "<float>",
                "tts.stream.underrun.duration": "<float>",
                "tts.stream.underrun.max": "<float>",
                "tts.stream.underruns": 0,
                "tts.synthesis.duration": "<float>",
                "tts.time_to_first_audio": "<float>",
            },
            "events": [("tts.first_audio", {})],
        }
    )


class AsyncChunks:
    def __init__(self) -> None:
        self._chunks = iter(CHUNKS)

    def __aiter__(self) -> AsyncChunks:
        return self

    async def __anext__(self) -> np.ndarray:
        await asyncio.sleep(0.05)
        try:
            return next(self._chunks)
        except StopIteration:
            raise StopAsyncIteration from None


@pytest.mark.keeps_time
def test_awaitable_that_yields_an_async_iterator(spans: Spans) -> None:
    @traced_synthesis(sample_rate=RATE)
    async def speak(text: str) -> AsyncChunks:
        return AsyncChunks()

    async def consume() -> int:
        return len([chunk async for chunk in await speak(TEXT)])

    assert asyncio.run(consume()) == 2
    assert snapshot_of(spans.one()) == snapshot(
        {
            "name": "text_to_speech test_shapes.test_awaitable_that_yields_an_async_iterator.<locals>.speak",
            "kind": "INTERNAL",
            "status": "UNSET",
            "attributes": {
                "code.function.name": "test_shapes.test_awaitable_that_yields_an_async_iterator.<locals>.speak",
                "gen_ai.operation.name": "text_to_speech",
                "gen_ai.output.type": "speech",
                "gen_ai.provider.name": "test_shapes",
                "gen_ai.request.stream": True,
                "gen_ai.response.time_to_first_chunk": "<float>",
                "tts.audio.channels": 1,
                "tts.audio.duration": 0.5,
                "tts.audio.format": "pcm_f32le",
                "tts.audio.sample_rate": 24000,
                "tts.audio.size": 48000,
                "tts.cold_start": True,
                "tts.concurrency.max": 1,
                "tts.cpu.time": "<float>",
                "tts.cpu.utilization": "<float>",
                "tts.input.characters": 12,
                "tts.memory.burst": "<int>",
                "tts.memory.growth": "<int>",
                "tts.memory.peak": "<int>",
                "tts.memory.utilization": "<float>",
                "tts.rtf": "<float>",
                "tts.rtf.grade": "<str>",
                "tts.stream.chunks": 2,
                "tts.stream.continuous": True,
                "tts.stream.hold.duration": "<float>",
                "tts.stream.underrun.duration": "<float>",
                "tts.stream.underrun.max": "<float>",
                "tts.stream.underruns": 0,
                "tts.synthesis.duration": "<float>",
                "tts.time_to_first_audio": "<float>",
            },
            "events": [("tts.first_audio", {})],
        }
    )


def test_plain_function_that_returns_an_awaitable(spans: Spans) -> None:
    class Speech:
        def __await__(self) -> Any:
            yield from asyncio.sleep(0.05).__await__()
            return wav(0.25)

    @traced_synthesis
    def speak(text: str) -> Any:
        return Speech()

    async def consume() -> bytes:
        return await speak(TEXT)

    assert asyncio.run(consume()) == wav(0.25)
    assert snapshot_of(spans.one()) == snapshot(
        {
            "name": "text_to_speech test_shapes.test_plain_function_that_returns_an_awaitable.<locals>.speak",
            "kind": "INTERNAL",
            "status": "UNSET",
            "attributes": {
                "code.function.name": "test_shapes.test_plain_function_that_returns_an_awaitable.<locals>.speak",
                "gen_ai.operation.name": "text_to_speech",
                "gen_ai.output.type": "speech",
                "gen_ai.provider.name": "test_shapes",
                "gen_ai.request.stream": False,
                "tts.audio.channels": 1,
                "tts.audio.duration": 0.25,
                "tts.audio.format": "wav",
                "tts.audio.sample_rate": 24000,
                "tts.audio.size": 12044,
                "tts.cold_start": True,
                "tts.concurrency.max": 1,
                "tts.cpu.time": "<float>",
                "tts.cpu.utilization": "<float>",
                "tts.input.characters": 12,
                "tts.memory.burst": "<int>",
                "tts.memory.growth": "<int>",
                "tts.memory.peak": "<int>",
                "tts.memory.utilization": "<float>",
                "tts.rtf": "<float>",
                "tts.rtf.grade": "<str>",
                "tts.synthesis.duration": "<float>",
            },
            "events": [],
        }
    )


class Body:
    """A response body that is still to come."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)
        self.closed = False

    def read(self, size: int = -1) -> bytes:
        return self._data.read(size)

    def readinto(self, buffer: bytearray) -> int:
        return self._data.readinto(buffer)

    def __iter__(self) -> Iterator[bytes]:
        while piece := self._data.read(1000):
            yield piece

    def iter_bytes(self, size: int) -> Iterator[bytes]:
        while piece := self._data.read(size):
            yield piece

    def __enter__(self) -> Body:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self.closed = True


def _read_whole(body: Any) -> bytes:
    return body.read()


def _read_pieces(body: Any) -> bytes:
    with body as entered:
        return b"".join(iter(functools.partial(entered.read, 777), b""))


def _read_into(body: Any) -> bytes:
    buffer, data = bytearray(500), b""
    while count := body.readinto(buffer):
        data += buffer[:count]
    return data


def _iterate(body: Any) -> bytes:
    return b"".join(body)


def _iterate_by_method(body: Any) -> bytes:
    return b"".join(body.iter_bytes(900))


@pytest.mark.parametrize("read", [_read_whole, _read_pieces, _read_into, _iterate, _iterate_by_method])
def test_lazy_body(spans: Spans, read: Any) -> None:
    @traced_synthesis
    def speak(text: str) -> Body:
        return Body(wav(0.5))

    body = speak(TEXT)
    assert not spans.syntheses()
    assert isinstance(body, Body)
    assert read(body) == wav(0.5)
    attributes = spans.attributes()
    assert attributes["tts.audio.duration"] == 0.5
    assert attributes["tts.audio.format"] == "wav"
    assert attributes["tts.audio.size"] == 24044
    assert attributes["gen_ai.request.stream"] is True
    assert "tts.interrupted" not in attributes


@pytest.mark.keeps_time
def test_lazy_body_whole_span(spans: Spans) -> None:
    @traced_synthesis
    def speak(text: str) -> Body:
        time.sleep(0.05)  # beside it the consumer's own time is small, and the backend's can be told
        return Body(wav(0.5))

    speak(TEXT).read()
    assert snapshot_of(spans.one()) == snapshot(
        {
            "name": "text_to_speech test_shapes.test_lazy_body_whole_span.<locals>.speak",
            "kind": "INTERNAL",
            "status": "UNSET",
            "attributes": {
                "code.function.name": "test_shapes.test_lazy_body_whole_span.<locals>.speak",
                "gen_ai.operation.name": "text_to_speech",
                "gen_ai.output.type": "speech",
                "gen_ai.provider.name": "test_shapes",
                "gen_ai.request.stream": True,
                "gen_ai.response.time_to_first_chunk": "<float>",
                "tts.audio.channels": 1,
                "tts.audio.duration": 0.5,
                "tts.audio.format": "wav",
                "tts.audio.sample_rate": 24000,
                "tts.audio.size": 24044,
                "tts.cold_start": True,
                "tts.concurrency.max": 1,
                "tts.cpu.time": "<float>",
                "tts.cpu.utilization": "<float>",
                "tts.input.characters": 12,
                "tts.memory.burst": "<int>",
                "tts.memory.growth": "<int>",
                "tts.memory.peak": "<int>",
                "tts.memory.utilization": "<float>",
                "tts.rtf": "<float>",
                "tts.rtf.grade": "<str>",
                "tts.stream.chunks": 1,
                "tts.stream.hold.duration": "<float>",
                "tts.synthesis.duration": "<float>",
                "tts.time_to_first_audio": "<float>",
            },
            "events": [("tts.first_audio", {})],
        }
    )


def test_async_read(spans: Spans) -> None:
    class AsyncBody:
        def __init__(self) -> None:
            self._data = io.BytesIO(wav(0.5))

        async def read(self, size: int = -1) -> bytes:
            await asyncio.sleep(0.05)
            return self._data.read(size)

    @traced_synthesis
    async def speak(text: str) -> AsyncBody:
        return AsyncBody()

    async def consume() -> bytes:
        body, data = await speak(TEXT), b""
        while piece := await body.read(5000):
            data += piece
        return data

    assert asyncio.run(consume()) == wav(0.5)
    assert spans.attributes()["tts.audio.duration"] == 0.5


def test_seekable_file_is_only_looked_at(spans: Spans) -> None:
    @traced_synthesis
    def speak(text: str) -> io.BytesIO:
        file = io.BytesIO(wav(0.5))
        file.seek(100)
        return file

    file = speak(TEXT)
    assert type(file) is io.BytesIO
    assert file.tell() == 100
    assert spans.attributes()["gen_ai.request.stream"] is False


def test_concurrent_future(spans: Spans) -> None:
    with concurrent.futures.ThreadPoolExecutor() as pool:

        @traced_synthesis
        def speak(text: str) -> concurrent.futures.Future[bytes]:
            return pool.submit(wav, 0.5)

        future = speak(TEXT)
        assert type(future) is concurrent.futures.Future
        assert future.result() == wav(0.5)
    assert snapshot_of(spans.one()) == snapshot(
        {
            "name": "text_to_speech test_shapes.test_concurrent_future.<locals>.speak",
            "kind": "INTERNAL",
            "status": "UNSET",
            "attributes": {
                "code.function.name": "test_shapes.test_concurrent_future.<locals>.speak",
                "gen_ai.operation.name": "text_to_speech",
                "gen_ai.output.type": "speech",
                "gen_ai.provider.name": "test_shapes",
                "gen_ai.request.stream": False,
                "tts.audio.channels": 1,
                "tts.audio.duration": 0.5,
                "tts.audio.format": "wav",
                "tts.audio.sample_rate": 24000,
                "tts.audio.size": 24044,
                "tts.cold_start": True,
                "tts.concurrency.max": 1,
                "tts.cpu.time": "<float>",
                "tts.cpu.utilization": "<float>",
                "tts.input.characters": 12,
                "tts.memory.burst": "<int>",
                "tts.memory.growth": "<int>",
                "tts.memory.peak": "<int>",
                "tts.memory.utilization": "<float>",
                "tts.rtf": "<float>",
                "tts.rtf.grade": "<str>",
                "tts.synthesis.duration": "<float>",
            },
            "events": [],
        }
    )


def test_asyncio_future(spans: Spans) -> None:
    async def made() -> bytes:
        await asyncio.sleep(0.05)
        return wav(0.5)

    @traced_synthesis
    def speak(text: str) -> asyncio.Task[bytes]:
        return asyncio.ensure_future(made())

    async def consume() -> bytes:
        task = speak(TEXT)
        assert isinstance(task, asyncio.Task)
        return await task

    assert asyncio.run(consume()) == wav(0.5)
    assert spans.attributes()["tts.audio.duration"] == 0.5


def test_exception(spans: Spans) -> None:
    @traced_synthesis
    def speak(text: str) -> bytes:
        raise ConnectionError(f"cannot say {text}")

    with pytest.raises(ConnectionError, match="cannot say"):
        speak(TEXT)
    assert snapshot_of(spans.one()) == snapshot(
        {
            "name": "text_to_speech test_shapes.test_exception.<locals>.speak",
            "kind": "INTERNAL",
            "status": "ERROR",
            "attributes": {
                "code.function.name": "test_shapes.test_exception.<locals>.speak",
                "error.type": "ConnectionError",
                "gen_ai.operation.name": "text_to_speech",
                "gen_ai.output.type": "speech",
                "gen_ai.provider.name": "test_shapes",
                "tts.cold_start": True,
                "tts.concurrency.max": 1,
                "tts.cpu.time": "<float>",
                "tts.cpu.utilization": "<float>",
                "tts.input.characters": 12,
                "tts.memory.burst": "<int>",
                "tts.memory.growth": "<int>",
                "tts.memory.peak": "<int>",
                "tts.memory.utilization": "<float>",
                "tts.synthesis.duration": "<float>",
            },
            "events": [("exception", {"exception.stacktrace": "<str>", "exception.type": "ConnectionError"})],
        }
    )


def test_fed_by_hand(spans: Spans) -> None:
    with synthesis(
        text=TEXT, provider="acme", model="/models/acme-2.onnx", voice="ann", sample_rate=RATE, format="pcm_s16le"
    ) as s:
        s.add_text("!")
        for _ in range(3):
            s.chunk(bytes(4800))
        s.set_attribute("app.request", 7)
        s.set_attribute("app.object", object())  # type: ignore[arg-type]
    assert snapshot_of(spans.one()) == snapshot(
        {
            "name": "text_to_speech acme-2",
            "kind": "INTERNAL",
            "status": "UNSET",
            "attributes": {
                "app.request": 7,
                "gen_ai.operation.name": "text_to_speech",
                "gen_ai.output.type": "speech",
                "gen_ai.provider.name": "acme",
                "gen_ai.request.model": "acme-2",
                "gen_ai.request.stream": True,
                "gen_ai.response.time_to_first_chunk": "<float>",
                "gen_ai.speech.voice": "ann",
                "tts.audio.channels": 1,
                "tts.audio.duration": 0.3,
                "tts.audio.format": "pcm_s16le",
                "tts.audio.sample_rate": 24000,
                "tts.audio.size": 14400,
                "tts.concurrency.max": 1,
                "tts.cpu.time": "<float>",
                "tts.cpu.utilization": "<float>",
                "tts.input.characters": 13,
                "tts.memory.burst": "<int>",
                "tts.memory.growth": "<int>",
                "tts.memory.peak": "<int>",
                "tts.memory.utilization": "<float>",
                "tts.rtf": "<float>",
                "tts.rtf.grade": "<str>",
                "tts.stream.chunks": 3,
                "tts.stream.continuous": True,
                "tts.stream.underrun.duration": "<float>",
                "tts.stream.underrun.max": "<float>",
                "tts.stream.underruns": 0,
                "tts.synthesis.duration": "<float>",
            },
            "events": [("tts.first_chunk", {})],
        }
    )


def test_reported_from_inside(spans: Spans) -> None:
    @traced_synthesis(sample_rate=RATE)
    def speak_aloud(text: str) -> None:
        for chunk in CHUNKS:
            synthesis.current().chunk(chunk)

    assert speak_aloud(TEXT) is None
    assert snapshot_of(spans.one()) == snapshot(
        {
            "name": "text_to_speech test_shapes.test_reported_from_inside.<locals>.speak_aloud",
            "kind": "INTERNAL",
            "status": "UNSET",
            "attributes": {
                "code.function.name": "test_shapes.test_reported_from_inside.<locals>.speak_aloud",
                "gen_ai.operation.name": "text_to_speech",
                "gen_ai.output.type": "speech",
                "gen_ai.provider.name": "test_shapes",
                "gen_ai.request.stream": True,
                "gen_ai.response.time_to_first_chunk": "<float>",
                "tts.audio.channels": 1,
                "tts.audio.duration": 0.5,
                "tts.audio.format": "pcm_f32le",
                "tts.audio.sample_rate": 24000,
                "tts.audio.size": 48000,
                "tts.cold_start": True,
                "tts.concurrency.max": 1,
                "tts.cpu.time": "<float>",
                "tts.cpu.utilization": "<float>",
                "tts.input.characters": 12,
                "tts.memory.burst": "<int>",
                "tts.memory.growth": "<int>",
                "tts.memory.peak": "<int>",
                "tts.memory.utilization": "<float>",
                "tts.rtf": "<float>",
                "tts.rtf.grade": "<str>",
                "tts.stream.chunks": 2,
                "tts.stream.continuous": True,
                "tts.stream.underrun.duration": "<float>",
                "tts.stream.underrun.max": "<float>",
                "tts.stream.underruns": 0,
                "tts.synthesis.duration": "<float>",
                "tts.time_to_first_audio": "<float>",
            },
            "events": [("tts.first_audio", {})],
        }
    )


def test_file_that_the_call_wrote(spans: Spans, tmp_path: Any) -> None:
    @traced_synthesis
    def speak_to(text: str, path: str) -> None:
        with open(path, "wb") as file:
            file.write(wav(0.5))

    speak_to(TEXT, str(tmp_path / "out.wav"))
    assert snapshot_of(spans.one()) == snapshot(
        {
            "name": "text_to_speech test_shapes.test_file_that_the_call_wrote.<locals>.speak_to",
            "kind": "INTERNAL",
            "status": "UNSET",
            "attributes": {
                "code.function.name": "test_shapes.test_file_that_the_call_wrote.<locals>.speak_to",
                "gen_ai.operation.name": "text_to_speech",
                "gen_ai.output.type": "speech",
                "gen_ai.provider.name": "test_shapes",
                "gen_ai.request.stream": False,
                "tts.audio.channels": 1,
                "tts.audio.duration": 0.5,
                "tts.audio.format": "wav",
                "tts.audio.sample_rate": 24000,
                "tts.audio.size": 24044,
                "tts.cold_start": True,
                "tts.concurrency.max": 1,
                "tts.cpu.time": "<float>",
                "tts.cpu.utilization": "<float>",
                "tts.input.characters": 12,
                "tts.memory.burst": "<int>",
                "tts.memory.growth": "<int>",
                "tts.memory.peak": "<int>",
                "tts.memory.utilization": "<float>",
                "tts.rtf": "<float>",
                "tts.rtf.grade": "<str>",
                "tts.synthesis.duration": "<float>",
            },
            "events": [],
        }
    )


class Engine:
    sample_rate = RATE

    @traced_synthesis
    def method(self, text: str) -> np.ndarray:
        return tone(0.1)

    @traced_synthesis
    @classmethod
    def of_class(cls, text: str) -> np.ndarray:
        return tone(0.1)

    @classmethod
    @traced_synthesis
    def of_class_inside(cls, text: str) -> np.ndarray:
        return tone(0.1)

    @traced_synthesis
    @staticmethod
    def static(text: str) -> np.ndarray:
        return tone(0.1)

    @staticmethod
    @traced_synthesis
    def static_inside(text: str) -> np.ndarray:
        return tone(0.1)

    def __call__(self, text: str, volume: float = 1.0) -> np.ndarray:
        return tone(0.1)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: Engine().method(TEXT), "test_shapes.Engine.method"),
        (lambda: Engine.method(Engine(), TEXT), "test_shapes.Engine.method"),
        (lambda: Engine.of_class(TEXT), "test_shapes.Engine.of_class"),
        (lambda: Engine().of_class_inside(TEXT), "test_shapes.Engine.of_class_inside"),
        (lambda: Engine.static(TEXT), "test_shapes.Engine.static"),
        (lambda: Engine().static_inside(TEXT), "test_shapes.Engine.static_inside"),
        (lambda: traced_synthesis(Engine())(TEXT), "test_shapes.Engine"),
        (lambda: traced_synthesis(functools.partial(Engine(), volume=0.5))(TEXT), "test_shapes.Engine"),
        (lambda: traced_synthesis(Engine().__call__)(TEXT), "test_shapes.Engine.__call__"),
    ],
)
def test_kinds_of_callables(spans: Spans, call: Any, name: str) -> None:
    assert len(call()) == 2400
    attributes = spans.attributes()
    assert attributes["code.function.name"] == name
    assert attributes["gen_ai.provider.name"] == "Engine"
    assert attributes["tts.input.characters"] == len(TEXT)
