"""What goes wrong in the measuring itself: told once, and never to the program that is measured."""

from __future__ import annotations

import logging

from ttstrace.exceptions import frames

_log = logging.getLogger("ttstrace")
_reported = False


def is_fault(error: BaseException) -> bool:
    """Whether something failed. What else is raised interrupts the program (a signal, a cancellation, a time limit),
    and struck while ttstrace ran by chance."""
    # A panic of a library written in Rust: each of them has a class of its own, by this name, that is no Exception.
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


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
        _log.log(
            level,
            "measuring a synthesis failed, the program itself is not affected (said once): %s\n%s",
            type(error).__name__,
            frames(error, ours=True),
        )
    except Exception:  # a broken log handler is no reason to hurt the host either
        pass
