"""Resident memory read over and over, for systems whose high-water mark cannot be reset.

A sampler misses what comes and goes between two of its readings, and everything that C code takes and gives back
while it holds the interpreter's lock: no thread of Python runs meanwhile. What it says is therefore a lower bound,
and :mod:`ttstrace.monitor.window` takes the kernel's mark wherever that rose.
"""

from __future__ import annotations

import sys
import threading
from _thread import start_new_thread
from collections.abc import Callable
from time import sleep

from ttstrace.monitor.suffix import SuffixMaximum

INTERVAL = 0.005
"""Seconds between two readings: as long as the interpreter lets one busy thread run before another gets its turn."""
LINGER = 0.1
"""Seconds the thread waits for another window before it ends, so that rapid calls do not start one each."""


class Sampler:
    """The highest of all readings since a window was entered, for each of the windows that are open.

    One thread reads, while there are windows. It takes no lock, so that whatever freezes it (the interpreter's exit)
    holds up nobody; it is none of :mod:`threading`'s, whose own lock a signal handler that opens a window may have
    interrupted, so it is not waited for at exit. In a forked child there is no such thread: a child makes a sampler
    of its own.

    Args:
        read: gives resident memory in bytes, None where that is unknown. Never raises.
    """

    __slots__ = ("_busy", "_deferred", "_folded", "_lock", "_marks", "_open", "_read", "_segment", "_thread", "refused")

    def __init__(self, read: Callable[[], int | None]) -> None:
        self._read = read
        # Re-entrant, as a signal handler or a finalizer may come in on a thread that is in here; it then finds this
        # busy, its window goes without samples, and one that it closes is let go by the next that closes.
        self._lock = threading.RLock()
        self._busy = False
        self._deferred: list[None] = []
        self._open = 0
        # The highest reading since the last window was entered, in a list that is replaced when the next one is: a
        # reading that an entering window overtook goes into the old list and is lost, as it is not that window's.
        # The entering window's own reading stands in for it.
        self._segment = [0]
        self._marks = SuffixMaximum()  # the highest of each earlier segment that found windows open
        self._folded = False
        self._thread: object = None  # which thread is to go on reading
        self.refused = ""
        """Why the last thread could not be started; empty where it could."""

    def enter(self) -> tuple[int, int | None]:
        """A window opens.

        Returns:
            The position to :meth:`leave` with, below 0 where nothing will be read for this window; and resident
            memory now, None where that is unknown.
        """
        before = self._segment
        resident = self._read()
        with self._lock:
            if self._busy:
                return -1, resident
            try:
                self._busy = True
                # Counted before the thread is looked at, which looks at the count after it gave up.
                self._open += 1
                if self._thread is None:
                    self._start()
                position = 0
                if self._open > 1:
                    highest = self._segment[0]
                    if resident is not None and resident > highest and self._segment is before:
                        highest = resident
                    self._folded = True
                    position = self._marks.push(highest) + 1
                self._segment = [0]
            except BaseException as error:
                self._open -= 1
                if not isinstance(error, Exception):  # out of a signal handler
                    raise
                self.refused = f"no thread can be started: {error}"
                return -1, resident
            finally:
                self._busy = False
        return position, resident

    def leave(self, position: int) -> int:
        """A window closes. Returns the highest reading since it was entered; 0 where there was none."""
        with self._lock:
            highest = self._segment[0]
            if self._folded:
                highest = max(highest, self._marks.since(position))
            if self._busy:
                self._deferred.append(None)
                return highest
            try:
                self._busy = True
                self._open -= 1
                while self._deferred:
                    self._deferred.pop()
                    self._open -= 1
                if self._folded and not self._open:
                    self._marks.clear()
                    self._folded = False
            finally:
                self._busy = False
        return highest

    def _start(self) -> None:
        if sys.is_finalizing():
            raise RuntimeError("the interpreter is at its end")
        thread = self._thread = object()
        try:
            start_new_thread(self._run, (thread,))
        except BaseException:
            self._thread = None
            raise
        self.refused = ""

    def _run(self, thread: object) -> None:
        idle = 0.0
        segment = None
        try:
            while self._thread is thread:
                if self._open or self._segment is not segment:  # open, or opened and closed again meanwhile
                    idle = 0.0
                    segment = self._segment
                    resident = self._read()
                    if resident is not None and resident > segment[0]:
                        segment[0] = resident
                elif idle < LINGER:
                    idle += INTERVAL
                else:
                    self._thread = None
                    if not self._open:
                        return
                    # A window was entered just now. It may have started a thread: of the two, the one whose mark
                    # stands goes on.
                    if self._thread is None:
                        self._thread = thread
                sleep(INTERVAL)
        except Exception:  # the next window starts another
            pass
        finally:
            if self._thread is thread:
                self._thread = None
