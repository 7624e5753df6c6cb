"""Local models whose libraries cannot be installed: doubles with their signatures, which behave as they do.

melotts' only release on PyPI lacks the file that its own setup reads; CosyVoice is run from its source tree.
"""

from __future__ import annotations

import importlib
import io
import sys
import textwrap
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Spans, between
from opentelemetry.trace import StatusCode

import ttstrace

torch = pytest.importorskip("torch")
np = pytest.importorskip("numpy")

TEXT = "Hello there."


@pytest.fixture(autouse=True)
def come_off() -> Iterator[None]:
    yield
    ttstrace.uninstrument()


Double = Callable[..., types.ModuleType]


@pytest.fixture
def double(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Double]:
    """Makes a library of one module, as if it were installed, or in a source tree; gives the module, imported after
    it was instrumented."""
    made = []

    def make(path: str, code: str, backend: str, distribution: str = "") -> types.ModuleType:
        package = path.partition(".")[0]
        file = tmp_path.joinpath(*path.split(".")).with_suffix(".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(code))
        if distribution:
            name, version = distribution.split("==")
            (tmp_path / f"{name}-{version}.dist-info").mkdir()
            told = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
            (tmp_path / f"{name}-{version}.dist-info" / "METADATA").write_text(told)
        for name in [name for name in sys.modules if name.partition(".")[0] == package]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.syspath_prepend(tmp_path)
        made.append(package)
        assert ttstrace.instrument(backend) == [backend]
        return importlib.import_module(path)

    yield make
    for package in made:
        for name in [name for name in sys.modules if name.partition(".")[0] == package]:
            del sys.modules[name]


def _attributes(spans: Spans, **expected: Any) -> dict[str, Any]:
    span = spans.one()
    assert span.status.status_code is StatusCode.UNSET
    attributes = dict(span.attributes or {})
    told = {name.replace("__", "."): value for name, value in expected.items()}
    assert {name: attributes.get(name) for name in told} == told
    return attributes


def _error(spans: Spans) -> object:
    span = spans.one()
    assert span.status.status_code is StatusCode.ERROR
    assert not {"tts.audio.duration", "tts.rtf"} & (span.attributes or {}).keys()
    return (span.attributes or {})["error.type"]


# --- melotts -----------------------------------------------------------------------------------------------------

MELO = """
    import numpy as np
    import soundfile
    import torch


    class HParams:
        def __init__(self, **values):
            for name, value in values.items():
                setattr(self, name, HParams(**value) if type(value) is dict else value)

        def items(self):
            return vars(self).items()

        def __getitem__(self, name):
            return getattr(self, name)


    class TTS(torch.nn.Module):
        def __init__(self, language, device="cpu"):
            super().__init__()
            self.model = torch.nn.Linear(2, 2)
            self.hps = HParams(data={"sampling_rate": 44100, "spk2id": {"KR": 0, "KR-2": 1}})
            self.device = device
            self.language = language

        def tts_to_file(
            self, text, speaker_id, output_path=None, sdp_ratio=0.2, noise_scale=0.6, noise_scale_w=0.8, speed=1.0,
            pbar=None, format=None, position=None, quiet=False,
        ):
            if speaker_id not in (0, 1):
                raise IndexError("index out of range in self")
            rate = self.hps.data.sampling_rate
            audio = np.full(round(rate * 0.5 / speed), 0.25, np.float32)
            if output_path is None:
                return audio
            if format:
                soundfile.write(output_path, audio, rate, format=format)
            else:
                soundfile.write(output_path, audio, rate)
"""


@pytest.fixture
def melo(double: Double) -> Any:
    pytest.importorskip("soundfile")
    return double("melo.api", MELO, "melotts", "melotts==0.1.2").TTS("KR")


def test_melotts_array_on_a_double(spans: Spans, melo: Any) -> None:
    """Of melo.api.TTS, of which a call without a path returns the samples."""
    ids = melo.hps.data.spk2id
    samples = melo.tts_to_file("안녕하세요.", ids["KR-2"], speed=2.0, quiet=True)
    _attributes(
        spans,
        gen_ai__provider__name="melotts",
        gen_ai__speech__voice="KR-2",
        gen_ai__request__stream=False,
        tts__language="KR",
        tts__input__characters=6,
        tts__device="cpu",
        tts__audio__sample_rate=44_100,
        tts__audio__duration=len(samples) / 44_100,
        tts__cold_start=True,
    )


@pytest.mark.parametrize("target", ["speech.wav", "speech.flac", None])
def test_melotts_file_on_a_double(spans: Spans, melo: Any, tmp_path: Path, target: str | None) -> None:
    """Of melo.api.TTS, of which a call with a path or a file returns None."""
    output: Any = io.BytesIO() if target is None else str(tmp_path / target)
    assert melo.tts_to_file(TEXT, 0, output, format=None if target else "wav") is None
    _attributes(
        spans,
        gen_ai__speech__voice="KR",
        tts__input__characters=12,
        tts__audio__format="flac" if target == "speech.flac" else "wav",
        tts__audio__sample_rate=44_100,
        tts__audio__duration=0.5,
    )


def test_melotts_fails_on_a_double(spans: Spans, melo: Any) -> None:
    """Of melo.api.TTS, whose embedding has no such speaker."""
    with pytest.raises(IndexError, match="out of range"):
        melo.tts_to_file(TEXT, 9)
    assert _error(spans) == "IndexError"


# --- CosyVoice ---------------------------------------------------------------------------------------------------

RATE = 24_000
MADE = 0.05  # seconds that each block takes to be made
COSY = """
    import queue
    import threading
    import time
    from typing import Generator

    import torch


    class Model:
        def __init__(self):
            self.device = torch.device("cpu")
            self.tokens = 0

        def language_model(self, text, tokens):
            for _ in range(3):
                time.sleep(0.05)
                self.tokens += 1
                tokens.put(torch.full((1, 4800), 0.25))
            tokens.put(None)

        def tts(self, text, stream=False, speed=1.0):
            tokens = queue.Queue()
            thread = threading.Thread(target=self.language_model, args=(text, tokens))
            thread.start()
            if stream:
                while (block := tokens.get()) is not None:
                    yield {"tts_speech": block}
                thread.join()
            else:
                thread.join()
                blocks = [tokens.get() for _ in range(3)]
                yield {"tts_speech": torch.cat(blocks, dim=1)[:, : round(14400 / speed)]}


    class Frontend:
        def __init__(self, speakers):
            self.spk2info = speakers

        def text_normalize(self, text, split=True, text_frontend=True):
            if isinstance(text, Generator):
                return [text]
            return [each.strip() for each in text.split(".") if each.strip()] if split else text


    class CosyVoice:
        def __init__(self, model_dir, load_jit=False, load_trt=False, fp16=False, trt_concurrent=1):
            self.model_dir = model_dir
            self.sample_rate = 24000
            self.frontend = Frontend({"ann": {}})
            self.model = Model()

        def _speak(self, tts_text, stream, speed, text_frontend):
            for each in self.frontend.text_normalize(tts_text, split=True, text_frontend=text_frontend):
                if isinstance(each, Generator):
                    each = "".join(each)
                yield from self.model.tts(each, stream=stream, speed=speed)

        def inference_sft(self, tts_text, spk_id, stream=False, speed=1.0, text_frontend=True):
            self.frontend.spk2info[spk_id]
            yield from self._speak(tts_text, stream, speed, text_frontend)

        def inference_zero_shot(
            self, tts_text, prompt_text, prompt_wav, zero_shot_spk_id="", stream=False, speed=1.0, text_frontend=True
        ):
            yield from self._speak(tts_text, stream, speed, text_frontend)

        def inference_cross_lingual(
            self, tts_text, prompt_wav, zero_shot_spk_id="", stream=False, speed=1.0, text_frontend=True
        ):
            yield from self._speak(tts_text, stream, speed, text_frontend)

        def inference_instruct(self, tts_text, spk_id, instruct_text, stream=False, speed=1.0, text_frontend=True):
            yield from self._speak(tts_text, stream, speed, text_frontend)


    class CosyVoice2(CosyVoice):
        def inference_instruct(self, *args, **kwargs):
            raise NotImplementedError("inference_instruct is not implemented for CosyVoice2!")

        def inference_instruct2(
            self, tts_text, instruct_text, prompt_wav, zero_shot_spk_id="", stream=False, speed=1.0, text_frontend=True
        ):
            yield from self._speak(tts_text, stream, speed, text_frontend)


    class CosyVoice3(CosyVoice2):
        pass
"""


@pytest.fixture
def cosy(double: Double) -> types.ModuleType:
    return double("cosyvoice.cli.cosyvoice", COSY, "cosyvoice")


def _seconds(chunks: list[Any]) -> float:
    return sum(chunk["tts_speech"].shape[1] for chunk in chunks) / RATE


NOBODY = {"gen_ai.speech.voice", "tts.voice.cloned"}


@pytest.mark.parametrize(
    ("owner", "door", "arguments", "told"),
    [
        ("CosyVoice", "sft", ["ann"], {"gen_ai.speech.voice": "ann"}),
        ("CosyVoice", "instruct", ["ann", "Cheerfully."], {"gen_ai.speech.voice": "ann"}),
        ("CosyVoice2", "zero_shot", ["Who I am.", "someone.wav"], {"tts.voice.cloned": True}),
        ("CosyVoice2", "zero_shot", ["Who I am.", torch.zeros(1, 16_000)], {"tts.voice.cloned": True}),
        ("CosyVoice2", "zero_shot", ["", "", "enrolled"], {"gen_ai.speech.voice": "enrolled"}),
        ("CosyVoice3", "cross_lingual", ["someone.wav"], {"tts.voice.cloned": True}),
        ("CosyVoice3", "instruct2", ["Cheerfully.", "someone.wav"], {"tts.voice.cloned": True}),
    ],
)
def test_cosyvoice_on_a_double(
    spans: Spans, cosy: types.ModuleType, owner: str, door: str, arguments: list[Any], told: dict[str, Any]
) -> None:
    """Of CosyVoice's classes, whose methods are generators of one dict for each text that they split off."""
    engine = getattr(cosy, owner)("/models/Fun-CosyVoice-tiny")
    chunks = list(getattr(engine, f"inference_{door}")("First. Second.", *arguments, speed=2.0))
    assert len(chunks) == 2
    attributes = _attributes(
        spans,
        gen_ai__provider__name="cosyvoice",
        gen_ai__request__model="Fun-CosyVoice-tiny",
        gen_ai__request__stream=True,
        tts__stream__chunks=2,
        tts__input__characters=14,
        tts__device="cpu",
        tts__audio__sample_rate=RATE,
        tts__audio__duration=_seconds(chunks),
        tts__cold_start=True,
    )
    assert {name: attributes[name] for name in NOBODY & attributes.keys()} == told


def test_cosyvoice_by_the_text_to_a_paced_consumer_on_a_double(spans: Spans, cosy: types.ModuleType) -> None:
    """Of CosyVoice, which without streaming waits inside the pull for the thread that it started there."""
    inside, chunks = 0.0, []
    stream = cosy.CosyVoice("tiny").inference_sft("First. Second.", "ann")
    while True:
        asked = time.perf_counter()
        chunk = next(stream, None)
        inside += time.perf_counter() - asked
        if chunk is None:
            break
        chunks.append(chunk)
        time.sleep(0.2)
    attributes = _attributes(
        spans,
        tts__audio__duration=_seconds(chunks),
        tts__synthesis__duration=between(6 * MADE, inside),
    )
    assert attributes["tts.stream.hold.duration"] >= 2 * 0.2


def test_cosyvoice_stream_to_a_paced_consumer_on_a_double(spans: Spans, cosy: types.ModuleType) -> None:
    """Of CosyVoice, whose language model runs ahead where it streams: how long it would have taken, nobody knows."""
    engine = cosy.CosyVoice("tiny")
    chunks = []
    for chunk in engine.inference_sft("First.", "ann", stream=True):
        chunks.append(chunk)
        while engine.model.tokens < 3:  # it works on, while nobody asks
            time.sleep(0.01)
    assert len(chunks) == 3
    attributes = _attributes(spans, tts__stream__chunks=3, tts__audio__duration=_seconds(chunks))
    assert attributes["tts.stream.hold.duration"] >= MADE
    assert not {"tts.synthesis.duration", "tts.rtf"} & attributes.keys()


def test_cosyvoice_of_a_text_in_pieces_on_a_double(spans: Spans, cosy: types.ModuleType) -> None:
    """Of CosyVoice2, which looks whether the text is a generator."""
    pieces = (each for each in ["Hello ", "there."])
    chunks = list(cosy.CosyVoice2("tiny").inference_instruct2(pieces, "Cheerfully.", "someone.wav"))
    _attributes(spans, tts__input__characters=12, tts__audio__duration=_seconds(chunks))


def test_cosyvoice_fails_on_a_double(spans: Spans, cosy: types.ModuleType) -> None:
    """Of CosyVoice, a generator that fails at its first pull."""
    stream = cosy.CosyVoice("tiny").inference_sft(TEXT, "nobody")
    assert not spans.all()
    with pytest.raises(KeyError, match="nobody"):
        next(stream)
    assert _error(spans) == "KeyError"


def test_originals_are_put_back_on_doubles(cosy: types.ModuleType, melo: Any) -> None:
    doors = [(type(melo), "tts_to_file"), (cosy.CosyVoice2, "inference_instruct2")]
    doors += [(cosy.CosyVoice, f"inference_{each}") for each in ("sft", "zero_shot", "cross_lingual", "instruct")]
    traced = [vars(owner)[name] for owner, name in doors]
    ttstrace.uninstrument()
    assert [vars(owner)[name] for owner, name in doors] == [each.__wrapped__ for each in traced]
    assert all(type(vars(owner)[name]) is types.FunctionType for owner, name in doors)
