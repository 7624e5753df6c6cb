"""Hostile bytes for every reader of audio: small real files, broken in every way.

    python tests/audio_mutants.py --count 1_000_000
    python tests/audio_mutants.py --seed 4711 --count 1     # that one again, and what was done to it

takes files of 1 to 20 kB by every encoder that is installed, and what text carries of them (base64, JSON, events),
flips bits, overwrites, cuts, doubles and deletes ranges, splices two files, sets fields to extremes in both byte
orders, and feeds that to an `AudioReader`, whole or in pieces, with and without a format declared, with the search for
the onset and without. Of each mutant has to hold:

- nothing is raised, nor swallowed inside the reader;
- it takes less than 5 ms of CPU (one that takes longer is read twice more, and the least counts);
- less than 64 kB are held between the pieces, and (of every hundredth) allocated at any time;
- the duration is one that so many bytes can hold, and the sum of what the pieces were said to last.

A seed makes the same mutant again wherever the encoders are the same: the line at the end has a digest of the files.
"""

from __future__ import annotations

import argparse
import base64
import gc
import hashlib
import io
import json
import math
import multiprocessing
import os
import random
import sys
import time
import traceback
import tracemalloc
import types
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
from audio_truth import KINDS, Case, Missing, cases, make

from ttstrace.audio import AudioReader

MOST_BYTES: Final = 65_536
MOST_SECONDS: Final = 0.005
MOST_HELD: Final = 65_536
MOST_ALLOCATED: Final = 65_536
_LARGEST_FILE: Final = 20_000
_BATCH: Final = 400
_FAILURES: Final = 10
"""Faults after which it stops, and failures of whatever fault."""
_MOST_FAILURES: Final = 100
_TRACED: Final = 100
"""One mutant in so many has its allocations traced."""


class Base(NamedTuple):
    """A real file."""

    kind: str
    name: str
    data: bytes
    declared: str
    rate: int


def bases(pool: Any = None) -> list[Base]:
    """Up to three small files of every kind, the same ones each time."""
    chosen = []
    # Of sox's files, few come out the same each time: its ADPCM and its dither begin anywhere.
    every = [case for case in cases() if case.command[0] != "sox" or case.kind == "wav rifx"]
    for kind in KINDS:
        of_kind = [case for case in every if case.kind == kind]
        for at in sorted({0, len(of_kind) // 2, len(of_kind) - 1}):
            chosen.append(of_kind[at])
    found = (pool.imap if pool is not None else map)(_base, chosen)
    return [base for base in found if base is not None]


def _base(case: Case) -> Base | None:
    for frames in (3000, 1000):
        case = case._replace(command=_repeatable(case.command), seconds=frames / case.rate)
        try:
            data = make(case)
        except Missing:
            return None
        if len(data) <= _LARGEST_FILE:
            break
    return Base(case.kind, case.name, data[:_LARGEST_FILE], case.declared, case.rate)


def _repeatable(command: tuple[str, ...]) -> tuple[str, ...]:
    """The command without what encoders draw by chance: serial numbers, identifiers."""
    if command[0] == "ffmpeg":
        at = command.index("-i") + 2
        return (*command[:at], "-fflags", "+bitexact", "-flags:a", "+bitexact", *command[at:])
    if command[0] == "oggenc":
        return ("oggenc", "-s", "1", *command[1:])
    if command[0] == "opusenc":
        return ("opusenc", "--serial", "1", *command[1:])
    if "--ogg" in command:
        return ("flac", "--serial-number=1", *command[1:])
    return command


# What is done to the bytes.

_NUMBERS: Final = (
    0, 1, 2, 3, 7, 8, 12, 15, 16, 255, 256, 4000, 8000, 11_025, 44_100, 48_000, 384_000, 0x7FFF, 0x8000, 0xFFFF,
    0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFF0, 0xFFFF_FFFE, 0xFFFF_FFFF, 0x7FFF_FFFF_FFFF_FFFF, 0x8000_0000_0000_0000,
    0xFFFF_FFFF_FFFF_FFFF, 0x0100_0000_0000_0000,
)  # fmt: skip
MAGICS: Final = (
    b"RIFF", b"RIFX", b"RF64", b"WAVE", b"fmt ", b"data", b"ds64", b"fact", b"LIST", b"FORM", b"AIFF", b"AIFC", b"COMM",
    b"SSND", b"NONE", b"sowt", b"ima4", b".snd", b"dns.", b"fLaC", b"OggS", b"OpusHead", b"OpusTags", b"\x01vorbis",
    b"\x05vorbis", b"\x7fFLAC", b"ID3\x04\x00\x00\x00\x00\x00\x00", b"TAG", b"APETAGEX", b"Xing", b"Info", b"VBRI",
    b"\xff\xfb\x90\x64", b"\xff\xf3\x44\xc4", b"\xff\xfd\x84\x04", b"\xff\xf1\x50\x80", b"\xff\xf9\x50\x80",
    b"\xff\xf8\xc9\x18", b"\xff\xf9\xc9\x18", b"ftyp", b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"stts",
    b"stsz", b"mdhd", b"mvhd", b"elst", b"moof", b"traf", b"tfhd", b"tfdt", b"trun", b"trex", b"mdat", b"free", b"mp4a",
    b"esds", b"\x1aE\xdf\xa3", b"\x18S\x80g", b"\x1fC\xb6u", b"\x16T\xaek", b"\xa3", b"\xa1", b"\xe7", b"\xae",
    b"\x01\xff\xff\xff\xff\xff\xff\xff", b"\xec", b"A_OPUS", b"A_VORBIS",
)  # fmt: skip
"""What marks a place in one of the formats."""


def _place(draw: random.Random, size: int) -> int:
    """A position: half of them where headers are."""
    if not size:
        return 0
    return draw.randrange(min(size, 200) if draw.random() < 0.5 else size)


def _span(draw: random.Random, size: int) -> tuple[int, int]:
    """A range, short ones as likely as long ones."""
    begin = _place(draw, size)
    return begin, min(size, begin + int(2 ** (draw.random() * 14)))


def _mutate(data: bytearray, draw: random.Random, files: list[Base]) -> str:
    """One change in place; its name."""
    size = len(data)
    way = draw.randrange(13)
    if way <= 1:
        for _ in range(draw.randrange(1, 9)):
            if size:
                data[_place(draw, size)] ^= 1 << draw.randrange(8)
        return "flip bits"
    if way == 2:
        begin, end = _span(draw, size)
        value = draw.choice((0, 0xFF, draw.randrange(256)))
        data[begin:end] = bytes([value]) * (end - begin)
        return f"set {begin}:{end} to {value}"
    if way == 3:
        del data[_place(draw, size) :]
        return f"cut at {len(data)}"
    if way == 4:
        begin, end = _span(draw, size)
        del data[begin:end]
        return f"delete {begin}:{end}"
    if way == 5:
        begin, end = _span(draw, size)
        at = draw.choice((end, _place(draw, size)))
        data[at:at] = data[begin:end]
        return f"copy {begin}:{end} to {at}"
    if way == 6:
        begin = _place(draw, size)
        end = min(size, begin + draw.choice((1, 2, 3, 4, 5, 8, 16, 27, 28, 64, 300)))
        if end > begin:
            room = MOST_BYTES - size
            many = draw.randrange(room // (end - begin) + 1) if room > 0 else 0
            data[end:end] = data[begin:end] * many
            return f"repeat {begin}:{end} {many} times"
        return "nothing"
    if way == 7:
        other = draw.choice(files)
        at, begin = _place(draw, size), _place(draw, len(other.data))
        tail = bytes(data[at:]) if draw.random() < 0.5 else b""
        data[at:] = other.data[begin:] + tail
        return f"splice {other.name!r} from {begin} at {at}"
    if way == 8:
        at = _place(draw, size)
        data[at:at] = draw.randbytes(int(2 ** (draw.random() * 8)))
        return f"insert at {at}"
    if way == 9:
        magic = draw.choice(MAGICS)
        at = _place(draw, size)
        data[at : at + (len(magic) if draw.random() < 0.5 else 0)] = magic
        return f"put {magic!r} at {at}"
    width = draw.choice((1, 2, 3, 4, 4, 4, 8))
    number = draw.choice((*_NUMBERS, size, size + 1, max(size - 8, 0), draw.getrandbits(32)))
    order: Any = draw.choice(("big", "little"))
    at = _place(draw, size)
    data[at : at + width] = (number % (1 << 8 * width)).to_bytes(width, order)
    return f"write {number:#x} in {width} bytes, {order}, at {at}"


def _texts(data: bytes, draw: random.Random) -> tuple[str, list[object]]:
    """The bytes as text carries them, in pieces or whole."""
    size = draw.choice((3 * 400, 1000, len(data) or 1))
    parts = [data[at : at + size] for at in range(0, len(data), size)][:64]
    texts = [base64.b64encode(part).decode() for part in parts]
    if draw.random() < 0.3 and texts:
        at = draw.randrange(len(texts))
        broken = bytearray(texts[at].encode())
        broken[draw.randrange(len(broken))] = draw.randrange(256)
        texts[at] = broken.decode("latin-1")
    way = draw.randrange(7)
    if way == 0:
        return "base64", list(texts)
    if way == 1:
        return "base64 in bytes", [text.encode("latin-1") for text in texts]
    if way == 2:
        return "data URI", [f"data:audio/mpeg;base64,{text}" for text in texts]
    if way == 3:
        return "dicts", [{"audio": text, "sample_rate": 24_000} for text in texts]
    if way == 4:
        return "JSON", [json.dumps({"audio": text, "isFinal": False}) for text in texts]
    if way == 5:
        return "events", [
            f"data: {json.dumps({'data': {'audio': text}})}\n\n".encode("latin-1", "replace") for text in texts
        ]
    return "hex", [part.hex() for part in parts]


class Mutant(NamedTuple):
    """What is fed to a reader."""

    seed: int
    kind: str
    data: bytes
    chunks: list[Any]
    rate: int | None
    declared: str | None
    onset: bool
    done: str
    """What was done to which file."""


_NAMES: Final = (
    "wav", "mp3", "flac", "ogg", "opus", "webm", "mp4", "aac", "aiff", "au", "mp2", "pcm_s16le", "pcm_s24be_stereo",
    "pcm_24000", "ulaw_8000", "pcm_u8", "pcm_f64be",
)  # fmt: skip


def mutant(seed: int, files: list[Base]) -> Mutant:
    """The mutant of this number."""
    draw = random.Random(seed)
    base = draw.choice(files)
    data = bytearray(base.data)
    done = [f"{base.name!r} ({len(data)} bytes)"]
    for _ in range(min(int(draw.expovariate(0.5)) + 1, 8)):
        done.append(_mutate(data, draw, files))
    del data[MOST_BYTES:]
    whole = bytes(data)
    declared = draw.choice((None, None, base.declared or None, draw.choice(_NAMES)))
    rate = draw.choice((None, base.rate))
    chunks: list[Any]
    way = draw.random()
    if way < 0.4:
        chunks = [whole]
        done.append("whole")
    elif way < 0.85:
        cuts = sorted({_place(draw, len(whole)) for _ in range(int(2 ** (draw.random() * 5)))})
        kind = draw.choice((bytes, bytes, bytearray, memoryview))
        chunks = [kind(whole[begin:end]) for begin, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
        done.append(f"{len(chunks)} pieces of {kind.__name__}")
    elif way < 0.9:
        chunks = [io.BytesIO(whole)]
        done.append("a file")
    elif way < 0.92:
        chunks = [np.frombuffer(whole, np.uint8)]
        done.append("an array of octets")
    else:
        name, chunks = _texts(whole, draw)
        done.append(name)
    return Mutant(seed, base.kind, whole, chunks, rate, declared, draw.random() < 0.5, "; ".join(done))


# What has to hold.


class Watched(AudioReader):
    """Remembers what went wrong inside it: every place that swallows comes by here with the exception in hand."""

    __slots__ = ("swallowed",)

    def __init__(self, *declared: Any, **options: Any) -> None:
        self.swallowed: str | None = None
        super().__init__(*declared, **options)

    def _notice(self) -> None:
        if self.swallowed is None and sys.exc_info()[1] is not None:
            self.swallowed = traceback.format_exc()

    def lose(self) -> None:
        self._notice()
        super().lose()

    def deafen(self) -> None:
        self._notice()
        super().deafen()

    def _lose_all(self) -> None:
        self._notice()
        super()._lose_all()


_SECONDS_PER_BYTE: Final = {
    "pcm": 1 / 4000,  # one byte a sample
    "au": 2 / 4000,  # with 4-bit samples
    "aiff": 5 / 4000,  # with GSM 6.10, 320 samples in 65 bytes
    "wav": 5 / 4000,
    "mp3": 1.06 / 1000,  # 8 kbit/s, the length of a frame rounded down
    "mp2": 1.06 / 1000,
    "mp1": 1.06 / 1000,
    "aac": 1024 / 7350 / 5,  # a raw block of five bytes
    "flac": 65_535 / 4000 / 11,  # a frame of one constant 8-bit subframe
    "mp4": 4096 / 4000,  # a frame of ALAC, or two of AAC, in a sample of one byte
    # Packets of one byte, and one of lacing; of a long block of Vorbis half counts.
    "vorbis": 4096 / 4000 / 2,
    "opus": 0.12 / 3,  # 120 ms take two bytes
    "webm": 4096 / 4000 / 2,
}
"""The most that a byte of each format can hold, of the densest codec in it at the lowest sample rate."""
_ONE_MORE: Final = 65_536 / 4000
"""Seconds of the longest frame there is."""


def held(reader: AudioReader, shared: set[int]) -> int:
    """Bytes of everything that only the reader holds."""
    seen = set(shared)
    total = 0
    left: list[object] = [reader]
    while left:
        value = left.pop()
        if id(value) in seen or isinstance(value, (type, types.ModuleType, types.FunctionType, types.CodeType)):
            continue
        seen.add(id(value))
        total += sys.getsizeof(value)
        left.extend(gc.get_referents(value))
    return total


def shared_objects() -> set[int]:
    """What the modules hold: tables, constants, caches."""
    left: list[object] = [
        value
        for name, module in list(sys.modules.items())
        if name.startswith("ttstrace.audio")
        for value in vars(module).values()
    ]
    seen: set[int] = set()
    while left:
        value = left.pop()
        if id(value) in seen or isinstance(value, (types.ModuleType, types.FrameType)):
            continue
        if isinstance(value, type) and not value.__module__.startswith("ttstrace.audio"):
            continue
        seen.add(id(value))
        if not isinstance(value, types.FunctionType):
            left.extend(gc.get_referents(value))
    return seen


class Judgement(NamedTuple):
    """What came of a mutant."""

    complaint: str | None
    seconds: float
    held: int
    allocated: int
    """0 where it was not traced."""
    read: bool
    """It has a duration."""


def judge(one: Mutant, shared: set[int], *, traced: bool) -> Judgement:
    """Feed it, and look at everything that has to hold."""
    try:
        reader, known, most_held, allocated = _fed(one, shared, traced)
    except Exception:
        return Judgement(f"raised\n{traceback.format_exc()}", 0.0, 0, 0, False)
    taken = 0.0
    if not traced:
        taken = _timed(one)
        if taken > MOST_SECONDS:
            taken = min(taken, _timed(one), _timed(one))
    duration = reader.duration
    complaint = None
    if reader.swallowed is not None:
        complaint = f"swallowed\n{reader.swallowed}"
    elif taken > MOST_SECONDS:
        complaint = f"took {taken * 1000:.1f} ms"
    elif most_held > MOST_HELD:
        complaint = f"held {most_held} bytes"
    elif allocated > MOST_ALLOCATED:
        complaint = f"allocated {allocated} bytes"
    elif duration is not None:
        complaint = _doubts(one, reader, duration, known)
    return Judgement(complaint, taken, most_held, allocated, duration is not None)


def _feeding(one: Mutant) -> Watched:
    for chunk in one.chunks:
        if isinstance(chunk, io.BytesIO):
            chunk.seek(0)
    return Watched(one.rate, one.declared, onset=one.onset)


def _fed(one: Mutant, shared: set[int], traced: bool) -> tuple[Watched, list[float | None], int, int]:
    reader = _feeding(one)
    known = []
    most = allocated = 0
    # To look after every piece would take longer than to read them.
    looked_at = {0, len(one.chunks) // 2, len(one.chunks) - 1}
    for at, chunk in enumerate(one.chunks):
        if traced:
            tracemalloc.start()
            try:
                known.append(reader.feed(chunk))
                allocated = max(allocated, tracemalloc.get_traced_memory()[1])
            finally:
                tracemalloc.stop()
        else:
            known.append(reader.feed(chunk))
        if at in looked_at:
            most = max(most, held(reader, shared))
    reader.finish()
    return reader, known, most, allocated


def _timed(one: Mutant) -> float:
    reader = _feeding(one)
    began = time.thread_time()
    for chunk in one.chunks:
        reader.feed(chunk)
    reader.finish()
    return time.thread_time() - began


def _doubts(one: Mutant, reader: AudioReader, duration: float, known: list[float | None]) -> str | None:
    """What is wrong with the duration."""
    if not (math.isfinite(duration) and duration >= 0):
        return f"duration {duration}"
    name = (reader.format or "").partition("_")[0]
    most = len(one.data) * _SECONDS_PER_BYTE.get(name, 0.0) + _ONE_MORE
    if duration > most:
        return f"duration {duration:.1f} s of {len(one.data)} bytes of {reader.format}, which hold {most:.1f} s at most"
    if any(seconds is not None and not seconds >= 0 for seconds in known):
        return f"chunks of {known} s"
    total = math.fsum(filter(None, known))
    # Fewer bytes than a format's beginning are told apart at the end only.
    if None not in known and len(one.data) >= 12 and not math.isclose(total, duration, rel_tol=1e-9, abs_tol=1e-6):
        return f"the chunks' seconds are {total:.6f}, the duration {duration:.6f}"
    if total > duration + 1e-6:
        return f"the chunks' known seconds are {total:.6f}, the duration {duration:.6f}"
    return None


# Many of them, on every core.


class Batch(NamedTuple):
    """Figures of some mutants."""

    count: int
    failures: list[tuple[int, str, str]]
    """Seed, what was done, what is wrong."""
    slowest: tuple[float, int]
    """Seconds, and the seed; so with the bytes."""
    held: tuple[int, int]
    allocated: tuple[int, int]
    read: int


_files: list[Base] = []
_shared: set[int] = set()


def _begin(files: list[Base]) -> None:
    global _shared
    _files[:] = files
    for base in files:  # caches fill, modules load
        AudioReader(onset=False).feed(base.data)
    _shared = shared_objects()
    gc.collect()
    gc.freeze()
    gc.disable()


def _batch(seeds: range) -> Batch:
    failures = []
    slowest, most_held, most_allocated = (0.0, 0), (0, 0), (0, 0)
    read = 0
    for seed in seeds:
        one = mutant(seed, _files)
        found = judge(one, _shared, traced=seed % _TRACED == 0)
        slowest = max(slowest, (found.seconds, seed))
        most_held = max(most_held, (found.held, seed))
        most_allocated = max(most_allocated, (found.allocated, seed))
        read += found.read
        if found.complaint is not None:
            failures.append((seed, one.done, found.complaint))
    gc.collect()
    return Batch(len(seeds), failures, slowest, most_held, most_allocated, read)


def _fault(complaint: str) -> str:
    """What failures of one cause have in common: where it was raised, else which bar it broke."""
    lines = complaint.strip().splitlines()
    return "\n".join(lines[-4:]) if len(lines) > 1 else complaint.split()[0]


def _batches(first: int, count: int) -> Iterator[range]:
    for begin in range(first, first + count, _BATCH):
        yield range(begin, min(begin + _BATCH, first + count))


def _number(text: str) -> int:
    return int(text)


def main() -> int:
    """The closing line; 1 where a mutant found a fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=_number, default=100_000, help="mutants (100_000); 1_000_000 take some minutes")
    parser.add_argument("--seed", type=_number, default=1, help="number of the first one (1); the next have the next")
    parser.add_argument("--only", metavar="KIND", action="append", help=f"only files of this kind: {', '.join(KINDS)}")
    parser.add_argument("--json", action="store_true", help="the figures as JSON")
    arguments = parser.parse_args()
    began = time.monotonic()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with multiprocessing.Pool(cores) as pool:
        files = bases(pool)
    if arguments.only:
        files = [base for base in files if base.kind in arguments.only]
    if not files:
        print(
            "no files to mutate: " + ("no such kind" if arguments.only else "no encoder is installed"), file=sys.stderr
        )
        return 2
    digest = hashlib.sha256(b"".join(base.data for base in files)).hexdigest()[:8]
    shown = sys.stderr.isatty()
    parts: list[Batch] = []
    failures: list[tuple[int, str, str]] = []
    if arguments.count == 1:
        one = mutant(arguments.seed, files)
        print(f"seed {one.seed}: {one.done}; rate {one.rate}, format {one.declared}, onset {one.onset}")
        print(f"{len(one.data)} bytes: {one.data[:64].hex(' ')}")
    faults: dict[str, tuple[int, str, str]] = {}
    done = 0
    with multiprocessing.Pool(min(cores, arguments.count), _begin, (files,)) as pool:
        for part in pool.imap_unordered(_batch, _batches(arguments.seed, arguments.count)):
            parts.append(part)
            done += part.count
            failures += part.failures
            if shown:
                rate = done / (time.monotonic() - began)
                print(f"\r\x1b[K{done:,} of {arguments.count:,}, {rate:,.0f}/s", end="", file=sys.stderr, flush=True)
            faults = {_fault(why): (seed, how, why) for seed, how, why in reversed(failures)}
            if len(faults) >= _FAILURES or len(failures) >= _MOST_FAILURES:
                break
    if shown:
        print("\r\x1b[K", end="", file=sys.stderr)
    slowest, most_held = max(part.slowest for part in parts), max(part.held for part in parts)
    allocated, read = max(part.allocated for part in parts), sum(part.read for part in parts)
    worst = list(faults.values())[:_FAILURES]
    figures = {
        "mutants": done,
        "read": read,
        "slowest_ms": round(slowest[0] * 1000, 3),
        "slowest_seed": slowest[1],
        "held": most_held[0],
        "held_seed": most_held[1],
        "allocated": allocated[0],
        "allocated_seed": allocated[1],
        "files": len(files),
        "digest": digest,
        "seconds": round(time.monotonic() - began, 1),
        "failures": [{"seed": seed, "mutant": how, "complaint": why} for seed, how, why in worst],
    }
    if arguments.json:
        print(json.dumps(figures, indent=1))
    else:
        for seed, how, why in worst:
            print(f"FAILED --seed {seed}: {why.strip()}\n    {how}")
        print(
            f"{done:,} mutants of {len(files)} files ({digest}) in {figures['seconds']:.0f} s, {read:,} of them with a "
            f"duration: slowest {figures['slowest_ms']} ms (seed {slowest[1]}), most held {most_held[0]:,} bytes "
            f"(seed {most_held[1]}), most allocated {allocated[0]:,} bytes (seed {allocated[1]}), "
            f"{f'{len(failures)} failed, by {len(faults)} faults' if failures else 'no failures'}"
        )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
