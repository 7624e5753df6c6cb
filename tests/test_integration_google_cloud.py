"""google-cloud-texttospeech over gRPC, against a local server that speaks the protocol: streams, and async."""

from __future__ import annotations

import asyncio
import gc
import queue
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from conftest import Spans
from opentelemetry.trace import SpanKind, StatusCode

import ttstrace

texttospeech = pytest.importorskip("google.cloud.texttospeech_v1")
grpc = pytest.importorskip("grpc")

import google_cloud_server as server  # noqa: E402 - it needs them
from google_cloud_server import ASKED, SAMPLES, GoogleCloudService, serving  # noqa: E402

PIECES = 4
DELAY = 0.08  # seconds before each piece


@pytest.fixture(autouse=True)
def instrumented() -> Iterator[None]:
    assert ttstrace.instrument("google_cloud") == ["google_cloud"]
    yield
    ttstrace.uninstrument()


@pytest.fixture
def service() -> Iterator[GoogleCloudService]:
    with serving(PIECES, DELAY) as service:
        yield service


@pytest.fixture
def received(service: GoogleCloudService) -> list[Any]:
    """What the server was sent by streams, as it came."""
    return service.received


@pytest.fixture
def address(service: GoogleCloudService) -> str:
    return service.address


async def _async(requests: list[Any]) -> AsyncIterator[Any]:
    for each in requests:
        yield each


def _check(spans: Spans, address: str, streamed: bool, took: float) -> None:
    span = spans.one()
    attributes = dict(span.attributes or {})
    assert span.kind is SpanKind.CLIENT
    assert span.status.status_code is StatusCode.UNSET
    assert f"{attributes['server.address']}:{attributes['server.port']}" == address
    assert attributes["gen_ai.request.stream"] is streamed
    assert "tts.synthesis.duration" in attributes
    assert PIECES * DELAY <= attributes["tts.synthesis.duration"] <= took
    if streamed:
        assert attributes["tts.stream.chunks"] == PIECES
        assert DELAY <= attributes["gen_ai.response.time_to_first_chunk"] <= took - DELAY
        assert span.name == "text_to_speech chirp"
        assert attributes["gen_ai.request.model"] == "chirp"
        assert 0 <= attributes["tts.input.wait.duration"] <= took - PIECES * DELAY
    assert attributes["tts.audio.duration"] == 1.0
    assert attributes["tts.audio.sample_rate"] == 24_000
    assert attributes["tts.audio.format"] == "pcm_s16le"
    assert attributes["tts.input.characters"] == 12
    assert attributes["tts.input.type"] == "text"
    assert attributes["gen_ai.speech.voice"] == "en-US-Chirp3-HD-Kore"
    assert attributes["tts.language"] == "en-US"


def test_whole(spans: Spans, address: str) -> None:
    client = server.client(address)
    begun = time.perf_counter()
    assert client.synthesize_speech(**ASKED).audio_content == SAMPLES
    _check(spans, address, False, time.perf_counter() - begun)


@pytest.mark.keeps_time
def test_stream(spans: Spans, address: str, received: list[Any]) -> None:
    client = server.client(address)
    begun = time.perf_counter()
    heard = [each.audio_content for each in client.streaming_synthesize(iter(server.requests()))]
    assert b"".join(heard) == SAMPLES
    _check(spans, address, True, time.perf_counter() - begun)
    assert received == server.requests()


def test_whole_async(spans: Spans, address: str) -> None:
    async def speak() -> bytes:
        return bytes((await server.async_client(address).synthesize_speech(**ASKED)).audio_content)

    begun = time.perf_counter()
    assert asyncio.run(speak()) == SAMPLES
    _check(spans, address, False, time.perf_counter() - begun)


@pytest.mark.keeps_time
def test_stream_async(spans: Spans, address: str, received: list[Any]) -> None:
    async def speak() -> bytes:
        stream = await server.async_client(address).streaming_synthesize(_async(server.requests()))
        return b"".join([each.audio_content async for each in stream])

    begun = time.perf_counter()
    assert asyncio.run(speak()) == SAMPLES
    _check(spans, address, True, time.perf_counter() - begun)
    assert received == server.requests()


@pytest.mark.parametrize(
    ("audio", "format", "rate", "seconds"),
    [
        ({"audio_encoding": "PCM", "sample_rate_hertz": 16_000}, "pcm_s16le", 16_000, 1.5),
        ({"audio_encoding": "MULAW", "sample_rate_hertz": 8_000}, "pcm_mulaw", 8_000, 6.0),
        ({"audio_encoding": "ALAW", "sample_rate_hertz": 24_000}, "pcm_alaw", 24_000, 2.0),
        ({"audio_encoding": "PCM"}, "pcm_s16le", None, None),  # at the voice's own rate, whichever that is
        ({"audio_encoding": "OGG_OPUS"}, None, None, None),  # it would say itself
        ({"speaking_rate": 2.0}, "pcm_s16le", 24_000, 1.0),
    ],
)
@pytest.mark.parametrize("way", ["sync", "async", "list"])
def test_what_a_stream_is_asked_for(
    spans: Spans, address: str, audio: dict[str, Any], format: str, rate: int | None, seconds: float | None, way: str
) -> None:
    async def speak() -> bytes:
        requests = server.requests(audio)
        stream = await server.async_client(address).streaming_synthesize(
            requests if way == "list" else _async(requests)
        )
        return b"".join([each.audio_content async for each in stream])

    if way == "sync":
        assert (
            b"".join(
                each.audio_content for each in server.client(address).streaming_synthesize(iter(server.requests(audio)))
            )
            == SAMPLES
        )
    else:
        assert asyncio.run(speak()) == SAMPLES
    attributes = spans.attributes()
    assert attributes["tts.input.characters"] == 12
    assert attributes["gen_ai.speech.voice"] == "en-US-Chirp3-HD-Kore"
    assert attributes.get("tts.audio.format") == format
    assert attributes.get("tts.audio.sample_rate") == rate
    assert attributes.get("tts.audio.duration") == seconds
    assert ("tts.rtf" in attributes) is (seconds is not None)


def test_text_that_waits_for_the_audio_before(spans: Spans, address: str, received: list[Any]) -> None:
    """The program's iterator is asked no sooner than the library asks it."""
    heard: queue.Queue[bytes] = queue.Queue()

    def requests() -> Iterator[Any]:
        yield from server.requests()[:1]
        for text in ("now: one", "now: two"):
            yield texttospeech.StreamingSynthesizeRequest(input={"text": text})
            assert heard.get(timeout=60)

    for each in server.client(address).streaming_synthesize(requests()):
        heard.put(each.audio_content)
    assert [each.input.text for each in received] == ["", "now: one", "now: two"]
    attributes = spans.attributes()
    assert attributes["tts.input.characters"] == 16
    assert attributes["tts.audio.duration"] == 0.5


@pytest.mark.parametrize("given", [{"markup": "Hello [pause] you."}, {"prompt": "hush", "text": "Hello [pause] you."}])
def test_other_inputs_of_a_stream(spans: Spans, address: str, given: dict[str, str]) -> None:
    requests = [server.requests()[0], texttospeech.StreamingSynthesizeRequest(input=given)]
    assert len(list(server.client(address).streaming_synthesize(iter(requests)))) == PIECES
    assert spans.attributes()["tts.input.characters"] == 18


def test_dialogue(spans: Spans, address: str) -> None:
    turns = [{"speaker": "R", "text": "Hello."}, {"speaker": "S", "text": "Oh, you."}]
    asked = {**ASKED, "input": {"multi_speaker_markup": {"turns": turns}}}
    assert server.client(address).synthesize_speech(request=texttospeech.SynthesizeSpeechRequest(asked)).audio_content
    assert server.client(address).synthesize_speech(request=asked).audio_content
    assert [(each.attributes or {})["tts.input.characters"] for each in spans.syntheses()] == [14, 14]


def test_stream_left_half_way(spans: Spans, address: str) -> None:
    stream = server.client(address).streaming_synthesize(iter(server.requests()))
    next(iter(stream))
    stream.cancel()
    del stream
    gc.collect()
    attributes = spans.attributes()
    assert attributes["tts.interrupted"] is True
    assert attributes["tts.audio.duration"] == 0.25
    assert attributes["gen_ai.speech.voice"] == "en-US-Chirp3-HD-Kore"
    assert spans.one().name == "text_to_speech chirp"


def test_stream_refused(spans: Spans, address: str) -> None:
    from google.api_core.exceptions import ResourceExhausted

    refused = texttospeech.StreamingSynthesizeRequest(input={"text": "refused"})
    with pytest.raises(ResourceExhausted):
        list(server.client(address).streaming_synthesize(iter([*server.requests(), refused])))
    span = spans.one()
    attributes = dict(span.attributes or {})
    assert attributes["error.type"] == "google.api_core.exceptions.ResourceExhausted"
    assert attributes["tts.input.characters"] == 19
    assert attributes["gen_ai.speech.voice"] == "en-US-Chirp3-HD-Kore"
    assert "refused" not in span.to_json()


def test_refused(spans: Spans, address: str) -> None:
    from google.api_core.exceptions import ResourceExhausted

    with pytest.raises(ResourceExhausted):
        server.client(address).synthesize_speech(**{**ASKED, "input": {"text": "refused"}})
    span = spans.one()
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "google.api_core.exceptions.ResourceExhausted"
    assert "refused" not in span.to_json()
