"""Files made of chunks, as EA IFF 85 has them: RIFF and FORM, split anywhere, and in a row.

The standard library's `chunk`, `wave` and `aifc` want a whole seekable file and lengths that are true; two of them
are gone since Python 3.13.
"""

from __future__ import annotations

import struct
from typing import ClassVar, Final

from ttstrace.audio.fields import Fields
from ttstrace.audio.pcm import ENDLESS, Pcm
from ttstrace.audio.streams import Buffer, Sink, Stream

_FORM, _CHUNK, _PART = range(3)  # what a field is

STREAMED: Final = 0x7F00_0000
"""A length from here on was not known when the header was written: 0x7F000000 (sox), 0x7FFFFFFF or 0xFFFFFFFF, more
or less a header."""


class Iff(Fields):
    """Walks over chunks; a subclass reads the beginnings of those it knows, and says what the samples are."""

    magics: ClassVar[tuple[bytes, ...]]
    """What a file begins with."""
    kinds: ClassVar[tuple[bytes, ...]]
    """What the bytes are from the eighth."""

    order: str
    """Byte order of numbers, as `struct` spells it."""
    form_size: int
    """Bytes after the first eight, as the header claims."""

    def __init__(self) -> None:
        super().__init__(12)
        self._start()

    def _start(self) -> None:
        self._stage = _FORM
        self.order = "<"
        self.form_size = 0
        self._position = 0  # of what comes next, as far as lengths are true
        self._padded = False  # the last chunk's length was odd: a byte of padding may follow
        self._name = b""
        self._rest = 0  # of a chunk of which the beginning is read
        self._body: Stream | None = None
        self._then: tuple[Stream | None, int] | None = None

    @classmethod
    def starts(cls, data: Buffer) -> bool:
        """`data` begins with the header of a file."""
        return bytes(data[:4]) in cls.magics and bytes(data[8:12]) in cls.kinds

    def feed(self, data: Buffer, sink: Sink) -> None:
        # Where a length is bogus, only a piece that begins with a header tells that another file follows.
        if self._position and self.starts(data):
            self._close(sink)
            self.restart(12)
            self._start()
        super().feed(data, sink)

    def finish(self, sink: Sink) -> None:
        self._close(sink)
        if self._then is not None:  # cut off before the samples, or where they are was not true
            self.failed = True

    def take(self, field: bytes, sink: Sink) -> None:
        if self._stage == _CHUNK:
            if self._padded and not field[0]:
                self._padded = False
                self._position += 1
                self.again(8, field[1:])
                return
            self._on_chunk(field, sink)
        elif self._stage == _PART:
            self.left = self._rest
            self._next_chunk()
            self.on_part(self._name, field, sink)
        elif self.starts(field):
            self._start()
            self.order = ">" if field[:4] in (b"FORM", b"RIFX") else "<"
            (self.form_size,) = self.unpack("I", field[4:8])
            self._position = 12
            self._next_chunk()
            self.on_form(field[8:])
        else:
            self.ignore_the_rest()

    def passed(self, data: Buffer, sink: Sink) -> None:
        if self._body is not None:
            self._body.feed(data, sink)
            if self._body.failed:
                self._close(sink)

    def ended(self, sink: Sink) -> None:
        self._close(sink)
        if self._then is not None:
            samples, size = self._then
            self._then = None
            self._begin_samples(samples, size)

    # What a subclass says, and is asked.

    def on_form(self, kind: bytes) -> None:
        """A file begins."""
        raise NotImplementedError

    def on_chunk(self, name: bytes, size: int, sink: Sink) -> int:
        """A chunk begins; how many bytes of its beginning are wanted, 0 where it is passed over."""
        raise NotImplementedError

    def on_part(self, name: bytes, part: bytes, sink: Sink) -> None:
        """The beginning of a chunk that was asked for; `left` bytes of it are still to come."""
        raise NotImplementedError

    def unpack(self, numbers: str, data: bytes) -> tuple[int, ...]:
        """Numbers at the beginning of `data`."""
        return struct.unpack_from(self.order + numbers, data)

    def length(self, size: int, header: int = 0) -> int:
        """Bytes of the chunk of samples that begins now, of which `header` are no samples; ENDLESS if unknown."""
        if size >= 0xFFFF_0000:
            return ENDLESS
        # A header that was written before there was any audio, and never corrected.
        unknown = not self.form_size or self.form_size >= STREAMED or self.form_size + 8 <= self._position + header
        return ENDLESS if size <= header and unknown else size

    def samples(self, samples: Stream | None, size: int, skip: int = 0) -> None:
        """The next `size` bytes, after `skip` that are none, are samples; of unknown length for None."""
        if skip:
            self.left = skip
            self._then = samples, size
        else:
            self._begin_samples(samples, size)

    def ignore_the_rest(self) -> None:
        """Nothing that follows is understood."""
        self.left = ENDLESS

    # Inside.

    def _next_chunk(self) -> None:
        self._stage = _CHUNK
        self.again(8, b"")

    def _on_chunk(self, field: bytes, sink: Sink) -> None:
        name = field[:4]
        (size,) = self.unpack("I", field[4:])
        if name in self.magics:
            self.unit(8)
            self._stage = _FORM
            self.again(12, field)
        elif all(32 <= letter < 127 for letter in name):
            self.unit(8 + size)
            self._position += 8
            self._padded = bool(size & 1)
            self.left = size
            part = self.on_chunk(name, size, sink)
            if part:
                self._stage, self._name = _PART, name
                self._rest = self.left - part
                self.left = 0
                self.again(part, b"")
            self._position += size
        else:
            self.ignore_the_rest()

    def _begin_samples(self, samples: Stream | None, size: int) -> None:
        if isinstance(samples, Pcm):
            self.left = 0
            self.pcm = samples if size else None
        else:
            self.left = size
            self._body = samples if size else None
            self.failed = self.failed or (samples is None and size > 0)

    def _close(self, sink: Sink) -> None:
        body, self._body = self._body, None
        if body is not None:
            body.finish(sink)
            self.failed = self.failed or body.failed
