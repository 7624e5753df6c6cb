"""Windows of measurement: wall time, CPU time and memory of a stretch of the process's life.

Windows may overlap in any order, on any threads, and each has its own exact peak of memory without a sampling
thread: the kernel's high-water mark is reset when a window opens, and just before that it is folded into the
windows already open. Nothing is reset when a window closes, so that whoever else reads the mark still sees
the last one. Where resets are refused, the peak is exact where the mark rose inside the window, and else the
highest of what a thread read meanwhile (:mod:`ttstrace.monitor.sampler`). Where the user forbids resets, it is
known where the mark rose.

Code stands in line here where functions would read better, because a window is to cost its kernel reads and
little more. The clock is read at the very edge of the window, and the CPU time next to it.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from ttstrace.monitor.meter import MARK_UNIT, Meter, resident_of

_clock = time.perf_counter

if sys.platform == "win32":
    _SELF = _CHILDREN = 0
    _rusage: Any = None
    _read: Any = None
else:
    from resource import RUSAGE_CHILDREN as _CHILDREN
    from resource import RUSAGE_SELF as _SELF
    from resource import getrusage as _rusage

    _read = os.pread
_write = os.write


class Usage:
    """What was used in one window. None is unknown."""

    __slots__ = (
        "cpu_time",
        "memory_burst",
        "memory_growth",
        "memory_method",
        "memory_peak",
        "memory_utilization",
        "wall",
    )

    wall: float
    """Seconds from start to end, by a monotonic clock."""
    cpu_time: float | None
    """CPU seconds, user and system, of the process and of the children it waited for in the window.
    On Windows of the process alone: children's are not added up there."""
    memory_peak: int | None
    """Highest resident memory of the process, in bytes."""
    memory_method: str | None
    """How the peak was found: ``clear_refs``, the kernel's mark after a reset, exact; ``rise``, the mark, which
    rose above all that was before the window, exact too, but windows that stay below have none; ``sampler``, the
    highest of readings some milliseconds apart: a lower bound. None where the peak is unknown."""
    memory_burst: int | None
    """The peak less what was resident at the start, in bytes: the mark less the mark at the start."""
    memory_growth: int | None
    """Resident memory at the end less at the start, in bytes; negative where memory was given back."""
    memory_utilization: float | None
    """The peak / the memory the process may use: the smallest cgroup limit above it, or RAM."""


class Window(Usage):
    """One open measurement. Opaque until closed; then its own :class:`Usage`."""

    __slots__ = (
        "_children", "_counted", "_cpu", "_mark", "_meter", "_position", "_resident", "_sampled", "_start", "_statm",
    )  # fmt: skip

    _meter: Meter
    # Whether the meter counts it as open. Set and cleared next to the count, with no call between, so that an
    # interruption finds both or neither.
    _counted: bool
    # Where the window begins among the folded marks; below 0 for one that does not count on resets.
    _position: int
    _mark: int | None
    _cpu: float
    _children: float
    # Resident memory as statm says it; in bytes for a window that does not count on resets.
    _statm: bytes
    _resident: int | None
    # Where a window that does not count on resets begins among the sampler's marks; below 0 where it has no part.
    _sampled: int
    _start: float


_meter = Meter()


def open_window() -> Window:
    """Open a window, on any thread. The caller closes it or discards it, once, on any thread.

    Lowers the process's high-water mark of memory to what is resident now, which ``TTSTRACE_MEMORY_RESET=0``
    forbids.
    """
    meter = _meter
    window = Window()
    window._meter = meter
    window._counted = False
    window._position = 0
    if meter.clear_refs < 0:
        return _open_without_reset(window, meter)
    try:
        window._statm = _read(meter.statm, 64, 0)
        usage = _rusage(_CHILDREN)
        window._children = usage.ru_utime + usage.ru_stime
        with meter.lock:
            if meter.busy:
                return _open_unseen(window)
            try:
                meter.busy = True
                if meter.open:
                    mark = _rusage(_SELF).ru_maxrss
                    if mark <= meter.threshold:
                        mark = meter.above_floor(mark)
                    meter.folded = True
                    window._position = meter.marks.push(mark) + 1
                _write(meter.clear_refs, b"5")
                usage = _rusage(_SELF)
                mark = usage.ru_maxrss
                if mark <= meter.threshold:
                    mark = meter.above_floor(mark)
                window._mark = mark
                # Together they are exact: the kernel splits the scheduler's nanoseconds into the two.
                window._cpu = usage.ru_utime + usage.ru_stime
                meter.open += 1
                window._counted = True
            finally:
                meter.busy = False
        window._start = _clock()
    except BaseException as error:
        if window._counted or not isinstance(error, (OSError, ValueError)):  # out of a signal's handler
            discard_window(window)
            raise
        # Somebody closed the descriptors: this window goes without, the next opens them again.
        meter.forget()
        return _open_unseen(window)
    return window


def close_window(window: Window) -> Usage:
    """Close a window and say what was used in it. Where a signal's handler raises in here, it is yet to be discarded.

    In a forked child, a window of the parent's has a wall time and nothing else.
    """
    end = _clock()
    meter = window._meter
    window.wall = end - window._start
    position = window._position
    if position < 0 or meter is not _meter:
        return _close_without_reset(window, meter)
    usage = _rusage(_SELF)
    cpu = usage.ru_utime + usage.ru_stime - window._cpu
    # Read before the folded marks are: what is folded and reset in between is then among those.
    mark = usage.ru_maxrss
    if mark <= meter.threshold:
        try:
            mark = meter.above_floor(mark)
        except (OSError, ValueError):
            mark = -1
    with meter.lock:
        if meter.folded and mark >= 0:
            folded = meter.marks.since(position)
            if folded > mark:
                mark = folded
        _let_go(meter, window)
    usage = _rusage(_CHILDREN)
    window.cpu_time = cpu + (usage.ru_utime + usage.ru_stime - window._children)
    if mark < 0:
        window.memory_peak = window.memory_method = window.memory_burst = window.memory_utilization = None
    else:
        start_mark: int = window._mark  # type: ignore[assignment]
        if mark < start_mark:  # somebody else reset it
            mark = start_mark
        window.memory_peak = peak = mark * MARK_UNIT
        window.memory_method = "clear_refs"
        window.memory_burst = peak - start_mark * MARK_UNIT
        limit = meter.limit
        window.memory_utilization = peak / limit if limit else None
    try:
        statm = _read(meter.statm, 64, 0)
        if statm == window._statm:
            window.memory_growth = 0
        else:
            window.memory_growth = resident_of(statm) - resident_of(window._statm)
    except (OSError, ValueError, IndexError):
        window.memory_growth = None
    return window


def discard_window(window: Window) -> None:
    """Let go of a window whose figures nobody wants, in place of closing it. Of one that is closed nothing is left."""
    meter = window._meter
    if meter is not _meter:
        return
    if window._counted:
        with meter.lock:
            _let_go(meter, window)
    elif window._position < 0 <= window._sampled:
        _leave_sampler(window, meter)


def memory_method() -> str:
    """How peak memory is read in this process: ``clear_refs``, ``sampler``, ``rise`` or ``unknown``.

    With ``clear_refs`` every peak is exact. With ``sampler`` it is exact where the high-water mark rose in the
    window, and else the highest of readings some milliseconds apart, which miss what C code takes and gives back
    under the interpreter's lock. With ``rise`` it is known only where the mark rose.
    :func:`memory_method_reason` says why it is this one, and :attr:`Usage.memory_method` which it was for a window.
    """
    _meter.prepare()
    return "rise" if _meter.method == "sampler" and _meter.sampler.refused else _meter.method


def memory_method_reason() -> str:
    """Why :func:`memory_method` is what it is, for people."""
    _meter.prepare()
    refused = _meter.method == "sampler" and _meter.sampler.refused
    return f"{_meter.reason}, and {refused}" if refused else _meter.reason


def _let_go(meter: Meter, window: Window) -> None:
    """One window fewer; the lock is held."""
    if not window._counted:
        return
    window._counted = False
    if meter.busy:
        meter.deferred.append(None)
        return
    try:
        meter.busy = True
        meter.open -= 1
        while meter.deferred:
            meter.open -= 1
            meter.deferred.pop()
        if meter.folded and not meter.open:
            meter.marks.clear()
            meter.folded = False
    finally:
        meter.busy = False


def _open_unseen(window: Window) -> Window:
    """A window that the bookkeeping of the marks does not know, and whose peak is therefore unknown."""
    window._position = window._sampled = -1
    window._mark = None
    window._resident = window._meter.resident()
    return _start(window)


def _open_without_reset(window: Window, meter: Meter) -> Window:
    if not meter.method:
        meter.prepare()
        if meter.clear_refs >= 0:
            return open_window()
    window._position = window._sampled = -1
    try:
        window._mark = meter.mark()
        if meter.method == "sampler":
            window._sampled, window._resident = meter.sampler.enter()
        else:
            window._resident = meter.resident()
        if window._resident is None and meter.statm >= 0:
            meter.forget()  # somebody closed the descriptors: the next window opens them again
        return _start(window)
    except BaseException:  # an interruption: nobody gets it
        discard_window(window)
        raise


def _leave_sampler(window: Window, meter: Meter) -> int:
    position, window._sampled = window._sampled, -1
    return meter.sampler.leave(position)


def _start(window: Window) -> Window:
    window._children = _cpu_of_children()
    window._cpu = time.process_time()
    window._start = _clock()
    return window


def _close_without_reset(window: Window, meter: Meter) -> Usage:
    window.cpu_time = window.memory_peak = window.memory_burst = window.memory_growth = None
    window.memory_method = window.memory_utilization = None
    if meter is not _meter:
        return window
    window.cpu_time = time.process_time() - window._cpu + _cpu_of_children() - window._children
    before = window._resident
    after = meter.resident()
    if before is not None and after is not None:
        window.memory_growth = after - before
    peak = 0
    if window._sampled >= 0:
        peak = max(_leave_sampler(window, meter), before or 0, after or 0)
        window.memory_method = "sampler"
    mark = meter.mark()
    if window._mark is not None and mark is not None and mark > window._mark:
        peak = max(peak, mark * MARK_UNIT)
        window.memory_method = "rise"
    if peak:
        window.memory_peak = peak
        if before is not None:
            window.memory_burst = max(0, peak - before)
        if meter.limit:
            window.memory_utilization = peak / meter.limit
    else:
        window.memory_method = None
    return window


def _cpu_of_children() -> float:
    if sys.platform == "win32":
        return 0.0
    usage = _rusage(_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _begin_in_child() -> None:
    global _meter
    inherited = _meter
    _meter = Meter()
    inherited.close()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_begin_in_child)
