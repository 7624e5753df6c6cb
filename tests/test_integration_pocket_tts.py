"""pocket-tts itself: its model, tiny and with random weights, made by its own loader from a configuration."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import Spans, between
from torch_models import Stopwatch, check, check_failed, check_put_back, library, paced, torch

import ttstrace
from ttstrace import call as calls

pocket_tts = library("pocket_tts")

RATE = 24_000
FRAME = RATE / 12.5  # samples
FRAMES = 6 + 2  # the fewest before the end of the text is listened for, and those asked for after it
TEXT = "Hello there."
TWO = "One two three. Four five six."


@pytest.fixture(autouse=True)
def instrumented() -> Iterator[None]:
    assert ttstrace.instrument("pocket_tts") == ["pocket_tts"]
    yield
    ttstrace.uninstrument()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    tokenizers = pytest.importorskip("tokenizers")
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("pocket")
    characters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ .,?!'"
    vocabulary = {each: at for at, each in enumerate(["?unknown", *characters])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="?unknown"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Split("", "isolated")
    tokenizer.save(str(folder / "tokenizer.json"))
    seanet = {
        "dimension": 8, "channels": 1, "n_filters": 2, "n_residual_layers": 1, "ratios": [6, 5, 4], "kernel_size": 3,
        "residual_kernel_size": 3, "last_kernel_size": 3, "dilation_base": 2, "pad_mode": "constant", "compress": 2,
    }  # fmt: skip
    configuration = {
        "flow_lm": {
            "dtype": "float32",
            "flow": {"depth": 1, "dim": 8},
            "transformer": {"d_model": 8, "hidden_scale": 1, "max_period": 10_000, "num_heads": 2, "num_layers": 1},
            "lookup_table": {
                "dim": 8, "n_bins": len(vocabulary), "tokenizer": "tokenizers",
                "tokenizer_path": str(folder / "tokenizer.json"),
            },
        },
        "mimi": {
            "dtype": "float32", "sample_rate": RATE, "channels": 1, "frame_rate": 12.5, "inner_dim": 4, "outer_dim": 8,
            "seanet": seanet,
            "transformer": {
                "d_model": 8, "num_heads": 2, "num_layers": 1, "layer_scale": 0.01, "context": 50, "dim_feedforward": 8,
                "input_dimension": 8, "output_dimensions": [8],
            },
            "quantizer": {"dimension": 4, "output_dimension": 8},
        },
        "model_recommended_frames_after_eos": 2,
        "default_eos_threshold": -1e9,
    }  # fmt: skip
    file = folder / "acme_tiny.yaml"
    file.write_text(yaml.safe_dump(configuration))
    return pocket_tts.TTSModel.load_model(config=file)


@pytest.fixture
def voice(model: Any) -> Any:
    return model.get_state_for_audio_prompt(torch.zeros(1, RATE))


@pytest.fixture
def one_by_one(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "max_decoder_frames_per_call", 1)


def test_whole(spans: Spans, model: Any, voice: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    decoding = Stopwatch(monkeypatch, model.mimi, "decode_from_latent")
    begun = time.perf_counter()
    audio = model.generate_audio(voice, TEXT)
    took = time.perf_counter() - begun
    assert audio.shape == (FRAMES * FRAME,)
    check(
        spans,
        gen_ai__provider__name="pocket-tts",
        gen_ai__request__model="acme_tiny",
        gen_ai__request__stream=False,
        tts__input__characters=len(TEXT),
        tts__input__type="text",
        tts__device="cpu",
        tts__audio__sample_rate=RATE,
        tts__audio__channels=1,
        tts__audio__duration=FRAMES * FRAME / RATE,
        tts__synthesis__duration=between(decoding.seconds, took),
    )


def test_stream(spans: Spans, model: Any, voice: Any, one_by_one: None, monkeypatch: pytest.MonkeyPatch) -> None:
    decoding = Stopwatch(monkeypatch, model.mimi, "decode_from_latent")
    begun = time.perf_counter()
    chunks = list(model.generate_audio_stream(voice, TEXT))
    took = time.perf_counter() - begun
    assert len(chunks) == FRAMES
    check(
        spans,
        gen_ai__request__stream=True,
        tts__input__characters=len(TEXT),
        tts__stream__chunks=FRAMES,
        tts__audio__duration=FRAMES * FRAME / RATE,
        tts__synthesis__duration=between(decoding.seconds, took),
    )


def test_a_slow_consumers_threads_go_on(spans: Spans, model: Any, voice: Any, one_by_one: None) -> None:
    """How long the model took, nobody can know who sees the consumer's pulls only."""
    chunks, _ = paced(model.generate_audio_stream(voice, TEXT), 0.05)
    assert len(chunks) == FRAMES
    attributes = check(
        spans, tts__stream__chunks=FRAMES, tts__synthesis__duration=None, tts__rtf=None,
        tts__audio__duration=FRAMES * FRAME / RATE,
    )  # fmt: skip
    assert attributes["tts.stream.hold.duration"] >= FRAMES * 0.05


def test_sentences_are_one_synthesis(spans: Spans, model: Any, voice: Any) -> None:
    audio = model.generate_audio(voice, TWO, max_tokens=16)
    assert audio.shape == (2 * FRAMES * FRAME,)
    check(spans, tts__input__characters=len(TWO), tts__audio__duration=2 * FRAMES * FRAME / RATE)


@pytest.mark.parametrize("door", ["array", "file", "state"])
def test_cloned_voice(spans: Spans, model: Any, door: str, tmp_path: Path) -> None:
    wavfile = pytest.importorskip("scipy.io.wavfile")
    wavfile.write(tmp_path / "me.wav", RATE, np.zeros(RATE, np.int16))
    prompt: Any = {"array": torch.zeros(1, RATE), "file": tmp_path / "me.wav"}.get(door)
    if door == "state":
        from pocket_tts.models.model_state import export_model_state

        export_model_state(model.get_state_for_audio_prompt(torch.zeros(1, RATE)), tmp_path / "me.safetensors")
        prompt = str(tmp_path / "me.safetensors")
    voice = model.get_state_for_audio_prompt(prompt)
    for _ in range(2):  # the voice's own state is copied, and stays
        model.generate_audio(voice, TEXT)
        check(spans, tts__voice__cloned=True, gen_ai__speech__voice=None)
        spans.clear()


def test_named_voice(spans: Spans, model: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The library's own voices are downloaded: here from the test's folder."""
    from pocket_tts.models import tts_model
    from pocket_tts.models.model_state import export_model_state

    state = tmp_path / "alba.safetensors"
    export_model_state(model.get_state_for_audio_prompt(torch.zeros(1, RATE)), state)
    monkeypatch.setattr(tts_model, "download_if_necessary", lambda _: state)
    monkeypatch.setattr(model, "origin", tts_model.CONFIGS_DIR / "english.yaml")
    model.generate_audio(model.get_state_for_audio_prompt("alba"), TEXT)
    check(spans, gen_ai__speech__voice="alba", gen_ai__request__model="english", tts__voice__cloned=None)


def test_voice_of_unknown_origin(spans: Spans, model: Any) -> None:
    from pocket_tts.modules.stateful_module import init_states

    model.generate_audio(init_states(model.flow_lm, 1, 0), TEXT)
    check(spans, tts__voice__cloned=None, gen_ai__speech__voice=None)


def test_voices_that_are_gone_are_forgotten(spans: Spans, model: Any) -> None:
    gc.collect()
    before = len(calls._labels)
    voice = model.get_state_for_audio_prompt(torch.zeros(1, RATE))
    assert len(calls._labels) == before + 1
    del voice
    gc.collect()
    assert len(calls._labels) == before


def test_cold_start_is_the_models(spans: Spans, model: Any, voice: Any) -> None:
    model.generate_audio(voice, TEXT)
    list(model.generate_audio_stream(voice, TEXT))
    assert dict(spans.syntheses()[1].attributes or {})["tts.cold_start"] is False


def test_left_half_way(spans: Spans, model: Any, voice: Any, one_by_one: None) -> None:
    chunks = model.generate_audio_stream(voice, TEXT)
    next(chunks)
    chunks.close()
    check(spans, tts__interrupted=True, tts__audio__duration=FRAME / RATE)


@pytest.mark.parametrize("door", ["generate_audio", "generate_audio_stream"])
def test_failure_in_a_thread(spans: Spans, model: Any, voice: Any, door: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: Any, **kwargs: Any) -> None:
        raise FloatingPointError("no latents today")

    monkeypatch.setattr(model, "_autoregressive_generation", fails)
    with pytest.raises(FloatingPointError) as raised:
        list(getattr(model, door)(voice, TEXT))
    assert raised.value.__context__ is None
    check_failed(spans, FloatingPointError)


def test_failure(spans: Spans, model: Any, voice: Any) -> None:
    with pytest.raises(ValueError, match="empty"):
        model.generate_audio(voice, " ")
    check_failed(spans, ValueError)


def test_originals_are_put_back() -> None:
    check_put_back("pocket_tts")
