"""FLAC (RFC 9639): frames counted as they come.

mutagen and tinytag read the total that the first header claims, which a stream that is still being made cannot
know; what else reads FLAC decodes it. A frame does not say how many bytes it has: its end is where the next
header goes on counting, or where its checksum comes out.
"""

from __future__ import annotations

import functools
import re
from typing import Final, NamedTuple

from ttstrace.audio.rate import sample_rate_of
from ttstrace.audio.streams import Buffer, Sink

STREAMINFO: Final = 34
"""Bytes of the metadata block that comes first."""


class StreamInfo(NamedTuple):
    """What of the first metadata block can be believed: its totals are filled in afterwards, or never."""

    rate: int | None
    channels: int


def stream_info(block: bytes) -> StreamInfo:
    """What the 34 bytes of a STREAMINFO block say (RFC 9639, section 8.2)."""
    packed = int.from_bytes(block[10:18], "big")
    return StreamInfo(sample_rate_of(packed >> 44), (packed >> 41 & 7) + 1)


class _Codes(NamedTuple):
    """What bytes 2 and 3 of a frame header say (RFC 9639, section 9.1); 0 where it is said elsewhere."""

    samples: int
    size_bytes: int
    """Bytes further on that hold the number of samples, less one."""
    rate: int
    rate_bytes: int
    """Bytes after them that hold the rate, in units of `rate_unit` Hz."""
    rate_unit: int
    channels: int


class _Header(NamedTuple):
    """The header of a frame."""

    size: int
    """Bytes."""
    samples: int
    rate: int | None
    channels: int
    number: tuple[int, int]
    """The blocking strategy, and the number of this frame or, where blocks vary, of its first sample."""
    following: tuple[int, int]
    """What the next frame has there."""
    most: int
    """Bytes of the frame, at most."""


# By code; 0 where the header, or STREAMINFO, has the value.
_SAMPLES: Final = (0, 192, 576, 1152, 2304, 4608, 0, 0, 256, 512, 1024, 2048, 4096, 8192, 16_384, 32_768)
_RATES: Final = (0, 88_200, 176_400, 192_000, 8000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000, 0, 0, 0)
_RATE_BYTES: Final = {12: (1, 1000), 13: (2, 1), 14: (2, 10)}

# The first five bytes of a frame header, as far as each by itself may be one; or another file.
_BEGINNING: Final = re.compile(
    rb"\xff[\xf8\xf9][\x10-\xfe][\x00-\xae][\x00-\x7f\xc2-\xfe]|fLaC[\x00\x80]\x00\x00\x22", re.DOTALL
)
_LONGEST_PART: Final = 7
"""Bytes of a beginning that may still become one."""
_LARGEST_HEADER: Final = 16

_BLOCK: Final = 8_192
_MOST_METADATA: Final = 1024
"""Metadata blocks, of which every one may be empty, after which this is no FLAC."""
_MOST_FALSE: Final = 256
"""Beginnings of frames that are none, but for `_FALSE` with each frame."""
_FALSE: Final = 4
_MOST_JUNK: Final = 65_536
"""Bytes in a row that are in no frame."""


@functools.lru_cache(maxsize=256)
def _codes(third: int, fourth: int) -> _Codes | None:
    """What bytes 2 and 3 say, or None where no header has them."""
    size, rate, channels, bits = third >> 4, third & 15, fourth >> 4, fourth >> 1 & 7
    if not size or rate == 15 or channels > 10 or bits == 3 or fourth & 1:
        return None
    rate_bytes, unit = _RATE_BYTES.get(rate, (0, 0))
    many = channels + 1 if channels < 8 else 2
    return _Codes(_SAMPLES[size], size - 5 if size in (6, 7) else 0, _RATES[rate], rate_bytes, unit, many)


def _crc8_table() -> bytes:
    """By byte: what remains of it, times x^8, by x^8 + x^2 + x + 1."""
    table = [0]
    remainder = 7
    while len(table) < 256:
        table += [other ^ remainder for other in table]
        remainder = remainder << 1 & 0xFF ^ (7 if remainder & 0x80 else 0)
    return bytes(table)


_CRC8: Final = _crc8_table()


class _Crc16:
    """The checksum that ends a frame: a whole frame is a multiple of x^16 + x^15 + x^2 + 1.

    That is (x + 1)(x^15 + x + 1). Whether the first divides it, the number of ones tells; the second lets a long
    integer be folded in halves, since x^15n = x^n + 1 for every power of two n. That takes microseconds, where a
    table takes milliseconds.
    """

    __slots__ = ("_odd", "_remainder")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self._odd = self._remainder = 0

    def add(self, data: bytes) -> None:
        self._odd, self._remainder = self._with(data)

    def holds_with(self, data: bytes) -> bool:
        """A frame is whole that ends with `data`, which is not added."""
        return self._with(data) == (0, 0)

    def _with(self, data: bytes) -> tuple[int, int]:
        value = int.from_bytes(data, "big")
        odd = self._odd ^ value.bit_count() & 1
        value ^= self._remainder << 8 * len(data)
        while (bits := value.bit_length()) > 15:
            power = 1 << ((bits - 1) // 15).bit_length() - 1
            high = value >> 15 * power
            value ^= high << 15 * power ^ high << power ^ high
        return odd, value


class Flac:
    """Reads FLAC split anywhere; files in a row, as services send one per sentence, are read in turn.

    A frame counts at the latest when the next one begins. At the end of a feed, and where the next header does not
    go on with the numbers, its checksum says whether it is whole.
    """

    format: Final = "flac"

    def __init__(self) -> None:
        self.failed = False
        self._rest = b""  # less than a header
        self._info: StreamInfo | None = None
        self._crc = _Crc16()  # of the bytes that passed
        self._false = 0
        self._begin()

    def _begin(self) -> None:
        self._need = 8  # bytes of metadata that come next; 0 where frames do
        self._skip = 0  # of a metadata block
        self._blocks = 0
        self._last = False  # metadata block
        self._open(None)

    def _open(self, frame: _Header | None) -> None:
        self._frame = frame
        self._counted = False  # it was whole at the end of a feed
        self._passed = 0  # bytes since it began
        self._crc.clear()

    def feed(self, data: Buffer, sink: Sink) -> None:
        if sink.searching:
            sink.deafen()
        for begin in range(0, len(data), _BLOCK):
            if self.failed:
                return
            self._parse(self._rest + bytes(data[begin : begin + _BLOCK]), sink)
        # A service may send a frame at a time.
        if self._frame is not None and not self._counted and not self.failed and self._ends():
            self._count(sink)

    def finish(self, sink: Sink) -> None:
        if self._info is None:
            self.failed = True
        self._rest = b""

    def _parse(self, buffer: bytes, sink: Sink) -> None:
        at = 0
        while not self.failed:
            if not self._need:
                at = self._frames(buffer, at, sink)
                if not self._need:
                    break
            elif self._skip and at < len(buffer):
                passed = min(self._skip, len(buffer) - at)
                self._skip -= passed
                at += passed
            elif len(buffer) - at >= self._need:
                field = buffer[at : at + self._need]
                at += self._need
                self._understand(field, sink)
            else:
                break
            if self._last and self._need == 4 and not self._skip:
                self._need = 0
        self._rest = b"" if self.failed else buffer[at:]

    def _understand(self, field: bytes, sink: Sink) -> None:
        """Read a part of the metadata, and say what comes next."""
        if self._need == 8:
            self._last = field[4] >= 0x80
            self._need = STREAMINFO
            self.failed = field[:4] != b"fLaC" or field[4] & 0x7F != 0 or field[5:] != b"\x00\x00\x22"
        elif self._need == STREAMINFO:
            self._info = stream_info(field)
            self._need = 4
            sink.count(0, self._info.rate, self._info.channels)
        else:
            self._last = field[0] >= 0x80
            self._skip = int.from_bytes(field[1:], "big")
            self._blocks += 1
            self.failed = field[0] & 0x7F == 0x7F or self._blocks > _MOST_METADATA

    def _frames(self, buffer: bytes, at: int, sink: Sink) -> int:
        """Count the frames that end after `at`; the position from which the buffer is still needed."""
        start, summed = at - self._passed, at
        while match := _BEGINNING.search(buffer, at):
            begin = match.start()
            another = buffer[begin] == 0x66  # a file
            header = None if another else self._header(buffer, begin)
            if header is None and not another and len(buffer) - begin < _LARGEST_HEADER:
                at = begin  # with the bytes that come it may be one
                break
            most = self._frame.most if self._frame is not None else 0
            if begin - start > most + _MOST_JUNK:
                self.failed = True
                return begin
            believed = header is not None or another
            if believed and self._frame is not None and begin - start <= most:
                whole = header is not None and header.number == self._frame.following
                if not whole:
                    self._crc.add(buffer[summed:begin])
                    summed = begin
                    whole = self._crc.holds_with(b"")
                if whole:
                    self._count(sink)
                believed = whole or another
            if not believed:
                at = begin + 2
                self._false += 1
                if self._false > _MOST_FALSE:
                    self.failed = True
                    return at
            elif header is None:
                self._begin()
                return begin
            else:
                self._false = max(self._false - _FALSE, 0)
                self._open(header)
                start = summed = begin
                at = begin + header.size
        else:
            at = max(at, len(buffer) - _LONGEST_PART)
        if self._frame is not None:
            self._crc.add(buffer[summed:at])
        self._passed = at - start
        self.failed = self._passed > (self._frame.most if self._frame is not None else 0) + _MOST_JUNK
        return at

    def _ends(self) -> bool:
        """The frame that has begun is whole: at the end of the bytes, or where what follows may begin the next one."""
        rest = self._rest
        ends = [len(rest), *(end for end, byte in enumerate(rest) if byte in b"\xfff")]
        return any(self._crc.holds_with(rest[:end]) for end in ends)

    def _count(self, sink: Sink) -> None:
        """The frame that has begun is whole."""
        if self._frame is not None and not self._counted:
            self._counted = True
            sink.count(self._frame.samples, self._frame.rate, self._frame.channels)

    def _header(self, buffer: bytes, at: int) -> _Header | None:
        """The header at `at`, where one is there up to its checksum."""
        codes = _codes(buffer[at + 2], buffer[at + 3])
        if codes is None:
            return None
        # The number is written as UTF-8 would write it, in up to seven bytes.
        number = buffer[at + 4]
        length = 1 if number < 0x80 else 8 - (number ^ 0xFF).bit_length()
        size = 5 + length + codes.size_bytes + codes.rate_bytes
        if at + size > len(buffer):
            return None
        crc = 0
        for byte in buffer[at : at + size]:
            crc = _CRC8[crc ^ byte]
        if crc:
            return None
        field = at + 4 + length
        if length > 1:
            number &= 0x7F >> length
            for byte in buffer[at + 5 : field]:
                number = number << 6 | byte & 0x3F
        samples = codes.samples
        if codes.size_bytes:
            samples = int.from_bytes(buffer[field : field + codes.size_bytes], "big") + 1
            field += codes.size_bytes
        rate: int | None = codes.rate
        if codes.rate_bytes:
            rate = sample_rate_of(codes.rate_unit * int.from_bytes(buffer[field : field + codes.rate_bytes], "big"))
        elif not rate and self._info is not None:
            rate = self._info.rate
        varies = buffer[at + 1] & 1
        following = varies, number + (samples if varies else 1)
        # Every sample as it is; the difference of two channels of 32 bits has 33.
        most = 64 + 5 * codes.channels * samples
        return _Header(size, samples, rate, codes.channels, (varies, number), following, most)
