"""Audio whose length and onset are known, because it is made here."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator

from ttstrace.audio import AudioReader

RATE = 24_000


def tone(frames: int, rate: int = RATE, silence: int = 0, level: float = 0.5) -> list[float]:
    """`silence` frames of nothing, then a tone that starts at its peak, as floats; `frames` in all."""
    return [
        0.0 if at < silence else level * math.cos(2 * math.pi * 440 * (at - silence) / rate) for at in range(frames)
    ]


def pcm16(values: list[float]) -> bytes:
    return struct.pack(f"<{len(values)}h", *(round(value * 32767) for value in values))


def wav(
    data: bytes,
    *,
    rate: int = RATE,
    channels: int = 1,
    bits: int = 16,
    tag: int = 1,
    size: int | None = None,
    riff_size: int | None = None,
    extensible: bool = False,
    before: bytes = b"",
    after: bytes = b"",
) -> bytes:
    """A WAV file; `size` and `riff_size` are what the header claims instead of the truth."""
    width = bits // 8
    fmt = struct.pack(
        "<HHIIHH",
        0xFFFE if extensible else tag,
        channels,
        rate,
        rate * channels * width & 0xFFFFFFFF,
        channels * width,
        bits,
    )
    if extensible:
        fmt += struct.pack("<HHIH", 22, bits, 0, tag) + bytes.fromhex("000000001000800000aa00389b71")
    body = b"WAVE" + before + b"fmt " + struct.pack("<I", len(fmt)) + fmt
    body += b"data" + struct.pack("<I", len(data) if size is None else size) + data
    if len(data) & 1 and after:
        body += b"\0"
    body += after
    return b"RIFF" + struct.pack("<I", len(body) if riff_size is None else riff_size) + body


def facts(reader: AudioReader) -> tuple[object, ...]:
    return (
        reader.duration,
        reader.sample_rate,
        reader.channels,
        reader.format,
        reader.size,
        reader.onset,
        reader.readable,
    )


def read(*chunks: object, rate: int | None = None, format: str | None = None) -> AudioReader:
    """Feed all chunks and finish; their seconds add up to the duration where it is known."""
    reader = AudioReader(rate, format)
    seconds = [reader.feed(chunk) for chunk in chunks]
    reader.finish()
    # Less than a header is not told apart before the end.
    settled = reader.size is None or reader.size >= 12
    if reader.duration is not None and None not in seconds and settled:
        assert math.isclose(math.fsum(filter(None, seconds)), reader.duration, abs_tol=1e-9)
    return reader


def splits(data: bytes, step: int = 1) -> Iterator[tuple[bytes, bytes]]:
    for at in range(0, len(data) + 1, step):
        yield data[:at], data[at:]


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[begin : begin + size] for begin in range(0, max(len(data), 1), size)]
