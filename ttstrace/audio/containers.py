"""Which reader the bytes of a synthesis get: by their beginning, else by the format that was declared."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from ttstrace.audio.aiff import Aiff
from ttstrace.audio.au import Au
from ttstrace.audio.flac import Flac
from ttstrace.audio.formats import UNKNOWN, Format
from ttstrace.audio.framed import DECLARED, Framed, looks_like_frame
from ttstrace.audio.frames import header
from ttstrace.audio.layouts import LAYOUTS
from ttstrace.audio.mp4 import Mp4
from ttstrace.audio.ogg import Ogg
from ttstrace.audio.pcm import Pcm
from ttstrace.audio.streams import Buffer, Sink, Stream
from ttstrace.audio.wav import Wav
from ttstrace.audio.webm import Webm


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

_TEXT: Final = "text"  # server-sent events, JSON, the page of an error

SIGNATURES: Final = (
    ("wav", ((0, b"RIFF"), (8, b"WAVE"))),
    ("wav", ((0, b"RIFX"), (8, b"WAVE"))),
    ("wav", ((0, b"RF64"), (8, b"WAVE"))),
    ("wav", ((0, b"BW64"), (8, b"WAVE"))),
    ("aiff", ((0, b"FORM"), (8, b"AIF"))),
    ("au", ((0, b".snd"),)),
    ("flac", ((0, b"fLaC"),)),
    ("ogg", ((0, b"OggS"),)),
    ("webm", ((0, b"\x1aE\xdf\xa3"),)),
    ("mp4", ((4, b"ftyp"),)),
    ("mp4", ((4, b"styp"),)),
    ("mp3", ((0, b"ID3"),)),
    *((_TEXT, ((0, begin),)) for begin in (
        b'data: {"', b"data:", b"event: ", b"event:", b"id: ", b"retry: ", b": ", b'{"', b"{\n", b"{\r", b"{ ",
        b"[{", b'["', b"[\n", b"[\r", b"[ ", b"\n", b"\r\n", b"<",
    )),
)  # fmt: skip
"""Format, and which bytes stand where in its first twelve."""

_CERTAIN: Final = 7
"""Marked bytes that raw samples do not begin with by accident; nor do they with as many letters as are looked at."""
_PRINTABLE: Final = re.compile(rb"[\t\r\n -~]*")

READERS: Final[dict[str, Callable[[], Stream]]] = {
    "wav": Wav,
    "aiff": Aiff,
    "au": Au,
    "mp4": Mp4,
    "webm": Webm,
    "flac": Flac,
    "ogg": Ogg,
}
"""By format, its reader."""


def choose(head: Buffer, declared: Format = UNKNOWN, *, whole: bool = False) -> Stream | None:
    """The reader for bytes that begin with `head`, or None where too few bytes came to say.

    What the bytes say wins over what was declared: services send WAV where "linear16" was asked for. Raw
    samples may begin with anything, so only a long mark, such as a WAV header's, tells that they are none. `whole`
    means that no more bytes will come.
    """
    layout = LAYOUTS.get(declared.name or "")
    found, undecided = _by_signature(head, raw=layout is not None)
    if undecided and not whole:
        return None
    if found == "mp3":  # a tag, which stands before AAC as well
        return Framed(declared.name)
    if found is not None:
        reader = READERS.get(found)
        return reader() if reader is not None else Unread(found)
    if layout is not None:
        return Pcm(layout, declared.channels or 1, None)
    if declared.name in DECLARED or looks_like_frame(head):
        return Framed(declared.name)
    return Unread(declared.name)


_OCTETS: Final = Format("pcm_u8", None, None)


def is_encoded(head: Buffer) -> bool:
    """Octets that begin with `head` are no samples, by their first bytes."""
    found = _by_signature(head, raw=False)[0]
    return found not in (None, _TEXT) or header(bytes(head), 0) is not None or carries_text(head, _OCTETS)


def carries_text(head: Buffer, declared: Format) -> bool:
    """Bytes that begin with `head` are text that may carry audio."""
    return _by_signature(head, raw=declared.name in LAYOUTS)[0] == _TEXT


def _by_signature(head: Buffer, *, raw: bool) -> tuple[str | None, bool]:
    """Format by the first bytes, which are those of `raw` samples perhaps; and whether more of them could still
    make it one."""
    begin = bytes(head[:HEAD])
    undecided = not raw and begin == b"\xff"
    for name, marks in SIGNATURES:
        length = sum(len(mark) for _, mark in marks)
        certain = length >= _CERTAIN or (length > 1 and not raw)
        if not certain and (name != _TEXT or not _PRINTABLE.fullmatch(begin)):
            continue
        # What has not come yet may still be the mark.
        if all(mark.startswith(begin[at : at + len(mark)]) for at, mark in marks):
            if all(begin.startswith(mark, at) for at, mark in marks) and (certain or len(begin) == HEAD):
                return name, False
            undecided = True
    return None, undecided
