"""SDKs of speech services, untouched, against a local server: what holds for each of them, by each of their doors."""

from __future__ import annotations

import asyncio
import base64
import gc
import importlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from audio_samples import pcm16, tone, wav
from conftest import Spans
from opentelemetry.trace import SpanKind, StatusCode
from speech_server import SpeechServer, serving

import ttstrace

TEXT = "Hello there."
PIECES = 4
DELAY = 0.08  # seconds before each piece
AUDIO = wav(pcm16(tone(24_000)))


@dataclass
class Door:
    """One way in which a program has an SDK synthesize."""

    backend: str
    name: str
    module: str
    speak: Callable[[str], Any]
    """Synthesizes by the service at a URL, and gives the audio as bytes: an iterator of them for a stream."""
    streamed: bool
    told: dict[str, Any] = field(default_factory=dict)
    pieces: Callable[[list[bytes]], list[bytes]] = lambda pieces: pieces
    """The answer's body for pieces of audio."""
    headers: dict[str, str] = field(default_factory=dict)
    audio: bytes = AUDIO
    content_type: str = "audio/wav"

    @property
    def id(self) -> str:
        return f"{self.backend}-{self.name}"


def _run(stream: Any) -> Iterator[bytes]:
    """An async generator from sync code, piece by piece."""
    with asyncio.Runner() as runner:
        try:
            while True:
                try:
                    yield runner.run(anext(stream))
                except StopAsyncIteration:
                    return
        finally:
            runner.run(stream.aclose())


# --- the SDKs ----------------------------------------------------------------------------------------------------


def _groq(url: str) -> bytes:
    import groq

    client = groq.Groq(base_url=url, api_key="no", max_retries=0)
    return bytes(client.audio.speech.create(input=TEXT, model="orpheus", voice="troy", response_format="wav").read())


def _groq_stream(url: str) -> Iterator[bytes]:
    import groq

    client = groq.Groq(base_url=url, api_key="no", max_retries=0)
    speech = client.audio.speech.with_streaming_response
    with speech.create(input=TEXT, model="orpheus", voice="troy", response_format="wav") as response:
        yield from response.iter_bytes()


_CARTESIA = {
    "model_id": "sonic-3",
    "transcript": TEXT,
    "voice": {"mode": "id", "id": "v1"},
    "language": "ko",
    "output_format": {"container": "wav", "encoding": "pcm_s16le", "sample_rate": 24_000},
}


def _cartesia(url: str) -> bytes:
    import cartesia

    return bytes(cartesia.Cartesia(base_url=url, api_key="no", max_retries=0).tts.generate(**_CARTESIA).read())


def _cartesia_stream(url: str) -> Iterator[bytes]:
    import cartesia

    client = cartesia.Cartesia(base_url=url, api_key="no", max_retries=0)
    with client.tts.with_streaming_response.generate(**_CARTESIA) as response:
        yield from response.iter_bytes()


_ELEVENLABS = {
    "voice_id": "v1", "text": TEXT, "model_id": "eleven_v3", "output_format": "wav_24000", "language_code": "ko",
}  # fmt: skip


def _elevenlabs_client(url: str) -> Any:
    import elevenlabs

    return elevenlabs.ElevenLabs(base_url=url, api_key="no").text_to_speech


def _elevenlabs_timestamps(url: str) -> bytes:
    return base64.b64decode(_elevenlabs_client(url).convert_with_timestamps(**_ELEVENLABS).audio_base_64)


def _elevenlabs_stream_timestamps(url: str) -> Iterator[bytes]:
    for chunk in _elevenlabs_client(url).stream_with_timestamps(**_ELEVENLABS):
        yield base64.b64decode(chunk.audio_base_64)


def _elevenlabs_async(url: str) -> Iterator[bytes]:
    import elevenlabs

    client = elevenlabs.AsyncElevenLabs(base_url=url, api_key="no")
    return _run(client.text_to_speech.stream(**_ELEVENLABS))


def _timestamped(pieces: list[bytes]) -> list[bytes]:
    return [json.dumps({"audio_base64": base64.b64encode(piece).decode()}).encode() + b"\n" for piece in pieces]


def _deepgram_environment(url: str) -> Any:
    from deepgram.environment import DeepgramClientEnvironment

    return DeepgramClientEnvironment(base=url, production=url, agent=url, agent_rest=url)


def _deepgram(url: str) -> Iterator[bytes]:
    import deepgram

    client = deepgram.DeepgramClient(api_key="no", environment=_deepgram_environment(url))
    return iter(client.speak.v1.audio.generate(text=TEXT, model="aura-2", encoding="linear16", sample_rate=24_000))


def _deepgram_async(url: str) -> Iterator[bytes]:
    import deepgram

    client = deepgram.AsyncDeepgramClient(api_key="no", environment=_deepgram_environment(url))
    return _run(client.speak.v1.audio.generate(text=TEXT, model="aura-2", encoding="linear16", sample_rate=24_000))


def _typecast(url: str) -> bytes:
    import typecast

    client = typecast.Typecast(host=url, api_key="no")
    request = typecast.models.TTSRequest(voice_id="v1", text=TEXT, model="ssfm-v30", language="kor")
    return bytes(client.text_to_speech(request).audio_data)


def _typecast_stream(url: str) -> Iterator[bytes]:
    import typecast

    client = typecast.Typecast(host=url, api_key="no")
    request = typecast.models.TTSRequestStream(voice_id="v1", text=TEXT, model="ssfm-v30", language="kor")
    return iter(client.text_to_speech_stream(request))


_SUPERTONE = {"voice_id": "v1", "text": TEXT, "language": "ko", "model": "sona_speech_2"}


def _supertone_client(url: str) -> Any:
    import supertone

    return supertone.Supertone(api_key="no", server_url=url)  # its connections end when it is dropped


def _supertone(url: str) -> Iterator[bytes]:
    client = _supertone_client(url)
    yield client.text_to_speech.create_speech(**_SUPERTONE).result.read()


def _supertone_phonemes(url: str) -> bytes:
    client = _supertone_client(url)
    said = client.text_to_speech.create_speech(**_SUPERTONE, include_phonemes=True)
    return base64.b64decode(said.result.audio_base64)


def _supertone_stream(url: str) -> Iterator[bytes]:
    client = _supertone_client(url)
    response = client.text_to_speech.stream_speech(**_SUPERTONE).result
    try:
        yield from response.iter_bytes()
    finally:
        response.close()


def _supertone_async(url: str) -> Iterator[bytes]:
    async def speak() -> bytes:
        client = _supertone_client(url)
        said = await client.text_to_speech.create_speech_async(**_SUPERTONE)
        return bytes(said.result.content)

    yield asyncio.run(speak())


def _supertone_stream_async(url: str) -> Iterator[bytes]:
    async def speak() -> Any:
        client = _supertone_client(url)
        said = await client.text_to_speech.stream_speech_async(**_SUPERTONE)
        try:
            async for piece in said.result.aiter_bytes():
                yield piece
        finally:
            await said.result.aclose()

    return _run(speak())


def _supertone_says(pieces: list[bytes]) -> list[bytes]:
    return [json.dumps({"audio_base64": base64.b64encode(b"".join(pieces)).decode()}).encode()]


_POLLY = {
    "Text": TEXT, "VoiceId": "Seoyeon", "Engine": "neural", "LanguageCode": "ko-KR", "OutputFormat": "pcm",
    "SampleRate": "16000",
}  # fmt: skip


_AWS = {"region_name": "us-east-1", "aws_access_key_id": "no", "aws_secret_access_key": "no"}


def _once() -> Any:
    """No retries."""
    from botocore.config import Config

    return Config(retries={"total_max_attempts": 1})


def _polly_client(url: str) -> Any:
    import boto3

    return boto3.client("polly", endpoint_url=url, config=_once(), **_AWS)


def _polly_read(url: str) -> Iterator[bytes]:
    yield _polly_client(url).synthesize_speech(**_POLLY)["AudioStream"].read()


def _polly_unsaid(url: str) -> Iterator[bytes]:
    asked = {name: value for name, value in _POLLY.items() if name != "SampleRate"}
    yield _polly_client(url).synthesize_speech(**{**asked, "OutputFormat": "mulaw"})["AudioStream"].read()


def _polly_chunks(url: str) -> Iterator[bytes]:
    body = _polly_client(url).synthesize_speech(**_POLLY)["AudioStream"]
    try:
        yield from body.iter_chunks(4096)
    finally:
        body.close()


def _polly_async(url: str) -> Iterator[bytes]:
    from aiobotocore.session import get_session

    async def speak() -> Any:
        session = get_session()
        async with session.create_client("polly", endpoint_url=url, config=_once(), **_AWS) as client:
            response = await client.synthesize_speech(**_POLLY)
            async with response["AudioStream"] as body:
                async for piece in body.iter_chunks(4096):
                    yield piece

    return _run(speak())


_GOOGLE = {
    "input": {"text": TEXT},
    "voice": {"name": "ko-KR-Chirp3-HD-Kore", "language_code": "ko-KR"},
    "audio_config": {"audio_encoding": "LINEAR16", "sample_rate_hertz": 24_000},
}


def _google_client(url: str) -> Any:
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import texttospeech_v1
    from google.cloud.texttospeech_v1.services.text_to_speech.transports import TextToSpeechRestTransport

    host = url.removeprefix("http://")
    transport = TextToSpeechRestTransport(host=host, url_scheme="http", credentials=AnonymousCredentials())
    return texttospeech_v1.TextToSpeechClient(transport=transport)


def _google_parts(url: str) -> bytes:
    return bytes(_google_client(url).synthesize_speech(**_GOOGLE).audio_content)


def _google_dict(url: str) -> bytes:
    return bytes(_google_client(url).synthesize_speech(_GOOGLE).audio_content)


def _google_message(url: str) -> bytes:
    from google.cloud import texttospeech_v1

    request = texttospeech_v1.SynthesizeSpeechRequest(_GOOGLE)
    return bytes(_google_client(url).synthesize_speech(request=request).audio_content)


def _google_says(pieces: list[bytes]) -> list[bytes]:
    return [json.dumps({"audioContent": base64.b64encode(b"".join(pieces)).decode()}).encode()]


def _groq_async(url: str) -> bytes:
    import groq

    async def speak() -> bytes:
        async with groq.AsyncGroq(base_url=url, api_key="no", max_retries=0) as client:
            said = await client.audio.speech.create(input=TEXT, model="orpheus", voice="troy", response_format="wav")
            return bytes(await said.read())

    return asyncio.run(speak())


def _typecast_async(url: str) -> Iterator[bytes]:
    import typecast

    async def speak() -> Any:
        async with typecast.AsyncTypecast(host=url, api_key="no") as client:
            request = typecast.models.TTSRequestStream(voice_id="v1", text=TEXT, model="ssfm-v30", language="kor")
            async for piece in client.text_to_speech_stream(request):
                yield piece

    return _run(speak())


_TOGETHER = {"input": TEXT, "model": "hexgrad/Kokoro-82M", "voice": "af_heart", "language": "en"}


def _together_client(url: str) -> Any:
    import together

    return together.Together(base_url=url, api_key="no", max_retries=0).audio.speech


def _together(url: str) -> bytes:
    return bytes(_together_client(url).create(**_TOGETHER, response_format="wav").read())


def _together_events(url: str) -> Iterator[bytes]:
    for event in _together_client(url).create(**_TOGETHER, response_format="raw", sample_rate=16_000, stream=True):
        yield base64.b64decode(event.b64)


def _together_cartesia(url: str) -> Iterator[bytes]:
    asked = {**_TOGETHER, "model": "cartesia/sonic", "response_encoding": "pcm_f32le", "sample_rate": 16_000}
    for event in _together_client(url).create(**asked, response_format="raw", stream=True):
        yield base64.b64decode(event.b64)


def _together_unsaid(url: str) -> bytes:
    asked = {**_TOGETHER, "model": "cartesia/sonic", "sample_rate": 16_000}
    return bytes(_together_client(url).create(**asked, response_format="raw").read())


def _events(pieces: list[bytes]) -> list[bytes]:
    told = [{"object": "audio.tts.chunk", "model": "m", "b64": base64.b64encode(piece).decode()} for piece in pieces]
    events = [f"data: {json.dumps(each)}\n\n".encode() for each in told]
    return [*events[:-1], events[-1] + b"data: [DONE]\n\n"]


def _fish_client(url: str) -> Any:
    import fishaudio

    return fishaudio.FishAudio(base_url=url, api_key="no").tts


def _fish_collect(url: str) -> Iterator[bytes]:
    yield _fish_client(url).stream(text=TEXT, reference_id="v1", format="wav").collect()


def _fish_async(url: str) -> Iterator[bytes]:
    import fishaudio

    async def speak() -> Any:
        async with fishaudio.AsyncFishAudio(base_url=url, api_key="no") as client:
            async for piece in await client.tts.stream(text=TEXT, reference_id="v1", format="wav"):
                yield piece

    return _run(speak())


_GENAI = {
    "model": "gemini-2.5-flash-preview-tts",
    "contents": TEXT,
    "config": {
        "response_modalities": ["AUDIO"],
        "speech_config": {
            "voice_config": {"prebuilt_voice_config": {"voice_name": "Kore"}}, "language_code": "ko-KR",
        },
    },
}  # fmt: skip


def _genai_client(url: str) -> Any:
    from google import genai

    return genai.Client(api_key="no", http_options=genai.types.HttpOptions(base_url=url))


def _genai_audio(response: Any) -> bytes:
    return bytes(response.candidates[0].content.parts[0].inline_data.data)


def _genai(url: str) -> bytes:
    client = _genai_client(url)  # it closes itself when it is dropped
    return _genai_audio(client.models.generate_content(**_GENAI))


def _genai_stream(url: str) -> Iterator[bytes]:
    client = _genai_client(url)
    for response in client.models.generate_content_stream(**_GENAI):
        yield _genai_audio(response)


def _genai_async(url: str) -> Iterator[bytes]:
    async def speak() -> Any:
        client = _genai_client(url)
        async for response in await client.aio.models.generate_content_stream(**_GENAI):
            yield _genai_audio(response)

    return _run(speak())


def _genai_response(piece: bytes) -> dict[str, Any]:
    data = {"mimeType": "audio/L16;codec=pcm;rate=24000", "data": base64.b64encode(piece).decode()}
    return {"candidates": [{"content": {"role": "model", "parts": [{"inlineData": data}]}}]}


def _genai_says(pieces: list[bytes]) -> list[bytes]:
    return [json.dumps(_genai_response(b"".join(pieces))).encode()]


def _genai_events(pieces: list[bytes]) -> list[bytes]:
    return [f"data: {json.dumps(_genai_response(piece))}\n\n".encode() for piece in pieces]


_GROQ_TOLD = {"gen_ai.request.model": "orpheus", "gen_ai.speech.voice": "troy"}
_CARTESIA_TOLD = {"gen_ai.request.model": "sonic-3", "gen_ai.speech.voice": "v1", "tts.language": "ko"}
_ELEVENLABS_TOLD = {"gen_ai.request.model": "eleven_v3", "gen_ai.speech.voice": "v1", "tts.language": "ko"}
_DEEPGRAM_TOLD = {"gen_ai.request.model": "aura-2"}
_TYPECAST_TOLD = {"gen_ai.request.model": "ssfm-v30", "gen_ai.speech.voice": "v1", "tts.language": "kor"}
_SUPERTONE_TOLD = {"gen_ai.request.model": "sona_speech_2", "gen_ai.speech.voice": "v1", "tts.language": "ko"}
_POLLY_TOLD = {
    "gen_ai.request.model": "neural", "gen_ai.speech.voice": "Seoyeon", "tts.language": "ko-KR",
    "tts.input.type": "text", "tts.usage.characters": 12, "tts.audio.format": "pcm_s16le",
    "tts.audio.sample_rate": 16_000,
}  # fmt: skip
_POLLY_SAYS: dict[str, Any] = {"headers": {"x-amzn-RequestCharacters": "12"}, "audio": pcm16(tone(16_000))}

_GOOGLE_TOLD = {"gen_ai.speech.voice": "ko-KR-Chirp3-HD-Kore", "tts.language": "ko-KR", "tts.input.type": "text"}
_GOOGLE_MODULE = "google.cloud.texttospeech_v1"

_TOGETHER_TOLD = {
    "gen_ai.request.model": "hexgrad/Kokoro-82M", "gen_ai.speech.voice": "af_heart", "tts.language": "en",
}  # fmt: skip
_FISH_TOLD = {"gen_ai.request.model": "s2-pro", "gen_ai.speech.voice": "v1"}
_GENAI_TOLD = {
    "gen_ai.request.model": "gemini-2.5-flash-preview-tts", "gen_ai.speech.voice": "Kore", "tts.language": "ko-KR",
    "tts.audio.format": "pcm_s16le",
}  # fmt: skip
_RAW: dict[str, Any] = {"audio": pcm16(tone(24_000))}

DOORS = [
    Door("groq", "create", "groq", _groq, False, _GROQ_TOLD),
    Door("groq", "streaming", "groq", _groq_stream, True, _GROQ_TOLD),
    Door("cartesia", "generate", "cartesia", _cartesia, False, _CARTESIA_TOLD),
    Door("cartesia", "streaming", "cartesia", _cartesia_stream, True, _CARTESIA_TOLD),
    Door(
        "elevenlabs", "convert", "elevenlabs", lambda url: _elevenlabs_client(url).convert(**_ELEVENLABS), True,
        _ELEVENLABS_TOLD,
    ),
    Door(
        "elevenlabs", "stream", "elevenlabs", lambda url: _elevenlabs_client(url).stream(**_ELEVENLABS), True,
        _ELEVENLABS_TOLD,
    ),
    Door(
        "elevenlabs", "timestamps", "elevenlabs", _elevenlabs_timestamps, False, _ELEVENLABS_TOLD,
        lambda pieces: _timestamped([b"".join(pieces)]),
    ),
    Door(
        "elevenlabs", "stream_timestamps", "elevenlabs", _elevenlabs_stream_timestamps, True, _ELEVENLABS_TOLD,
        _timestamped,
    ),
    Door("elevenlabs", "async", "elevenlabs", _elevenlabs_async, True, _ELEVENLABS_TOLD),
    Door("deepgram", "generate", "deepgram", _deepgram, True, _DEEPGRAM_TOLD),
    Door("deepgram", "async", "deepgram", _deepgram_async, True, _DEEPGRAM_TOLD),
    Door("typecast", "whole", "typecast", _typecast, False, _TYPECAST_TOLD),
    Door("typecast", "stream", "typecast", _typecast_stream, True, _TYPECAST_TOLD),
    Door("supertone", "read", "supertone", _supertone, True, _SUPERTONE_TOLD),
    Door(
        "supertone", "phonemes", "supertone", _supertone_phonemes, False, _SUPERTONE_TOLD, _supertone_says,
        content_type="application/json",
    ),
    Door("supertone", "stream", "supertone", _supertone_stream, True, _SUPERTONE_TOLD),
    Door("supertone", "collect", "supertone", _supertone_async, True, _SUPERTONE_TOLD),
    Door("supertone", "async", "supertone", _supertone_stream_async, True, _SUPERTONE_TOLD),
    Door("groq", "async", "groq", _groq_async, False, _GROQ_TOLD),
    Door("typecast", "async", "typecast", _typecast_async, True, _TYPECAST_TOLD),
    Door("together", "create", "together", _together, False, _TOGETHER_TOLD),
    # What Kokoro is asked for is one thing, what it speaks at another.
    Door(
        "together", "events", "together", _together_events, True,
        {**_TOGETHER_TOLD, "tts.audio.format": "pcm_s16le"}, _events, audio=pcm16(tone(24_000)),
    ),
    Door(
        "together", "cartesia", "together", _together_cartesia, True,
        {"gen_ai.request.model": "cartesia/sonic", "tts.audio.format": "pcm_f32le", "tts.audio.sample_rate": 16_000},
        _events, audio=bytes(4 * 16_000),
    ),
    Door(
        "together", "unsaid", "together", _together_unsaid, False,
        {"tts.audio.format": None, "tts.audio.duration": None, "tts.audio.sample_rate": 16_000},
        audio=pcm16(tone(16_000)),
    ),
    Door(
        "fish_audio", "convert", "fishaudio",
        lambda url: _fish_client(url).convert(text=TEXT, reference_id="v1", format="wav"), False, _FISH_TOLD,
    ),
    Door("fish_audio", "collect", "fishaudio", _fish_collect, True, _FISH_TOLD),
    Door(
        "fish_audio", "stream", "fishaudio",
        lambda url: iter(_fish_client(url).stream(text=TEXT, reference_id="v1", format="wav")), True, _FISH_TOLD,
    ),
    Door("fish_audio", "async", "fishaudio", _fish_async, True, _FISH_TOLD),
    Door("google_genai", "whole", "google.genai", _genai, False, _GENAI_TOLD, _genai_says, **_RAW),
    Door("google_genai", "stream", "google.genai", _genai_stream, True, _GENAI_TOLD, _genai_events, **_RAW),
    Door("google_genai", "async", "google.genai", _genai_async, True, _GENAI_TOLD, _genai_events, **_RAW),
    Door("google_cloud", "parts", _GOOGLE_MODULE, _google_parts, False, _GOOGLE_TOLD, _google_says),
    Door("google_cloud", "dict", _GOOGLE_MODULE, _google_dict, False, _GOOGLE_TOLD, _google_says),
    Door("google_cloud", "message", _GOOGLE_MODULE, _google_message, False, _GOOGLE_TOLD, _google_says),
    Door("polly", "read", "boto3", _polly_read, True, _POLLY_TOLD, **_POLLY_SAYS),
    Door(
        "polly", "unsaid", "boto3", _polly_unsaid, True,
        {"tts.audio.format": None, "tts.audio.duration": None, "tts.audio.sample_rate": None}, **_POLLY_SAYS,
    ),
    # A service that speaks Polly's protocol, and counts nothing.
    Door(
        "polly", "uncounted", "boto3", _polly_read, True, {**_POLLY_TOLD, "tts.usage.characters": None},
        audio=pcm16(tone(16_000)),
    ),
    Door("polly", "chunks", "boto3", _polly_chunks, True, _POLLY_TOLD, **_POLLY_SAYS),
    Door("polly", "async", "aiobotocore", _polly_async, True, _POLLY_TOLD, **_POLLY_SAYS),
]  # fmt: skip


@pytest.fixture(params=DOORS, ids=lambda door: door.id)
def door(request: pytest.FixtureRequest) -> Iterator[Door]:
    pytest.importorskip(request.param.module)
    assert ttstrace.instrument(request.param.backend) == [request.param.backend]
    yield request.param
    ttstrace.uninstrument()


@pytest.fixture
def service(door: Door) -> Iterator[SpeechServer]:
    service = SpeechServer()
    size = len(door.audio) // PIECES + 1
    service.pieces = door.pieces([door.audio[at : at + size] for at in range(0, len(door.audio), size)])
    service.delay = DELAY
    service.headers = door.headers
    service.content_type = door.content_type
    with serving(service):
        yield service


def _all(answer: bytes | Iterator[bytes]) -> bytes:
    return answer if isinstance(answer, bytes) else b"".join(answer)


@pytest.mark.keeps_time
def test_one_span_that_is_true(spans: Spans, door: Door, service: SpeechServer) -> None:
    asked = time.perf_counter()
    assert _all(door.speak(service.url)) == door.audio
    took = time.perf_counter() - asked
    span = spans.one()
    attributes = dict(span.attributes or {})
    assert len(service.requests) == 1
    assert span.kind is SpanKind.CLIENT
    assert span.status.status_code is StatusCode.UNSET
    expected = {
        "gen_ai.request.stream": door.streamed,
        "server.address": "127.0.0.1",
        "server.port": service.port,
        "tts.input.characters": 12,
        "tts.audio.duration": 1.0,
        "tts.audio.format": "wav",
        "tts.audio.sample_rate": 24_000,
        **door.told,
    }
    assert {name: attributes.get(name) for name in expected} == expected
    assert "tts.interrupted" not in attributes
    assert "tts.cold_start" not in attributes
    pieces = len(service.pieces)
    assert "tts.synthesis.duration" in attributes
    assert pieces * DELAY <= attributes["tts.synthesis.duration"] <= took
    if door.streamed:
        assert DELAY <= attributes["gen_ai.response.time_to_first_chunk"] <= took


def test_a_stream_left_half_way(spans: Spans, door: Door, service: SpeechServer) -> None:
    if not door.streamed or door.name in ("read", "unsaid", "uncounted", "collect"):
        pytest.skip("comes whole")
    stream = door.speak(service.url)
    assert next(stream)
    stream.close()
    del stream
    gc.collect()
    attributes = spans.attributes()
    assert attributes["tts.interrupted"] is True
    if door.backend != "fish_audio":  # which reads the answer whole before it hands on the first piece
        assert 0 < attributes["tts.audio.duration"] < 1.0


def test_too_many_requests(spans: Spans, door: Door, service: SpeechServer) -> None:
    service.status, service.pieces, service.delay = 429, [b'{"message": "hush hush"}'], 0.0
    with pytest.raises(Exception) as error:  # noqa: PT011 - each SDK has its own
        _all(door.speak(service.url))
    span = spans.one()
    kind = error.type
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == f"{kind.__module__}.{kind.__qualname__}"
    assert "hush" not in span.to_json()
    assert "tts.audio.duration" not in (span.attributes or {})


@pytest.mark.parametrize("backend", sorted({door.backend for door in DOORS}))
def test_originals_are_put_back(backend: str) -> None:
    instrumentor = next(
        each.load()
        for each in importlib.metadata.entry_points(group="opentelemetry_instrumentor")
        if each.name == f"ttstrace_{backend}"
    )
    held: list[tuple[Any, str]] = []
    for patch in instrumentor.patches:
        try:
            owner: Any = importlib.import_module(patch.module)
        except ImportError:
            continue
        for name in patch.owner.split(".") if patch.owner else ():
            owner = getattr(owner, name)
        held.append((owner, patch.attribute))
    if not held:
        pytest.skip(f"{backend} is not installed")
    before = [vars(owner).get(name) for owner, name in held]
    assert ttstrace.instrument(backend) == [backend]
    assert all(vars(owner).get(name) is not was for (owner, name), was in zip(held, before, strict=True))
    ttstrace.uninstrument(backend)
    assert all(vars(owner).get(name) is was for (owner, name), was in zip(held, before, strict=True))


def test_supertone_sends_a_long_text_in_several_requests(spans: Spans) -> None:
    """Each is a synthesis of its own, and the caller gets one WAV file."""
    pytest.importorskip("supertone")
    ttstrace.instrument("supertone")
    service = SpeechServer()
    service.pieces = [AUDIO]
    text = "This is a sentence of the text. " * 20
    try:
        with serving(service):
            client = _supertone_client(service.url)
            said = client.text_to_speech.create_speech(**{**_SUPERTONE, "text": text}).result.content
    finally:
        ttstrace.uninstrument()
    asked = [json.loads(body)["text"] for _, _, body in service.requests]
    assert len(asked) > 1
    told = [dict(span.attributes or {}) for span in spans.syntheses()]
    assert sorted(each["tts.input.characters"] for each in told) == sorted(map(len, asked))
    assert [each["tts.audio.duration"] for each in told] == [1.0] * len(asked)
    assert len(said) == len(AUDIO) + (len(asked) - 1) * len(pcm16(tone(24_000)))
