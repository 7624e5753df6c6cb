"""kokoro itself: its pipeline and its model, with random weights, and espeak-ng's phonemes."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Spans, between
from torch_models import Stopwatch, check, check_failed, check_put_back, library, paced, torch

import ttstrace

kokoro = library("kokoro")

RATE = 24_000
TEXT = "Hola. ¿Qué tal?"
TWO = "Hola.\n¿Qué tal?"
FRAME = 40  # samples: what the vocoder makes of one frame of the predicted durations


@pytest.fixture(autouse=True)
def instrumented() -> Iterator[None]:
    assert ttstrace.instrument("kokoro") == ["kokoro"]
    yield
    ttstrace.uninstrument()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    torch.manual_seed(0)
    weights = tmp_path_factory.mktemp("kokoro") / "random.pth"
    torch.save({}, weights)  # none are loaded: it keeps what it was made with
    phonemes = "abcdefghijklmnopqrstuvwxyzɾβðɣˈˌ .,?!¿"
    configuration = {
        "vocab": {each: at for at, each in enumerate(phonemes, 1)},
        "n_token": len(phonemes) + 1,
        "plbert": {
            "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": 128,
            "num_hidden_layers": 1,
        },
        "hidden_dim": 512, "style_dim": 128, "n_layer": 1, "max_dur": 2, "dropout": 0.0, "n_mels": 8,
        "text_encoder_kernel_size": 3,
        "istftnet": {
            "upsample_kernel_sizes": [4, 4], "upsample_rates": [2, 2], "gen_istft_hop_size": 5,
            "gen_istft_n_fft": 20, "resblock_dilation_sizes": [[1, 1, 1]], "resblock_kernel_sizes": [3],
            "upsample_initial_channel": 512,
        },
    }  # fmt: skip
    return kokoro.KModel(repo_id="acme/kokoro-tiny", config=configuration, model=str(weights)).eval()


def _pipeline(model: Any) -> Any:
    pipeline = kokoro.KPipeline("e", repo_id="acme/kokoro", model=model)
    pipeline.voices["ef_dora"] = torch.zeros(510, 1, 256)
    return pipeline


@pytest.fixture(scope="module")
def pipeline(model: Any) -> Any:
    return _pipeline(model)


def test_stream(spans: Spans, pipeline: Any) -> None:
    results = list(pipeline(TWO, voice="ef_dora"))
    assert [result.graphemes for result in results] == ["Hola.", "¿Qué tal?"]
    check(
        spans,
        gen_ai__provider__name="kokoro",
        gen_ai__request__model="acme/kokoro-tiny",
        gen_ai__request__stream=True,
        gen_ai__speech__voice="ef_dora",
        tts__language="es",
        tts__input__characters=len(TWO),
        tts__input__type="text",
        tts__device="cpu",
        tts__audio__sample_rate=RATE,
        tts__audio__channels=1,
        tts__audio__duration=sum(int(result.pred_dur.sum()) for result in results) * FRAME / RATE,
        tts__stream__chunks=2,
        tts__voice__cloned=None,
    )


def test_texts_in_a_list(spans: Spans, pipeline: Any) -> None:
    texts = ["Hola.", "¿Qué tal?", "Adiós."]
    results = list(pipeline(texts, voice="ef_dora"))
    assert len(results) == 3
    check(
        spans,
        tts__input__characters=sum(map(len, texts)),
        tts__stream__chunks=3,
        tts__audio__duration=sum(len(result.audio) for result in results) / RATE,
        tts__audio__channels=1,
    )


def test_a_slow_consumers_time_is_not_the_models(
    spans: Spans, pipeline: Any, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = Stopwatch(monkeypatch, model, "forward_with_tokens")
    _, pulled = paced(pipeline(TWO, voice="ef_dora"), 0.2)
    attributes = check(spans, tts__synthesis__duration=between(forward.seconds, pulled))
    assert attributes["tts.stream.hold.duration"] >= 0.4


def test_phonemes(spans: Spans, pipeline: Any) -> None:
    (result,) = pipeline.generate_from_tokens("ˈola", voice="ef_dora")
    check(
        spans,
        gen_ai__speech__voice="ef_dora",
        tts__input__type="phonemes",
        tts__input__characters=4,
        tts__audio__duration=len(result.audio) / RATE,
        tts__stream__chunks=1,
    )


def test_tokens(spans: Spans, pipeline: Any) -> None:
    token = pytest.importorskip("misaki.token").MToken(text="hola", tag="NN", whitespace="", phonemes="ˈola")
    (result,) = pipeline.generate_from_tokens([token], voice="ef_dora")
    check(spans, tts__input__characters=None, tts__input__type=None, tts__audio__duration=len(result.audio) / RATE)


def test_phonemes_alone_are_no_speech(spans: Spans) -> None:
    results = list(_pipeline(False)(TWO))
    assert [result.audio for result in results] == [None, None]
    assert not spans.syntheses()


def test_a_model_that_is_lent(spans: Spans, model: Any) -> None:
    """Two pipelines of one model, which neither holds: it is loaded once."""
    model = copy.copy(model)
    for _ in range(2):
        list(_pipeline(False)(TEXT, voice="ef_dora", model=model))
    first, second = (dict(span.attributes or {}) for span in spans.syntheses())
    assert (first["tts.cold_start"], second["tts.cold_start"]) == (True, False)
    assert first["gen_ai.request.model"] == second["gen_ai.request.model"] == "acme/kokoro-tiny"
    assert first["tts.device"] == "cpu"


def test_voices_without_a_name(spans: Spans, pipeline: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(torch.zeros(510, 1, 256), "mine.pt")
    for voice in ("mine.pt", "mine.pt,ef_dora", str(tmp_path / "mine.pt"), torch.zeros(510, 1, 256)):
        list(pipeline(TEXT, voice=voice))
        check(spans, gen_ai__speech__voice=None)
        spans.clear()
    list(pipeline(TEXT, voice="ef_dora,ef_dora"))
    check(spans, gen_ai__speech__voice="ef_dora,ef_dora")


def test_nothing_to_say(spans: Spans, pipeline: Any) -> None:
    """Of a stream without a chunk, there is nothing to read the audio's length from."""
    assert list(pipeline(" \n ", voice="ef_dora")) == []
    check(spans, tts__input__characters=3, tts__audio__duration=None, tts__rtf=None)


def test_left_half_way(spans: Spans, pipeline: Any) -> None:
    results = pipeline(TWO, voice="ef_dora")
    first = next(results)
    results.close()
    check(spans, tts__interrupted=True, tts__audio__duration=len(first.audio) / RATE)


def test_failures(spans: Spans, pipeline: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Specify a voice"):
        list(pipeline(TEXT))
    check_failed(spans, ValueError)
    spans.clear()
    with pytest.raises(FileNotFoundError):
        list(pipeline(TEXT, voice=str(tmp_path / "nobody.pt")))
    check_failed(spans, FileNotFoundError)


def test_originals_are_put_back() -> None:
    check_put_back("kokoro")
