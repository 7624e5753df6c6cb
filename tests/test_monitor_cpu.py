"""Wall and CPU time against burns of known length."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest
from conftest import between

from ttstrace.monitor import close_window, open_window

ONE_CORE = "import time\nwhile time.process_time() < 0.3: pass"


def burn(seconds: float) -> None:
    """Busy for so much CPU time of the calling thread, mostly without the interpreter lock."""
    end = time.thread_time() + seconds
    block = b"x" * 100_000
    while time.thread_time() < end:
        hashlib.sha256(block)


def cpu_of(work: Callable[[], object]) -> tuple[float, float]:
    """CPU seconds that the window says and that the test's own clocks say."""
    before = time.process_time()
    window = open_window()
    work()
    cpu = close_window(window).cpu_time
    assert cpu is not None
    return cpu, time.process_time() - before


def test_a_millisecond_of_work_is_read_as_one() -> None:
    close_window(open_window())
    found = [cpu_of(lambda: burn(0.001)) for _ in range(20)]
    for said, true in found:
        assert 0.001 <= said <= true
    # The clocks are read one after the other; between them, what else there is to do may take its time, but not always.
    assert min(true - said for said, true in found) <= 0.0002


def test_sleep_is_no_work() -> None:
    said, true = cpu_of(lambda: time.sleep(0.05))
    assert said == pytest.approx(true, abs=0.005)


def test_two_threads_add_up() -> None:
    def work() -> None:
        threads = [threading.Thread(target=burn, args=(0.1,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    said, true = cpu_of(work)
    assert said >= 0.2
    assert said == pytest.approx(true, rel=0.01, abs=0.005)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not add up what children used")
def test_finished_children_count_and_earlier_ones_do_not() -> None:
    subprocess.run([sys.executable, "-c", ONE_CORE], check=True)
    window = open_window()
    subprocess.run([sys.executable, "-c", ONE_CORE], check=True)
    cpu = close_window(window).cpu_time
    assert cpu is not None
    assert 0.3 <= cpu < 0.6


def test_wall_time_is_the_callers_own_stopwatch() -> None:
    for seconds in (0.0, 0.001, 0.02):
        before = time.perf_counter()
        window = open_window()
        start = time.perf_counter()
        time.sleep(seconds)
        end = time.perf_counter()
        wall = close_window(window).wall
        assert wall == between(end - start, time.perf_counter() - before)


def test_overlapping_windows_each_have_their_own_time() -> None:
    begun = time.process_time()
    first = open_window()
    burn(0.05)
    middle = time.process_time()
    second = open_window()
    burn(0.02)
    one = close_window(first)
    first_spent = time.process_time() - begun
    burn(0.05)
    two = close_window(second)
    second_spent = time.process_time() - middle
    # The kernel's two ways to read CPU time are each rounded.
    assert one.cpu_time == between(0.07 - 20e-6, first_spent + 20e-6)
    assert two.cpu_time == between(0.07 - 20e-6, second_spent + 20e-6)
