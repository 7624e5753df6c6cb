"""Memory of torch's CUDA allocator, held against allocations of known size on a stand-in."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from standin_cuda import Card, StandIn, standin_cuda

from ttstrace.monitor import (
    GpuWindow,
    PerformanceMonitor,
    close_gpu_window,
    discard_gpu_window,
    open_gpu_window,
)
from ttstrace.monitor.gpu import allocator
from ttstrace.monitor.gpu import window as module
from ttstrace.monitor.gpu.reading import GpuReading, GpuUsage

MB = 2**20
CUDA_FUNCTIONS = (
    "is_initialized", "device_count", "current_device", "memory_stats_as_nested_dict", "reset_peak_memory_stats",
    "get_device_properties", "synchronize",
)  # fmt: skip


def cards(count: int) -> list[Card]:
    return [Card(uuid.UUID(int=index + 1), name=f"Card {index}") for index in range(count)]


def usage(window: GpuWindow | None, device: str | None = None, result: object = None) -> GpuUsage:
    reading = close_gpu_window(window)
    assert isinstance(reading, GpuReading)
    found = reading.of_model(device, result)
    assert found is not None
    return found


def peak(window: GpuWindow | None, device: str | None = None) -> float:
    found = usage(window, device).memory_peak
    assert found is not None
    return found / MB


def burst(cuda: StandIn, size: int, device: int = 0) -> None:
    cuda.allocate(size * MB, device)
    cuda.free(size * MB, device)


def test_standin_peak_and_allocated_are_those_of_the_window(cuda: StandIn) -> None:
    cuda.allocate(100 * MB)  # the model
    burst(cuda, 500)  # loading it
    window = open_gpu_window()
    burst(cuda, 50)
    cuda.allocate(10 * MB)
    found = usage(window)
    burst(cuda, 900)
    assert found.memory_peak == 150 * MB
    assert found.memory_allocated == 110 * MB
    assert found.name == "Stand-in GPU"
    assert found.memory_used is found.energy is found.temperature is found.utilization is None


def test_standin_overlapping_windows_have_their_own_peaks(cuda: StandIn) -> None:
    cuda.allocate(10 * MB)
    first = open_gpu_window()
    burst(cuda, 300)
    second = open_gpu_window()
    burst(cuda, 100)
    assert peak(first) == 310
    third = open_gpu_window()
    burst(cuda, 20)
    assert peak(third) == 30
    assert peak(second) == 110


def test_standin_nothing_is_reset_when_a_window_closes(cuda: StandIn) -> None:
    cuda.allocate(MB)
    window = open_gpu_window()
    assert cuda.cards[0].resets == 1
    burst(cuda, 70)
    close_gpu_window(window)
    assert cuda.cards[0].resets == 1
    assert cuda.cards[0].peak == 71 * MB
    # Nor is anything left of it for those that come later.
    assert peak(open_gpu_window()) == 1


def test_standin_twenty_windows_in_any_order_on_two_devices(new_gpu_meter: None) -> None:
    chance = random.Random(7)
    with standin_cuda(*cards(2)) as cuda:
        for device in (0, 1):
            cuda.allocate(MB, device)
        for _ in range(20):
            windows: dict[GpuWindow | None, list[int]] = {}
            opened = 0
            while opened < 20 or windows:
                step = chance.random()
                if step < 0.4 and opened < 20:
                    windows[open_gpu_window()] = [1, 1]
                    opened += 1
                elif step < 0.7:
                    device, size = chance.randrange(2), chance.randrange(1, 1000)
                    burst(cuda, size, device)
                    for highest in windows.values():
                        highest[device] = max(highest[device], 1 + size)
                elif windows:
                    window = chance.choice(list(windows))
                    device = chance.randrange(2)
                    highest = windows.pop(window)
                    assert peak(window, f"cuda:{device}") == highest[device]
        assert module.gpu_meter().ledger._open == []


def test_standin_windows_of_threads(cuda: StandIn) -> None:
    cuda.allocate(MB)
    outer = open_gpu_window()
    sizes = list(range(10, 330, 20))
    start = threading.Barrier(len(sizes))
    # The program's own allocations between torch's two calls, reading the peak and resetting it, are lost to all.
    between = module.gpu_meter().ledger._lock
    found: dict[int, float] = {}

    def measured(size: int) -> None:
        start.wait()
        for _ in range(20):
            window = open_gpu_window()
            with between:
                burst(cuda, size)
            found[size] = min(found.get(size, 1e9), peak(window))

    threads = [threading.Thread(target=measured, args=(size,)) for size in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert peak(outer) == 311
    assert all(1 + size <= found[size] <= 311 for size in sizes)
    assert module.gpu_meter().ledger._open == []


def test_standin_measurements_nest(cuda: StandIn) -> None:
    monitor = PerformanceMonitor()
    cuda.allocate(4 * MB)
    with monitor.measure() as outer:
        burst(cuda, 200)
        with monitor.measure() as inner:
            burst(cuda, 30)
        cuda.allocate(2 * MB)
    assert (outer["gpu_max_memory_mb"], outer["gpu_memory_allocated"]) == (204, 6)
    assert (inner["gpu_max_memory_mb"], inner["gpu_memory_allocated"]) == (34, 4)
    assert inner["device"] == "cuda"
    assert {"gpu_memory_mb", "gpu_utilization", "gpu_temperature"}.isdisjoint(inner)


def test_standin_no_figures_of_a_gpu_are_asked_for_on_the_cpu(cuda: StandIn) -> None:
    cuda.allocate(MB)
    with PerformanceMonitor(device="cpu").measure() as metrics:
        pass
    assert cuda.cards[0].resets == 0
    assert not [key for key in metrics if key.startswith("gpu")]


def test_standin_a_device_without_memory_of_ours_is_left_alone(new_gpu_meter: None) -> None:
    with standin_cuda(*cards(3)) as cuda:
        asked: list[int] = []
        of_device = cuda.module.cuda.get_device_properties
        cuda.module.cuda.get_device_properties = lambda device: asked.append(device) or of_device(device)
        cuda.allocate(5 * MB, 1)
        found = usage(open_gpu_window())
        assert found.memory_peak == found.memory_allocated == 5 * MB
        assert found.name == "Card 1"
        assert [card.context for card in cuda.cards] == [False, True, False]
        assert [card.resets for card in cuda.cards] == [0, 1, 0]
        assert set(asked) == {1}
        reading = close_gpu_window(open_gpu_window())
        assert reading is not None
        assert reading.of_model("cuda:2", None) is None
        assert reading.of_model("cuda:7", None) is None


def test_standin_a_device_that_comes_into_use_in_the_window_counts_from_there(new_gpu_meter: None) -> None:
    with standin_cuda(*cards(2)) as cuda:
        cuda.allocate(5 * MB, 0)
        first = open_gpu_window()
        second = open_gpu_window()
        cuda.allocate(20 * MB, 1)
        burst(cuda, 80, 1)
        third = open_gpu_window()
        burst(cuda, 3, 1)
        assert peak(third, "cuda:1") == 23
        assert peak(first, "cuda:1") == 100
        assert peak(second, "cuda:0") == 5


def test_standin_memory_that_was_given_back_before_the_window_is_none_of_its(cuda: StandIn) -> None:
    burst(cuda, 800)
    outer = open_gpu_window()
    cuda.empty_cache()
    window = open_gpu_window()
    late = open_gpu_window()
    burst(cuda, 30)
    assert peak(window) == 30
    cuda.empty_cache()
    assert peak(late) == 30
    assert peak(outer) == 30
    # And nobody used it in this one.
    assert open_gpu_window() is not None
    reading = close_gpu_window(open_gpu_window())
    assert reading is not None
    assert reading.of_model(None, None) is None


def test_standin_memory_that_was_given_back_in_the_window_was_used(cuda: StandIn) -> None:
    cuda.allocate(40 * MB)
    window = open_gpu_window()
    cuda.free(40 * MB)
    cuda.empty_cache()
    for _ in range(2):  # the first finds the peak that the second does not
        inner = open_gpu_window()
        close_gpu_window(inner)
    found = usage(window)
    assert (found.memory_peak, found.memory_allocated) == (40 * MB, 0)


def test_standin_memory_that_was_given_back_in_a_window_from_before_cuda(new_gpu_meter: None) -> None:
    with standin_cuda(initialized=False) as cuda:
        window = open_gpu_window()
        burst(cuda, 40)
        cuda.empty_cache()
        for _ in range(2):
            discard_gpu_window(open_gpu_window())
        assert peak(window) == 40


def test_standin_a_result_that_was_copied_to_the_host_says_nothing_of_the_model(cuda: StandIn) -> None:
    cuda.allocate(MB)
    assert usage(open_gpu_window(), None, cuda.tensor(10).cpu()).memory_peak == MB


def test_standin_cuda_that_is_initialized_in_the_window(new_gpu_meter: None) -> None:
    with standin_cuda(*cards(2), initialized=False) as cuda:
        first, second = open_gpu_window(), open_gpu_window()
        assert close_gpu_window(second) is None
        cuda.allocate(20 * MB)
        burst(cuda, 180)
        third = open_gpu_window()
        burst(cuda, 10)
        found = usage(first)
        assert found.memory_peak == 200 * MB
        assert found.memory_allocated == 20 * MB
        assert peak(third) == 30
        fourth = open_gpu_window()  # alone: what was folded is forgotten, but not for those that began before CUDA
        assert peak(fourth) == 20
        assert peak(first) == 200


def test_standin_torch_that_is_imported_in_the_window(new_gpu_meter: None) -> None:
    monitor = PerformanceMonitor()
    measurement = monitor.measure()
    metrics = measurement.__enter__()
    with standin_cuda() as cuda:
        cuda.allocate(7 * MB)
        measurement.__exit__(None, None, None)
    assert metrics["gpu_max_memory_mb"] == 7
    assert metrics["device"] == "cuda"


def test_standin_without_resets_a_peak_is_known_where_it_rose(cuda: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTSTRACE_MEMORY_RESET", "0")
    cuda.allocate(10 * MB)
    burst(cuda, 100)
    window = open_gpu_window()
    burst(cuda, 100)
    found = usage(window)
    assert found.memory_peak is None
    assert found.memory_allocated == 10 * MB
    window = open_gpu_window()
    burst(cuda, 101)
    assert peak(window) == 111
    assert cuda.cards[0].resets == 0


def test_standin_somebody_elses_reset_costs_no_more_than_what_it_hides(cuda: StandIn) -> None:
    cuda.allocate(50 * MB)
    window = open_gpu_window()
    burst(cuda, 100)
    cuda.free(40 * MB)
    cuda.module.cuda.reset_peak_memory_stats(0)
    assert peak(window) == 50


@pytest.mark.parametrize(
    ("device", "result", "expected"),
    [
        (None, None, None),
        ("cuda:0", None, 1),
        ("cuda:1", None, 2),
        ("cuda", None, 2),
        (None, "cuda:0", 1),
        ("cuda:1", "cuda:0", 2),
        (None, "cpu", None),
        ("cpu", "cuda:0", None),
        ("mps", None, None),
        ("cuda:1x", None, None),
    ],
)
def test_standin_whose_figures_they_are(
    new_gpu_meter: None, device: str | None, result: str | None, expected: int | None
) -> None:
    class Result:
        def __init__(self, device: str | None) -> None:
            self.device = device

    with standin_cuda(*cards(3)) as cuda:
        cuda.allocate(MB, 0)
        cuda.allocate(2 * MB, 1)
        cuda.current = 1
        window = open_gpu_window()
        cuda.current = 0  # only that at the start counts
        reading = close_gpu_window(window)
        assert reading is not None
        found = reading.of_model(device, Result(result))
        assert (None if found is None else (found.memory_peak or 0) / MB) == expected


def test_standin_a_monitors_device_is_the_current_one_else_the_only_one(new_gpu_meter: None) -> None:
    with standin_cuda(*cards(3)) as cuda:
        cuda.allocate(2 * MB, 1)
        with PerformanceMonitor(device="cuda").measure() as metrics:
            pass
        assert metrics["gpu_memory_allocated"] == 2
        cuda.allocate(3 * MB, 2)
        with PerformanceMonitor().measure() as metrics:
            pass
        assert "gpu_memory_allocated" not in metrics  # which of the two is unknown
        cuda.current = 2
        with PerformanceMonitor().measure() as metrics:
            cuda.current = 1
        assert metrics["gpu_memory_allocated"] == 3


def test_standin_synchronize_comes_before_the_window_and_before_its_end(cuda: StandIn) -> None:
    cuda.allocate(MB)
    cuda.launch(0.3)
    with PerformanceMonitor(device="cuda", synchronize=True).measure() as metrics:
        cuda.launch(0.1)
    assert 0.1 <= metrics["inference_time"] < 0.3
    assert cuda.synchronized == 2


def test_standin_an_allocator_that_does_not_count(cuda: StandIn) -> None:
    def uncounted(device: object = None) -> dict[str, Any]:
        raise RuntimeError("CUDAPluggableAllocator does not yet support getDeviceStats")

    cuda.allocate(MB)
    cuda.module.cuda.memory_stats_as_nested_dict = uncounted
    found = usage(open_gpu_window())
    assert found.memory_peak is found.memory_allocated is None
    assert found.name == "Stand-in GPU"


@pytest.mark.parametrize("function", CUDA_FUNCTIONS)
@pytest.mark.parametrize("error", [RuntimeError("CUDA error: device-side assert triggered"), AssertionError("no")])
def test_standin_whatever_torch_raises_stays_inside(
    cuda: StandIn, function: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise error

    cuda.allocate(MB)
    theirs = ValueError("the program's own")
    monitor = PerformanceMonitor(synchronize=True)
    for breaks_before in (True, False):
        with monkeypatch.context() as patch:
            if breaks_before:
                patch.setattr(cuda.module.cuda, function, broken)
            with pytest.raises(ValueError, match="own") as caught, monitor.measure() as metrics:
                patch.setattr(cuda.module.cuda, function, broken)
                raise theirs
        assert caught.value is theirs
        assert metrics["inference_time"] > 0
        assert metrics.get("gpu_max_memory_mb", 1) == 1
        discard_gpu_window(open_gpu_window())
        assert module.gpu_meter().ledger._open == []


def test_standin_a_torch_that_is_still_being_imported(new_gpu_meter: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", type(sys)("torch"))
    window = open_gpu_window()
    assert close_gpu_window(window) is None


def test_standin_a_window_that_is_opened_inside_anothers_opening(cuda: StandIn) -> None:
    inner: list[GpuUsage] = []
    reset = cuda.module.cuda.reset_peak_memory_stats

    def interrupted(device: int) -> None:  # where a signal handler may come in
        cuda.module.cuda.reset_peak_memory_stats = reset
        inner.append(usage(open_gpu_window()))
        reset(device)

    cuda.allocate(MB)
    cuda.module.cuda.reset_peak_memory_stats = interrupted
    assert peak(open_gpu_window()) == 1
    assert inner[0].memory_peak is None
    assert module.gpu_meter().ledger._open == []


@contextmanager
def forked(body: Callable[[], None]) -> Iterator[None]:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            body()
            code = 0
        finally:
            os._exit(code)
    yield
    assert os.waitpid(pid, 0)[1] == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_standin_in_a_forked_child_nothing_of_cuda_is_called(cuda: StandIn) -> None:
    cuda.allocate(MB)
    parents = open_gpu_window()
    measurement = PerformanceMonitor().measure()
    metrics = measurement.__enter__()

    def child() -> None:
        assert close_gpu_window(parents) is None
        discard_gpu_window(parents)
        measurement.__exit__(None, None, None)
        assert not [key for key in metrics if key.startswith("gpu")]
        with PerformanceMonitor().measure() as childs:
            pass
        assert childs["device"] == "cpu"
        assert not [key for key in childs if key.startswith("gpu")]
        assert cuda.forbidden == []

    with forked(child):
        pass
    burst(cuda, 10)
    assert peak(parents) == 11
    measurement.__exit__(None, None, None)
    assert metrics["gpu_max_memory_mb"] == 11


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_standin_a_forked_child_that_uses_cuda_first_has_figures_of_its_own(new_gpu_meter: None) -> None:
    with standin_cuda(initialized=False) as cuda:
        parents = open_gpu_window()

        def child() -> None:
            childs = open_gpu_window()
            cuda.allocate(9 * MB)
            assert close_gpu_window(parents) is None
            assert peak(childs) == 9

        with forked(child):
            pass


@pytest.mark.keeps_time
def test_standin_opening_and_closing_stays_cheap_with_10000_open(cuda: StandIn) -> None:
    cuda.allocate(20_000 * MB)

    def fastest() -> float:
        best = 1.0
        for _ in range(30):
            start = time.perf_counter()
            for _ in range(20):
                close_gpu_window(open_gpu_window())
            best = min(best, time.perf_counter() - start)
        return best

    alone = fastest()
    windows = []
    for size in range(10_000):  # each peak below the one before: the longest stack there can be
        burst(cuda, 10_000 - size)
        windows.append(open_gpu_window())
    assert len(module.gpu_meter().ledger._folds[0]._values) > 9000
    assert fastest() < 2 * alone
    assert peak(windows[5000]) == 20_000 + 10_000 - 5001
    for window in windows[5001:] + windows[:5000]:
        discard_gpu_window(window)
    discard_gpu_window(open_gpu_window())
    assert module.gpu_meter().ledger._open == []
    assert module.gpu_meter().ledger._folds[0]._values == []  # nor is what was folded kept for nobody


def test_nothing_is_imported_and_nothing_opened_without_torch() -> None:
    code = (
        "import sys, ttstrace\n"
        "from opentelemetry import trace\n"
        "from opentelemetry.sdk.trace import TracerProvider\n"
        "trace.set_tracer_provider(TracerProvider())\n"
        "from ttstrace.monitor.gpu import window\n"
        "@ttstrace.traced_synthesis\n"
        "def speak(text): return bytes(10)\n"
        "speak('hello')\n"
        "with ttstrace.PerformanceMonitor().measure(): pass\n"
        "assert window.open_gpu_window() is window._before_cuda\n"
        "print([name for name in ('torch', 'pynvml', 'numpy', 'ttstrace.monitor.gpu.meter') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_real_torch_without_cuda_in_use() -> None:
    pytest.importorskip("torch")
    code = (
        "import sys, torch\n"
        "from ttstrace.monitor import PerformanceMonitor\n"
        "torch.cuda.is_available = torch.cuda.current_device = torch.cuda.device_count = None\n"  # must not be called
        "with PerformanceMonitor().measure() as metrics: torch.zeros(10)\n"
        "assert not torch.cuda.is_initialized()\n"
        "print(sorted(key for key in metrics if key.startswith('gpu')), metrics['device'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] cpu"


def test_real_torch_is_asked_in_the_form_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    held = {"current": 3, "peak": 5, "allocated": 9, "freed": 6}
    answer = {"allocated_bytes": {"all": held}, "reserved_bytes": {"all": {**held, "peak": 8}}}
    monkeypatch.setattr(torch._C, "_cuda_memoryStats", lambda device: answer, raising=False)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda.memory, "is_initialized", lambda: True)
    assert module.cuda_in_use() is torch.cuda
    assert allocator.allocation(torch.cuda, 0) == (3, 5, 8)


def test_the_benchmark_says_that_there_is_no_gpu() -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is one")
    script = str(Path(__file__).parents[1] / "benchmarks" / "gpu.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("no GPU: ")
    assert subprocess.run([sys.executable, script, "--seconds", "0"], capture_output=True).returncode == 2


def test_standin_torch_that_is_taken_away_in_the_window(cuda: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda.allocate(MB)
    window = open_gpu_window()
    with monkeypatch.context() as patch:
        patch.delitem(sys.modules, "torch")
        assert close_gpu_window(window) is None
    assert module.gpu_meter().ledger._open == []
