"""AIFF and AIFF-C, as files and as streams whose header could not know the length.

The standard library's `aifc`, gone since Python 3.13, wanted a whole seekable file. What is read here is defined by
Apple's "Audio Interchange File Format", version 1.3, and "AIFF-C", draft of 1991.
"""

from __future__ import annotations

from typing import Final

from ttstrace.audio.blocks import Blocks, Told, told
from ttstrace.audio.iff import Iff
from ttstrace.audio.layouts import LAYOUTS, Layout
from ttstrace.audio.pcm import Pcm
from ttstrace.audio.rate import sample_rate_of
from ttstrace.audio.streams import Buffer, Sink

_COMM_READ: Final = 22
_SSND_READ: Final = 8

# By compression: layout, where sample size in bits takes the place of {}. The spellings in capitals are Apple's
# own of later years.
_LINEAR: Final = {
    b"NONE": "pcm_s{}be", b"twos": "pcm_s{}be", b"sowt": "pcm_s{}le", b"raw ": "pcm_u{}be",
    b"in24": "pcm_s24be", b"in32": "pcm_s32be", b"fl32": "pcm_f32be", b"FL32": "pcm_f32be",
    b"fl64": "pcm_f64be", b"FL64": "pcm_f64be", b"ulaw": "pcm_mulaw", b"ULAW": "pcm_mulaw",
    b"alaw": "pcm_alaw", b"ALAW": "pcm_alaw",
}  # fmt: skip

# By compression: bytes of each channel in a packet, and frames in it.
_PACKETS: Final = {b"ima4": (34, 64), b"MAC3": (2, 6), b"MAC6": (1, 6), b"GSM ": (33, 160)}


class _Early:
    """Samples that came before the chunk that says what they are."""

    format: Final = None
    failed: Final = False

    def __init__(self) -> None:
        self.size = 0

    def feed(self, data: Buffer, sink: Sink) -> None:
        sink.deafen()
        sink.postpone()
        self.size += len(data)

    def finish(self, sink: Sink) -> None:
        pass


class Aiff(Iff):
    """Reads AIFF and AIFF-C split anywhere; several in a row are read in turn."""

    magics = (b"FORM",)
    kinds = b"AIFF", b"AIFC"
    format: Final = "aiff"

    def __init__(self) -> None:
        super().__init__()
        self.on_form(b"AIFF")

    def finish(self, sink: Sink) -> None:
        super().finish(sink)
        if not self._channels:
            self.failed = True

    def on_form(self, kind: bytes) -> None:
        self._compressed = kind == b"AIFC"
        self._channels = 0
        self._frames = 0
        self._bits = 0
        self._rate: int | None = None
        self._compression = b"NONE"
        self._early: _Early | None = None

    def on_chunk(self, name: bytes, size: int, sink: Sink) -> int:
        if name == b"COMM" and size >= 18:
            return min(size, _COMM_READ)
        if name == b"SSND":
            self.left = self.length(size, _SSND_READ)
            return _SSND_READ if self.left >= _SSND_READ else 0
        return 0

    def on_part(self, name: bytes, part: bytes, sink: Sink) -> None:
        if name == b"COMM":
            self._on_common(part, sink)
            return
        (offset,) = self.unpack("I", part)
        size = self.left - offset
        if size < 0:
            self.failed = True
        elif self._channels:
            self.samples(self._reader(size), size, offset)
        else:
            self._early = _Early()
            self.samples(self._early, size, offset)

    def _on_common(self, part: bytes, sink: Sink) -> None:
        self._channels, self._frames, self._bits = self.unpack("HIH", part)
        self._rate = sample_rate_of(_extended(*self.unpack("HQ", part[8:])))
        if self._compressed and len(part) >= _COMM_READ:
            self._compression = part[18:]
        sink.count(0, self._rate, self._channels or None)
        early, self._early = self._early, None
        if early is not None and early.size:
            reader = self._reader(early.size)
            if reader is None:
                self.failed = True
            else:
                reader.skip(early.size, sink)

    def _reader(self, size: int) -> Pcm | Blocks | Told | None:
        channels, rate = self._channels, self._rate
        if self._compression in _LINEAR:
            layout, width = self._layout()
            return Pcm(layout, channels, rate, width * channels, size) if width else None
        if self._compression in _PACKETS:
            # What COMM calls frames are packets, if the writer was QuickTime or learned from it.
            block, frames = _PACKETS[self._compression]
            return Blocks(block * channels, frames, rate, channels, size)
        return told(self._frames, rate, channels, size)

    def _layout(self) -> tuple[Layout | None, int]:
        """How one sample is written, where it can be read; and how many bytes it has."""
        width = (self._bits + 7) // 8
        name = _LINEAR[self._compression].format(8 * width)
        layout = LAYOUTS.get(name) or LAYOUTS.get(name[:-2])  # one byte has no order
        return (layout, layout.width) if layout is not None else (None, width if width <= 8 else 0)


def _extended(exponent: int, mantissa: int) -> int:
    """The whole number nearest to an 80-bit float of the IEEE 754 of 1985, or 0 where it is none that fits."""
    shift = 16383 + 63 - exponent
    return (mantissa + (1 << shift >> 1)) >> shift if 0 <= shift < 64 else 0
