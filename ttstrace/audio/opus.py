"""What an Opus packet says about itself, in whatever container it comes (RFC 6716, section 3)."""

from __future__ import annotations

from typing import Final

from ttstrace.audio.streams import Buffer

RATE: Final = 48_000
"""Hz at which lengths of Opus are counted, whatever the rate of what was encoded."""

LONGEST: Final = 5760
"""Samples of the longest packet, 120 ms."""

# Table 2: samples of a frame by the five bits of its configuration; SILK, hybrid, then CELT.
_FRAME: Final = (480, 960, 1920, 2880) * 3 + (480, 960) * 2 + (120, 240, 480, 960) * 4
SAMPLES: Final = tuple(_FRAME[toc >> 3] * (1, 2, 2, -1)[toc & 3] for toc in range(256))
"""Samples at 48 kHz, per channel, of a packet by its first byte; where the next byte says how many frames there are, of
one frame, below zero."""


def packet_samples(first_bytes: Buffer) -> int | None:
    """Samples at 48 kHz, per channel, of the packet that begins with `first_bytes`: two of them, or all there are.

    None where no packet begins so.
    """
    if not len(first_bytes):
        return None
    samples = SAMPLES[first_bytes[0]]
    if samples < 0:
        samples *= -(first_bytes[1] & 0x3F) if len(first_bytes) > 1 else 0
    return samples if 0 < samples <= LONGEST else None
