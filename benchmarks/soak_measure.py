"""What a part of the soak is measured with: what the process holds before and after, and what its calls came to."""

from __future__ import annotations

import gc
import itertools
import os
import random
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from soak_ledger import Ledger, Sink, metric_doubts
from soak_shapes import OUTER, SHAPES, STAGES, Host

from ttstrace import endings, streams
from ttstrace.monitor import window

MB = 2**20
PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0
RESIDENT_MAX = 5 * MB
OBJECTS_MAX = 0.01
"""Per call: what leaks once in a call of one shape out of forty leaks more."""
PATIENCE = 60.0  # seconds, for what another thread or process does in milliseconds


# --- what a process holds ----------------------------------------------------------------------------------------


class Held(NamedTuple):
    """What the process has, once everything that can be let go is let go."""

    resident: int
    """Bytes, by /proc/self/statm."""
    objects: int
    """Blocks of the interpreter's allocator: every small object is one."""
    descriptors: int
    threads: int
    """As the kernel counts them."""


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def held(reader: InMemoryMetricReader, threads: int | None = None) -> Held:
    """What is held now.

    Args:
        reader: is emptied of the exemplars it has, up to one for each bucket of each series.
        threads: as many as there are to be: a thread that was joined may still be on its way out.
    """
    endings.drain()
    reader.get_metrics_data()
    streams._classes.clear()  # a cache of up to 128 classes
    gc.collect()
    endings.drain()
    gc.collect()
    deadline = time.monotonic() + PATIENCE
    while threads is not None and len(os.listdir("/proc/self/task")) > threads and time.monotonic() < deadline:
        time.sleep(0.01)
    return Held(
        resident(), sys.getallocatedblocks(), len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))
    )


@dataclass
class Figures:
    """What one part came to."""

    part: str
    calls: int = 0
    spans: int = 0
    """Ended, of syntheses and of stages."""
    lost: int = 0
    """Calls' spans that did not end, in the warm-up as well; so with the next two."""
    twice: int = 0
    """Spans that ended again, or that no call was to give."""
    wrong: int = 0
    """Spans whose figures are not the truth, and everything else that went wrong."""
    resident: int = 0
    """Bytes more than after the warm-up; so with the next three."""
    objects: int = 0
    descriptors: int = 0
    threads: int = 0
    highest: int = 0
    """Resident bytes above the warm-up's, at the worst moment that was looked at."""
    curve: list[int] = field(default_factory=list)
    """The same at each tenth of the way: a leak rises to the end, what the allocator keeps does not."""
    forks: int = 0
    seconds: float = 0.0
    broken: list[str] = field(default_factory=list)
    """Which bounds, in words."""
    grew: list[str] = field(default_factory=list)
    """Lines of code that hold more than after the warm-up, where that was asked for."""


# --- the soak ----------------------------------------------------------------------------------------------------


class Soak:
    """Everything that the parts share. The providers that are set are to be those of the first three.

    Args:
        ledger, sink, reader: see there.
        folder: for files of its own.
        seed: what is random goes by it.
        tell: is told how far a part is, now and then: its name, calls done, calls to do.
    """

    def __init__(
        self,
        ledger: Ledger,
        sink: Sink,
        reader: InMemoryMetricReader,
        folder: str,
        seed: int = 1,
        tell: Callable[[str, int, int], None] = lambda part, done, of: None,
    ) -> None:
        self.ledger = ledger
        self.sink = sink
        self.reader = reader
        self.folder = folder
        self.random = random.Random(seed)
        self.forks = 0
        self._tell = tell
        self._hosts: list[Host] = []
        self._part = ""
        self._highest = 0
        self._curve: list[int] = []
        self._numbers = itertools.count()
        # Metrics tell 100 models apart, and the SDK keeps what it counts for each: that is no leak, and comes first.
        with Host(ledger, os.path.join(folder, "first.wav")) as host:
            for shape in (*SHAPES, *["many"] * 100):
                host.call(shape, self.number())
        gc.collect()
        gc.freeze()  # else each collection looks at all that is loaded

    def number(self) -> int:
        """One that was never given before."""
        return next(self._numbers)

    def host(self) -> Host:
        """A host whose calls count; to be entered and left by the thread that uses it."""
        host = Host(self.ledger, os.path.join(self.folder, f"{os.getpid()}-{len(self._hosts)}.wav"))
        self._hosts.append(host)
        return host

    def step(self, done: int, of: int) -> None:
        now = resident()
        self._highest = max(self._highest, now)
        if done * 10 >= of * len(self._curve):
            self._curve.append(now)
        self._tell(self._part, done, of)

    def measure(
        self,
        part: str,
        run: Callable[[Soak, int], None],
        warm: int,
        full: int,
        *,
        noise: int = 100,
        trace: bool = False,
    ) -> Figures:
        """Run a part twice, and say what was wrong, and what the second time left.

        Args:
            part: its name.
            run: makes about so many calls.
            warm: how many the first time.
            full: how many the second.
            noise: objects that come and go by chance.
            trace: also find the lines of code that hold more than before, which takes several times as long.
        """
        ledger, found = self.ledger, Figures(part)
        wrong, twice, complaints = ledger.wrong, ledger.twice, len(ledger.complaints)
        self._part = part
        if trace:
            tracemalloc.start()
        self._run(run, warm, found)
        snapshot = _snapshot(self.reader) if trace else None
        found.spans = found.forks = self._highest = 0
        self._curve = []
        before = held(self.reader)
        began = time.monotonic()
        found.calls = self._run(run, full, found)
        found.seconds = time.monotonic() - began
        after = held(self.reader, before.threads)
        if snapshot is not None:
            found.grew = [
                str(line)
                for line in _snapshot(self.reader).compare_to(snapshot, "lineno")[:12]
                if line.size_diff > 0 and line.count_diff > 10 + found.calls // 100
            ]
            tracemalloc.stop()
        found.wrong += ledger.wrong - wrong
        found.twice += ledger.twice - twice
        found.resident, found.objects, found.descriptors, found.threads = (
            now - then for now, then in zip(after, before, strict=True)
        )
        found.curve = [now - before.resident for now in self._curve]
        found.highest = max(self._highest, after.resident) - before.resident
        open_windows = window._meter.open
        innermost = sum(count for model, count in ledger.ended.items() if model not in _NOT_INNERMOST)
        for bound, held_to in (
            (f"{found.lost} spans are lost", not found.lost),
            (f"{found.twice} spans ended twice, or nobody called for them", not found.twice),
            (f"{ledger.open} spans are still open", not ledger.open),
            (f"{open_windows} windows of the meter are still open", not open_windows),
            (f"resident memory grew by {found.resident / MB:.1f} MB", found.resident < RESIDENT_MAX),
            (f"{found.objects} more objects are held", found.objects < noise + found.calls * OBJECTS_MAX),
            (f"{found.descriptors} more descriptors are open", found.descriptors <= 0),
            (f"{found.threads} more threads are alive", found.threads <= 0),
            (f"{found.wrong} things are wrong, first: {ledger.complaints[complaints:][:3]}", not found.wrong),
            *((said, False) for said in metric_doubts(self.reader, innermost)),
        ):
            if not held_to:
                found.broken.append(bound)
        return found

    def _run(self, run: Callable[[Soak, int], None], calls: int, found: Figures) -> int:
        """How many calls were made; their spans are added to `found`."""
        before, forks = self.ledger.ended.copy(), self.forks
        self._hosts.clear()
        run(self, calls)
        endings.drain()
        gc.collect()
        endings.drain()
        ended = self.ledger.ended - before
        made: Counter[str] = sum((host.made for host in self._hosts), start=Counter())
        calls = sum(host.calls for host in self._hosts)
        self._hosts.clear()
        found.spans += ended.total()
        found.lost += (made - ended).total()
        found.twice += (ended - made).total()
        found.forks += self.forks - forks
        return calls


_NOT_INNERMOST = (OUTER, *STAGES)


def _snapshot(reader: InMemoryMetricReader) -> tracemalloc.Snapshot:
    held(reader)
    return tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(False, tracemalloc.__file__)])
