"""edge-tts itself against a local websocket that speaks the service's protocol: by whichever of its four doors."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Spans
from google_tts import mp3, seconds_of
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

import ttstrace

edge_tts = pytest.importorskip("edge_tts")
pytest.importorskip("aiohttp.web")
from edge_server import EdgeService, serving  # noqa: E402 - needs them

TEXT = "안녕하세요 & 반갑습니다."
VOICE = "ko-KR-SunHiNeural"
AUDIO = mp3(1.0)
PIECES = 4
DELAY = 0.08  # seconds before each piece


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[EdgeService]:
    with serving(EdgeService(AUDIO, PIECES, DELAY)) as service:
        monkeypatch.setattr("edge_tts.communicate.WSS_URL", service.url)
        monkeypatch.setattr("edge_tts.communicate._SSL_CTX", None)
        yield service


@pytest.fixture(autouse=True)
def instrumented() -> Iterator[None]:
    assert ttstrace.instrument("edge_tts") == ["edge_tts"]
    yield
    ttstrace.uninstrument()


def _stream(speech: Any, file: Path) -> bytes:
    async def heard() -> bytes:
        return b"".join([chunk["data"] async for chunk in speech.stream() if chunk["type"] == "audio"])

    return asyncio.run(heard())


def _save(speech: Any, file: Path) -> bytes:
    asyncio.run(speech.save(str(file)))
    return file.read_bytes()


def _stream_sync(speech: Any, file: Path) -> bytes:
    return b"".join(chunk["data"] for chunk in speech.stream_sync() if chunk["type"] == "audio")


def _save_sync(speech: Any, file: Path) -> bytes:
    speech.save_sync(str(file))
    return file.read_bytes()


@pytest.mark.keeps_time
@pytest.mark.parametrize("door", [_stream, _save, _stream_sync, _save_sync])
def test_one_span_in_the_callers_trace(
    spans: Spans, service: EdgeService, tmp_path: Path, door: Callable[[Any, Path], bytes]
) -> None:
    with trace.get_tracer("caller").start_as_current_span("caller") as caller:
        begun = time.perf_counter()
        assert door(edge_tts.Communicate(TEXT, VOICE), tmp_path / "speech.mp3") == AUDIO
        took = time.perf_counter() - begun
    span = spans.one()
    attributes = dict(span.attributes or {})
    assert span.parent is not None
    assert span.parent.span_id == caller.get_span_context().span_id
    assert span.kind is SpanKind.CLIENT
    assert len(service.texts) == 1
    streamed = door in (_stream, _stream_sync)
    expected = {
        "gen_ai.provider.name": "edge",
        "gen_ai.speech.voice": VOICE,
        "gen_ai.request.stream": streamed,
        "tts.language": "ko-KR",
        "tts.input.characters": len(TEXT),
        "tts.audio.format": "mp3",
        "tts.audio.sample_rate": 24_000,
        "tts.audio.size": len(AUDIO),
        "server.address": "127.0.0.1",
        "server.port": service.port,
    }
    assert {name: attributes.get(name) for name in expected} == expected
    assert attributes["tts.audio.duration"] == pytest.approx(seconds_of(AUDIO), abs=1e-9)
    assert "tts.synthesis.duration" in attributes
    assert PIECES * DELAY <= attributes["tts.synthesis.duration"] <= took
    if streamed:
        assert attributes["tts.stream.chunks"] == PIECES
        assert DELAY <= attributes["gen_ai.response.time_to_first_chunk"] <= took - DELAY


def test_the_callers_context_is_for_one_synthesis(spans: Spans, service: EdgeService, tmp_path: Path) -> None:
    speech = edge_tts.Communicate(TEXT, VOICE)
    with trace.get_tracer("caller").start_as_current_span("caller"):
        _save_sync(speech, tmp_path / "first.mp3")
    with pytest.raises(RuntimeError, match="once"):
        _stream(speech, tmp_path)
    first, second = spans.syntheses()
    assert first.parent is not None
    assert second.parent is None
    assert second.status.status_code is StatusCode.ERROR


def test_nothing_came(spans: Spans, service: EdgeService, tmp_path: Path) -> None:
    service.mute = True
    with pytest.raises(edge_tts.exceptions.NoAudioReceived):
        _save(edge_tts.Communicate(TEXT, VOICE), tmp_path / "speech.mp3")
    span = spans.one()
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "edge_tts.exceptions.NoAudioReceived"


def test_originals_are_put_back() -> None:
    ttstrace.uninstrument()
    before = dict(vars(edge_tts.Communicate))
    ttstrace.instrument("edge_tts")
    assert vars(edge_tts.Communicate)["stream"] is not before["stream"]
    ttstrace.uninstrument("edge_tts")
    assert {name: vars(edge_tts.Communicate)[name] for name in before} == before
