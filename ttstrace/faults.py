"""What goes wrong in the measuring itself: told once, and never to the program that is measured."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable
from typing import Any, Final, TypeVar

from ttstrace.exceptions import frames, type_name

_Answer = TypeVar("_Answer")

_log = logging.getLogger("ttstrace")
_LONGEST_CHAIN: Final = 100
_reported = False


def is_fault(error: BaseException) -> bool:
    """Whether something failed. What else is raised interrupts the program (a signal, a cancellation, a time limit),
    and struck while ttstrace ran by chance."""
    # A panic of a library written in Rust: each of them has a class of its own, by this name, that is no Exception.
    failed = isinstance(error, Exception) or type(error).__name__ == "PanicException"
    return failed and not _is_from_a_signal(error)


def _is_from_a_signal(error: BaseException) -> bool:
    """Whether it came through a signal's handler: Celery's and RQ's time limits are ordinary exceptions."""
    ran = set()
    traceback = error.__traceback__
    while traceback is not None:
        ran.add(traceback.tb_frame.f_code)
        traceback = traceback.tb_next
    for number in signal.valid_signals():
        handler = signal.getsignal(number)
        if callable(handler) and getattr(handler, "__code__", getattr(type(handler).__call__, "__code__", None)) in ran:
            return True
    return False


def report(error: BaseException) -> None:
    """Say once in the log that measuring failed. Only type and frames are told: a message may hold the text.

    What is no fault is the program's, and raised again: clean up before.
    """
    global _reported
    if not is_fault(error):
        raise error
    level = logging.DEBUG if _reported else logging.WARNING
    _reported = True
    try:
        apart(
            _log.log,
            level,
            "measuring a synthesis failed, the program itself is not affected (said once): %s\n%s",
            type_name(error),
            frames(error, ours=True),
        )
    except Exception:  # a broken log handler is no reason to hurt the host either
        pass


class Withheld(Exception):
    """Stands where an exception is that is being handled: see `apart`."""


def apart(function: Callable[..., _Answer], *args: Any) -> _Answer:
    """Call something that may log an exception of its own, as the SDK does of an exporter's.

    Python chains that to the exception being handled meanwhile, which the log would tell with it, message and all:
    `Withheld` is chained in its place.
    """
    handled = sys.exc_info()[1]
    if handled is None:
        return function(*args)
    earlier = handled.__context__
    try:
        raise Withheld("what was being handled here may hold the text") from None
    except Withheld as withheld:
        withheld.__context__ = None
        try:
            return function(*args)
        except BaseException as error:  # to the program's own code it is what it would have been
            last = error
            for _ in range(_LONGEST_CHAIN):
                if last.__context__ is None:
                    break
                if last.__context__ is withheld:
                    last.__context__ = earlier if last is handled else handled
                    break
                last = last.__context__
            raise
