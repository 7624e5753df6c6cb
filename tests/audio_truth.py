"""Every reader of audio held against the encoders that everybody uses.

    python tests/audio_truth.py [--only KIND] [--json]

makes some hundred files by ffmpeg, lame, flac, opusenc, oggenc and sox (those that are installed), reads each whole and
in pieces, and compares with what ffmpeg makes of it when it decodes the file to its end. Nothing is kept.
"""

from __future__ import annotations

import argparse
import functools
import io
import json
import math
import multiprocessing
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from audio_samples import facts, pieces, wav

from ttstrace.audio import AudioReader

SECONDS: Final = (0.35, 0.02, 1.0, 0.1, 3.0, 0.75)
"""Lengths of the files; the cases of a kind take turns."""
PIECES: Final = (16_384, 1000, 33)
"""Bytes of the pieces in which each file is read."""
_TINY: Final = 6000
"""Bytes of a file up to which it is read byte by byte as well."""


class Kind(NamedTuple):
    """What the files of one kind have in common: what the truth about them is.

    The duration has to be less than one codec frame from the truth: from the number of packets that ffprobe finds
    where each holds a frame (`packets`), else from the samples that ffmpeg decodes. The numbers are for the second
    opinions: samples by which they may be off beyond one codec frame, None where they say nothing, and `why`.
    """

    format: str
    """What the reader has to call it."""
    packets: bool = False
    decode: int = 0
    """The number of samples that ffmpeg decodes, where the packets are the truth."""
    put: int | None = 0
    """The number of samples that were encoded."""
    probe: int | None = 0
    """The duration that ffprobe finds in the headers."""
    why: str = ""


# Why second opinions differ.
_LAME: Final = (
    "lame puts 1105 samples before the audio and fills the last two frames; with a Xing or LAME tag, ffmpeg's decode "
    "leaves both out, which the reader's definition (frames delivered) does not"
)
_ESTIMATED: Final = "without a table of frames, ffprobe tells the duration by the bit rate"
_MP2: Final = f"481 samples of delay, and the last frame is filled; {_ESTIMATED}"
_ADTS: Final = f"1024 samples of priming, which ADTS cannot tell; {_ESTIMATED}"
_PIPED: Final = "the header does not know the length"
_PRE_SKIP: Final = "RFC 7845 has the pre-skip of 312 samples taken off, which ffprobe's duration holds"
_BLOCKS: Final = "block times are whole milliseconds, and tell no end of the last block"
_EDITED: Final = "the edit list takes off the 1024 samples of priming; the decode does not cut the end, the header does"

KINDS: Final[dict[str, Kind]] = {
    "wav": Kind("wav"),
    "wav piped": Kind("wav", probe=None, why=_PIPED),
    "wav rf64": Kind("wav"),
    "wav rifx": Kind("wav"),
    "wav adpcm_ms": Kind("wav", why="the last block is filled"),
    "wav adpcm_ima": Kind("wav", why="the last block is filled"),
    "mp3 cbr": Kind("mp3", packets=True, decode=1105 + 1152, put=1105 + 1152, probe=None, why=_LAME),
    "mp3 vbr": Kind("mp3", packets=True, decode=1105 + 1152, put=1105 + 1152, probe=None, why=_LAME),
    "mp3 no xing": Kind("mp3", packets=True, put=1105 + 1152, probe=None, why=f"{_LAME}; {_ESTIMATED}"),
    "mp3 lame": Kind("mp3", packets=True, decode=1105 + 1152, put=1105 + 1152, probe=None, why=_LAME),
    "mp2": Kind("mp2", packets=True, put=1152, probe=None, why=_MP2),
    "aac adts": Kind("aac", packets=True, put=1024, probe=None, why=_ADTS),
    "flac": Kind("flac"),
    "flac piped": Kind("flac", probe=None, why=_PIPED),
    "flac in ogg": Kind("flac"),
    "ogg vorbis": Kind("vorbis"),
    "ogg opus": Kind("opus", probe=312, why=_PRE_SKIP),
    "opusenc": Kind("opus", probe=312, why=_PRE_SKIP),
    "webm opus": Kind("webm", probe=None, why=_BLOCKS),
    "webm opus piped": Kind("webm", probe=None, why=_PIPED),
    "webm vorbis": Kind("webm", probe=None, why=_BLOCKS),
    "webm vorbis piped": Kind("webm", probe=None, why=_PIPED),
    "m4a": Kind("mp4", why=_EDITED),
    "m4a faststart": Kind("mp4", why=_EDITED),
    "m4a fragmented": Kind("mp4", put=1024, why="no edit list: the 1024 samples of priming are audio"),
    "m4a alac": Kind("mp4"),
    "aiff": Kind("aiff"),
    "aifc": Kind("aiff"),
    "au": Kind("au"),
    "au piped": Kind("au", probe=None, why=_PIPED),
    "raw": Kind(""),
}


class Case(NamedTuple):
    """One file."""

    kind: str
    name: str
    command: tuple[str, ...]
    """What encodes a WAV on stdin; `OUT` is the path of the file, without it the file comes on stdout."""
    rate: int
    channels: int
    seconds: float
    frame: int
    """Samples of one codec frame, or of a block."""
    suffix: str
    declared: str
    """The name by which a caller may declare the format."""
    format: str
    decoder: tuple[str, ...] = ()
    """Options that ffmpeg needs before the input."""

    @property
    def frames(self) -> int:
        """Samples per channel that are encoded."""
        return round(self.rate * self.seconds)


class Outcome(NamedTuple):
    """What came of a case."""

    kind: str
    name: str
    seconds: float | None = None
    """How far the duration is from the truth; None where it was not read."""
    frames: float | None = None
    """The same in codec frames."""
    complaint: str | None = None
    skipped: str | None = None


def _ffmpeg(options: str, suffix: str = "", piped: str = "") -> tuple[str, ...]:
    command = ("ffmpeg", "-v", "error", "-threads", "1", "-i", "-", *options.split())
    return (*command, "-f", piped, "-") if piped else (*command, "-y", f"OUT.{suffix}")


def cases() -> Iterator[Case]:
    """All of them. The lengths take turns within a kind, so that each sort of file comes in several."""
    made: dict[str, int] = {}
    for case in _cases():
        turn = made[case.kind] = made.get(case.kind, -1) + 1
        seconds = SECONDS[turn % len(SECONDS)]
        if case.kind == "mp2":
            seconds = max(seconds, 0.1)  # ffmpeg does not take a single frame for a file
        yield case._replace(seconds=seconds, name=f"{case.name} {seconds} s")


def _case(kind: str, name: str, command: tuple[str, ...], rate: int, channels: int, frame: int, **more: Any) -> Case:
    about = KINDS[kind]
    out = next((part for part in command if part.startswith("OUT")), "")
    suffix = more.pop("suffix", out.rpartition(".")[2])
    declared = more.pop("declared", about.format)
    label = f"{kind}: {name} {rate} Hz {channels} ch"
    return Case(kind, label, command, rate, channels, 0.0, frame, suffix, declared, about.format, **more)


def _cases() -> Iterator[Case]:
    yield from _wav()
    yield from _mpeg()
    yield from _flac()
    yield from _ogg()
    yield from _webm()
    yield from _aac()
    yield from _aiff_and_au()
    yield from _raw()


def _wav() -> Iterator[Case]:
    codecs = ("pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le", "pcm_mulaw", "pcm_alaw")
    for codec in codecs:
        for rate, channels in ((8000, 1), (16_000, 2), (24_000, 1), (44_100, 2), (48_000, 1)):
            yield _case("wav", codec, _ffmpeg(f"-c:a {codec}", "wav"), rate, channels, 1)
    for codec in codecs[1:7]:
        yield _case("wav piped", codec, _ffmpeg(f"-c:a {codec}", piped="wav"), 24_000, 1, 1, suffix="wav")
    yield _case("wav piped", "sox", ("sox", "-V1", "-t", "wav", "-", "-t", "wav", "-"), 22_050, 2, 1, suffix="wav")
    for codec in codecs[:5]:
        yield _case("wav rf64", codec, _ffmpeg(f"-c:a {codec} -rf64 always", "wav"), 22_050, 2, 1)
    for rate, channels in ((8000, 1), (24_000, 2), (44_100, 1)):  # of RIFX, ffmpeg reads 16 bits only
        command = ("sox", "-V1", "-t", "wav", "-", "-B", "-b", "16", "OUT.wav")
        yield _case("wav rifx", "sox", command, rate, channels, 1)
    for rate, channels in ((8000, 1), (16_000, 2), (22_050, 1), (24_000, 1), (44_100, 2), (48_000, 1)):
        for size in (256, 1024):
            ms = (size // channels - 7) * 2 + 2
            ima = (size // channels - 4) * 2 + 1
            options = f"-block_size {size}"
            yield _case("wav adpcm_ms", f"block {size}", _ffmpeg(f"-c:a adpcm_ms {options}", "wav"), rate, channels, ms)
            command = _ffmpeg(f"-c:a adpcm_ima_wav {options}", "wav")
            yield _case("wav adpcm_ima", f"block {size}", command, rate, channels, ima)
        sox = ("sox", "-V1", "-t", "wav", "-", "-e")
        block = 2036 if rate > 40_000 else 1012 if rate > 20_000 else 500
        yield _case("wav adpcm_ms", "sox", (*sox, "ms-adpcm", "OUT.wav"), rate, channels, block)
        yield _case("wav adpcm_ima", "sox", (*sox, "ima-adpcm", "OUT.wav"), rate, channels, 505)


def _mpeg() -> Iterator[Case]:
    rates = (48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8000)
    for at, rate in enumerate(rates):
        frame = 1152 if rate >= 32_000 else 576
        low, high = (32, 64) if rate < 16_000 else (48, 128)
        channels = 1 + at % 2
        for bits in (low, high):
            yield _case("mp3 cbr", f"{bits}k", _ffmpeg(f"-b:a {bits}k", "mp3"), rate, channels, frame)
            channels = 3 - channels
        command = _ffmpeg(f"-q:a {at % 9} -id3v2_version 3 -write_id3v1 1", "mp3")
        yield _case("mp3 vbr", f"q {at % 9}", command, rate, channels, frame)
        command = _ffmpeg(f"-q:a {9 - at % 9} -metadata title=x", "mp3")
        yield _case("mp3 vbr", f"q {9 - at % 9}", command, rate, 3 - channels, frame)
        command = _ffmpeg(f"-b:a {low}k -write_xing 0 -id3v2_version 0", "mp3")
        yield _case("mp3 no xing", f"{low}k", command, rate, channels, frame)
        command = _ffmpeg(f"-b:a {high}k", piped="mp3")
        yield _case("mp3 no xing", f"piped {high}k", command, rate, channels, frame, suffix="mp3")
        lame = ("lame", "--quiet", "--resample", str(rate / 1000))
        for options in ((f"-b{low}", "--cbr"), ("-V5",), ("-V2", "-t"), (f"--abr{low}",)):
            options = ("--abr", str(low)) if options[0].startswith("--abr") else options
            name = " ".join(options)
            yield _case("mp3 lame", name, (*lame, *options, "-", "OUT.mp3"), rate, channels, frame)
        if rate >= 16_000:
            bits = 96 if rate < 32_000 else 192
            yield _case("mp2", f"{bits}k", _ffmpeg(f"-b:a {bits}k", "mp2"), rate, 2, 1152)
            command = _ffmpeg(f"-c:a libtwolame -b:a {bits // 2}k", "mp2")
            yield _case("mp2", f"twolame {bits // 2}k", command, rate, 1, 1152)


def _flac() -> Iterator[Case]:
    for at, rate in enumerate((8000, 16_000, 22_050, 24_000, 44_100, 48_000, 96_000)):
        channels = 1 + at % 2
        for level, size in ((0, 1152), (5, 4096), (12, 512)):
            options = f"-compression_level {level} -frame_size {size}"
            yield _case("flac", f"level {level} blocks {size}", _ffmpeg(options, "flac"), rate, channels, size)
        options = ("-s", "-f", f"-{at}", f"--blocksize={(192, 576, 1024, 4608)[at % 4]}")
        command = ("flac", *options, "-o", "OUT.flac", "-")
        yield _case("flac", f"flac -{at}", command, rate, channels, (192, 576, 1024, 4608)[at % 4])
        command = _ffmpeg("-frame_size 2048", piped="flac")
        yield _case("flac piped", "blocks 2048", command, rate, channels, 2048, suffix="flac")
        command = ("flac", "-s", "-c", "-5", "-")
        yield _case("flac piped", "flac -c", command, rate, 3 - channels, 4608, suffix="flac")
        command = ("flac", "-s", "-f", "--ogg", "-5", "-o", "OUT.oga", "-")
        yield _case("flac in ogg", "flac --ogg", command, rate, channels, 4608, declared="ogg_flac")
        command = _ffmpeg("-c:a flac -frame_size 1024", "oga")
        yield _case("flac in ogg", "blocks 1024", command, rate, channels, 1024, declared="ogg")
    options = "-sample_fmt s32 -bits_per_raw_sample 24 -frame_size 4096"
    yield _case("flac", "24 bit", _ffmpeg(options, "flac"), 48_000, 2, 4096)


def _vorbis_block(rate: int) -> int:
    """The long block of libvorbis."""
    return 2048 if rate > 26_000 else 1024 if rate > 15_000 else 512


def _ogg() -> Iterator[Case]:
    for at, rate in enumerate((8000, 16_000, 22_050, 24_000, 44_100, 48_000)):
        block = _vorbis_block(rate)
        for quality in (0, 4, 8):
            command = _ffmpeg(f"-c:a libvorbis -q:a {quality}", "ogg")
            yield _case("ogg vorbis", f"q {quality}", command, rate, 1 + (at + quality // 4) % 2, block)
        command = ("oggenc", "-Q", "-q", str(at), "-o", "OUT.ogg", "-")
        yield _case("ogg vorbis", f"oggenc q {at}", command, rate, 1 + at % 2, block)
    for at, length in enumerate((2.5, 5, 10, 20, 40, 60)):
        frame = round(48 * length)
        for rate, bits in ((24_000, 24), (48_000, 64), (16_000, 16)):
            command = _ffmpeg(f"-c:a libopus -b:a {bits}k -frame_duration {length}", "ogg")
            more: dict[str, Any] = {"declared": "opus"}
            yield _case("ogg opus", f"{length} ms {bits}k", command, rate, 1 + at % 2, frame, **more)
        command = _ffmpeg(f"-c:a libopus -frame_duration {length}", piped="ogg")
        yield _case("ogg opus", f"piped {length} ms", command, 24_000, 1, frame, suffix="ogg", **more)
        for rate in (44_100, 24_000):
            command = ("opusenc", "--quiet", "--framesize", str(length), "-", "OUT.opus")
            yield _case("opusenc", f"{length} ms", command, rate, 2 - at % 2, frame, **more)


def _webm() -> Iterator[Case]:
    for at, length in enumerate((2.5, 10, 20, 60)):
        frame = round(48 * length)
        for rate in (24_000, 48_000):
            options = f"-c:a libopus -frame_duration {length}"
            more: dict[str, Any] = {"declared": "webm"}
            yield _case("webm opus", f"{length} ms", _ffmpeg(options, "webm"), rate, 1 + at % 2, frame, **more)
            command = _ffmpeg(options, piped="webm")
            yield _case("webm opus piped", f"{length} ms", command, rate, 1 + at % 2, frame, suffix="webm", **more)
    for at, rate in enumerate((8000, 22_050, 44_100, 48_000)):
        block = _vorbis_block(rate)
        yield _case("webm vorbis", "vorbis", _ffmpeg("-c:a libvorbis", "webm"), rate, 1 + at % 2, block)
        command = _ffmpeg("-c:a libvorbis", piped="webm")
        yield _case("webm vorbis piped", "vorbis", command, rate, 1 + at % 2, block, suffix="webm")


def _aac() -> Iterator[Case]:
    rates = (8000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000)
    for at, rate in enumerate(rates):
        bits = 24 if rate < 22_000 else 64
        channels = 1 + at % 2
        more: dict[str, Any] = {"suffix": "aac", "decoder": ("-f", "aac")}  # of two frames it needs to be told
        yield _case("aac adts", f"{bits}k", _ffmpeg(f"-b:a {bits}k", "aac"), rate, channels, 1024, **more)
        yield _case("aac adts", "piped", _ffmpeg("-c:a aac", piped="adts"), rate, 3 - channels, 1024, **more)
        options = f"-c:a aac -b:a {bits}k"
        yield _case("m4a", f"{bits}k", _ffmpeg(options, "m4a"), rate, channels, 1024)
        command = _ffmpeg(f"{options} -movflags +faststart", "m4a")
        yield _case("m4a faststart", f"{bits}k", command, rate, 3 - channels, 1024)
        if at % 2:
            command = _ffmpeg(f"{options} -movflags frag_keyframe+empty_moov", piped="mp4")
            yield _case("m4a fragmented", "piped", command, rate, channels, 1024, suffix="mp4")
            command = _ffmpeg(f"{options} -movflags +frag_keyframe+empty_moov -frag_duration 200000", "mp4")
            yield _case("m4a fragmented", "0.2 s", command, rate, channels, 1024)
    for rate in (24_000, 44_100):
        yield _case("m4a alac", "alac", _ffmpeg("-c:a alac", "m4a"), rate, 2, 4096)


def _aiff_and_au() -> Iterator[Case]:
    for at, codec in enumerate(("pcm_s8", "pcm_s16be", "pcm_s24be", "pcm_s32be")):
        for rate in (22_050, 44_100):
            yield _case("aiff", codec, _ffmpeg(f"-c:a {codec}", "aiff"), rate, 1 + at % 2, 1)
    sox = ("sox", "-V1", "-t", "wav", "-", "-b")
    for bits in ("8", "16", "24"):
        yield _case("aiff", f"sox {bits}", (*sox, bits, "OUT.aiff"), 24_000, 1, 1)
        yield _case("aifc", f"sox {bits}", (*sox, bits, "OUT.aifc"), 24_000, 2, 1)
    for at, codec in enumerate(("pcm_s16le", "pcm_f32be", "pcm_f64be", "pcm_mulaw", "pcm_alaw")):
        for rate in (8000, 48_000):
            yield _case("aifc", codec, _ffmpeg(f"-c:a {codec}", "aiff"), rate, 1 + at % 2, 1)
    codecs = ("pcm_s8", "pcm_s16be", "pcm_s24be", "pcm_s32be", "pcm_f32be", "pcm_f64be", "pcm_mulaw", "pcm_alaw")
    for at, codec in enumerate(codecs):
        for rate in (8000, 24_000):
            yield _case("au", codec, _ffmpeg(f"-c:a {codec}", "au"), rate, 1 + at % 2, 1)
    for codec in ("pcm_s16be", "pcm_mulaw"):
        yield _case("au piped", codec, _ffmpeg(f"-c:a {codec}", piped="au"), 16_000, 2, 1, suffix="au")
    command = ("sox", "-V1", "-t", "wav", "-", "-t", "au", "-")
    yield _case("au piped", "sox", command, 24_000, 1, 1, suffix="au")


_RAW: Final = (
    ("pcm_s8", "s8"), ("pcm_u8", "u8"), ("pcm_s16le", "s16le"), ("pcm_s16be", "s16be"), ("pcm_s24le", "s24le"),
    ("pcm_s24be", "s24be"), ("pcm_s32le", "s32le"), ("pcm_s32be", "s32be"), ("pcm_f32le", "f32le"),
    ("pcm_f32be", "f32be"), ("pcm_f64le", "f64le"), ("pcm_f64be", "f64be"), ("pcm_mulaw", "mulaw"),
    ("pcm_alaw", "alaw"), ("pcm_u16le", "u16le"),
)  # fmt: skip
_RAW_NAMES: Final = (
    ("pcm_24000", "pcm_s16le", 24_000, 1), ("pcm", "pcm_s16le", 24_000, 1), ("ulaw_8000", "pcm_mulaw", 8000, 1),
    ("LINEAR16", "pcm_s16le", 24_000, 1), ("raw-16khz-16bit-mono-pcm", "pcm_s16le", 16_000, 1),
    ("PCM_22050HZ_MONO_16BIT", "pcm_s16le", 22_050, 1), ("audio/L16;rate=24000", "pcm_s16le", 24_000, 1),
    ("raw-8khz-8bit-mono-alaw", "pcm_alaw", 8000, 1), ("raw-48khz-16bit-stereo-pcm", "pcm_s16le", 48_000, 2),
    ("audio/basic", "pcm_mulaw", 8000, 1), ("PCM_24", "pcm_s24le", 44_100, 1), ("float32", "pcm_f32le", 24_000, 1),
)  # fmt: skip


def _raw() -> Iterator[Case]:
    for codec, muxer in _RAW:
        for rate, channels in ((24_000, 1), (44_100, 2)):
            name = f"{codec}_{'stereo' if channels == 2 else 'mono'}"
            yield _one_raw(name, codec, muxer, rate, channels)
    for name, codec, rate, channels in _RAW_NAMES:
        yield _one_raw(name, codec, codec.removeprefix("pcm_"), rate, channels)


def _one_raw(name: str, codec: str, muxer: str, rate: int, channels: int) -> Case:
    decoder = ("-f", muxer, "-ar", str(rate), "-ac", str(channels))
    command = _ffmpeg(f"-c:a {codec}", piped=muxer)
    more: dict[str, Any] = {"suffix": "raw", "declared": name, "decoder": decoder}
    return _case("raw", f"{name!r}", command, rate, channels, 1, **more)._replace(format=codec)


@functools.lru_cache(maxsize=1)
def _second() -> array[int]:
    """A swelling tone over noise, which encoders give frames of every size."""
    noise = random.Random(1)
    return array(
        "h",
        [
            int(12_000 * math.sin(at / 17) * (0.5 + 0.4 * math.sin(at / 1300)) + noise.uniform(-600, 600))
            for at in range(48_000)
        ],
    )


def source(rate: int, channels: int, frames: int) -> bytes:
    """A 16-bit WAV with sound in it."""
    second = _second()
    count = frames * channels
    samples = (second * (count // len(second) + 1))[:count]
    return wav(samples.tobytes(), rate=rate, channels=channels)


class Missing(Exception):
    """A tool or an encoder that this machine does not have."""


def make(case: Case) -> bytes:
    """The file."""
    tool = case.command[0]
    if shutil.which(tool) is None:
        raise Missing(f"no {tool}")
    sound = source(case.rate, case.channels, case.frames)
    with tempfile.TemporaryDirectory() as folder:
        target = next((part for part in case.command if part.startswith("OUT.")), None)
        path = Path(folder, target or "")
        command = [str(path) if part == target else part for part in case.command]
        done = subprocess.run(command, input=sound, capture_output=True, check=False)
        if done.returncode:
            message = done.stderr.decode(errors="replace").strip()
            if "Unknown encoder" in message or "no handler" in message:
                raise Missing(message.splitlines()[0])
            raise RuntimeError(f"{' '.join(command)}: {message}")
        return path.read_bytes() if target else done.stdout


class Truth(NamedTuple):
    """What ffmpeg and ffprobe say of a file."""

    rate: int
    channels: int
    packets: int
    decoded: int
    """Samples per channel."""
    duration: float | None
    """By the headers."""


def truth(case: Case, data: bytes) -> Truth:
    """Decode the file to its end, and look at what its headers say."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"audio.{case.suffix}")
        path.write_bytes(data)
        entries = "stream=sample_rate,channels,nb_read_packets,duration:format=duration"
        probe = ("ffprobe", "-v", "error", *case.decoder, "-count_packets", "-show_entries", entries, "-of", "json")
        said = json.loads(subprocess.run([*probe, str(path)], capture_output=True, check=True).stdout)
        command = ("ffmpeg", "-v", "error", "-threads", "1", *case.decoder, "-i", str(path), "-f", "s16le", "-")
        heard = len(subprocess.run(command, capture_output=True, check=True).stdout)
    stream = said["streams"][0]
    duration = stream.get("duration") or said["format"].get("duration")
    channels = int(stream["channels"])
    return Truth(
        int(stream["sample_rate"]),
        channels,
        int(stream.get("nb_read_packets", 0)),
        heard // (2 * channels),
        float(duration) if duration else None,
    )


def check(case: Case) -> Outcome:
    """Make the file, read it in every way, and compare."""
    try:
        data = make(case)
        known = truth(case, data)
    except Missing as why:
        return Outcome(case.kind, case.name, skipped=str(why))
    except Exception as error:
        message = getattr(error, "stderr", None) or str(error)
        return Outcome(case.kind, case.name, complaint=f"no truth to be had: {message}")
    declared_rate = case.rate if case.kind == "raw" else None
    always = case.declared if case.kind == "raw" else None
    reader = AudioReader(declared_rate, always)
    complaints: list[str] = []
    whole = _fed(reader, [data], complaints, "whole")
    duration = reader.duration
    if duration is None:
        said = f"the reader calls it {reader.format!r}" if reader.format else "the reader does not know the format"
        return Outcome(case.kind, case.name, complaint=f"not read: {said}")
    ways: list[tuple[str, list[object], str | None]] = [
        (f"pieces of {size}", [*pieces(data, size)], always) for size in (*PIECES, *([1] if len(data) <= _TINY else []))
    ]
    ways.append(("a file", [io.BytesIO(data)], always))
    ways.append((f"declared {case.declared!r}", [data], case.declared))
    for name, chunks, declared in ways:
        found = _fed(AudioReader(declared_rate, declared), chunks, complaints, name)
        if not _same(found, whole):
            complaints.append(f"{name}: {found}, but whole: {whole}")

    expected = (known.rate, known.channels, case.format, len(data))
    if (reader.sample_rate, reader.channels, reader.format, reader.size) != expected:
        read = (reader.sample_rate, reader.channels, reader.format, reader.size)
        complaints.append(f"rate, channels, format, size are {read}, not {expected}")

    about = KINDS[case.kind]
    rate = known.rate
    samples = known.packets * case.frame if about.packets else known.decoded
    error = abs(duration - samples / rate)
    opinions: list[tuple[str, float, int | None]] = [
        ("packets" if about.packets else "decoded", samples / rate, 0),
        ("decoded", known.decoded / rate, about.decode),
        ("encoded", case.seconds, about.put),
    ]
    if known.duration is not None:
        opinions.append(("headers", known.duration, about.probe))
    for name, opinion, off in opinions:
        # One codec frame is a frame too many: less than that is wanted.
        if off is not None and abs(duration - opinion) >= (case.frame + off) / rate * (1 - 1e-6):
            complaints.append(f"duration is {duration:.6f} s; {name}: {opinion:.6f} s")
    return Outcome(case.kind, case.name, error, error * rate / case.frame, "; ".join(dict.fromkeys(complaints)) or None)


def _fed(reader: AudioReader, chunks: list[Any], complaints: list[str], name: str) -> tuple[object, ...]:
    """Feed and finish; the facts. The chunks' seconds have to add up."""
    seconds = [reader.feed(chunk) for chunk in chunks]
    reader.finish()
    duration = reader.duration
    known = math.fsum(filter(None, seconds))
    if duration is not None:
        close = math.isclose(known, duration, abs_tol=1e-6)
        if not (close or (None in seconds and known < duration)):
            complaints.append(f"{name}: the chunks' seconds are {known:.6f}, the duration {duration:.6f}")
    return facts(reader)[:5]


def _same(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    if one[0] is None or other[0] is None:
        return one == other
    return math.isclose(one[0], other[0], abs_tol=1e-9) and one[1:] == other[1:]


class Row(NamedTuple):
    """A line of the table."""

    kind: str
    files: int
    failed: int
    not_read: int
    skipped: int
    seconds: float | None
    frames: float | None
    file: str


def table(outcomes: list[Outcome]) -> list[Row]:
    """Per kind, the worst."""
    rows = []
    for kind in KINDS:
        of_kind = [outcome for outcome in outcomes if outcome.kind == kind]
        if not of_kind:
            continue
        read = [outcome for outcome in of_kind if outcome.frames is not None]
        worst = max(read, key=lambda outcome: outcome.frames or 0.0, default=None)
        unread = [one for one in of_kind if one.frames is None and one.skipped is None]
        rows.append(
            Row(
                kind,
                len(of_kind),
                sum(one.complaint is not None for one in read),
                len(unread),
                sum(one.skipped is not None for one in of_kind),
                worst.seconds if worst else None,
                worst.frames if worst else None,
                worst.name if worst else "",
            )
        )
    return rows


def _print(rows: list[Row], outcomes: list[Outcome]) -> None:
    print(f"{'kind':<18} {'files':>5}  {'worst (s)':>10}  {'(frames)':>8}  worst file")
    for row in rows:
        notes = []
        if row.not_read:
            notes.append(f"NOT READ: {row.not_read}")
        if row.failed:
            notes.append(f"FAILED: {row.failed}")
        if row.skipped:
            notes.append(f"skipped: {row.skipped}")
        seconds = "-" if row.seconds is None else f"{row.seconds:.6f}"
        frames = "-" if row.frames is None else f"{row.frames:.3f}"
        worst = row.file.partition(": ")[2] if row.seconds else ""
        print(f"{row.kind:<18} {row.files:>5}  {seconds:>10}  {frames:>8}  {worst}  {', '.join(notes)}".rstrip())
    for outcome in outcomes:
        if outcome.complaint is not None and not outcome.complaint.startswith("not read"):
            print(f"FAILED {outcome.name}: {outcome.complaint}")
    for reason in sorted({outcome.skipped for outcome in outcomes if outcome.skipped}):
        print(f"skipped: {reason}")


def main() -> int:
    """The table; 1 where a file is over its bar or not read."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="KIND", action="append", help=f"only kinds of this name: {', '.join(KINDS)}")
    parser.add_argument("--json", action="store_true", help="the table and every file as JSON")
    arguments = parser.parse_args()
    missing = [tool for tool in ("ffmpeg", "ffprobe") if shutil.which(tool) is None]
    if missing:
        print(
            f"{' and '.join(missing)} not found: install ffmpeg, which makes the files and the truth", file=sys.stderr
        )
        return 2
    began = time.monotonic()
    only = arguments.only
    chosen = [
        case for case in cases() if not only or any(re.match(rf"{re.escape(kind)}\b", case.kind) for kind in only)
    ]
    if not chosen:
        parser.error(f"no kind is called {' or '.join(only)}; there are {', '.join(KINDS)}")
    outcomes = []
    shown = sys.stderr.isatty()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with multiprocessing.Pool(cores) as pool:
        for outcome in pool.imap(check, chosen):
            outcomes.append(outcome)
            if shown:
                print(f"\r\x1b[K{len(outcomes)}/{len(chosen)} {outcome.name}", end="", file=sys.stderr, flush=True)
    if shown:
        print("\r\x1b[K", end="", file=sys.stderr)
    took = time.monotonic() - began
    rows = table(outcomes)
    bad = sum(outcome.complaint is not None for outcome in outcomes)
    if arguments.json:
        report = {
            "files": len(outcomes),
            "failed": bad,
            "seconds": round(took, 1),
            "kinds": [row._asdict() for row in rows],
            "outcomes": [outcome._asdict() for outcome in outcomes],
        }
        print(json.dumps(report, indent=1))
    else:
        _print(rows, outcomes)
        unread = sum(row.not_read for row in rows)
        skipped = sum(row.skipped for row in rows)
        verdict = "all within one codec frame" if not bad else f"{bad - unread} failed, {unread} not read"
        verdict += f", {skipped} skipped" if skipped else ""
        print(f"{len(outcomes)} files in {took:.0f} s: {verdict}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
