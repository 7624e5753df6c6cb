"""What a person sees: a rich console with colours only where they are wanted, and lines that fit."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text


def open_console(stream: TextIO) -> Console:
    """A console that writes to ``stream``: coloured on a terminal, unless ``NO_COLOR`` or a dumb terminal forbid."""
    from rich.console import Console

    terminal = is_terminal(stream)
    return Console(
        file=stream,
        force_terminal=terminal,
        force_jupyter=False,
        # With no_color alone, rich would still write bold and dim.
        color_system="auto" if wants_color(stream) else None,
        highlight=False,
        emoji=False,
        markup=False,
    )


def wants_color(stream: TextIO) -> bool:
    return is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False


def fold(fields: Sequence[Text], width: int, indent: int) -> list[Text]:
    """Fields as lines that are no wider than ``width``: broken between fields, never inside one."""
    from rich.text import Text

    lines: list[Text] = []
    for field in fields:
        if lines and lines[-1].cell_len + 2 + field.cell_len <= width:
            lines[-1].append("  ").append_text(field)
        else:
            lines.append(Text(" " * indent).append_text(field))
    return lines
