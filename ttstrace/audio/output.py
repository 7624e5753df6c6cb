"""The file that a call was asked to write."""

from __future__ import annotations

import os
import stat
import sys
from typing import Any, Final

from ttstrace.audio import seekable
from ttstrace.audio.rate import sample_rate_of
from ttstrace.audio.reader import AudioReader

OUTPUT_ARGUMENTS: Final[tuple[str, ...]] = (
    "path",
    "file",
    "filename",
    "file_path",
    "output",
    "output_path",
    "output_file",
    "out_path",
    "out_file",
    "wav_file",
    "wav_path",
    "audio_path",
    "audio_fname",
    "savefile",
    "fp",
)
"""Names of arguments that say where to write, in the order in which they are looked at."""


class OutputFile:
    """What a call writes to the first of `targets` that changes: a path, a `wave.Wave_write`, or a seekable file-like.

    Made before the call, it looks at what is there; `read` after the call looks at what changed. Nothing
    raises, whatever the targets are; nothing is created, and a file-like keeps its position. A path is opened
    only where it is a regular file that changed.
    """

    def __init__(self, *targets: object) -> None:
        self._targets = [found for found in map(_looked_at, targets) if found is not None]

    def is_at(self, path: object) -> bool:
        """This is the file at that path."""
        if not isinstance(path, (str, os.PathLike)):
            return False
        return any(isinstance(target, _Path) and target.path == os.fspath(path) for target in self._targets)

    def read(self, reader: AudioReader) -> bool:
        """Feed what the call wrote into `reader`; False where nothing changed: it was an input, then."""
        return any(_was_read(target, reader) for target in self._targets)


def _looked_at(target: object) -> _Path | _WaveWrite | _FileLike | None:
    try:
        if isinstance(target, (str, bytes, os.PathLike)):
            return _Path(os.fspath(target))
        if _is_wave_write(target):
            return _WaveWrite(target)
        if seekable.is_file_like(target):
            return _FileLike(target)
    except Exception:  # no target that can be looked at
        pass
    return None


def _was_read(target: _Path | _WaveWrite | _FileLike, reader: AudioReader) -> bool:
    try:
        return target.read(reader)
    except Exception:
        return False


class ReturnedFile:
    """The file at a path that a call returned, without having been told where to write.

    It is the call's where it was changed since `start_ns`, nanoseconds of the wall clock.
    """

    def __init__(self, path: object, start_ns: int) -> None:
        self._path = path
        self._start_ns = start_ns

    def read(self, reader: AudioReader) -> bool:
        """Feed the file into `reader`; False where this is no path of a regular file that changed."""
        path = self._path
        try:
            if not isinstance(path, (str, os.PathLike)) or len(os.fspath(path)) > _LONGEST_PATH:
                return False
            file = _Path(os.fspath(path))
            if file.before is None or file.before[0] < self._start_ns - _FILE_CLOCK:
                return False
            file.before = None
            return file.read(reader)
        except Exception:
            return False


_LONGEST_PATH: Final = 4096
_FILE_CLOCK: Final = 20_000_000
"""Nanoseconds by which the time of a change may lie behind the clock: file systems take it from the last tick."""


class _Path:
    def __init__(self, path: str | bytes) -> None:
        self.path = path
        self.before = self._state()

    def _state(self) -> tuple[int, int, int, int] | None:
        """What changes when a regular file is written; None where there is none."""
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            return None
        return _written_state(found) if stat.S_ISREG(found.st_mode) else None

    def read(self, reader: AudioReader) -> bool:
        after = self._state()
        if after is None or after == self.before:
            return False
        # What was a regular file just now may be a pipe when it is opened: that must not block.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        try:
            with os.fdopen(os.open(self.path, flags), "rb", buffering=0) as file:
                opened = os.fstat(file.fileno())
                if not stat.S_ISREG(opened.st_mode):
                    return False
                reader.feed_file(file, 0, opened.st_size)
        except Exception:  # written, but it cannot be read
            reader.lose()
        return True


def _written_state(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev


def _is_wave_write(target: object) -> bool:
    writer = getattr(sys.modules.get("wave"), "Wave_write", None)  # not imported, nobody can have made one
    return writer is not None and isinstance(target, writer)


class _WaveWrite:
    def __init__(self, writer: Any) -> None:
        self._writer = writer
        self._frames: int = writer.tell()
        self._described = self._description() is not None

    def _description(self) -> tuple[int, int, int] | None:
        """Channels, bytes of a sample, and rate, once they are set."""
        writer = self._writer
        try:
            return writer.getnchannels(), writer.getsampwidth(), writer.getframerate()
        except Exception:  # wave.Error: not set
            return None

    def read(self, reader: AudioReader) -> bool:
        frames = self._writer.tell() - self._frames
        description = self._description()
        if description is None or (frames <= 0 and self._described):
            return False
        channels, width, rate = description
        reader.deafen()
        reader.add_size(frames * channels * width)
        reader.count(frames, sample_rate_of(rate), channels)
        reader.format = "wav"
        return True


class _FileLike:
    def __init__(self, file: Any) -> None:
        self._file = file
        self._before = seekable.extent(file)

    def read(self, reader: AudioReader) -> bool:
        file, before = self._file, self._before
        after = seekable.extent(file) if before is not None else None
        if before is None or after is None or after.end == before.end:
            return False
        # One that grew was written from where it stood; one that shrank was emptied first.
        begin = before.position if before.position <= before.end < after.end else 0
        try:
            try:
                reader.feed_file(file, begin, after.end)
            finally:
                file.seek(after.position)
        except Exception:  # open for writing only: its size is known all the same
            reader.lose()
        return True
