"""WAV: RIFF/WAVE, RF64 and RIFX, as files and as streams whose header could not know the length.

The standard library's `wave` wants a whole seekable file, only PCM, and a length that is true.
"""

from __future__ import annotations

import struct
from typing import Final

from ttstrace.audio.layouts import LAYOUTS, Layout
from ttstrace.audio.pcm import ENDLESS, Pcm
from ttstrace.audio.rate import sample_rate_of
from ttstrace.audio.streams import Buffer, Sink

_PCM: Final = 0x0001
_FLOAT: Final = 0x0003
_A_LAW: Final = 0x0006
_MU_LAW: Final = 0x0007
_EXTENSIBLE: Final = 0xFFFE

_RIFF, _CHUNK, _FMT, _DS64, _WAVE = range(5)  # what the held bytes will be, once they are complete
_MAGICS: Final = (b"RIFF", b"RF64", b"BW64", b"RIFX")

_FMT_READ: Final = 40  # WAVEFORMATEXTENSIBLE; what a longer one adds is not needed
_DS64_READ: Final = 16
# A length from here on was not known when the header was written: 0x7FFFFFFF or 0xFFFFFFFF, less a header.
_STREAMED: Final = 0x7FFF_0000


def starts_wav(data: Buffer) -> bool:
    """`data` begins with the header of a WAV."""
    return bytes(data[:4]) in _MAGICS and bytes(data[8:12]) == b"WAVE"


class Wav:
    """Reads WAV split anywhere; WAVs in a row, as services send one per sentence, are read in turn."""

    format: Final = "wav"

    def __init__(self) -> None:
        self.failed = False
        self.pcm: Pcm | None = None
        """The samples, from the first byte after the header to the last byte of their chunk."""
        self._begin(b"", _RIFF, 12)

    def _begin(self, held: bytes, stage: int, need: int) -> None:
        self._held = held
        self._stage = stage
        self._need = need
        self._skip = 0
        self._rest = 0  # of a chunk of which only the beginning is read
        self._padded = False  # the last chunk's length was odd: a byte of padding may follow
        self._order = "<"
        self._riff_size = 0
        self._long_size = 0  # length of the data by ds64
        self._read = 0
        self._fmt: tuple[Layout | None, int, int | None, int] | None = None
        self._formatted = False
        self.pcm = None

    def feed(self, data: Buffer, sink: Sink) -> None:
        size = len(data)
        at = 0
        # Where a length is bogus, only a chunk that begins with a header tells that another WAV follows.
        if self._read >= 12 and starts_wav(data):
            self._begin(b"", _RIFF, 12)
        while at < size:
            pcm = self.pcm
            if pcm is not None:
                take = min(size - at, pcm.left)
                pcm.feed(data[at : at + take], sink)
                if not pcm.left:
                    self.pcm = None
                self._read += take
            elif self._skip:
                take = min(size - at, self._skip)
                self._skip -= take
                self._read += take
            else:
                take = min(size - at, self._need - len(self._held))
                self._held += bytes(data[at : at + take])
                self._read += take
                if len(self._held) == self._need:
                    held, self._held = self._held, b""
                    self._understand(held, sink)
            at += take

    def finish(self, sink: Sink) -> None:
        if not self._formatted:
            self.failed = True

    def _understand(self, held: bytes, sink: Sink) -> None:
        stage = self._stage
        if stage == _CHUNK:
            if self._padded and not held[0]:
                self._padded = False
                self._held = held[1:]
                return
            self._on_chunk(held[:4], self._u32(held, 4), sink)
        elif stage == _FMT:
            self._on_format(held, sink)
            self._next_chunk(self._rest)
        elif stage == _DS64:
            self._long_size = int(struct.unpack(f"{self._order}Q", held[8:16])[0])
            self._next_chunk(self._rest)
        else:  # the beginning of a WAV, of which a chunk's id and length may have been read already
            if not starts_wav(held):
                self._ignore_the_rest()
                return
            self._begin(b"", _CHUNK, 8)
            self._order = ">" if held[:4] == b"RIFX" else "<"
            self._riff_size = self._u32(held, 4)
            self._read = 12

    def _on_chunk(self, name: bytes, size: int, sink: Sink) -> None:
        self._padded = bool(size & 1)
        if name in _MAGICS:
            self._held = name + struct.pack(f"{self._order}I", size)
            self._stage, self._need = _WAVE, 12
        elif name == b"data":
            self._on_data(size, sink)
        elif name == b"fmt " and size >= 16:
            self._read_part(_FMT, size, _FMT_READ)
        elif name == b"ds64" and size >= _DS64_READ:
            self._read_part(_DS64, size, _DS64_READ)
        elif all(32 <= letter < 127 for letter in name):
            self._next_chunk(size)
        else:
            self._ignore_the_rest()

    def _read_part(self, stage: int, size: int, part: int) -> None:
        self._stage = stage
        self._need = min(size, part)
        self._rest = size - self._need

    def _next_chunk(self, skip: int) -> None:
        self._skip = skip
        self._stage, self._need = _CHUNK, 8

    def _ignore_the_rest(self) -> None:
        self._next_chunk(ENDLESS)

    def _on_format(self, fmt: bytes, sink: Sink) -> None:
        tag, channels, rate, _, align, bits = struct.unpack(f"{self._order}HHIIHH", fmt[:16])
        if tag == _EXTENSIBLE and len(fmt) >= 26:
            (tag,) = struct.unpack(f"{self._order}H", fmt[24:26])  # the first two bytes of the GUID
        self._formatted = True
        sink.count(0, sample_rate_of(rate), channels or None)
        if tag not in (_PCM, _FLOAT, _A_LAW, _MU_LAW) or not channels:
            return
        width = (bits + 7) // 8
        if align and align % channels == 0 and align // channels >= width:
            width = align // channels  # 20 bits are left-justified in 3 bytes, 12 in 2
        if not 0 < width <= 8:
            return
        order = "be" if self._order == ">" else "le"
        name = {
            _PCM: "pcm_u8" if width == 1 else f"pcm_s{8 * width}{order}",
            _FLOAT: f"pcm_f{8 * width}{order}",
            _A_LAW: "pcm_alaw",
            _MU_LAW: "pcm_mulaw",
        }[tag]
        layout = LAYOUTS.get(name)
        if layout is not None and layout.width != width:
            layout = None
        self._fmt = layout, channels, sample_rate_of(rate), width * channels

    def _on_data(self, size: int, sink: Sink) -> None:
        if size >= _STREAMED:
            size = self._long_size or (size if size < 0xFFFF_0000 else ENDLESS)
        elif not size and (not self._riff_size or self._riff_size >= _STREAMED or self._riff_size + 8 <= self._read):
            size = ENDLESS  # written before there was any audio, and never corrected
        self._next_chunk(0)
        if self._fmt is None:
            self._formatted = False
            self.failed = bool(size)
            self._skip = size
        elif size:
            layout, channels, rate, block = self._fmt
            self.pcm = Pcm(layout, channels, rate, block, size)

    def _u32(self, held: bytes, at: int) -> int:
        return int(struct.unpack_from(f"{self._order}I", held, at)[0])
