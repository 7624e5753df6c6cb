"""What is counted once, and only once."""

from __future__ import annotations

import gc
import time
import wave
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Metrics, Spans, between

from ttstrace import semconv, stage, synthesis, traced_synthesis
from ttstrace.call import Options
from ttstrace.decorator import trace

CHUNK = np.zeros(2400, np.float32)


def test_ended_twice_is_counted_once(spans: Spans, recorded: Metrics) -> None:
    with synthesis(text="hello") as outside:
        s = synthesis(text="hello").start()
        s.end()
        s.end()
        s.end(ValueError())
    assert sum(point.count for point in recorded.points("gen_ai.client.operation.duration")) == 1
    assert [point.value for point in recorded.points("tts.client.active")] == [0]
    assert outside.ended


def test_concurrency_after_one_that_ended_twice(spans: Spans) -> None:
    first, second = synthesis().start(), synthesis().start()
    first.end()
    first.end()
    third = synthesis().start()
    second.end()
    third.end()
    found = [dict(span.attributes or {})[semconv.TTS_CONCURRENCY_MAX] for span in spans.syntheses()]
    assert found == [2, 2, 2]


def test_a_synthesis_is_gone_at_its_end_without_the_garbage_collector(spans: Spans) -> None:
    seen: list[weakref.ref[Any]] = []

    @traced_synthesis
    def speak(text: str) -> Any:
        seen.append(weakref.ref(synthesis.current()))
        return CHUNK

    @traced_synthesis
    def stream(text: str) -> Iterator[Any]:
        seen.append(weakref.ref(synthesis.current()))
        yield CHUNK

    gc.collect()
    gc.disable()
    try:
        speak("hello")
        list(stream("hello"))
        assert [reference() for reference in seen] == [None, None]
    finally:
        gc.enable()


def test_the_innermost_of_three_records_the_metrics(spans: Spans, recorded: Metrics) -> None:
    @traced_synthesis(model="innermost")
    def innermost(text: str) -> Any:
        return CHUNK

    @traced_synthesis(model="between")
    def between(text: str) -> Any:
        return innermost(text)

    @traced_synthesis(model="outermost")
    def outermost(text: str) -> Any:
        return between(text)

    outermost("hello")
    points = recorded.points("gen_ai.client.operation.duration")
    assert [(point.attributes["gen_ai.request.model"], point.count) for point in points] == [("innermost", 1)]
    assert [point.attributes["gen_ai.request.model"] for point in recorded.points("tts.client.active")] == ["outermost"]


@pytest.mark.parametrize("depth", [1, 2])
def test_a_remote_synthesis_anywhere_inside_makes_a_generator_push(spans: Spans, depth: int) -> None:
    def request(text: str) -> Any:
        return CHUNK

    inside = trace(request, Options(remote=True), patched=True)
    for _ in range(depth - 1):
        inside = traced_synthesis(lambda text, inside=inside: inside(text))

    @traced_synthesis(sample_rate=24000, model="outer")
    def speak(text: str) -> Iterator[Any]:
        yield inside(text)
        yield inside(text)

    stream = speak("hello")
    next(stream)
    time.sleep(0.1)  # hold, far above a tenth
    list(stream)
    attributes = next(dict(s.attributes or {}) for s in spans.syntheses() if s.name.endswith("outer"))
    assert semconv.TTS_STREAM_HOLD_DURATION in attributes
    assert semconv.TTS_SYNTHESIS_DURATION not in attributes


def test_sixteen_stages_are_told_and_the_rest_counted(spans: Spans) -> None:
    @traced_synthesis
    def speak(text: str) -> None:
        for number in range(20):
            with stage(f"s{number}"):
                pass
        with stage("s0"):
            pass

    speak("hello")
    attributes = spans.attributes()
    told = {name for name in attributes if name.startswith("tts.stage.duration.")}
    assert told == {f"tts.stage.duration.s{number}" for number in range(16)}
    assert attributes[semconv.TTS_STAGE_DROPPED] == 4


def test_an_empty_stream_was_held_all_the_same(spans: Spans) -> None:
    class Nothing:
        def __iter__(self) -> Nothing:
            return self

        def __next__(self) -> Any:
            raise StopIteration

    @traced_synthesis
    def speak(text: str) -> Nothing:
        return Nothing()

    assert list(speak("hello")) == []
    assert spans.attributes()[semconv.TTS_STREAM_HOLD_DURATION] > 0


def test_the_path_of_a_file_that_the_call_did_not_write(spans: Spans, tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "a.wav"), "wb") as written:
        written.setparams((1, 2, 24000, 0, "NONE", ""))
        written.writeframes(bytes(4800))

    @traced_synthesis
    def speak(text: str, path: str) -> str:
        return path

    speak("hello", str(tmp_path / "a.wav"))
    assert semconv.TTS_AUDIO_DURATION not in spans.attributes()


def test_an_iterator_object_of_unknown_making_is_push(spans: Spans) -> None:
    class Stream:
        left = 3

        def __iter__(self) -> Stream:
            return self

        def __next__(self) -> Any:
            if not self.left:
                raise StopIteration
            self.left -= 1
            return CHUNK

    @traced_synthesis(sample_rate=24000)
    def speak(text: str) -> Stream:
        return Stream()

    for _ in speak("hello"):
        time.sleep(0.1)  # next to which the call and its pulls take no time
    attributes = spans.attributes()
    assert attributes[semconv.TTS_STREAM_HOLD_DURATION] >= 0.3
    assert semconv.TTS_SYNTHESIS_DURATION not in attributes


def test_chunks_that_were_only_reported_came_from_elsewhere(spans: Spans) -> None:
    @traced_synthesis(sample_rate=24000)
    def speak(text: str) -> None:
        nonlocal taken
        synthesis.current().chunk(CHUNK)
        taken = time.perf_counter()
        time.sleep(0.03)

    taken, begun = 0.0, time.perf_counter()
    speak("hello")
    assert spans.attributes()[semconv.TTS_SYNTHESIS_DURATION] == between(0, taken - begun)


def test_sound_that_is_heard_after_the_end_is_marked_at_the_end(spans: Spans) -> None:
    @traced_synthesis(sample_rate=24000, producer="pull")
    def speak(text: str) -> Iterator[Any]:
        yield np.concatenate([np.zeros(12000, np.float32), np.full(12000, 0.5, np.float32)])

    list(speak("hello"))
    span = spans.one()
    assert spans.attributes()[semconv.TTS_TIME_TO_FIRST_AUDIO] > 0.4
    (event,) = span.events
    assert event.name == semconv.EVENT_FIRST_AUDIO
    assert event.timestamp == span.end_time


def test_a_generator_that_waits_for_others_is_push(spans: Spans) -> None:
    @traced_synthesis(sample_rate=24000)
    def speak(text: str) -> Iterator[Any]:
        for _ in range(2):
            time.sleep(0.02)
            yield CHUNK

    for _ in speak("hello"):
        time.sleep(0.1)
    assert semconv.TTS_SYNTHESIS_DURATION not in spans.attributes()


@pytest.mark.parametrize(
    "name",
    [
        "gen_ai.client.operation.duration",
        "gen_ai.client.operation.time_to_first_chunk",
        "tts.client.rtf",
        "tts.client.time_to_first_audio",
        "tts.client.audio.duration",
        "tts.client.memory.peak",
        "tts.client.input.characters",
    ],
)
def test_exemplars_of_every_metric_point_to_the_span(spans: Spans, recorded: Metrics, name: str) -> None:
    @traced_synthesis(sample_rate=24000, producer="pull")
    def speak(text: str) -> Iterator[Any]:
        yield np.full(24000, 0.5, np.float32)

    list(speak("hello"))
    (point,) = recorded.points(name)
    assert [exemplar.span_id for exemplar in point.exemplars] == [spans.one().context.span_id]


def test_work_after_the_last_chunk_is_the_pull_producers(spans: Spans) -> None:
    @traced_synthesis(sample_rate=24000, producer="pull")
    def speak(text: str) -> Iterator[Any]:
        yield CHUNK
        time.sleep(0.03)

    list(speak("hello"))
    assert spans.attributes()[semconv.TTS_SYNTHESIS_DURATION] >= 0.03
