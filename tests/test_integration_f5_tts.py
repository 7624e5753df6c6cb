"""f5-tts itself: its interface and its model, tiny and with random weights; the vocoder is stood in for."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Spans, between
from torch_models import Stopwatch, check, check_failed, check_put_back, leave_out, library, torch

import ttstrace

library("f5_tts")
leave_out("cached_path", "f5_tts.model.trainer", "vocos")
torchaudio = pytest.importorskip("torchaudio")
wavfile = pytest.importorskip("scipy.io.wavfile")

RATE = 24_000
HOP = 256
REFERENCE = "Nobody knows what I say here."
TEXT = "Hello there, listener."


@pytest.fixture(autouse=True)
def instrumented() -> Iterator[None]:
    assert ttstrace.instrument("f5_tts") == ["f5_tts"]
    yield
    ttstrace.uninstrument()


class Vocoder:
    """A stand-in for vocos: as many samples for each frame of a spectrogram, and none that is silent."""

    def decode(self, spectrogram: Any) -> Any:
        return torch.full((1, spectrogram.shape[-1] * HOP), 0.5)


def _tiny(*architecture: Any, **options: Any) -> Any:
    from f5_tts.model import CFM, DiT

    torch.manual_seed(0)
    characters = {each: at for at, each in enumerate(" abcdefghijklmnopqrstuvwxyzHN,.")}
    backbone = DiT(dim=16, depth=1, heads=2, dim_head=8, ff_mult=1, text_dim=8, text_num_embeds=len(characters))
    mel = {
        "n_fft": 1024, "hop_length": HOP, "win_length": 1024, "n_mel_channels": 100, "target_sample_rate": RATE,
        "mel_spec_type": "vocos",
    }  # fmt: skip
    return CFM(transformer=backbone, mel_spec_kwargs=mel, vocab_char_map=characters)


def _made(monkeypatch: pytest.MonkeyPatch, **options: Any) -> Any:
    from f5_tts import api

    # What they load is made by the test.
    monkeypatch.setattr(api, "load_vocoder", lambda *_: Vocoder())
    monkeypatch.setattr(api, "load_model", _tiny)
    monkeypatch.setattr(api, "cached_path", lambda *_, **__: "downloaded")
    return api.F5TTS(device="cpu", **options)


@pytest.fixture
def voice(monkeypatch: pytest.MonkeyPatch) -> Any:
    # torchaudio itself reads files by what needs ffmpeg's libraries.
    def load(path: str) -> tuple[Any, int]:
        rate, samples = wavfile.read(path)
        return torch.from_numpy(samples.astype(np.float32) / 32768)[None], rate

    monkeypatch.setattr(torchaudio, "load", load)
    return _made(monkeypatch)


@pytest.fixture
def recording(tmp_path: Path) -> str:
    tone = np.sin(np.arange(2 * RATE) * 2 * math.pi * 220 / RATE)
    wavfile.write(tmp_path / "me.wav", RATE, (tone * 10_000).astype(np.int16))
    return str(tmp_path / "me.wav")


def _say(voice: Any, recording: str, text: str = TEXT, **options: Any) -> Any:
    return voice.infer(recording, REFERENCE, text, nfe_step=2, show_info=lambda _: None, progress=None, **options)


def test_infer(spans: Spans, voice: Any, recording: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sampling = Stopwatch(monkeypatch, voice.ema_model, "sample")
    begun = time.perf_counter()
    samples, rate, spectrogram = _say(voice, recording)
    took = time.perf_counter() - begun
    assert rate == RATE
    assert len(samples) == spectrogram.shape[-1] * HOP
    attributes = check(
        spans,
        gen_ai__provider__name="f5-tts",
        gen_ai__request__model="F5TTS_v1_Base",
        gen_ai__request__stream=False,
        gen_ai__speech__voice=None,
        tts__voice__cloned=True,
        tts__input__characters=len(TEXT),
        tts__input__type="text",
        tts__device="cpu",
        tts__audio__sample_rate=RATE,
        tts__audio__channels=1,
        tts__audio__duration=len(samples) / RATE,
        tts__synthesis__duration=between(sampling.seconds, took),
    )
    assert not any(REFERENCE in str(value) or "me.wav" in str(value) for value in attributes.values())


def test_written_to_a_file_as_well(spans: Spans, voice: Any, recording: str, tmp_path: Path) -> None:
    pytest.importorskip("soundfile")
    samples, *_ = _say(voice, recording, file_wave=str(tmp_path / "said.wav"))
    assert len(wavfile.read(tmp_path / "said.wav")[1]) == len(samples)
    check(spans, tts__audio__duration=len(samples) / RATE)


def test_parts_made_in_threads_are_one_synthesis(spans: Spans, voice: Any, recording: str) -> None:
    text = "A sentence of some length that is said first. " * 6
    samples, *_ = _say(voice, recording, text)
    check(spans, tts__input__characters=len(text), tts__audio__duration=len(samples) / RATE)


def test_weights_of_ones_own(spans: Spans, voice: Any, recording: str, monkeypatch: pytest.MonkeyPatch) -> None:
    own = _made(monkeypatch, ckpt_file="/home/somebody/acme_9000.safetensors")
    _say(own, recording)
    check(spans, gen_ai__request__model="acme_9000", tts__cold_start=True)
    spans.clear()
    _say(own, recording)
    check(spans, tts__cold_start=False)


def test_nothing_to_say(spans: Spans, voice: Any, recording: str) -> None:
    assert _say(voice, recording, "") == (None, RATE, None)
    check(spans, tts__audio__duration=None, tts__rtf=None, tts__input__characters=0)


def test_failure(spans: Spans, voice: Any, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        _say(voice, str(tmp_path / "nobody.wav"))
    check_failed(spans, FileNotFoundError)


def test_originals_are_put_back() -> None:
    check_put_back("f5_tts")
