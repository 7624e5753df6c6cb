"""One stage object, entered more than once."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Spans, between
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


def test_a_decorated_part_that_is_no_synthesis(spans: Spans) -> None:
    @stage("playback", synthesis=False)
    def play() -> None:
        time.sleep(0.02)

    @stage("playback", synthesis=False)
    async def aplay() -> None:
        await asyncio.sleep(0.02)

    @traced_synthesis
    async def speak(text: str) -> None:
        play()
        await aplay()

    begun = time.perf_counter()
    asyncio.run(speak("hello"))
    whole = time.perf_counter() - begun
    attributes = spans.attributes()
    assert attributes["tts.stage.duration.playback"] == between(0.04, whole)
    assert attributes["tts.stream.hold.duration"] == between(0.04, whole)
    assert attributes["tts.synthesis.duration"] == between(0, whole - 0.04)


def test_a_stage_that_fails_or_is_closed(spans: Spans) -> None:
    @traced_synthesis
    def fails(text: str) -> None:
        with stage("fails"):
            raise KeyError

    with pytest.raises(KeyError):
        fails("hello")
    failed = spans.all()[0]
    assert failed.name == "fails"
    assert failed.status.status_code is trace.StatusCode.ERROR
    assert failed.status.description is None
    assert (failed.attributes or {})["error.type"] == "KeyError"
    assert not failed.events
    spans.clear()

    @traced_synthesis
    def stream(text: str) -> Iterator[int]:
        with stage("closed"):
            yield 1

    pieces = stream("hello")
    next(pieces)
    del pieces
    assert not spans.get_finished_spans()  # a finalizer calls nothing of OpenTelemetry
    assert {span.name.partition(" ")[0] for span in spans.all()} == {"closed", "text_to_speech"}


def test_hold_inside_a_stage_is_taken_off(spans: Spans) -> None:
    @traced_synthesis
    def stream(text: str) -> Iterator[int]:
        with stage("part"):
            yield 1

    begun = time.perf_counter()
    for _ in stream("hello"):
        time.sleep(0.03)
    assert spans.attributes()["tts.stage.duration.part"] == between(0, time.perf_counter() - begun - 0.03)
