"""What does not arrive at a collector, said once: when it begins, and in numbers when it is over."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field

from ttstrace.telemetry.troubles import Signal, Trouble, without_user

QUIET_SECONDS = 60.0
"""So long after its last loss, an outage is over with what arrives: one that comes and goes is one."""

_UNITS: dict[Signal, tuple[str, str]] = {
    "traces": ("span", "spans"),
    "metrics": ("collection of metrics", "collections of metrics"),
}

_logger = logging.getLogger(__name__)


@dataclass
class _Outage:
    trouble: Trouble
    lost: Counter[Signal] = field(default_factory=Counter)
    # What the log told of that; None while it has told nothing.
    told: Counter[Signal] | None = None
    # Of what nothing has arrived since.
    failing: set[Signal] = field(default_factory=set)
    last: float = 0.0


class Outages:
    """What one collector does not take, whatever is sent there.

    What is lost is what the collector did not say that it has taken: where an answer was lost on the way, that may
    have arrived.

    Args:
        address: the collector's.
    """

    def __init__(self, address: str) -> None:
        self._address = without_user(address)
        self.reset()

    def reset(self) -> None:
        """Begin anew, as a forked child does."""
        self._lock = threading.RLock()  # a signal handler may shut down what its own thread is at work on
        self._open: dict[str, _Outage] = {}
        self._to_say: deque[tuple[int, str]] = deque()
        self._closing = False

    def lost(self, signal: Signal, count: int, trouble: Trouble) -> None:
        """Note a loss; :meth:`say` says it if it is the first of its kind.

        Args:
            count: how many spans, or collections of metrics.
        """
        with self._lock:
            outage = self._open.setdefault(trouble.kind, _Outage(trouble))
            outage.lost[signal] += count
            outage.last = time.monotonic()
            for each in self._open.values():
                each.failing.discard(signal)
            outage.failing.add(signal)
            if outage.told is not None or self._closing:
                return
            outage.told = outage.lost.copy()
            self._to_say.append(
                (logging.WARNING, f"{self._address} {trouble}; lost so far: {_listed(outage.lost)}. {trouble.fix}")
            )

    def overflowed(self, count: int, trouble: Trouble) -> None:
        """Note spans that the queue had no room for: the outage's, if there is one, else of a kind of its own."""
        with self._lock:
            lately = [each.trouble for each in self._open.values() if "traces" in each.lost]
            self.lost("traces", count, lately[-1] if lately else trouble)

    def arrived(self, signal: Signal, *, made_good: bool = False) -> None:
        """Note that a whole export arrived, and say what was lost if that ends an outage.

        Args:
            made_good: what was lost of this signal before has arrived with it.
        """
        if not self._open:
            return
        with self._lock:
            for kind, outage in tuple(self._open.items()):
                outage.failing.discard(signal)
                if made_good:
                    outage.lost[signal] = 0
                if not outage.failing and time.monotonic() - outage.last >= QUIET_SECONDS:
                    del self._open[kind]
                    self._to_say.append(
                        (
                            logging.INFO if _all_told(outage) else logging.WARNING,
                            f"{self._address} takes what it is sent again; lost in all: {_listed(outage.lost)}. "
                            f"It was: {outage.trouble}.",
                        )
                    )
        self.say()

    def begin_end(self) -> None:
        """From here on, what is lost is said by :meth:`end`, all at once."""
        self._closing = True

    def end(self) -> None:
        """Say what was lost and not said yet."""
        with self._lock:
            self._to_say += [
                (
                    logging.WARNING,
                    f"{self._address} {outage.trouble}; lost in all: {_listed(outage.lost)}."
                    + (f" {outage.trouble.fix}" if outage.told is None else ""),
                )
                for outage in self._open.values()
                if outage.lost.total() and not _all_told(outage)
            ]
            self._open.clear()
            self._closing = False
        self.say()

    def say(self) -> None:
        """Log what there is to say. Not with a lock held: whoever gets it may be recording spans, too."""
        while True:
            try:
                level, line = self._to_say.popleft()
            except IndexError:
                return
            try:
                _logger.log(level, "%s", line.rstrip())
            except Exception:  # a log handler that fails is no reason to lose what comes next
                pass


_known: dict[str, Outages] = {}


def outages_at(address: str) -> Outages:
    """Those of one address: spans and metrics that go to the same collector have the same outages."""
    return _known.setdefault(address, Outages(address))


def _all_told(outage: _Outage) -> bool:
    return outage.told is not None and outage.lost <= outage.told


def _listed(lost: Counter[Signal]) -> str:
    return (
        " and ".join(
            f"{count:,} {_UNITS[signal][count != 1]}" for signal, count in sorted(lost.items(), reverse=True) if count
        )
        or "nothing"
    )
