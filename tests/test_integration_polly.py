"""Amazon Polly by clients that live longer than the patches, or were there before: against a local server."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from typing import Any

import pytest
from audio_samples import pcm16, tone
from conftest import Spans
from speech_server import SpeechServer, serving

import ttstrace

boto3 = pytest.importorskip("boto3")

ASKED = {"Text": "Hello there.", "VoiceId": "Seoyeon", "OutputFormat": "pcm", "SampleRate": "16000"}
AUDIO = pcm16(tone(16_000))
_AWS = {"region_name": "us-east-1", "aws_access_key_id": "no", "aws_secret_access_key": "no"}


@pytest.fixture(autouse=True)
def come_off() -> Iterator[None]:
    yield
    ttstrace.uninstrument()


@pytest.fixture
def service() -> Iterator[SpeechServer]:
    service = SpeechServer()
    service.pieces = [AUDIO]
    with serving(service):
        yield service


def _client(service: SpeechServer) -> Any:
    return boto3.client("polly", endpoint_url=service.url, **_AWS)


def test_clients_from_before_and_after(spans: Spans, service: SpeechServer) -> None:
    """Each call is one synthesis, whenever its client was made, as long as the patches are on."""
    before = _client(service)
    ttstrace.instrument("polly")
    clients = {"botocore.client.BaseClient._make_api_call": before, "botocore.client.Polly.synthesize_speech": None}
    for name, client in clients.items():
        made = client or _client(service)
        spans.clear()
        assert made.synthesize_speech(**ASKED)["AudioStream"].read() == AUDIO
        found = spans.attributes()
        assert (found["code.function.name"], found["tts.audio.duration"]) == (name, 1.0)
        assert (found["tts.input.characters"], found["gen_ai.speech.voice"]) == (12, "Seoyeon")
    spans.clear()
    ttstrace.uninstrument()
    for client in (before, made):
        assert client.synthesize_speech(**ASKED)["AudioStream"].read() == AUDIO
    assert spans.all() == []
    ttstrace.instrument("polly")
    assert made.synthesize_speech(**ASKED)["AudioStream"].read() == AUDIO  # now by what all methods go through
    assert spans.attributes()["tts.audio.duration"] == 1.0


def test_method_is_what_it_was(service: SpeechServer) -> None:
    before, others = _client(service), boto3.client("sts", **_AWS)
    ttstrace.instrument("polly")
    method = _client(service).synthesize_speech
    assert (method.__name__, method.__doc__) == (before.synthesize_speech.__name__, before.synthesize_speech.__doc__)
    assert inspect.signature(method) == inspect.signature(before.synthesize_speech)
    assert type(boto3.client("sts", **_AWS).get_caller_identity) is type(others.get_caller_identity)


def test_methods_that_synthesize_nothing(spans: Spans, service: SpeechServer) -> None:
    ttstrace.instrument("polly")
    client = _client(service)
    service.pieces, service.content_type = [b'{"Voices": []}'], "application/json"
    assert client.describe_voices()["Voices"] == []
    client.synthesize_speech(**{**ASKED, "OutputFormat": "json", "SpeechMarkTypes": ["word"]})["AudioStream"].read()
    assert spans.all() == []


def test_async_method_gives_a_coroutine(spans: Spans, service: SpeechServer) -> None:
    session = pytest.importorskip("aiobotocore.session").get_session()
    ttstrace.instrument("polly")

    async def speak() -> bytes:
        async with session.create_client("polly", endpoint_url=service.url, **_AWS) as client:
            answer = await asyncio.create_task(client.synthesize_speech(**ASKED))
            return bytes(await answer["AudioStream"].read())

    assert asyncio.run(speak()) == AUDIO
    assert spans.attributes()["tts.audio.duration"] == 1.0
