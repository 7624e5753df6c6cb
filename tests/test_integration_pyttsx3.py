"""pyttsx3 itself, with the machine's espeak-ng: a queue, a file, and the loudspeaker."""

from __future__ import annotations

import ctypes.util
import time
import wave
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import Spans, snapshot_of
from inline_snapshot import snapshot

import ttstrace
from ttstrace import semconv

if ctypes.util.find_library("espeak-ng") is None and ctypes.util.find_library("espeak") is None:
    pytest.skip("pyttsx3 speaks through libespeak-ng, which is not on this machine", allow_module_level=True)

import pyttsx3.engine

TEXT = "Hello there. This is a test."


@pytest.fixture(autouse=True)
def instrumented() -> Iterator[None]:
    assert ttstrace.instrument("pyttsx3") == ["pyttsx3"]
    yield
    ttstrace.uninstrument()


@pytest.fixture
def engine() -> Any:
    """One that has nothing from an earlier test in its driver."""
    made = pyttsx3.engine.Engine("espeak")
    made.runAndWait()  # the first run does not wait, whatever it speaks
    assert made.proxy._driver._save_file is None
    return made


@pytest.fixture
def loudspeaker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose `aplay` takes 0.3 s, and keeps what it played in this file."""
    played = tmp_path / "played.wav"
    player = tmp_path / "aplay"
    player.write_text(f'#!/bin/sh\ncp "$1" "{played}"\nsleep 0.3\n')
    player.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return played


def seconds(path: Path) -> float:
    with wave.open(str(path)) as file:
        return file.getnframes() / file.getframerate()


def test_file(spans: Spans, engine: Any, tmp_path: Path) -> None:
    path = tmp_path / "speech.wav"
    engine.save_to_file(TEXT, str(path))
    assert spans.all() == []
    engine.runAndWait()
    span = snapshot_of(spans.one())
    assert seconds(path) > 1
    assert span["attributes"].pop(semconv.TTS_AUDIO_DURATION) == seconds(path)
    assert span["attributes"].pop(semconv.TTS_AUDIO_SIZE) == path.stat().st_size
    assert span["attributes"].pop(semconv.GEN_AI_SPEECH_VOICE) == engine.getProperty("voice")
    assert str(tmp_path) not in str(span)
    assert span == snapshot(
        {
            "name": "text_to_speech espeak",
            "kind": "INTERNAL",
            "status": "UNSET",
            "attributes": {
                "code.function.name": "pyttsx3.engine.Engine.runAndWait",
                "gen_ai.operation.name": "text_to_speech",
                "gen_ai.output.type": "speech",
                "gen_ai.provider.name": "pyttsx3",
                "gen_ai.request.model": "espeak",
                "gen_ai.request.stream": False,
                "tts.audio.channels": 1,
                "tts.audio.format": "wav",
                "tts.audio.sample_rate": 22050,
                "tts.cold_start": True,
                "tts.concurrency.max": 1,
                "tts.cpu.time": "<float>",
                "tts.cpu.utilization": "<float>",
                "tts.device": "cpu",
                "tts.input.characters": 28,
                "tts.memory.burst": "<int>",
                "tts.memory.growth": "<int>",
                "tts.memory.peak": "<int>",
                "tts.memory.utilization": "<float>",
                "tts.rtf": "<float>",
                "tts.rtf.grade": "<str>",
                "tts.synthesis.duration": "<float>",
            },
            "events": [],
        }
    )


def test_playing_is_no_synthesis_time(spans: Spans, engine: Any, loudspeaker: Path) -> None:
    engine.say(TEXT)
    engine.runAndWait()
    span = spans.one()
    found = dict(span.attributes or {})
    assert seconds(loudspeaker) > 1
    assert (span.end_time or 0) - (span.start_time or 0) >= 0.3e9
    assert found[semconv.TTS_INPUT_CHARACTERS] == len(TEXT)
    assert found[semconv.GEN_AI_REQUEST_MODEL] == "espeak"
    assert not found.keys() & {
        semconv.TTS_SYNTHESIS_DURATION,
        semconv.TTS_RTF,
        semconv.TTS_RTF_GRADE,
        semconv.TTS_AUDIO_DURATION,
    }


def test_playing_where_nothing_plays(
    spans: Spans, engine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without `aplay` pyttsx3 goes on as if it had played, and so the span tells no figure that would be playback's."""
    monkeypatch.setenv("PATH", str(tmp_path))
    engine.say(TEXT)
    engine.runAndWait()
    assert "aplay" in capfd.readouterr().err
    found = spans.attributes()
    assert spans.one().status.is_unset
    assert not found.keys() & {semconv.TTS_SYNTHESIS_DURATION, semconv.TTS_RTF, semconv.TTS_AUDIO_DURATION}


def test_queue_of_which_espeak_speaks_the_last(spans: Spans, engine: Any, tmp_path: Path) -> None:
    first, last = tmp_path / "first.wav", tmp_path / "last.wav"
    engine.save_to_file(TEXT, str(first))
    engine.save_to_file("Short.", str(last))
    engine.runAndWait()
    assert not first.exists()
    found = spans.attributes()
    assert found[semconv.TTS_INPUT_CHARACTERS] == len("Short.")
    assert found[semconv.TTS_AUDIO_DURATION] == seconds(last)


def test_what_was_saved_once_is_saved_for_good(spans: Spans, engine: Any, tmp_path: Path) -> None:
    """espeak's driver forgets neither the file nor the text."""
    path = tmp_path / "speech.wav"
    engine.save_to_file(TEXT, str(path))
    engine.runAndWait()
    long = seconds(path)
    engine.say("Short.")
    engine.runAndWait()
    short = seconds(path)
    engine.runAndWait()
    again = seconds(path)
    assert max(short, again) < long
    assert [
        ((span.attributes or {})[semconv.TTS_INPUT_CHARACTERS], (span.attributes or {})[semconv.TTS_AUDIO_DURATION])
        for span in spans.all()
    ] == [(len(TEXT), long), (len("Short."), short), (len("Short."), again)]


def test_run_that_does_not_wait(spans: Spans, tmp_path: Path) -> None:
    """An engine's first: espeak is still at work when it returns, so that nobody knows yet how long it takes."""
    path = tmp_path / "speech.wav"
    engine = pyttsx3.engine.Engine("espeak")
    engine.save_to_file(TEXT * 100, str(path))
    engine.runAndWait()
    assert engine.proxy._driver._speaking
    assert not path.exists()
    found = spans.attributes()
    assert found[semconv.TTS_INPUT_CHARACTERS] == 100 * len(TEXT)
    assert not found.keys() & {semconv.TTS_SYNTHESIS_DURATION, semconv.TTS_RTF, semconv.TTS_AUDIO_DURATION}
    while engine.proxy._driver._speaking:
        time.sleep(0.01)
    assert path.exists()


def test_what_was_stopped_is_not_spoken(spans: Spans, tmp_path: Path) -> None:
    engine = pyttsx3.engine.Engine("espeak")
    path = tmp_path / "speech.wav"
    engine.save_to_file(TEXT, str(path))
    engine.stop()
    engine.runAndWait()
    assert not path.exists()
    assert spans.all() == []


def test_nothing_queued_is_no_span(spans: Spans) -> None:
    engine = pyttsx3.engine.Engine("espeak")
    engine.say(" ")
    engine.runAndWait()
    assert spans.all() == []


def test_voice_that_was_queued(spans: Spans, tmp_path: Path) -> None:
    engine: Any = pyttsx3.engine.Engine("espeak")
    before = engine.getProperty("voice")
    engine.setProperty("voice", "gmw/de")
    engine.save_to_file("Guten Tag.", str(tmp_path / "speech.wav"))
    assert engine.getProperty("voice") == before
    engine.runAndWait()
    assert engine.getProperty("voice") != before
    assert spans.attributes()[semconv.GEN_AI_SPEECH_VOICE] == engine.getProperty("voice")


def test_cold_start_is_of_the_engine(spans: Spans, engine: Any, tmp_path: Path) -> None:
    for name in ("one.wav", "two.wav"):
        engine.save_to_file("Hello.", str(tmp_path / name))
        engine.runAndWait()
    assert [(span.attributes or {})[semconv.TTS_COLD_START] for span in spans.all()] == [True, False]


def test_error(spans: Spans, engine: Any, tmp_path: Path) -> None:
    engine.save_to_file("A secret.", str(tmp_path / "speech.wav"))
    engine._inLoop = True
    with pytest.raises(RuntimeError, match="run loop already started"):
        engine.runAndWait()
    found = spans.attributes()
    assert found[semconv.ERROR_TYPE] == "RuntimeError"
    assert "secret" not in str(spans.one().to_json())


@pytest.fixture
def other_driver(engine: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The engine as with a driver of another system: a stand-in, for those run on Windows and macOS only."""
    monkeypatch.setattr(engine, "driver_name", "sapi5")

    class Driver(SimpleNamespace):
        def say(self, text: str) -> None:
            time.sleep(0.01)

        def save_to_file(self, text: str, filename: str) -> None:
            with wave.open(filename, "wb") as file:
                file.setparams((1, 2, 22050, 0, "NONE", ""))
                file.writeframes(bytes(2 * 22050))

        def startLoop(self) -> None:
            engine.proxy.setBusy(False)

        def getProperty(self, name: str) -> str:
            return "Zira"

        def __getattr__(self, name: str) -> Any:
            return lambda *_: None

    monkeypatch.setattr(engine.proxy, "_driver", Driver())
    return engine


def test_driver_that_speaks_all_of_the_queue(spans: Spans, other_driver: Any, tmp_path: Path) -> None:
    engine = other_driver
    engine.say("One.")
    engine.say("")
    engine.say("Two.")
    engine.runAndWait()
    engine.save_to_file("Three.", str(tmp_path / "speech.wav"))
    engine.runAndWait()
    engine.runAndWait()
    played, saved = (dict(span.attributes or {}) for span in spans.all())
    assert played[semconv.TTS_INPUT_CHARACTERS] == len("One.Two.")
    assert not played.keys() & {semconv.TTS_SYNTHESIS_DURATION, semconv.TTS_AUDIO_DURATION}
    assert saved[semconv.TTS_INPUT_CHARACTERS] == len("Three.")
    assert played[semconv.GEN_AI_SPEECH_VOICE] == saved[semconv.GEN_AI_SPEECH_VOICE] == "Zira"
    assert saved[semconv.GEN_AI_REQUEST_MODEL] == "sapi5"
