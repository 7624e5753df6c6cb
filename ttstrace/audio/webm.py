"""WebM and Matroska (RFC 9559, in EBML, RFC 8794), files and live streams, as far as headers tell.

mutagen and tinytag do not read Matroska, and the libraries that do want it whole. Opus is counted frame by
frame, and PCM by its bytes. Of all other codecs the length is what the timestamps of the blocks tell: a block
lasts until the next one begins.
"""

from __future__ import annotations

import math
import struct
from typing import Final

from ttstrace.audio import opus
from ttstrace.audio.fields import Fields
from ttstrace.audio.rate import sample_rate_of
from ttstrace.audio.streams import Buffer, Sink

_EBML: Final = 0x1A45DFA3
_SEGMENT: Final = 0x18538067
_INFO: Final = 0x1549A966
_TIMESTAMP_SCALE: Final = 0x2AD7B1
_DURATION: Final = 0x4489
_TRACKS: Final = 0x1654AE6B
_TRACK: Final = 0xAE
_NUMBER: Final = 0xD7
_TYPE: Final = 0x83
_CODEC: Final = 0x86
_CODEC_PRIVATE: Final = 0x63A2
_CODEC_DELAY: Final = 0x56AA
_DEFAULT_DURATION: Final = 0x23E383
_ENCODINGS: Final = 0x6D80
_AUDIO: Final = 0xE1
_RATE: Final = 0xB5
_OUTPUT_RATE: Final = 0x78B5
_CHANNELS: Final = 0x9F
_BITS: Final = 0x6264
_CLUSTER: Final = 0x1F43B675
_TIMESTAMP: Final = 0xE7
_SIMPLE_BLOCK: Final = 0xA3
_GROUP: Final = 0xA0
_BLOCK: Final = 0xA1
_BLOCK_DURATION: Final = 0x9B
_DISCARD: Final = 0x75A2

_OPENED: Final = (_SEGMENT, _INFO, _TRACKS, _TRACK, _AUDIO, _CLUSTER, _GROUP)
_UNSIGNED: Final = (
    _TIMESTAMP_SCALE, _NUMBER, _TYPE, _CODEC_DELAY, _DEFAULT_DURATION, _CHANNELS, _BITS, _TIMESTAMP, _BLOCK_DURATION
)  # fmt: skip
_FLOATS: Final = (_DURATION, _RATE, _OUTPUT_RATE)
_OF_TRACK: Final = (
    _NUMBER, _TYPE, _CODEC, _CODEC_PRIVATE, _CODEC_DELAY, _DEFAULT_DURATION, _ENCODINGS, _RATE, _OUTPUT_RATE,
    _CHANNELS, _BITS
)  # fmt: skip
_OF_GROUP: Final = (_BLOCK_DURATION, _DISCARD)

_HEADER, _VALUE, _BLOCK_HEAD, _PACKET, _LACED, _LACES = range(6)  # what the next field is

_PCM: Final = (b"A_PCM/INT/LIT", b"A_PCM/INT/BIG", b"A_PCM/FLOAT/IEEE")
_SECOND: Final = 1_000_000_000
"""Nanoseconds, in which Matroska counts."""
_LONGEST_NAME: Final = 64
"""Bytes of a codec's name that are read."""
_OPUS_HEAD: Final = 12
"""Bytes of a CodecPrivate that are read: the beginning of an OpusHead (RFC 7845, section 5.1)."""
_MOST_LACED: Final = 16_384
"""Bytes of a block that is held to find the frames in it."""
_LONGEST: Final = 16_384
"""No frame of speech has more samples: a gap in the timestamps that is longer is of unknown meaning."""
_MOST_ELEMENTS: Final = 1000
"""Elements without any audio after which this is no Matroska."""


class Webm(Fields):
    """Reads WebM and Matroska split anywhere; files in a row are read in turn.

    A block counts when its last byte is there. Where timestamps tell its length it counts with the next block,
    and the last one is as long as the file's Duration says, or, in a live stream, as the one before it.
    """

    format: Final = "webm"

    def __init__(self) -> None:
        super().__init__(2)
        self._elements = 0
        self._payload = 0  # bytes of blocks in all
        self._late = False  # this feed has audio whose length it does not tell
        self._reset()

    def _reset(self) -> None:
        """Before the first element of a file."""
        self._at = 0
        self._stage = _HEADER
        self._id = 0  # of the element that is read
        self._rest = 0  # bytes of it that are not
        self._begun = False
        self._told: dict[int, int | float | bytes] = {}
        self._group = 0  # the TrackEntry or BlockGroup that is open, if any
        self._stale = False  # something was told in the one before
        self._group_end = 0
        # Of the track that is heard.
        self._track: int | None = None
        self._opus = False
        self._pcm = 0  # bytes of a frame of PCM
        self._counts = False  # blocks are counted by what is in them, not by their timestamps
        self._rate = 0
        self._channels: int | None = None
        self._default: int | None = None  # nanoseconds of a frame
        self._skip = 0  # samples at the start that are not heard
        # The block that is read.
        self._sounding = False
        self._block_end = 0
        self._lacing = 0
        self._start = 0  # nanoseconds
        self._frames = 0  # frames of its codec; samples, of Opus and PCM
        self._whole = False  # it has come, and waits for the rest of its group
        # Where timestamps tell.
        self._first: int | None = None
        self._last = 0  # when the last block began
        self._last_frames = 0
        self._last_trim = 0
        self._open = False  # its length is not known yet
        self._lasted: tuple[int, int] | None = None  # nanoseconds and codec frames of the block before
        self._longest = 0  # nanoseconds of a codec frame
        self._trimmed = 0  # nanoseconds
        self._counted = 0

    def feed(self, data: Buffer, sink: Sink) -> None:
        if sink.searching:
            sink.deafen()
        self._late = False
        waited = self._whole
        super().feed(data, sink)
        if self._late or self._whole != waited:
            sink.postpone()

    def finish(self, sink: Sink) -> None:
        self._settle(sink)

    def take(self, field: bytes, sink: Sink) -> None:
        self._at += len(field)
        stage = self._stage
        if stage == _HEADER:
            self._header(field, sink)
        elif stage == _VALUE:
            self._value(field)
        elif stage == _BLOCK_HEAD:
            self._block_head(field)
        elif stage == _PACKET:
            self._on_packet(field)
        elif stage == _LACED:
            self._on_laced(field)
        else:
            self._on_laces(field)
        if not self.left and self._stage == _HEADER and not self._held:
            self._over(sink)

    def passed(self, data: Buffer, sink: Sink) -> None:
        self._at += len(data)
        if not self.left:
            self._over(sink)

    # Elements.

    def _header(self, field: bytes, sink: Sink) -> None:
        width = 9 - field[0].bit_length()
        whole = width + 1
        if len(field) > width:
            whole = width + 9 - field[width].bit_length()
        if width > 4 or whole > width + 8:
            self.failed = True
            return
        if len(field) < whole:
            self._at -= len(field)
            self._held, self.need = field, whole
            return
        self.need = 2
        self._elements += 1
        if self._elements > _MOST_ELEMENTS + self._payload // 8:
            self.failed = True
            return
        self._id = name = int.from_bytes(field[:width], "big")
        size, unknown = _number(field, width)
        if name == _EBML:
            self._renew(sink)
        if unknown and name not in (_SEGMENT, _CLUSTER):
            self.failed = True
        elif name in (_SIMPLE_BLOCK, _BLOCK):
            self._begin_block(size, sink)
        elif name in _OPENED:
            if name in (_TRACK, _GROUP):
                if self._stale:
                    for other in _OF_TRACK if name == _TRACK else _OF_GROUP:
                        self._told.pop(other, None)
                    self._stale = False
                self._group, self._group_end = name, self._at + size
        else:
            read = 0
            if name in _UNSIGNED or name in _FLOATS or name == _DISCARD:
                read = size if size <= 8 else 0
            elif name == _CODEC:
                read = size if size <= _LONGEST_NAME else 0
            elif name == _CODEC_PRIVATE:
                read = min(size, _OPUS_HEAD)
            elif name == _ENCODINGS:
                self._told[name] = 1
                self._stale = True
            self.left = size
            if read:
                self._stage, self.need, self.left, self._rest = _VALUE, read, 0, size - read

    def _value(self, field: bytes) -> None:
        self._stale = self._stale or self._group != 0
        self._stage, self.need, self.left = _HEADER, 2, self._rest
        name = self._id
        if name == _CODEC_PRIVATE:
            self._told[name] = field
        elif name == _CODEC:
            self._told[name] = field.rstrip(b"\0")
        elif name in _FLOATS:
            if len(field) in (4, 8):
                value = float(struct.unpack(">f" if len(field) == 4 else ">d", field)[0])
                if math.isfinite(value):
                    self._told[name] = value
        else:
            self._told[name] = int.from_bytes(field, "big", signed=name == _DISCARD)

    def _over(self, sink: Sink) -> None:
        """An element is complete, and with it perhaps the one around it."""
        if self._sounding:
            self._sounding = False
            self._whole = True
            if self._group != _GROUP:
                self._on_block(sink)
        if self._group and self._at >= self._group_end:
            group, self._group = self._group, 0
            if group == _TRACK:
                self._on_track(sink)
            elif self._whole:
                self._group = group
                self._on_block(sink)
                self._group = 0

    def _on_track(self, sink: Sink) -> None:
        told = self._told
        if self._track is not None or told.get(_TYPE) != 2:
            return
        codec = told.get(_CODEC)
        plain = _ENCODINGS not in told  # not compressed, and no beginning of frames left out
        self._opus = codec == b"A_OPUS" and plain
        rate = sample_rate_of(told.get(_OUTPUT_RATE, told.get(_RATE, 8000)))
        if codec == b"A_OPUS":
            rate = opus.RATE
        channels = self._integer(_CHANNELS, 1)
        self._channels = channels if 0 < channels < 1 << 16 else None
        if rate is None:
            self.failed = True
            return
        if codec in _PCM and plain:
            self._pcm = channels * ((self._integer(_BITS, 0) + 7) // 8)
            if not self._pcm:
                self.failed = True
                return
        self._counts = self._opus or bool(self._pcm)
        self._track = self._integer(_NUMBER, 0)
        self._rate = rate
        self._default = self._integer(_DEFAULT_DURATION, 0) or None
        self._skip = self._samples(self._integer(_CODEC_DELAY, 0))
        head = told.get(_CODEC_PRIVATE)
        if codec == b"A_OPUS" and isinstance(head, bytes) and len(head) == _OPUS_HEAD and head[:8] == b"OpusHead":
            # This is what decoders go by; some muxers get CodecDelay wrong.
            self._skip = int.from_bytes(head[10:12], "little")
        sink.count(0, rate, self._channels)

    # Blocks.

    def _begin_block(self, size: int, sink: Sink) -> None:
        if self._whole:  # a group has one block
            self._on_block(sink)
        if self._track is None:
            self.failed = True  # audio before it is described
        elif size < 4:
            self.left = size
        else:
            self._block_end = self._at + size
            self._stage, self.need = _BLOCK_HEAD, 4

    def ahead(self, data: Buffer, at: int, sink: Sink) -> int:
        """Read the plain blocks of the track at `at` that came whole, which is nearly all there is; where they end."""
        if data[at] != _SIMPLE_BLOCK or self._stage != _HEADER or self._group:
            return at
        begin, size = at, len(data)
        payload = samples = 0
        track, counts, is_opus = self._track, self._counts, self._opus
        if track is None or track > 0x7E:
            return at
        while at + 8 <= size and data[at] == _SIMPLE_BLOCK and not self.failed:
            length = data[at + 1]
            head = at + 2
            if length >= 0x80:
                length -= 0x80
            else:
                length = (length - 0x40) << 8 | data[head]
                head += 1
            end = head + length
            # Any other width of these numbers, an unknown size, lacing, and what did not come whole, goes the long way.
            if length < 5 or length in (0x7F, 0x3FFF) or end > size or data[head] != track | 0x80 or data[head + 3] & 6:
                break
            if self._elements >= _MOST_ELEMENTS + (self._payload + payload) // 8:
                break
            if is_opus:
                packet = opus.packet_samples(data[head + 4 : head + 6] if length > 5 else data[head + 4 : head + 5])
                if packet is None:
                    break
                samples += packet
            elif counts:
                samples += (length - 4) // self._pcm
            else:
                ticks = self._integer(_TIMESTAMP, 0) + int.from_bytes(data[head + 1 : head + 3], "big", signed=True)
                self._start, self._frames = ticks * self._scale(), 1
                self._on_block(sink)
            self._elements += 1
            payload += length - 4
            at = end
        if counts and at > begin:
            self._frames = samples
            self._on_block(sink)
        self._payload += payload
        self._at += at - begin
        return at

    def _block_head(self, field: bytes) -> None:
        width = 9 - field[0].bit_length()
        if len(field) < width + 3 <= len(field) + self._block_end - self._at and width <= 8:
            self._at -= len(field)
            self._held, self.need = field, width + 3
            return
        rest = self._block_end - self._at
        self._stage, self.need, self.left = _HEADER, 2, rest
        if len(field) < width + 3 or _number(field, 0)[0] != self._track or not rest:
            return
        ticks = self._integer(_TIMESTAMP, 0) + int.from_bytes(field[width : width + 2], "big", signed=True)
        self._start = ticks * self._scale()
        self._sounding = True
        self._payload += rest
        self._frames = rest // self._pcm if self._pcm else 1
        lacing = field[width + 2] & 6
        if not lacing:
            if self._opus:
                self._stage, self.need, self.left = _PACKET, min(rest, 2), 0
        elif not self._counts:
            self._stage, self.need, self.left = _LACES, 1, 0
        elif rest <= _MOST_LACED:
            self._lacing = lacing
            self._stage, self.need, self.left = _LACED, rest, 0
        else:
            self.failed = True

    def _on_packet(self, field: bytes) -> None:
        self._stage, self.need, self.left = _HEADER, 2, self._block_end - self._at
        samples = opus.packet_samples(field)
        if samples is None:
            self.failed = True
        else:
            self._frames = samples

    def _on_laces(self, field: bytes) -> None:
        self._stage, self.need, self.left = _HEADER, 2, self._block_end - self._at
        self._frames = field[0] + 1
        if self._frames > self.left:
            self.failed = True

    def _on_laced(self, field: bytes) -> None:
        self._stage, self.need = _HEADER, 2
        self._frames = 0
        for at, size in _laced(field, self._lacing):
            if self._pcm:
                samples: int | None = size // self._pcm
            else:
                samples = opus.packet_samples(field[at : at + min(size, 2)])
            if samples is None:
                self.failed = True
                return
            self._frames += samples
        if not self._frames:
            self.failed = True

    def _on_block(self, sink: Sink) -> None:
        self._whole = False
        grouped = self._group == _GROUP
        trim = abs(self._integer(_DISCARD, 0)) if grouped else 0
        if self._counts:
            frames = max(self._frames - self._samples(trim), 0)
            unheard = min(frames, self._skip)
            self._skip -= unheard
            sink.count(frames - unheard, self._rate, self._channels)
            return
        length = self._integer(_BLOCK_DURATION, 0) * self._scale() if grouped else 0
        self._on_timed(length or (self._default or 0) * self._frames, trim, sink)

    # Blocks whose length only timestamps tell.

    def _on_timed(self, length: int, trim: int, sink: Sink) -> None:
        if self._first is None:
            self._first = self._start
        else:
            lasted = self._start - self._last
            if lasted < 0 or lasted > self._most(self._last_frames):
                self.failed = True
                return
            self._lasted = lasted, self._last_frames
            self._longest = max(self._longest, -(-lasted // self._last_frames))
            self._trimmed += min(self._last_trim, lasted)
        self._last, self._last_frames, self._last_trim = self._start, self._frames, trim
        self._open = not length
        if not length:
            self._late = True
            self._reach(self._start, sink)
        elif length > self._most(self._frames):
            self.failed = True
        else:
            self._trimmed += min(trim, length)
            self._last_trim = 0
            self._reach(self._start + length, sink)

    def _last_length(self) -> int | None:
        """Nanoseconds of the last block, where nothing at it says so."""
        end, scale = self._told.get(_DURATION), self._scale()
        # A Duration may or may not leave out what is discarded; and of a file cut short it is that of the whole.
        if isinstance(end, float) and not self._last_trim:
            left = round(end * scale) - self._last
            most = self._longest * self._last_frames + scale if self._lasted else self._most(self._last_frames)
            if 0 < left <= most:
                return left
        if self._lasted is None:
            return None
        lasted, frames = self._lasted
        return lasted * self._last_frames // frames

    def _reach(self, end: int, sink: Sink) -> None:
        """Count up to `end`: from the beginning, so that the rounding of timestamps does not add up."""
        total = self._samples(end - (self._first or 0) - self._trimmed) - self._skip
        if total > self._counted:
            sink.count(total - self._counted, self._rate, self._channels)
            self._counted = total

    def _most(self, frames: int) -> int:
        return frames * _LONGEST * _SECOND // self._rate

    # Ends.

    def _renew(self, sink: Sink) -> None:
        """Another file begins."""
        if self._begun:
            self._settle(sink)
        at = self._at
        self._reset()
        self._at = at
        self._begun = True

    def _settle(self, sink: Sink) -> None:
        if self._whole:  # the group was cut off after its block
            self._on_block(sink)
        if self._open:
            length = self._last_length()
            if length is None:
                self.failed = True
            else:
                self._trimmed += min(self._last_trim, length)
                self._reach(self._last + length, sink)
            self._open = False
            self._late = True
        if self._track is None:
            self.failed = True

    # What was told.

    def _integer(self, name: int, default: int) -> int:
        value = self._told.get(name)
        return value if isinstance(value, int) else default

    def _scale(self) -> int:
        """Nanoseconds of a tick."""
        return self._integer(_TIMESTAMP_SCALE, 1_000_000)

    def _samples(self, nanoseconds: int) -> int:
        return (2 * nanoseconds * self._rate + _SECOND) // (2 * _SECOND)


def _number(field: bytes, at: int) -> tuple[int, bool]:
    """The variable-size integer at `at` (RFC 8794, section 4), and whether it means that a size is unknown."""
    width = 9 - field[at].bit_length()
    most = (1 << 7 * width) - 1
    value = int.from_bytes(field[at : at + width], "big") & most
    return value, value == most


def _laced(block: bytes, lacing: int) -> list[tuple[int, int]]:
    """Where the frames are in a block after its header, and their sizes (RFC 9559, section 10.3); none if broken."""
    count, at, end = block[0] + 1, 1, len(block)
    sizes: list[int] = []
    if lacing == 4:  # all of one size
        size, rest = divmod(end - 1, count)
        sizes = [size] * (count - 1) if not rest else [end]
    else:
        for _ in range(count - 1):
            size = 0
            if lacing == 2:  # Xiph
                while at < end and block[at] == 255:
                    size += 255
                    at += 1
                size += block[at] if at < end else 0
                at += 1
            else:  # EBML: the first size, then differences
                width = 9 - block[at].bit_length() if at < end else 9
                if width > 8 or at + width > end:
                    return []
                size = _number(block, at)[0]
                if sizes:
                    size += sizes[-1] - ((1 << 7 * width - 1) - 1)
                at += width
            sizes.append(size)
    sizes.append(end - at - sum(sizes))
    if min(sizes) <= 0:
        return []
    frames = []
    for size in sizes:
        frames.append((at, size))
        at += size
    return frames
