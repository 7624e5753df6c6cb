"""MP3, the layers before it, and AAC without a container: frames counted as they come.

mutagen and tinytag read whole files, and estimate the length of a part by its bit rate. A frame is counted
when its last byte is there; the duration is frames x samples per frame, without the trimming that players
may do of the encoder's delay.
"""

from __future__ import annotations

import re
import struct
from typing import Final

from ttstrace.audio.frames import HEADER, SYNC, Header, Kind, header
from ttstrace.audio.streams import Buffer, Sink

DECLARED: Final = ("mp3", "aac")
"""Declared formats that mean such frames, of either codec."""

_SYNC: Final = re.compile(SYNC)
_TAGS: Final = (b"ID3", b"TAG", b"APE")
_BEGINNING: Final = re.compile(b"|".join((SYNC + rb"[^\xff]", *_TAGS)), re.DOTALL)
_TAG_HEADER: Final = 24
"""Bytes of a tag that tell its length, at most."""
_APE_HEADER: Final = 1 << 29

_BLOCK: Final = 8_000
"""Bytes joined at a time with what is held, which is less than a frame and a header."""
_MOST_JUNK: Final = 65_536
"""Bytes in a row without a frame after which this is no audio."""
_PATIENCE: Final = 64
"""So many oddities (tags, false beginnings, changes of kind), and one more per so many bytes, are put up with."""


def looks_like_frame(head: Buffer) -> bool:
    """`head` may begin a frame."""
    return _SYNC.match(head) is not None


class Framed:
    """Reads frames split at any byte, of whichever codec they are.

    With an ID3 tag before it, or `declared` to be such a stream, the first frame is believed; otherwise a frame
    counts once the header of the next one agrees with it, and bytes that do not begin so are no such stream.
    Tags (ID3v1, ID3v2, APE) and frames that hold a table (Xing, Info, VBRI) are no audio, wherever they stand.
    """

    def __init__(self, declared: str | None) -> None:
        self.failed = False
        self.format: str | None = None
        self._declared = declared
        self._believed = declared in DECLARED  # the next frame is, whatever its kind
        self._begun = self._believed  # what is no frame is junk, and no proof of something else
        self._searching = False
        self._doubted = False  # what is held: if it is no frame, others may begin within it
        self._kind: Kind | None = None  # of the last frame, unless junk came after it
        self._heard = False  # audio
        self._rest = b""
        self._passed = 0  # bytes before the rest
        self._skip = 0  # bytes of a tag that are still to come
        self._junk = 0
        self._oddities = 0

    def feed(self, data: Buffer, sink: Sink) -> None:
        if sink.searching:
            sink.deafen()
        for begin in range(0, len(data), _BLOCK):
            if self.failed:
                return
            self._parse(self._rest + bytes(data[begin : begin + _BLOCK]), sink)
        if self._doubted and self._begun:
            sink.postpone()

    def finish(self, sink: Sink) -> None:
        if not self.failed:
            self._parse(self._rest, sink, last=True)
        if not self._heard and (self._rest or self._junk):
            self.failed = True
        if self.format is None:
            self.format = self._declared
        self._rest = b""

    def _parse(self, buffer: bytes, sink: Sink, *, last: bool = False) -> None:
        size = len(buffer)
        at = min(self._skip, size)
        self._skip -= at
        kind = self._kind
        samples = 0
        while not self.failed:
            if self._searching:
                at = self._search(buffer, at, size)
            if size - at < HEADER:
                break
            found = header(buffer, at)
            if found is not None and found[2] == kind:
                end = at + found[0]
                if end > size:
                    break
                if not kind.table or not _is_table(buffer, at, end, kind.table):
                    samples += found[1]
                at = end
                continue
            self._tell(samples, sink)
            samples = 0
            step = self._settle(buffer, at, size, found, last)
            if step is None:
                break
            kind = self._kind
            at += step
            self._skip = max(at - size, 0)
            at -= self._skip
        self._tell(samples, sink)
        self._passed += at
        self._rest = b"" if self.failed else buffer[at:]

    def _tell(self, samples: int, sink: Sink) -> None:
        if samples and self._kind is not None:
            self._heard = True
            sink.count(samples, self._kind.rate, self._kind.channels)

    def _settle(self, buffer: bytes, at: int, size: int, found: Header | None, last: bool) -> int | None:
        """Take what is no frame of the last kind: bytes to pass, or None where more have to come to tell."""
        step = None
        self._doubted = False
        if found is not None:
            following: Header | None = found
            if not self._believed:
                end = at + found[0]
                if end + HEADER > size and not last:
                    self._doubted = True
                    return None
                following = header(buffer, end)
            if following is not None and following[2] == found[2]:
                self._kind = found[2]
                self.format = self.format or found[2].format
                self._believed = False
                step = 0
        elif buffer.startswith(_TAGS, at):
            if size - at < _TAG_HEADER:
                return None
            step = _tag_length(buffer, at)
            if buffer.startswith(b"ID3", at):
                self._believed = True
                self._kind = None
        self._oddities += 1
        if self._oddities > _PATIENCE + (self._passed + at) // _PATIENCE:
            self.failed = True
        if step is not None:
            self._begun = True
            self._searching = False
            self._junk = 0
            return step
        self.failed = self.failed or not self._begun
        self._searching = True
        self._believed = False
        self._kind = None
        self._junk += 1
        return 1

    def _search(self, buffer: bytes, at: int, size: int) -> int:
        """Where a frame or a tag may begin next; the last two bytes may begin either."""
        match = _BEGINNING.search(buffer, at)
        found = match.start() if match is not None else max(at, size - 2)
        self._junk += found - at
        self.failed = self._junk > _MOST_JUNK
        return found


def _is_table(buffer: bytes, at: int, end: int, table: int) -> bool:
    return buffer.startswith((b"Xing", b"Info"), at + table, end) or buffer.startswith(b"VBRI", at + 36, end)


def _tag_length(buffer: bytes, at: int) -> int | None:
    """Bytes of the tag at `at`, or None where there is none."""
    if buffer.startswith(b"TAG", at):
        return 128
    if buffer.startswith(b"ID3", at):
        _, _, _, major, minor, flags, a, b, c, d = buffer[at : at + 10]
        if major == 0xFF or minor == 0xFF or (a | b | c | d) & 0x80:
            return None
        return 10 + (a << 21 | b << 14 | c << 7 | d) + (10 if flags & 0x10 else 0)
    if not buffer.startswith(b"APETAGEX", at):
        return None
    # The same 32 bytes begin and end a tag; the size is that of what follows the first.
    length, flags = struct.unpack_from("<I4xI", buffer, at + 12)
    return 32 + (length if flags & _APE_HEADER else 0)
