"""qwen-tts: its own interface; the networks behind it, which need an older transformers, are stood in for."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import Spans, between
from torch_models import check, check_failed, check_put_back, leave_out, library, torch

import ttstrace

leave_out("qwen_tts.core", "qwen_tts.core.models")
qwen_tts = library("qwen_tts")

RATE = 24_000
SECONDS = 0.02  # that the networks take
FRAME = 1920  # samples
TEXT = "안녕하세요."
VOICE = {
    "generate_custom_voice": {"speaker": "Vivian"},
    "generate_voice_design": {"instruct": "A grumpy old man."},
    "generate_voice_clone": {"ref_audio": (np.zeros(RATE, np.float32), RATE), "ref_text": "nobody knows"},
}
KIND = {
    "generate_custom_voice": "custom_voice", "generate_voice_design": "voice_design", "generate_voice_clone": "base",
}  # fmt: skip


@pytest.fixture(autouse=True)
def instrumented() -> Iterator[None]:
    assert ttstrace.instrument("qwen_tts") == ["qwen_tts"]
    yield
    ttstrace.uninstrument()


class Networks(torch.nn.Module):  # type: ignore[misc]
    """A stand-in for Qwen3TTSForConditionalGeneration and its speech tokenizer: a frame for every token of a text."""

    tts_model_size = "1b7"
    tokenizer_type = "12hz"
    speaker_encoder_sample_rate = RATE

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.tts_model_type = kind
        self.config = SimpleNamespace(_name_or_path="Acme/Qwen3-TTS-Tiny")
        self.speech_tokenizer = SimpleNamespace(encode=self.encode, decode=self.decode)

    def get_supported_languages(self) -> list[str]:
        return ["auto", "korean", "english"]

    def get_supported_speakers(self) -> list[str]:
        return ["vivian", "ryan"]

    def extract_speaker_embedding(self, audio: Any, sr: int) -> Any:
        return torch.zeros(4)

    def encode(self, audios: list[Any], sr: int) -> Any:
        return SimpleNamespace(audio_codes=[torch.zeros(5, 2) for _ in audios])

    def generate(self, input_ids: list[Any], **options: Any) -> Any:
        time.sleep(SECONDS)
        return [torch.zeros(each.shape[-1], 2) for each in input_ids], None

    def decode(self, codes: list[dict[str, Any]]) -> Any:
        return [np.zeros(len(each["audio_codes"]) * FRAME, np.float32) for each in codes], RATE


def _processor(text: str, **options: Any) -> dict[str, Any]:
    """A stand-in: a token for every word."""
    return {"input_ids": torch.zeros(1, len(text.split()), dtype=torch.long)}


def _voice(door: str) -> Any:
    return qwen_tts.Qwen3TTSModel(Networks(KIND[door]), _processor)


@pytest.mark.parametrize("door", VOICE)
def test_generate(spans: Spans, door: str) -> None:
    voice = _voice(door)
    begun = time.perf_counter()
    (audio,), rate = getattr(voice, door)(TEXT, language="Korean", **VOICE[door])
    took = time.perf_counter() - begun
    assert rate == RATE
    attributes = check(
        spans,
        gen_ai__provider__name="qwen",
        gen_ai__request__model="Acme/Qwen3-TTS-Tiny",
        gen_ai__request__stream=False,
        gen_ai__speech__voice="Vivian" if door == "generate_custom_voice" else None,
        tts__voice__cloned=True if door == "generate_voice_clone" else None,
        tts__language="ko",
        tts__input__characters=len(TEXT),
        tts__input__type="text",
        tts__device="cpu",
        tts__cold_start=True,
        tts__audio__sample_rate=RATE,
        tts__audio__channels=1,
        tts__audio__duration=len(audio) / RATE,
        tts__synthesis__duration=between(SECONDS, took),
    )
    assert not any(private in str(value) for value in attributes.values() for private in ("grumpy", "nobody knows"))
    spans.clear()
    getattr(copy.copy(voice), door)(TEXT, **VOICE[door])
    check(spans, tts__cold_start=False, tts__language=None)


def test_texts_in_a_list(spans: Spans) -> None:
    texts = ["One.", "Two of them."]
    audios, _ = _voice("generate_custom_voice").generate_custom_voice(
        text=texts, speaker=["Vivian", "Ryan"], language=["English", "Auto"]
    )
    assert len({len(audio) for audio in audios}) == 2
    check(
        spans,
        gen_ai__speech__voice=None,
        tts__language=None,
        tts__input__characters=sum(map(len, texts)),
        tts__batch__size=2,
        tts__audio__channels=1,
        tts__audio__duration=sum(map(len, audios)) / RATE,
    )


def test_one_voice_for_all(spans: Spans) -> None:
    _voice("generate_custom_voice").generate_custom_voice(["One.", "Two."], "Ryan", "auto")
    check(spans, gen_ai__speech__voice="Ryan", tts__language=None, tts__batch__size=2)


def test_voice_from_a_prompt(spans: Spans) -> None:
    voice = _voice("generate_voice_clone")
    prompt = voice.create_voice_clone_prompt(**VOICE["generate_voice_clone"])
    assert not spans.syntheses()
    voice.generate_voice_clone(TEXT, voice_clone_prompt=prompt)
    check(spans, tts__voice__cloned=True, gen_ai__speech__voice=None)


def test_failures(spans: Spans) -> None:
    with pytest.raises(ValueError, match="Unsupported speakers"):
        _voice("generate_custom_voice").generate_custom_voice(TEXT, "nobody")
    check_failed(spans, ValueError)
    spans.clear()
    with pytest.raises(ValueError, match="does not support"):
        _voice("generate_voice_design").generate_voice_clone(TEXT)
    check_failed(spans, ValueError)


def test_originals_are_put_back() -> None:
    check_put_back("qwen_tts")
