"""What the first bytes of an Opus packet say of its length (RFC 6716, section 3)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttstrace.audio.opus import packet_samples

# Table 2 of the RFC, in milliseconds.
SILK, HYBRID, CELT = (10, 20, 40, 60), (10, 20), (2.5, 5, 10, 20)
MILLISECONDS = (*SILK * 3, *HYBRID * 2, *CELT * 4)


@pytest.mark.parametrize("config", range(32))
@pytest.mark.parametrize("stereo", [0, 4])
def test_every_configuration(config: int, stereo: int) -> None:
    frame = MILLISECONDS[config] * 48
    toc = config << 3 | stereo
    assert packet_samples(bytes([toc])) == packet_samples(bytes([toc, 99])) == frame
    assert packet_samples(bytes([toc | 1])) == packet_samples(bytes([toc | 2])) == 2 * frame
    for frames in range(64):
        for flags in (0, 0x40, 0x80):
            known = frames and frames * frame <= 5760
            assert packet_samples(bytes([toc | 3, frames | flags])) == (frames * frame if known else None)


def test_what_is_no_packet() -> None:
    assert packet_samples(b"") is None
    assert packet_samples(b"\x03") is None
    assert packet_samples(b"\x03\x00") is None


@given(st.binary(max_size=3))
def test_any_bytes(data: bytes) -> None:
    samples = packet_samples(data)
    assert samples is None or 120 <= samples <= 5760
    assert packet_samples(memoryview(data)) == samples
