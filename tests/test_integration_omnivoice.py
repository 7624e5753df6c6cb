"""omnivoice itself: its model, tiny and with random weights; both tokenizers are stood in for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import Spans, between
from torch_models import Stopwatch, check, check_failed, check_put_back, library, torch

import ttstrace

library("omnivoice")
transformers = pytest.importorskip("transformers")

RATE = 24_000
HOP = 960  # samples of one audio token
TEXT = "Hello there."
PLAIN = {"num_step": 2, "postprocess_output": False, "pad_duration": 0.0}


@pytest.fixture(autouse=True)
def instrumented(spans: Spans) -> Iterator[None]:
    assert ttstrace.instrument("omnivoice") == ["omnivoice"]
    yield
    ttstrace.uninstrument()


class TextTokenizer:
    """A stand-in: a token for every character."""

    def __call__(self, text: str, **options: Any) -> Any:
        tokens = [ord(each) % 64 for each in text]
        return SimpleNamespace(input_ids=torch.tensor([tokens]) if options.get("return_tensors") else tokens)


class AudioTokenizer:
    """A stand-in: as many samples for every token, of a tone."""

    config = SimpleNamespace(frame_rate=RATE // HOP, hop_length=HOP)
    device = torch.device("cpu")

    def decode(self, tokens: Any) -> Any:
        tone = torch.sin(torch.arange(tokens.shape[-1] * HOP) * 0.1)
        return SimpleNamespace(audio_values=tone[None, None])

    def encode(self, audio: Any) -> Any:
        return SimpleNamespace(audio_codes=torch.zeros(1, 2, audio.shape[-1] // HOP, dtype=torch.long))


def _equipped(model: Any) -> Any:
    from omnivoice.utils.duration import RuleDurationEstimator

    model.text_tokenizer, model.audio_tokenizer = TextTokenizer(), AudioTokenizer()
    model.duration_estimator, model.sampling_rate = RuleDurationEstimator(), RATE
    return model


@pytest.fixture
def model() -> Any:
    from omnivoice.models.omnivoice import OmniVoice, OmniVoiceConfig

    torch.manual_seed(0)
    language_model = transformers.Qwen3Config(
        vocab_size=64, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=4,
    )  # fmt: skip
    configuration = OmniVoiceConfig(
        audio_vocab_size=9, audio_mask_id=8, num_audio_codebook=2, audio_codebook_weights=[1, 1],
        llm_config=language_model,
    )  # fmt: skip
    return _equipped(OmniVoice(configuration))


def test_generate(spans: Spans, model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = Stopwatch(monkeypatch, model, "_generate_iterative")
    begun = time.perf_counter()
    (audio,) = model.generate(TEXT, language="en", duration=0.4, **PLAIN)
    took = time.perf_counter() - begun
    assert audio.shape == (10 * HOP,)
    check(
        spans,
        gen_ai__provider__name="omnivoice",
        gen_ai__request__model=None,
        gen_ai__request__stream=False,
        gen_ai__speech__voice=None,
        tts__language="en",
        tts__input__characters=len(TEXT),
        tts__input__type="text",
        tts__device="cpu",
        tts__cold_start=True,
        tts__voice__cloned=None,
        tts__audio__sample_rate=RATE,
        tts__audio__channels=1,
        tts__audio__duration=0.4,
        tts__synthesis__duration=between(forward.seconds, took),
    )
    spans.clear()
    (audio,) = model.generate(TEXT, num_step=2)
    check(spans, tts__cold_start=False, tts__language=None, tts__audio__duration=len(audio) / RATE)


@pytest.mark.parametrize("texts", [["Hello there.", "Again, and again."], ["Alone."]])
def test_texts_in_a_list(spans: Spans, model: Any, texts: list[str]) -> None:
    audios = model.generate(texts, language=["en"] * len(texts), duration=[0.4, 0.2][: len(texts)], **PLAIN)
    check(
        spans,
        tts__language=None,
        tts__input__characters=sum(map(len, texts)),
        tts__audio__duration=pytest.approx(sum(map(len, audios)) / RATE),
        tts__audio__channels=1,
        tts__batch__size=len(texts),
    )


def test_language_by_name_is_no_code(spans: Spans, model: Any) -> None:
    model.generate(TEXT, language="Korean", **PLAIN)
    check(spans, tts__language=None)


def test_results_that_are_tensors(spans: Spans, model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As they were before 0.2: of one channel each."""
    found = model._decode_and_post_process
    monkeypatch.setattr(model, "_decode_and_post_process", lambda *args: torch.from_numpy(found(*args))[None])
    model.generate(TEXT, duration=0.4, **PLAIN)
    check(spans, tts__audio__duration=0.4, tts__audio__channels=1)
    spans.clear()
    model.generate([TEXT, TEXT], duration=0.4, **PLAIN)
    check(spans, tts__audio__duration=0.8, tts__audio__channels=1, tts__batch__size=2)


@pytest.mark.parametrize("door", ["recording", "prompt"])
def test_cloned_voice(spans: Spans, model: Any, door: str) -> None:
    recording = (torch.full((1, RATE), 0.2), RATE)
    if door == "recording":
        options: dict[str, Any] = {"ref_audio": recording, "ref_text": "nobody knows"}
    else:
        prompt = model.create_voice_clone_prompt(recording, "nobody knows", preprocess_prompt=False)
        options = {"voice_clone_prompt": prompt}
    model.generate(TEXT, **options, duration=0.4, preprocess_prompt=False, **PLAIN)
    attributes = check(spans, tts__voice__cloned=True, tts__audio__duration=0.4, tts__input__characters=len(TEXT))
    assert not any("nobody knows" in str(value) for value in attributes.values())


def test_designed_voice_is_not_told(spans: Spans, model: Any) -> None:
    model.generate(TEXT, instruct="female, british accent", **PLAIN)
    attributes = check(spans, gen_ai__speech__voice=None, tts__voice__cloned=None)
    assert not any("british" in str(value) for value in attributes.values())


def test_name_of_the_model(spans: Spans, model: Any, tmp_path: Path) -> None:
    """What was asked for, not the folder that a hub's snapshot lies in."""
    from omnivoice.models.omnivoice import OmniVoice

    model.save_pretrained(tmp_path / "acme-omni")
    loaded = _equipped(OmniVoice.from_pretrained(str(tmp_path / "acme-omni"), train=True))
    loaded.generate(TEXT, **PLAIN)
    check(spans, gen_ai__request__model="acme-omni")


def test_failures(spans: Spans, model: Any) -> None:
    with pytest.raises(ValueError, match="Unsupported instruct"):
        model.generate(TEXT, instruct="sings")
    check_failed(spans, ValueError)
    spans.clear()
    model.audio_tokenizer = None
    with pytest.raises(RuntimeError, match="not loaded"):
        model.generate(TEXT)
    check_failed(spans, RuntimeError)


def test_originals_are_put_back() -> None:
    check_put_back("omnivoice")
