"""transformers itself: models of the real classes, tiny and random, made from their configurations."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Spans
from opentelemetry.trace import StatusCode

import ttstrace

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

RATE = 16_000


@pytest.fixture(autouse=True)
def instrumented() -> Iterator[None]:
    assert ttstrace.instrument("transformers") == ["transformers"]
    yield
    ttstrace.uninstrument()


@pytest.fixture(scope="module")
def vits() -> Any:
    torch.manual_seed(0)
    configuration = transformers.VitsConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, window_size=4, ffn_dim=32,
        flow_size=16, spectrogram_bins=9, use_stochastic_duration_prediction=False,
        duration_predictor_filter_channels=16, prior_encoder_num_flows=1, posterior_encoder_num_wavenet_layers=1,
        prior_encoder_num_wavenet_layers=1, upsample_initial_channel=16, upsample_rates=[4, 4],
        upsample_kernel_sizes=[8, 8], resblock_kernel_sizes=[3], resblock_dilation_sizes=[[1]], sampling_rate=RATE,
    )  # fmt: skip
    configuration._name_or_path = "acme/vits-tiny"
    return transformers.VitsModel(configuration).eval()


@pytest.fixture(scope="module")
def speaker(vits: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    vocabulary = tmp_path_factory.mktemp("vits") / "vocab.json"
    vocabulary.write_text(json.dumps({each: at for at, each in enumerate(" abcdefghijklmnopqrstuvwxyz'-|<>")}))
    tokenizer = transformers.VitsTokenizer(str(vocabulary), pad_token="|", unk_token="<", phonemize=False)
    return transformers.pipeline("text-to-speech", model=vits, tokenizer=tokenizer)


def _attributes(spans: Spans, **expected: Any) -> dict[str, Any]:
    span = spans.one()
    assert span.status.status_code is StatusCode.UNSET
    attributes = dict(span.attributes or {})
    told = {name.replace("__", "."): value for name, value in expected.items()}
    assert {name: attributes.get(name) for name in told} == told
    return attributes


def test_pipeline(spans: Spans, speaker: Any) -> None:
    said = speaker("hello there")
    _attributes(
        spans,
        gen_ai__provider__name="transformers",
        gen_ai__request__model="acme/vits-tiny",
        gen_ai__request__stream=False,
        tts__input__characters=11,
        tts__device="cpu",
        tts__audio__sample_rate=RATE,
        tts__audio__duration=said["audio"].shape[-1] / RATE,
    )


def test_pipeline_of_several_texts(spans: Spans, speaker: Any) -> None:
    said = speaker(["hello there", "again"])
    _attributes(
        spans,
        tts__input__characters=16,
        tts__audio__sample_rate=RATE,
        tts__audio__duration=pytest.approx(sum(each["audio"].shape[-1] for each in said) / RATE),
    )


def test_cold_start_is_the_models(spans: Spans, speaker: Any, vits: Any) -> None:
    speaker("hello there")
    speaker("hello there")
    _, second = (dict(span.attributes or {})["tts.cold_start"] for span in spans.syntheses())
    assert second is False


def test_vits_called_directly(spans: Spans, vits: Any) -> None:
    with torch.no_grad():
        made = vits(torch.randint(1, 30, (1, 12)))
    attributes = _attributes(
        spans,
        gen_ai__request__model="acme/vits-tiny",
        tts__device="cpu",
        tts__audio__sample_rate=RATE,
        tts__audio__duration=made.waveform.shape[-1] / RATE,
    )
    assert "tts.input.characters" not in attributes


def test_vits_batch_is_as_long_as_its_parts(spans: Spans, vits: Any) -> None:
    mask = torch.tensor([[1] * 30, [1] * 2 + [0] * 28])
    with torch.no_grad():
        made = vits(torch.randint(1, 30, (2, 30)) * mask, attention_mask=mask)
    assert len(set(made.sequence_lengths.tolist())) == 2
    _attributes(spans, tts__audio__duration=float(made.sequence_lengths.sum()) / RATE, tts__batch__size=2)


@pytest.fixture(scope="module")
def speecht5() -> tuple[Any, Any]:
    torch.manual_seed(0)
    configuration = transformers.SpeechT5Config(
        vocab_size=40, hidden_size=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, num_mel_bins=8, reduction_factor=2,
        speech_decoder_prenet_units=16, speech_decoder_postnet_units=16, speaker_embedding_dim=16,
    )  # fmt: skip
    vocoder = transformers.SpeechT5HifiGanConfig(
        model_in_dim=8, sampling_rate=RATE, upsample_initial_channel=16, upsample_rates=[4, 4],
        upsample_kernel_sizes=[8, 8], resblock_kernel_sizes=[3], resblock_dilation_sizes=[[1]],
    )  # fmt: skip
    return (
        transformers.SpeechT5ForTextToSpeech(configuration).eval(),
        transformers.SpeechT5HifiGan(vocoder).eval(),
    )


@pytest.mark.parametrize("door", ["generate_speech", "generate"])
def test_speecht5(spans: Spans, speecht5: tuple[Any, Any], door: str) -> None:
    model, vocoder = speecht5
    made = getattr(model, door)(
        torch.randint(1, 30, (1, 8)), speaker_embeddings=torch.zeros(1, 16), vocoder=vocoder, maxlenratio=4.0
    )
    assert made.dim() == 1
    _attributes(spans, tts__audio__sample_rate=RATE, tts__audio__duration=len(made) / RATE, tts__device="cpu")


def test_a_spectrogram_is_no_speech(spans: Spans, speecht5: tuple[Any, Any]) -> None:
    speecht5[0].generate_speech(torch.randint(1, 30, (1, 8)), speaker_embeddings=torch.zeros(1, 16), maxlenratio=4.0)
    assert not spans.syntheses()


def test_music_is_no_speech(spans: Spans, speaker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speaker.model.config, "model_type", "musicgen")
    speaker("hello there")
    # What the pipeline calls is a synthesis of its own, by its own class.
    assert [span.name for span in spans.syntheses()] == ["text_to_speech acme/vits-tiny"]


def test_originals_are_put_back(tmp_path: Path) -> None:
    from transformers.models.vits.modeling_vits import VitsModel
    from transformers.pipelines.text_to_audio import TextToAudioPipeline

    ttstrace.uninstrument()
    before = vars(VitsModel)["forward"], vars(TextToAudioPipeline)["__call__"]
    ttstrace.instrument("transformers")
    assert vars(VitsModel)["forward"] is not before[0]
    ttstrace.uninstrument("transformers")
    assert vars(VitsModel)["forward"] is before[0]
    assert vars(TextToAudioPipeline)["__call__"] is before[1]
