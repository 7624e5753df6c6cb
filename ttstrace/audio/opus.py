"""What an Opus packet says about itself, in whatever container it comes (RFC 6716, section 3)."""

from __future__ import annotations

from typing import Final

from ttstrace.audio.streams import Buffer

RATE: Final = 48_000
"""Hz at which lengths of Opus are counted, whatever the rate of what was encoded."""

# Table 2: samples of a frame by the five bits of its configuration; SILK, hybrid, then CELT.
_FRAME: Final = (480, 960, 1920, 2880) * 3 + (480, 960) * 2 + (120, 240, 480, 960) * 4
_LONGEST: Final = 5760
"""Samples of the longest packet, 120 ms."""


def packet_samples(first_bytes: Buffer) -> int | None:
    """Samples at 48 kHz, per channel, of the packet that begins with `first_bytes`: two of them, or all there are.

    None where no packet begins so.
    """
    if not len(first_bytes):
        return None
    toc = first_bytes[0]
    code = toc & 3
    if code < 3:
        frames = 2 if code else 1
    elif len(first_bytes) < 2:
        return None
    else:
        frames = first_bytes[1] & 0x3F
    samples = frames * _FRAME[toc >> 3]
    return samples if 0 < samples <= _LONGEST else None
