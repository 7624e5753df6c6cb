"""What a reader of bytes is: one container format, or raw samples."""

from __future__ import annotations

from typing import Protocol, TypeAlias

from ttstrace.audio.samples import Samples

Buffer: TypeAlias = bytes | bytearray | memoryview
"""Bytes, one by one; a memoryview is of format "B" and contiguous."""


class Sink(Protocol):
    """Who is told what a stream holds."""

    searching: bool
    """Samples are still wanted: the onset of speech is not settled."""

    def count(self, frames: int, rate: int | None, channels: int | None) -> None:
        """`frames` more samples per channel came, at `rate` Hz where the stream says so."""

    def listen(self, samples: Samples, rate: int | None) -> None:
        """These are the samples that the next `count` counts."""

    def deafen(self) -> None:
        """The samples that come now cannot be read."""

    def postpone(self) -> None:
        """Audio came whose length a later `count` tells, so that this chunk's seconds are not known."""


class Stream(Protocol):
    """Reads the bytes of one synthesis, split anywhere."""

    @property
    def format(self) -> str | None:
        """Canonical name of the format; None while the bytes may still be something else."""

    @property
    def failed(self) -> bool:
        """There is audio whose length cannot be known."""

    def feed(self, data: Buffer, sink: Sink) -> None:
        """Take the next bytes. Never raises for what they hold."""

    def finish(self, sink: Sink) -> None:
        """No more will come. Once."""
