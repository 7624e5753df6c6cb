"""Audio that travels as text: base64, alone or in the JSON fields of a server-sent event stream.

The decoders of the standard library want the whole text; here it comes split anywhere, and a field may hold
minutes of audio, so that neither the JSON nor the base64 is ever held whole.
"""

from __future__ import annotations

import re
from binascii import a2b_base64
from collections.abc import Iterator
from typing import Final

from ttstrace.audio.formats import UNKNOWN, Format, parse_format
from ttstrace.audio.rate import sample_rate_of
from ttstrace.audio.streams import Buffer

_ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_URL_SAFE: Final = bytes.maketrans(b"-_", b"+/")
_SPACE: Final = b"\r\n"
_BLOCK: Final = 4_096
_SHORTEST: Final = 16
TELLING: Final = 60
"""Characters of a text that is base64 for sure, if no hexadecimal digest: the shortest header of WAV, which few names
are as long as."""
_HEXADECIMAL: Final = re.compile(rb"[0-9a-f]{%d}" % TELLING)
_DATA_URI: Final = re.compile(r"data:([^,]{0,100}?);base64,")  # RFC 2397


class Base64:
    """Decodes base64 (RFC 4648, either alphabet, with line breaks, padded or not) split anywhere."""

    def __init__(self) -> None:
        self._odd = b""  # less than four characters

    def decode(self, text: bytes) -> bytes:
        """The bytes that are complete now.

        Raises:
            ValueError: this is no base64.
        """
        text = self._odd + text.translate(_URL_SAFE, _SPACE)
        if text.translate(None, _ALPHABET).strip(b"="):
            raise ValueError("no base64")
        decoded = []
        at = 0
        # Texts that were encoded one by one may follow each other: each ends with its padding.
        while (padding := text.find(b"=", at)) >= 0:
            if (padding - at) % 4 < 2:
                raise ValueError("no base64")
            end = at + ((padding - at) // 4 + 1) * 4
            if end > len(text):
                break
            if text[padding:end].strip(b"="):
                raise ValueError("no base64")
            decoded.append(a2b_base64(text[at:end]))
            at = end
        end = at + (((padding if padding >= 0 else len(text)) - at) & ~3)
        decoded.append(a2b_base64(text[at:end]))
        at = end
        self._odd = text[at:]
        return b"".join(decoded)

    def rest(self) -> bytes:
        """The bytes of a text that ended without its padding."""
        odd, self._odd = self._odd.rstrip(b"="), b""
        return a2b_base64(odd + b"=" * (4 - len(odd))) if len(odd) > 1 else b""


def decode_text(text: str, trusted: bool) -> tuple[Format, Iterator[bytes]]:
    """What a base64 text, or a `data:` URI, says of its format, and its bytes in pieces; those raise ValueError
    where it is no base64. `trusted`: what stood in its place before was base64, too."""
    uri = _DATA_URI.match(text)
    begin = uri.end() if uri is not None else 0
    return parse_format(uri[1]) if uri is not None else UNKNOWN, _decode(text, begin, trusted or uri is not None)


def _decode(text: str, begin: int, trusted: bool) -> Iterator[bytes]:
    if not trusted and (len(text) < TELLING or _HEXADECIMAL.match(text[:TELLING].encode("ascii"))):
        raise ValueError("a name, for all that one can tell")
    decoder = Base64()
    for at in range(begin, len(text), _BLOCK):
        yield decoder.decode(text[at : at + _BLOCK].encode("ascii"))
    yield decoder.rest()


# Names that hold nothing but audio where they hold base64; the last two hold other things as well.
_FIELD: Final = re.compile(
    rb'"(?:(audio|audio_base_?64|audio_?[cC]ontent|audio_?[dD]ata|b64_json)|(data|delta))"\s{0,40}:\s{0,40}"'
    rb'|"(?:mime_?[tT]ype|content_?[tT]ype|format|encoding)"\s{0,40}:\s{0,40}"([^"\\]{1,100})"'
    rb'|"(?:sample_?[rR]ate|sampling_?[rR]ate)"\s{0,40}:\s{0,40}([0-9]{4,6})[^0-9.]'
)
_LONGEST_FIELD: Final = 256
"""Bytes that may have to come before one of these is seen to be one."""
_QUOTE: Final = re.compile(rb'(?<!\\)"')
_PROBE: Final = 64
"""Characters that tell base64 from a text: no word is as long."""


class Events:
    """Finds audio in server-sent events, in JSON, in lines of JSON: base64 in fields that are named as audio.

    OpenAI's and Cartesia's events, ElevenLabs' lines with timestamps, Google's `audioContent` and Gemini's
    `inlineData` are of this kind.
    """

    def __init__(self) -> None:
        self.format = UNKNOWN
        """What fields beside the audio say of it."""
        self._tail = b""
        self._decoder: Base64 | None = None  # in a field of audio
        self._probe: bytes | None = None  # in a field that may be audio: its first characters
        self._sure = False  # the field's name says that it is
        self._trusted = False  # fields whose names do not say so held audio before
        self._passing = False  # in a field that is not

    def feed(self, data: Buffer) -> Iterator[bytes]:
        """The audio in the next bytes, in pieces.

        Raises:
            ValueError: a field began as base64 and went on as something else, or is in hexadecimal.
        """
        for begin in range(0, len(data), _BLOCK):
            text = self._tail + bytes(data[begin : begin + _BLOCK])
            escape = text[-1:] if text.endswith(b"\\") else b""  # belongs to what comes next
            text = text[: len(text) - len(escape)]
            self._tail = b""
            at = 0
            while at < len(text):
                if self._decoder is not None or self._probe is not None or self._passing:
                    quote = text.find(b'"', at) if not self._passing else _end(_QUOTE.search(text, at))
                    end = quote if quote >= 0 else len(text)
                    yield from self._in_field(text[at:end], quote >= 0)
                    at = end + (quote >= 0)
                else:
                    at = self._outside(text, at)
            self._tail += escape

    def _outside(self, text: bytes, at: int) -> int:
        found = _FIELD.search(text, at)
        if found is None:
            self._tail = text[max(at, len(text) - _LONGEST_FIELD) :]
            return len(text)
        sure, perhaps, kind, rate = found.groups()
        if kind is not None:
            self.format = self.format.filled_by(parse_format(kind.decode("ascii", "replace")))
        elif rate is not None:
            self.format = self.format.filled_by(Format(None, sample_rate_of(int(rate)), None))
        else:
            self._probe, self._sure = b"", perhaps is None and sure is not None
        return found.end()

    def _in_field(self, piece: bytes, ended: bool) -> Iterator[bytes]:
        piece = piece.replace(b"\\/", b"/").replace(b"\\n", b"").replace(b"\\", b"")
        if self._probe is not None:
            piece = self._probe + piece
            self._probe = None
            if len(piece) < _PROBE and not ended:
                self._probe = piece
                return
            if self._is_base64(piece[:_PROBE]):
                self._decoder = Base64()
                self._trusted = self._trusted or not self._sure
            else:
                self._passing = True
        if self._decoder is not None:
            yield self._decoder.decode(piece)
            if ended:
                yield self._decoder.rest()
        if ended:
            self._decoder, self._passing = None, False

    def _is_base64(self, probe: bytes) -> bool:
        if _HEXADECIMAL.match(probe):
            if self._sure:
                raise ValueError("hexadecimal")
            return False
        if probe.translate(None, _ALPHABET + b"-_" + _SPACE).strip(b"="):
            return False
        if self._sure:
            return len(probe) > 1
        return len(probe) >= _PROBE or (self._trusted and len(probe) >= _SHORTEST and not len(probe) % 4)


def _end(found: re.Match[bytes] | None) -> int:
    return found.start() if found is not None else -1
