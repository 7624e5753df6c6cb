"""The ``ttstrace`` command: :func:`main`, and what every command does alike when it ends."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

from ttstrace.cli.errors import Failure, UsageError

__all__ = ["main"]

_FAILED, _USAGE, _INTERRUPTED = 1, 2, 130

DEBUG_VARIABLE = "TTSTRACE_DEBUG"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the arguments after the program's name; else those of the process.

    Returns:
        The exit status: 0, 1 where the command failed, 2 where it was called wrongly, 130 after Ctrl-C.
    """
    try:
        _never_fail_to_encode()
        status = _run(sys.argv[1:] if argv is None else argv)
        # Here and not at the interpreter's end, where a reader that is gone could only be complained about.
        sys.stdout.flush()
        return status
    except UsageError as error:
        _say(f"{error.program}: {error}\nTry: {error.program} --help")
        return _USAGE
    except Failure as failure:
        _say(f"ttstrace: {failure}")
        return _FAILED
    except SystemExit as end:  # argparse, after --help and --version; rich, where its reader is gone
        return end.code if isinstance(end.code, int) else _FAILED if end.code else 0
    except KeyboardInterrupt:
        _say("ttstrace: interrupted")
        return _INTERRUPTED
    except BrokenPipeError:  # `ttstrace ... | head`
        _drop_output()
        return _FAILED
    except Exception as error:
        if os.environ.get(DEBUG_VARIABLE):
            traceback.print_exc()
        _say(
            f"ttstrace: unexpected {type(error).__name__}: {error}\n"
            f"Set {DEBUG_VARIABLE}=1 and run it again to see where it comes from."
        )
        return _FAILED


def _run(argv: Sequence[str]) -> int:
    from ttstrace.cli.arguments import parse

    arguments = parse(argv)
    return int(arguments.run(arguments))


def _never_fail_to_encode() -> None:
    """A terminal that knows no Korean and no emoji shows question marks, and the command goes on."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None and stream.errors == "strict":
            reconfigure(errors="replace")


def _say(message: str) -> None:
    try:
        print(message, file=sys.stderr, flush=True)
    except OSError:
        pass


def _drop_output() -> None:
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):  # standard output is no file of the system's
        pass
