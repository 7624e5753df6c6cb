"""Compressed samples whose number is told by the number of bytes, or by a header, so that none is decoded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ttstrace.audio.pcm import ENDLESS
from ttstrace.audio.streams import Buffer, Sink

_MOST_FRAMES: Final = 64
"""Frames that one byte holds at most: speech codecs of 6 kbit/s at 48 kHz."""
_MOST_BYTES: Final = 4
"""Bytes of one sample at most: what takes more is no compressed sample, but the packet of a codec."""


class Blocks:
    """Blocks of equal size that hold equally many frames; a block counts when its last byte is there.

    `short` tells the frames of a last block of fewer bytes, which counts where `left` bytes came whole; of what was
    cut off only whole blocks count. `frames` in total, where a header tells them, trim the last block; 0 is unknown.
    """

    format: Final = None
    failed: Final = False

    def __init__(
        self,
        block: int,
        per_block: int,
        rate: int | None,
        channels: int,
        left: int,
        frames: int = 0,
        short: Callable[[int], int] = lambda size: 0,
    ) -> None:
        self._block = block
        self._per_block = per_block
        self._rate = rate
        self._channels = channels
        self._left = left
        self._short = short
        self._odd = 0
        held = left // block * per_block + short(left % block)
        # What is less by a block or more counts something else, or was never corrected.
        self._most = frames if frames and frames > held - per_block else ENDLESS

    def feed(self, data: Buffer, sink: Sink) -> None:
        self.skip(len(data), sink)

    def skip(self, size: int, sink: Sink) -> None:
        """Count `size` bytes."""
        if sink.searching:
            sink.deafen()
        self._left -= size
        blocks, self._odd = divmod(self._odd + size, self._block)
        frames = blocks * self._per_block
        if not self._left:
            frames += self._short(self._odd)
        frames = min(frames, self._most)
        self._most -= frames
        sink.count(frames, self._rate, self._channels)

    def finish(self, sink: Sink) -> None:
        pass


class Told:
    """Samples of which a header tells how many they are, if all `left` bytes come: nothing is known of a part."""

    format: Final = None

    def __init__(self, frames: int, rate: int | None, channels: int, left: int) -> None:
        self.failed = False
        self._frames = frames
        self._rate = rate
        self._channels = channels
        self._left = left

    def feed(self, data: Buffer, sink: Sink) -> None:
        self.skip(len(data), sink)

    def skip(self, size: int, sink: Sink) -> None:
        """`size` bytes came."""
        if sink.searching:
            sink.deafen()
        self._left -= size
        sink.postpone()
        if not self._left:
            sink.count(self._frames, self._rate, self._channels)

    def finish(self, sink: Sink) -> None:
        self.failed = self._left > 0


def told(frames: int, rate: int | None, channels: int, size: int) -> Told | None:
    """A reader of `size` bytes that hold `frames`, or None where no codec has them hold so many, or so few."""
    if frames > size * _MOST_FRAMES or size > frames * channels * _MOST_BYTES:
        return None
    return Told(frames, rate, channels, size)
