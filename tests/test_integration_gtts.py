"""gTTS itself against a service that speaks Google's protocol: one CLIENT span, by whichever door it is entered."""

from __future__ import annotations

import io
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gtts
import pytest
from conftest import Spans, snapshot_of
from google_tts import GoogleTTS, in_place_of_google, seconds_of
from inline_snapshot import snapshot

import ttstrace
from ttstrace import semconv

TEXT = "The first sentence says something that is long enough for two. " * 2  # more than 100 characters: two requests


@pytest.fixture(autouse=True)
def instrumented() -> Iterator[None]:
    assert ttstrace.instrument("gtts") == ["gtts"]
    yield
    ttstrace.uninstrument()


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch) -> Iterator[GoogleTTS]:
    with in_place_of_google(monkeypatch) as service:
        yield service


def test_save(spans: Spans, google: GoogleTTS, tmp_path: Path) -> None:
    file = tmp_path / "speech.mp3"
    gtts.gTTS(TEXT, lang="ko", tld="co.kr").save(str(file))
    assert len(google.requests) == 2
    assert {language for _, language, _ in google.requests} == {"ko"}
    assert set(google.hosts) == {"translate.google.co.kr:443"}
    sent = b"".join(google.sent)
    assert file.read_bytes() == sent
    span = snapshot_of(spans.one())
    assert span["attributes"].pop(semconv.TTS_AUDIO_DURATION) == pytest.approx(seconds_of(sent), abs=1e-9)
    assert span["attributes"].pop(semconv.TTS_AUDIO_SIZE) == len(sent)
    assert span == snapshot(
        {
            "name": "text_to_speech gtts.tts.gTTS.save",
            "kind": "CLIENT",
            "status": "UNSET",
            "attributes": {
                "code.function.name": "gtts.tts.gTTS.save",
                "gen_ai.operation.name": "text_to_speech",
                "gen_ai.output.type": "speech",
                "gen_ai.provider.name": "gtts",
                "gen_ai.request.stream": False,
                "server.address": "translate.google.co.kr",
                "server.port": 443,
                "tts.audio.channels": 1,
                "tts.audio.format": "mp3",
                "tts.audio.sample_rate": 24000,
                "tts.concurrency.max": 1,
                "tts.cpu.time": "<float>",
                "tts.cpu.utilization": "<float>",
                "tts.input.characters": 126,
                "tts.language": "ko",
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


def test_every_door_is_one_span(spans: Spans, google: GoogleTTS, tmp_path: Path) -> None:
    speech = gtts.gTTS("Hello")
    speech.save(str(tmp_path / "speech.mp3"))
    buffer = io.BytesIO()
    speech.write_to_fp(buffer)
    streamed = list(speech.stream())
    assert len(google.sent) == 3
    assert buffer.getvalue() == google.sent[1]
    assert streamed == google.sent[2:]
    ended = spans.all()
    assert [span.name for span in ended] == [
        "text_to_speech gtts.tts.gTTS.save",
        "text_to_speech gtts.tts.gTTS.write_to_fp",
        "text_to_speech gtts.tts.gTTS.stream",
    ]
    for span, sent in zip(ended, google.sent, strict=True):
        found = dict(span.attributes or {})
        assert found[semconv.TTS_AUDIO_DURATION] == pytest.approx(seconds_of(sent), abs=1e-9)
        assert found[semconv.TTS_AUDIO_FORMAT] == "mp3"
        assert found[semconv.TTS_AUDIO_SAMPLE_RATE] == 24000
        assert found[semconv.TTS_INPUT_CHARACTERS] == 5
        assert found[semconv.TTS_LANGUAGE] == "en"
        assert found[semconv.SERVER_ADDRESS] == "translate.google.com"
        assert found[semconv.TTS_RTF] == found[semconv.TTS_SYNTHESIS_DURATION] / found[semconv.TTS_AUDIO_DURATION]
        assert semconv.TTS_COLD_START not in found
        assert semconv.TTS_DEVICE not in found


def test_only_what_this_call_wrote_is_its_audio(spans: Spans, google: GoogleTTS) -> None:
    buffer = io.BytesIO(b"\0" * 100_000)
    buffer.seek(0, io.SEEK_END)
    gtts.gTTS("Hello").write_to_fp(buffer)
    found = spans.attributes()
    assert found[semconv.TTS_AUDIO_SIZE] == len(google.sent[0])
    assert found[semconv.TTS_AUDIO_DURATION] == pytest.approx(seconds_of(google.sent[0]), abs=1e-9)
    assert buffer.tell() == 100_000 + len(google.sent[0])


def test_stream_that_a_slow_consumer_pulls(spans: Spans, google: GoogleTTS) -> None:
    """The service works 0.1 s for each of two pieces, the consumer 0.3 s: the second is asked for when it is pulled."""
    google.delay = 0.1
    pieces = gtts.gTTS(TEXT).stream()
    time.sleep(0.1)
    assert not google.requests
    began = time.perf_counter()
    for count, _ in enumerate(pieces, 1):
        time.sleep(0.3)
        assert len(google.requests) == count
    took = time.perf_counter() - began
    found = spans.attributes()
    assert 0.2 <= found[semconv.TTS_SYNTHESIS_DURATION] <= took - 0.6
    assert 0.6 <= found[semconv.TTS_STREAM_HOLD_DURATION] <= took - 0.2
    assert 0.1 <= found[semconv.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK] <= took - 0.7
    assert found[semconv.TTS_STREAM_CHUNKS] == 2
    assert found[semconv.GEN_AI_REQUEST_STREAM] is True
    seconds = sum(map(seconds_of, google.sent))
    assert found[semconv.TTS_AUDIO_DURATION] == pytest.approx(seconds, abs=1e-9)
    assert found[semconv.TTS_RTF] == pytest.approx(found[semconv.TTS_SYNTHESIS_DURATION] / seconds)


def test_stream_that_its_consumer_leaves(spans: Spans, google: GoogleTTS) -> None:
    pieces = gtts.gTTS(TEXT).stream()
    next(pieces)
    pieces.close()
    found = spans.attributes()
    assert found[semconv.TTS_INTERRUPTED] is True
    assert found[semconv.TTS_STREAM_CHUNKS] == len(google.requests) == 1
    assert spans.one().status.is_unset


def test_stream_that_nobody_pulls_is_no_span(spans: Spans, google: GoogleTTS) -> None:
    gtts.gTTS(TEXT).stream().close()
    assert spans.all() == []
    assert google.requests == []


def plain(span: Any) -> str:
    return json.dumps(
        [dict(span.attributes), [dict(event.attributes) for event in span.events], span.status.description]
    )


@pytest.mark.parametrize("status", [429, 500])
def test_error_of_the_service(spans: Spans, google: GoogleTTS, tmp_path: Path, status: int) -> None:
    google.statuses = [status]
    speech = gtts.gTTS("A secret")
    with pytest.raises(gtts.gTTSError, match=str(status)) as raised:
        speech.save(str(tmp_path / "speech.mp3"))
    assert raised.value.tts is speech
    span = spans.one()
    found = spans.attributes()
    assert found[semconv.ERROR_TYPE] == "gtts.tts.gTTSError"
    assert span.status.status_code.name == "ERROR"
    assert [event.name for event in span.events] == ["exception"]
    assert "secret" not in plain(span)
    assert "TTS API" in str(raised.value)
    assert "TTS API" not in plain(span)
    assert not found.keys() & {semconv.TTS_AUDIO_DURATION, semconv.TTS_AUDIO_SIZE, semconv.TTS_RTF}
    assert (tmp_path / "speech.mp3").stat().st_size == 0


def test_error_after_the_first_piece(spans: Spans, google: GoogleTTS) -> None:
    google.statuses = [200, 500]
    pieces = gtts.gTTS(TEXT).stream()
    assert next(pieces) == google.sent[0]
    with pytest.raises(gtts.gTTSError):
        next(pieces)
    found = spans.attributes()
    assert found[semconv.ERROR_TYPE] == "gtts.tts.gTTSError"
    assert found[semconv.TTS_STREAM_CHUNKS] == 1
    assert semconv.TTS_RTF not in found
    assert semconv.TTS_INTERRUPTED not in found


def test_answer_without_audio(spans: Spans, google: GoogleTTS) -> None:
    google.mute = True
    with pytest.raises(gtts.gTTSError):
        gtts.gTTS("Hello").write_to_fp(io.BytesIO())
    assert spans.attributes()[semconv.ERROR_TYPE] == "gtts.tts.gTTSError"


def test_offline(spans: Spans, google: GoogleTTS, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{closed.getsockname()[1]}")
    with pytest.raises(gtts.gTTSError, match="Failed to connect"):
        gtts.gTTS("Hello").save(str(tmp_path / "speech.mp3"))
    found = spans.attributes()
    assert found[semconv.ERROR_TYPE] == "gtts.tts.gTTSError"
    assert found[semconv.SERVER_ADDRESS] == "translate.google.com"
    assert semconv.TTS_AUDIO_DURATION not in found


def test_server_on_a_port_of_its_own(spans: Spans, google: GoogleTTS) -> None:
    gtts.gTTS("Hello", tld="com@tts.example:8443").write_to_fp(io.BytesIO())
    found = spans.attributes()
    assert google.hosts == ["tts.example:8443"]
    assert (found[semconv.SERVER_ADDRESS], found[semconv.SERVER_PORT]) == ("tts.example", 8443)
