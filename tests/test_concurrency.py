"""asyncio, threads, forks and pools: every synthesis keeps its own figures and its own parent."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from backends import RATE, tone
from conftest import Spans
from opentelemetry import trace

from ttstrace import stage, synthesis, traced_synthesis


def test_many_tasks(spans: Spans) -> None:
    @traced_synthesis(sample_rate=RATE, attributes=lambda call: {"number": call.arguments["number"]})
    async def speak(text: str, number: int) -> AsyncIterator[np.ndarray]:
        for _ in range(3):
            await asyncio.sleep(0.001 * (number % 5))
            assert synthesis.current() is not None
            async with stage("vocoder"):
                await asyncio.sleep(0)
            yield tone(0.01 * (number + 1))

    async def consume(number: int) -> None:
        with trace.get_tracer("test").start_as_current_span(f"task {number}"):
            async for _ in speak("x" * number, number):
                await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(*(consume(number) for number in range(50)))

    asyncio.run(main())
    found = spans.syntheses()
    assert len(found) == 50
    tasks = {span.context.span_id: span.name for span in spans.all()}
    for span in found:
        number = span.attributes["number"]
        assert span.attributes["tts.input.characters"] == number
        assert span.attributes["tts.audio.duration"] == pytest.approx(0.03 * (number + 1))
        assert tasks[span.parent.span_id] == f"task {number}"
        assert span.attributes["tts.stage.duration.vocoder"] >= 0
    assert max(span.attributes["tts.concurrency.max"] for span in found) == 50


def test_many_threads(spans: Spans) -> None:
    @traced_synthesis(sample_rate=RATE, producer="pull")
    def speak(text: str) -> Iterator[np.ndarray]:
        for _ in range(3):
            yield tone(0.01 * len(text))

    def consume(number: int) -> None:
        for _ in range(20):
            list(speak("x" * number))

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(consume, range(1, 17)))
    found = spans.syntheses()
    assert len(found) == 320
    for span in found:
        assert span.attributes["tts.audio.duration"] == pytest.approx(0.03 * span.attributes["tts.input.characters"])
        assert span.parent is None


def test_chunks_from_many_threads(spans: Spans) -> None:
    with synthesis(text="hi", sample_rate=RATE) as s:
        threads = [threading.Thread(target=lambda: [s.chunk(tone(0.01)) for _ in range(50)]) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    attributes = spans.attributes()
    assert attributes["tts.stream.chunks"] == 400
    assert attributes["tts.audio.duration"] == pytest.approx(4.0)


def test_a_stream_begun_in_one_task_and_consumed_in_another(spans: Spans, caplog: pytest.LogCaptureFixture) -> None:
    @traced_synthesis(sample_rate=RATE)
    async def speak(text: str) -> AsyncIterator[np.ndarray]:
        for _ in range(4):
            await asyncio.sleep(0.001)
            yield tone(0.1)

    async def main() -> None:
        stream = speak("hello")
        await stream.__anext__()
        await asyncio.create_task(stream.__anext__())  # type: ignore[arg-type]
        await asyncio.wait_for(stream.__anext__(), 1)
        async for _ in stream:
            pass

    asyncio.run(main())
    assert spans.attributes()["tts.stream.chunks"] == 4
    assert not caplog.records


SCRIPT = """
import multiprocessing, os, sys
from conftest_free import pooled, configure
if __name__ == "__main__":
    configure()
    with multiprocessing.get_context(sys.argv[1]).Pool(2, initializer=configure) as pool:
        print(sum(map(len, pool.starmap(pooled, [(number, "hello") for number in range(1, 9)]))))
"""
HELPERS = """
import os
from ttstrace import traced_synthesis
import numpy as np

@traced_synthesis(model="pooled", sample_rate=24000)
def pooled(number, text):
    return np.zeros(number * 2400, np.float32)

def configure():
    import ttstrace
    ttstrace.configure(service_name="pool", file=os.environ["TRACES"])
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_process_pool(tmp_path: Any, method: str) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    (tmp_path / "conftest_free.py").write_text(HELPERS)
    (tmp_path / "main.py").write_text(SCRIPT)
    traces = tmp_path / "traces.jsonl"
    result = subprocess.run(
        [sys.executable, "main.py", method],
        cwd=tmp_path, env={**os.environ, "TRACES": str(traces)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert result.stdout == "86400\n", result.stderr
    spans = [
        span
        for line in traces.read_text().splitlines()
        for resource in json.loads(line)["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]
    assert len(spans) == 8
    assert len({span["spanId"] for span in spans}) == 8
    seconds = [
        attribute["value"]["doubleValue"]
        for span in spans
        for attribute in span["attributes"]
        if attribute["key"] == "tts.audio.duration"
    ]
    assert sorted(seconds) == pytest.approx([number / 10 for number in range(1, 9)])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_what_is_open_at_a_fork_is_ended_by_the_parent_only(spans: Spans) -> None:
    @traced_synthesis(sample_rate=RATE, producer="pull")
    def speak(text: str) -> Iterator[np.ndarray]:
        for _ in range(3):
            yield tone(0.1)

    stream = speak("hello")
    next(stream)
    by_hand = synthesis(text="hello").start()
    before = len(spans.get_finished_spans())
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            chunks = len(list(stream))  # the program's own result is what it would have been
            by_hand.end()
            list(speak("in the child"))
            ended = spans.get_finished_spans()[before:]
            alone = [span.attributes["tts.concurrency.max"] for span in ended]
            status = 0 if (chunks, len(ended), alone) == (2, 1, [1]) else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    list(stream)
    by_hand.end()
    assert len(spans.syntheses()) == 2
    assert spans.syntheses()[0].attributes["tts.audio.duration"] == pytest.approx(0.3)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_while_another_thread_is_inside(spans: Spans) -> None:
    """The child must not wait for a lock whose owner does not exist there."""
    stop = threading.Event()

    @traced_synthesis(sample_rate=RATE)
    def speak(text: str) -> np.ndarray:
        return tone(0.01)

    def keep_busy() -> None:
        while not stop.is_set():
            speak("hello")

    threads = [threading.Thread(target=keep_busy) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            pid = os.fork()
            if pid == 0:
                # Not through the SDK, whose own locks may be held: through ours.
                from ttstrace.monitor import close_window, open_window

                close_window(open_window())
                s = synthesis(text="hi")
                s.chunk(b"")
                os._exit(0)
            deadline = threading.Event()
            for _ in range(200):
                done, status = os.waitpid(pid, os.WNOHANG)
                if done:
                    break
                deadline.wait(0.05)
            else:
                os.kill(pid, 9)
                os.waitpid(pid, 0)
                pytest.fail("the forked child hangs")
            assert os.waitstatus_to_exitcode(status) == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()
