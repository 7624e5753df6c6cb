"""Memory against bursts and growth of known size, each in a fresh process."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest
from memory_programs import PREAMBLE, near, results

from ttstrace.monitor import memory_method

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
exact = pytest.mark.skipif(memory_method() != "clear_refs", reason="the mark cannot be reset here")


@exact
@pytest.mark.parametrize("megabytes", [5, 50, 200])
def test_a_burst_inside_c_code_is_seen_whole(megabytes: int) -> None:
    before, (peak, burst, growth) = results(
        f"""
        before = resident()
        window = open_window()
        burst({megabytes})
        give(before, figures(window))
        """
    )
    assert burst == near(megabytes)
    assert peak == near(before + megabytes)
    assert growth == near(0)


@exact
def test_a_burst_before_the_window_or_after_it_is_not_in_it() -> None:
    first, second = results(
        """
        burst(200)
        window = open_window()
        burst(50)
        first = figures(window)
        burst(200)
        window = open_window()
        give(first, figures(window))
        """
    )
    assert first[1] == near(50)
    assert second[1] == near(0)


@linux
def test_memory_that_is_kept_is_growth_and_memory_given_back_is_negative() -> None:
    kept, given_back, nothing = results(
        """
        window = open_window()
        address = take(100)
        kept = figures(window)
        window = open_window()
        libc.free(address)
        given_back = figures(window)
        most = 0
        for _ in range(100):
            window = open_window()
            bytes(1000)
            most = max(most, abs(figures(window)[2]))
        give(kept, given_back, most)
        """
    )
    assert kept[2] == near(100)
    assert given_back[2] == near(-100)
    # Less than what getrusage and statm differ by.
    assert nothing < 0.1


@exact
@pytest.mark.parametrize("order", ["first ends first", "second ends first"])
def test_two_overlapping_windows_each_have_their_own_peak(order: str) -> None:
    base, first, second = results(
        f"""
        base = resident()
        first = open_window()
        burst(200)
        second = open_window()
        burst(100)
        if {order == "first ends first"}:
            one = figures(first)
            two = figures(second)
        else:
            two = figures(second)
            one = figures(first)
        give(base, one, two)
        """
    )
    assert first == [near(base + 200), near(200), near(0)]
    assert second == [near(base + 100), near(100), near(0)]


@exact
def test_twenty_windows_in_any_order_on_threads() -> None:
    """Each thread opens, then uses; they close in another order. Burst k is seen by windows 0 to k."""
    found = results(
        """
        sizes = [7 * k % 20 * 5 + 5 for k in range(20)]
        order = [11 * k % 20 for k in range(20)]
        windows, found = {}, {}
        def opening(k):
            windows[k] = open_window()
            burst(sizes[k])
        def closing(k):
            found[k] = figures(windows[k])[1]
        for work, ks in ((opening, range(20)), (closing, order)):
            for k in ks:
                thread = threading.Thread(target=work, args=(k,))
                thread.start()
                thread.join()
        give([(found[k], max(sizes[k:])) for k in range(20)])
        """
    )[0]
    # A thread's first stack pages are memory too.
    assert [burst for burst, _ in found] == [pytest.approx(size, abs=2) for _, size in found]


@exact
def test_a_discarded_window_is_let_go() -> None:
    [burst] = results(
        """
        import ttstrace.monitor.window as module
        window = open_window()
        discard_window(open_window())
        discard_window(window)
        assert module._meter.open == 0 and not module._meter.folded
        window = open_window()
        burst(50)
        give(figures(window)[1])
        """
    )
    assert burst == near(50)


@exact
def test_utilization_is_the_peak_over_what_the_process_may_use() -> None:
    utilization, peak, ram = results(
        """
        from ttstrace.monitor.limits import usable_memory
        usage = close_window(open_window())
        give(usage.memory_utilization, usage.memory_peak, usable_memory())
        """
    )
    assert utilization == pytest.approx(peak / ram)


# A process between the tests' own, which may be big, and the one that measures: the floor is then its small one.
SMALL_PARENT = """
import subprocess, sys
sys.exit(subprocess.run([sys.executable, "-c", sys.argv[1]]).returncode)
"""
BIG_PARENT = """
import subprocess, sys
big = bytearray(b"1") * (500 * 2**20)
sys.exit(subprocess.run([sys.executable, "-c", sys.argv[1]], close_fds={close_fds}).returncode)
"""


@exact
@pytest.mark.parametrize("close_fds", [True, False])
def test_the_child_of_a_big_parent_has_its_own_peak(close_fds: bool) -> None:
    floor, base, small, grown, beyond, after = results(
        """
        import resource
        floor = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        base = resident()
        window = open_window()
        burst(50)
        small = figures(window)
        outer = open_window()
        burst(100)
        window = open_window()
        burst(600)
        beyond = figures(window)
        outer = figures(outer)
        window = open_window()
        burst(20)
        give(floor, base, small, outer, beyond, figures(window))
        """,
        launcher=BIG_PARENT.format(close_fds=close_fds),
    )
    assert floor > 500
    assert small == [near(base + 50), near(50), near(0)]
    assert grown == [near(base + 600), near(600), near(0)]
    assert beyond == [near(base + 600), near(600), near(0)]
    assert after == [near(base + 20), near(20), near(0)]


@exact
def test_a_floor_that_shows_only_later_is_found() -> None:
    """The process is bigger than its floor at first, then gives memory back and comes down to it."""
    floor, base, small = results(
        """
        import resource
        floor = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        address = take(700)
        import ttstrace.monitor.window as module
        module._meter = meter_module.Meter()
        close_window(open_window())
        libc.free(address)
        base = resident()
        window = open_window()
        burst(50)
        give(floor, base, figures(window))
        """,
        launcher=BIG_PARENT.format(close_fds=True),
    )
    assert floor > 500
    assert small == [near(base + 50), near(50), near(0)]


RISE = """
method, reason = memory_method(), memory_method_reason()
window = open_window()
burst(100)
risen = figures(window)
window = open_window()
burst(50)
not_risen = figures(window)
outer = open_window()
window = open_window()
burst(200)
inner = figures(window)
give(method, reason, risen, not_risen, inner, figures(outer))
"""


@linux
def test_without_resets_a_peak_is_known_where_the_mark_rose() -> None:
    method, reason, risen, not_risen, inner, outer = results(RISE, {"TTSTRACE_MEMORY_RESET": "0"})
    assert method == "rise"
    assert "TTSTRACE_MEMORY_RESET" in reason
    assert risen[1:] == [near(100), near(0)]
    assert not_risen == [None, None, near(0)]
    assert inner[1:] == [near(200), near(0)]
    assert outer[1:] == [near(200), near(0)]


@linux
def test_without_resets_the_mark_is_left_alone() -> None:
    before, after, opened = results(
        """
        import resource
        def mark():
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        burst(200)
        before = mark()
        close_window(open_window())
        give(before, mark(), [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
                              if os.path.exists(f"/proc/self/fd/{fd}")])
        """,
        {"TTSTRACE_MEMORY_RESET": "0"},
    )
    assert after >= before
    assert not [path for path in opened if path.endswith("clear_refs")]


@linux
def test_a_mark_is_also_told_from_a_floor_without_resets() -> None:
    method, _, risen, not_risen, *_ = results(
        RISE, {"TTSTRACE_MEMORY_RESET": "0"}, launcher=BIG_PARENT.format(close_fds=True)
    )
    assert method == "rise"
    assert risen[1] == near(100)
    assert risen[0] < 200
    assert not_risen == [None, None, near(0)]


@linux
@pytest.mark.parametrize("missing", ["CLEAR_REFS", "STATM", "STATUS"])
def test_where_a_file_is_missing_the_rest_is_known(missing: str, tmp_path: Path) -> None:
    """The mark cannot be reset without any of them, and what rises is known all the same."""
    first = PREAMBLE.rstrip().splitlines()[-1]
    method, reason, risen, lower, _, outer = results(
        f"""
        import ttstrace.monitor.window as module
        meter_module.{missing} = {str(tmp_path / "none")!r}
        module._meter = meter_module.Meter()
        {first}
        """
        + textwrap.indent(RISE, "        "),
        launcher=SMALL_PARENT,
    )
    assert method == "sampler"
    assert str(tmp_path) in reason
    assert risen[1:] == [near(100), near(0)]
    # C code that holds the interpreter's lock keeps the sampler out.
    assert lower[0] is not None
    assert lower[1] < 52
    assert lower[2] == near(0)
    assert outer[1] == near(200)


@exact
@pytest.mark.parametrize("across", [False, True])
def test_a_host_that_closes_every_descriptor_is_not_written_to(across: bool, tmp_path: Path) -> None:
    path = tmp_path / "host"
    unknown, (_, burst, growth), before = results(
        f"""
        if {across}:
            open_before = open_window()
            burst(100)
        os.closerange(3, 4096)
        files = [open({str(path)!r}, "a+b") for _ in range(40)]
        unknown = figures(open_window())
        window = open_window()
        burst(50)
        mine = figures(window)
        give(unknown, mine, figures(open_before) if {across} else None)
        """
    )
    assert path.read_bytes() == b""
    assert unknown[0] is None
    assert burst == near(50)
    assert growth == near(0)
    if across:
        assert before[1] == near(100)


@exact
def test_a_forked_child_meters_itself_and_leaves_the_parent_alone() -> None:
    child, child_fork_open, parent = results(
        """
        window = open_window()
        burst(100)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            inherited = close_window(window)
            discard_window(window)
            own = open_window()
            burst(50)
            own = figures(own)
            names = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
                     if os.path.exists(f"/proc/self/fd/{fd}")]
            foreign = [name for name in names if name.startswith("/proc/") and name.endswith("clear_refs")
                       and f"/{os.getpid()}/" not in name]
            os.write(writing, json.dumps([
                [inherited.wall > 0, inherited.cpu_time, inherited.memory_peak, inherited.memory_burst,
                 inherited.memory_growth, inherited.memory_utilization, foreign], own]).encode())
            os._exit(0)
        os.close(writing)
        os.waitpid(child, 0)
        inherited, own = json.loads(os.read(reading, 65536))
        give(inherited, own, figures(window))
        """
    )
    assert child == [True, None, None, None, None, None, []]
    assert child_fork_open[1] == near(50)
    assert parent[1] == near(100)


@exact
def test_a_fork_while_another_thread_holds_the_lock_does_not_hang() -> None:
    [burst] = results(
        """
        import ttstrace.monitor.window as module
        held, done = threading.Event(), threading.Event()
        def hold():
            with module._meter.lock:
                module._meter.busy = True
                held.set()
                done.wait()
        threading.Thread(target=hold, daemon=True).start()
        held.wait()
        child = os.fork()
        if child == 0:
            window = open_window()
            burst(50)
            give(figures(window)[1])
            os._exit(0)
        os.waitpid(child, 0)
        done.set()
        """
    )
    assert burst == near(50)


@exact
def test_ten_thousand_open_windows_keep_their_own_peaks() -> None:
    found = results(
        """
        before = [open_window() for _ in range(5000)]
        burst(40)
        after = [open_window() for _ in range(5000)]
        burst(20)
        mine = open_window()
        burst(10)
        give([figures(mine)[1], figures(after[2500])[1], figures(before[0])[1], figures(before[4999])[1]])
        """
    )[0]
    assert found[:2] == [near(10), near(20)]
    # The windows themselves are memory that became resident.
    assert found[2:] == [pytest.approx(40, abs=4), near(40)]
