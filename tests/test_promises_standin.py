"""Results that a card is still at work on, on the stand-in for torch.cuda: kernels of known length."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import uuid
import weakref
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from collector import running_collector
from conftest import Metrics, Spans, between, set_meter_provider
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from standin_cuda import Card, StandIn, standin_cuda

import ttstrace
from ttstrace import traced_synthesis
from ttstrace.call import Options
from ttstrace.decorator import trace as trace_callable
from ttstrace.endings import drain, drain_for_good

RATE = 24_000
CLOSE = 0.006  # seconds: scheduling


@pytest.fixture
def cuda() -> Iterator[StandIn]:
    with standin_cuda() as standin:
        standin.allocate(1000)  # the model: a context is there
        yield standin
        drain_for_good(0)  # what the card is still at work on is not the next test's


def work_of(kernels: float, cuda: StandIn, begun: float) -> between:
    """The seconds of what was called at `begun` and has returned: its kernels, and no longer than until the card, and
    the call, were done."""
    returned = time.perf_counter()
    cuda.wait()
    return between(kernels, max(returned, cuda.cards[0].busy_until) - begun)


def test_a_standin_tensor_goes_to_the_caller_at_once(cuda: StandIn, spans: Spans) -> None:
    @traced_synthesis(sample_rate=RATE)
    def speak(text: str) -> Any:
        nonlocal begun
        begun = time.perf_counter()  # what looks at a GPU was loaded before, with the first call
        cuda.launch(1.0)
        return cuda.tensor(1, RATE)

    begun, called = 0.0, time.perf_counter()
    tensor = speak("hello")
    assert time.perf_counter() - begun < 0.8
    assert tensor.shape == (1, RATE)
    assert spans.all() == []  # the card is still at it
    drain()
    assert spans.all() == []
    tensor.cpu()
    drain()
    span = spans.one()
    attributes = spans.attributes()
    took = work_of(1.0, cuda, called)
    assert attributes["tts.synthesis.duration"] == took
    assert attributes["tts.rtf"] == took
    assert attributes["tts.audio.duration"] == 1.0
    assert (span.end_time - span.start_time) / 1e9 == took  # type: ignore[operator]
    assert cuda.synchronized == 0


def test_the_next_call_ends_the_one_before(cuda: StandIn, spans: Spans) -> None:
    @traced_synthesis(sample_rate=RATE)
    def speak(text: str, seconds: float) -> Any:
        cuda.launch(seconds)
        return {"waveform": cuda.tensor(1, RATE)}

    begun = time.perf_counter()
    speak("one", 0.05)["waveform"].cpu()
    one = work_of(0.05, cuda, begun)
    begun = time.perf_counter()
    speak("two", 0.3)
    two = between(0.3, cuda.cards[0].busy_until - begun)
    assert [span.attributes["tts.synthesis.duration"] for span in spans.all()] == [one]  # type: ignore[index]
    # The third is queued behind the second, whose time is not its own.
    begun = time.perf_counter()
    speak("three", 0.05)
    three = between(0.05, 0.05 + time.perf_counter() - begun)
    cuda.wait()
    drain()
    found = [span.attributes["tts.synthesis.duration"] for span in spans.all()]  # type: ignore[index]
    assert found == [one, two, three]


def test_a_result_that_the_program_waited_for(cuda: StandIn, spans: Spans) -> None:
    @traced_synthesis(sample_rate=RATE)
    def speak(text: str) -> Any:
        cuda.launch(0.05)
        return cuda.tensor(1, RATE).cpu()

    begun = time.perf_counter()
    speak("hello")
    assert spans.attributes()["tts.synthesis.duration"] == work_of(0.05, cuda, begun)


def test_a_result_in_the_host_is_not_waited_for(cuda: StandIn, spans: Spans) -> None:
    """Somebody else keeps the card busy."""

    @traced_synthesis(sample_rate=RATE)
    def speak(text: str) -> Any:
        cuda.launch(0.5)
        return [0.0] * RATE

    begun = time.perf_counter()
    speak("hello")
    assert spans.attributes()["tts.synthesis.duration"] == between(0, time.perf_counter() - begun)


def test_awaited(cuda: StandIn, spans: Spans) -> None:
    @traced_synthesis(sample_rate=RATE)
    async def speak(text: str) -> Any:
        cuda.launch(0.3)
        return cuda.tensor(1, RATE), RATE

    begun = time.perf_counter()
    asyncio.run(speak("hello"))
    assert spans.all() == []
    took = work_of(0.3, cuda, begun)
    drain()
    assert spans.attributes()["tts.synthesis.duration"] == took


KERNELS = [0.04, 0.08, 0.06]


def test_a_stream_whose_consumer_waits_for_each_chunk(cuda: StandIn, spans: Spans) -> None:
    """Each pull returns at once; the work falls into the consumer's time."""

    @traced_synthesis(sample_rate=RATE, producer="pull")
    def speak(text: str) -> Iterator[Any]:
        for seconds in KERNELS:
            cuda.launch(seconds)
            yield cuda.tensor(RATE // 2)

    begun = time.perf_counter()
    for chunk in speak("hello"):
        chunk.cpu()
        time.sleep(0.02)  # the consumer's own
    whole = time.perf_counter() - begun
    span = spans.attributes()
    assert span["tts.synthesis.duration"] == between(0.18, whole - 0.06)
    assert span["tts.stream.hold.duration"] == between(0.06, whole - 0.18)
    assert span["gen_ai.response.time_to_first_chunk"] == between(0.04, whole - 0.2)
    assert (span["tts.stream.chunks"], span["tts.audio.duration"]) == (3, 1.5)
    assert cuda.synchronized == 0


@pytest.mark.keeps_time
def test_a_stream_whose_consumer_waits_at_the_end(cuda: StandIn, spans: Spans) -> None:
    @traced_synthesis(sample_rate=RATE)
    def speak(text: str) -> Iterator[Any]:
        for seconds in KERNELS:
            cuda.launch(seconds)
            yield cuda.tensor(RATE // 2)

    begun = time.perf_counter()
    chunks = list(speak("hello"))
    assert spans.all() == []
    chunks[-1].cpu()
    took = work_of(0.18, cuda, begun)
    drain()
    ended = spans.one()
    assert (ended.end_time - ended.start_time) / 1e9 == took  # type: ignore[operator]
    span = spans.attributes()
    assert span.get("tts.synthesis.duration") == took
    assert span["tts.stream.hold.duration"] == between(0, took.outer - 0.18)
    assert span["gen_ai.response.time_to_first_chunk"] == between(0.04, took.outer - 0.14)
    assert (span["tts.stream.chunks"], span["tts.stream.continuous"]) == (3, True)


@pytest.mark.keeps_time
def test_a_stream_that_runs_dry(cuda: StandIn, spans: Spans) -> None:
    @traced_synthesis(sample_rate=RATE)
    def speak(text: str) -> Iterator[Any]:
        for seconds in (0.02, 0.3):
            cuda.launch(seconds)
            yield cuda.tensor(RATE // 20)  # 0.05 s

    for chunk in speak("hello"):
        chunk.cpu()
    span = spans.attributes()
    assert span["tts.stream.underruns"] == 1
    assert span["tts.stream.underrun.max"] == pytest.approx(0.25, abs=2 * CLOSE)


def test_an_async_stream_that_is_closed_half_way(cuda: StandIn, spans: Spans) -> None:
    @traced_synthesis(sample_rate=RATE)
    async def speak(text: str) -> AsyncIterator[Any]:
        for seconds in (0.3, 0.3):
            cuda.launch(seconds)
            yield cuda.tensor(RATE // 2)

    async def consume() -> None:
        stream = speak("hello")
        async for _ in stream:
            break
        await stream.aclose()  # type: ignore[attr-defined]

    asyncio.run(consume())
    assert spans.all() == []
    cuda.wait()
    drain()
    span = spans.attributes()
    assert span["tts.interrupted"] is True
    assert (span["tts.stream.chunks"], span["tts.audio.duration"]) == (1, 0.5)


def test_what_was_abandoned_is_not_waited_for(cuda: StandIn, spans: Spans) -> None:
    @traced_synthesis(sample_rate=RATE)
    def speak(text: str) -> Iterator[Any]:
        cuda.launch(10)
        yield cuda.tensor(RATE // 2)
        yield cuda.tensor(RATE // 2)

    stream = speak("hello")
    next(stream)
    del stream
    gc.collect()
    drain()
    span = spans.attributes()
    assert span["tts.interrupted"] is True
    assert "tts.synthesis.duration" not in span


def test_fed_by_hand(cuda: StandIn, spans: Spans) -> None:
    begun = time.perf_counter()
    with ttstrace.synthesis(text="hello", sample_rate=RATE) as fed:
        cuda.launch(0.3)
        fed.chunk(cuda.tensor(RATE))
    assert spans.all() == []
    took = work_of(0.3, cuda, begun)
    drain()
    assert spans.attributes()["tts.synthesis.duration"] == took


def test_an_error_is_not_waited_for(cuda: StandIn, spans: Spans) -> None:
    @traced_synthesis
    def speak(text: str) -> Any:
        cuda.launch(10)
        raise ValueError("no voice")

    with pytest.raises(ValueError, match="no voice"):
        speak("hello")
    assert spans.attributes()["error.type"] == "ValueError"


def test_no_context_on_a_card_that_is_not_used(spans: Spans) -> None:
    cards = [Card(uuid.UUID(int=number)) for number in range(3)]
    with standin_cuda(*cards) as cuda:
        cuda.allocate(1000, device=1)

        @traced_synthesis(sample_rate=RATE)
        def speak(text: str) -> Any:
            cuda.launch(0.05, device=1)
            return cuda.tensor(1, RATE, device=1)

        begun = time.perf_counter()
        speak("hello")
        returned = time.perf_counter()
        cuda.wait(1)
        drain()
        assert [card.context for card in cards] == [False, True, False]
        took = between(0.05, max(returned, cards[1].busy_until) - begun)
        assert spans.attributes()["tts.synthesis.duration"] == took


@pytest.mark.parametrize("seconds", [0.2, 0])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_card_that_comes_into_use_inside_the_first_call(spans: Spans, seconds: float, streamed: bool) -> None:
    """The model is loaded there. What the card is still at work on has no marked begin: its time is unknown."""
    with standin_cuda(initialized=False) as cuda:

        def load_and_speak() -> Any:
            cuda.allocate(1000)
            cuda.launch(seconds)
            return cuda.tensor(RATE)

        @traced_synthesis(sample_rate=RATE)
        def speak(text: str) -> Any:
            return load_and_speak()

        @traced_synthesis(sample_rate=RATE, producer="pull")
        def stream(text: str) -> Iterator[Any]:
            yield load_and_speak()

        if streamed:
            assert len(list(stream("hello"))) == 1
        else:
            assert speak("hello").shape == (RATE,)
        cuda.wait()
        span = spans.attributes()
        assert span["tts.audio.duration"] == 1.0
        assert ("tts.synthesis.duration" in span) is (seconds == 0)
        assert ("tts.rtf" in span) is (seconds == 0)
        assert ("gen_ai.response.time_to_first_chunk" in span) is (streamed and seconds == 0)
        begun = time.perf_counter()
        speak("again")  # from now on it is marked
        took = work_of(seconds, cuda, begun)
        assert spans.all()[-1].attributes["tts.synthesis.duration"] == took  # type: ignore[index]


def test_a_second_card_that_comes_into_use_inside_a_call(spans: Spans) -> None:
    with standin_cuda(*(Card(uuid.UUID(int=number)) for number in range(2))) as cuda:
        cuda.allocate(1000)

        @traced_synthesis(sample_rate=RATE)
        def speak(text: str) -> Any:
            cuda.allocate(1000, device=1)
            cuda.launch(0.2, device=1)
            return cuda.tensor(RATE, device=1)

        for known in (False, True):
            speak("hello")
            cuda.wait(1)
            assert ("tts.synthesis.duration" in spans.all()[-1].attributes) is known  # type: ignore[operator]


def test_cuda_that_is_not_initialized_is_left_alone(spans: Spans) -> None:
    with standin_cuda(initialized=False) as cuda:

        @traced_synthesis(sample_rate=RATE)
        def speak(text: str) -> Any:
            return [0.0] * RATE

        speak("hello")
        assert (cuda.initialized, cuda.events) == (False, 0)
    assert "tts.synthesis.duration" in spans.attributes()


def test_no_event_while_a_graph_is_captured(cuda: StandIn, spans: Spans) -> None:
    cuda.capturing = True

    @traced_synthesis(sample_rate=RATE)
    def speak(text: str) -> Any:
        return cuda.tensor(1, RATE)

    speak("hello")
    assert cuda.events == 0
    assert "tts.audio.duration" in spans.attributes()


@pytest.mark.keeps_time
def test_a_graph_is_captured_while_a_synthesis_waits(cuda: StandIn, spans: Spans) -> None:
    """To ask an event then breaks the program's capture."""

    @traced_synthesis(sample_rate=RATE)
    def speak(text: str, seconds: float) -> Any:
        cuda.launch(seconds)
        return cuda.tensor(1, RATE)

    begun = time.perf_counter()
    speak("waits", 0.3)
    cuda.capturing = True
    speak("captured", 0)
    took = work_of(0.3, cuda, begun)
    drain()
    cuda.capturing = False
    assert (cuda.captures_broken, cuda.captured_events) == (0, 0)
    durations = sorted(span.attributes["tts.synthesis.duration"] for span in spans.all())  # type: ignore[index]
    assert durations == [between(0, took.outer - 0.3), took]


def test_a_graph_is_captured_in_the_midst_of_a_stream(cuda: StandIn, spans: Spans) -> None:
    @traced_synthesis(sample_rate=RATE, producer="pull")
    def speak(text: str) -> Iterator[Any]:
        for capturing in (False, True, False):
            cuda.capturing = capturing
            cuda.launch(0 if capturing else 0.05)
            yield cuda.tensor(RATE)

    begun = time.perf_counter()
    for chunk in speak("hello"):
        assert chunk.shape == (RATE,)
        cuda.capturing = False
    took = work_of(0.1, cuda, begun)
    assert (cuda.captures_broken, cuda.captured_events) == (0, 0)
    span = spans.attributes()
    assert span["tts.synthesis.duration"] == took
    assert span["tts.stream.chunks"] == 3


def test_a_pull_is_captured_into_a_graph(cuda: StandIn, spans: Spans) -> None:
    @traced_synthesis(sample_rate=RATE)
    def speak(text: str) -> Iterator[Any]:
        for _ in range(3):
            yield cuda.tensor(RATE)

    stream = speak("hello")
    next(stream)
    cuda.capturing = True
    next(stream)
    cuda.capturing = False
    assert len(list(stream)) == 1
    assert (cuda.captures_broken, cuda.captured_events) == (0, 0)
    assert spans.attributes()["tts.stream.chunks"] == 3


@pytest.mark.parametrize("broken", ["Event", "current_stream", "device_count", "memory_stats_as_nested_dict"])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_card_that_fails(cuda: StandIn, spans: Spans, broken: str, streamed: bool) -> None:
    def fails(*_: object, **__: object) -> Any:
        raise RuntimeError("CUDA error: device-side assert triggered")

    setattr(cuda.module.cuda, broken, fails)

    @traced_synthesis(sample_rate=RATE)
    def speak(text: str) -> Any:
        return cuda.tensor(1, RATE)

    @traced_synthesis(sample_rate=RATE)
    def stream(text: str) -> Iterator[Any]:
        yield cuda.tensor(RATE)
        yield cuda.tensor(RATE)

    if streamed:
        assert len(list(stream("hello"))) == 2
    else:
        assert speak("hello").shape == (1, RATE)
    assert "tts.audio.duration" in spans.attributes()


@pytest.mark.parametrize("method", ["query", "elapsed_time", "record"])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_card_that_fails_later(cuda: StandIn, spans: Spans, method: str, streamed: bool) -> None:
    working = getattr(cuda.module.cuda.Event, method)
    calls = 0

    def fails_later(*args: object) -> Any:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise RuntimeError("CUDA error: device-side assert triggered")
        return working(*args)

    setattr(cuda.module.cuda.Event, method, fails_later)

    @traced_synthesis(sample_rate=RATE)
    def stream(text: str) -> Iterator[Any]:
        for _ in range(3):
            cuda.launch(0.05)
            yield cuda.tensor(RATE)

    @traced_synthesis(sample_rate=RATE)
    def speak(text: str) -> Any:
        cuda.launch(0.1)
        return cuda.tensor(RATE)

    for _ in range(2):
        if streamed:
            for chunk in stream("hello"):
                chunk.cpu()
        else:
            speak("hello").cpu()
    drain(1)
    assert len(spans.all()) == 2
    assert "tts.synthesis.duration" not in spans.all()[-1].attributes or method == "record"  # type: ignore[operator]
    for span in spans.all():
        assert span.attributes["tts.audio.duration"] == (3.0 if streamed else 1.0)  # type: ignore[index]


EXIT = """
import sys, time
sys.path.insert(0, {tests!r})
from standin_cuda import standin_cuda
import ttstrace
ttstrace.configure(file={file!r})
with standin_cuda() as cuda:
    cuda.allocate(1000)

    @ttstrace.traced_synthesis(sample_rate=24000)
    def speak(text):
        cuda.launch({seconds})
        return cuda.tensor(1, 24000)

    speak("hello")
"""


@pytest.mark.parametrize(("seconds", "known"), [(0.3, True), (60, False)])
def test_exit_waits_a_second_at_most(tmp_path: Path, seconds: float, known: bool) -> None:
    file = tmp_path / "trace.jsonl"
    script = EXIT.format(tests=str(Path(__file__).parent), file=str(file), seconds=seconds)
    begun = time.monotonic()
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=30)
    assert time.monotonic() - begun < 15
    line = file.read_text()
    assert line.count("text_to_speech") >= 1
    assert ("tts.synthesis.duration" in line) is known
    assert "tts.audio.duration" in line


SHUTDOWN = """
import sys
sys.path.insert(0, {tests!r})
from standin_cuda import standin_cuda
import ttstrace
handle = ttstrace.configure(endpoint={endpoint!r})
with standin_cuda() as cuda:
    cuda.allocate(1000)

    @ttstrace.traced_synthesis(sample_rate=24000)
    def speak(text):
        cuda.launch(60)
        return cuda.tensor(1, 24000)

    speak("hello")
    print(handle.shutdown(1))
"""


def test_a_shutdown_leaves_time_to_send_what_a_card_is_given_up_on() -> None:
    with running_collector() as collector:
        script = SHUTDOWN.format(tests=str(Path(__file__).parent), endpoint=collector.http)
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30)
        assert done.stdout == "True\n"
        collector.wait(lambda it: len(it.spans) == 1)


def test_a_flush_waits_for_the_card(cuda: StandIn, spans: Spans, tmp_path: Path) -> None:
    handle = ttstrace.configure(file=str(tmp_path / "trace.jsonl"))
    try:

        @traced_synthesis(sample_rate=RATE)
        def speak(text: str) -> Any:
            cuda.launch(0.2)
            return cuda.tensor(1, RATE)

        speak("hello")
        assert handle.force_flush(5)
        assert len(spans.all()) == 1
        speak("hello")
        assert not handle.force_flush(0.01)  # not everything was sent
    finally:
        handle.shutdown()
        set_meter_provider(None)
    assert len(spans.all()) == 2


def test_a_span_processor_that_raises_costs_no_other_its_end(
    cuda: StandIn, spans: Spans, no_faults_of_ours: list[BaseException]
) -> None:
    ended: list[ReadableSpan] = []

    class Raises(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            ended.append(span)
            if len(ended) == 1:
                raise RuntimeError("the program's own processor")

    trace.get_tracer_provider().add_span_processor(Raises())  # type: ignore[attr-defined]

    @traced_synthesis(sample_rate=RATE)
    def speak(text: str) -> Any:
        cuda.launch(0.1)
        return cuda.tensor(1, RATE)

    for _ in range(3):
        speak("hello")
    cuda.wait()
    assert drain()
    assert len(ended) == 3
    assert [str(fault) for fault in no_faults_of_ours] == ["the program's own processor"]
    no_faults_of_ours.clear()


def test_what_interrupts_a_flush_costs_no_other_its_end(cuda: StandIn, spans: Spans) -> None:
    """Ctrl-C while a span is exported."""
    ended: list[ReadableSpan] = []

    class Interrupted(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            ended.append(span)
            if len(ended) == 1:
                raise KeyboardInterrupt

    trace.get_tracer_provider().add_span_processor(Interrupted())  # type: ignore[attr-defined]

    @traced_synthesis(sample_rate=RATE)
    def speak(text: str) -> Any:
        cuda.launch(0.1)
        return cuda.tensor(1, RATE)

    for _ in range(3):
        speak("hello")
    cuda.wait()
    with pytest.raises(KeyboardInterrupt):
        drain()
    assert drain()
    assert len(ended) == 3


@pytest.mark.parametrize(
    "options", [{}, {"audio": lambda call: call.result}, {"attributes": {"n": lambda call: len(call.result.shape)}}]
)
def test_what_waits_for_a_card_keeps_nothing_of_the_program_alive(
    cuda: StandIn, spans: Spans, options: dict[str, Any]
) -> None:
    class Model:
        @traced_synthesis(sample_rate=RATE, **options)
        def speak(self, text: str, reference: Any) -> Any:
            cuda.launch(0.3)
            return cuda.tensor(1, RATE)

    class Reference:
        pass

    model, reference, begun = Model(), Reference(), time.perf_counter()
    tensor = model.speak("hello", reference)
    kept = [weakref.ref(each) for each in (model, reference, tensor)]
    del model, reference, tensor
    assert [each() for each in kept] == [None, None, None]
    assert spans.all() == []
    took = work_of(0.3, cuda, begun)
    assert spans.attributes()["tts.synthesis.duration"] == took


@pytest.mark.parametrize("options", [{}, {"audio": lambda call: call.chunk}])
def test_a_stream_that_waits_for_a_card_keeps_no_chunk_alive(
    cuda: StandIn, spans: Spans, options: dict[str, Any]
) -> None:
    @traced_synthesis(sample_rate=RATE, **options)
    def speak(text: str) -> Iterator[Any]:
        for _ in range(3):
            cuda.launch(10)
            yield cuda.tensor(RATE)

    kept = [weakref.ref(chunk) for chunk in speak("hello")]
    assert [each() for each in kept] == [None, None, None]
    assert spans.all() == []


def test_a_synthesis_that_waited_for_a_card_is_gone_with_its_span(cuda: StandIn, spans: Spans) -> None:
    @traced_synthesis(sample_rate=RATE)
    def speak(text: str) -> Any:
        kept.append(weakref.ref(ttstrace.synthesis.current()))
        cuda.launch(0.02)
        return cuda.tensor(RATE)

    kept: list[weakref.ref[Any]] = []
    gc.disable()
    try:
        speak("hello")
        cuda.wait()
        assert len(spans.all()) == 1
        assert kept[0]() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("pulled", [1, 3])
def test_times_of_an_abandoned_stream_are_unknown(cuda: StandIn, spans: Spans, pulled: int) -> None:
    """Playback may have run dry, and the consumer may have held it: nobody was there to see."""

    @traced_synthesis(sample_rate=RATE)
    def speak(text: str) -> Iterator[Any]:
        while True:
            cuda.launch(10)
            yield cuda.tensor(RATE // 2)

    stream = speak("hello")
    for _ in range(pulled):
        next(stream)
        time.sleep(0.01)
    del stream
    gc.collect()
    span = spans.attributes()
    assert (span["tts.interrupted"], span["tts.stream.chunks"]) == (True, pulled)
    assert span["tts.audio.duration"] == pulled / 2
    times = ("tts.stream.continuous", "tts.stream.underrun", "tts.stream.hold", "tts.synthesis", "tts.rtf", "time_to")
    assert [name for name in span if any(each in name for each in times)] == []
    assert spans.one().events == ()


def test_chunks_fed_by_hand_one_after_another(cuda: StandIn, spans: Spans) -> None:
    begun = time.perf_counter()
    with ttstrace.synthesis(text="hello", sample_rate=RATE) as fed:
        for seconds in KERNELS:
            cuda.launch(seconds)
            fed.chunk(cuda.tensor(RATE // 2))
    took = work_of(0.18, cuda, begun)
    span = spans.attributes()
    assert span["tts.synthesis.duration"] == took
    assert span["gen_ai.response.time_to_first_chunk"] == between(0.04, took.outer - 0.14)
    assert (span["tts.stream.chunks"], span["tts.stream.continuous"]) == (3, True)


@pytest.mark.keeps_time
def test_chunks_fed_by_hand_that_run_dry(cuda: StandIn, spans: Spans) -> None:
    with ttstrace.synthesis(text="hello", sample_rate=RATE) as fed:
        for seconds in (0.05, 0.05, 0.4):
            cuda.launch(seconds)
            fed.chunk(cuda.tensor(RATE // 10))
    cuda.wait()
    span = spans.attributes()
    # Played from 0.05 on, there is audio until 0.25; the third chunk comes at 0.5.
    assert span["tts.stream.underruns"] == 1
    assert span["tts.stream.underrun.max"] == pytest.approx(0.25, abs=CLOSE)


def test_playing_by_hand_takes_off_no_time_of_the_card(cuda: StandIn, spans: Spans) -> None:
    """The program waits for the card inside the stage that it marked as no synthesis."""

    @traced_synthesis(sample_rate=RATE)
    def speak(text: str) -> None:
        for _ in range(2):
            cuda.launch(0.1)
            chunk = cuda.tensor(RATE)
            ttstrace.synthesis.current().chunk(chunk)
            with ttstrace.stage("playback", synthesis=False):
                chunk.cpu()
                played.append(-time.perf_counter())
                time.sleep(0.05)
                played.append(time.perf_counter())

    played: list[float] = []
    begun = time.perf_counter()
    speak("hello")
    whole = time.perf_counter() - begun
    span = spans.attributes()
    assert span["tts.synthesis.duration"] == between(0.2, whole - sum(played))
    assert span["tts.stream.hold.duration"] == between(sum(played), whole - 0.2)
    assert span["gen_ai.response.time_to_first_chunk"] == between(0.1, whole - 0.1 - sum(played))


class Answer:
    def __init__(self, latest: Any) -> None:
        self.latest = latest


@pytest.mark.parametrize("streamed", [False, True])
def test_the_audio_that_an_option_picks_is_what_is_waited_for(cuda: StandIn, spans: Spans, streamed: bool) -> None:
    @traced_synthesis(sample_rate=RATE, audio=lambda call: call.result.latest)
    def speak(text: str) -> Any:
        cuda.launch(0.05)
        return Answer(cuda.tensor(RATE))

    @traced_synthesis(sample_rate=RATE, audio=lambda call: call.chunk.latest, producer="pull")
    def stream(text: str) -> Iterator[Any]:
        cuda.launch(0.05)
        yield Answer(cuda.tensor(RATE))

    begun = time.perf_counter()
    if streamed:
        list(stream("hello"))
    else:
        speak("hello")
    took = work_of(0.05, cuda, begun)
    span = spans.attributes()
    assert span["tts.audio.duration"] == 1.0
    assert span["tts.synthesis.duration"] == took


@pytest.mark.parametrize("key", ["audio", "wav"])
def test_what_comes_beside_audio_in_the_host_is_not_waited_for(cuda: StandIn, spans: Spans, key: str) -> None:
    """A model's latents stay on the card, where work goes on."""
    speech = np.full(RATE // 2, 0.5, np.float32)

    @traced_synthesis(sample_rate=RATE)
    def speak(text: str) -> Any:
        cuda.launch(0.1)
        return {"latents": cuda.tensor(3, 3), key: speech}

    @traced_synthesis(sample_rate=RATE, producer="pull")
    def stream(text: str) -> Iterator[Any]:
        for _ in range(2):
            cuda.launch(10)
            yield speech, RATE, cuda.tensor(3, 3)

    begun = time.perf_counter()
    speak("hello")
    assert len(list(stream("hello"))) == 2
    took = between(0, time.perf_counter() - begun)
    found = [dict(span.attributes or {}) for span in spans.all()]
    assert [span["tts.synthesis.duration"] for span in found] == [took, took]
    assert found[1]["tts.time_to_first_audio"] == took
    assert took.outer < cuda.cards[0].busy_until - begun  # or this would say nothing


@pytest.mark.keeps_time
def test_chunks_on_a_card_and_in_the_host_by_turns(cuda: StandIn, spans: Spans) -> None:
    """What comes after an unfinished chunk is heard after it."""
    speech = np.full(RATE // 10, 0.5, np.float32)

    @traced_synthesis(sample_rate=RATE, producer="pull")
    def speak(text: str) -> Iterator[Any]:
        for number in range(4):
            if number % 2:
                yield speech
            else:
                cuda.launch(0.15)
                yield cuda.tensor(RATE // 10)

    begun = time.perf_counter()
    assert len(list(speak("hello"))) == 4
    took = work_of(0.3, cuda, begun)
    span = spans.attributes()
    assert span["tts.synthesis.duration"] == took
    assert span["gen_ai.response.time_to_first_chunk"] == between(0.15, took.outer - 0.15)
    # Two chunks at 0.15 are played until 0.35; the other two come at 0.3.
    assert (span["tts.stream.chunks"], span["tts.stream.continuous"]) == (4, True)


class Speech:
    """Named as libraries name it."""

    def __init__(self, audio: Any) -> None:
        self.audio = audio


@pytest.mark.parametrize(
    "shape",
    [
        lambda tensor: (RATE, tensor),
        lambda tensor: [tensor],
        lambda tensor: {"sampling_rate": RATE, "made": tensor},
        lambda tensor: {"wav": [tensor, RATE]},
        lambda tensor: Speech(tensor),
        lambda tensor: (Speech(tensor), RATE),
    ],
)
def test_a_tensor_on_a_card_is_found_in_what_holds_it(cuda: StandIn, spans: Spans, shape: Any) -> None:
    @traced_synthesis(sample_rate=RATE)
    def speak(text: str) -> Any:
        cuda.launch(0.05)
        return shape(cuda.tensor(RATE))

    begun = time.perf_counter()
    speak("hello")
    took = work_of(0.05, cuda, begun)
    assert spans.attributes()["tts.synthesis.duration"] == took


def test_a_card_whose_memory_is_all_free_again_is_in_use(cuda: StandIn, spans: Spans) -> None:
    """torch keeps what it has from the driver, and the context is there."""
    cuda.free(1000)

    @traced_synthesis(sample_rate=RATE)
    def speak(text: str) -> Any:
        cuda.launch(0.05)
        return cuda.tensor(RATE)

    begun = time.perf_counter()
    speak("hello")
    took = work_of(0.05, cuda, begun)
    assert spans.attributes()["tts.synthesis.duration"] == took


def test_playing_while_the_card_works_is_no_hold(cuda: StandIn, spans: Spans) -> None:
    @traced_synthesis(sample_rate=RATE)
    def speak(text: str) -> None:
        cuda.launch(0.2)
        ttstrace.synthesis.current().chunk(cuda.tensor(RATE))
        with ttstrace.stage("playback", synthesis=False):
            time.sleep(0.05)

    begun = time.perf_counter()
    speak("hello")
    took = work_of(0.2, cuda, begun)
    span = spans.attributes()
    assert span["tts.synthesis.duration"] == took
    assert span["tts.stream.hold.duration"] == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_while_a_synthesis_waits(cuda: StandIn, spans: Spans) -> None:
    """It is the parent's; in the child, CUDA is left alone."""

    @traced_synthesis(sample_rate=RATE)
    def speak(text: str) -> Any:
        cuda.launch(0.3)
        return cuda.tensor(RATE)

    @traced_synthesis(sample_rate=RATE)
    def speak_on_the_cpu(text: str) -> list[float]:
        return [0.0] * RATE

    begun = time.perf_counter()
    speak("hello")
    child = os.fork()
    if not child:
        code = 1
        try:
            cuda.wait()
            drain(1)
            inherited = len(spans.all())
            speak_on_the_cpu("hello")
            code = 0 if (inherited, len(spans.all()), cuda.forbidden) == (0, 1, []) else 2
        finally:
            os._exit(code)
    took = work_of(0.3, cuda, begun)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert spans.attributes()["tts.synthesis.duration"] == took


def test_many_threads_end_each_span_once(cuda: StandIn, spans: Spans, recorded: Metrics) -> None:
    @traced_synthesis(sample_rate=RATE)
    def speak(text: str) -> Any:
        cuda.launch(0.001)
        return cuda.tensor(RATE)

    def work() -> None:
        for _ in range(25):
            speak("hello")
            drain(0.003)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert drain(5)
    ended = [span.context.span_id for span in spans.all()]
    assert (len(ended), len(set(ended))) == (200, 200)
    points = recorded.points("gen_ai.client.operation.duration")
    assert sum(point.count for point in points) == 200
    assert sum(point.value for point in recorded.points("tts.client.active")) == 0


def test_metrics_of_a_result_that_a_card_was_at_work_on(cuda: StandIn, spans: Spans, recorded: Metrics) -> None:
    """They come with the end, not with the return, and their exemplar is the span."""

    @traced_synthesis(sample_rate=RATE)
    def speak(text: str) -> Any:
        cuda.launch(0.3)
        return cuda.tensor(RATE // 2)

    begun = time.perf_counter()
    speak("hello")
    assert recorded.points("tts.client.rtf") == []
    took = work_of(0.3, cuda, begun)
    span = spans.one()
    [rtf] = recorded.points("tts.client.rtf")
    assert (rtf.count, rtf.sum / 2) == (1, took)
    assert [exemplar.span_id for exemplar in rtf.exemplars] == [span.context.span_id]
    [duration] = recorded.points("gen_ai.client.operation.duration")
    assert duration.sum == took


def test_a_future_that_resolves_with_a_tensor_on_a_card(cuda: StandIn, spans: Spans) -> None:
    def work() -> Any:
        cuda.launch(0.3)
        return cuda.tensor(RATE)

    begun = time.perf_counter()
    with ThreadPoolExecutor(1) as pool:

        @traced_synthesis(sample_rate=RATE)
        def speak(text: str) -> Any:
            return pool.submit(work)

        assert speak("hello").result().shape == (RATE,)
    assert spans.all() == []
    took = work_of(0.3, cuda, begun)
    assert spans.attributes()["tts.synthesis.duration"] == took


def test_a_traced_function_around_a_traced_one(cuda: StandIn, spans: Spans, recorded: Metrics) -> None:
    """Both return the same tensor."""

    @traced_synthesis(sample_rate=RATE)
    def inner(text: str) -> Any:
        cuda.launch(0.3)
        return cuda.tensor(RATE)

    @traced_synthesis(sample_rate=RATE)
    def outer(text: str) -> Any:
        return inner(text)

    begun = time.perf_counter()
    outer("hello")
    assert spans.all() == []
    took = work_of(0.3, cuda, begun)
    child, parent = spans.all()
    assert child.parent is not None
    assert child.parent.span_id == parent.context.span_id
    for span in (child, parent):
        assert span.attributes["tts.synthesis.duration"] == took  # type: ignore[index]
    [duration] = recorded.points("gen_ai.client.operation.duration")
    assert duration.count == 1


@pytest.mark.parametrize("streamed", [False, True])
def test_a_service_keeps_no_card_of_ours_busy(cuda: StandIn, spans: Spans, streamed: bool) -> None:
    """What is on a card here is no work of its."""

    def speak(text: str) -> Any:
        cuda.launch(10)
        return cuda.tensor(RATE)

    def stream(text: str) -> Iterator[Any]:
        yield speak(text)

    options = Options(remote=True, sample_rate=RATE)
    if streamed:
        assert len(list(trace_callable(stream, options)("hello"))) == 1
    else:
        trace_callable(speak, options)("hello")
    assert spans.one().kind.name == "CLIENT"
    assert cuda.events == 0


def test_a_call_takes_until_it_returns_at_least(cuda: StandIn, spans: Spans) -> None:
    """The card came to its work, a short one, only after somebody else's."""
    cuda.launch(0.5)

    @traced_synthesis(sample_rate=RATE)
    def speak(text: str) -> Any:
        cuda.launch(0.01)
        time.sleep(0.1)
        return cuda.tensor(RATE)

    begun = time.perf_counter()
    speak("hello")
    called = time.perf_counter() - begun
    cuda.wait()
    assert spans.attributes()["tts.synthesis.duration"] == between(0.1, called)


def test_a_stream_that_fails_while_the_card_is_at_work(cuda: StandIn, spans: Spans) -> None:
    @traced_synthesis(sample_rate=RATE, producer="pull")
    def speak(text: str) -> Iterator[Any]:
        cuda.launch(0.3)
        yield cuda.tensor(RATE)
        raise ValueError("no more")

    begun = time.perf_counter()
    stream = speak("hello")
    next(stream)
    with pytest.raises(ValueError, match="no more"):
        next(stream)
    assert spans.all() == []
    took = work_of(0.3, cuda, begun)
    span = spans.attributes()
    assert (span["error.type"], span["tts.stream.chunks"]) == ("ValueError", 1)
    assert span["gen_ai.response.time_to_first_chunk"] == took
    assert span["tts.synthesis.duration"] == took
    assert "tts.rtf" not in span


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs interval timers")
def test_a_signal_handler_that_speaks_while_another_synthesis_is_ended(cuda: StandIn, spans: Spans) -> None:
    """It comes in anywhere, in the midst of ending what waited for the card as well."""

    @traced_synthesis(sample_rate=RATE)
    def speak(text: str) -> Any:
        cuda.launch(0.0002)
        return cuda.tensor(RATE)

    def handle(*_: object) -> None:
        nonlocal handled
        handled += 1
        speak("from a signal")

    started: list[int] = []

    class Counts(SpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            started.append(span.context.span_id)

    trace.get_tracer_provider().add_span_processor(Counts())  # type: ignore[attr-defined]
    handled = 0
    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
    try:
        end = time.perf_counter() + 0.5
        while time.perf_counter() < end:
            speak("hello")
            drain(0.001)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert handled > 10
    assert drain(5)
    ended = [span.context.span_id for span in spans.all()]
    assert sorted(ended) == sorted(started)  # each once; what a signal says inside an export is not traced
