"""Sun and NeXT audio (`.au`, `.snd`), as files and as streams of unknown length.

The standard library's `sunau`, gone since Python 3.13, wanted a whole file. The header is that of `audio.h` of
SunOS, and of audio(4) of Solaris.
"""

from __future__ import annotations

import struct
from typing import Final

from ttstrace.audio.fields import Fields
from ttstrace.audio.layouts import LAYOUTS
from ttstrace.audio.pcm import ENDLESS, Pcm
from ttstrace.audio.rate import sample_rate_of
from ttstrace.audio.streams import Buffer, Sink

_MAGIC: Final = b".snd"
_HEADER: Final = 24
_UNKNOWN: Final = 0xFFFF_FFFF
_MOST_CHANNELS: Final = 255

_LAYOUTS: Final = {
    1: "pcm_mulaw", 2: "pcm_s8", 3: "pcm_s16be", 4: "pcm_s24be", 5: "pcm_s32be", 6: "pcm_f32be",
    7: "pcm_f64be", 27: "pcm_alaw",
}  # fmt: skip


class Au(Fields):
    """Reads AU split anywhere; several in a row are read in turn."""

    format: Final = "au"

    def __init__(self) -> None:
        super().__init__(_HEADER)
        self._begun = False
        self._samples: Pcm | None = None  # that follow the annotation

    def feed(self, data: Buffer, sink: Sink) -> None:
        # Where a length is unknown, only a piece that begins with a header tells that another file follows.
        if self._begun and bytes(data[:4]) == _MAGIC and _understood(bytes(data[:_HEADER])):
            self.restart(_HEADER)
            self._samples = None
        super().feed(data, sink)

    def finish(self, sink: Sink) -> None:
        # Nothing came, or nothing that is audio: cut off, or where the samples begin was not true.
        if not self._begun or self._samples is not None:
            self.failed = True

    def take(self, field: bytes, sink: Sink) -> None:
        if field[:4] != _MAGIC:
            self.left = ENDLESS  # nothing that follows is understood
            return
        self._begun = True
        begin, size, encoding, hertz, channels = struct.unpack(">5I", field[4:])
        if not _understood(field):
            self.failed = True
            return
        self.unit(begin + size)
        rate = sample_rate_of(hertz)
        sink.count(0, rate, channels)
        size = ENDLESS if size in (0, _UNKNOWN) else size
        pcm = Pcm(LAYOUTS[_LAYOUTS[encoding]], channels, rate, left=size)
        self.left = begin - _HEADER
        if self.left:
            self._samples = pcm
        else:
            self.pcm = pcm

    def ended(self, sink: Sink) -> None:
        self.pcm, self._samples = self._samples, None


def _understood(header: bytes) -> bool:
    """The 24 bytes say where the samples begin, and what they are."""
    if len(header) < _HEADER:
        return False
    begin, _, encoding, _, channels = struct.unpack(">5I", header[4:])
    return begin >= _HEADER and encoding in _LAYOUTS and 0 < channels <= _MOST_CHANNELS
