"""How many are open at once, and the most that were during a window."""

from __future__ import annotations

import os
import sys
import threading
from weakref import WeakSet

from ttstrace.monitor.suffix import SuffixMaximum


class Concurrency:
    """Counts what is open, and knows for each of them the most that were open at once while it was.

    Enter and leave in any order, on any threads. In a forked child the count begins at 0 again, and tokens of
    the parent's are dead: leaving with one changes nothing.

    At most as many numbers are kept as were ever open at once.
    """

    __slots__ = ("__weakref__", "_busy", "_counts", "_deferred", "_first", "_lock", "_open")

    def __init__(self) -> None:
        self._counts = SuffixMaximum()
        self._begin()
        _all.add(self)

    def _begin(self) -> None:
        # Re-entrant, as a signal handler or a finalizer may come in on a thread that is in here; it then
        # finds this busy, and its change of the count is deferred.
        self._lock = threading.RLock()
        self._busy = False
        self._deferred: list[int] = []
        self._open = 0
        # Positions go on through a fork, so that a token tells by itself whether it is this process's.
        self._first = self._counts.position()

    def enter(self) -> int:
        """One more is open. Returns the token to leave with."""
        with self._lock:
            if self._busy:
                self._deferred.append(1)
                return self._counts.position()
            try:
                self._busy = True
                if self._deferred:
                    self._catch_up()
                now_open = self._open + 1
                token = self._counts.push(now_open)
                self._open = now_open
            finally:
                self._busy = False
        return token

    def leave(self, token: int) -> int:
        """One fewer is open.

        Returns:
            The most that were open at once since the token's :meth:`enter`, itself included; 0, as
            unknown, for a token that came through a fork.
        """
        with self._lock:
            if token < self._first:
                return 0
            if self._busy:
                most = max(self._counts.since(token), self._open + sum(self._deferred))
                self._deferred.append(-1)
                return most
            try:
                self._busy = True
                if self._deferred:
                    self._catch_up()
                most = self._counts.since(token)
                self._open -= 1
            finally:
                self._busy = False
        return most

    def observe(self) -> int:
        """Watch without being counted. Returns the token for :meth:`seen`; there is nothing to close."""
        with self._lock:
            if self._busy:
                self._deferred.append(0)
                return self._counts.position()
            try:
                self._busy = True
                if self._deferred:
                    self._catch_up()
                return self._counts.push(self._open)
            finally:
                self._busy = False

    def seen(self, token: int) -> int:
        """The most that were open since the token was given; 0 for a token that came through a fork."""
        if token < self._first:
            return 0
        with self._lock:
            return max(self._counts.since(token), self._open + sum(self._deferred))

    def _catch_up(self) -> None:
        """Count what came in while this was busy."""
        while self._deferred:
            self._open += self._deferred.pop(0)
            self._counts.push(self._open)


_all: WeakSet[Concurrency] = WeakSet()


def _begin_in_child() -> None:
    for concurrency in list(_all):
        concurrency._begin()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_begin_in_child)
