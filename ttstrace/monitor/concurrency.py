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

    __slots__ = ("__weakref__", "_busy", "_counts", "_deferred", "_first", "_lock", "_open", "_watched")

    def __init__(self) -> None:
        self._counts = SuffixMaximum()
        self._begin()
        _all.add(self)

    def _begin(self) -> None:
        # Re-entrant, as a signal handler or a finalizer may come in on a thread that is in here; it then finds
        # this busy, and what it would note is deferred.
        self._lock = threading.RLock()
        self._busy = False
        self._deferred: list[int] = []
        self._watched = False  # somebody observes who is not counted, and may be there before the first that is
        # The count is a list's length: its methods are atomic, where `+= 1` would be several steps that a signal
        # handler or another thread may come between.
        self._open: list[None] = []
        # Positions go on through a fork, so that a token tells by itself whether it is this process's.
        self._first = self._counts.position()

    def enter(self) -> int:
        """One more is open. Returns the token to leave with; what raises (a signal's handler) has not entered."""
        # Taken first: whoever enters from here on is counted after it.
        token = self._counts.position()
        now_open = self._open
        try:
            now_open.append(None)
            count = len(now_open)
            if count > 1 or self._watched:  # alone, it need not be told to anybody
                self._note(count)
        except BaseException:
            now_open.pop()
            raise
        return token

    def leave(self, token: int) -> int:
        """One fewer is open; what raises (a signal's handler) has not left.

        Returns:
            The most that were open at once since the token's :meth:`enter`, itself included; 0, as
            unknown, for a token that came through a fork.
        """
        if token < self._first:
            return 0
        most = self.seen(token) or 1
        if self._open:
            try:
                self._open.pop()
            except BaseException:
                self._open.append(None)
                raise
        return most

    def observe(self) -> int:
        """Watch without being counted. Returns the token for :meth:`seen`; there is nothing to close."""
        token = self._counts.position()
        self._watched = True
        self._note(len(self._open))
        return token

    def seen(self, token: int) -> int:
        """The most that were open since the token was given; 0 for a token that came through a fork."""
        if token < self._first or (token == self._counts.position() and not self._deferred):
            return 0
        with self._lock:
            return max(self._counts.since(token), *self._deferred, 0)

    def _note(self, count: int) -> None:
        with self._lock:
            self._deferred.append(count)
            # Looked at again once it is not busy any more: something may have come in before that was seen.
            while self._deferred and not self._busy:
                try:
                    self._busy = True
                    while self._deferred:
                        self._counts.push(self._deferred.pop(0))
                finally:
                    self._busy = False


_all: WeakSet[Concurrency] = WeakSet()


def _begin_in_child() -> None:
    for concurrency in list(_all):
        concurrency._begin()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_begin_in_child)
