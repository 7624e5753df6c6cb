"""litellm itself against a local server: one span for its functions, whichever SDK they go through."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from audio_samples import RATE, pcm16, tone, wav
from conftest import Spans
from opentelemetry.trace import SpanKind, StatusCode
from speech_server import SpeechServer, refused_port, serving

import ttstrace

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it asks the Internet for prices when it is imported
litellm = pytest.importorskip("litellm")
openai = pytest.importorskip("openai")

TEXT = "Hello there."
PIECES = 4
DELAY = 0.06  # seconds before each piece
AUDIO = wav(pcm16(tone(24_000)))
Speak = Callable[..., Any]


@pytest.fixture(autouse=True)
def instrumented() -> Iterator[None]:
    """Together with the SDK inside, which is reached from inside: the outermost is the synthesis."""
    assert ttstrace.instrument("litellm", "openai") == ["litellm", "openai"]
    yield
    ttstrace.uninstrument()


@pytest.fixture
def service() -> Iterator[SpeechServer]:
    service = SpeechServer()
    size = len(AUDIO) // PIECES + 1
    service.pieces = [AUDIO[at : at + size] for at in range(0, len(AUDIO), size)]
    with serving(service):
        yield service


def _sync(**asked: Any) -> Any:
    return litellm.speech(**asked)


def _positional(model: str, input: str, voice: str, **asked: Any) -> Any:
    return litellm.speech(model, input, voice, **asked)


def _of_the_module(**asked: Any) -> Any:
    from litellm.main import speech

    return speech(**asked)


def _async(**asked: Any) -> Any:
    return asyncio.run(litellm.aspeech(**asked))


def _async_positional(model: str, input: str, voice: str, **asked: Any) -> Any:
    return asyncio.run(litellm.aspeech(model, input, voice, **asked))


def _router(model: str, input: str, voice: str, **asked: Any) -> Any:
    router = litellm.Router([{"model_name": "alias", "litellm_params": {"model": model, **asked}}], num_retries=0)
    return asyncio.run(router.aspeech(model="alias", input=input, voice=voice))


WAYS = [_sync, _positional, _of_the_module, _async, _async_positional, _router]


@pytest.fixture(params=WAYS, ids=lambda way: way.__name__.strip("_"))
def speak(request: pytest.FixtureRequest) -> Speak:
    return request.param  # type: ignore[no-any-return]


def _asked(service: SpeechServer, **more: Any) -> dict[str, Any]:
    return {
        "model": "openai/tts-1", "input": TEXT, "voice": "coral", "api_base": f"{service.url}/v1", "api_key": "no",
        "max_retries": 0, **more,
    }  # fmt: skip


@pytest.mark.keeps_time
def test_one_span_that_is_true(spans: Spans, service: SpeechServer, speak: Speak) -> None:
    service.delay = DELAY
    asked = time.perf_counter()
    assert speak(**_asked(service)).content == AUDIO
    took = time.perf_counter() - asked
    assert [json.loads(body)["input"] for _, _, body in service.requests] == [TEXT]
    span = spans.one()
    attributes = dict(span.attributes or {})
    assert span.name == "text_to_speech tts-1"
    assert span.kind is SpanKind.CLIENT
    assert span.status.status_code is StatusCode.UNSET
    expected = {
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "tts-1",
        "gen_ai.request.stream": False,
        "gen_ai.speech.voice": "coral",
        "server.address": "127.0.0.1",
        "server.port": service.port,
        "tts.input.characters": 12,
        "tts.audio.duration": 1.0,
        "tts.audio.format": "wav",
        "tts.audio.sample_rate": RATE,
    }
    assert {name: attributes.get(name) for name in expected} == expected
    assert attributes["code.function.name"].startswith("litellm.")  # not of the SDK inside
    assert not {"tts.device", "tts.cold_start", "tts.interrupted"} & attributes.keys()
    assert PIECES * DELAY <= attributes["tts.synthesis.duration"] <= took


def _mistral(audio: bytes) -> bytes:
    return json.dumps({"audio_data": base64.b64encode(audio).decode()}).encode()


def _minimax(audio: bytes) -> bytes:
    return json.dumps({"data": {"audio": audio.hex(), "status": 2}, "base_resp": {"status_code": 0}}).encode()


@pytest.mark.parametrize(
    ("asked", "provider", "model", "body"),
    [
        ({"model": "tts-1", "custom_llm_provider": "openai"}, "openai", "tts-1", bytes),
        ({"model": "openai/tts-1", "custom_llm_provider": "openai"}, "openai", "tts-1", bytes),
        # OpenAI's by its name, but whose is the server?
        ({"model": "tts-1"}, None, "tts-1", bytes),
        ({"model": "groq/canopylabs/orpheus-v1-english"}, "groq", "canopylabs/orpheus-v1-english", bytes),
        ({"model": "azure/tts-1", "api_version": "2025-01-01"}, "azure.ai.openai", "tts-1", bytes),
        ({"model": "azure/speech/azure-tts"}, "azure.ai.speech", "speech/azure-tts", bytes),
        ({"model": "elevenlabs/eleven_v3"}, "elevenlabs", "eleven_v3", bytes),
        ({"model": "mistral/voxtral-mini-tts-latest"}, "mistral_ai", "voxtral-mini-tts-latest", _mistral),
        ({"model": "minimax/speech-02-hd"}, "minimax", "speech-02-hd", _minimax),
        (
            {
                "model": "aws_polly/neural", "aws_access_key_id": "no", "aws_secret_access_key": "no",
                "aws_region_name": "us-east-1",
            },
            "aws.polly", "neural", bytes,
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("speak", [_sync, _async], indirect=True)
def test_who_synthesizes(
    spans: Spans, service: SpeechServer, speak: Speak, asked: dict[str, Any], provider: str, model: str, body: Any
) -> None:
    service.pieces = [body(AUDIO)]
    assert speak(**_asked(service, **asked)).content == AUDIO
    attributes = spans.attributes()
    assert attributes.get("gen_ai.provider.name") == provider
    assert attributes["gen_ai.request.model"] == model
    assert attributes["gen_ai.speech.voice"] == "coral"
    assert attributes["tts.input.characters"] == 12
    assert attributes["tts.audio.duration"] == 1.0
    assert attributes["server.port"] == service.port


def test_a_server_that_is_not_named_in_the_call(
    spans: Spans, service: SpeechServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", f"{service.url}/v1")
    assert litellm.speech(model="tts-1", input=TEXT, voice="coral", api_key="no", max_retries=0).content == AUDIO
    attributes = spans.attributes()
    assert attributes["gen_ai.provider.name"] == "openai"
    assert attributes["gen_ai.request.model"] == "tts-1"
    assert "server.address" not in attributes


@pytest.mark.parametrize("samples", [12_000, 0])
def test_raw_samples(spans: Spans, service: SpeechServer, speak: Speak, samples: int) -> None:
    service.pieces = [pcm16(tone(samples))] if samples else []
    assert speak(**_asked(service, response_format="pcm")).content == b"".join(service.pieces)
    attributes = spans.attributes()
    assert attributes["tts.audio.duration"] == samples / 24_000
    assert attributes["tts.audio.format"] == "pcm_s16le"
    assert attributes["tts.audio.sample_rate"] == 24_000
    assert ("tts.rtf" in attributes) is bool(samples)


def test_raw_samples_of_others_are_not_known(spans: Spans, service: SpeechServer) -> None:
    litellm.speech(**_asked(service, model="groq/canopylabs/orpheus-v1-english", response_format="pcm"))
    assert spans.attributes()["tts.audio.format"] == "wav"
    service.pieces = [pcm16(tone(12_000))]
    litellm.speech(**_asked(service, model="groq/canopylabs/orpheus-v1-english", response_format="pcm"))
    attributes = dict(spans.syntheses()[-1].attributes or {})
    assert not {"tts.audio.format", "tts.audio.duration", "tts.rtf"} & attributes.keys()


def test_too_many_requests(spans: Spans, service: SpeechServer, speak: Speak) -> None:
    service.status, service.content_type = 429, "application/json"
    service.pieces = [b'{"error": {"message": "slow down, hush"}}']
    # The SDK's own, as `speech` lets it through; litellm's own is one of those.
    with pytest.raises(openai.RateLimitError) as error:
        speak(**_asked(service))
    assert speak.__name__ in ("_sync", "_positional", "_of_the_module") or error.type is litellm.RateLimitError
    span = spans.one()
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == f"{error.type.__module__}.{error.type.__qualname__}"
    assert "hush" not in span.to_json()
    assert "tts.audio.duration" not in (span.attributes or {})


def test_nobody_there(spans: Spans, service: SpeechServer, speak: Speak) -> None:
    with refused_port() as port, pytest.raises(openai.APIError) as error:
        speak(**_asked(service, api_base=f"http://127.0.0.1:{port}/v1"))
    span = spans.one()
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == f"{error.type.__module__}.{error.type.__qualname__}"
    assert (span.attributes or {})["server.port"] == port


def test_a_router_that_falls_back(spans: Spans, service: SpeechServer) -> None:
    """Every attempt is a synthesis of the service that was asked."""
    shared = {"api_key": "no", "max_retries": 0}
    with refused_port() as port:
        models = [
            {
                "model_name": name,
                "litellm_params": {"model": f"openai/{name}", "api_base": f"http://127.0.0.1:{at}/v1", **shared},
            }
            for name, at in (("first", port), ("second", service.port))
        ]
        router = litellm.Router(models, fallbacks=[{"first": ["second"]}], num_retries=0)
        assert asyncio.run(router.aspeech(model="first", input=TEXT, voice="coral")).content == AUDIO
    failed, done = spans.syntheses()
    assert (failed.name, failed.status.status_code) == ("text_to_speech first", StatusCode.ERROR)
    assert (done.name, done.status.status_code) == ("text_to_speech second", StatusCode.UNSET)
    assert (done.attributes or {})["tts.audio.duration"] == 1.0


def test_functions_are_put_back() -> None:
    from litellm import main

    ttstrace.uninstrument()
    before = [vars(module)[name] for module in (litellm, main) for name in ("speech", "aspeech")]
    ttstrace.instrument("litellm")
    traced = [vars(module)[name] for module in (litellm, main) for name in ("speech", "aspeech")]
    assert all(each is not was for each, was in zip(traced, before, strict=True))
    ttstrace.uninstrument("litellm")
    after = [vars(module)[name] for module in (litellm, main) for name in ("speech", "aspeech")]
    assert all(each is was for each, was in zip(after, before, strict=True))


IMPORTED_LATER = """
import types
import ttstrace
assert ttstrace.instrument("litellm") == ["litellm"]
import litellm, litellm.main
names = [(module, name) for module in (litellm, litellm.main) for name in ("speech", "aspeech")]
assert not any(type(vars(module)[name]) is types.FunctionType for module, name in names)
ttstrace.uninstrument()
assert all(type(vars(module)[name]) is types.FunctionType for module, name in names)
assert litellm.speech is litellm.main.speech and litellm.aspeech is litellm.main.aspeech
"""


def test_functions_are_put_back_where_it_was_imported_later() -> None:
    """The package takes them over from its module when they are traced already."""
    subprocess.run([sys.executable, "-c", IMPORTED_LATER], check=True, timeout=120)
