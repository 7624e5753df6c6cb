"""What the header of a frame says, of the codecs whose frames tell by themselves where they end.

MPEG audio (ISO/IEC 11172-3 and 13818-3): layers I, II and III of MPEG-1 and MPEG-2, and layer III of MPEG-2.5,
Fraunhofer's extension to lower rates, which has no other layer. AAC in ADTS (ISO/IEC 13818-7 and 14496-3,
subpart 1, annex 1.A), in its MPEG-2 and MPEG-4 form.

What HE-AAC adds is hidden in the frames: an ADTS header tells the rate of the AAC-LC core, of which a decoder
makes twice as much, and one channel where parametric stereo makes two. The duration is right all the same.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias


class Kind(NamedTuple):
    """What the frames of one stream have in common."""

    fixed: int
    """The bits of the header that say so."""
    format: str
    rate: int
    channels: int | None
    table: int
    """Where in a frame the name of a Xing table would stand; 0 where such frames hold none."""


Header: TypeAlias = tuple[int, int, Kind]
"""Bytes of the frame, header included; samples per channel; kind."""

HEADER: Final = 7
"""Bytes of a header, at most; a frame is never shorter."""
SYNC: Final = rb"\xff[\xe2\xe3\xf0-\xff]"
"""Pattern of the first two bytes of a frame."""

_LAYER: Final = 0x6 << 40  # in an ADTS header both bits are 0, in one of MPEG audio never
_MPEG: Final = 0xFFFE_FEC0  # of the first four bytes: all but CRC, private bit, and what stands after the mode
_MPEG_FIXED: Final = 0xFFFE_0C00  # version, layer, rate

# Per layer; in kbit/s, from index 1. Index 0 is the free format, of unknown length.
_BITRATES_1: Final = {
    1: (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    2: (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    3: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
}
_LOW: Final = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_BITRATES_2: Final = {1: (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256), 2: _LOW, 3: _LOW}
_MPEG_RATES: Final = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}

_ADTS_RATES: Final = (
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350,
)  # fmt: skip
_ADTS_CHANNELS: Final = (None, 1, 2, 3, 4, 5, 6, 8)  # configuration 0: the frame's own elements tell
_LEAST_BLOCK: Final = 5
"""Bytes of a block of AAC: 33 bits are one channel of nothing, and the end."""


def header(buffer: bytes, at: int) -> Header | None:
    """What the seven bytes at `at` say, or None where they begin no frame of known length."""
    word = int.from_bytes(buffer[at : at + HEADER], "big")
    if word & _LAYER:
        return _mpeg(word >> 24 & _MPEG)
    kind = _adts(word >> 28)
    blocks = (word & 3) + 1
    length = word >> 13 & 0x1FFF
    if kind is None or length < HEADER + _LEAST_BLOCK * blocks:
        return None
    return length, 1024 * blocks, kind


@lru_cache(maxsize=1024)
def _mpeg(word: int) -> Header | None:
    version, layer, bitrate, rate = word >> 19 & 3, 4 - (word >> 17 & 3), word >> 12 & 15, word >> 10 & 3
    if word >> 21 != 0x7FF or version == 1 or rate == 3 or not 0 < bitrate < 15 or (version == 0 and layer != 3):
        return None
    mpeg1, mono = version == 3, word >> 6 & 3 == 3
    hertz = _MPEG_RATES[version][rate]
    samples = 384 if layer == 1 else 1152 if mpeg1 or layer == 2 else 576
    slot = 4 if layer == 1 else 1
    kilobits = (_BITRATES_1 if mpeg1 else _BITRATES_2)[layer][bitrate - 1]
    length = (samples // 8 // slot * 1000 * kilobits // hertz + (word >> 9 & 1)) * slot
    # A table stands where the side information of an audio frame ends, whether or not there is a CRC.
    table = 0 if layer != 3 else (21 if mono else 36) if mpeg1 else (13 if mono else 21)
    return length, samples, Kind(word & _MPEG_FIXED, f"mp{layer}", hertz, 1 if mono else 2, table)


@lru_cache(maxsize=256)
def _adts(fixed: int) -> Kind | None:
    rate = fixed >> 6 & 15
    if fixed >> 16 != 0xFFF or rate >= len(_ADTS_RATES):
        return None
    return Kind(fixed, "aac", _ADTS_RATES[rate], _ADTS_CHANNELS[fixed >> 2 & 7], 0)
