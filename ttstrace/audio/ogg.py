"""Ogg (RFC 3533) with Opus, Vorbis, FLAC or Speex in it: pages counted as they come.

mutagen and tinytag look for the last page of a whole file. Pages say where they end in samples, their granule
position, and that is believed but for Opus, whose packets say how long they are: there are services that write
positions at another rate than RFC 7845 has it, or the same one into every page, and players play the packets.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from typing import Final, NamedTuple, Protocol

from ttstrace.audio import opus
from ttstrace.audio.flac import STREAMINFO, stream_info
from ttstrace.audio.rate import sample_rate_of
from ttstrace.audio.streams import Buffer, Sink

_CAPTURE: Final = b"OggS\x00"
"""What a page begins with: the pattern, and the version."""
_PAGE: Final = struct.Struct("<5xBqI8xB")
"""A page's header: flags, granule position, serial number of its stream, segments."""
_CONTINUED, _FIRST, _LAST = 1, 2, 4  # flags: begins within a packet; begins, ends a stream

_BLOCK: Final = 16_384
_CODEC_HEADER: Final = 80
"""Bytes of a stream's first packet that are looked at; Speex has the longest header."""
_MOST_JUNK: Final = 131_072
"""Bytes in a row without a page, of which the longest has half as many."""
_SMALL: Final = 64
_MOST_EMPTY: Final = 256
"""Pages in a row with a body of less than `_SMALL` bytes, and no audio."""


class _Page(NamedTuple):
    flags: int
    granule: int
    """Samples up to its last packet; -1 where no packet ends on it."""
    table: bytes
    """The segments' lengths: less than 255 ends a packet."""
    size: int
    """Bytes of its body."""


class _Codec(Protocol):
    """Counts the pages of one stream."""

    format: str
    rate: int | None
    channels: int | None

    def begin(self, page: _Page) -> None:
        """A page of the stream begins, after its first."""

    def look(self, buffer: bytes, at: int, offset: int, count: int) -> None:
        """`count` bytes of the page's body stand at `at`, `offset` bytes into it; so does one more, if there is one."""

    def end(self, page: _Page) -> int:
        """The page is complete: samples per channel that it adds."""


class _Positions:
    """A stream whose granule positions count samples."""

    def __init__(self, format: str, rate: int | None, channels: int | None, longest: int) -> None:
        self.format = format
        self.rate = rate
        self.channels = channels
        self._longest = longest  # packet, in samples
        self._position = 0

    def begin(self, page: _Page) -> None:
        pass

    def look(self, buffer: bytes, at: int, offset: int, count: int) -> None:
        pass

    def end(self, page: _Page) -> int:
        if page.granule < 0:
            return 0
        frames = page.granule - self._position
        self._position = page.granule
        packets = len(page.table) - page.table.count(255)
        # More than the packets can hold: pages are missing, and where there are none, nothing is said of this one.
        return frames if 0 <= frames <= packets * self._longest else 0


class _Opus:
    """A stream of Opus (RFC 7845): packets counted by how long they say they are."""

    def __init__(self, channels: int | None, pre_skip: int) -> None:
        self.format = "opus"
        self.rate: int | None = opus.RATE
        self.channels = channels
        self._skip = pre_skip  # samples that are still to be dropped
        self._position = 0
        self._trusted = True  # positions count these samples
        self._tags = True  # the second packet, which is no audio, has not ended
        self._audio = False  # this page holds some
        self._starts: list[int] = []  # of the packets in this page's body; and its end
        self._looked = 0  # of them
        self._sum = 0  # samples of these packets
        self._latest = 0  # of the last one
        self._begun = 0  # of the packet that goes on on the next page

    def begin(self, page: _Page) -> None:
        self._audio = not self._tags or page.granule > 0
        self._looked = self._sum = self._latest = 0
        self._starts = starts = []
        if not page.flags & _CONTINUED:
            self._begun = 0
        if not self._audio:
            return
        self._tags = False
        at = 0
        fresh = not page.flags & _CONTINUED
        for length in page.table:
            if fresh and length:
                starts.append(at)
            at += length
            fresh = length < 255
        starts.append(at)

    def look(self, buffer: bytes, at: int, offset: int, count: int) -> None:
        starts, first = self._starts, self._looked
        self._looked = last = bisect_left(starts, offset + count, first)
        at -= offset
        samples = 0
        for index in range(first, last):
            start = starts[index]
            samples = opus.SAMPLES[buffer[at + start]]
            if samples < 0:
                frames = buffer[at + start + 1] & 63 if starts[index + 1] - start > 1 else 0
                samples *= -frames
                if samples > opus.LONGEST:
                    samples = 0
            self._sum += samples
        if last > first:
            self._latest = samples

    def end(self, page: _Page) -> int:
        goes_on = page.table[-1:] == b"\xff"
        ended = len(page.table) - page.table.count(255)
        if not self._audio:
            self._tags = not ended
            return 0
        frames = self._sum
        if ended:
            frames += self._begun
            self._begun = 0
        if goes_on:
            frames -= self._latest
            self._begun += self._latest
        granule = page.granule
        if granule < 0:
            self._position += frames
        else:
            missing = self._position + frames - granule
            if page.flags & _LAST and self._trusted:
                frames -= min(max(missing, 0), frames)
            elif missing > 0:
                self._trusted = False
            self._position = granule
        skipped = min(self._skip, frames)
        self._skip -= skipped
        return frames - skipped


def _codec(packet: bytes) -> _Codec | None:
    """What the first packet of a stream begins, if it is audio that is known."""
    if packet.startswith(b"OpusHead") and len(packet) >= 19:
        return _Opus(packet[9] or None, int.from_bytes(packet[10:12], "little"))
    if packet.startswith(b"\x01vorbis") and len(packet) >= 30:
        longest = (1 << min(packet[28] >> 4, 13)) // 2  # half of a long block
        return _Positions("vorbis", _rate(packet, 12), packet[11] or None, longest)
    if packet.startswith(b"\x7fFLAC") and packet[9:13] == b"fLaC" and len(packet) >= 17 + STREAMINFO:
        info = stream_info(packet[17 : 17 + STREAMINFO])
        return _Positions("flac", info.rate, info.channels, 65_535)
    if packet.startswith(b"Speex   ") and len(packet) >= 80:
        channels, frame, frames = (int.from_bytes(packet[at : at + 4], "little") for at in (48, 56, 64))
        return _Positions(
            "speex", _rate(packet, 36), channels if 1 <= channels <= 2 else None, min(frame * max(frames, 1), 65_535)
        )
    return None


def _rate(packet: bytes, at: int) -> int | None:
    return sample_rate_of(int.from_bytes(packet[at : at + 4], "little"))


class Ogg:
    """Reads Ogg split anywhere. Of streams side by side the first with audio counts, of streams in a row each."""

    def __init__(self) -> None:
        self.failed = False
        self._format: str | None = None
        self._rest = b""  # less than the headers of a page and of a codec
        self._codec: _Codec | None = None
        self._serial = -1
        self._beginning = True  # only first pages of streams came
        self._page: _Page | None = None  # whose body comes
        self._passed = 0  # bytes of it
        self._counts = False  # it is one of the audio stream
        self._junk = 0
        self._empty = 0

    @property
    def format(self) -> str | None:
        return self._format or ("ogg" if self.failed else None)

    def feed(self, data: Buffer, sink: Sink) -> None:
        if sink.searching:
            sink.deafen()
        for begin in range(0, len(data), _BLOCK):
            if self.failed:
                return
            self._parse(self._rest + bytes(data[begin : begin + _BLOCK]), sink)

    def finish(self, sink: Sink) -> None:
        if self._codec is None:
            self.failed = True
        self._rest = b""

    def _parse(self, buffer: bytes, sink: Sink) -> None:
        at, size = 0, len(buffer)
        while not self.failed:
            page = self._page
            if page is not None:
                left = page.size - self._passed
                # Whoever looks at a byte may look at the next one.
                count = left if left <= size - at else size - at - 1
                if count < 0:
                    break
                if self._counts and self._codec is not None:
                    self._codec.look(buffer, at, self._passed, count)
                self._passed += count
                at += count
                if count < left:
                    break
                self._page = None
                self._end(page, sink)
            elif size - at < _PAGE.size:
                break
            elif not buffer.startswith(_CAPTURE, at):
                at = self._resync(buffer, at)
            else:
                flags, granule, serial, segments = _PAGE.unpack_from(buffer, at)
                body = at + _PAGE.size + segments
                table = buffer[at + _PAGE.size : body]
                length = sum(table)
                if size < body + (min(length, _CODEC_HEADER) if flags & _FIRST else 0):
                    break
                self._page = page = _Page(flags, granule, table, length)
                self._passed = self._junk = 0
                if flags & _FIRST:
                    self._begin_stream(serial, buffer[body : body + min(table[0] if table else 0, _CODEC_HEADER)], sink)
                else:
                    self._begin_page(serial, page)
                at = body
        self._rest = b"" if self.failed else buffer[at:]

    def _begin_stream(self, serial: int, packet: bytes, sink: Sink) -> None:
        self._counts = False
        if not self._beginning or serial == self._serial:
            self._codec = None
            self._beginning = True
        if self._codec is None:
            codec = self._codec = _codec(packet)
            if codec is not None:
                self._serial = serial
                self._format = self._format or codec.format
                sink.count(0, codec.rate, codec.channels)

    def _begin_page(self, serial: int, page: _Page) -> None:
        self._beginning = False
        if self._codec is None:  # audio, perhaps, of which nothing is known
            self.failed = True
            return
        self._counts = serial == self._serial
        if self._counts:
            self._codec.begin(page)

    def _end(self, page: _Page, sink: Sink) -> None:
        frames = 0
        if self._counts and self._codec is not None:
            frames = self._codec.end(page)
            sink.count(frames, self._codec.rate, self._codec.channels)
        if frames:
            self._empty = 0
        elif page.size < _SMALL:
            self._empty += 1
            self.failed = self._empty > _MOST_EMPTY

    def _resync(self, buffer: bytes, at: int) -> int:
        """The next position at which a page may begin."""
        found = buffer.find(_CAPTURE, at + 1)
        if found < 0:
            found = len(buffer) - len(_CAPTURE) + 1
        self._junk += found - at
        self.failed = self._junk > _MOST_JUNK
        return found
