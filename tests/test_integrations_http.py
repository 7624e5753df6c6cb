"""SDKs of speech services, untouched, against a local server: what holds for each of them, by each of their doors."""

from __future__ import annotations

import asyncio
import base64
import functools
import gc
import importlib
import importlib.metadata
import json
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from audio_samples import pcm16, tone, wav
from conftest import Spans
from opentelemetry.trace import SpanKind, StatusCode
from speech_server import SpeechServer, refused_port, serving

import ttstrace

TEXT = "Hello there."
PIECES = 4
DELAY = 0.05  # seconds before each piece
AUDIO = wav(pcm16(tone(24_000)))


@dataclass
class Door:
    """One way in which a program has an SDK synthesize."""

    backend: str
    name: str
    module: str
    reaches: str
    """The declared callable that it goes through first."""
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
    def raw(self) -> bool:
        """Whether format and rate are known of what is asked for."""
        if self.backend == "google_genai":
            return False  # the answer tells
        asked_for = self.backend in ("cartesia", "deepgram", "google_cloud") or self.told.get("tts.audio.format")
        return bool(asked_for) or (self.backend == "elevenlabs" and self.streamed)

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


_OPENAI = {"input": TEXT, "model": "gpt-4o-mini-tts", "voice": "coral"}


def _openai(url: str) -> bytes:
    import openai

    return bytes(openai.OpenAI(base_url=url, api_key="no", max_retries=0).audio.speech.create(**_OPENAI).content)


def _openai_async(url: str) -> bytes:
    import openai

    async def speak() -> bytes:
        async with openai.AsyncOpenAI(base_url=url, api_key="no", max_retries=0) as client:
            return bytes((await client.audio.speech.create(**_OPENAI)).content)

    return asyncio.run(speak())


_GROQ = {"input": TEXT, "model": "orpheus", "voice": "troy", "response_format": "wav"}


def _groq(url: str) -> bytes:
    import groq

    client = groq.Groq(base_url=url, api_key="no", max_retries=0)
    return bytes(client.audio.speech.create(**_GROQ).read())


def _groq_stream(url: str) -> Iterator[bytes]:
    import groq

    client = groq.Groq(base_url=url, api_key="no", max_retries=0)
    speech = client.audio.speech.with_streaming_response
    with speech.create(**_GROQ) as response:
        yield from response.iter_bytes()


def _groq_async(url: str) -> bytes:
    import groq

    async def speak() -> bytes:
        async with groq.AsyncGroq(base_url=url, api_key="no", max_retries=0) as client:
            return bytes(await (await client.audio.speech.create(**_GROQ)).read())

    return asyncio.run(speak())


def _groq_async_stream(url: str) -> Iterator[bytes]:
    import groq

    async def speak() -> Any:
        client = groq.AsyncGroq(base_url=url, api_key="no", max_retries=0)
        async with client, client.audio.speech.with_streaming_response.create(**_GROQ) as response:
            async for piece in response.iter_bytes():
                yield piece

    return _run(speak())


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


def _cartesia_async(url: str) -> bytes:
    import cartesia

    async def speak() -> bytes:
        async with cartesia.AsyncCartesia(base_url=url, api_key="no", max_retries=0) as client:
            return bytes(await (await client.tts.generate(**_CARTESIA)).read())

    return asyncio.run(speak())


_CARTESIA_RAW = {**_CARTESIA, "output_format": {**_CARTESIA["output_format"], "container": "raw"}}


def _cartesia_sse(url: str, method: str) -> Iterator[bytes]:
    import cartesia

    client = cartesia.Cartesia(base_url=url, api_key="no", max_retries=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # `sse` is the old name
        events = getattr(client.tts, method)(**_CARTESIA_RAW)
    for event in events:
        if event.type == "chunk":
            yield event.audio


def _cartesia_async_sse(url: str, method: str) -> Iterator[bytes]:
    import cartesia

    async def speak() -> Any:
        async with cartesia.AsyncCartesia(base_url=url, api_key="no", max_retries=0) as client:
            async for event in await getattr(client.tts, method)(**_CARTESIA_RAW):
                if event.type == "chunk":
                    yield event.audio

    return _run(speak())


def _cartesia_events(pieces: list[bytes]) -> list[bytes]:
    """With words between them, and an end."""
    told = [
        {"type": "chunk", "data": base64.b64encode(piece).decode(), "done": False, "status_code": 200, "step_time": 1}
        for piece in pieces
    ]
    words = {"type": "timestamps", "done": False, "status_code": 200, "word_timestamps": {"words": ["Hello"]}}
    done = {"type": "done", "done": True, "status_code": 200}
    events = [f"event: {each['type']}\ndata: {json.dumps(each)}\n\n".encode() for each in (*told, words, done)]
    last = max(0, len(told) - 1)
    return [*events[:last], b"".join(events[last:])]


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


def _elevenlabs(method: str) -> Callable[[str], Iterator[bytes]]:
    return lambda url: getattr(_elevenlabs_client(url), method)(**_ELEVENLABS)


def _elevenlabs_async_client(url: str) -> Any:
    import elevenlabs

    return elevenlabs.AsyncElevenLabs(base_url=url, api_key="no").text_to_speech


def _elevenlabs_async(method: str) -> Callable[[str], Iterator[bytes]]:
    return lambda url: _run(getattr(_elevenlabs_async_client(url), method)(**_ELEVENLABS))


def _elevenlabs_async_timestamps(url: str) -> bytes:
    async def speak() -> Any:
        return await _elevenlabs_async_client(url).convert_with_timestamps(**_ELEVENLABS)

    return base64.b64decode(asyncio.run(speak()).audio_base_64)


def _elevenlabs_async_stream_timestamps(url: str) -> Iterator[bytes]:
    for chunk in _run(_elevenlabs_async_client(url).stream_with_timestamps(**_ELEVENLABS)):
        yield base64.b64decode(chunk.audio_base_64)


def _timestamped(pieces: list[bytes]) -> list[bytes]:
    return [json.dumps({"audio_base64": base64.b64encode(piece).decode()}).encode() + b"\n" for piece in pieces]


def _timestamped_whole(pieces: list[bytes]) -> list[bytes]:
    return _timestamped([b"".join(pieces)])


def _deepgram_environment(url: str) -> Any:
    from deepgram.environment import DeepgramClientEnvironment

    return DeepgramClientEnvironment(base=url, production=url, agent=url, agent_rest=url)


_DEEPGRAM = {"text": TEXT, "model": "aura-2", "encoding": "linear16", "sample_rate": 24_000}


def _deepgram(url: str, version: str) -> Iterator[bytes]:
    import deepgram

    client = deepgram.DeepgramClient(api_key="no", environment=_deepgram_environment(url))
    return iter(getattr(client.speak, version).audio.generate(**_DEEPGRAM))


def _deepgram_async(url: str, version: str) -> Iterator[bytes]:
    import deepgram

    client = deepgram.AsyncDeepgramClient(api_key="no", environment=_deepgram_environment(url))
    return _run(getattr(client.speak, version).audio.generate(**_DEEPGRAM))


_TYPECAST = {"voice_id": "v1", "text": TEXT, "model": "ssfm-v30", "language": "kor"}


def _typecast(url: str) -> bytes:
    import typecast

    client = typecast.Typecast(host=url, api_key="no")
    return bytes(client.text_to_speech(typecast.models.TTSRequest(**_TYPECAST)).audio_data)


def _typecast_file(url: str) -> bytes:
    import typecast

    client = typecast.Typecast(host=url, api_key="no")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "speech.wav")
        client.generate_to_file(path, text=TEXT, voice_id="v1", language="kor")  # by ssfm-v30, if none is named
        return path.read_bytes()


def _typecast_timestamps(url: str) -> bytes:
    import typecast

    client = typecast.Typecast(host=url, api_key="no")
    request = typecast.models.TTSRequestWithTimestamps(**_TYPECAST)
    return bytes(client.text_to_speech_with_timestamps(request).audio_bytes)


def _typecast_composed(url: str) -> bytes:
    import typecast

    composer = typecast.Typecast(host=url, api_key="no").compose_speech()
    composer.defaults(voice_id="v1", model="ssfm-v30", language="kor")
    return bytes(composer.say("Hello ").pause(0.3).say("there.").generate().audio_data)


def _typecast_says(pieces: list[bytes]) -> list[bytes]:
    audio = base64.b64encode(b"".join(pieces)).decode()
    return [json.dumps({"audio": audio, "audio_format": "wav", "audio_duration": 1.0}).encode()]


def _typecast_asynchronously(url: str, speak: Callable[[Any], Any]) -> bytes:
    import typecast

    async def inside() -> bytes:
        async with typecast.AsyncTypecast(host=url, api_key="no") as client:
            return bytes(await speak(client))

    return asyncio.run(inside())


def _typecast_async(url: str) -> bytes:
    async def speak(client: Any) -> Any:
        from typecast.models import TTSRequest

        return (await client.text_to_speech(TTSRequest(**_TYPECAST))).audio_data

    return _typecast_asynchronously(url, speak)


def _typecast_async_timestamps(url: str) -> bytes:
    async def speak(client: Any) -> Any:
        from typecast.models import TTSRequestWithTimestamps

        return (await client.text_to_speech_with_timestamps(TTSRequestWithTimestamps(**_TYPECAST))).audio_bytes

    return _typecast_asynchronously(url, speak)


def _typecast_stream(url: str) -> Iterator[bytes]:
    import typecast

    client = typecast.Typecast(host=url, api_key="no")
    return iter(client.text_to_speech_stream(typecast.models.TTSRequestStream(**_TYPECAST)))


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


def _google_client(url: str, version: str) -> Any:
    from google.auth.credentials import AnonymousCredentials

    module = importlib.import_module(f"google.cloud.texttospeech_{version}")
    transports = importlib.import_module(f"{module.__name__}.services.text_to_speech.transports")
    transport = transports.TextToSpeechRestTransport(
        host=url.removeprefix("http://"), url_scheme="http", credentials=AnonymousCredentials()
    )
    return module.TextToSpeechClient(transport=transport)


def _google_parts(url: str, version: str) -> bytes:
    return bytes(_google_client(url, version).synthesize_speech(**_GOOGLE).audio_content)


def _google_dict(url: str, version: str) -> bytes:
    return bytes(_google_client(url, version).synthesize_speech(_GOOGLE).audio_content)


def _google_message(url: str, version: str) -> bytes:
    request = importlib.import_module(f"google.cloud.texttospeech_{version}").SynthesizeSpeechRequest(_GOOGLE)
    return bytes(_google_client(url, version).synthesize_speech(request=request).audio_content)


def _google_says(pieces: list[bytes]) -> list[bytes]:
    return [json.dumps({"audioContent": base64.b64encode(b"".join(pieces)).decode()}).encode()]


def _typecast_async_stream(url: str) -> Iterator[bytes]:
    import typecast

    async def speak() -> Any:
        async with typecast.AsyncTypecast(host=url, api_key="no") as client:
            async for piece in client.text_to_speech_stream(typecast.models.TTSRequestStream(**_TYPECAST)):
                yield piece

    return _run(speak())


_TOGETHER = {"input": TEXT, "model": "hexgrad/Kokoro-82M", "voice": "af_heart", "language": "en"}


def _together_client(url: str) -> Any:
    import together

    return together.Together(base_url=url, api_key="no", max_retries=0).audio.speech


def _together(url: str) -> bytes:
    return bytes(_together_client(url).create(**_TOGETHER, response_format="wav").read())


def _together_stream(url: str) -> Iterator[bytes]:
    with _together_client(url).with_streaming_response.create(**_TOGETHER, response_format="wav") as response:
        yield from response.iter_bytes()


def _together_async(url: str) -> bytes:
    import together

    async def speak() -> bytes:
        async with together.AsyncTogether(base_url=url, api_key="no", max_retries=0) as client:
            return bytes(await (await client.audio.speech.create(**_TOGETHER, response_format="wav")).read())

    return asyncio.run(speak())


def _together_async_events(url: str) -> Iterator[bytes]:
    import together

    async def speak() -> Any:
        async with together.AsyncTogether(base_url=url, api_key="no", max_retries=0) as client:
            events = await client.audio.speech.create(**_TOGETHER, response_format="raw", stream=True)
            async for event in events:
                yield base64.b64decode(event.b64)

    return _run(speak())


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
    return [*events[:-1], b"".join(events[-1:]) + b"data: [DONE]\n\n"]


def _fish_client(url: str) -> Any:
    import fishaudio

    return fishaudio.FishAudio(base_url=url, api_key="no").tts


_FISH = {"text": TEXT, "reference_id": "v1", "format": "wav"}


def _fish(url: str) -> bytes:
    return bytes(_fish_client(url).convert(**_FISH))


def _fish_collect(url: str) -> Iterator[bytes]:
    yield _fish_client(url).stream(**_FISH).collect()


def _fish_stream(url: str) -> Iterator[bytes]:
    return iter(_fish_client(url).stream(**_FISH))


def _fish_async(url: str) -> bytes:
    import fishaudio

    async def speak() -> bytes:
        async with fishaudio.AsyncFishAudio(base_url=url, api_key="no") as client:
            return bytes(await client.tts.convert(**_FISH))

    return asyncio.run(speak())


def _fish_async_stream(url: str) -> Iterator[bytes]:
    import fishaudio

    async def speak() -> Any:
        async with fishaudio.AsyncFishAudio(base_url=url, api_key="no") as client:
            async for piece in await client.tts.stream(**_FISH):
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


def _genai_async(url: str) -> bytes:
    async def speak() -> bytes:
        return _genai_audio(await _genai_client(url).aio.models.generate_content(**_GENAI))

    return asyncio.run(speak())


def _genai_async_stream(url: str) -> Iterator[bytes]:
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


_OPENAI_TOLD = {"gen_ai.request.model": "gpt-4o-mini-tts", "gen_ai.speech.voice": "coral"}
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
_TOGETHER_PATH = "together.resources.audio.speech"
_BOTO = "botocore.client.Polly.synthesize_speech"

_TOGETHER_TOLD = {
    "gen_ai.request.model": "hexgrad/Kokoro-82M", "gen_ai.speech.voice": "af_heart", "tts.language": "en",
}  # fmt: skip
_FISH_TOLD = {"gen_ai.request.model": "s2-pro", "gen_ai.speech.voice": "v1"}
_GENAI_TOLD = {
    "gen_ai.request.model": "gemini-2.5-flash-preview-tts", "gen_ai.speech.voice": "Kore", "tts.language": "ko-KR",
    "tts.audio.format": "pcm_s16le",
}  # fmt: skip
_RAW: dict[str, Any] = {"audio": pcm16(tone(24_000))}

_EVENT_STREAM: dict[str, Any] = {"content_type": "text/event-stream"}

DOORS = [
    Door("openai", "create", "openai", "openai.resources.audio.speech:Speech.create", _openai, False, _OPENAI_TOLD),
    Door(
        "openai", "async", "openai", "openai.resources.audio.speech:AsyncSpeech.create", _openai_async, False,
        _OPENAI_TOLD,
    ),
    Door("groq", "create", "groq", "groq.resources.audio.speech:Speech.create", _groq, False, _GROQ_TOLD),
    Door("groq", "streaming", "groq", "groq.resources.audio.speech:Speech.create", _groq_stream, True, _GROQ_TOLD),
    Door("groq", "async", "groq", "groq.resources.audio.speech:AsyncSpeech.create", _groq_async, False, _GROQ_TOLD),
    Door(
        "groq", "async_streaming", "groq", "groq.resources.audio.speech:AsyncSpeech.create", _groq_async_stream, True,
        _GROQ_TOLD,
    ),
    *(
        Door("cartesia", name, "cartesia", f"cartesia.resources.tts:{method}", speak, streamed, _CARTESIA_TOLD)
        for name, method, speak, streamed in (
            ("generate", "TTSResource.generate", _cartesia, False),
            ("streaming", "TTSResource.generate", _cartesia_stream, True),
            ("async", "AsyncTTSResource.generate", _cartesia_async, False),
        )
    ),
    *(
        Door(
            "cartesia", f"{name}{method}", "cartesia", f"cartesia.resources.tts:{cls}.{method}",
            functools.partial(speak, method=method), True, {**_CARTESIA_TOLD, "tts.audio.format": "pcm_s16le"},
            _cartesia_events, audio=pcm16(tone(24_000)), **_EVENT_STREAM,
        )
        for name, cls, speak in (
            ("", "TTSResource", _cartesia_sse), ("async_", "AsyncTTSResource", _cartesia_async_sse),
        )
        for method in ("generate_sse", "sse")
    ),
    *(
        Door(
            "elevenlabs", name, "elevenlabs", f"elevenlabs.text_to_speech.client:{method}", speak, streamed,
            _ELEVENLABS_TOLD, pieces,
        )
        for name, method, speak, streamed, pieces in (
            ("convert", "TextToSpeechClient.convert", _elevenlabs("convert"), True, list),
            ("stream", "TextToSpeechClient.stream", _elevenlabs("stream"), True, list),
            (
                "timestamps", "TextToSpeechClient.convert_with_timestamps", _elevenlabs_timestamps, False,
                _timestamped_whole,
            ),
            (
                "stream_timestamps", "TextToSpeechClient.stream_with_timestamps", _elevenlabs_stream_timestamps, True,
                _timestamped,
            ),
            ("async_convert", "AsyncTextToSpeechClient.convert", _elevenlabs_async("convert"), True, list),
            ("async_stream", "AsyncTextToSpeechClient.stream", _elevenlabs_async("stream"), True, list),
            (
                "async_timestamps", "AsyncTextToSpeechClient.convert_with_timestamps", _elevenlabs_async_timestamps,
                False, _timestamped_whole,
            ),
            (
                "async_stream_timestamps", "AsyncTextToSpeechClient.stream_with_timestamps",
                _elevenlabs_async_stream_timestamps, True, _timestamped,
            ),
        )
    ),
    *(
        Door(
            "deepgram", f"{name}{version}", f"deepgram.speak.{version}.audio.client",
            f"deepgram.speak.{version}.audio.client:{cls}.generate", functools.partial(speak, version=version), True,
            _DEEPGRAM_TOLD,
        )
        for name, cls, speak in (("", "AudioClient", _deepgram), ("async_", "AsyncAudioClient", _deepgram_async))
        for version in ("v1", "v2")
    ),
    *(
        Door(
            "typecast", name, "typecast", f"typecast.{method}", speak, streamed, _TYPECAST_TOLD, pieces,
            content_type="application/json" if pieces is _typecast_says else "audio/wav",
        )
        for name, method, speak, streamed, pieces in (
            ("whole", "client:Typecast.text_to_speech", _typecast, False, list),
            ("file", "client:Typecast.text_to_speech", _typecast_file, False, list),
            ("stream", "client:Typecast.text_to_speech_stream", _typecast_stream, True, list),
            (
                "timestamps", "client:Typecast.text_to_speech_with_timestamps", _typecast_timestamps, False,
                _typecast_says,
            ),
            ("composed", "client:Typecast.compose_text_to_speech", _typecast_composed, False, list),
            ("async", "async_client:AsyncTypecast.text_to_speech", _typecast_async, False, list),
            ("async_stream", "async_client:AsyncTypecast.text_to_speech_stream", _typecast_async_stream, True, list),
            (
                "async_timestamps", "async_client:AsyncTypecast.text_to_speech_with_timestamps",
                _typecast_async_timestamps, False, _typecast_says,
            ),
        )
    ),
    Door("together", "create", "together", f"{_TOGETHER_PATH}:SpeechResource.create", _together, False, _TOGETHER_TOLD),
    Door(
        "together", "streaming", "together", f"{_TOGETHER_PATH}:SpeechResource.create", _together_stream, True,
        _TOGETHER_TOLD,
    ),
    Door(
        "together", "async", "together", f"{_TOGETHER_PATH}:AsyncSpeechResource.create", _together_async, False,
        _TOGETHER_TOLD,
    ),
    *(
        Door(
            "supertone", name, "supertone", f"supertone.text_to_speech:TextToSpeech.{method}", speak, streamed,
            _SUPERTONE_TOLD, pieces, content_type="application/json" if pieces is _supertone_says else "audio/wav",
        )
        for name, method, speak, streamed, pieces in (
            ("read", "create_speech", _supertone, True, list),
            ("phonemes", "create_speech", _supertone_phonemes, False, _supertone_says),
            ("stream", "stream_speech", _supertone_stream, True, list),
            ("collect", "create_speech_async", _supertone_async, True, list),
            ("async", "stream_speech_async", _supertone_stream_async, True, list),
        )
    ),
    # What Kokoro is asked for is one thing, what it speaks at another.
    Door(
        "together", "events", "together", f"{_TOGETHER_PATH}:SpeechResource.create", _together_events, True,
        {**_TOGETHER_TOLD, "tts.audio.format": "pcm_s16le"}, _events, audio=pcm16(tone(24_000)), **_EVENT_STREAM,
    ),
    Door(
        "together", "async_events", "together", f"{_TOGETHER_PATH}:AsyncSpeechResource.create", _together_async_events,
        True, {**_TOGETHER_TOLD, "tts.audio.format": "pcm_s16le"}, _events, audio=pcm16(tone(24_000)), **_EVENT_STREAM,
    ),
    Door(
        "together", "cartesia", "together", f"{_TOGETHER_PATH}:SpeechResource.create", _together_cartesia, True,
        {"gen_ai.request.model": "cartesia/sonic", "tts.audio.format": "pcm_f32le", "tts.audio.sample_rate": 16_000},
        _events, audio=bytes(4 * 16_000), **_EVENT_STREAM,
    ),
    Door(
        "together", "unsaid", "together", f"{_TOGETHER_PATH}:SpeechResource.create", _together_unsaid, False,
        {"tts.audio.format": None, "tts.audio.duration": None, "tts.audio.sample_rate": 16_000},
        audio=pcm16(tone(16_000)),
    ),
    *(
        Door("fish_audio", name, "fishaudio", f"fishaudio.resources.tts:{method}", speak, streamed, _FISH_TOLD)
        for name, method, speak, streamed in (
            ("convert", "TTSClient.convert", _fish, False),
            ("collect", "TTSClient.stream", _fish_collect, True),
            ("stream", "TTSClient.stream", _fish_stream, True),
            ("async", "AsyncTTSClient.convert", _fish_async, False),
            ("async_stream", "AsyncTTSClient.stream", _fish_async_stream, True),
        )
    ),
    *(
        Door(
            "google_genai", name, "google.genai", f"google.genai.models:{method}", speak, pieces is _genai_events,
            _GENAI_TOLD, pieces, **_RAW,
        )
        for name, method, speak, pieces in (
            ("whole", "Models.generate_content", _genai, _genai_says),
            ("stream", "Models.generate_content_stream", _genai_stream, _genai_events),
            ("async", "AsyncModels.generate_content", _genai_async, _genai_says),
            ("async_stream", "AsyncModels.generate_content_stream", _genai_async_stream, _genai_events),
        )
    ),
    *(
        Door(
            "google_cloud", f"{name}{version}", f"google.cloud.texttospeech_{version}",
            f"google.cloud.texttospeech_{version}.services.text_to_speech.client:TextToSpeechClient.synthesize_speech",
            functools.partial(speak, version=version), False, _GOOGLE_TOLD, _google_says,
        )
        for version in ("v1", "v1beta1")
        for name, speak in (("parts_", _google_parts), ("dict_", _google_dict), ("message_", _google_message))
    ),
    Door("polly", "read", "boto3", _BOTO, _polly_read, True, _POLLY_TOLD, **_POLLY_SAYS),
    Door(
        "polly", "unsaid", "boto3", _BOTO, _polly_unsaid, True,
        {"tts.audio.format": None, "tts.audio.duration": None, "tts.audio.sample_rate": None}, **_POLLY_SAYS,
    ),
    Door("polly", "chunks", "boto3", _BOTO, _polly_chunks, True, _POLLY_TOLD, **_POLLY_SAYS),
    Door(
        "polly", "async", "aiobotocore", _BOTO, _polly_async, True,
        _POLLY_TOLD, **_POLLY_SAYS,
    ),
]  # fmt: skip

REACHED = {door.reaches for door in DOORS}


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
    assert attributes["code.function.name"] == door.reaches.replace(":", ".")
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


def test_nothing_to_hear(spans: Spans, door: Door, service: SpeechServer) -> None:
    """What is samples, by what was asked for, is then none; what says itself what it is says nothing."""
    service.pieces, service.delay = door.pieces([] if door.streamed else [b""]), 0.0
    assert _all(door.speak(service.url)) == b""
    attributes = spans.attributes()
    assert attributes.get("tts.audio.duration") == (0.0 if door.raw else None)
    assert "tts.synthesis.duration" in attributes
    assert not {"tts.rtf", "gen_ai.response.time_to_first_chunk", "tts.time_to_first_audio"} & attributes.keys()


def _openai_as_events(url: str) -> bytes:
    import openai

    client = openai.OpenAI(base_url=url, api_key="no", max_retries=0)
    return bytes(client.audio.speech.create(**_OPENAI, response_format="pcm", stream_format="sse").content)


def _openai_events(url: str) -> bytes:
    import openai

    client = openai.OpenAI(base_url=url, api_key="no", max_retries=0)
    speech = client.audio.speech.with_streaming_response
    with speech.create(**_OPENAI, response_format="pcm", stream_format="sse") as response:
        return bytes(response.read())


def _cartesia_event_text(url: str) -> bytes:
    import cartesia

    client = cartesia.Cartesia(base_url=url, api_key="no", max_retries=0)
    with client.tts.with_streaming_response.generate_sse(**_CARTESIA_RAW) as response:
        return bytes(response.read())


def _together_event_text(url: str) -> bytes:
    speech = _together_client(url).with_streaming_response
    with speech.create(**_TOGETHER, response_format="raw", stream=True) as response:
        return bytes(response.read())


@pytest.mark.parametrize(
    ("backend", "speak"),
    [
        ("openai", _openai_as_events),
        ("openai", _openai_events),
        ("cartesia", _cartesia_event_text),
        ("together", _together_event_text),
    ],
)
def test_events_that_are_read_as_they_come(spans: Spans, backend: str, speak: Callable[[str], bytes]) -> None:
    """They are text, not samples of the format that was asked for."""
    pytest.importorskip(backend)
    assert ttstrace.instrument(backend) == [backend]
    service = SpeechServer()
    service.pieces, service.content_type = (
        [b'event: x\ndata: {"audio": "AAAA"}\n\n'],
        "text/event-stream; charset=utf-8",
    )
    with serving(service):
        assert speak(service.url) == service.pieces[0]
    ttstrace.uninstrument()
    attributes = spans.attributes()
    assert "tts.synthesis.duration" in attributes
    assert not {"tts.audio.duration", "tts.audio.format", "tts.rtf"} & attributes.keys()


def test_nobody_there(spans: Spans, door: Door) -> None:
    with refused_port() as port, pytest.raises(Exception) as error:  # noqa: PT011 - each SDK has its own
        _all(door.speak(f"http://127.0.0.1:{port}"))
    span = spans.one()
    kind = error.type
    assert span.status.status_code is StatusCode.ERROR
    told = dict(span.attributes or {})
    assert told["error.type"] == (
        f"{kind.__module__}.{kind.__qualname__}" if kind.__module__ != "builtins" else kind.__qualname__
    )
    assert told["server.port"] == port
    assert not {"tts.audio.duration", "tts.rtf", "gen_ai.response.time_to_first_chunk"} & told.keys()


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
