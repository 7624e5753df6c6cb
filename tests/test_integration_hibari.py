"""hibari-tts itself, with the voice in its wheel: an array, a generator, a file."""

from __future__ import annotations

import time
import wave
from collections.abc import Iterator
from pathlib import Path

import hibari
import numpy as np
import pytest
from conftest import Spans, snapshot_of
from inline_snapshot import snapshot

import ttstrace
from ttstrace import semconv

TEXT = "Hello there. This is a test."
RATE = 24000


@pytest.fixture(autouse=True)
def instrumented() -> Iterator[None]:
    assert ttstrace.instrument("hibari") == ["hibari"]
    yield
    ttstrace.uninstrument()


@pytest.fixture(scope="module")
def voice() -> hibari.Hibari:
    loaded = hibari.Hibari()
    loaded("Warm up.")  # loads the dictionaries
    return loaded


def test_call(spans: Spans, voice: hibari.Hibari) -> None:
    cold = hibari.Hibari(g2p=voice.g2p)
    audio = cold(TEXT)
    span = snapshot_of(spans.one())
    assert span["attributes"].pop(semconv.TTS_AUDIO_DURATION) == len(audio) / RATE
    assert span["attributes"].pop(semconv.TTS_AUDIO_SIZE) == audio.nbytes
    assert span == snapshot(
        {
            "name": "text_to_speech hibari",
            "kind": "INTERNAL",
            "status": "UNSET",
            "attributes": {
                "code.function.name": "hibari.tts.Hibari.__call__",
                "gen_ai.operation.name": "text_to_speech",
                "gen_ai.output.type": "speech",
                "gen_ai.provider.name": "hibari",
                "gen_ai.request.model": "hibari",
                "gen_ai.request.stream": False,
                "gen_ai.speech.voice": "heart",
                "tts.audio.channels": 1,
                "tts.audio.format": "pcm_f32le",
                "tts.audio.sample_rate": 24000,
                "tts.cold_start": True,
                "tts.concurrency.max": 1,
                "tts.cpu.time": "<float>",
                "tts.cpu.utilization": "<float>",
                "tts.device": "cpu",
                "tts.input.characters": 28,
                "tts.language": "en",
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


def test_stream(spans: Spans, voice: hibari.Hibari) -> None:
    chunks = list(voice.stream(TEXT))
    assert len(chunks) == 2
    found = spans.attributes()
    samples = sum(map(len, chunks))
    assert found[semconv.TTS_AUDIO_DURATION] == pytest.approx(samples / RATE, abs=1e-9)
    assert found[semconv.TTS_STREAM_CHUNKS] == 2
    assert found[semconv.GEN_AI_REQUEST_STREAM] is True
    assert found[semconv.CODE_FUNCTION_NAME] == "hibari.tts.Hibari.stream"
    first, whole = found[semconv.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK], found[semconv.TTS_SYNTHESIS_DURATION]
    assert 0 < first < whole
    # The listener hears the first chunk after its own leading silence.
    first_sound = int(np.argmax(np.abs(chunks[0]) > 0.01)) / RATE
    assert found[semconv.TTS_TIME_TO_FIRST_AUDIO] == pytest.approx(first + first_sound, abs=0.05)
    assert found[semconv.TTS_RTF] == pytest.approx(whole * RATE / samples)


def test_save(spans: Spans, voice: hibari.Hibari, tmp_path: Path) -> None:
    path = tmp_path / "speech.wav"
    assert voice.save(TEXT, str(path)) == str(path)
    found = spans.attributes()
    with wave.open(str(path)) as file:
        assert found[semconv.TTS_AUDIO_DURATION] == file.getnframes() / RATE
    assert found[semconv.TTS_AUDIO_SIZE] == path.stat().st_size
    assert found[semconv.TTS_AUDIO_FORMAT] == "wav"
    assert found[semconv.TTS_INPUT_CHARACTERS] == len(TEXT)
    assert str(tmp_path) not in str(found)


def test_nothing_to_say_is_no_audio_and_no_rtf(spans: Spans, voice: hibari.Hibari) -> None:
    assert len(voice("")) == 0
    found = spans.attributes()
    assert found[semconv.TTS_AUDIO_DURATION] == 0.0
    assert found[semconv.TTS_INPUT_CHARACTERS] == 0
    assert found[semconv.TTS_SYNTHESIS_DURATION] > 0
    assert not found.keys() & {semconv.TTS_RTF, semconv.TTS_RTF_GRADE}


def test_nothing_to_stream_is_unknown_audio(spans: Spans, voice: hibari.Hibari) -> None:
    assert list(voice.stream("")) == []
    found = spans.attributes()
    assert found[semconv.TTS_STREAM_CHUNKS] == 0
    assert not found.keys() & {semconv.TTS_RTF, semconv.TTS_AUDIO_DURATION, semconv.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK}


def test_the_consumers_time_is_not_the_models(spans: Spans, voice: hibari.Hibari) -> None:
    list(voice.stream(TEXT))
    began = time.perf_counter()
    for _ in voice.stream(TEXT):
        time.sleep(0.3)
    took = time.perf_counter() - began
    found = dict(spans.all()[-1].attributes or {})
    assert 0 < found[semconv.TTS_SYNTHESIS_DURATION] <= took - 0.6
    assert 0.6 <= found[semconv.TTS_STREAM_HOLD_DURATION] <= took
    assert semconv.TTS_RTF in found


def test_cold_start_is_of_the_loaded_model(spans: Spans, voice: hibari.Hibari) -> None:
    one, other = hibari.Hibari(g2p=voice.g2p), hibari.Hibari(g2p=voice.g2p)
    one("One.")
    list(one.stream("Two."))
    other("Three.")
    assert [(span.attributes or {})[semconv.TTS_COLD_START] for span in spans.all()] == [True, False, True]


def test_model_of_ones_own(spans: Spans, voice: hibari.Hibari, tmp_path: Path) -> None:
    copy = tmp_path / "mine.onnx"
    copy.write_bytes(Path(voice.model_path).read_bytes())
    hibari.Hibari(model=str(copy), g2p=voice.g2p)("Hello.")
    assert spans.one().name == "text_to_speech mine"
    assert str(tmp_path) not in str(spans.attributes())


def test_error(spans: Spans, voice: hibari.Hibari) -> None:
    with pytest.raises(AttributeError, match="strip"):
        voice(7)
    assert spans.attributes()[semconv.ERROR_TYPE] == "AttributeError"
    assert semconv.TTS_INPUT_CHARACTERS not in spans.attributes()


def test_same_audio_as_without(voice: hibari.Hibari, spans: Spans) -> None:
    traced = voice(TEXT, seed=7)
    ttstrace.uninstrument("hibari")
    assert np.array_equal(traced, voice(TEXT, seed=7))
    assert len(spans.all()) == 1
