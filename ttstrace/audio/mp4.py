"""MP4 and M4A (ISO/IEC 14496-12, the ISO base media file format), whole files and fragments, as far as headers tell.

mutagen and tinytag want the whole file, and believe what its header says even where the audio did not come.
Here the length is what the first audio track says of itself, once the bytes that hold it are there.
"""

from __future__ import annotations

import struct
from typing import Final

from ttstrace.audio.fields import Fields
from ttstrace.audio.pcm import ENDLESS
from ttstrace.audio.rate import sample_rate_of
from ttstrace.audio.streams import Buffer, Sink

_PARENT: Final = {
    b"moov": b"",
    b"trak": b"moov",
    b"edts": b"trak",
    b"mdia": b"trak",
    b"minf": b"mdia",
    b"stbl": b"minf",
    b"mvex": b"moov",
    b"moof": b"",
    b"traf": b"moof",
}
"""Boxes of boxes that are looked into, and where they stand; b"" is the file."""

_EDITS: Final = 64
"""Entries of an edit list that are read at most; with more of them the presentation is unknown."""

_WANTED: Final = {
    b"mvhd": (b"moov", 24),
    b"tkhd": (b"trak", 24),
    b"elst": (b"edts", 8 + 20 * _EDITS),
    b"mdhd": (b"mdia", 32),
    b"hdlr": (b"mdia", 12),
    b"stsd": (b"stbl", 44),
    b"esds": (b"stsd", 128),
    b"stsz": (b"stbl", 12),
    b"stz2": (b"stbl", 12),
    b"trex": (b"mvex", 16),
    b"tfhd": (b"traf", 24),
    b"trun": (b"traf", 8),
}
"""Boxes that are read: where they stand, and how many bytes of their body."""

_PIECE: Final = 1024
"""Numbers of a table of samples that are read at once."""
_MOST_TRACKS: Final = 64
"""Tracks whose defaults are kept."""
_LONGEST: Final = 65_536
"""No codec has a frame of more samples than this (FLAC's may be one less)."""
_MOST_BOXES: Final = 1000
"""Boxes without any audio after which this is no MP4."""


class _Track:
    """What is known of a track."""

    def __init__(self) -> None:
        self.id = 0
        self.sounds = False
        self.timescale = 0
        """Units per second, in which its times are counted."""
        self.length: int | None = None
        """Of its media in `moov`, in units; None is unknown."""
        self.edits: list[tuple[int, int]] | None = []
        """(duration in the movie's timescale, first unit of the media) of what is presented; None is unknown."""
        self.rate: int | None = None
        self.channels: int | None = None
        self.samples = 0
        """Codec frames that `moov` knows; of raw samples, these."""
        self.bytes = 0
        """That they take at least."""


class Mp4(Fields):
    """Reads MP4 split anywhere: `moov` before or after the audio, or fragments. Files in a row are read in turn.

    A file's length counts when both its `moov` and its audio are there: the presentation that the edit list of
    the track names, which leaves out what encoders put before the first sample. A fragment's length counts when
    its last byte is there.
    """

    format: Final = "mp4"

    def __init__(self) -> None:
        super().__init__(8)
        self._at = 0  # bytes read so far
        self._boxes = 0
        self._endless = False  # a box has no other end than that of the bytes
        self._heard = 0  # bytes of mdat in all
        self._waiting = False  # bytes of audio have come whose length moov tells
        self._touched = False  # ... some of them with this feed
        self._open: list[tuple[bytes, int]] = []  # the boxes around the next byte, and where they end
        self._reset()

    def _reset(self) -> None:
        """Before the first box of a file."""
        self._name = b""  # of the box whose body is read; none while a header is
        self._end = 0  # where that body ends
        self._movie_timescale = 0
        self._reading = _Track()
        self._found: _Track | None = None  # the first that sounds, in moov so far
        self._defaults: dict[int, int] = {}  # track to duration of a sample
        self._track: _Track | None = None  # once moov is complete
        self._media = False  # the body that passes is mdat
        self._bytes = 0  # of mdat, since audio was counted
        self._due = 0  # codec frames that count with the mdat that comes, or that came
        self._due_units = 0  # how long they are
        self._due_bytes = 0  # that they take at least
        self._told = False  # by moov, not by a fragment
        self._fragmented = False
        self._before = 0  # units at the start that are not presented
        self._units = 0  # presented so far
        self._frames = 0  # counted so far
        self._default: int | None = None  # duration of a sample in this fragment
        self._ours = False  # the fragment is of the audio track
        self._rows = 0  # of the table of samples, still to come
        self._row = 0  # words in each

    def feed(self, data: Buffer, sink: Sink) -> None:
        if sink.searching:
            sink.deafen()
        waited = self._waiting
        self._touched = False
        super().feed(data, sink)
        if self._touched if self._waiting else waited:
            sink.postpone()

    def finish(self, sink: Sink) -> None:
        if self._endless and not self._open:
            self._passed(sink)
        elif self._endless and len(self._open) == 1 and not self.left and not self._held and not self._name:
            self._at = ENDLESS
            self._close(sink)
        self._settle()

    def take(self, field: bytes, sink: Sink) -> None:
        name = self._name
        if not name:
            self._header(field, sink)
        else:
            self._at += len(field)
            self._name, self.need = b"", 8
            if name == b"trun" and self._row:
                self._table(field)
            else:
                self._box(name, field, sink)
            if not self._name:
                self.left = max(self._end - self._at, 0)
        if not self.left and not self._name:
            self._close(sink)

    def passed(self, data: Buffer, sink: Sink) -> None:
        count = len(data)
        self._at += count
        if self._media:
            self._bytes += count
            self._heard += count
            if self._track is None or self._told:
                self._waiting = self._touched = True
        if not self.left:
            self._passed(sink)

    def _passed(self, sink: Sink) -> None:
        if self._media:
            self._media = False
            self._count(sink)
        if not self._name:
            self._close(sink)

    # Boxes.

    def _header(self, field: bytes, sink: Sink) -> None:
        size = int.from_bytes(field[:4], "big")
        if size == 1 and len(field) == 8:
            self._held, self.need = field, 16
            return
        header = len(field)
        self.need = 8
        self._boxes += 1
        begin = self._at
        self._at += header
        parent, most = self._open[-1] if self._open else (b"", ENDLESS)
        if header == 16:
            size = int.from_bytes(field[8:], "big")
        elif not size:  # to the end
            size = most - begin
            self._endless = not parent
        if size < header or self._boxes > _MOST_BOXES + self._heard // 8:
            self.failed = True
            return
        self._end = min(begin + size, most)
        body = self._end - self._at
        name = field[4:8]
        if _PARENT.get(name) == parent:
            self._enter(name, sink)
        elif body > 0 and (wanted := _WANTED.get(name)) is not None and wanted[0] == parent:
            self._name = name
            self.need = min(body, wanted[1])
        else:
            if not parent:
                if name == b"ftyp":
                    self._renew(sink)
                self._media = name == b"mdat" and body > 0
            self.left = max(body, 0)

    def _enter(self, name: bytes, sink: Sink) -> None:
        if name == b"moov" and self._track is not None:
            end = self._end
            self._renew(sink)
            self._end = end
        self._open.append((name, self._end))
        if name == b"trak":
            self._reading = _Track()
        elif name == b"moof":
            self._fragmented = True
            if not self._due:
                self._bytes = 0  # what a fragment describes comes after it
        elif name == b"traf":
            self._ours = False

    def _close(self, sink: Sink) -> None:
        """Leave the boxes that end here."""
        while self._open:
            name, end = self._open[-1]
            if self._at + 8 <= end:
                return
            if self._at < end:
                self.left = end - self._at
                return
            self._open.pop()
            if name == b"moov":
                self._on_movie(sink)
            elif name == b"trak" and self._found is None and self._reading.sounds:
                self._found = self._reading

    def _box(self, name: bytes, body: bytes, sink: Sink) -> None:
        long = body[0] == 1  # version 1 of a box has 64-bit times
        track = self._reading
        if name == b"mvhd":
            self._movie_timescale = _uint(body, 20 if long else 12)
        elif name == b"tkhd":
            track.id = _uint(body, 20 if long else 12)
        elif name == b"mdhd":
            track.timescale = _uint(body, 20 if long else 12)
            length = body[24:32] if long else body[16:20]
            track.length = int.from_bytes(length, "big") if length.strip(b"\xff") else None
        elif name == b"hdlr":
            track.sounds = body[8:12] == b"soun"
        elif name == b"elst":
            track.edits = _edits(body, long)
        elif name == b"stsd":
            self._on_description(body, track)
        elif name == b"esds":
            track.channels = _aac_channels(body)
        elif name in (b"stsz", b"stz2"):
            track.samples = _uint(body, 8)
            track.bytes = track.samples * (max(_uint(body, 4), 1) if name == b"stsz" else 1)
        elif name == b"trex":
            if len(self._defaults) < _MOST_TRACKS:
                self._defaults[_uint(body, 4)] = _uint(body, 12)
        elif name == b"tfhd":
            self._on_fragment(body)
        elif name == b"trun":
            self._on_run(body)

    def _on_description(self, body: bytes, track: _Track) -> None:
        """The first entry of `stsd`: after its header of 8 bytes a box, that begins with an AudioSampleEntry."""
        version = _uint(body, 24, 2)
        track.rate = sample_rate_of(_uint(body, 40, 2))
        # QuickTime's version 2 has other fields in these places, with constants in them.
        track.channels = (_uint(body, 32, 2) or None) if version < 2 else None
        if body[12:16] == b"mp4a" and version == 0:
            # Many muxers write two channels for AAC, whatever there are.
            track.channels = None
            self._open.append((b"stsd", min(8 + self._at - len(body) + _uint(body, 8), self._end)))
            self._end = self._at

    # Lengths.

    def _on_movie(self, sink: Sink) -> None:
        track = self._found
        if track is None:
            return
        track.rate = track.rate or sample_rate_of(track.timescale)
        if track.rate is None or not track.timescale or track.edits is None:
            self.failed = True
            return
        self._track = track
        sink.count(0, track.rate, track.channels)
        if not track.samples:
            self._before = next((start for _, start in track.edits if start > 0), 0)
            return
        length = self._presentation(track)
        if length is None:
            self.failed = True
            return
        self._due, self._due_units, self._due_bytes = track.samples, length, track.bytes
        self._told = True
        if not self._media:
            self._count(sink)

    def _presentation(self, track: _Track) -> int | None:
        """Units of the track's media that its edit list presents."""
        media = track.length
        if media is None or not track.edits:
            return media
        movie = self._movie_timescale
        units = 0
        for duration, start in track.edits:
            there = max(media - start, 0)
            if duration:
                if not movie:
                    return None
                asked = duration * track.timescale // movie
                # The movie's timescale is coarse, often milliseconds: an edit that nearly ends with the media does.
                if there > asked + track.timescale // movie:
                    there = asked
            units += there
        return min(units, media)

    def _on_fragment(self, body: bytes) -> None:
        flags = _uint(body, 0) & 0xFFFFFF
        number = _uint(body, 4)
        self._ours = self._track is not None and number == self._track.id
        self._default = self._defaults.get(number)
        if flags & 0x8:
            self._default = _uint(body, 8 + (8 if flags & 0x1 else 0) + (4 if flags & 0x2 else 0))

    def _on_run(self, body: bytes) -> None:
        if not self._ours:
            return
        flags, count = _uint(body, 0) & 0xFFFFFF, _uint(body, 4)
        words = sum(1 for flag in (0x100, 0x200, 0x400, 0x800) if flags & flag)
        table = self._at + (4 if flags & 0x1 else 0) + (4 if flags & 0x4 else 0)
        if table + 4 * words * count > self._end:
            self.failed = True
            return
        self._due += count
        self._due_bytes += count
        if not flags & 0x100:
            if self._default is None:
                self.failed = True
            else:
                self._due_units += count * self._default
        elif count:
            self.left = table - self._at
            self._rows, self._row = count, words
            self._more_rows()

    def _more_rows(self) -> None:
        self._name = b"trun"
        self.need = 4 * self._row * min(self._rows, _PIECE // self._row)

    def _table(self, field: bytes) -> None:
        numbers = struct.unpack(f">{len(field) // 4}I", field)
        # The duration comes first in each row.
        self._due_units += sum(numbers[:: self._row])
        self._rows -= len(numbers) // self._row
        if self._rows:
            self._more_rows()
        else:
            self._row = 0

    def _count(self, sink: Sink) -> None:
        """Count what is due, where the bytes that hold it have come."""
        track = self._track
        if track is None or not self._due or self._bytes < self._due_bytes:
            return
        if track.rate is None or self._due_units * track.rate > self._due * _LONGEST * track.timescale:
            self.failed = True
            return
        unheard = min(self._before, self._due_units)
        self._before -= unheard
        self._units += self._due_units - unheard
        # From the start, so that rounding does not add up.
        frames = (2 * self._units * track.rate + track.timescale) // (2 * track.timescale)
        sink.count(frames - self._frames, track.rate, track.channels)
        self._frames = frames
        self._due = self._due_units = self._due_bytes = self._bytes = 0
        self._told = self._waiting = False

    def _renew(self, sink: Sink) -> None:
        """Another file begins."""
        if self._track is not None or self._bytes:
            self._settle()
        self._reset()

    def _settle(self) -> None:
        # Of a fragment that only was announced nothing has come.
        uncounted = self._bytes and (self._due or self._media or not (self._frames or self._fragmented))
        if self._track is None or self._told or uncounted:
            self.failed = True
        self._waiting = False


def _uint(body: bytes, at: int, width: int = 4) -> int:
    return int.from_bytes(body[at : at + width], "big")


def _edits(body: bytes, long: bool) -> list[tuple[int, int]] | None:
    """What the edit list presents: (duration in the movie's timescale, 0 for all of it, first unit of the media)."""
    count = _uint(body, 4)
    layout = struct.Struct(">QqI" if long else ">IiI")
    if count > _EDITS or 8 + count * layout.size > len(body):
        return None
    rows = [layout.unpack_from(body, 8 + layout.size * row) for row in range(count)]
    # An edit that begins at -1 is a pause before the media.
    return [(duration, start) for duration, start, _ in rows if start >= 0]


def _aac_channels(body: bytes) -> int | None:
    """Channels by the AudioSpecificConfig in an `esds` box (ISO/IEC 14496-1, 7.2.6, and 14496-3, 1.6.2)."""
    at, end = 4, len(body)
    while at < end:
        tag = body[at]
        at += 1
        while at < end and body[at] & 0x80:  # a length in groups of seven bits
            at += 1
        at += 1
        if tag == 3:  # ES_Descriptor
            flags = body[at + 2] if at + 2 < end else 0xFF
            if flags & 0xE0:  # fields that MP4 does not allow
                return None
            at += 3
        elif tag == 4:  # DecoderConfigDescriptor
            if at >= end or body[at] not in (0x40, 0x66, 0x67, 0x68):  # AAC
                return None
            at += 13
        elif tag == 5:  # DecoderSpecificInfo
            return _config_channels(body[at : at + 8])
        else:
            return None
    return None


def _config_channels(config: bytes) -> int | None:
    bits = int.from_bytes(config.ljust(8, b"\0"), "big")
    at = 59
    kind = bits >> at & 31
    if kind == 31:
        at -= 6
    at -= 4
    if bits >> at & 15 == 15:
        at -= 24
    channels = bits >> (at - 4) & 15
    if kind == 29 and channels == 1:
        return 2  # parametric stereo
    return {7: 8, 11: 7, 12: 8, 14: 8}.get(channels, channels if 0 < channels < 7 else None)
