"""One stage object, entered more than once."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Any

from conftest import Spans
from opentelemetry import trace

from ttstrace import stage, traced_synthesis

VOCODER = stage("vocoder")


def test_a_stage_inside_itself(spans: Spans) -> None:
    currents: list[Any] = []

    @traced_synthesis
    def speak(text: str) -> None:
        currents.append(trace.get_current_span())
        with VOCODER:
            with VOCODER:
                time.sleep(0.01)
            time.sleep(0.01)
        currents.append(trace.get_current_span())

    speak("hello")
    assert currents[0] is currents[1]
    assert [span.name for span in spans.all()][:2] == ["vocoder", "vocoder"]
    assert spans.attributes()["tts.stage.duration.vocoder"] >= 0.03


def test_a_stage_in_several_threads_at_once(spans: Spans) -> None:
    overlapping = threading.Barrier(2)
    leaving = [threading.Event(), threading.Event()]

    @traced_synthesis
    def speak(text: str, number: int) -> None:
        mine = trace.get_current_span()
        with VOCODER:
            overlapping.wait(10)
            assert leaving[number].wait(10)  # the first that entered is the first to leave, or not: both must do
        leaving[number - 1].set()
        assert trace.get_current_span() is mine

    threads = [threading.Thread(target=speak, args=("hello", number)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    leaving[0].set()
    for thread in threads:
        thread.join()
    assert Counter(span.name for span in spans.all())["vocoder"] == 2
    for span in spans.syntheses():
        attributes = dict(span.attributes or {})
        assert attributes["tts.stage.duration.vocoder"] > 0
        assert "error.type" not in attributes


def test_a_stage_left_where_none_was_running(spans: Spans) -> None:
    with VOCODER, VOCODER:
        pass

    @traced_synthesis
    def speak(text: str) -> None:
        with VOCODER:
            pass

    with VOCODER:
        speak("hello")
    assert [span.name.split(" ")[0] for span in spans.all()] == ["vocoder", "text_to_speech"]
