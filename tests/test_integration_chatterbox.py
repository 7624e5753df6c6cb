"""chatterbox-tts: its own three classes; the networks in them (of 500 million parameters) are stood in for."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import Spans, between
from torch_models import check, check_failed, check_put_back, library, torch

import ttstrace

library("chatterbox")
perth = pytest.importorskip("perth")
wavfile = pytest.importorskip("scipy.io.wavfile")

RATE = 24_000
SECONDS = 0.02  # that the networks take
TOKENS = 25
SAMPLES = RATE // 25  # of one token
TEXT = "hello there"
CLASSES = {
    "ChatterboxTTS": "chatterbox.tts",
    "ChatterboxTurboTTS": "chatterbox.tts_turbo",
    "ChatterboxMultilingualTTS": "chatterbox.mtl_tts",
}


@pytest.fixture(autouse=True)
def instrumented() -> Iterator[None]:
    assert ttstrace.instrument("chatterbox") == ["chatterbox"]
    yield
    ttstrace.uninstrument()


class Talker:
    """A stand-in for T3: the same speech tokens for every text."""

    def __init__(self) -> None:
        from chatterbox.models.t3.modules.t3_config import T3Config

        self.hp = T3Config()

    def inference(self, *, text_tokens: Any, **options: Any) -> Any:
        time.sleep(SECONDS)
        return torch.full((1, TOKENS), 7)

    def inference_turbo(self, *, text_tokens: Any, **options: Any) -> Any:
        return self.inference(text_tokens=text_tokens, **options)


class Vocoder:
    """A stand-in for S3Gen: a known number of samples for each token."""

    tokenizer = SimpleNamespace(forward=lambda audio, max_len: (torch.zeros(1, 3, dtype=torch.long), None))

    def embed_ref(self, audio: Any, rate: int, device: Any) -> dict[str, Any]:
        return {"embedding": torch.zeros(1, 192)}

    def inference(self, *, speech_tokens: Any, ref_dict: Any, **options: Any) -> Any:
        return torch.zeros(1, len(speech_tokens) * SAMPLES), None


class Tokenizer:
    """A stand-in for all their tokenizers."""

    def text_to_tokens(self, text: str, **options: Any) -> Any:
        return torch.tensor([[ord(each) for each in text]])

    def __call__(self, text: str, **options: Any) -> Any:
        return SimpleNamespace(input_ids=self.text_to_tokens(text))


def _made(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    module = import_module(CLASSES[name])
    # The watermark is a network as well, which the package itself can do without.
    monkeypatch.setattr(perth, "PerthImplicitWatermarker", perth.DummyWatermarker)
    encoder = SimpleNamespace(embeds_from_wavs=lambda audios, sample_rate: np.zeros((1, 256), np.float32))
    talker: Any = Talker()
    conditions = module.Conditionals(module.T3Cond(torch.zeros(1, 256), emotion_adv=torch.full((1, 1, 1), 0.5)), {})
    return getattr(module, name)(talker, Vocoder(), encoder, Tokenizer(), "cpu", conditions)


@pytest.mark.parametrize("name", CLASSES)
def test_generate(spans: Spans, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = _made(name, monkeypatch)
    begun = time.perf_counter()
    options = {"language_id": "ko"} if "Multilingual" in name else {}
    audio = model.generate(TEXT, **options)
    took = time.perf_counter() - begun
    tokens = TOKENS + 3 * ("Turbo" in name)  # silence is added there
    assert audio.shape == (1, tokens * SAMPLES)
    check(
        spans,
        gen_ai__provider__name="chatterbox",
        gen_ai__request__model=name,
        gen_ai__request__stream=False,
        tts__language=options.get("language_id"),
        tts__input__characters=len(TEXT),
        tts__input__type="text",
        tts__device="cpu",
        tts__voice__cloned=None,
        tts__cold_start=True,
        tts__audio__sample_rate=RATE,
        tts__audio__channels=1,
        tts__audio__duration=tokens * SAMPLES / RATE,
        tts__synthesis__duration=between(SECONDS, took),
    )
    spans.clear()
    model.generate(TEXT, **options)
    check(spans, tts__cold_start=False)


@pytest.mark.parametrize("name", CLASSES)
def test_cloned_voice(spans: Spans, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = _made(name, monkeypatch)
    wavfile.write(tmp_path / "me.wav", RATE, np.zeros(6 * RATE, np.int16))
    # librosa takes many seconds to compile itself when it is first used.
    reader = SimpleNamespace(
        load=lambda path, sr: (wavfile.read(path)[1].astype(np.float32), sr), resample=lambda audio, **rates: audio
    )
    monkeypatch.setattr(sys.modules[CLASSES[name]], "librosa", reader)
    options = {"language_id": None} if "Multilingual" in name else {}
    model.generate(TEXT, audio_prompt_path=str(tmp_path / "me.wav"), **options)
    attributes = check(spans, tts__voice__cloned=True, tts__input__characters=len(TEXT), tts__language=None)
    # The recording is what is listened to, and nobody's business.
    assert attributes["tts.audio.duration"] < 2
    assert not any(Path(str(value)).stem == "me" for value in attributes.values())


@pytest.mark.parametrize("name", CLASSES)
def test_failures(spans: Spans, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = _made(name, monkeypatch)
    if "Multilingual" in name:
        with pytest.raises(ValueError, match="tlh"):
            model.generate(TEXT, language_id="tlh")
        check_failed(spans, ValueError)
        spans.clear()
    model.conds = None
    with pytest.raises(AssertionError):
        model.generate(TEXT, **({"language_id": "en"} if "Multilingual" in name else {}))
    check_failed(spans, AssertionError)


def test_originals_are_put_back() -> None:
    check_put_back("chatterbox")
