"""How a command says that it cannot go on; each message has the fix in it."""

from __future__ import annotations

import importlib.util


class Failure(Exception):
    """The command cannot do what it was asked to: exit status 1."""


class UsageError(Exception):
    """The command was called wrongly: exit status 2.

    Args:
        message: what is wrong, and what would be right.
        program: the command whose ``--help`` tells more.
    """

    def __init__(self, message: str, program: str) -> None:
        super().__init__(message)
        self.program = program


def require(extra: str, command: str, *modules: str) -> None:
    """See to it that the modules of an extra are installed, without importing them.

    Raises:
        Failure: one is not, with the line that installs it.
    """
    for module in modules:
        if not _installed(module):
            raise Failure(
                f"`ttstrace {command}` needs {module}, which is not installed: pip install 'ttstrace[{extra}]'"
            )


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # what stands in its place is no module
        return False
