"""styletts2 itself: a model of the real parts, small and random, in place of the checkpoint that it would download."""

from __future__ import annotations

import time
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch_models
from conftest import Spans, between
from opentelemetry.trace import StatusCode

import ttstrace

torch_models.prepare_for("styletts2")

import torch  # noqa: E402

nltk = pytest.importorskip("nltk")
with pytest.MonkeyPatch.context() as patched:
    patched.setattr(nltk, "download", lambda *_: False)  # the library's first line
    from styletts2 import tts

RATE = 24_000
TEXT = "Hi there."
FEW = {"diffusion_steps": 2}


@pytest.fixture(autouse=True)
def instrumented() -> Iterator[None]:
    assert ttstrace.instrument("styletts2") == ["styletts2"]
    yield
    ttstrace.uninstrument()


def _model() -> tuple[Any, Any]:
    """The networks, and what they are told of their sizes: some of these the library's code has fixed."""
    import transformers
    from styletts2 import models, utils

    class Bert(transformers.AlbertModel):  # type: ignore[misc]
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            return super().forward(*args, **kwargs).last_hidden_state

    torch.manual_seed(0)
    sizes = utils.recursive_munch(
        {
            "hidden_dim": 512, "style_dim": 128, "n_mels": 80, "n_token": 178, "n_layer": 1, "dim_in": 16, "max_dur": 1,
            "dropout": 0.0, "multispeaker": True,
            "decoder": {
                "type": "hifigan", "resblock_kernel_sizes": [3], "resblock_dilation_sizes": [[1, 3, 5]],
                "upsample_rates": [10, 5, 3, 2], "upsample_kernel_sizes": [20, 10, 6, 4],
                "upsample_initial_channel": 512,
            },
            "diffusion": {
                "embedding_mask_proba": 0.1, "dist": {"sigma_data": 0.2, "mean": -3.0, "std": 1.0},
                "transformer": {"num_layers": 1, "num_heads": 2, "head_features": 8, "multiplier": 2},
            },
            "slm": {"hidden": 16, "nlayers": 2, "initial_channel": 8},
        }
    )  # fmt: skip
    bert = transformers.AlbertConfig(
        vocab_size=178, embedding_size=16, hidden_size=16, num_attention_heads=2, intermediate_size=16,
        num_hidden_layers=1,
    )  # fmt: skip
    nets = models.build_model(sizes, None, None, Bert(bert))
    for net in nets.values():
        if net is not None:
            net.eval()
    return nets, sizes


@pytest.fixture(scope="module")
def engine() -> Any:
    def load_model(self: Any, model_path: Any = None, config_path: Any = None) -> Any:
        self.config = {"preprocess_params": {"sr": RATE}}
        nets, self.model_params = _model()
        return nets

    ttstrace.instrument("styletts2")  # what it is made with is noticed
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tts.StyleTTS2, "load_model", load_model)
        patched.setattr(tts, "word_tokenize", str.split)  # the data for it would be downloaded
        yield tts.StyleTTS2(model_checkpoint_path="/models/acme-style.pth", config_path="/models/acme.yml")


def _attributes(spans: Spans, **expected: Any) -> dict[str, Any]:
    span = spans.one()
    assert span.status.status_code is StatusCode.UNSET
    attributes = dict(span.attributes or {})
    told = {name.replace("__", "."): value for name, value in expected.items()}
    assert {name: attributes.get(name) for name in told} == told
    return attributes


def test_array(spans: Spans, engine: Any) -> None:
    begun = time.perf_counter()
    samples = engine.inference(TEXT, ref_s=torch.zeros(1, 256), **FEW)
    took = time.perf_counter() - begun
    _attributes(
        spans,
        gen_ai__provider__name="styletts2",
        gen_ai__request__model="acme-style",
        gen_ai__request__stream=False,
        tts__voice__cloned=True,
        tts__input__characters=len(TEXT),
        tts__device="cpu",
        tts__audio__sample_rate=RATE,
        tts__audio__duration=len(samples) / RATE,
        tts__cold_start=True,
        tts__synthesis__duration=between(0, took),
    )


def test_file_as_well(spans: Spans, engine: Any, tmp_path: Path) -> None:
    path = tmp_path / "speech.wav"
    samples = engine.inference(TEXT, output_wav_file=path, output_sample_rate=8_000, ref_s=torch.zeros(1, 256), **FEW)
    assert path.stat().st_size > 4 * len(samples)
    _attributes(spans, tts__audio__sample_rate=RATE, tts__audio__duration=len(samples) / RATE)


def test_long_text_is_one_span(spans: Spans, engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tts, "SINGLE_INFERENCE_MAX_LEN", 8)
    samples = engine.inference(TEXT, ref_s=torch.zeros(1, 256), **FEW)
    _attributes(
        spans,
        code__function__name="styletts2.tts.StyleTTS2.inference",
        tts__input__characters=len(TEXT),
        tts__audio__duration=len(samples) / RATE,
    )


def test_voice_of_the_library(spans: Spans, engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tts, "cached_path", lambda url: "example.wav")
    monkeypatch.setattr(engine, "compute_style", lambda path: torch.zeros(1, 256), raising=False)
    samples = engine.long_inference(TEXT, **FEW)
    attributes = _attributes(spans, tts__audio__duration=len(samples) / RATE)
    assert "tts.voice.cloned" not in attributes


def test_recording_that_is_none(spans: Spans, engine: Any, tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "someone.wav"), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
    with pytest.raises(RuntimeError, match="0 elements"):
        engine.inference(TEXT, target_voice_path=str(tmp_path / "someone.wav"), **FEW)
    span = spans.one()
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "RuntimeError"
    assert (span.attributes or {})["tts.voice.cloned"] is True


def test_originals_are_put_back() -> None:
    ttstrace.uninstrument()
    names = ["__init__", "inference", "long_inference"]
    before = [vars(tts.StyleTTS2)[name] for name in names]
    ttstrace.instrument("styletts2")
    assert all(vars(tts.StyleTTS2)[name] is not was for name, was in zip(names, before, strict=True))
    ttstrace.uninstrument("styletts2")
    assert all(vars(tts.StyleTTS2)[name] is was for name, was in zip(names, before, strict=True))
