"""Audio that travels as text: JSON, lines of JSON, server-sent events."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
from audio_samples import RATE, facts, pcm16, pieces, read, splits, tone, wav
from hypothesis import given
from hypothesis import strategies as st

from ttstrace import traced_synthesis
from ttstrace.audio import AudioReader
from ttstrace.audio.transport import Base64, Events

N = 2400
DATA = pcm16(tone(N))


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def sse(*events: dict[str, Any], name: str | None = None, space: str = " ") -> bytes:
    head = f"event:{space}{name}\n" if name else ""
    return "".join(f"{head}data:{space}{json.dumps(event)}\n\n" for event in events).encode()


def parts(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


OPENAI = sse(
    *({"type": "speech.audio.delta", "audio": encoded(part)} for part in parts(DATA, 1000)),
    {"type": "speech.audio.done", "usage": {"input_tokens": 9, "output_tokens": 90}},
)
CARTESIA = b": ping\n\n" + sse(
    *({"type": "chunk", "data": encoded(part), "done": False, "status_code": 206} for part in parts(DATA, 1024)),
    {"type": "timestamps", "word_timestamps": {"words": ["data", "audio"], "start": [0.0, 0.5]}},
    {"type": "done", "done": True},
    name="chunk",
)
ELEVENLABS = b"".join(
    json.dumps({"audio_base64": encoded(part), "alignment": {"characters": ['"', "\\", "a"]}}).encode() + b"\n"
    for part in parts(DATA, 999)
)
GEMINI = json.dumps(
    {"candidates": [{"content": {"parts": [
        {"inlineData": {"mimeType": "audio/L16;codec=pcm;rate=24000", "data": encoded(DATA)}},
    ]}}]},
    indent=2,
).encode()  # fmt: skip
GOOGLE = json.dumps({"audioContent": encoded(wav(DATA))}).encode()
ESCAPED = b'{"format": "pcm", "sample_rate": 24000, "audio": "' + encoded(DATA).encode().replace(b"/", b"\\/") + b'"}'


@pytest.mark.parametrize("text", [OPENAI, CARTESIA, ELEVENLABS, GEMINI, ESCAPED], ids=range(5))
@pytest.mark.parametrize("format", ["pcm_24000", None])
def test_raw_samples_in_text(text: bytes, format: str | None) -> None:
    found = read(text, format=format)
    if format is None and text not in (GEMINI, ESCAPED):  # nobody says what it is
        assert (found.duration, found.size) == (None, len(DATA))
        return
    assert facts(found) == (0.1, RATE, 1, "pcm_s16le", len(DATA), 0.0, True)
    for size in (1, 2, 3, 5, 64, 1000):
        assert facts(read(*pieces(text, size), format=format)) == facts(found)


@pytest.mark.parametrize("text", [OPENAI, CARTESIA, ELEVENLABS, GEMINI, ESCAPED], ids=range(5))
def test_split_at_every_byte(text: bytes) -> None:
    text = text[:1500]
    whole = facts(read(text, format="pcm_24000"))
    for first, second in splits(text):
        assert facts(read(first, second, format="pcm_24000")) == whole


def test_files_in_text() -> None:
    assert facts(read(GOOGLE))[:5] == (0.1, RATE, 1, "wav", len(wav(DATA)))
    # One file per event, and one file cut into events.
    one_each = sse(*({"audio": encoded(wav(part))} for part in parts(DATA, 1600)))
    assert read(one_each).duration == pytest.approx(0.1)
    cut = sse(*({"delta": encoded(part)} for part in parts(wav(DATA), 1600)))
    assert read(cut).duration == 0.1


def test_seconds_chunk_by_chunk() -> None:
    reader = AudioReader(RATE, "pcm")
    events = [event + b"\n\n" for event in OPENAI.split(b"\n\n")[:-1]]
    assert [reader.feed(event) for event in events] == [pytest.approx(500 / RATE)] * 4 + [400 / RATE, 0.0]


def test_what_is_said_is_not_taken_for_audio() -> None:
    words = sse(
        {"type": "response.audio_transcript.delta", "delta": "Rindfleischetikettierungsueberwachung"},
        {"data": "data", "audio": None, "text": 'say "audio": "' + "QUJD" * 40 + '"'},
        {"audio": "https://example.com/" + "a" * 80},
        {"audio": ""},
        {"error": {"message": "no audio"}},
    )
    for size in (1, 10, len(words)):
        found = read(*pieces(words, size), rate=RATE, format="pcm")
        assert (found.duration, found.size) == (None, None)
    assert read(words + OPENAI, rate=RATE, format="pcm").duration == 0.1
    broken = sse({"audio": "QUJD" * 40 + "!?"})
    assert read(broken, rate=RATE, format="pcm").duration is None


@pytest.mark.parametrize("format", ["pcm_24000", "pcm_f32le", "mp3", "wav", None])
def test_errors_that_came_in_the_place_of_audio(format: str | None) -> None:
    for text in (
        b'{"error": {"message": "no quota left"}}',
        b'{\r\n  "error": "no quota left"\r\n}',
        b'\n{"error": "no quota left"}',
        b'\r\n\r\n[{"error": "no quota left"}]',
        b'[{\n  "error": {"code": 429}\n}]',
        b'["no quota left"]',
        b"<!DOCTYPE html>\n<html><title>502</title></html>",
        b"<html>\r\n<head><title>502 Bad Gateway</title></head></html>",
        b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
        b"data: [DONE]\n\n",
        b"data:no quota left\n\n",
    ):
        for size in (1, 5, 100):
            found = read(*pieces(text, size), rate=RATE, format=format)
            assert (found.duration, found.readable) == (None, False)


def test_the_answers_of_a_stream_in_one_list() -> None:
    """Gemini's, without server-sent events."""
    answers = b"[" + b",\r\n".join([GEMINI] * 3) + b"\n]\n"
    for size in (1, 1000, len(answers)):
        assert read(*pieces(answers, size), format="pcm").duration == pytest.approx(0.3)


def test_hexadecimal_is_no_base64() -> None:
    text = json.dumps({"data": {"audio": DATA.hex(), "status": 2}}).encode()
    for size in (1, 100, len(text)):
        assert read(*pieces(text, size), format="pcm_24000").duration is None
    assert read(text + sse({"audio": encoded(DATA)}), format="pcm_24000").duration is None


def test_what_was_said_of_the_audio_first_holds() -> None:
    said = {"mime_type": "audio/L16;rate=24000", "encoding": "base64", "format": "wav_8000"}
    text = json.dumps({**said, "audio": base64.encodebytes(DATA).decode()}).encode()  # in lines
    for size in (1, 100, len(text)):
        assert facts(read(*pieces(text, size)))[:4] == (0.1, RATE, 1, "pcm_s16le")


def test_raw_samples_that_begin_like_text() -> None:
    for begin in (b'{"', b": ", b"{ ", b"id: ", b"<", b"\n", b"[", b"data:"):
        assert read(begin + bytes(4800 - len(begin)), rate=RATE, format="pcm").duration == 0.1
    for text in (b"data", b'data: {"'[:7], b'{"audio": "'):
        assert read(text, rate=RATE, format="pcm").duration == len(text) // 2 / RATE


@pytest.mark.parametrize("begin", [b"data: ", b"data:", b'{"audio":"', b'data: {"audio": "'])
def test_little_is_held(begin: bytes) -> None:
    events = Events()
    noise = encoded(random.Random(1).randbytes(3_000_000)).encode()
    seen = 0
    for piece in pieces(begin + noise, 100_000):
        for part in events.feed(piece):
            seen += len(part)
            assert len(part) <= 16_384
        assert len(events._tail) + len(events._probe or b"") < 1000
    assert seen >= (2_900_000 if b"audio" in begin else 0)


def test_base64_split_anywhere() -> None:
    for text in ("QUJD", "QUI=", "QQ==", "QUJDRA==QUJD", "QQ==QQ==QUJD", "QUJDRA", "QUJ\nDR\r\nA==", "-_-_"):
        whole = Base64()
        expected = whole.decode(text.encode()) + whole.rest()
        for at in range(len(text)):
            half = Base64()
            assert half.decode(text[:at].encode()) + half.decode(text[at:].encode()) + half.rest() == expected
    assert Base64().decode(b"QQ==QUJDRA==") == b"AABCD"
    for text in ("Q=JD", "QQ=JQUJD", "====", "QU JD", "QUJ*"):
        with pytest.raises(ValueError, match="base64"):
            Base64().decode(text.encode())


@given(
    st.lists(st.sampled_from([OPENAI[:400], GEMINI[:300], b'"audio":"', b"QUJD", b'"', b"\\", b"=", b"\\n", b"{"])),
    st.data(),
)
def test_any_text_in_any_split(text: list[bytes], data: st.DataObject) -> None:
    whole = b'{"' + b"".join(text)
    size = data.draw(st.integers(1, 50))
    found, expected = read(*pieces(whole, size), format="pcm_24000"), read(whole, format="pcm_24000")
    assert found.duration == expected.duration
    if expected.duration is not None:  # what is broken is lost, at whichever byte that shows
        assert facts(found) == facts(expected)


def test_the_span_of_an_event_stream(spans: Any) -> None:
    @traced_synthesis(format="pcm_24000")
    def speak(text: str) -> Iterator[bytes]:
        for event in OPENAI.split(b"\n\n"):
            yield event + b"\n\n"

    list(speak("hello"))
    span = spans.attributes()
    assert (span["tts.audio.duration"], span["tts.stream.chunks"], span["tts.audio.size"]) == (0.1, 5, len(DATA))
