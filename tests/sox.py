"""Audio of known length, written by SoX."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from ffmpeg import speechlike


def sox(
    *options: str, suffix: str, frames: int = 24_123, rate: int = 8_000, channels: int = 1, piped: bool = False
) -> bytes:
    """A file of this many frames; `piped` has it written to a pipe by a SoX that cannot know how many will come."""
    raw = ["sox", "-V1", "-t", "raw", "-r", str(rate), "-e", "signed", "-b", "16", "-c", str(channels), "-"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"audio.{suffix}")
        target = ["-t", suffix, "-"] if piped else [str(path)]
        source = speechlike(frames, rate, channels)
        done = subprocess.run([*raw, *options, *target], input=source, capture_output=True, check=True)
        return done.stdout if piped else path.read_bytes()
