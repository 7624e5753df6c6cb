"""The openai SDK itself against a local server: one CLIENT span, by whichever of its many doors."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from audio_samples import RATE, pcm16, tone, wav
from conftest import Spans
from opentelemetry.trace import SpanKind, StatusCode
from speech_server import SpeechServer, serving

import ttstrace

openai = pytest.importorskip("openai")

SAID = {"input": "Hello there.", "model": "gpt-4o-mini-tts", "voice": "coral"}
PIECES = 5
DELAY = 0.06  # seconds before each piece


@pytest.fixture(autouse=True)
def instrumented() -> Iterator[None]:
    assert ttstrace.instrument("openai") == ["openai"]
    yield
    ttstrace.uninstrument()


@pytest.fixture
def service() -> Iterator[SpeechServer]:
    service = SpeechServer()
    whole = wav(pcm16(tone(24_000)))
    size = len(whole) // PIECES + 1
    service.pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
    service.delay = DELAY
    with serving(service):
        yield service


@pytest.fixture
def client(service: SpeechServer) -> Any:
    return openai.OpenAI(base_url=f"{service.url}/v1", api_key="no", max_retries=0)


@pytest.fixture
def async_client(service: SpeechServer) -> Any:
    return openai.AsyncOpenAI(base_url=f"{service.url}/v1", api_key="no", max_retries=0)


def _check(spans: Spans, service: SpeechServer, streamed: bool, seconds: float | None = 1.0) -> dict[str, Any]:
    span = spans.one()
    attributes = dict(span.attributes or {})
    assert len(service.requests) == 1
    assert span.name == "text_to_speech gpt-4o-mini-tts"
    assert span.kind is SpanKind.CLIENT
    assert span.status.status_code is StatusCode.UNSET
    assert attributes["gen_ai.provider.name"] == "openai"
    assert attributes["gen_ai.request.model"] == "gpt-4o-mini-tts"
    assert attributes["gen_ai.speech.voice"] == "coral"
    assert attributes["tts.input.characters"] == 12
    assert attributes["server.address"] == "127.0.0.1"
    assert attributes["server.port"] == service.port
    assert attributes["gen_ai.request.stream"] is streamed
    assert attributes.get("tts.audio.duration") == seconds
    assert "tts.device" not in attributes
    assert "tts.cold_start" not in attributes
    assert "tts.synthesis.duration" in attributes
    took = attributes["tts.synthesis.duration"]
    assert PIECES * DELAY <= took <= PIECES * DELAY + 2.0
    if streamed:
        assert DELAY <= attributes["gen_ai.response.time_to_first_chunk"] <= took - DELAY
    return attributes


def test_whole(spans: Spans, service: SpeechServer, client: Any) -> None:
    response = client.audio.speech.create(**SAID)
    assert type(response) is openai._legacy_response.HttpxBinaryResponseContent
    assert response.read() == response.content == b"".join(service.pieces)
    attributes = _check(spans, service, streamed=False)
    assert attributes["tts.audio.format"] == "wav"
    assert attributes["tts.audio.sample_rate"] == RATE
    assert json.loads(service.requests[0][2])["input"] == "Hello there."


def test_whole_async(spans: Spans, service: SpeechServer, async_client: Any) -> None:
    async def speak() -> Any:
        return await async_client.audio.speech.create(**SAID)

    assert asyncio.run(speak()).content == b"".join(service.pieces)
    _check(spans, service, streamed=False)


def test_raw_response(spans: Spans, service: SpeechServer, client: Any) -> None:
    raw = client.audio.speech.with_raw_response.create(**SAID)
    assert raw.headers["content-type"] == "audio/wav"
    assert raw.parse().content == b"".join(service.pieces)
    _check(spans, service, streamed=False)


def _iter_bytes(response: Any, tmp_path: Path) -> bytes:
    return b"".join(response.iter_bytes(1000))


def _read(response: Any, tmp_path: Path) -> bytes:
    return bytes(response.read())


def _to_file(response: Any, tmp_path: Path) -> bytes:
    response.stream_to_file(tmp_path / "speech.wav")
    return (tmp_path / "speech.wav").read_bytes()


def _parse(response: Any, tmp_path: Path) -> bytes:
    return bytes(response.parse())


@pytest.mark.keeps_time
@pytest.mark.parametrize("read", [_iter_bytes, _read, _to_file, _parse])
def test_streamed(spans: Spans, service: SpeechServer, client: Any, tmp_path: Path, read: Any) -> None:
    with client.audio.speech.with_streaming_response.create(**SAID) as response:
        assert not spans.syntheses()
        assert isinstance(response, openai._response.StreamedBinaryAPIResponse)
        assert read(response, tmp_path) == b"".join(service.pieces)
    attributes = _check(spans, service, streamed=True)
    assert attributes["tts.stream.chunks"] == PIECES
    assert "tts.interrupted" not in attributes


@pytest.mark.keeps_time
@pytest.mark.parametrize("read", ["iter_bytes", "read", "stream_to_file"])
def test_streamed_async(spans: Spans, service: SpeechServer, async_client: Any, tmp_path: Path, read: str) -> None:
    async def speak() -> bytes:
        async with async_client, async_client.audio.speech.with_streaming_response.create(**SAID) as response:
            assert not spans.syntheses()
            if read == "iter_bytes":
                return b"".join([piece async for piece in response.iter_bytes()])
            if read == "read":
                return bytes(await response.read())
            await response.stream_to_file(tmp_path / "speech.wav")
            return (tmp_path / "speech.wav").read_bytes()

    assert asyncio.run(speak()) == b"".join(service.pieces)
    if read == "stream_to_file":  # writing is the consumer's time, and may take too much of it for the service's
        assert spans.attributes()["tts.stream.chunks"] == PIECES
        assert spans.attributes()["tts.audio.duration"] == 1.0
    else:
        assert _check(spans, service, streamed=True)["tts.stream.chunks"] == PIECES


def test_a_consumer_that_takes_its_time_is_told_from_the_service(
    spans: Spans, service: SpeechServer, client: Any
) -> None:
    with client.audio.speech.with_streaming_response.create(**SAID) as response:
        for _ in response.iter_bytes():
            time.sleep(3 * DELAY)
    attributes = spans.attributes()
    assert attributes["tts.stream.hold.duration"] >= 3 * DELAY * (PIECES - 1)
    # What the service did meanwhile cannot be known.
    assert "tts.synthesis.duration" not in attributes
    assert "tts.rtf" not in attributes
    assert DELAY <= attributes["gen_ai.response.time_to_first_chunk"] < PIECES * DELAY


def test_left_half_way(spans: Spans, service: SpeechServer, client: Any) -> None:
    with client.audio.speech.with_streaming_response.create(**SAID) as response:
        next(iter(response.iter_bytes()))
    attributes = spans.attributes()
    assert attributes["tts.interrupted"] is True
    assert attributes["tts.stream.chunks"] == 1
    assert 0 < attributes["tts.audio.duration"] < 0.5


def test_raw_samples(spans: Spans, service: SpeechServer, client: Any) -> None:
    samples = pcm16(tone(12_000))
    service.pieces, service.content_type = [samples[:9000], samples[9000:]], "audio/pcm"
    client.audio.speech.create(**SAID, response_format="pcm")
    attributes = spans.attributes()
    assert attributes["tts.audio.duration"] == 0.5
    assert attributes["tts.audio.format"] == "pcm_s16le"
    assert attributes["tts.audio.sample_rate"] == 24_000


@pytest.mark.parametrize("streamed", [False, True])
def test_raw_samples_that_are_compressed_on_the_way(
    spans: Spans, service: SpeechServer, client: Any, streamed: bool
) -> None:
    """What the stream carries then is no samples: they are known where the answer was read whole, and decoded."""
    samples = pcm16(tone(12_000))
    service.pieces, service.headers = [gzip.compress(samples)], {"Content-Encoding": "gzip"}
    if streamed:
        with client.audio.speech.with_streaming_response.create(**SAID, response_format="pcm") as response:
            assert response.read() == samples
    else:
        assert client.audio.speech.create(**SAID, response_format="pcm").content == samples
    assert spans.attributes().get("tts.audio.duration") == (None if streamed else 0.5)


def test_nothing_came(spans: Spans, service: SpeechServer, client: Any) -> None:
    service.pieces = []
    client.audio.speech.create(**SAID, response_format="pcm")
    attributes = spans.attributes()
    assert attributes["tts.audio.duration"] == 0.0
    assert "tts.rtf" not in attributes


@pytest.mark.parametrize("streamed", [False, True])
def test_too_many_requests(spans: Spans, service: SpeechServer, client: Any, streamed: bool) -> None:
    service.status, service.pieces, service.content_type = (
        429,
        [b'{"error": {"message": "slow down"}}'],
        "application/json",
    )
    with pytest.raises(openai.RateLimitError):
        if streamed:
            with client.audio.speech.with_streaming_response.create(**SAID):
                pass
        else:
            client.audio.speech.create(**SAID)
    span = spans.one()
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "openai.RateLimitError"
    assert "slow down" not in span.to_json()


def test_originals_are_put_back() -> None:
    ttstrace.uninstrument()
    from openai.resources.audio.speech import AsyncSpeech, Speech

    before = vars(Speech)["create"], vars(AsyncSpeech)["create"]
    ttstrace.instrument("openai")
    assert vars(Speech)["create"] is not before[0]
    ttstrace.uninstrument("openai")
    assert (vars(Speech)["create"], vars(AsyncSpeech)["create"]) == before
    assert vars(Speech)["create"] is before[0]
