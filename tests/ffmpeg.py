"""Encoded audio of known length, made by the encoders that everybody uses, and what a full decode of it says."""

from __future__ import annotations

import functools
import math
import os
import random
import shutil
import struct
import subprocess
import tempfile
from array import array
from pathlib import Path

import pytest


def there(tool: str) -> bool:
    """An encoder or decoder can be run. `TTSTRACE_TEST_ENCODERS=no` has none run: what they find out once about our
    readers needs no second Python."""
    return shutil.which(tool) is not None and os.environ.get("TTSTRACE_TEST_ENCODERS") != "no"


def needs(*tools: str) -> pytest.MarkDecorator:
    missing = [tool for tool in tools if not there(tool)]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}")


needs_ffmpeg = needs("ffmpeg")


@functools.lru_cache(maxsize=64)
def speechlike(frames: int, rate: int, channels: int) -> bytes:
    """A tone that swells, over a little noise, as interleaved 16-bit samples: encoders give it frames of every size."""
    noise = random.Random(frames)
    samples = array("h")
    for at in range(frames):
        value = math.sin(2 * math.pi * 220 * at / rate) * (0.5 + 0.4 * math.sin(2 * math.pi * 3 * at / rate))
        samples.extend([int(12_000 * value + noise.uniform(-600, 600))] * channels)
    return samples.tobytes()


def encode(
    *options: str, suffix: str, seconds: float = 1.0, rate: int = 24_000, channels: int = 1, piped: bool = False
) -> bytes:
    """Audio encoded by ffmpeg with these output options.

    `suffix` names the container, as a file's does. `piped` has it written to a pipe, as a service would: then no
    header can be corrected afterwards, and `suffix` is the name of ffmpeg's muxer. Skips the test where this
    ffmpeg has no such encoder.
    """
    if not there("ffmpeg"):
        pytest.skip("needs ffmpeg")
    raw = ["ffmpeg", "-v", "error", "-f", "s16le", "-ar", str(rate), "-ac", str(channels), "-i", "-"]
    source = speechlike(round(seconds * rate), rate, channels)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"audio.{suffix}")
        target = ["-f", suffix, "-"] if piped else [str(path)]
        done = subprocess.run([*raw, *options, *target], input=source, capture_output=True, check=False)
        if done.returncode:
            message = done.stderr.decode(errors="replace")
            if "Unknown encoder" in message or "does not" in message:
                pytest.skip(message.strip().splitlines()[0])
            raise RuntimeError(message)
        return done.stdout if piped else path.read_bytes()


def decoded(data: bytes, suffix: str) -> tuple[float, int, int]:
    """Seconds, sample rate and channels of what ffmpeg makes of a file, decoded to its end."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"audio.{suffix}")
        path.write_bytes(data)
        done = subprocess.run(
            ["ffmpeg", "-v", "error", "-i", str(path), "-c:a", "pcm_s16le", "-f", "wav", "-"],
            capture_output=True,
            check=True,
        )
    channels, rate = struct.unpack("<HI", done.stdout[22:28])
    begin = done.stdout.index(b"data") + 8
    return (len(done.stdout) - begin) / (2 * channels * rate), rate, channels
