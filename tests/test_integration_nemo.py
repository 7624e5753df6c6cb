"""nemo-toolkit on doubles: it is gigabytes with what it imports, and its models are larger still."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import wrapt
from backends import work
from conftest import Spans, between
from opentelemetry.trace import SpanKind, StatusCode

import ttstrace

torch = pytest.importorskip("torch")
torch.tensor([0])  # has torch look itself up, before a stand-in of a card is put into it

RATE = 22_050
HOP = 256  # samples a frame
FRAMES = 12
VERSION = "3.0.0"


@wrapt.decorator
def _typecheck(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    if args:
        raise TypeError("All arguments must be passed by kwargs only for typed methods")
    return wrapped(**kwargs)


class Model(torch.nn.Module):  # type: ignore[misc]
    """A double of `nemo.core.classes.common.Model`: `from_pretrained` goes through `restore_from`."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full((1,), 0.5), requires_grad=False)

    @classmethod
    def from_pretrained(
        cls, model_name: str, refresh_cache: bool = False, map_location: Any = None, return_config: bool = False
    ) -> Any:
        return cls.restore_from(restore_path=f"/cache/{model_name}/0f.nemo", return_config=return_config)


class ModelPT(Model):
    """A double of `nemo.core.classes.modelPT.ModelPT`."""

    @classmethod
    def restore_from(cls, restore_path: str, map_location: Any = None, return_config: bool = False) -> Any:
        return {"restored": restore_path} if return_config else cls()


class FastPitchModel(ModelPT):
    """A double of `nemo.collections.tts.models.fastpitch.FastPitchModel`."""

    def parse(self, str_input: str, normalize: bool = True) -> Any:
        return torch.tensor([[ord(letter) for letter in str_input]])

    @_typecheck
    def generate_spectrogram(
        self,
        tokens: Any,
        speaker: int | None = None,
        pace: float = 1.0,
        reference_spec: Any = None,
        reference_spec_lens: Any = None,
    ) -> Any:
        work(0.05)
        return self.weight.expand(len(tokens), 80, FRAMES).clone()


class HifiGanModel(ModelPT):
    """A double of `nemo.collections.tts.models.hifigan.HifiGanModel`."""

    def __init__(self) -> None:
        super().__init__()
        self.sample_rate = RATE

    @_typecheck
    def convert_spectrogram_to_audio(self, spec: Any) -> Any:
        if spec.shape[1] != 80:
            raise RuntimeError(f"expected 80 channels, got {spec.shape[1]}")
        return self.weight.expand(len(spec), spec.shape[-1] * HOP).clone()


class MagpieTTSModel(ModelPT):
    """A double of `nemo.collections.tts.models.magpietts.MagpieTTSModel`."""

    def __init__(self) -> None:
        super().__init__()
        self.sample_rate = 22_050  # of what it is given; what it makes has the other
        self.output_sample_rate = 44_100

    def do_tts(
        self,
        transcript: str,
        language: str = "en",
        apply_TN: bool = False,
        use_cfg: bool = True,
        speaker_index: int | None = None,
    ) -> tuple[Any, Any]:
        samples = 1000 * len(transcript)
        return self.weight.expand(1, samples).clone(), torch.tensor([samples])


_DOUBLES = {
    "nemo.core.classes.common": Model,
    "nemo.core.classes.modelPT": ModelPT,
    "nemo.collections.tts.models.fastpitch": FastPitchModel,
    "nemo.collections.tts.models.hifigan": HifiGanModel,
    "nemo.collections.tts.models.magpietts": MagpieTTSModel,
}


@pytest.fixture(autouse=True)
def instrumented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    told = tmp_path / f"nemo_toolkit-{VERSION}.dist-info" / "METADATA"
    told.parent.mkdir()
    told.write_text(f"Metadata-Version: 2.1\nName: nemo-toolkit\nVersion: {VERSION}\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name, double in _DOUBLES.items():
        module: Any = ModuleType(name)
        setattr(module, double.__name__, double)
        monkeypatch.setitem(sys.modules, name, module)
    assert ttstrace.instrument("nemo") == ["nemo"]
    yield
    ttstrace.uninstrument()


def _attributes(spans: Spans, **expected: Any) -> dict[str, Any]:
    span = spans.one()
    assert span.kind is SpanKind.INTERNAL
    assert span.status.status_code is StatusCode.UNSET
    attributes = dict(span.attributes or {})
    told = {name.replace("__", "."): value for name, value in expected.items()}
    assert {name: attributes.get(name) for name in told} == told
    return attributes


def test_the_vocoder_has_the_text_and_the_time_of_all_steps_on_a_double(spans: Spans) -> None:
    speaker = FastPitchModel.from_pretrained("tts_en_fastpitch")
    vocoder = HifiGanModel.from_pretrained(model_name="tts_en_hifigan")
    begun = time.perf_counter()
    spectrogram = speaker.generate_spectrogram(tokens=speaker.parse("Hello there."))
    made = time.perf_counter()
    audio = vocoder.convert_spectrogram_to_audio(spec=spectrogram)
    assert audio.shape == (1, FRAMES * HOP)
    attributes = _attributes(
        spans,
        gen_ai__provider__name="nemo",
        gen_ai__request__model="tts_en_hifigan",
        gen_ai__request__stream=False,
        tts__input__characters=12,
        tts__device="cpu",
        tts__cold_start=True,
        tts__audio__sample_rate=RATE,
        tts__audio__duration=FRAMES * HOP / RATE,
    )
    took = attributes["tts.synthesis.duration"]
    alone = (spans.one().end_time - spans.one().start_time) / 1e9  # type: ignore[operator]
    assert took - alone == between(0.05, made - begun)
    assert attributes["tts.rtf"] == took / attributes["tts.audio.duration"]
    assert not {"gen_ai.speech.voice", "tts.language"} & attributes.keys()


def test_tokens_from_elsewhere_on_a_double(spans: Spans) -> None:
    spectrogram = FastPitchModel().generate_spectrogram(tokens=torch.zeros(1, 5))
    HifiGanModel().convert_spectrogram_to_audio(spec=spectrogram)
    attributes = _attributes(spans, tts__audio__duration=FRAMES * HOP / RATE)
    assert attributes["tts.synthesis.duration"] >= 0.05
    assert not {"tts.input.characters", "gen_ai.request.model"} & attributes.keys()


def test_a_spectrogram_from_elsewhere_on_a_double(spans: Spans) -> None:
    HifiGanModel().convert_spectrogram_to_audio(spec=torch.zeros(1, 80, FRAMES))
    assert not {"tts.synthesis.duration", "tts.rtf", "tts.input.characters"} & spans.attributes().keys()


def test_a_spectrogram_whose_card_may_be_at_work_on_a_double(spans: Spans, cuda: Any) -> None:
    """What a card was given to do, it may not have done when the call returned."""
    cuda.allocate(2**20)
    speaker = FastPitchModel()
    spectrogram = speaker.generate_spectrogram(tokens=speaker.parse("Hello there."))
    HifiGanModel().convert_spectrogram_to_audio(spec=spectrogram)
    attributes = _attributes(spans, tts__input__characters=12, tts__audio__duration=FRAMES * HOP / RATE)
    assert not {"tts.synthesis.duration", "tts.rtf"} & attributes.keys()


def test_what_a_spectrogram_was_made_of_is_forgotten_with_it_on_a_double(spans: Spans) -> None:
    from ttstrace import call

    speaker = FastPitchModel()
    before = len(call._prepared)
    spectrogram = speaker.generate_spectrogram(tokens=speaker.parse("Hello there."))
    assert len(call._prepared) == before + 1  # the tokens are gone already
    del spectrogram
    assert len(call._prepared) == before


def test_it_fails_on_a_double(spans: Spans) -> None:
    with pytest.raises(RuntimeError):
        HifiGanModel().convert_spectrogram_to_audio(spec=torch.zeros(1, 3, FRAMES))
    with pytest.raises(TypeError):
        HifiGanModel().convert_spectrogram_to_audio(torch.zeros(1, 80, FRAMES))
    assert [span.status.status_code for span in spans.syntheses()] == [StatusCode.ERROR] * 2


def test_magpie_on_a_double(spans: Spans) -> None:
    model = MagpieTTSModel.restore_from("/models/magpie_tts_multilingual.nemo")
    audio, lengths = model.do_tts("Guten Tag.", language="de", speaker_index=2)
    assert audio.shape[-1] == int(lengths) == 10_000
    _attributes(
        spans,
        gen_ai__provider__name="nemo",
        gen_ai__request__model="magpie_tts_multilingual",
        tts__language="de",
        tts__input__characters=10,
        tts__device="cpu",
        tts__audio__sample_rate=44_100,
        tts__audio__duration=10_000 / 44_100,
        gen_ai__speech__voice="2",
    )


def test_magpie_that_says_nothing_on_a_double(spans: Spans) -> None:
    MagpieTTSModel().do_tts("")
    attributes = _attributes(spans, tts__audio__duration=0.0, tts__language="en")
    assert not {"tts.rtf", "gen_ai.speech.voice", "gen_ai.request.model"} & attributes.keys()


def test_a_configuration_is_no_model_on_a_double() -> None:
    assert ModelPT.from_pretrained("tts_en_fastpitch", return_config=True)["restored"].endswith("0f.nemo")


def test_originals_are_put_back_on_a_double() -> None:
    names = [
        (Model, "from_pretrained"),
        (ModelPT, "restore_from"),
        (FastPitchModel, "parse"),
        (FastPitchModel, "generate_spectrogram"),
        (HifiGanModel, "convert_spectrogram_to_audio"),
        (MagpieTTSModel, "do_tts"),
    ]
    patched = [vars(owner)[name] for owner, name in names]
    ttstrace.uninstrument("nemo")
    for (owner, name), was in zip(names, patched, strict=True):
        assert vars(owner)[name] is was.__wrapped__
