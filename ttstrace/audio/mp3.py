"""MPEG-1, -2 and -2.5 audio, layer III: frames counted as they come.

mutagen and tinytag read whole files, and estimate the length of a part by its bit rate. A frame is counted
when its last byte is there; the duration is frames x samples per frame, without the trimming that players
may do of the encoder's delay.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from ttstrace.audio.streams import Buffer, Sink


class _Frame(NamedTuple):
    """What a header says, but for the mode."""

    length: int
    """Bytes, header included."""
    samples: int
    rate: int
    mpeg1: bool


# ISO/IEC 11172-3 and 13818-3, layer III, in kbit/s; index 0 is the free format, of unknown length.
_BITRATES_1: Final = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_BITRATES_2: Final = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_RATES: Final = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}

_BLOCK: Final = 65_536
_MOST_JUNK: Final = 65_536
"""Bytes in a row without a frame after which this is no MP3."""

_frames: dict[int, _Frame] = {}


def _frame(second: int, third: int) -> _Frame | None:
    """What bytes 1 and 2 of a header say, or None where no layer III frame has them."""
    key = second << 8 | third
    frame = _frames.get(key)
    if frame is not None:
        return frame
    version, bitrate, rate = second >> 3 & 3, third >> 4, third >> 2 & 3
    if second & 0xE6 != 0xE2 or version == 1 or not 0 < bitrate < 15 or rate == 3:
        return None
    mpeg1 = version == 3
    hertz = _RATES[version][rate]
    kilobits = (_BITRATES_1 if mpeg1 else _BITRATES_2)[bitrate]
    length = (144_000 if mpeg1 else 72_000) * kilobits // hertz + (third >> 1 & 1)
    # Only valid headers are kept, of which there are about a thousand.
    frame = _frames[key] = _Frame(length, 1152 if mpeg1 else 576, hertz, mpeg1)
    return frame


def _kind(buffer: bytes, at: int) -> int:
    """What frames of one stream have in common: version, rate, and whether they are mono."""
    return (buffer[at + 1] & 0x1E) << 5 | (buffer[at + 2] & 0x0C) << 1 | (buffer[at + 3] >> 6 == 3)


def looks_like_frame(head: Buffer) -> bool:
    """`head`, of two bytes or more, may begin a layer III frame."""
    return head[0] == 0xFF and head[1] & 0xE6 == 0xE2 and head[1] >> 3 & 3 != 1


class Mp3:
    """Reads MP3 split at any byte.

    With an ID3 tag before it, or `declared` to be MP3, the first frame is believed; otherwise a frame counts
    once the header of the next one agrees with it, and bytes that do not begin so are no MP3. Tags (ID3v1,
    ID3v2) and frames that hold a table (Xing, Info, VBRI) are no audio, wherever they stand.
    """

    def __init__(self, declared: bool) -> None:
        self.failed = False
        self._declared = declared
        self._believed = declared
        self._kind = -1  # of the last frame counted
        self._rest = b""  # less than two frames
        self._skip = 0
        self._junk = 0
        self._seen = False  # a frame or a tag
        self._framed = False

    @property
    def format(self) -> str | None:
        return "mp3" if self._framed or self._declared else None

    def feed(self, data: Buffer, sink: Sink) -> None:
        if sink.searching:
            sink.deafen()
        for begin in range(0, len(data), _BLOCK):
            if self.failed:
                return
            self._parse(self._rest + bytes(data[begin : begin + _BLOCK]), sink)

    def finish(self, sink: Sink) -> None:
        if not self._framed and (self._rest or self._junk):
            self.failed = True
        self._rest = b""

    def _parse(self, buffer: bytes, sink: Sink) -> None:
        size = len(buffer)
        at = min(self._skip, size)
        self._skip -= at
        frames = 0
        told: _Frame | None = None
        mono = False
        while size - at >= 4:
            first = buffer[at]
            if first == 0xFF and (frame := _frame(buffer[at + 1], buffer[at + 2])) is not None:
                end = at + frame.length
                kind = _kind(buffer, at)
                if kind != self._kind and not self._believed:
                    if end + 4 > size:
                        break
                    following = _frame(buffer[end + 1], buffer[end + 2]) if buffer[end] == 0xFF else None
                    believed = following is not None and _kind(buffer, end) == kind
                else:
                    believed = True
                if believed:
                    if end > size:
                        break
                    if told is not None and kind != self._kind:
                        sink.count(frames * told.samples, told.rate, 1 if mono else 2)
                        frames = 0
                    told, mono = frame, bool(kind & 1)
                    self._kind = kind
                    self._believed = False
                    self._seen = self._framed = True
                    self._junk = 0
                    if not _is_table(buffer, at, frame.mpeg1, mono):
                        frames += 1
                    at = end
                    continue
            elif first == 0x49 and buffer[at + 1 : at + 3] == b"D3":
                if size - at < 10:
                    break
                length = _id3_length(buffer, at)
                if length:
                    self._seen = self._believed = True
                    self._junk = 0
                    at = self._pass(at, length, size)
                    continue
            elif first == 0x54 and buffer[at + 1 : at + 3] == b"AG" and self._seen:
                self._believed = self._declared
                at = self._pass(at, 128, size)
                continue
            if not self._seen and not self._declared:
                self.failed = True
                break
            at = self._resync(buffer, at, size)
            if self._junk > _MOST_JUNK:
                self.failed = True
                break
        if told is not None:
            sink.count(frames * told.samples, told.rate, 1 if mono else 2)
        self._rest = b"" if self.failed else buffer[at:]

    def _pass(self, at: int, length: int, size: int) -> int:
        self._skip = max(at + length - size, 0)
        return min(at + length, size)

    def _resync(self, buffer: bytes, at: int, size: int) -> int:
        """The next position from which a frame or a tag may begin; the last three bytes may begin either."""
        end = size - 3
        found = end
        for beginning in (b"\xff", b"ID3", b"TAG"):
            position = buffer.find(beginning, at + 1, found + len(beginning) - 1)
            if position >= 0:
                found = position
        self._junk += found - at
        self._believed = False
        self._kind = -1
        return found


def _is_table(buffer: bytes, at: int, mpeg1: bool, mono: bool) -> bool:
    # The table stands where the side information of an audio frame ends; VBRI always after 32 bytes.
    start = at + ((21 if mono else 36) if mpeg1 else (13 if mono else 21))
    name = buffer[start : start + 4]
    return name in (b"Xing", b"Info") or buffer[at + 36 : at + 40] == b"VBRI"


def _id3_length(buffer: bytes, at: int) -> int:
    """Bytes of the ID3v2 tag at `at`, footer included, or 0 where there is none."""
    _, _, _, major, minor, flags, a, b, c, d = buffer[at : at + 10]
    if major == 0xFF or minor == 0xFF or (a | b | c | d) & 0x80:
        return 0
    return 10 + (a << 21 | b << 14 | c << 7 | d) + (10 if flags & 0x10 else 0)
