"""What calls, options and programs say, and how little of it may be relied on."""

from __future__ import annotations

import os
import sys
import types
import wave
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Spans

from ttstrace import semconv, synthesis, traced_synthesis

CHUNK = np.zeros(2400, np.float32)


def test_arguments_that_are_left_at_their_defaults(
    spans: Spans, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    @traced_synthesis
    def rate(text: str, sample_rate: int = 24000) -> Any:
        return CHUNK

    @traced_synthesis
    def words(text: str = "hello", mood: str = "gay") -> Any:
        return CHUNK

    @traced_synthesis
    def to_file(text: str, *, file_path: str = "output.wav") -> None:
        with wave.open(file_path, "wb") as written:
            written.setparams((1, 2, 24000, 0, "NONE", ""))
            written.writeframes(bytes(4800))

    rate("hello")
    assert spans.attributes()[semconv.TTS_AUDIO_DURATION] == 0.1
    spans.clear()
    words()
    assert spans.attributes()[semconv.TTS_INPUT_CHARACTERS] == 5
    spans.clear()
    to_file("hello")
    assert spans.attributes()[semconv.TTS_AUDIO_DURATION] == 0.1


class _NoPath(os.PathLike[str]):
    def __fspath__(self) -> str:
        raise RuntimeError


class _NoText:
    def __str__(self) -> str:
        return "secret"


_OPTIONS = (
    "provider", "model", "voice", "language", "device", "text", "sample_rate", "format", "audio", "attributes",
)  # fmt: skip


@pytest.mark.parametrize("option", _OPTIONS)
@pytest.mark.parametrize(
    "answer",
    [Fraction(10**400), 10**30, _NoPath(), _NoText(), {_NoText(): 1}, {"\ud800": "\ud800"}, "\ud800", np.int64(3), [1]],
    ids=lambda answer: type(answer).__name__,
)
def test_an_answer_without_meaning_costs_its_figure_only(
    spans: Spans, no_faults_of_ours: list[BaseException], option: str, answer: Any
) -> None:
    @traced_synthesis(**{option: lambda call: answer})
    def speak(text: str) -> Any:
        return CHUNK

    assert speak("hello") is CHUNK
    attributes = spans.attributes()
    assert semconv.TTS_COLD_START in attributes
    for name, value in attributes.items():
        assert type(value) in (bool, str, int, float)
        f"{name}{value}".encode()
        assert "secret" not in f"{name}{value}"
    no_faults_of_ours.clear()


def test_names_that_cannot_be_encoded(spans: Spans) -> None:
    @traced_synthesis(attributes={"\ud800a": "x", "b": lambda call: 1})
    def speak(text: str) -> Any:
        synthesis.current().set_attribute("\ud800c", "x")
        return CHUNK

    speak("hello")
    attributes = spans.attributes()
    assert (attributes["?a"], attributes["b"], attributes["?c"]) == ("x", 1, "x")


def test_a_number_beyond_all_floats_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="finite"):
        traced_synthesis(attributes={"a": Fraction(10**400)})


def test_a_result_on_the_cpu_says_nothing_of_the_device(spans: Spans, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", types.ModuleType("torch"))

    class Result:
        device = "cpu"

    @traced_synthesis
    def speak(text: str) -> Result:
        return Result()

    speak("hello")
    assert semconv.TTS_DEVICE not in spans.attributes()
    spans.clear()
    monkeypatch.setattr(Result, "device", "cuda:1")
    speak("hello")
    assert spans.attributes()[semconv.TTS_DEVICE] == "cuda:1"


def test_a_deep_traceback_is_cut_to_where_it_was_raised(spans: Spans) -> None:
    def deep(levels: int) -> None:
        if not levels:
            raise KeyError
        deep(levels - 1)

    @traced_synthesis
    def speak(text: str) -> None:
        deep(100)

    with pytest.raises(KeyError):
        speak("hello")
    trace = (spans.one().events[0].attributes or {})[semconv.EXCEPTION_STACKTRACE]
    assert str(trace).count("File ") == 64


def test_frames_of_the_measuring_itself_are_not_told(spans: Spans) -> None:
    @traced_synthesis
    def speak(text: str) -> None:
        raise KeyError

    with pytest.raises(KeyError):
        speak("hello")
    trace = str((spans.one().events[0].attributes or {})[semconv.EXCEPTION_STACKTRACE])
    assert trace.count("File ") == 1
    assert trace.endswith("in speak")
