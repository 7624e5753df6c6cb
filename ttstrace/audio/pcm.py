"""Raw samples in bytes, without a header."""

from __future__ import annotations

from typing import Final

from ttstrace.audio.layouts import Layout
from ttstrace.audio.samples import ByteSamples
from ttstrace.audio.streams import Buffer, Sink

ENDLESS: Final = 1 << 62
"""As many bytes as will come."""

_LARGEST_FRAME: Final = 4096
"""Bytes of a frame above which no part of one is held to be listened to."""


class Pcm:
    """Frames of a known number of bytes, counted however they are cut.

    `left` and `odd` are kept up to date by whoever counts past it.
    """

    __slots__ = ("_carry", "_layout", "block", "channels", "failed", "format", "left", "odd", "rate")

    def __init__(
        self,
        layout: Layout | None,
        channels: int,
        rate: int | None,
        block: int | None = None,
        left: int = ENDLESS,
    ) -> None:
        self._carry = b""
        self.channels = channels
        self.rate = rate
        self.block: int = block or (layout.width * channels if layout is not None else 1)
        """Bytes of one frame."""
        readable = layout is not None and layout.full_scale is not None and self.block <= _LARGEST_FRAME
        self._layout = layout if readable else None
        self.left = left
        """Bytes that are still to come."""
        self.odd = 0
        """Bytes of a frame that is not complete."""
        self.format = layout.name if layout is not None else None
        self.failed = False

    def feed(self, data: Buffer, sink: Sink) -> None:
        block = self.block
        size = len(data)
        frames = (self.odd + size) // block
        if sink.searching:
            self._listen(data, frames, block, sink)
        self.skip(size, sink)

    def skip(self, size: int, sink: Sink) -> None:
        """Count `size` bytes that nobody looks at."""
        frames, self.odd = divmod(self.odd + size, self.block)
        self.left -= size
        sink.count(frames, self.rate, self.channels)

    def finish(self, sink: Sink) -> None:
        pass

    def _listen(self, data: Buffer, frames: int, block: int, sink: Sink) -> None:
        if self._layout is None or len(self._carry) != self.odd:
            sink.deafen()
            return
        begin = 0
        if self.odd and frames:
            begin = block - self.odd
            sink.listen(ByteSamples(self._carry + data[:begin], self._layout, self.channels), self.rate)
            self._carry = b""
            frames -= 1
        end = begin + frames * block
        if frames:
            sink.listen(ByteSamples(data[begin:end], self._layout, self.channels), self.rate)
        self._carry += data[end:]
