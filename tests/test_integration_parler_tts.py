"""parler-tts itself: a model of the real classes, tiny and random, made from its configuration."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch_models
from conftest import Spans, between
from opentelemetry.trace import StatusCode

import ttstrace

torch_models.prepare_for("parler_tts")

import parler_tts  # noqa: E402
import torch  # noqa: E402

RATE = 44_100


@pytest.fixture(autouse=True)
def instrumented() -> Iterator[None]:
    assert ttstrace.instrument("parler_tts") == ["parler_tts"]
    yield
    ttstrace.uninstrument()


@pytest.fixture(scope="module")
def model() -> Any:
    from parler_tts.dac_wrapper import modeling_dac

    torch.manual_seed(0)
    configuration = parler_tts.ParlerTTSConfig(
        vocab_size=40,
        text_encoder={
            "model_type": "t5", "vocab_size": 40, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2,
        },
        audio_encoder={
            "model_type": "dac_on_the_hub", "num_codebooks": 2, "codebook_size": 32, "latent_dim": 16,
            "sampling_rate": RATE,
        },
        decoder={
            "vocab_size": 40, "num_hidden_layers": 1, "ffn_dim": 16, "num_attention_heads": 2, "hidden_size": 16,
            "num_codebooks": 2, "pad_token_id": 32, "bos_token_id": 33, "eos_token_id": 32,
            "max_position_embeddings": 128,
        },
        decoder_start_token_id=33, pad_token_id=32,
    )  # fmt: skip
    configuration._name_or_path = "acme/parler-tiny"
    with pytest.MonkeyPatch.context() as patched:
        # Of the codec's size the configuration says nothing.
        tiny = functools.partial(
            modeling_dac.DAC, encoder_dim=4, encoder_rates=[2, 4], decoder_dim=16, decoder_rates=[4, 2]
        )
        patched.setattr(modeling_dac, "DAC", tiny)
        made = parler_tts.ParlerTTSForConditionalGeneration(configuration).eval()
    for name, value in {"max_length": 24, "min_new_tokens": 20, "do_sample": True, "bos_token_id": 33}.items():
        setattr(made.generation_config, name, value)
    made.generation_config.pad_token_id = made.generation_config.eos_token_id = 32
    made.generation_config.decoder_start_token_id = 33
    return made


def _asked(prompts: int = 1) -> dict[str, Any]:
    return {"input_ids": torch.randint(1, 30, (prompts, 7)), "prompt_input_ids": torch.randint(1, 30, (prompts, 5))}


def _attributes(spans: Spans, **expected: Any) -> dict[str, Any]:
    span = spans.one()
    assert span.status.status_code is StatusCode.UNSET
    attributes = dict(span.attributes or {})
    told = {name.replace("__", "."): value for name, value in expected.items()}
    assert {name: attributes.get(name) for name in told} == told
    return attributes


def test_tensor(spans: Spans, model: Any) -> None:
    begun = time.perf_counter()
    made = model.generate(**_asked())
    took = time.perf_counter() - begun
    assert made.shape[0] == 1
    attributes = _attributes(
        spans,
        gen_ai__provider__name="parler-tts",
        gen_ai__request__model="acme/parler-tiny",
        gen_ai__request__stream=False,
        tts__device="cpu",
        tts__audio__sample_rate=RATE,
        tts__audio__duration=made.shape[1] / RATE,
        tts__cold_start=True,
        tts__synthesis__duration=between(0, took),
    )
    # It is given tokens: of the text and of the voice it knows nothing.
    assert not {"tts.input.characters", "gen_ai.speech.voice"} & attributes.keys()


def test_several_prompts(spans: Spans, model: Any) -> None:
    made = model.generate(**_asked(2), return_dict_in_generate=True)
    lengths = made["audios_length"]
    assert len(lengths) == 2
    _attributes(spans, tts__audio__sample_rate=RATE, tts__audio__duration=pytest.approx(sum(lengths) / RATE))


def test_several_prompts_without_their_lengths(spans: Spans, model: Any) -> None:
    model.generate(**_asked(2))
    attributes = _attributes(spans)
    assert not {"tts.audio.duration", "tts.rtf", "tts.audio.channels"} & attributes.keys()


def test_what_the_model_does_not_do(spans: Spans, model: Any) -> None:
    with pytest.raises(ValueError, match="incompatible mode"):
        model.generate(**_asked(), num_beams=2)
    span = spans.one()
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "ValueError"


def test_originals_are_put_back() -> None:
    ttstrace.uninstrument()
    owner = parler_tts.ParlerTTSForConditionalGeneration
    before = vars(owner)["generate"]
    ttstrace.instrument("parler_tts")
    assert vars(owner)["generate"] is not before
    ttstrace.uninstrument("parler_tts")
    assert vars(owner)["generate"] is before
