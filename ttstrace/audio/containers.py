"""Which reader the bytes of a synthesis get: by their beginning, else by the format that was declared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ttstrace.audio.formats import UNKNOWN, Format
from ttstrace.audio.layouts import LAYOUTS
from ttstrace.audio.mp3 import Mp3, looks_like_frame
from ttstrace.audio.pcm import Pcm
from ttstrace.audio.streams import Buffer, Sink, Stream
from ttstrace.audio.wav import Wav


class Unread:
    """Bytes of which at most the format's name is known."""

    failed: Final = True

    def __init__(self, format: str | None) -> None:
        self.format = format

    def feed(self, data: Buffer, sink: Sink) -> None:
        sink.deafen()

    def finish(self, sink: Sink) -> None:
        pass


HEAD: Final = 12
"""Bytes that settle the format by themselves, at most."""

SIGNATURES: Final = (
    ("wav", ((0, b"RIFF"), (8, b"WAVE"))),
    ("wav", ((0, b"RIFX"), (8, b"WAVE"))),
    ("wav", ((0, b"RF64"), (8, b"WAVE"))),
    ("wav", ((0, b"BW64"), (8, b"WAVE"))),
    ("aiff", ((0, b"FORM"), (8, b"AIF"))),
    ("flac", ((0, b"fLaC"),)),
    ("ogg", ((0, b"OggS"),)),
    ("webm", ((0, b"\x1aE\xdf\xa3"),)),
    ("mp4", ((4, b"ftyp"),)),
    ("mp4", ((4, b"styp"),)),
    ("mp3", ((0, b"ID3"),)),
)
"""Format, and which bytes stand where in its first twelve."""

READERS: Final[dict[str, Callable[[bool], Stream]]] = {"wav": lambda declared: Wav(), "mp3": Mp3}
"""By format: makes its reader, told whether the format was declared."""


def choose(head: Buffer, declared: Format = UNKNOWN, *, whole: bool = False) -> Stream | None:
    """The reader for bytes that begin with `head`, or None where too few bytes came to say.

    What the bytes say wins over what was declared: services send WAV where "linear16" was asked for. Raw
    samples may begin with anything, so only a WAV header, which is long, tells that they are none. `whole`
    means that no more bytes will come.
    """
    layout = LAYOUTS.get(declared.name or "")
    found, undecided = _by_signature(head, only_wav=layout is not None)
    if undecided and not whole:
        return None
    if found is not None:
        reader = READERS.get(found)
        return reader(found == declared.name) if reader is not None else Unread(found)
    if layout is not None:
        return Pcm(layout, declared.channels or 1, None)
    if declared.name == "mp3":
        return Mp3(True)
    if declared.name is None and len(head) >= 2 and looks_like_frame(head):
        return Mp3(False)
    return Unread(declared.name)


def signature(head: Buffer) -> str | None:
    """The format of bytes that begin with `head`, where its first bytes are long enough to be no accident."""
    return _by_signature(head, only_wav=False)[0]


def _by_signature(head: Buffer, *, only_wav: bool) -> tuple[str | None, bool]:
    """Format by the first bytes; and whether more of them could still make it one."""
    begin = bytes(head[:HEAD])
    undecided = not only_wav and begin == b"\xff"
    for name, marks in SIGNATURES:
        if only_wav and name != "wav":
            continue
        # What has not come yet may still be the mark.
        if all(mark.startswith(begin[at : at + len(mark)]) for at, mark in marks):
            if all(begin.startswith(mark, at) for at, mark in marks):
                return name, False
            undecided = True
    return None, undecided
