"""WAV: RIFF/WAVE, RF64 and RIFX, as files and as streams whose header could not know the length.

The standard library's `wave` wants a whole seekable file, only PCM, and a length that is true. What the samples are
says the `fmt ` chunk (WAVEFORMATEX of Microsoft's mmreg.h; RFC 2361 lists the codecs).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from ttstrace.audio.blocks import Blocks, told
from ttstrace.audio.framed import Framed
from ttstrace.audio.iff import STREAMED, Iff
from ttstrace.audio.layouts import LAYOUTS
from ttstrace.audio.pcm import Pcm
from ttstrace.audio.rate import sample_rate_of
from ttstrace.audio.streams import Sink, Stream

_PCM: Final = 0x0001
_MS_ADPCM: Final = 0x0002
_FLOAT: Final = 0x0003
_A_LAW: Final = 0x0006
_MU_LAW: Final = 0x0007
_IMA_ADPCM: Final = 0x0011
_GSM: Final = 0x0031
_MP3: Final = 0x0055
_EXTENSIBLE: Final = 0xFFFE

_FMT_READ: Final = 40  # WAVEFORMATEXTENSIBLE; what a longer one adds is not needed
_DS64_READ: Final = 16
_FACT_READ: Final = 4


def _ms_adpcm(channels: int, size: int) -> int:
    """Frames in a block of `size` bytes: of each channel a predictor, a step and two samples in 7 bytes, then 4 bits
    a sample."""
    return (size - 7 * channels) * 2 // channels + 2 if size >= 7 * channels else 0


def _ima_adpcm(channels: int, size: int) -> int:
    """Frames in a block: of each channel a sample and a step in 4 bytes, then by turns 8 samples in 4 bytes."""
    return (size // (4 * channels) - 1) * 8 + 1 if size >= 4 * channels else 0


def _gsm(channels: int, size: int) -> int:
    """Frames in a block: two frames of GSM 06.10 in 65 bytes, of which 33 hold the first."""
    return 320 if size >= 65 else 160 if size >= 33 else 0


_BLOCKS: Final[dict[int, Callable[[int, int], int]]] = {_MS_ADPCM: _ms_adpcm, _IMA_ADPCM: _ima_adpcm, _GSM: _gsm}


class Wav(Iff):
    """Reads WAV split anywhere; WAVs in a row, as services send one per sentence, are read in turn."""

    magics = b"RIFF", b"RF64", b"BW64", b"RIFX"
    kinds = (b"WAVE",)
    format: Final = "wav"

    def __init__(self) -> None:
        super().__init__()
        self.on_form(b"")

    def finish(self, sink: Sink) -> None:
        super().finish(sink)
        if not self._formatted:
            self.failed = True

    def on_form(self, kind: bytes) -> None:
        self._long_size = 0  # length of the data by ds64
        self._frames = 0  # by fact
        self._fmt = b""
        self._formatted = False

    def on_chunk(self, name: bytes, size: int, sink: Sink) -> int:
        if name == b"data":
            self._on_data(size)
        elif name == b"fmt " and size >= 16:
            return min(size, _FMT_READ)
        elif name == b"ds64" and size >= _DS64_READ:
            return _DS64_READ
        elif name == b"fact" and size >= _FACT_READ:
            return _FACT_READ
        return 0

    def on_part(self, name: bytes, part: bytes, sink: Sink) -> None:
        if name == b"ds64":
            (self._long_size,) = self.unpack("Q", part[8:])
        elif name == b"fact":
            (self._frames,) = self.unpack("I", part)
        else:
            self._fmt = part
            self._formatted = True
            _, channels, rate = self.unpack("HHI", part)
            sink.count(0, sample_rate_of(rate), channels or None)

    def _on_data(self, size: int) -> None:
        size = self._long_size if size >= STREAMED and self._long_size else self.length(size)
        samples = self._reader(size) if self._fmt else None
        self._formatted = samples is not None
        self.samples(samples, size)

    def _reader(self, size: int) -> Stream | None:
        tag, channels, hertz, _, align, bits = self.unpack("HHIIHH", self._fmt)
        if tag == _EXTENSIBLE and len(self._fmt) >= 26:
            (tag,) = self.unpack("H", self._fmt[24:])  # the first two bytes of the GUID
        rate = sample_rate_of(hertz)
        if not channels:
            return None
        if tag in (_PCM, _FLOAT, _A_LAW, _MU_LAW):
            return self._linear(tag, channels, rate, align, bits, size)
        if tag == _MP3:
            return Framed("mp3")
        if tag not in _BLOCKS or (tag == _IMA_ADPCM and bits != 4) or (tag == _GSM and (channels, align) != (1, 65)):
            return told(self._frames, rate, channels, size)
        within = partial(_BLOCKS[tag], channels)
        most = within(align)
        if len(self._fmt) >= 20:
            (said,) = self.unpack("H", self._fmt[18:])  # samples of a channel in a block
            most = min(said or most, most)
        if not most:
            return None
        return Blocks(align, most, rate, channels, size, self._frames, lambda rest: min(within(rest), most))

    def _linear(self, tag: int, channels: int, rate: int | None, align: int, bits: int, size: int) -> Pcm | None:
        width = (bits + 7) // 8
        if align and align % channels == 0 and align // channels >= width:
            width = align // channels  # 20 bits are left-justified in 3 bytes, 12 in 2
        if not 0 < width <= 8:
            return None
        order = "be" if self.order == ">" else "le"
        name = {
            _PCM: "pcm_u8" if width == 1 else f"pcm_s{8 * width}{order}",
            _FLOAT: f"pcm_f{8 * width}{order}",
            _A_LAW: "pcm_alaw",
            _MU_LAW: "pcm_mulaw",
        }[tag]
        layout = LAYOUTS.get(name)
        if layout is not None and layout.width != width:
            layout = None
        return Pcm(layout, channels, rate, width * channels, size)
