"""Streams of frames without a container: made by hand, and by encoders, with what others count in them."""

from __future__ import annotations

import json
import struct
import subprocess
import tempfile
from pathlib import Path

import pytest
from audio_samples import read
from ffmpeg import speechlike

ID3 = b"ID3\x04\x00\x00\x00\x00\x02\x01" + bytes(257)
ID3V1 = b"TAG" + bytes(125)
_ITEM = struct.pack("<II", 300, 0) + b"Title\0" + bytes(300)


def _ape(flags: int) -> bytes:
    return b"APETAGEX" + struct.pack("<IIII8x", 2000, len(_ITEM) + 32, 1, flags)


APE = _ape(0xA000_0000) + _ITEM + _ape(0x8000_0000)


def adts(length: int, *, rate: int = 6, channels: int = 1, blocks: int = 1, second: int = 0xF1) -> bytes:
    """An ADTS frame of `length` bytes, AAC-LC; `rate` and `channels` are the header's numbers (6 is 24 kHz)."""
    fields = 0xFF << 48 | second << 40 | 1 << 38 | rate << 34 | channels << 30 | length << 13 | 0x7FF << 2 | blocks - 1
    return fields.to_bytes(7, "big") + bytes(length - 7)


def lame(*options: str, rate: int, channels: int, seconds: float = 0.7) -> bytes:
    """What lame makes of speech at this rate."""
    source = speechlike(round(seconds * rate), rate, channels)
    raw = ["-r", "-s", str(rate / 1000), "--resample", str(rate / 1000), "--bitwidth", "16", "--signed"]
    command = ["lame", "--quiet", *raw, "--little-endian", *options, "-", "-"]
    return subprocess.run(command, input=source, capture_output=True, check=True).stdout


def check(data: bytes, name: str, samples: int, channels: int | None = -1) -> None:
    """ffprobe counts as many frames, and ffmpeg decodes as much, gapless trimming left out, to within a frame."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"audio.{name}")
        path.write_bytes(data)
        entries = "stream=codec_name,nb_read_packets,sample_rate,channels"
        probe = ["ffprobe", "-v", "error", "-count_packets", "-show_entries", entries, "-of", "json", str(path)]
        answer = subprocess.run(probe, capture_output=True, check=True).stdout
        decode = ["ffmpeg", "-v", "error", "-flags2", "skip_manual", "-i", str(path), "-f", "s16le", "-"]
        raw = subprocess.run(decode, capture_output=True, check=True).stdout
    (said,) = json.loads(answer)["streams"]
    rate, many = int(said["sample_rate"]), int(said["channels"])
    for format in (None, "mp3", "aac"):
        found = read(data, format=format)
        assert (found.format, found.sample_rate) == (said["codec_name"], rate) == (name, rate)
        assert found.channels == (many if channels == -1 else channels)
        assert found.size == len(data)
        assert found.duration == pytest.approx(int(said["nb_read_packets"]) * samples / rate, rel=1e-12)
        assert abs(found.duration - len(raw) / (2 * many * rate)) <= samples / rate
