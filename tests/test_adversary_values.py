"""What calls, options and programs say, and how little of it may be relied on."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Spans

from ttstrace import semconv, traced_synthesis

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
