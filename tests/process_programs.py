"""Programs that keep a ledger of what they synthesize, and what became of their spans."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from collector import Collector, Plain, Ran, run_program

RATE = 8000

VOICE = f"""
import os
import sys
import time
from pathlib import Path

import ttstrace

_ledger = os.open(Path(__file__).with_name("ledger"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def note(what, number):
    os.write(_ledger, f"{{what}} {{number}}\\n".encode())

@ttstrace.traced_synthesis(model="voice", sample_rate={RATE}, format="pcm_s16le")
def synthesize(text):
    return bytes(2 * len(text))

@ttstrace.traced_synthesis(model="voice", sample_rate={RATE}, format="pcm_s16le", producer="pull")
def stream(text):
    for _ in text:
        yield bytes(2)

@ttstrace.traced_synthesis(model="voice", sample_rate={RATE}, format="pcm_s16le")
def hang(text):
    note("hangs", len(text))
    while True:
        time.sleep(0.01)

def speak(number):
    # As many characters as the number, and as many samples: a span tells which call it is of.
    note("begun", number)
    synthesize("." * number)
    note("done", number)
    return os.getpid()
"""


def write_voice(folder: Path) -> None:
    """Put a module named ``voice`` where the programs of this folder find it."""
    folder.mkdir(exist_ok=True)
    (folder / "voice.py").write_text(VOICE)


def noted(folder: Path, what: str = "done") -> list[int]:
    """What the programs of a folder say they did, in order of numbers."""
    lines = (folder / "ledger").read_text().splitlines() if (folder / "ledger").exists() else []
    return sorted(int(number) for kind, number in (line.split() for line in lines) if kind == what)


def told(spans: Sequence[Plain]) -> list[int]:
    """Which calls these spans are of, in order of numbers; none may be there twice, nor with wrong figures."""
    twice = [span for span, count in Counter(span["span"] for span in spans).items() if count > 1]
    assert not twice, twice
    numbers = []
    for span in spans:
        attributes = span["attributes"]
        number = attributes["tts.input.characters"]
        if "tts.interrupted" not in attributes and "error.type" not in attributes:
            assert attributes["tts.audio.duration"] == number / RATE
        numbers.append(number)
    return sorted(numbers)


def run(source: str, folder: Path, check: bool = True, **variables: str) -> Ran:
    """Run a program beside a voice that keeps a ledger, as a service that is named as its folder."""
    write_voice(folder)
    return run_program(source, folder, check=check, OTEL_SERVICE_NAME=folder.name, **variables)


def sent(collector: Collector, folder: Path, at_least: int) -> list[Plain]:
    """The spans that the programs of a folder have sent to the collector, once so many are there."""

    def found() -> list[Plain]:
        return [span for span in list(collector.spans) if span["resource"]["service.name"] == folder.name]

    try:
        collector.wait(lambda _: len(found()) >= at_least, 60)
    except AssertionError:
        raise AssertionError(f"of {at_least} arrived only {told(found())}") from None
    return found()
