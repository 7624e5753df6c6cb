"""What one process measures with: descriptors of the kernel's files, a lock, the bookkeeping of open windows.

A forked child gets a new :class:`Meter`. A descriptor of ``/proc/self/...`` that was opened before the fork
goes on belonging to the parent (a child's reset would lower the parent's mark), the lock may be held by a
thread that the child does not have, and the windows that were open are the parent's.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from typing import Any

from ttstrace.monitor.limits import usable_memory
from ttstrace.monitor.sampler import Sampler
from ttstrace.monitor.suffix import SuffixMaximum

CLEAR_REFS = "/proc/self/clear_refs"
"""``5`` written here lowers the high-water mark to what is resident now: proc_pid_clear_refs(5)."""
STATM = "/proc/self/statm"
"""Resident memory in pages, as the second number: proc_pid_statm(5)."""
STATUS = "/proc/self/status"
"""``VmHWM`` is the high-water mark without the floor that ``ru_maxrss`` has: proc_pid_status(5)."""
RESET_VARIABLE = "TTSTRACE_MEMORY_RESET"
"""``0`` forbids resets, for hosts that read the mark themselves."""

_LOWEST_DESCRIPTOR = 200

if sys.platform == "win32":
    MARK_UNIT = 1
    PAGE_SIZE = 1
else:
    import fcntl
    import resource

    # ru_maxrss is in kilobytes everywhere but on macOS.
    MARK_UNIT = 1 if sys.platform == "darwin" else 1024
    PAGE_SIZE = os.sysconf("SC_PAGE_SIZE")


class Meter:
    """Descriptors and bookkeeping of one process; opened by :meth:`prepare` at the first window.

    Marks are kept as the kernel gives them, in units of :data:`MARK_UNIT` bytes.
    """

    __slots__ = (
        "busy",
        "clear_refs",
        "deferred",
        "folded",
        "limit",
        "lock",
        "marks",
        "method",
        "open",
        "process",
        "reason",
        "sampler",
        "statm",
        "status",
        "threshold",
    )

    def __init__(self) -> None:
        self.lock = threading.RLock()
        """Re-entrant: a signal handler or a finalizer may come in on a thread that holds it."""
        self.busy = False
        """What follows is being changed: whoever comes in on the same thread only reads it."""
        self.deferred: list[None] = []
        """One entry for each window that was closed by somebody who found ``busy``."""
        self.open = 0
        """Windows open that rely on resets."""
        self.marks = SuffixMaximum()
        """The mark as it was before each reset that found windows open."""
        self.folded = False
        """Whether there are any such marks."""
        self.threshold = sys.maxsize
        """A mark at or below this may be a floor: :meth:`above_floor`."""
        self.method = ""
        """``clear_refs``, ``sampler``, ``rise`` or ``unknown``; empty until prepared."""
        self.reason = ""
        self.sampler = Sampler(self.resident)
        """What windows are entered into where the method is ``sampler``."""
        self.clear_refs = self.statm = self.status = -1
        self.limit: int | None = None
        """Bytes of memory the process may use."""
        self.process: Any = None
        """psutil's view of the process, where there is no ``/proc``."""

    def prepare(self) -> None:
        """Open the descriptors, and settle how the peak is read here; does nothing where that is done."""
        with self.lock:
            if self.method:
                return
            self.limit = usable_memory()
            self.statm = _keep(STATM, os.O_RDONLY)
            self.status = _keep(STATUS, os.O_RDONLY)
            if self.statm < 0:
                self.process = _psutil_process()
            self.clear_refs = self._resettable()
            if self.clear_refs >= 0:
                self.method = "clear_refs"
            elif self.resident() is not None and not _resets_forbidden():
                self.method = "sampler"
            elif self.mark() is None:
                self.method = "unknown"
            else:
                self.method = "rise"

    def _resettable(self) -> int:
        """The descriptor that resets the mark; -1, and the reason, where that cannot be had."""
        if _resets_forbidden():
            self.reason = f"resets are switched off by {RESET_VARIABLE}=0"
            return -1
        descriptor = _keep(CLEAR_REFS, os.O_WRONLY)
        for path, kept in ((CLEAR_REFS, descriptor), (STATM, self.statm)):
            if kept < 0:
                self.reason = f"{path} is missing or refused"
                break
        else:
            try:
                if self.open:  # opened before the descriptors were found to be closed
                    self.folded = True
                    self.marks.push(self.mark() or 0)
                os.write(descriptor, b"5")
                self.above_floor(_rusage_mark())
            except (OSError, ValueError) as error:
                self.reason = f"{CLEAR_REFS} is refused, or VmHWM in {STATUS}: {error}"
            else:
                self.reason = f"{CLEAR_REFS} resets the mark"
                return descriptor
        if descriptor >= 0:
            os.close(descriptor)
        return -1

    def forget(self) -> None:
        """Give up descriptors that somebody closed. Not closed here: the numbers may be somebody's by now."""
        with self.lock:
            self.clear_refs = self.statm = self.status = -1
            self.method = ""

    def close(self) -> None:
        """Close the descriptors: in a forked child, where they are the parent's."""
        for descriptor in (self.clear_refs, self.statm, self.status):
            if descriptor >= 0:
                try:
                    os.close(descriptor)
                except OSError:
                    pass

    def above_floor(self, mark: int) -> int:
        """The true mark, for a ``mark`` of ``ru_maxrss`` at or below the threshold.

        ``ru_maxrss`` never falls below the peak of whoever started this process, whatever is reset; ``VmHWM``
        does. The floor shows when ``ru_maxrss`` comes down to it, so each lowest reading so far is checked
        against ``VmHWM``, and once a floor is found every reading that lies on it.

        Raises:
            OSError, ValueError: there is no ``VmHWM`` to be read.
        """
        if sys.platform == "win32":
            return mark
        status = os.pread(self.status, 8192, 0)
        start = status.index(b"VmHWM:") + 6
        true_mark = int(status[start : status.index(b"kB", start)])
        if true_mark < mark:
            self.threshold = mark
            return true_mark
        if mark < self.threshold:
            self.threshold = mark - 1
        return mark

    def mark(self) -> int | None:
        """The high-water mark; None where there is none."""
        if sys.platform != "win32":
            mark = _rusage_mark()
            if mark <= self.threshold:
                try:
                    mark = self.above_floor(mark)
                except (OSError, ValueError):  # no floor rises, so that a rise is a true one all the same
                    pass
            return mark or None
        return self._of_process("peak_wset")

    def resident(self) -> int | None:
        """Resident memory in bytes; None where the system does not say."""
        if sys.platform != "win32" and self.statm >= 0:
            try:
                return resident_of(os.pread(self.statm, 64, 0))
            except (OSError, ValueError, IndexError):
                return None
        return self._of_process("rss")

    def _of_process(self, name: str) -> int | None:
        try:
            return int(getattr(self.process.memory_info(), name))
        except Exception:  # psutil is not there, or may not look
            return None


def _resets_forbidden() -> bool:
    return os.environ.get(RESET_VARIABLE, "").strip() == "0"


def _rusage_mark() -> int:
    if sys.platform != "win32":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return 0


def resident_of(statm: bytes) -> int:
    """Resident memory in bytes, of the text of ``statm``."""
    return int(statm.split(b" ", 2)[1]) * PAGE_SIZE


def _keep(path: str, flags: int) -> int:
    """A descriptor to keep, with a high number; -1 where the file is missing or refused.

    A host may close every descriptor it finds, and its next files then get the low numbers. A high number
    stays closed, so that our next write fails instead of landing in a file of the host's.
    """
    if sys.platform != "win32":
        try:
            low = os.open(path, flags | os.O_CLOEXEC)
        except OSError:
            return -1
        try:
            return fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, _LOWEST_DESCRIPTOR)
        except OSError:
            return -1
        finally:
            os.close(low)
    return -1


def _psutil_process() -> Any:
    try:
        return importlib.import_module("psutil").Process()
    except Exception:
        return None
