"""What was left behind to be ended: by a finalizer, which may call nothing, or by a card that is still at work.

It is ended by the next traced call, by a flush, or at exit, whichever comes first.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from time import perf_counter, sleep
from typing import Final, Protocol

from ttstrace.faults import apart, report

_POLL: Final = 0.001  # seconds


class Ending(Protocol):
    """What ends as soon as the cards are done with it."""

    @property
    def settled(self) -> bool:
        """Whether it has ended."""

    def is_due(self, give_up: bool = False) -> bool:
        """Whether no card is still at work, or that is given up on."""

    def settle(self) -> None:
        """End it."""


_lock = threading.RLock()  # re-entrant: a signal handler may run a traced call while this thread holds it
_abandoned: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
_unfinished: list[Ending] = []


def _after_fork_in_child() -> None:
    """What the parent has left to end stays the parent's."""
    global _lock, _abandoned, _unfinished
    _lock = threading.RLock()
    _abandoned = queue.SimpleQueue()
    _unfinished = []


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def later(ending: Callable[[], None]) -> None:
    """Leave something to end to the next :func:`drain`. Safe in a finalizer, which may call nothing of OpenTelemetry
    and not log: it may have interrupted a thread that holds the SDK's locks."""
    _abandoned.put(ending)


def unfinished(ending: Ending) -> None:
    """Leave what a card is still at work on to the :func:`drain` that finds it done."""
    _unfinished.append(ending)


def drain(wait: float = 0.0) -> bool:
    """End what was left behind: at the next traced call, by a flush, at exit.

    Args:
        wait: seconds to wait for cards that are still at work on a result.

    Returns:
        True if nothing is left.
    """
    while not _abandoned.empty():
        try:
            ending = _abandoned.get_nowait()
        except queue.Empty:  # another thread was faster
            break
        try:
            apart(ending)
        except BaseException as error:
            report(error)
    return not _unfinished or _end_finished(perf_counter() + wait)


def _end_finished(deadline: float, give_up: bool = False) -> bool:
    """End the syntheses whose results the cards are done with by now."""
    while True:
        for _ in range(len(_unfinished)):
            # One at a time, so that what interrupts this (Ctrl-C while a span is exported) costs none of the others.
            ending: Ending | None = None
            try:
                with _lock:
                    if not _unfinished:  # another thread was faster
                        break
                    ending = _unfinished[0]
                    del _unfinished[0]
                if ending.is_due(give_up):
                    ending.settle()
            finally:
                if ending is not None and not ending.settled:
                    _unfinished.append(ending)
        if not _unfinished or perf_counter() >= deadline:
            return not _unfinished
        sleep(_POLL)


def drain_for_good(wait: float = 1.0) -> None:
    """End everything: there is no later. See `drain`."""
    drain(wait)
    _end_finished(0.0, give_up=True)
