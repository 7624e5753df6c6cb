"""What a span says of CPU and memory, against what the test itself used, through the engine.

The meter's own tests are in `test_monitor_*`; these hold that its figures reach the span, for the right window.
"""

from __future__ import annotations

import ctypes
import mmap
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from backends import RATE, burn, tone
from conftest import Spans, between

from ttstrace import PerformanceMonitor, synthesis, traced_synthesis

MIB = 2**20

if sys.platform != "linux":
    pytest.skip("exact peaks are Linux's", allow_module_level=True)

resource = pytest.importorskip("resource")


def touch(mebibytes: int) -> None:
    """Make memory resident and give it back, in C code that never lets go of the GIL."""
    with mmap.mmap(-1, mebibytes * MIB) as block:
        ctypes.pythonapi.memset = ctypes.PyDLL(None).memset  # type: ignore[attr-defined]
        view = (ctypes.c_char * len(block)).from_buffer(block)
        ctypes.PyDLL(None).memset(ctypes.byref(view), 1, len(block))
        del view


def attributes_of(spans: Spans, work: Callable[[], Any]) -> dict[str, Any]:
    traced_synthesis(lambda text: work())("hello")
    attributes = spans.attributes()
    spans.clear()
    return attributes


@pytest.mark.parametrize("mebibytes", [5, 50, 200])
def test_a_burst_by_c_code_under_the_gil(spans: Spans, mebibytes: int) -> None:
    attributes_of(spans, lambda: touch(1))
    attributes = attributes_of(spans, lambda: touch(mebibytes))
    assert attributes["tts.memory.burst"] == pytest.approx(mebibytes * MIB, abs=1.5 * MIB)
    assert attributes["tts.memory.growth"] == pytest.approx(0, abs=1 * MIB)
    assert 0 < attributes["tts.memory.utilization"] < 1


def test_memory_that_is_kept(spans: Spans) -> None:
    kept: list[Any] = []

    def keep() -> None:
        block = mmap.mmap(-1, 30 * MIB)
        for _ in range(30):  # of bytes that are as large, the C library may keep the memory
            block.write(b"x" * MIB)
        kept.append(block)

    attributes = attributes_of(spans, keep)
    assert attributes["tts.memory.growth"] == pytest.approx(30 * MIB, abs=2 * MIB)


def test_each_of_two_overlapping_calls_has_its_own_peak(spans: Spans) -> None:
    """200 MB while only the first is open, 100 MB while both are."""

    def inner() -> Iterator[bytes]:
        touch(100)
        yield b""

    @traced_synthesis(model="first", producer="pull")
    def first(text: str) -> Iterator[bytes]:
        touch(200)
        yield b""
        yield b""

    @traced_synthesis(model="second", producer="pull")
    def second(text: str) -> Iterator[bytes]:
        touch(100)
        yield b""

    one, two = first("hello"), second("hello")
    next(one)
    next(two)
    list(one)
    list(two)
    bursts = {
        span.attributes["gen_ai.request.model"]: span.attributes["tts.memory.burst"] for span in spans.syntheses()
    }
    assert bursts["first"] == pytest.approx(200 * MIB, abs=2 * MIB)
    assert bursts["second"] == pytest.approx(100 * MIB, abs=2 * MIB)
    assert {span.attributes["tts.concurrency.max"] for span in spans.syntheses()} == {2}


def test_twenty_overlapping_calls(spans: Spans) -> None:
    """Call n opens n-th and is closed n-th; 2 x n MB are touched while the first n + 1 are open."""
    open_ = []
    for number in range(20):
        open_.append(synthesis(text="hi", model=str(number)).start())
        touch(2 * number + 2)
    for s in open_:
        s.end()
    for span in spans.syntheses():
        assert span.attributes["tts.memory.burst"] == pytest.approx(40 * MIB, abs=2 * MIB)
        assert span.attributes["tts.concurrency.max"] == 20
    spans.clear()
    open_ = []
    for number in range(20):
        open_.append(synthesis(text="hi", model=str(number)).start())
        touch(42 - 2 * number)
    for s in reversed(open_):
        s.end()
    for span in spans.syntheses():
        number = int(span.attributes["gen_ai.request.model"])
        assert span.attributes["tts.memory.burst"] == pytest.approx((42 - 2 * number) * MIB, abs=2 * MIB)


def test_concurrency_of_calls_that_do_not_overlap(spans: Spans) -> None:
    for _ in range(3):
        with synthesis(text="hi"):
            pass
    assert {span.attributes["tts.concurrency.max"] for span in spans.syntheses()} == {1}


def cpu() -> float:
    """CPU seconds of this process and of the children that it waited for."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def cpu_between(inner: float, outer: float) -> between:
    """The kernel's two ways to read CPU time are each rounded."""
    return between(inner - 20e-6, outer + 20e-6)


def test_cpu_of_one_thread(spans: Spans) -> None:
    def half() -> None:
        nonlocal inner
        begun = time.perf_counter()
        burn(0.1)
        time.sleep(0.1)
        inner = time.perf_counter() - begun

    inner, before, begun = 0.0, cpu(), time.perf_counter()
    attributes = attributes_of(spans, half)
    outer = time.perf_counter() - begun
    spent = attributes["tts.cpu.time"]
    assert spent == cpu_between(0.1, cpu() - before)
    assert attributes["tts.cpu.utilization"] == between(spent / outer, spent / inner)


def test_cpu_of_two_threads(spans: Spans) -> None:
    def both() -> None:
        other = threading.Thread(target=burn, args=(0.1,))
        other.start()
        burn(0.1)
        other.join()

    before = cpu()
    assert attributes_of(spans, both)["tts.cpu.time"] == cpu_between(0.2, cpu() - before)


def test_cpu_of_a_subprocess(spans: Spans) -> None:
    script = "import time\nwhile time.process_time() < 0.3: pass"
    before = cpu()
    attributes = attributes_of(spans, lambda: subprocess.run([sys.executable, "-S", "-c", script], check=True))
    assert attributes["tts.cpu.time"] == cpu_between(0.3, cpu() - before)


def test_a_call_of_a_millisecond(spans: Spans) -> None:
    burn(0.01)
    before, begun = cpu(), time.perf_counter()
    attributes = attributes_of(spans, lambda: burn(0.001))
    assert attributes["tts.synthesis.duration"] == between(0.001, time.perf_counter() - begun)
    assert attributes["tts.cpu.time"] == cpu_between(0.001, cpu() - before)


def test_cold_start(spans: Spans) -> None:
    class Model:
        @traced_synthesis
        def speak(self, text: str) -> None: ...

    @traced_synthesis
    def speak(text: str) -> None: ...

    first, second = Model(), Model()
    for call in (first.speak, first.speak, second.speak, second.speak, speak, speak):
        call("hello")
    cold = [span.attributes["tts.cold_start"] for span in spans.syntheses()]
    assert cold == [True, False, True, False, True, False]


def test_no_cold_start_after_calls_that_nobody_measured(spans: Spans) -> None:
    from conftest import set_tracer_provider
    from opentelemetry import trace

    @traced_synthesis
    def speak(text: str) -> None: ...

    provider = trace.get_tracer_provider()
    set_tracer_provider(None)
    speak("hello")
    set_tracer_provider(provider)
    speak("hello")
    assert spans.attributes()["tts.cold_start"] is False


def test_cold_start_of_what_cannot_be_told_apart_is_unknown(spans: Spans) -> None:
    class Model:
        __slots__ = ()

        @traced_synthesis
        def speak(self, text: str) -> None: ...

    Model().speak("hello")
    assert "tts.cold_start" not in spans.attributes()


@pytest.mark.parametrize(
    ("seconds", "grade"),
    [(3.0, "very_fast"), (0.58, "faster_than_real_time"), (0.05, "slower_than_real_time")],
)
def test_rtf_and_its_grade(spans: Spans, seconds: float, grade: str) -> None:
    @traced_synthesis(sample_rate=RATE)
    def speak(text: str) -> Any:
        time.sleep(0.3)
        return tone(seconds)

    speak("hello")
    attributes = spans.attributes()
    assert attributes["tts.rtf"] == pytest.approx(attributes["tts.synthesis.duration"] / seconds)
    assert attributes["tts.rtf.grade"] == grade


def test_empty_audio_has_no_rtf(spans: Spans) -> None:
    traced_synthesis(sample_rate=RATE)(lambda text: tone(0))("hello")
    attributes = spans.attributes()
    assert attributes["tts.audio.duration"] == 0.0
    assert "tts.rtf" not in attributes
    assert "tts.rtf.grade" not in attributes


def test_the_monitor_and_the_span_agree(spans: Spans) -> None:
    touch(10)

    @traced_synthesis
    def speak(text: str) -> None:
        burn(0.05)
        touch(40)

    begun = time.perf_counter()
    with PerformanceMonitor().measure() as metrics:
        speak("hello")
    outer = time.perf_counter() - begun
    attributes = spans.attributes()
    assert metrics["inference_time"] == between(attributes["tts.synthesis.duration"], outer)
    assert attributes["tts.synthesis.duration"] == between(0.05, metrics["inference_time"])
    assert metrics["peak_memory_mb"] * MIB == pytest.approx(attributes["tts.memory.peak"], abs=MIB)
