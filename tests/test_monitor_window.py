"""The bookkeeping of windows, with a kernel made of Python in the place of the real one."""

from __future__ import annotations

import gc
import os
import random
import signal
import subprocess
import sys
import threading
import time
import types
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ttstrace.monitor.window as module
from ttstrace.monitor import Window, close_window, discard_window, memory_method, open_window
from ttstrace.monitor.meter import Meter

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel imitated here is Linux")

PAGE = os.sysconf("SC_PAGE_SIZE")


class Kernel:
    """Resident memory and its high-water mark, in kB, as they follow from what :meth:`use` is told."""

    def __init__(self) -> None:
        self.resident = self.mark = 10_000
        self.resets = 0
        self.on_reset = lambda: None

    def use(self, resident: int) -> None:
        self.resident = resident
        self.mark = max(self.mark, resident)

    def write(self, descriptor: int, data: bytes) -> int:
        assert data == b"5"
        self.resets += 1
        self.on_reset()
        self.mark = self.resident
        return 1

    def rusage(self, who: int) -> types.SimpleNamespace:
        return types.SimpleNamespace(ru_maxrss=self.mark, ru_utime=0.0, ru_stime=0.0)

    def read(self, descriptor: int, length: int, offset: int) -> bytes:
        return b"99999 %d 1 1 0 1 0\n" % (self.resident * 1024 // PAGE)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    with imitated() as made:
        yield made


class imitated:
    def __enter__(self) -> Kernel:
        kernel = Kernel()
        meter = Meter()
        meter.prepare()
        meter.threshold = -1
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(module, "_meter", meter)
        for name in ("write", "rusage", "read"):
            self.patch.setattr(module, f"_{name}", getattr(kernel, name))
        self.meter = meter
        return kernel

    def __exit__(self, *error: object) -> None:
        self.patch.undo()
        self.meter.close()


def figures(window: Window) -> tuple[int | None, int | None, int | None]:
    """Peak, burst and growth in kB."""
    usage = close_window(window)
    peak, burst, growth = usage.memory_peak, usage.memory_burst, usage.memory_growth
    assert peak is not None
    assert burst is not None
    assert growth is not None
    return peak // 1024, burst // 1024, growth // 1024


@settings(max_examples=300)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("open"), st.just(0)),
            st.tuples(st.just("close"), st.integers(0, 99)),
            st.tuples(st.just("discard"), st.integers(0, 99)),
            # Whole pages, as the kernel counts.
            st.tuples(st.just("use"), st.integers(1, 2_000).map(lambda pages: 4 * pages)),
        ),
        max_size=60,
    )
)
def test_each_window_has_the_figures_of_its_own_history(steps: list[tuple[str, int]]) -> None:
    with imitated() as kernel:
        histories: list[tuple[Window, list[int]]] = []
        for step, value in steps:
            if step == "open":
                histories.append((open_window(), [kernel.resident]))
            elif step == "use":
                kernel.use(value)
                for _, history in histories:
                    history.append(value)
            elif histories:
                window, history = histories.pop(value % len(histories))
                if step == "discard":
                    discard_window(window)
                else:
                    assert figures(window) == (
                        max(history),
                        max(history) - history[0],
                        history[-1] - history[0],
                    )
            assert module._meter.open == len(histories)
            if not histories:
                assert not module._meter.folded
                assert module._meter.marks.position() == 0


def test_only_opening_resets(kernel: Kernel) -> None:
    first = open_window()
    second = open_window()
    kernel.use(50_000)
    close_window(second)
    close_window(first)
    assert kernel.resets == 2
    assert kernel.mark == 50_000


def test_ten_thousand_open_windows_each_have_their_own_peak(kernel: Kernel) -> None:
    chance = random.Random(0)
    uses = [4 * chance.randrange(1, 100_000) for _ in range(10_000)]
    windows = []
    for use in uses:
        windows.append(open_window())
        kernel.use(use)
    later = 0
    expected = []
    for use, before in zip(reversed(uses), [*reversed(uses[:-1]), 10_000], strict=True):
        later = max(later, use)
        expected.append(max(later, before))
    expected.reverse()
    order = list(range(10_000))
    chance.shuffle(order)
    for index in order:
        usage = close_window(windows[index])
        assert usage.memory_peak == expected[index] * 1024
    assert module._meter.open == 0
    assert not module._meter.folded


def test_a_mark_that_somebody_else_resets_never_makes_a_burst_negative(kernel: Kernel) -> None:
    window = open_window()
    kernel.use(2_000)
    kernel.mark = 2_000
    assert figures(window) == (10_000, 0, -8_000)


def test_a_signal_handler_inside_the_meter_spoils_nothing(kernel: Kernel) -> None:
    """It comes in at the reset, where the lock is held and the books are half written."""
    outer = open_window()
    kernel.use(60_000)
    kernel.use(20_000)
    inside: list[Window] = []
    to_close = open_window()
    kernel.use(28_000)

    def handler() -> None:
        kernel.on_reset = lambda: None
        inside.append(open_window())
        kernel.use(40_000)
        usage = close_window(open_window())
        assert usage.memory_peak is None
        assert usage.memory_growth == 0
        assert figures(to_close)[0] == 40_000
        kernel.use(24_000)

    kernel.on_reset = handler
    interrupted = open_window()
    kernel.use(32_000)
    # Growth runs from before the lock, the rest from the reset.
    assert figures(interrupted) == (32_000, 8_000, 4_000)
    usage = close_window(inside[0])
    assert usage.memory_peak is None
    assert usage.wall > 0
    assert figures(outer)[0] == 60_000
    assert module._meter.open == 0
    assert not module._meter.folded


def test_an_exception_out_of_a_signal_handler_leaves_the_meter_whole(kernel: Kernel) -> None:
    outer = open_window()

    def interrupt() -> None:
        kernel.on_reset = lambda: None
        raise KeyboardInterrupt

    kernel.on_reset = interrupt
    with pytest.raises(KeyboardInterrupt):
        open_window()
    free = []

    def try_lock() -> None:
        if module._meter.lock.acquire(timeout=5):
            module._meter.lock.release()
            free.append(True)

    thread = threading.Thread(target=try_lock)
    thread.start()
    thread.join()
    assert free
    assert not module._meter.busy
    kernel.use(30_000)
    assert figures(outer) == (30_000, 20_000, 20_000)
    assert module._meter.open == 0


def test_a_window_leaves_no_cycle_behind() -> None:
    close_window(open_window())
    gc.collect()
    gc.disable()
    try:
        for _ in range(100):
            close_window(open_window())
            discard_window(open_window())
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_real_signals_and_threads_come_in_anywhere() -> None:
    """A handler opens and closes windows on top of two threads that do so: nothing hangs or drifts."""
    handled = []

    def handler(number: int, frame: object) -> None:
        handled.append(close_window(open_window()).wall)

    def work() -> None:
        windows: list[Window] = []
        chance = random.Random(1)
        for _ in range(10_000):
            windows.append(open_window())
            if len(windows) > 5:
                close_window(windows.pop(chance.randrange(len(windows))))
        for window in windows:
            close_window(window)

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
    try:
        thread = threading.Thread(target=work)
        thread.start()
        work()
        thread.join(60)
        assert not thread.is_alive()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(handled) > 10
    assert min(handled) > 0
    close_window(open_window())
    assert module._meter.open == 0
    assert not module._meter.deferred
    assert not module._meter.folded


def test_a_window_may_be_opened_and_closed_on_different_threads() -> None:
    windows: list[Window] = []
    opener = threading.Thread(target=lambda: windows.append(open_window()))
    opener.start()
    opener.join()
    time.sleep(0.01)
    usage = close_window(windows[0])
    assert usage.wall >= 0.01
    assert usage.memory_peak is None or usage.memory_peak > 0


def test_importing_the_meter_opens_nothing_and_loads_little() -> None:
    code = (
        "import os, sys; before = set(os.listdir('/proc/self/fd')); import ttstrace.monitor; "
        "assert set(os.listdir('/proc/self/fd')) == before; "
        "print([name for name in ('psutil', 'opentelemetry.sdk', 'numpy', 'torch') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_the_method_is_said() -> None:
    assert memory_method() in ("clear_refs", "rise", "unknown")
    assert module.memory_method_reason()


@pytest.mark.parametrize("closing", [False, True])
def test_a_handler_may_come_in_at_any_line(closing: bool) -> None:
    """Once at each line of opening, overlapping and closing.

    It opens a window that ends and one that stays, or closes the only other one that is open.
    """
    moments = 0
    for moment in range(300):
        with imitated() as kernel:
            first = open_window()
            kernel.use(48_000)
            kernel.use(16_000)
            came: list[Window] = []
            lines = 0

            def interrupt(frame: types.FrameType, event: str, argument: object) -> object:
                nonlocal lines
                if frame.f_code.co_filename == __file__:
                    return None
                if lines == moment:  # noqa: B023
                    sys.settrace(None)
                    if closing:
                        came.append(first)  # noqa: B023
                        close_window(first)  # noqa: B023
                    else:
                        came.append(open_window())  # noqa: B023
                        close_window(open_window())
                    return None
                lines += 1
                return interrupt

            sys.settrace(interrupt)
            second = open_window()
            kernel.use(32_000)
            third = open_window()
            kernel.use(20_000)
            close_window(second)
            sys.settrace(None)
            if not came:
                break
            moments += 1
            assert second.memory_peak == 32_000 * 1024
            if not closing:
                close_window(first)
            assert first.memory_peak == 48_000 * 1024
            fourth = open_window()
            kernel.use(28_000)
            kernel.use(24_000)
            fifth = open_window()
            assert figures(third)[0] == 32_000
            if not closing:
                assert close_window(came[0]).memory_peak in (None, 32_000 * 1024, 28_000 * 1024)
            assert figures(fourth)[0] == 28_000
            assert figures(fifth)[0] == 24_000
            # What came in at the very last line is let go by the next.
            discard_window(open_window())
            assert (module._meter.open, module._meter.folded, module._meter.deferred) == (0, False, [])
    assert moments > 60
