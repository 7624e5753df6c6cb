"""A signal whose handler raises, real ones, while ttstrace runs: what it raises is the program's, of whatever class."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from backends import RATE, tone
from conftest import Spans

from ttstrace import lifecycle, traced_synthesis
from ttstrace.monitor import window

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="signals are POSIX's here")


class TimeLimit(Exception):
    """As Celery's and RQ's: an ordinary exception, raised by the handler of an alarm."""


def raise_it(number: int, frame: object) -> None:
    raise TimeLimit


class Limits:
    def on_signal(self, number: int, frame: object) -> None:
        self.give_up()

    def give_up(self) -> None:
        raise TimeLimit

    __call__ = on_signal


@contextmanager
def handled_by(handler: Any) -> Iterator[None]:
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


def strike(*_: Any) -> int:
    os.kill(os.getpid(), signal.SIGUSR1)
    return 1


HANDLERS: dict[str, Callable[..., Any]] = {
    "function": raise_it, "method": Limits().on_signal, "object": Limits(),
}  # fmt: skip


@pytest.mark.parametrize("handler", HANDLERS)
@pytest.mark.parametrize("option", ["model", "attributes", "sample_rate", "text"])
def test_a_time_limit_strikes_in_an_option(spans: Spans, option: str, handler: str) -> None:
    struck = 0

    def answer(call: Any) -> Any:
        nonlocal struck
        struck += 1
        return strike() if struck == 1 else None

    calls = []

    @traced_synthesis(**{"sample_rate": RATE, option: answer})
    def speak(text: str) -> np.ndarray:
        calls.append(text)
        return tone(0.1)

    with handled_by(HANDLERS[handler]), pytest.raises(TimeLimit):
        speak("hello")
    assert len(calls) <= 1
    found = spans.syntheses()
    speak("again")
    assert len(spans.syntheses()) == len(found) + 1
    assert (spans.syntheses()[-1].attributes or {})["tts.concurrency.max"] == 1
    assert not lifecycle._concurrency._open


def test_a_time_limit_strikes_in_the_meter(spans: Spans, monkeypatch: pytest.MonkeyPatch) -> None:
    @traced_synthesis(sample_rate=RATE)
    def speak(text: str) -> np.ndarray:
        return tone(0.1)

    speak("warm")
    with monkeypatch.context() as patch, handled_by(raise_it):
        read = window._clock
        patch.setattr(window, "_clock", lambda: (strike(), read())[1])
        with pytest.raises(TimeLimit):
            speak("hello")
    assert window._meter.open == 0
    speak("again")
    assert (spans.syntheses()[-1].attributes or {})["tts.concurrency.max"] == 1


def test_a_fault_is_none_of_a_handlers(spans: Spans, no_faults_of_ours: list[BaseException]) -> None:
    def answer(call: Any) -> Any:
        raise TimeLimit

    @traced_synthesis(sample_rate=answer)
    def speak(text: str) -> np.ndarray:
        return tone(0.1)

    with handled_by(raise_it):
        speak("hello")
    assert [type(fault) for fault in no_faults_of_ours] == [TimeLimit]
    no_faults_of_ours.clear()
