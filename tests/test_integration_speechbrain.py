"""speechbrain itself: models and vocoders of the real classes, tiny and random, loaded from files of their own kind."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from backends import work
from conftest import Spans, between
from opentelemetry.trace import SpanKind, StatusCode
from torch_models import library

import ttstrace

torch = library("torch")
speechbrain = library("speechbrain")

from speechbrain.dataio.encoder import TextEncoder  # noqa: E402
from speechbrain.inference.interfaces import Pretrained  # noqa: E402
from speechbrain.inference.TTS import FastSpeech2, Tacotron2  # noqa: E402
from speechbrain.inference.vocoders import HIFIGAN, DiffWaveVocoder  # noqa: E402
from speechbrain.lobes.models import FastSpeech2 as fastspeech2  # noqa: E402

RATE = 16_000
HOP = 16  # samples a frame
PADDED = 10  # frames that the vocoder adds

TACOTRON2 = """
model: !new:speechbrain.lobes.models.Tacotron2.Tacotron2
    symbols_embedding_dim: 16
    encoder_n_convolutions: 1
    encoder_embedding_dim: 16
    attention_rnn_dim: 16
    attention_dim: 8
    attention_location_n_filters: 4
    attention_location_kernel_size: 3
    decoder_rnn_dim: 16
    prenet_dim: 8
    max_decoder_steps: 8
    gate_threshold: 1.0
    postnet_embedding_dim: 8
    postnet_n_convolutions: 2
text_to_sequence: !name:speechbrain.utils.text_to_sequence.text_to_sequence
modules:
    model: !ref <model>
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
"""

HIFIGAN_HPARAMS = """
generator: !new:speechbrain.lobes.models.HifiGAN.HifiganGenerator
    in_channels: 80
    out_channels: 1
    resblock_type: "1"
    resblock_dilation_sizes: [[1, 1, 1]]
    resblock_kernel_sizes: [3]
    upsample_kernel_sizes: [8, 8]
    upsample_initial_channel: 16
    upsample_factors: [4, 4]
modules:
    generator: !ref <generator>
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
"""


@pytest.fixture(autouse=True)
def instrumented() -> Iterator[None]:
    assert ttstrace.instrument("speechbrain") == ["speechbrain"]
    yield
    ttstrace.uninstrument()


def _load(kind: Any, folder: Path, hparams: str) -> Any:
    folder.mkdir()
    (folder / "hyperparams.yaml").write_text(hparams)
    torch.manual_seed(0)
    return kind.from_hparams(source=str(folder), savedir=str(folder), run_opts={"device": "cpu"})


@pytest.fixture(scope="module")
def tacotron2(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return _load(Tacotron2, tmp_path_factory.mktemp("models") / "tts-tacotron2-tiny", TACOTRON2)


@pytest.fixture
def hifigan(tmp_path: Path) -> Any:
    return _load(HIFIGAN, tmp_path / "tts-hifigan-tiny", f"sample_rate: {RATE}\n{HIFIGAN_HPARAMS}")


def _attributes(spans: Spans, **expected: Any) -> dict[str, Any]:
    span = spans.one()
    assert span.kind is SpanKind.INTERNAL
    assert span.status.status_code is StatusCode.UNSET
    attributes = dict(span.attributes or {})
    told = {name.replace("__", "."): value for name, value in expected.items()}
    assert {name: attributes.get(name) for name in told} == told
    return attributes


def test_the_vocoder_has_the_text_and_the_time_of_both_steps(spans: Spans, tacotron2: Any, hifigan: Any) -> None:
    begun = time.perf_counter()
    with tacotron2.hparams.model.embedding.register_forward_pre_hook(lambda *_: work(0.05)):
        spectrogram, _, _ = tacotron2.encode_text("Mary had a little lamb.")
    made = time.perf_counter()
    time.sleep(0.3)  # the program's own time between two steps is nobody's
    resumed = time.perf_counter()
    waveforms = hifigan.decode_batch(spectrogram)
    ended = time.perf_counter()
    assert waveforms.shape == (1, 1, (spectrogram.shape[-1] + PADDED) * HOP)
    attributes = _attributes(
        spans,
        gen_ai__provider__name="speechbrain",
        gen_ai__request__model="tts-hifigan-tiny",
        gen_ai__request__stream=False,
        tts__input__characters=23,
        tts__device="cpu",
        tts__cold_start=True,
        tts__audio__sample_rate=RATE,
        tts__audio__duration=waveforms.shape[-1] / RATE,
    )
    took = attributes["tts.synthesis.duration"]
    vocoder = (spans.one().end_time - spans.one().start_time) / 1e9  # type: ignore[operator]
    assert vocoder <= ended - resumed
    assert took - vocoder == between(0.05, made - begun)
    assert attributes["tts.rtf"] == took / attributes["tts.audio.duration"]
    assert not {"gen_ai.speech.voice", "tts.language", "server.address"} & attributes.keys()


def test_a_batch_lasts_as_long_as_its_spectrograms(spans: Spans, tacotron2: Any, hifigan: Any) -> None:
    spectrograms, lengths, _ = tacotron2.encode_batch(["Mary had a little lamb.", "Yes."])
    lengths = torch.tensor([int(lengths[0]), 3])
    hifigan.decode_batch(spectrograms, lengths, HOP)
    _attributes(
        spans,
        tts__input__characters=27,
        tts__batch__size=2,
        tts__audio__duration=pytest.approx(int(lengths.sum()) * HOP / RATE),
    )


def test_a_batch_of_which_no_lengths_are_told(spans: Spans, tacotron2: Any, hifigan: Any) -> None:
    spectrograms, _, _ = tacotron2(["Mary had a little lamb.", "Yes."])
    waveforms = hifigan(spectrograms)
    _attributes(
        spans,
        tts__input__characters=27,
        tts__batch__size=2,
        tts__audio__duration=pytest.approx(waveforms.numel() / RATE),
    )


def test_fastspeech2(spans: Spans, hifigan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its model of phonemes comes from the hub: here, every letter is one."""

    class LettersArePhonemes:
        @classmethod
        def from_hparams(cls, source: str) -> Any:
            return lambda texts: [[letter for letter in text.upper() if letter.isalpha()] for text in texts]

    monkeypatch.setattr("speechbrain.inference.TTS.GraphemeToPhoneme", LettersArePhonemes)
    torch.manual_seed(0)
    model = fastspeech2.FastSpeech2(
        enc_num_layers=1, enc_num_head=2, enc_d_model=16, enc_ffn_dim=16, enc_k_dim=16, enc_v_dim=16, enc_dropout=0.0,
        dec_num_layers=1, dec_num_head=2, dec_d_model=16, dec_ffn_dim=16, dec_k_dim=16, dec_v_dim=16, dec_dropout=0.0,
        normalize_before=False, ffn_type="1dcnn", ffn_cnn_kernel_size_list=[3, 1], n_char=40, n_mels=80,
        postnet_embedding_dim=16, postnet_kernel_size=5, postnet_n_convolutions=2, postnet_dropout=0.0, padding_idx=0,
        dur_pred_kernel_size=3, pitch_pred_kernel_size=3, energy_pred_kernel_size=3, variance_predictor_dropout=0.0,
    )  # fmt: skip
    torch.nn.init.constant_(model.durPred.linear.w.bias, 1.0)  # about two frames a phoneme
    predictor = fastspeech2.SPNPredictor(
        enc_num_layers=1, enc_num_head=2, enc_d_model=16, enc_ffn_dim=16, enc_k_dim=16, enc_v_dim=16, enc_dropout=0.0,
        normalize_before=False, ffn_type="1dcnn", ffn_cnn_kernel_size_list=[3, 1], n_char=40, padding_idx=0,
    )  # fmt: skip
    modules = {"model": model, "spn_predictor": predictor}
    hparams = {
        **modules, "modules": modules, "lexicon": [*"ABCDEFGHIJKLMNOPQRSTUVWXYZ", "spn"],
        "input_encoder": TextEncoder(),
    }  # fmt: skip
    speaker = FastSpeech2(modules, hparams, run_opts={"device": "cpu"})
    spectrograms, *_ = speaker.encode_text(["Mary had a little lamb."], pace=0.5)
    waveforms = hifigan.decode_batch(spectrograms)
    attributes = _attributes(
        spans,
        tts__input__characters=23,
        tts__audio__sample_rate=RATE,
        tts__audio__duration=pytest.approx(waveforms.numel() / RATE),
    )
    assert attributes["tts.rtf"] > 0


def test_a_single_spectrogram_from_elsewhere(spans: Spans, hifigan: Any) -> None:
    waveform = hifigan.decode_spectrogram(torch.zeros(80, 5))
    attributes = _attributes(spans, tts__audio__duration=waveform.shape[-1] / RATE)
    assert not {"tts.input.characters", "tts.synthesis.duration", "tts.rtf"} & attributes.keys()


def test_a_vocoder_that_does_not_tell_its_rate(spans: Spans, tacotron2: Any, tmp_path: Path) -> None:
    vocoder = _load(HIFIGAN, tmp_path / "mute", HIFIGAN_HPARAMS)
    vocoder.decode_batch(tacotron2.encode_text("Yes.")[0])
    attributes = _attributes(spans, tts__input__characters=4)
    assert attributes["tts.synthesis.duration"] > 0
    assert not {"tts.audio.sample_rate", "tts.audio.duration", "tts.rtf"} & attributes.keys()


def test_diffwave(spans: Spans) -> None:
    """The real interface, with a diffusion of the test's own inside."""

    class Diffusion:
        def inference(self, *, scale: int, condition: Any, **options: Any) -> Any:
            return torch.full((len(condition), 1, condition.shape[-1] * scale), 0.5)

    hparams = {"diffusion": Diffusion(), "diffwave": None, "sample_rate": RATE}
    vocoder = DiffWaveVocoder({}, hparams, run_opts={"device": "cpu"})
    vocoder.decode_batch(torch.zeros(2, 80, 7), HOP, torch.tensor([7, 4]))
    vocoder.decode_spectrogram(torch.zeros(80, 7), HOP)
    batch, single = [dict(span.attributes or {}) for span in spans.syntheses()]
    assert batch["tts.audio.duration"] == pytest.approx((7 + 4) * HOP / RATE)
    assert batch["tts.batch.size"] == 2
    assert single["tts.audio.duration"] == 7 * HOP / RATE


def test_it_fails(spans: Spans, hifigan: Any) -> None:
    with pytest.raises(RuntimeError):
        hifigan.decode_batch(torch.zeros(1, 3, 5))
    assert spans.one().status.status_code is StatusCode.ERROR
    assert spans.attributes()["error.type"] == "RuntimeError"


def test_originals_are_put_back() -> None:
    names = [
        (Pretrained, "from_hparams"),
        (Tacotron2, "encode_text"),
        (Tacotron2, "encode_batch"),
        (FastSpeech2, "encode_text"),
        (HIFIGAN, "decode_batch"),
        (HIFIGAN, "decode_spectrogram"),
        (DiffWaveVocoder, "decode_batch"),
    ]
    patched = [vars(owner)[name] for owner, name in names]
    ttstrace.uninstrument("speechbrain")
    for (owner, name), was in zip(names, patched, strict=True):
        assert vars(owner)[name] is was.__wrapped__
