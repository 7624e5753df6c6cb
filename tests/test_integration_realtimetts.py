"""RealtimeTTS itself, on a stand-in for PyAudio's sound card: one takes sound as fast as it sounds."""

from __future__ import annotations

import shutil
import sys
import time
import wave
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from backends import silence, tone
from conftest import Spans, between
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

import ttstrace

for _name in ("stream2sentence", "pydub"):
    pytest.importorskip(_name)

RATE = 24_000
FIRST, SECOND = "This is the first sentence.", "And this is the second one."
TEXT = f"{FIRST} {SECOND}"
WORK = 0.2  # seconds that the engine takes for a sentence
SECONDS = 0.5  # of audio that it makes of one


class StandInCard:
    """A stand-in for `pyaudio.PyAudio` and for the stream that it opens: `write` waits until there is room."""

    def __init__(self) -> None:
        self._until = 0.0

    def get_default_output_device_info(self) -> dict[str, Any]:
        return {"index": 0}

    def get_device_info_by_index(self, index: int) -> dict[str, Any]:
        return {"index": 0, "name": "stand-in", "maxOutputChannels": 1, "defaultSampleRate": 48_000.0}

    def is_format_supported(self, rate: float, **options: Any) -> bool:
        return True

    def get_sample_size(self, format: int) -> int:
        return {1: 4, 8: 2}[format]

    def open(self, *, format: int, channels: int, rate: int, **options: Any) -> StandInCard:
        self._bytes = rate * channels * self.get_sample_size(format)
        return self

    def write(self, samples: bytes) -> None:
        now = time.perf_counter()
        self._until = max(self._until, now) + len(samples) / self._bytes
        time.sleep(max(0.0, self._until - now - 0.05))

    def is_active(self) -> bool:
        return True

    def start_stream(self) -> None: ...

    def stop_stream(self) -> None: ...

    def close(self) -> None: ...


@pytest.fixture(scope="module", autouse=True)
def sound_card() -> Iterator[None]:
    """Neither PyAudio nor what resamples for it (which is not needed here) can be had by pip alone."""
    with pytest.MonkeyPatch.context() as patch:
        card: Any = ModuleType("pyaudio")
        card.PyAudio = StandInCard
        vars(card).update(paFloat32=1, paInt32=2, paInt24=4, paInt16=8, paInt8=16, paUInt8=32, paCustomFormat=65_536)
        portaudio: Any = ModuleType("pyaudio._portaudio")
        portaudio.paFramesPerBufferUnspecified = 0
        card._portaudio = portaudio
        patch.setitem(sys.modules, "pyaudio", card)
        patch.setitem(sys.modules, "pyaudio._portaudio", portaudio)
        if "resampy" not in sys.modules:
            patch.setitem(sys.modules, "resampy", ModuleType("resampy"))
        pytest.importorskip("RealtimeTTS.text_to_stream")
        yield


@pytest.fixture(autouse=True)
def instrumented() -> Iterator[None]:
    assert "realtimetts" in ttstrace.instrument("realtimetts", "pyttsx3")
    yield
    ttstrace.uninstrument()


def _engine(fails: bool = False, format: int = 8) -> Any:
    from RealtimeTTS import BaseEngine

    class Tones(BaseEngine):  # type: ignore[misc, valid-type]
        """Makes of every sentence a known sound in a known time."""

        def post_init(self) -> None:
            self.engine_name = "tones"

        def get_stream_info(self) -> tuple[int, int, int]:
            return format, 1, RATE

        def synthesize(self, text: str, sentence_count: int = 0) -> bool:
            super().synthesize(text, sentence_count)
            trace.get_tracer("engine").start_span("engine").end()
            time.sleep(WORK)  # outside of Python, as models do: the player's thread goes on
            if fails:
                raise ConnectionError(f"no voice for {text}")
            samples = tone(SECONDS, RATE)
            self.queue.put((samples if format == 1 else (samples * 32767).astype("<i2")).tobytes())
            return True

    return Tones()


def _stream(engine: Any, **options: Any) -> Any:
    from RealtimeTTS import TextToAudioStream

    return TextToAudioStream(engine, tokenizer="rule-based", **options)


def _attributes(spans: Spans, **expected: Any) -> dict[str, Any]:
    span = spans.one()
    assert span.kind is SpanKind.INTERNAL
    assert span.status.status_code is StatusCode.UNSET
    attributes = dict(span.attributes or {})
    told = {name.replace("__", "."): value for name, value in expected.items()}
    assert {name: attributes.get(name) for name in told} == told
    return attributes


@pytest.mark.keeps_time
@pytest.mark.parametrize("format", [1, 8])
def test_muted_on_a_stand_in_card(spans: Spans, format: int) -> None:
    heard: list[bytes] = []
    stream = _stream(_engine(format=format), muted=True).feed(FIRST + " ").feed(SECOND)
    begun = time.perf_counter()
    stream.play(on_audio_chunk=heard.append)
    took = time.perf_counter() - begun
    assert sum(map(len, heard)) == 2 * SECONDS * RATE * 2  # they are given 16 bits in any case
    attributes = _attributes(
        spans,
        gen_ai__provider__name="tones",
        gen_ai__request__stream=True,
        tts__cold_start=True,
        tts__input__characters=len(TEXT),
        tts__stream__chunks=len(heard),
        tts__audio__format={1: "pcm_f32le", 8: "pcm_s16le"}[format],
        tts__audio__sample_rate=RATE,
        tts__audio__duration=2 * SECONDS,
    )
    assert "tts.synthesis.duration" in attributes
    assert attributes["tts.synthesis.duration"] == between(2 * WORK, took)
    assert attributes["gen_ai.response.time_to_first_chunk"] == between(WORK, took)
    assert attributes["tts.rtf"] == pytest.approx(attributes["tts.synthesis.duration"] / (2 * SECONDS))
    assert "tts.interrupted" not in attributes


def test_played_on_a_stand_in_card(spans: Spans) -> None:
    stream = _stream(_engine()).feed(TEXT)
    begun = time.perf_counter()
    stream.play()
    took = time.perf_counter() - begun
    attributes = _attributes(
        spans, tts__input__characters=len(TEXT), tts__audio__duration=2 * SECONDS, tts__audio__sample_rate=RATE
    )
    assert attributes["gen_ai.response.time_to_first_chunk"] == between(WORK, took)
    # The time is that of the sound.
    assert not {"tts.rtf", "tts.synthesis.duration"} & attributes.keys()


def test_text_that_is_still_to_come_on_a_stand_in_card(spans: Spans) -> None:
    def words() -> Iterator[str]:
        for word in TEXT.split(" "):
            time.sleep(0.02)
            yield word + " "

    _stream(_engine(), muted=True).feed(words()).play()
    attributes = _attributes(spans, tts__input__characters=len(TEXT) + 1, tts__audio__duration=2 * SECONDS)
    assert not {"tts.rtf", "tts.synthesis.duration"} & attributes.keys()


def test_text_that_was_fed_unseen_on_a_stand_in_card(spans: Spans) -> None:
    """What it was, and whether it was still to come, is not known then."""
    ttstrace.uninstrument("realtimetts")
    stream = _stream(_engine(), muted=True).feed(FIRST)
    ttstrace.instrument("realtimetts")
    stream.play()
    attributes = _attributes(spans, tts__audio__duration=SECONDS)
    assert not {"tts.rtf", "tts.synthesis.duration", "tts.input.characters"} & attributes.keys()


def test_in_a_thread_on_a_stand_in_card(spans: Spans) -> None:
    stream = _stream(_engine(), muted=True).feed(TEXT)
    with trace.get_tracer("app").start_as_current_span("app") as app:
        stream.play_async()
    stream.play_thread.join()
    _attributes(spans, tts__input__characters=len(TEXT), tts__audio__duration=2 * SECONDS)
    parent = spans.one().parent
    assert parent is not None
    assert parent.span_id == app.get_span_context().span_id


def test_what_the_engine_does_is_inside_on_a_stand_in_card(spans: Spans) -> None:
    _stream(_engine(), muted=True).feed(TEXT).play()
    inside = [span for span in spans.all() if span.name == "engine"]
    assert len(inside) == 2
    assert {span.parent.span_id for span in inside if span.parent} == {spans.one().context.span_id}


def test_every_play_has_its_own_on_a_stand_in_card(spans: Spans) -> None:
    stream = _stream(_engine(), muted=True)
    stream.feed(FIRST).play()
    stream.feed(SECOND).play()
    told = [dict(span.attributes or {}) for span in spans.syntheses()]
    assert [each["tts.input.characters"] for each in told] == [len(FIRST), len(SECOND)]
    assert [each["tts.audio.duration"] for each in told] == [SECONDS] * 2
    assert [each["tts.cold_start"] for each in told] == [True, False]


def test_stopped_on_a_stand_in_card(spans: Spans) -> None:
    stream = _stream(_engine()).feed(" ".join([TEXT] * 5))
    heard: list[bytes] = []
    stream.play_async(on_audio_chunk=heard.append)
    deadline = time.monotonic() + 30
    while not heard and time.monotonic() < deadline:
        time.sleep(0.01)
    stream.stop()
    attributes = _attributes(spans, tts__interrupted=True)
    assert 0 < attributes["tts.audio.duration"] <= sum(map(len, heard)) / 2 / RATE + 4096 / 2 / RATE
    assert "tts.rtf" not in attributes


def test_an_engine_that_fails_on_a_stand_in_card(spans: Spans) -> None:
    """Its exception is only logged: nothing is heard."""
    _stream(_engine(fails=True), muted=True).feed(FIRST).play()
    attributes = _attributes(spans, tts__input__characters=len(FIRST))
    assert not {"tts.audio.duration", "tts.rtf", "gen_ai.response.time_to_first_chunk"} & attributes.keys()
    assert "no voice" not in spans.one().to_json()


def test_silence_on_a_stand_in_card(spans: Spans) -> None:
    engine = _engine()
    engine.synthesize = lambda text, count=0: engine.queue.put(bytes(silence(SECONDS, RATE).astype("<i2"))) or True
    _stream(engine, muted=True).feed(FIRST).play()
    attributes = _attributes(spans, tts__audio__duration=SECONDS)
    assert "tts.time_to_first_audio" not in attributes


def test_an_engine_that_is_traced_itself_is_inside_on_a_stand_in_card(spans: Spans, tmp_path: Path) -> None:
    """The system's voice by pyttsx3, which is patched as well."""
    pytest.importorskip("pyttsx3")
    if shutil.which("espeak-ng") is None or shutil.which("ffprobe") is None:
        pytest.skip("it needs espeak-ng and ffprobe")
    from RealtimeTTS import SystemEngine

    path = tmp_path / "said.wav"
    _stream(SystemEngine(), muted=True).feed(FIRST).play(output_wavfile=str(path))
    with wave.open(str(path)) as file:
        seconds = file.getnframes() / file.getframerate()
        assert np.abs(np.frombuffer(file.readframes(file.getnframes()), "<i2")).max() > 1000
    _attributes(
        spans,
        gen_ai__provider__name="system",
        tts__input__characters=len(FIRST),
        tts__audio__sample_rate=22_050,
        tts__audio__duration=pytest.approx(seconds),
    )


def test_originals_are_put_back_on_a_stand_in_card() -> None:
    from RealtimeTTS.text_to_stream import TextToAudioStream

    names = [
        "feed", "play", "play_async", "_start_alignment_capture", "_on_character", "_on_audio_chunk", "stop",
    ]  # fmt: skip
    patched = [vars(TextToAudioStream)[name] for name in names]
    ttstrace.uninstrument("realtimetts")
    assert all(vars(TextToAudioStream)[name] is was.__wrapped__ for name, was in zip(names, patched, strict=True))
