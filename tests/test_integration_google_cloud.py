"""google-cloud-texttospeech over gRPC, against a local server that speaks the protocol: streams, and async."""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from audio_samples import pcm16, tone
from conftest import Spans
from opentelemetry.trace import SpanKind, StatusCode

import ttstrace

texttospeech = pytest.importorskip("google.cloud.texttospeech_v1")
grpc = pytest.importorskip("grpc")


PIECES = 4
DELAY = 0.08  # seconds before each piece
SAMPLES = pcm16(tone(24_000))
SERVICE = "google.cloud.texttospeech.v1.TextToSpeech"


@pytest.fixture(autouse=True)
def instrumented() -> Iterator[None]:
    assert ttstrace.instrument("google_cloud") == ["google_cloud"]
    yield
    ttstrace.uninstrument()


@pytest.fixture
def address() -> Iterator[str]:
    """Of a server that answers every text with one second, or a quarter of it in each of four responses."""

    def whole(request: bytes, context: Any) -> bytes:
        text = texttospeech.SynthesizeSpeechRequest.deserialize(request).input.text
        if text == "refused":
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"quota, for {text}")
        time.sleep(PIECES * DELAY)
        return bytes(texttospeech.SynthesizeSpeechResponse.serialize({"audio_content": SAMPLES}))

    def stream(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        for _ in requests:
            pass
        size = len(SAMPLES) // PIECES
        for at in range(0, len(SAMPLES), size):
            time.sleep(DELAY)
            answer = {"audio_content": SAMPLES[at : at + size]}
            yield bytes(texttospeech.StreamingSynthesizeResponse.serialize(answer))

    methods = {
        "SynthesizeSpeech": grpc.unary_unary_rpc_method_handler(whole),
        "StreamingSynthesize": grpc.stream_stream_rpc_method_handler(stream),
    }
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool)
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, methods)])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield f"127.0.0.1:{port}"
        server.stop(None)


def _client(address: str) -> Any:
    from google.cloud.texttospeech_v1.services.text_to_speech.transports import TextToSpeechGrpcTransport

    transport = TextToSpeechGrpcTransport(channel=grpc.insecure_channel(address), credentials=None, host=address)
    return texttospeech.TextToSpeechClient(transport=transport)


def _async_client(address: str) -> Any:
    from google.cloud.texttospeech_v1.services.text_to_speech.transports import TextToSpeechGrpcAsyncIOTransport

    transport = TextToSpeechGrpcAsyncIOTransport(channel=grpc.aio.insecure_channel(address), host=address)
    return texttospeech.TextToSpeechAsyncClient(transport=transport)


ASKED = {
    "input": {"text": "Hello there."},
    "voice": {"name": "en-US-Chirp3-HD-Kore", "language_code": "en-US"},
    "audio_config": {"audio_encoding": "PCM", "sample_rate_hertz": 24_000},
}


def _requests() -> list[Any]:
    configuration = {"voice": {"name": "en-US-Chirp3-HD-Kore", "language_code": "en-US"}}
    texts = [{"input": {"text": text}} for text in ("Hello ", "there.")]
    every = [{"streaming_config": configuration}, *texts]
    return [texttospeech.StreamingSynthesizeRequest(each) for each in every]


async def _arequests() -> AsyncIterator[Any]:
    for each in _requests():
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
        assert "tts.input.characters" not in attributes
        # Samples, A-law or mu-law at any rate: only the requests tell.
        assert attributes["tts.audio.size"] == len(SAMPLES)
        assert not {"tts.audio.duration", "tts.audio.format", "tts.audio.sample_rate", "tts.rtf"} & attributes.keys()
    else:
        assert attributes["tts.audio.duration"] == 1.0
        assert attributes["tts.audio.format"] == "pcm_s16le"
        assert attributes["tts.input.characters"] == 12
        assert attributes["gen_ai.speech.voice"] == "en-US-Chirp3-HD-Kore"
        assert attributes["tts.language"] == "en-US"


def test_whole(spans: Spans, address: str) -> None:
    client = _client(address)
    begun = time.perf_counter()
    assert client.synthesize_speech(**ASKED).audio_content == SAMPLES
    _check(spans, address, False, time.perf_counter() - begun)


@pytest.mark.keeps_time
def test_stream(spans: Spans, address: str) -> None:
    client = _client(address)
    begun = time.perf_counter()
    heard = [each.audio_content for each in client.streaming_synthesize(iter(_requests()))]
    assert b"".join(heard) == SAMPLES
    _check(spans, address, True, time.perf_counter() - begun)


def test_whole_async(spans: Spans, address: str) -> None:
    async def speak() -> bytes:
        return bytes((await _async_client(address).synthesize_speech(**ASKED)).audio_content)

    begun = time.perf_counter()
    assert asyncio.run(speak()) == SAMPLES
    _check(spans, address, False, time.perf_counter() - begun)


@pytest.mark.keeps_time
def test_stream_async(spans: Spans, address: str) -> None:
    async def speak() -> bytes:
        stream = await _async_client(address).streaming_synthesize(_arequests())
        return b"".join([each.audio_content async for each in stream])

    begun = time.perf_counter()
    assert asyncio.run(speak()) == SAMPLES
    _check(spans, address, True, time.perf_counter() - begun)


def test_refused(spans: Spans, address: str) -> None:
    from google.api_core.exceptions import ResourceExhausted

    with pytest.raises(ResourceExhausted):
        _client(address).synthesize_speech(**{**ASKED, "input": {"text": "refused"}})
    span = spans.one()
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "google.api_core.exceptions.ResourceExhausted"
    assert "refused" not in span.to_json()
