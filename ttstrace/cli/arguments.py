"""The commands and their arguments, and what is said to somebody who mistyped one."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Iterable, Sequence
from typing import NoReturn

from ttstrace._version import __version__
from ttstrace.cli import demo, replay, run
from ttstrace.cli.errors import UsageError

# Each is a module with SUMMARY, add_arguments(parser) and run(arguments); importing it loads nothing heavy.
_COMMANDS = {"demo": demo, "run": run, "replay": replay}

_DESCRIPTION = """\
OpenTelemetry for text-to-speech: one span per synthesis that tells how long
the speech took, how long the audio is, their ratio (RTF), when the first sound
came, and what it cost in CPU and memory."""

_EPILOG = """\
examples:
  ttstrace demo                  measure a small real voice, see what you get
  ttstrace demo --language ko    the same, explained in Korean
  ttstrace run -- speak.py       trace a program of yours
  ttstrace demo --help           everything about one command

exit status: 0 done, 1 failed, 2 called wrongly, 130 interrupted (Ctrl-C).
Colours appear on a terminal only, and not where NO_COLOR is set."""


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are this command line's: short, and with the way to the help."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, self.prog)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command's arguments; ``run`` among them is the command itself.

    Raises:
        UsageError: they make no sense, with the nearest that would.
        SystemExit: only help or the version was asked for, and has been printed.
    """
    parser = _parser()
    # Before argparse sees it: of its own accord it names all commands there are, and not the nearest.
    command = next((each for each in argv if not each.startswith("-")), None)
    if command is not None and command not in _COMMANDS:
        parser.error(f"there is no command {command!r}{_nearest(command, _COMMANDS)}")
    arguments, unknown = parser.parse_known_args(argv)
    if command is None and not unknown:
        parser.print_help(sys.stderr)
        parser.exit(2)
    if unknown:
        used: _Parser = getattr(arguments, "parser", parser)
        first = unknown[0]
        if not first.startswith("-"):
            used.error(f"there is no place for the argument {first!r}")
        name = first.partition("=")[0]
        used.error(f"there is no option {name}{_nearest(name, used._option_string_actions)}")
    return arguments


def _parser() -> _Parser:
    parser = _Parser(
        prog="ttstrace",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"ttstrace {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, command in _COMMANDS.items():
        subparser = commands.add_parser(
            name,
            help=command.SUMMARY,
            description=command.DESCRIPTION,
            epilog=command.EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run, parser=subparser)
    return parser


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), 1, 0.5)
    return f"; did you mean {near[0]}?" if near else ""
