"""coqui-tts itself: models of the real classes, tiny and random, made from their configurations and read from files."""

from __future__ import annotations

import functools
import importlib.metadata
import time
import wave
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch_models
from conftest import Spans, between
from opentelemetry.trace import StatusCode

import ttstrace

torch_models.prepare_for("TTS")

import torch  # noqa: E402
from TTS.api import TTS  # noqa: E402
from TTS.tts.configs.vits_config import VitsArgs, VitsConfig  # noqa: E402
from TTS.tts.configs.xtts_config import XttsArgs, XttsConfig  # noqa: E402
from TTS.tts.models import xtts as xtts_module  # noqa: E402
from TTS.tts.models.vits import Vits  # noqa: E402
from TTS.tts.models.xtts import Xtts  # noqa: E402

RATE = 16_000
XTTS_RATE = 24_000
TEXT = "Hello there."
_VOCODER = {
    "resblock_kernel_sizes_decoder": [3],
    "resblock_dilation_sizes_decoder": [[1, 1, 1]],
    "upsample_initial_channel_decoder": 16,
}


def _is_fork() -> bool:
    try:
        return bool(importlib.metadata.version("coqui-tts"))
    except importlib.metadata.PackageNotFoundError:
        return False


needs_the_fork = pytest.mark.skipif(
    not _is_fork(), reason="TTS itself cannot do this, or not with transformers of today"
)


@pytest.fixture(autouse=True)
def instrumented() -> Iterator[None]:
    assert ttstrace.instrument("coqui") == ["coqui"]
    yield
    ttstrace.uninstrument()


def _attributes(spans: Spans, **expected: Any) -> dict[str, Any]:
    span = spans.one()
    assert span.status.status_code is StatusCode.UNSET
    attributes = dict(span.attributes or {})
    told = {name.replace("__", "."): value for name, value in expected.items()}
    assert {name: attributes.get(name) for name in told} == told
    assert attributes["gen_ai.provider.name"] == "coqui"
    return attributes


def _seconds(path: Path) -> float:
    with wave.open(str(path)) as file:
        return file.getnframes() / file.getframerate()


# --- the interface, on a VITS ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Any:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("vits")
    arguments = VitsArgs(
        hidden_channels=16, hidden_channels_ffn_text_encoder=16, num_layers_text_encoder=1, out_channels=129,
        num_layers_posterior_encoder=1, num_layers_flow=1, upsample_rates_decoder=[4, 4], use_sdp=False,
        upsample_kernel_sizes_decoder=[8, 8], init_discriminator=False, spec_segment_size=8, **_VOCODER,
    )  # fmt: skip
    configuration = VitsConfig(model_args=arguments, use_phonemes=False, text_cleaner="basic_cleaners")
    for name, value in {"sample_rate": RATE, "fft_size": 256, "hop_length": 16, "win_length": 256}.items():
        configuration.audio[name] = value
    configuration.save_json(str(folder / "config.json"))
    torch.save({"model": Vits.init_from_config(configuration).state_dict()}, folder / "acme-vits.pth")
    loaded = TTS(model_path=str(folder / "acme-vits.pth"), config_path=str(folder / "config.json"))
    loaded.config = None  # where TTS looks for languages, which VITS' has not
    return loaded


def test_samples(spans: Spans, api: Any) -> None:
    begun = time.perf_counter()
    samples = api.tts(TEXT)
    took = time.perf_counter() - begun
    assert type(samples) is list
    attributes = _attributes(
        spans,
        gen_ai__request__model="acme-vits",
        gen_ai__request__stream=False,
        tts__input__characters=len(TEXT),
        tts__device="cpu",
        tts__audio__sample_rate=RATE,
        tts__audio__duration=len(samples) / RATE,
        tts__cold_start=True,
        tts__synthesis__duration=between(0, took),
    )
    assert not {"gen_ai.speech.voice", "tts.language", "tts.voice.cloned"} & attributes.keys()
    api.tts(TEXT)
    assert dict(spans.syntheses()[1].attributes or {})["tts.cold_start"] is False


@needs_the_fork
def test_samples_with_their_segments(spans: Spans, api: Any) -> None:
    told = api.tts("Hello there. How are you?", return_dict=True)
    assert len(told["segments"]) == 2
    _attributes(spans, tts__audio__sample_rate=RATE, tts__audio__duration=len(told["wav"]) / RATE)


def test_file_is_one_span(spans: Spans, api: Any, tmp_path: Path) -> None:
    path = tmp_path / "speech.wav"
    assert api.tts_to_file(TEXT, file_path=path) == path
    _attributes(
        spans,
        code__function__name="TTS.api.TTS.tts_to_file",
        tts__input__characters=len(TEXT),
        tts__audio__format="wav",
        tts__audio__sample_rate=RATE,
        tts__audio__duration=_seconds(path),
    )


def test_file_that_is_not_named(spans: Spans, api: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = api.tts_to_file(text=TEXT)
    _attributes(spans, tts__audio__duration=_seconds(tmp_path / name))


def test_what_the_model_does_not_have(spans: Spans, api: Any) -> None:
    with pytest.raises(ValueError, match="not multi-speaker"):
        api.tts(TEXT, speaker="ann")
    span = spans.one()
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "ValueError"
    assert not {"tts.audio.duration", "tts.rtf"} & (span.attributes or {}).keys()


class Converter(torch.nn.Module):  # type: ignore[misc]
    """What the interface uses of a voice converter's synthesizer: 0.25 s at another rate."""

    output_sample_rate = 24_000
    vc_config = SimpleNamespace(audio=SimpleNamespace(output_sample_rate=output_sample_rate))  # where TTS looks

    def voice_conversion(self, source_wav: str, target_wav: str) -> Any:
        return np.full(6_000, 0.25, np.float32)

    def save_wav(self, wav: Any, path: str, pipe_out: Any = None) -> None:
        from TTS.utils.audio.numpy_transforms import save_wav

        save_wav(wav=wav, path=path, sample_rate=self.output_sample_rate, pipe_out=pipe_out)


@pytest.mark.parametrize("door", ["tts_with_vc", "tts_with_vc_to_file"])
def test_another_voice_on_a_double_of_the_converter(
    spans: Spans, api: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, door: str
) -> None:
    """The converter, which has a rate of its own, is loaded by the call, and leaves its name behind."""

    def load(name: str) -> None:
        api.model_name, api.voice_converter = name, Converter()

    monkeypatch.setattr(api, "load_vc_model_by_name", load, raising=False)
    monkeypatch.setattr(api, "voice_converter", None)
    monkeypatch.setattr(api, "model_name", "")
    output = {"file_path": str(tmp_path / "speech.wav")} if door.endswith("file") else {}
    getattr(api, door)(TEXT, speaker_wav=str(tmp_path / "ann.wav"), **output)
    _attributes(
        spans,
        gen_ai__request__model="acme-vits",
        tts__voice__cloned=True,
        tts__input__characters=len(TEXT),
        tts__audio__sample_rate=24_000,
        tts__audio__duration=0.25,
    )
    spans.clear()
    api.tts(TEXT)
    _attributes(spans, gen_ai__request__model="acme-vits", tts__audio__sample_rate=RATE)


# --- XTTS --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def xtts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The interface with a model that speaks several languages, of a folder; it has one voice, and clones others."""
    from tokenizers import AddedToken, Tokenizer, models

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("acme") / "acme-xtts"
    folder.mkdir()
    special = ["[STOP]", "[UNK]", "[SPACE]", "[en]", "[ko]", "[START]"]
    vocabulary = {each: at for at, each in enumerate([*special, *"abcdefghijklmnopqrstuvwxyz.,?"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="[UNK]"))
    tokenizer.add_special_tokens([AddedToken(each, special=True) for each in special])
    tokenizer.save(str(folder / "vocab.json"))
    arguments = XttsArgs(
        gpt_layers=1, gpt_n_model_channels=16, gpt_n_heads=2, gpt_max_audio_tokens=40, gpt_max_text_tokens=40,
        gpt_number_text_tokens=len(vocabulary), gpt_start_text_token=vocabulary["[START]"], gpt_stop_text_token=0,
        gpt_num_audio_tokens=20, gpt_start_audio_token=18, gpt_stop_audio_token=19,
        gpt_use_perceiver_resampler=True, decoder_input_dim=16,
    )  # fmt: skip
    configuration = XttsConfig(model_args=arguments, languages=["en", "ko"])
    configuration.save_json(str(folder / "config.json"))
    voice = {"gpt_cond_latent": torch.zeros(1, 32, 16), "speaker_embedding": torch.zeros(1, 512, 1)}
    torch.save({"ann": voice}, folder / "speakers_xtts.pth")
    with pytest.MonkeyPatch.context() as patched:
        # Of the vocoder's size the configuration says nothing.
        patched.setattr(xtts_module, "HifiDecoder", functools.partial(xtts_module.HifiDecoder, **_VOCODER))
        model = Xtts(configuration)
        torch.nn.init.constant_(model.gpt.mel_head.bias[arguments.gpt_stop_audio_token], -1000)  # it speaks to the end
        torch.save({"model": model.state_dict()}, folder / "model.pth")
        yield TTS(model_path=str(folder), config_path=str(folder / "config.json"))


def _voice(model: Any) -> dict[str, Any]:
    latent, embedding = model.speaker_manager.speakers["ann"].values()
    return {"gpt_cond_latent": latent, "speaker_embedding": embedding}


@needs_the_fork
def test_xtts_by_the_interface(spans: Spans, xtts: Any, tmp_path: Path) -> None:
    samples = xtts.tts(TEXT, speaker="ann", language="en")
    attributes = _attributes(
        spans,
        code__function__name="TTS.api.TTS.tts",
        gen_ai__request__model="acme-xtts",
        gen_ai__speech__voice="ann",
        tts__language="en",
        tts__input__characters=len(TEXT),
        tts__device="cpu",
        tts__audio__sample_rate=XTTS_RATE,
        tts__audio__duration=len(samples) / XTTS_RATE,
    )
    assert "tts.voice.cloned" not in attributes
    spans.clear()
    model = xtts.synthesizer.tts_model
    model.inference(TEXT, "en", **_voice(model))
    _attributes(spans, tts__cold_start=False)  # the same model, through another door


@needs_the_fork
def test_xtts_cloned(spans: Spans, xtts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The file is decoded by what torchaudio has for it, which is not here.
    monkeypatch.setattr(xtts_module, "load_audio", lambda path, rate: 0.1 * torch.randn(1, rate * 4))
    reference = tmp_path / "someone.wav"
    samples = xtts.tts("안녕.", speaker_wav=str(reference), language="ko")
    attributes = _attributes(
        spans,
        tts__voice__cloned=True,
        tts__language="ko",
        tts__input__characters=3,
        tts__audio__duration=len(samples) / XTTS_RATE,
    )
    assert "gen_ai.speech.voice" not in attributes
    assert str(tmp_path) not in str(attributes)


def test_xtts_model_itself(spans: Spans, xtts: Any) -> None:
    model = xtts.synthesizer.tts_model
    made = model.inference(TEXT, "en", **_voice(model))
    _attributes(
        spans,
        gen_ai__request__model="xtts",
        gen_ai__request__stream=False,
        tts__language="en",
        tts__input__characters=len(TEXT),
        tts__device="cpu",
        tts__audio__sample_rate=XTTS_RATE,
        tts__audio__duration=len(made["wav"]) / XTTS_RATE,
    )


PAUSE = 0.2


@needs_the_fork
def test_xtts_stream_to_a_paced_consumer(spans: Spans, xtts: Any) -> None:
    """Nothing is made while the consumer waits: its pauses are no synthesis."""
    model = xtts.synthesizer.tts_model
    begun = time.perf_counter()
    stream = model.inference_stream(TEXT, "en", **_voice(model), stream_chunk_size=8)
    first = None
    chunks, inside = [], time.perf_counter() - begun
    while True:
        asked = time.perf_counter()
        chunk = next(stream, None)
        inside += time.perf_counter() - asked
        if chunk is None:
            break
        first = inside if first is None else first
        chunks.append(len(chunk))
        time.sleep(PAUSE)
    assert len(chunks) > 2
    attributes = _attributes(
        spans,
        gen_ai__request__stream=True,
        tts__stream__chunks=len(chunks),
        tts__input__characters=len(TEXT),
        tts__audio__sample_rate=XTTS_RATE,
        tts__audio__duration=pytest.approx(sum(chunks) / XTTS_RATE),
        tts__synthesis__duration=between(0, inside),
        gen_ai__response__time_to_first_chunk=between(0, first),
    )
    assert attributes["tts.stream.hold.duration"] >= PAUSE * len(chunks) - 0.01
    assert attributes["tts.rtf"] == attributes["tts.synthesis.duration"] / attributes["tts.audio.duration"]


def test_xtts_stream_that_fails(spans: Spans, xtts: Any) -> None:
    model = xtts.synthesizer.tts_model
    stream = model.inference_stream(TEXT * 10, "en", **_voice(model))
    assert not spans.all()
    with pytest.raises(AssertionError, match="400 tokens"):
        next(stream)
    span = spans.one()
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "AssertionError"


def test_originals_are_put_back() -> None:
    ttstrace.uninstrument()
    doors = [(TTS, "tts"), (TTS, "tts_to_file"), (TTS, "tts_with_vc"), (TTS, "tts_with_vc_to_file")]
    doors += [(Xtts, "inference"), (Xtts, "inference_stream")]
    before = [vars(owner)[name] for owner, name in doors]
    ttstrace.instrument("coqui")
    assert all(vars(owner)[name] is not was for (owner, name), was in zip(doors, before, strict=True))
    ttstrace.uninstrument("coqui")
    assert all(vars(owner)[name] is was for (owner, name), was in zip(doors, before, strict=True))
