"""What readers of containers have in common: bytes that come split anywhere, wanted field by field."""

from __future__ import annotations

from typing import Final

from ttstrace.audio.pcm import Pcm
from ttstrace.audio.streams import Buffer, Sink

_UNITS: Final = 250
_UNIT_BYTES: Final = 128


class Fields:
    """Hands on the bytes of a container in fields of the size that was asked for.

    A subclass says in `take` what the next bytes are: a field of `need` bytes (the same number as before, if it
    says nothing), or first raw samples in `pcm`, or a body of `left` bytes, of which `passed` sees every piece.
    Only a field is held, so fields have to be small: headers, never samples.
    """

    pcm: Pcm | None = None
    """Raw samples that the next bytes are, before anything else. They are counted here, or past this reader by
    whoever keeps their `left` up to date."""

    def __init__(self, need: int) -> None:
        self.failed = False
        self.need = need
        """Bytes of the next field, at least one."""
        self.left = 0
        """Bytes of the body that still come before the next field."""
        self._held = b""
        self._units = self._unit_bytes = 0

    def feed(self, data: Buffer, sink: Sink) -> None:
        at, size = 0, len(data)
        while at < size and not self.failed:
            pcm = self.pcm
            if pcm is not None:
                count = min(size - at, pcm.left)
                pcm.feed(data[at : at + count], sink)
                if not pcm.left:
                    self.pcm = None
            elif self.left:
                count = min(size - at, self.left)
                self.left -= count
                self.passed(data[at : at + count], sink)
                if not self.left:
                    self.ended(sink)
            else:
                held = self._held
                if not held and (passed := self.ahead(data, at, sink)) > at:
                    at = passed
                    continue
                count = self.need - len(held)
                field = held + bytes(data[at : at + count])
                if at + count <= size:
                    self._held = b""
                    self.take(field, sink)
                else:
                    self._held = field
            at += count

    def again(self, need: int, begin: bytes) -> None:
        """The next field is of `need` bytes, of which fewer than all are here already: `begin`."""
        self.need, self._held = need, begin

    def unit(self, size: int) -> None:
        """A chunk or a file of `size` bytes begins.

        Hundreds that hold next to nothing are no audio, and would take time: then everything is given up.
        """
        self._units += 1
        self._unit_bytes += size
        if self._units > _UNITS + self._unit_bytes // _UNIT_BYTES:
            self.failed = True

    def restart(self, need: int) -> None:
        """Forget what was expected: the next byte begins a field of `need` bytes."""
        self.again(need, b"")
        self.left = self._units = self._unit_bytes = 0
        self.pcm = None

    def take(self, field: bytes, sink: Sink) -> None:
        """Understand a field, and say what comes next."""
        raise NotImplementedError

    def ahead(self, data: Buffer, at: int, sink: Sink) -> int:
        """Take what is there as a whole at `at`, in place of field by field; where that ends."""
        return at

    def passed(self, data: Buffer, sink: Sink) -> None:
        """A piece of a body; nobody wants it unless a subclass does."""

    def ended(self, sink: Sink) -> None:
        """The last byte of a body was passed; a subclass may still say that something else comes next."""
