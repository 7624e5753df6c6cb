"""The soak of `benchmarks/soak.py` with small counts; and that it finds what is planted."""

from __future__ import annotations

import ctypes
import gc
import json
import mmap
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import set_meter_provider, set_tracer_provider
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from soak_ledger import Attributes, Ledger, Sink
from soak_measure import Figures, Soak
from soak_parts import PARTS, calls, open_at_once, shape_by_itself
from soak_shapes import SHAPES, TRUTHS, Host

from ttstrace import endings, lifecycle, pulls, traced_synthesis
from ttstrace import metrics as ttstrace_metrics
from ttstrace.audio import AudioReader
from ttstrace.monitor import Concurrency
from ttstrace.timeline import Timeline

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="no /proc here")

COMMAND = [sys.executable, str(Path(__file__).parents[1] / "benchmarks" / "soak.py")]


@pytest.fixture(scope="module")
def short_soak() -> dict[str, Any]:
    """All of it, in a process of its own."""
    result = subprocess.run([*COMMAND, "--calls", "2000", "--json"], capture_output=True, text=True, timeout=170)
    assert result.returncode in (0, 1), result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    assert result.returncode == (1 if found["broken"] else 0)
    assert result.stderr == ""
    return {figures["part"]: figures for figures in found["parts"]}


@pytest.mark.parametrize("part", PARTS)
def test_every_bound_holds(short_soak: dict[str, Any], part: str) -> None:
    figures = short_soak[part]
    assert figures["broken"] == []
    assert figures["calls"] >= PARTS[part].least * len(PARTS[part].runs)
    assert figures["spans"] >= 0.9 * figures["calls"]  # two shapes give none
    assert figures["forks"] == (8 if part == "calls" else 0)


def test_help_teaches() -> None:
    result = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0
    for part in PARTS:
        assert f"  {part} " in result.stdout
    assert "exampl" in result.stdout
    assert "ends with 0" in result.stdout


# --- what it finds -----------------------------------------------------------------------------------------------


@pytest.fixture
def soak(tmp_path: Path) -> Iterator[Soak]:
    ledger, reader = Ledger(TRUTHS), InMemoryMetricReader()
    provider = TracerProvider()
    provider.add_span_processor(ledger)
    set_tracer_provider(provider)
    set_meter_provider(MeterProvider([reader]))
    yield Soak(ledger, Sink(), reader, str(tmp_path))
    gc.unfreeze()
    endings.drain()
    set_tracer_provider(None)
    set_meter_provider(None)


def measured(soak: Soak, shape: str = "array") -> Figures:
    return soak.measure(shape, shape_by_itself(shape), 20, 200)


@pytest.fixture
def at_each_end(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Plants something that happens at each end of a synthesis besides."""
    end = lifecycle.Synthesis._end

    def plant(extra: Callable[[], object]) -> None:
        def planted(self: lifecycle.Synthesis, at: float, **how: Any) -> None:
            extra()
            end(self, at, **how)

        monkeypatch.setattr(lifecycle.Synthesis, "_end", planted)

    return plant


Plant = Callable[[Callable[[], object]], None]


def test_nothing_is_found_where_nothing_is_planted(soak: Soak) -> None:
    assert measured(soak).broken == []


@pytest.mark.parametrize("shape", [name for name, (_, makes) in SHAPES.items() if makes])
def test_an_object_per_call(soak: Soak, at_each_end: Plant, shape: str) -> None:
    leaked: list[object] = []
    # Where classes are made anew, a cache of theirs that is emptied now and then holds more or less of them.
    at_each_call = 20 if shape == "classes" else 1
    at_each_end(lambda: leaked.extend(object() for _ in range(at_each_call)))
    found = measured(soak, shape)
    assert f"{found.objects} more objects are held" in found.broken


def test_memory_that_is_no_small_object(soak: Soak, at_each_end: Plant) -> None:
    leaked: list[mmap.mmap] = []

    def leak() -> None:
        # Pages of its own: what the allocator has free of earlier tests cannot serve, nor hide it by going back.
        leaked.append(mmap.mmap(-1, 2**20))
        leaked[-1].write(b"1" * 2**20)

    if hasattr(ctypes.CDLL(None), "malloc_trim"):  # glibc's
        ctypes.CDLL(None).malloc_trim(0)
    at_each_end(leak)
    try:
        assert any("resident memory grew" in broken for broken in measured(soak).broken)
    finally:
        for pages in leaked:
            pages.close()


def test_a_descriptor(soak: Soak, at_each_end: Plant) -> None:
    leaked: list[int] = []
    at_each_end(lambda: leaked.append(os.dup(2)))
    try:
        assert "200 more descriptors are open" in measured(soak).broken
    finally:
        for descriptor in leaked:
            os.close(descriptor)


def test_a_thread(soak: Soak, at_each_end: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("soak_measure.PATIENCE", 0.1)
    stop = threading.Event()
    threads: list[threading.Thread] = []

    def leak() -> None:
        if len(threads) < 23:
            threads.append(threading.Thread(target=stop.wait))
            threads[-1].start()

    at_each_end(leak)
    try:
        assert "3 more threads are alive" in measured(soak).broken
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_a_span_that_is_lost(soak: Soak, monkeypatch: pytest.MonkeyPatch) -> None:
    lost: list[tuple[lifecycle.Synthesis, float]] = []
    monkeypatch.setattr(pulls, "abandon", lambda *found: lost.append(found))
    found = measured(soak, "abandoned")
    for synthesis, at in lost:
        synthesis.end_abandoned(at)
    assert found.lost == 220
    assert {
        "220 spans are lost",
        "220 spans are still open",
        "220 windows of the meter are still open",
        "tts.client.active is 220 at the end",
    } <= set(found.broken)


def test_a_span_too_many(soak: Soak, at_each_end: Plant) -> None:
    tracer = trace.get_tracer("test")
    at_each_end(lambda: tracer.start_span("nobody's").end())
    assert "220 spans ended twice, or nobody called for them" in measured(soak).broken


def _chunk_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    chunk = Timeline.chunk

    def twice(self: Timeline, *args: Any) -> None:
        chunk(self, *args)
        chunk(self, *args)

    monkeypatch.setattr(Timeline, "chunk", twice)


def _leave_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "_concurrency", Concurrency())
    monkeypatch.setattr(Concurrency, "leave", lambda self, token: self.seen(token) or 1)


def _keep_models(monkeypatch: pytest.MonkeyPatch) -> None:
    models: list[object] = []
    monkeypatch.setattr(lifecycle, "is_cold", lambda model: models.append(model) is None)


@pytest.mark.parametrize(
    ("plant", "shape", "complaint"),
    [
        (
            lambda patch: patch.setattr(AudioReader, "duration", property(lambda self: 0.14)),
            "generator",
            "tts.audio.duration is 0.14, not 0.15",
        ),
        (_chunk_twice, "generator", "tts.stream.chunks is 6, not 3"),
        (lambda patch: patch.setattr(lifecycle, "type_name", str), "raising", "error.type is Hello there., not"),
        (lambda patch: patch.setattr(lifecycle, "is_cold", lambda model: False), "instance", "cold_start is False"),
        (_keep_models, "instance", "more objects are held"),
        (_leave_nothing, "array", "tts.concurrency.max is 3, not 1"),
        (lambda patch: patch.setattr(ttstrace_metrics, "_MODELS_MAX", 10**6), "many", "models apart"),
        (lambda patch: patch.setattr(lifecycle, "perf_counter", lambda: 0.0), "timed", "timed: 0.0 s is not between"),
    ],
    ids=["seconds", "chunks", "error", "cold", "bookkeeping", "concurrency", "models", "clock"],
)
def test_what_is_wrong_with_one_shape(
    soak: Soak,
    monkeypatch: pytest.MonkeyPatch,
    plant: Callable[[pytest.MonkeyPatch], None],
    shape: str,
    complaint: str,
) -> None:
    with monkeypatch.context() as patch:
        plant(patch)
        assert complaint in str(measured(soak, shape).broken)


def test_a_forked_child_that_goes_wrong(soak: Soak, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("soak_parts._child", lambda soak, kept: False)
    found = soak.measure("calls", calls, 1, 250)
    assert found.forks == 1
    assert "a forked child ended with 1" in str(found.broken)


def test_concurrency_that_is_not_the_most(soak: Soak, monkeypatch: pytest.MonkeyPatch) -> None:
    def naive(self: Concurrency, token: int) -> int:
        self._open.pop()
        return len(self._open) + 1

    monkeypatch.setattr(Concurrency, "leave", naive)
    assert "tts.concurrency.max is" in str(soak.measure("open", open_at_once, 10, 50).broken)


def test_a_finalizer_that_calls_opentelemetry(soak: Soak, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulls, "abandon", lambda found, at: found.end_abandoned(at))

    @traced_synthesis(model="interrupted")
    def speak(text: str) -> Iterator[bytes]:
        yield b""

    cycle: list[Any] = [speak("hello")]
    next(cycle[0])
    cycle.append(cycle)
    del cycle

    def collect(attributes: Attributes) -> None:
        gc.collect()

    soak.ledger.checks["array"] = collect  # in the midst of an exporter
    with Host(soak.ledger, "") as host:
        host.call("array", 0)
    assert soak.ledger.complaints == ["a finalizer started or ended a span"]
