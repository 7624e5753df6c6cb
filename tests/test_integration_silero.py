"""silero itself, and torch.hub: models of known length, packed by torch as theirs are, with code of their own."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Spans
from opentelemetry.trace import StatusCode

import ttstrace

torch = pytest.importorskip("torch")
from torch.package import PackageExporter, PackageImporter  # noqa: E402

TEXT = "Hello there."
RATE = 24_000

MODEL = """
import torch

class TTSModelTiny:
    def __init__(self):
        self.device = torch.device("cpu")
        self.speakers = ["ann"]

    def apply_tts(self, text=None, ssml_text=None, speaker="ann", sample_rate=48000, put_accent=True):
        if speaker not in self.speakers:
            raise ValueError(f"`speaker` should be in {', '.join(self.speakers)}")
        return torch.full((sample_rate // 2,), 0.25)
"""
BATCH = """
import torch

class TTSModelOfLists:
    def __init__(self):
        self.device = torch.device("cpu")

    def apply_tts(self, texts, speakers, sample_rate=16000):
        return [torch.full((sample_rate * len(text) // 10,), 0.25) for text in texts]
"""
DENOISER = "class Denoiser:\n    def denoise(self, audio):\n        return audio\n"


@pytest.fixture(autouse=True)
def come_off() -> Iterator[None]:
    yield
    ttstrace.uninstrument()


Pack = Callable[..., Path]


@pytest.fixture
def pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pack]:
    """Packs an object of a code's only class, and the code with it."""
    monkeypatch.syspath_prepend(tmp_path)
    packed = []

    def packing(name: str, code: str = MODEL) -> Path:
        (tmp_path / f"code_of_{name}.py").write_text(code)
        module = importlib.import_module(f"code_of_{name}")
        packed.append(module.__name__)
        (made,) = (each() for each in vars(module).values() if isinstance(each, type))
        path = tmp_path / f"{name}.pt"
        with PackageExporter(path) as exporter:
            exporter.extern("torch.**")
            exporter.intern(module.__name__)
            exporter.save_pickle("tts_models", "model", made)
        return path

    yield packing
    for name in packed:
        del sys.modules[name]


def _attributes(spans: Spans, **expected: Any) -> dict[str, Any]:
    span = spans.one()
    assert span.status.status_code is StatusCode.UNSET
    attributes = dict(span.attributes or {})
    told = {name.replace("__", "."): value for name, value in expected.items()}
    assert {name: attributes.get(name) for name in told} == told
    assert attributes["gen_ai.provider.name"] == "silero"
    return attributes


@pytest.fixture
def silero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: Pack) -> Any:
    """The package, with a list of models that has our own, to be loaded from this disk."""
    silero = pytest.importorskip("silero")
    pytest.importorskip("omegaconf")
    listed = {
        "tts_models": {
            "en": {
                "v3_tiny": {"latest": {"package": pack("v3_tiny").as_uri(), "example": TEXT, "sample_rate": [RATE]}},
                "tiny_16khz": {
                    "latest": {
                        "jit": _scripted(tmp_path / "jit.pt").as_uri(),
                        "tokenset": "_~abcdefghijklmnopqrstuvwxyz .!?",
                        "example": TEXT,
                        "sample_rate": 16_000,
                    }
                },
            }
        }
    }
    (tmp_path / "latest_silero_models.yml").write_text(json.dumps(listed))
    monkeypatch.chdir(tmp_path)
    for name in ("silero.silero", "silero.tts_utils"):  # what is downloaded goes beside them
        monkeypatch.setattr(importlib.import_module(name), "__file__", str(tmp_path / "library" / "silero.py"))
    (tmp_path / "library").mkdir()
    return silero


class Scripted(torch.nn.Module):  # type: ignore[misc]
    """320 samples for each token."""

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        samples = 320 * tokens.shape[1]
        lengths = torch.full((tokens.shape[0],), samples // 2)
        return torch.full((tokens.shape[0], samples), 0.25), lengths


def _scripted(path: Path) -> Path:
    torch.jit.script(Scripted()).save(str(path))
    return path


def _by_package(silero: Any, folder: Path) -> Any:
    return silero.silero_tts(language="en", speaker="v3_tiny")[0]


def _by_hub(silero: Any, folder: Path) -> Any:
    (folder / "hub").mkdir()
    (folder / "hub" / "hubconf.py").write_text("from silero import silero_tts\n")
    model, example = torch.hub.load(str(folder / "hub"), "silero_tts", source="local", language="en", speaker="v3_tiny")
    assert example == TEXT
    return model


def _by_file(silero: Any, folder: Path) -> Any:
    return PackageImporter(folder / "v3_tiny.pt").load_pickle("tts_models", "model")


@pytest.mark.parametrize("load", [_by_package, _by_hub, _by_file])
def test_model_by_any_door(spans: Spans, silero: Any, tmp_path: Path, load: Callable[[Any, Path], Any]) -> None:
    assert ttstrace.instrument("silero") == ["silero"]
    model = load(silero, tmp_path)
    assert type(model).__name__ == "TTSModelTiny"
    assert set(vars(model)) == {"device", "speakers"}
    assert not spans.all()
    audio = model.apply_tts(text=TEXT, speaker="ann", sample_rate=RATE)
    assert type(audio) is torch.Tensor
    _attributes(
        spans,
        gen_ai__request__model="v3_tiny",
        gen_ai__speech__voice="ann",
        gen_ai__request__stream=False,
        tts__input__characters=12,
        tts__input__type="text",
        tts__device="cpu",
        tts__audio__sample_rate=RATE,
        tts__audio__duration=len(audio) / RATE,
        tts__cold_start=True,
    )
    model.apply_tts(TEXT)
    second = dict(spans.syntheses()[1].attributes or {})
    assert (second["tts.audio.sample_rate"], second["tts.cold_start"]) == (48_000, False)


def test_ssml(spans: Spans, pack: Pack) -> None:
    ttstrace.instrument("silero")
    model = PackageImporter(pack("v3_tiny")).load_pickle("tts_models", "model")
    model.apply_tts(ssml_text="<speak>Hello</speak>")
    _attributes(spans, tts__input__characters=20, tts__input__type="ssml")


def test_several_texts(spans: Spans, pack: Pack) -> None:
    ttstrace.instrument("silero")
    model = PackageImporter(pack("v2_lists", BATCH)).load_pickle("tts_models", "model")
    audios = model.apply_tts([TEXT, "Hi."], ["ann", "ann"], sample_rate=8_000)
    _attributes(
        spans,
        tts__input__characters=15,
        tts__audio__sample_rate=8_000,
        tts__audio__duration=sum(map(len, audios)) / 8_000,
        tts__batch__size=2,
    )


def test_what_the_model_does_not_have(spans: Spans, pack: Pack) -> None:
    ttstrace.instrument("silero")
    model = PackageImporter(pack("v3_tiny")).load_pickle("tts_models", "model")
    with pytest.raises(ValueError, match="`speaker` should be in ann"):
        model.apply_tts(TEXT, speaker="nobody")
    span = spans.one()
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "ValueError"


def test_first_models_have_one_function(spans: Spans, silero: Any) -> None:
    ttstrace.instrument("silero")
    model, symbols, rate, example, apply_tts = silero.silero_tts(language="en", speaker="tiny_16khz")
    audios = apply_tts([example, "Hi."], model, rate, symbols, torch.device("cpu"))
    _attributes(
        spans,
        tts__input__characters=15,
        tts__device="cpu",
        tts__audio__sample_rate=16_000,
        tts__audio__duration=sum(map(len, audios)) / 16_000,
    )


def test_other_packed_objects_are_left_alone(spans: Spans, pack: Pack) -> None:
    ttstrace.instrument("silero")
    model = PackageImporter(pack("denoiser", DENOISER)).load_pickle("tts_models", "model")
    assert type(vars(type(model))["denoise"]).__name__ == "function"
    assert model.denoise(1) == 1
    assert not spans.all()


def test_originals_are_put_back(spans: Spans, pack: Pack) -> None:
    loads = vars(PackageImporter)["load_pickle"]
    ttstrace.instrument("silero")
    model = PackageImporter(pack("v3_tiny")).load_pickle("tts_models", "model")
    traced = vars(type(model))["apply_tts"]
    ttstrace.uninstrument("silero")
    assert vars(PackageImporter)["load_pickle"] is loads
    assert vars(type(model))["apply_tts"] is traced.__wrapped__
    model.apply_tts(TEXT)
    assert not spans.all()
