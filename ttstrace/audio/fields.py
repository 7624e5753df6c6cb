"""What readers of containers have in common: bytes that come split anywhere, wanted field by field."""

from __future__ import annotations

from ttstrace.audio.pcm import Pcm
from ttstrace.audio.streams import Buffer, Sink


class Fields:
    """Hands on the bytes of a container in fields of the size that was asked for.

    A subclass says in `take` what the next bytes are: a field of `need` bytes (the same number as before, if it
    says nothing), or first a body of `left` bytes, of which `passed` sees every piece. Only a field is held, so
    fields have to be small: headers, never samples.
    """

    pcm: Pcm | None = None
    """Raw samples that the next bytes are."""

    def __init__(self, need: int) -> None:
        self.failed = False
        self.need = need
        """Bytes of the next field, at least one."""
        self.left = 0
        """Bytes of the body that still come before the next field."""
        self._held = b""

    def feed(self, data: Buffer, sink: Sink) -> None:
        at, size = 0, len(data)
        while at < size and not self.failed:
            if self.left:
                count = min(size - at, self.left)
                self.left -= count
                self.passed(data[at : at + count], sink)
            else:
                count = min(size - at, self.need - len(self._held))
                self._held += bytes(data[at : at + count])
                if len(self._held) == self.need:
                    field, self._held = self._held, b""
                    self.take(field, sink)
            at += count

    def take(self, field: bytes, sink: Sink) -> None:
        """Understand a field, and say what comes next."""
        raise NotImplementedError

    def passed(self, data: Buffer, sink: Sink) -> None:
        """A piece of a body; nobody wants it unless a subclass does."""
