"""torchaudio itself: its pipeline's text processor and vocoders, and a Tacotron2 of the real class, tiny and random."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from backends import work
from conftest import Spans, between
from opentelemetry.trace import SpanKind, StatusCode
from torch_models import library

import ttstrace

torch = library("torch")
torchaudio = library("torchaudio")

RATE = 22_050
HOP = 256  # samples a frame, of the Griffin-Lim vocoder
FRAMES = 8
OWNERS = [
    torchaudio.pipelines._tts.impl._EnglishCharProcessor,
    torchaudio.pipelines._tts.impl._EnglishPhoneProcessor,
    torchaudio.models.Tacotron2,
    torchaudio.pipelines._tts.impl._WaveRNNVocoder,
    torchaudio.pipelines._tts.impl._GriffinLimVocoder,
]

pytestmark = pytest.mark.filterwarnings("ignore:Reached max decoder steps")


@pytest.fixture(autouse=True)
def instrumented() -> Iterator[None]:
    assert ttstrace.instrument("torchaudio") == ["torchaudio"]
    yield
    ttstrace.uninstrument()


@pytest.fixture(scope="module")
def processor() -> Any:
    return torchaudio.pipelines.TACOTRON2_GRIFFINLIM_CHAR_LJSPEECH.get_text_processor()


@pytest.fixture(scope="module")
def tacotron2() -> Any:
    torch.manual_seed(0)
    model = torchaudio.models.Tacotron2(
        n_symbol=38, symbol_embedding_dim=16, encoder_embedding_dim=16, encoder_n_convolution=1, encoder_kernel_size=3,
        decoder_rnn_dim=16, decoder_max_step=FRAMES, attention_rnn_dim=16, attention_hidden_dim=8,
        attention_location_n_filter=4, attention_location_kernel_size=3, prenet_dim=8, postnet_n_convolution=2,
        postnet_kernel_size=3, postnet_embedding_dim=8, gate_threshold=1.0,
    )  # fmt: skip
    return model.eval()


@pytest.fixture(scope="module")
def griffin_lim() -> Any:
    return torchaudio.pipelines.TACOTRON2_GRIFFINLIM_CHAR_LJSPEECH.get_vocoder()


@pytest.fixture(scope="module")
def wavernn() -> Any:
    torch.manual_seed(0)
    model = torchaudio.models.WaveRNN(
        upsample_scales=[2, 4], n_classes=256, hop_length=8, n_res_block=1, n_rnn=8, n_fc=8, kernel_size=5,
        n_freq=80, n_hidden=8, n_output=8,
    )  # fmt: skip
    return torchaudio.pipelines._tts.impl._WaveRNNVocoder(model.eval())


def _attributes(spans: Spans, **expected: Any) -> dict[str, Any]:
    span = spans.one()
    assert span.kind is SpanKind.INTERNAL
    assert span.status.status_code is StatusCode.UNSET
    attributes = dict(span.attributes or {})
    told = {name.replace("__", "."): value for name, value in expected.items()}
    assert {name: attributes.get(name) for name in told} == told
    return attributes


def _speak(processor: Any, tacotron2: Any, vocoder: Any, text: Any) -> tuple[Any, Any]:
    with torch.inference_mode():
        spectrogram, frames, _ = tacotron2.infer(*processor(text))
        waveforms, lengths = vocoder(spectrogram, frames)
    return waveforms, lengths


def test_the_vocoder_has_the_text_and_the_time_of_all_steps(
    spans: Spans, processor: Any, tacotron2: Any, griffin_lim: Any
) -> None:
    worked = tacotron2.encoder.register_forward_pre_hook(lambda *_: work(0.05))
    begun = time.perf_counter()
    with worked, torch.inference_mode():
        spectrogram, frames, _ = tacotron2.infer(*processor("Hello there."))
        made = time.perf_counter()
        time.sleep(0.3)  # the program's own time between two steps is nobody's
        resumed = time.perf_counter()
        waveforms, _ = griffin_lim(spectrogram, frames)
        ended = time.perf_counter()
    assert waveforms.shape == (1, (FRAMES - 1) * HOP)
    attributes = _attributes(
        spans,
        gen_ai__provider__name="torchaudio",
        gen_ai__request__stream=False,
        tts__input__characters=12,
        tts__audio__sample_rate=RATE,
        tts__audio__duration=(FRAMES - 1) * HOP / RATE,
    )
    took = attributes["tts.synthesis.duration"]
    vocoder = (spans.one().end_time - spans.one().start_time) / 1e9  # type: ignore[operator]
    assert vocoder <= ended - resumed
    assert took - vocoder == between(0.05, made - begun)
    assert attributes["tts.rtf"] == took / attributes["tts.audio.duration"]
    assert not {"gen_ai.request.model", "gen_ai.speech.voice", "tts.language", "server.address"} & attributes.keys()


def test_lengths_in_frames_are_no_samples(spans: Spans, processor: Any, tacotron2: Any, griffin_lim: Any) -> None:
    with torch.inference_mode():
        spectrogram, _, _ = tacotron2.infer(*processor(["hello there", "yes"]))
        _, lengths = griffin_lim(spectrogram, torch.tensor([FRAMES, 4]))
    assert lengths.tolist() == [FRAMES, 4]
    _attributes(
        spans,
        tts__input__characters=14,
        tts__batch__size=2,
        tts__audio__duration=pytest.approx((FRAMES - 1 + 4 - 1) * HOP / RATE),
    )


def test_of_a_batch_without_lengths(spans: Spans, processor: Any, tacotron2: Any, griffin_lim: Any) -> None:
    with torch.inference_mode():
        spectrogram, _, _ = tacotron2.infer(*processor(["hello there", "yes"]))
        waveforms, lengths = griffin_lim(spectrogram)
    assert lengths is None
    _attributes(spans, tts__batch__size=2, tts__audio__duration=pytest.approx(waveforms.numel() / RATE))


def test_wavernn(spans: Spans, processor: Any, tacotron2: Any, wavernn: Any) -> None:
    waveforms, lengths = _speak(processor, tacotron2, wavernn, "hello there")
    assert waveforms.shape[-1] == int(lengths) > 0
    _attributes(
        spans,
        tts__input__characters=11,
        tts__device="cpu",
        tts__cold_start=True,
        tts__audio__sample_rate=RATE,
        tts__audio__duration=int(lengths) / RATE,
    )


def test_wavernn_of_a_batch(spans: Spans, processor: Any, tacotron2: Any, wavernn: Any) -> None:
    _, lengths = _speak(processor, tacotron2, wavernn, ["hello there", "yes"])
    _attributes(spans, tts__batch__size=2, tts__input__characters=14, tts__audio__duration=int(lengths.sum()) / RATE)


def test_a_spectrogram_from_elsewhere_has_neither_text_nor_rtf(spans: Spans, griffin_lim: Any) -> None:
    griffin_lim(torch.zeros(1, 80, FRAMES))
    attributes = _attributes(spans, tts__audio__duration=(FRAMES - 1) * HOP / RATE)
    assert not {"tts.input.characters", "tts.synthesis.duration", "tts.rtf"} & attributes.keys()


def test_a_spectrogram_that_was_changed_on_its_way(
    spans: Spans, processor: Any, tacotron2: Any, griffin_lim: Any
) -> None:
    with torch.inference_mode():
        spectrogram, _, _ = tacotron2.infer(*processor("hello there"))
        griffin_lim(spectrogram + 0.5)
    assert not {"tts.input.characters", "tts.synthesis.duration", "tts.rtf"} & spans.attributes().keys()


def test_it_fails(spans: Spans, griffin_lim: Any) -> None:
    with pytest.raises(ValueError, match="mel bins"):
        griffin_lim(torch.zeros(1, 3, FRAMES))
    assert spans.one().status.status_code is StatusCode.ERROR
    assert spans.attributes()["error.type"] == "ValueError"


def test_a_model_can_be_scripted_while_it_is_traced(processor: Any, tacotron2: Any) -> None:
    scripted = torch.jit.script(tacotron2)
    assert scripted.infer(*processor("yes"))[0].shape == (1, 80, FRAMES)


def test_originals_are_put_back() -> None:
    names = ["__call__", "__call__", "infer", "forward", "forward"]
    patched = [vars(owner)[name] for owner, name in zip(OWNERS, names, strict=True)]
    ttstrace.uninstrument("torchaudio")
    for owner, name, was in zip(OWNERS, names, patched, strict=True):
        assert vars(owner)[name] is was.__wrapped__
