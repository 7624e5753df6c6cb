"""Memory of torch's CUDA allocator, with an exact peak for each of many overlapping windows.

The allocator keeps one peak per device. It is reset when a window opens, and just before that folded into the
windows already open. Nothing is reset when a window closes.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from ttstrace.monitor.meter import RESET_VARIABLE
from ttstrace.monitor.suffix import SuffixMaximum

if TYPE_CHECKING:
    from ttstrace.monitor.gpu.window import GpuWindow


class Allocation(NamedTuple):
    """What the allocator says of one device, in bytes."""

    current: int
    """Held by tensors now."""
    peak: int
    """Most that tensors held since the last reset."""
    reserved: int
    """Most that the allocator had from the driver since the last reset. With 0 the device was not in use."""


def allocation(cuda: Any, device: int) -> Allocation | None:
    """The allocator's figures for a device; None where it gives none. Makes no context on a device without one."""
    try:
        figures = cuda.memory_stats_as_nested_dict(device)
        held = figures["allocated_bytes"]["all"]
        return Allocation(int(held["current"]), int(held["peak"]), int(figures["reserved_bytes"]["all"]["peak"]))
    except Exception:  # an allocator that somebody plugged in need not count
        return None


class Mark(NamedTuple):
    """Where a window begins on one device."""

    position: int
    """Among the folded peaks."""
    floor: int
    """Bytes held at the start, and so no peak is lower. Without resets: the peak, above which one is known."""
    used: bool


class Held(NamedTuple):
    """What was held on one device at the end of a window."""

    allocated: int | None
    peak: int | None
    used: bool | None
    """Whether the allocator had memory there in the window; None where it does not say."""


class Ledger:
    """Folded peaks of one process's devices, and how many windows are open.

    A forked child needs a new one.
    """

    __slots__ = ("_busy", "_ever", "_folds", "_lock", "_open", "_resets")

    def __init__(self) -> None:
        self._lock = threading.RLock()  # re-entrant, as a signal handler may come in on a thread that is in here
        self._busy = False
        # As a list's length, whose methods are atomic: see `ttstrace.monitor.concurrency`.
        self._open: list[None] = []
        self._folds: list[SuffixMaximum] = []
        self._ever: list[int] = []
        self._resets: bool | None = None  # until the first window

    def open(self, cuda: Any) -> list[Mark | None] | None:
        """Begin a window on every device; only those are reset whose memory this process uses.

        Returns:
            A mark per device, None for one whose peak cannot be known; every such window is discarded
            once, after it was read. None, instead, for a window that comes in the midst of another's opening.
        """
        devices = int(cuda.device_count())
        counted = False
        try:
            with self._lock:
                if self._busy:
                    return None
                try:
                    self._busy = True
                    if self._resets is None:
                        self._resets = os.environ.get(RESET_VARIABLE, "").strip() != "0"
                    alone = not self._open
                    while len(self._folds) < devices:
                        self._folds.append(SuffixMaximum())
                        self._ever.append(0)
                    marks = [self._mark(cuda, device, alone) for device in range(devices)]
                    counted = True
                    self._open.append(None)
                finally:
                    self._busy = False
        except BaseException:  # an interruption: nobody gets the marks
            if counted:
                self._open.pop()
            raise
        return marks

    def _mark(self, cuda: Any, device: int, alone: bool) -> Mark | None:
        seen = allocation(cuda, device)
        if seen is None:
            return None
        if not self._resets:
            return Mark(0, seen.peak, seen.reserved > 0)
        fold = self._folds[device]
        if alone:
            fold.clear()
        if seen.reserved:
            self._ever[device] = max(self._ever[device], seen.peak)
            if not alone:
                fold.push(seen.peak)
            try:
                cuda.reset_peak_memory_stats(device)
            except Exception:
                return None
        return Mark(fold.position(), seen.current, seen.reserved > 0)

    def held(self, cuda: Any, marks: list[Mark | None]) -> list[Held]:
        """What is held on every device now, and the most that was in the window; then it is to be discarded."""
        return [self._held(cuda, device, mark) for device, mark in enumerate(marks)]

    def _held(self, cuda: Any, device: int, mark: Mark | None) -> Held:
        # Read before the folded peaks are: what is folded and reset in between is then among those.
        seen = allocation(cuda, device)
        if seen is None:
            return Held(None, None, None)
        if mark is None:
            return Held(seen.current, None, seen.reserved > 0)
        if not self._resets:
            return Held(seen.current, seen.peak if seen.peak > mark.floor else None, seen.reserved > 0)
        with self._lock:
            folded = self._folds[device].since(mark.position)
        return Held(seen.current, max(seen.peak, folded, mark.floor), mark.used or seen.reserved > 0 or folded > 0)

    def discard(self, window: GpuWindow) -> None:
        """Let go of a window, once."""
        if window.marks is not None:
            window.marks = None  # next to the count, with no call between: an interruption finds both or neither
            self._open.pop()

    def since_ever(self, cuda: Any) -> list[Held]:
        """What :meth:`held` says, of a window that began before CUDA was initialized and was never opened here."""
        found = []
        for device in range(int(cuda.device_count())):
            seen = allocation(cuda, device)
            if seen is None:
                found.append(Held(None, None, None))
                continue
            with self._lock:
                before = self._ever[device] if device < len(self._ever) else 0
            found.append(Held(seen.current, max(seen.peak, before), seen.reserved > 0 or before > 0))
        return found
