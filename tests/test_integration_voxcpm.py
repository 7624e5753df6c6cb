"""voxcpm itself: its model, tiny and with random weights, which its own loader reads from a folder."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import Spans, between
from torch_models import Stopwatch, check, check_failed, check_put_back, library, paced, torch

import ttstrace

voxcpm = library("voxcpm")
tokenizers = pytest.importorskip("tokenizers")
wavfile = pytest.importorskip("scipy.io.wavfile")

RATE = 24_000  # of what it makes; it listens at 16 kHz
PATCHES = 3
PATCH = 2 * 20  # samples: of as many latents, each of as many samples
SIZE = {"max_len": PATCHES, "inference_timesteps": 1}
TEXT = "Hello there."


@pytest.fixture(autouse=True)
def instrumented(spans: Spans) -> Iterator[None]:
    assert ttstrace.instrument("voxcpm") == ["voxcpm"]
    yield
    ttstrace.uninstrument()


def _configuration(architecture: str) -> dict[str, Any]:
    small = {"hidden_dim": 8, "ffn_dim": 8, "num_heads": 2, "num_layers": 1, "kv_channels": 4}
    language_model = {
        "bos_token_id": 1, "eos_token_id": 2, "hidden_size": 8, "intermediate_size": 8, "max_position_embeddings": 512,
        "num_attention_heads": 2, "num_hidden_layers": 1, "num_key_value_heads": 1, "rms_norm_eps": 1e-5,
        "rope_scaling": {
            "type": "longrope", "long_factor": [1.0, 1.0], "short_factor": [1.0, 1.0],
            "original_max_position_embeddings": 512,
        },
        "vocab_size": 128, "scale_emb": 1, "dim_model_base": 8, "scale_depth": 1.0, "rope_theta": 10_000.0,
        "kv_channels": 4,
    }  # fmt: skip
    audio: dict[str, Any] = {
        "encoder_dim": 4, "encoder_rates": [4, 5], "latent_dim": 4, "decoder_dim": 8, "decoder_rates": [5, 4],
        "sample_rate": 16_000,
    }  # fmt: skip
    if architecture == "voxcpm2":
        audio |= {"out_sample_rate": RATE, "sr_bin_boundaries": None}
    else:
        audio["sample_rate"] = RATE
    return {
        "architecture": architecture, "lm_config": language_model, "patch_size": 2, "feat_dim": 4,
        "residual_lm_num_layers": 1, "scalar_quantization_latent_dim": 4, "encoder_config": small,
        "dit_config": {**small, "cfm_config": {}}, "audio_vae_config": audio, "max_length": 512, "device": "cpu",
        "dtype": "float32",
    }  # fmt: skip


def _load(folder: Path, architecture: str = "voxcpm2") -> Any:
    folder = folder / "acme-voxcpm-tiny"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(_configuration(architecture)))
    characters = {each: at for at, each in enumerate(["<unk>", "<s>", "</s>", *"abcdefghijklmnopqrstuvwxyzHT ."])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(characters, [], unk_token="<unk>"))
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizerFast"}))
    for name in ("audiovae.pth", "pytorch_model.bin"):
        torch.save({}, folder / name)  # none are loaded: it keeps what it was made with
    torch.manual_seed(0)
    return voxcpm.VoxCPM.from_pretrained(str(folder), load_denoiser=False, optimize=False, device="cpu")


@pytest.fixture
def voice(instrumented: None, tmp_path: Path) -> Any:
    return _load(tmp_path)


@pytest.fixture
def recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    # librosa takes many seconds to compile itself when it is first used.
    def load(path: str, sr: int, mono: bool) -> tuple[Any, int]:
        rate, samples = wavfile.read(path)
        assert rate == sr
        return samples.astype(np.float32), rate

    from voxcpm.model import voxcpm2

    monkeypatch.setattr(voxcpm2, "librosa", SimpleNamespace(load=load))
    wavfile.write(tmp_path / "me.wav", 16_000, np.zeros(1600, np.int16))
    return str(tmp_path / "me.wav")


@pytest.mark.parametrize("architecture", ["voxcpm2", "voxcpm"])
def test_generate(spans: Spans, tmp_path: Path, architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    voice = _load(tmp_path, architecture)
    inference = Stopwatch(monkeypatch, voice.tts_model.feat_decoder, "forward")
    begun = time.perf_counter()
    audio = voice.generate(TEXT, **SIZE)
    took = time.perf_counter() - begun
    assert audio.shape == (PATCHES * PATCH,)
    check(
        spans,
        gen_ai__provider__name="voxcpm",
        gen_ai__request__model="acme-voxcpm-tiny",
        gen_ai__request__stream=False,
        tts__input__characters=len(TEXT),
        tts__input__type="text",
        tts__device="cpu",
        tts__cold_start=True,
        tts__voice__cloned=None,
        tts__audio__sample_rate=RATE,
        tts__audio__channels=1,
        tts__audio__duration=PATCHES * PATCH / RATE,
        tts__synthesis__duration=between(inference.seconds, took),
    )


def test_stream(spans: Spans, voice: Any) -> None:
    chunks = list(voice.generate_streaming(text=TEXT, retry_badcase=False, **SIZE))
    assert [chunk.shape for chunk in chunks] == [(PATCH,)] * PATCHES
    check(
        spans,
        gen_ai__request__stream=True,
        tts__input__characters=len(TEXT),
        tts__stream__chunks=PATCHES,
        tts__audio__sample_rate=RATE,
        tts__audio__duration=PATCHES * PATCH / RATE,
    )


def test_a_slow_consumers_time_is_not_the_models(spans: Spans, voice: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    inference = Stopwatch(monkeypatch, voice.tts_model.feat_decoder, "forward")
    stream = voice.generate_streaming(TEXT, retry_badcase=False, **SIZE)
    time.sleep(0.1)
    begun = time.perf_counter()
    chunks, pulled = paced(stream, 0.1)
    assert time.perf_counter() - begun >= 0.1 * PATCHES
    assert len(chunks) == PATCHES
    # The call itself does next to nothing; what it does is the backend's.
    attributes = check(spans, tts__synthesis__duration=between(inference.seconds, pulled + 0.05))
    assert attributes["tts.stream.hold.duration"] >= 0.1 * PATCHES


@pytest.mark.parametrize("door", ["generate", "generate_streaming"])
@pytest.mark.parametrize("how", ["named", "in order", "reference"])
def test_cloned_voice(spans: Spans, voice: Any, recording: str, door: str, how: str) -> None:
    given: tuple[Any, ...] = (TEXT, recording, "nobody knows") if how == "in order" else (TEXT,)
    named = {
        "named": {"prompt_wav_path": recording, "prompt_text": "nobody knows"},
        "in order": {},
        "reference": {"reference_wav_path": recording},
    }[how]
    made = getattr(voice, door)(*given, **named, retry_badcase=False, **SIZE)
    samples = len(made) if door == "generate" else sum(map(len, made))
    attributes = check(
        spans, tts__voice__cloned=True, tts__input__characters=len(TEXT), tts__audio__duration=samples / RATE
    )
    assert not any("nobody knows" in str(value) or "me.wav" in str(value) for value in attributes.values())


def test_weights_are_the_models(spans: Spans, voice: Any) -> None:
    voice.generate(TEXT, **SIZE)
    list(copy.copy(voice).generate_streaming(TEXT, retry_badcase=False, **SIZE))
    assert dict(spans.syntheses()[1].attributes or {})["tts.cold_start"] is False


def test_left_half_way(spans: Spans, voice: Any) -> None:
    stream = voice.generate_streaming(TEXT, retry_badcase=False, **SIZE)
    next(stream)
    stream.close()
    check(spans, tts__interrupted=True, tts__audio__duration=PATCH / RATE)


@pytest.mark.parametrize("door", ["generate", "generate_streaming"])
def test_failures(spans: Spans, voice: Any, door: str) -> None:
    with pytest.raises(ValueError, match="non-empty"):
        list(getattr(voice, door)(" "))
    check_failed(spans, ValueError)
    spans.clear()
    with pytest.raises(FileNotFoundError):
        list(getattr(voice, door)(TEXT, reference_wav_path="nobody.wav"))
    check_failed(spans, FileNotFoundError)


def test_originals_are_put_back() -> None:
    check_put_back("voxcpm")
