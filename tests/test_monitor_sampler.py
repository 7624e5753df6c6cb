"""The sampler: bursts of known size where the kernel's mark cannot be reset, each in a fresh process."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import textwrap
import threading
import time
import types
from _thread import start_new_thread
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from memory_programs import PREAMBLE, near, results

import ttstrace.monitor.sampler as sampler_module
import ttstrace.monitor.window as window_module
from ttstrace.monitor import close_window, memory_method, open_window
from ttstrace.monitor.meter import Meter
from ttstrace.monitor.sampler import Sampler

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
exact = pytest.mark.skipif(memory_method() != "clear_refs", reason="the mark cannot be reset here")

MB = 2**20

# A process whose /proc is really mounted read-only, as in a container that is: writing to clear_refs is refused.
READ_ONLY = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
READ_ONLY += ["sh", "-c", 'mount --rbind /proc /proc && mount -o remount,ro,bind /proc && exec "$@"', "sh"]


@cache
def can_be_read_only() -> bool:
    try:
        return subprocess.run([*READ_ONLY, "true"], capture_output=True, timeout=60).returncode == 0
    except OSError:
        return False


HELPERS = """
import ttstrace.monitor.window as module

def hold(megabytes, seconds=0.06):
    kept = bytearray(megabytes * MB)
    time.sleep(seconds)
    del kept

def tasks():
    return {int(name) for name in os.listdir(f"/proc/{os.getpid()}/task")}

def alone():
    deadline = time.monotonic() + 20
    while len(tasks()) > 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    return len(tasks()) == 1

# Nothing below rises above this mark.
burst(450)
"""
PATHS = {
    "clear_refs_path_that_does_not_exist": ["CLEAR_REFS"],
    "psutil_as_the_proc_paths_do_not_exist": ["CLEAR_REFS", "STATM", "STATUS"],
}


def sampled(how: str, code: str) -> Any:
    """What ``code`` gives in a process where the mark cannot be reset."""
    launcher = ""
    patches = ""
    if how == "read_only_proc":
        if not can_be_read_only():
            pytest.skip("no mount namespace can be made here")
        launcher = f"import os, sys; os.execvp('unshare', [*{READ_ONLY!r}, sys.executable, '-c', sys.argv[1]])"
    else:
        patches = "".join(f"meter_module.{name} = '/nowhere/at/all'\n" for name in PATHS[how])
        patches += "module._meter = meter_module.Meter()\n"
    return results(HELPERS + patches + textwrap.dedent(code), launcher=launcher)


each_way = pytest.mark.parametrize("how", ["read_only_proc", *PATHS])
PATH = "clear_refs_path_that_does_not_exist"


def about(megabytes: float) -> Any:
    return pytest.approx(megabytes, abs=2, rel=0.02)


@each_way
@pytest.mark.parametrize("megabytes", [5, 50, 200])
def test_a_burst_held_for_60_ms_below_the_mark_is_seen(how: str, megabytes: int) -> None:
    method, reason, before, used, (peak, burst, growth) = sampled(
        how,
        f"""
        method = memory_method()
        before = resident()
        window = open_window()
        hold({megabytes})
        found = figures(window)
        give(method, memory_method_reason(), before, window.memory_method, found)
        """,
    )
    assert method == used == "sampler"
    assert ("/proc/self/clear_refs" if how == "read_only_proc" else "/nowhere/at/all") in reason
    assert burst == about(megabytes)
    assert peak == about(before + megabytes)
    assert growth == near(0)


@each_way
def test_overlapping_windows_each_have_their_own_peak(how: str) -> None:
    first, second, third, middle = sampled(
        how,
        """
        first = open_window()
        hold(200)
        second = open_window()
        hold(100)
        third = open_window()
        middle = figures(second)
        hold(50)
        first = figures(first)
        give(first, middle, figures(third), module._meter.sampler._open)
        """,
    )
    assert [first[1], second[1], third[1]] == [about(200), about(100), about(50)]
    assert middle == 0


@each_way
def test_what_was_given_back_before_a_window_is_not_in_it(how: str) -> None:
    [bursts] = sampled(
        how,
        """
        outer = open_window()
        found = []
        for _ in range(100):
            hold(15, 0.006)
            found.append(figures(open_window())[1])
        give(found)
        """,
    )
    assert max(bursts) < 2


@each_way
def test_what_c_code_takes_is_exact_where_the_mark_rises_and_a_lower_bound_below(how: str) -> None:
    # Without VmHWM to be read, the mark of a process that this one starts does not rise before it passes our own.
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024 + 400
    risen, risen_method, below, below_method, outer = sampled(
        how,
        f"""
        outer = open_window()
        window = open_window()
        burst({most})
        risen = figures(window)
        below = open_window()
        burst(300)
        found = figures(below)
        give(risen, window.memory_method, found, below.memory_method, figures(outer))
        """,
    )
    assert risen_method == "rise"
    assert risen[1] == near(most)
    assert outer[1] == near(most)
    assert below_method == "sampler"
    # What the sampler cannot see: no thread runs while C code holds the interpreter's lock.
    assert below[1] < 302


def test_ten_thousand_open_windows_keep_their_own_peaks() -> None:
    mine, later, first, last, kept = sampled(
        PATH,
        """
        before = [open_window() for _ in range(5000)]
        hold(80)
        after = [open_window() for _ in range(5000)]
        hold(40)
        mine = open_window()
        hold(20)
        found = [figures(window)[1] for window in (mine, after[2500], before[0], before[4999])]
        for window in before[1:4999] + after[:2500] + after[2501:]:
            discard_window(window)
        give(*found, [module._meter.sampler._open, module._meter.sampler._folded, alone()])
        """,
    )
    assert [mine, later, last] == [about(20), about(40), about(80)]
    # The windows themselves are memory that became resident.
    assert first == pytest.approx(80, abs=5)
    assert kept == [0, False, True]


@each_way
def test_the_thread_is_there_only_while_windows_are(how: str) -> None:
    before, during, after, again = sampled(
        how,
        """
        before = alone()
        first, second = open_window(), open_window()
        close_window(first)
        time.sleep(0.3)
        during = len(tasks())
        discard_window(second)
        after = alone()
        window = open_window()
        hold(50)
        give(before, during, after, figures(window)[1])
        """,
    )
    assert (before, during, after) == (True, 2, True)
    assert again == about(50)


def test_rapid_windows_share_one_thread() -> None:
    [threads] = sampled(
        PATH,
        """
        alone()
        seen = set()
        for pause in [0.001] * 300 + [0.02] * 20:
            close_window(open_window())
            seen |= tasks() - {os.getpid()}
            time.sleep(pause)
        give(len(seen))
        """,
    )
    assert threads == 1


@exact
def test_there_is_no_thread_where_the_mark_can_be_reset() -> None:
    method, during, used = results(
        """
        window = open_window()
        time.sleep(0.05)
        during = len(os.listdir("/proc/self/task"))
        close_window(window)
        give(memory_method(), during, window.memory_method)
        """
    )
    assert (method, during, used) == ("clear_refs", 1, "clear_refs")


def test_there_is_no_thread_where_the_user_forbids_resets() -> None:
    method, during, (risen, used), (lower, unknown) = results(
        """
        def measured(megabytes):
            window = open_window()
            burst(megabytes)
            return figures(window)[1], window.memory_method
        window = open_window()
        time.sleep(0.05)
        during = len(os.listdir("/proc/self/task"))
        give(memory_method(), during, measured(200), measured(100))
        """,
        {"TTSTRACE_MEMORY_RESET": "0"},
    )
    assert (method, during) == ("rise", 1)
    assert (risen, used) == (near(200), "rise")
    assert (lower, unknown) == (None, None)


def test_where_no_thread_can_be_started_a_rise_is_known_and_later_windows_try_again() -> None:
    refused, reason, below, risen, again, allowed = sampled(
        PATH,
        """
        import resource
        def measured(megabytes):
            window = open_window()
            hold(megabytes)
            return figures(window)[1], window.memory_method
        _, most = resource.getrlimit(resource.RLIMIT_NPROC)
        resource.setrlimit(resource.RLIMIT_NPROC, (1, most))
        if os.geteuid() == 0:
            os.setuid(65534)  # root is not held to the limit
        window = open_window()
        refused, reason = memory_method(), memory_method_reason()
        close_window(window)
        below, risen = measured(100), measured(600)
        resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
        give(refused, reason, below, risen, measured(100), memory_method())
        """,
    )
    assert refused == "rise"
    assert "thread" in reason
    assert below == [None, None]
    assert risen == [about(600), "rise"]
    assert again == [about(100), "sampler"]
    assert allowed == "sampler"


# --- forks and exits ---------------------------------------------------------------------------------------------


@each_way
def test_a_forked_child_has_no_thread_of_the_parents_and_starts_its_own(how: str) -> None:
    inherited, lone, child, parent = sampled(
        how,
        """
        first, second = open_window(), open_window()
        hold(100)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            lone = len(tasks())
            usage = close_window(first)
            discard_window(second)
            inherited = [usage.wall > 0, usage.cpu_time, usage.memory_peak, usage.memory_method, usage.memory_burst,
                         usage.memory_growth, usage.memory_utilization]
            burst(450)  # the child's mark begins at what is resident
            window = open_window()
            hold(50)
            found = [figures(window)[1], window.memory_method, len(tasks()), alone()]
            os.write(writing, json.dumps([inherited, lone, found]).encode())
            os._exit(0)
        os.waitpid(child, 0)
        discard_window(second)
        give(*json.loads(os.read(reading, 65536)), figures(first)[1])
        """,
    )
    assert inherited == [True, None, None, None, None, None, None]
    assert lone == 1
    assert child == [about(50), "sampler", 2, True]
    assert parent == about(100)


def test_forks_at_any_moment_of_busy_threads_do_not_hang() -> None:
    [codes] = sampled(
        PATH,
        """
        stop = False
        def work():
            while not stop:
                close_window(open_window())
        threads = [threading.Thread(target=work, daemon=True) for _ in range(3)]
        for thread in threads:
            thread.start()
        codes = []
        for _ in range(30):
            child = os.fork()
            if child == 0:
                window = open_window()
                time.sleep(0.01)
                close_window(window)
                os._exit(0 if window.memory_peak and memory_method() == "sampler" else 1)
            codes.append(os.waitpid(child, 0)[1])
        stop = True
        give(codes)
        """,
    )
    assert codes == [0] * 30


@pytest.mark.parametrize("start", ["fork", "forkserver", "spawn"])
def test_pools_measure_in_their_workers(start: str, tmp_path: Path) -> None:
    if not can_be_read_only():
        pytest.skip("no mount namespace can be made here")
    (tmp_path / "program.py").write_text(
        textwrap.dedent(
            """
            import json, multiprocessing, os, sys, time
            from ttstrace.monitor import close_window, open_window

            def measured(megabytes):
                kept = bytearray(400 * 2**20)
                del kept
                window = open_window()
                kept = bytearray(megabytes * 2**20)
                time.sleep(0.06)
                del kept
                usage = close_window(window)
                return usage.memory_burst / 2**20, usage.memory_method

            if __name__ == "__main__":
                outer = open_window()
                with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
                    found = pool.map(measured, [20, 50, 100, 20])
                print(json.dumps([found, close_window(outer).memory_method]))
            """
        )
    )
    done = subprocess.run(
        [*READ_ONLY, sys.executable, str(tmp_path / "program.py"), start], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    found, own = json.loads(done.stdout)
    assert found == [[about(size), "sampler"] for size in (20, 50, 100, 20)]
    assert own in ("sampler", "rise")


def test_an_open_window_does_not_keep_the_process() -> None:
    started = time.monotonic()
    assert sampled(PATH, "window = open_window(); give(memory_method())") == ["sampler"]
    assert time.monotonic() - started < 30


def test_windows_at_exit_and_after_are_survived() -> None:
    """By then no thread can be started any more, or none would run."""
    code = HELPERS + textwrap.dedent(
        """
        import atexit
        meter_module.CLEAR_REFS = "/nowhere/at/all"
        module._meter = meter_module.Meter()
        def measured(when, os=os, sys=sys, open_window=open_window, close_window=close_window):
            usage = close_window(open_window())
            os.write(1, f"{when} {sys.is_finalizing()} {usage.wall >= 0} {usage.memory_growth is not None}\\n".encode())
        class Last:
            def __del__(self, measured=measured):
                measured("last")
        atexit.register(measured, "atexit")
        last = Last()
        """
    )
    done = subprocess.run([sys.executable, "-c", PREAMBLE + code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["atexit False True True", "last True True True"]


# --- what may go wrong -------------------------------------------------------------------------------------------


def test_a_host_that_closes_every_descriptor_loses_one_window() -> None:
    unknown, (_, burst, growth) = sampled(
        PATH,
        """
        window = open_window()
        os.closerange(3, 4096)
        close_window(window)
        unknown = figures(open_window())
        window = open_window()
        hold(50)
        give(unknown, figures(window))
        """,
    )
    assert unknown[2] is None
    assert burst == about(50)
    assert growth == near(0)


def test_a_psutil_that_raises_is_not_heard_of(monkeypatch: pytest.MonkeyPatch) -> None:
    class Raising:
        def memory_info(self) -> None:
            raise PermissionError("no")

    meter = Meter()
    meter.process = Raising()
    meter.method = "sampler"
    monkeypatch.setattr(window_module, "_meter", meter)
    usage = close_window(open_window())
    assert usage.memory_growth is None
    assert usage.memory_peak is None
    assert usage.memory_method is None
    assert usage.wall > 0


def test_a_reading_that_an_opening_overtook_is_not_that_windows() -> None:
    """The sampler's thread reads, a window opens, and only then the reading arrives."""
    main = threading.get_ident()
    reading, arrive, next_reading = threading.Event(), threading.Event(), threading.Event()
    resident = 10

    def read() -> int:
        if threading.get_ident() == main:
            return resident
        if arrive.is_set():
            next_reading.set()
            return 15
        reading.set()
        arrive.wait(20)
        return 200

    sampler = Sampler(read)
    first, _ = sampler.enter()
    assert reading.wait(20)
    resident = 20
    second, at_start = sampler.enter()
    arrive.set()
    assert next_reading.wait(20)
    assert at_start == 20
    assert sampler.leave(second) <= 15
    # What the opening window read itself stands in for the reading that was lost.
    assert sampler.leave(first) == 20


# Later Pythons do not tell of every instruction that is asked for in mid-call: there, lines have to do.
MOMENT = "opcode" if sys.version_info < (3, 12) else "line"


class Traced:
    """Runs something at one instruction of the sampler's own code, on this thread."""

    def __init__(self, moment: int, action: Any) -> None:
        self.left = moment
        self.action = action
        self.came = False

    def __call__(self, frame: types.FrameType, event: str, argument: object) -> Any:
        if not frame.f_code.co_filename.endswith(("monitor/sampler.py", "monitor/suffix.py")):
            return None
        frame.f_trace_lines, frame.f_trace_opcodes = MOMENT == "line", MOMENT == "opcode"
        if event == MOMENT:
            if self.left == 0:
                sys.settrace(None)
                self.came = True
                self.action()
                return None
            self.left -= 1
        return self


@pytest.mark.parametrize("closing", [False, True])
def test_a_handler_may_come_in_at_any_instruction(closing: bool) -> None:
    resident = [10]
    moments = 0
    for moment in range(2000):
        sampler = Sampler(lambda: resident[0])
        resident[0] = 10
        first, _ = sampler.enter()
        entered: list[int] = []

        def action() -> None:
            if closing:
                sampler.leave(first)  # noqa: B023
            else:
                entered.append(sampler.enter()[0])  # noqa: B023

        traced = Traced(moment, action)
        sys.settrace(traced)
        second, _ = sampler.enter()
        resident[0] = 50
        third, _ = sampler.enter()
        resident[0] = 20
        of_second = sampler.leave(second)
        sys.settrace(None)
        if not traced.came:
            break
        moments += 1
        assert second >= 0
        assert third >= 0
        assert of_second == 50
        if not closing:
            assert sampler.leave(first) == 50
        if entered and entered[0] >= 0:
            sampler.leave(entered[0])
        assert sampler.leave(third) <= 50
        # What came in at the very last is let go by the next.
        sampler.leave(sampler.enter()[0])
        assert (sampler._open, sampler._folded, sampler._deferred, sampler._busy) == (0, False, [], False)
    assert moments > (200 if MOMENT == "opcode" else 30)


@pytest.mark.parametrize("started", [False, True])
def test_an_exception_out_of_a_signal_handler_leaves_the_sampler_whole(
    started: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any) -> None:
        monkeypatch.undo()
        if started:
            start_new_thread(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(sampler_module, "start_new_thread", interrupted)
    resident = [10]
    sampler = Sampler(lambda: resident[0])
    with pytest.raises(KeyboardInterrupt):
        sampler.enter()
    assert (sampler._open, sampler._busy, sampler._thread) == (0, False, None)
    again, _ = sampler.enter()
    resident[0] = 50
    time.sleep(0.1)
    assert sampler.leave(again) == 50


# --- where a result says how it was measured ---------------------------------------------------------------------


TOLD = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from ttstrace import PerformanceMonitor, traced_synthesis
exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
@traced_synthesis
def speak(text):
    return None
speak("hello")
with PerformanceMonitor().measure() as metrics:
    pass
give(exporter.get_finished_spans()[0].attributes.get("tts.memory.method"), metrics.get("memory_method"))
"""


@each_way
def test_spans_and_dicts_say_that_they_were_sampled(how: str) -> None:
    assert sampled(how, TOLD) == ["sampler", "sampler"]


@exact
def test_spans_and_dicts_that_are_exact_say_nothing() -> None:
    assert results(TOLD) == [None, None]
