"""File-likes, looked at without moving them."""

from __future__ import annotations

import io
from typing import Any, NamedTuple


class Extent(NamedTuple):
    """Where a file-like stood, and where it ends; bytes from its beginning."""

    position: int
    end: int


def is_file_like(value: object) -> bool:
    """It has the methods of a binary file: those of soundfile's, which count samples, are fewer."""
    return not isinstance(value, io.TextIOBase) and all(
        callable(getattr(value, name, None)) for name in ("seek", "tell", "seekable", "readable")
    )


def extent(file: Any) -> Extent | None:
    """Position and end, the position restored; None where the file-like cannot seek."""
    if file.seekable() is not True:
        return None
    position = file.tell()
    try:
        end = file.seek(0, io.SEEK_END)
        if end is None:  # a wrapper that passes nothing on
            end = file.tell()
    finally:
        file.seek(position)
    if type(position) is not int or type(end) is not int or not 0 <= position < 2**62 or not 0 <= end < 2**62:
        return None
    return Extent(position, end)
