"""FLAC frames counted, whole and split at any byte; encoders' own output is the ground truth."""

from __future__ import annotations

import subprocess
import time

import pytest
from audio_samples import facts, pieces, read, splits
from ffmpeg import decoded, encode, needs, needs_ffmpeg, speechlike
from hypothesis import given, settings
from hypothesis import strategies as st

from ttstrace.audio import AudioReader

RATE = 24_000
SIZE = 4096
LOAD = 64 * 1024


def crc(data: bytes, polynomial: int, bits: int) -> bytes:
    """As the definition has it, bit by bit."""
    value = 0
    for byte in data:
        value ^= byte << bits - 8
        for _ in range(8):
            value = value << 1 ^ (polynomial | 1 << bits if value >> bits - 1 else 0)
    return value.to_bytes(bits // 8, "big")


def number(value: int) -> bytes:
    """As UTF-8 has it, but of up to 36 bits."""
    if value < 0x80:
        return bytes([value])
    length = next(n for n in range(2, 8) if value < 1 << 5 * n + 1)
    more = [0x80 | value >> 6 * at & 0x3F for at in range(length - 1)]
    return bytes([(0xFF00 >> length & 0xFF) | value >> 6 * (length - 1), *reversed(more)])


def frame(
    at: int,
    samples: int = SIZE,
    *,
    varies: bool = False,
    rate: bytes = b"",
    code: int = 0,
    channels: int = 1,
    level: int = 0,
    body: bytes | None = None,
    sound: bool = True,
) -> bytes:
    """One frame of `samples` equal samples of 16 bits, whose number is `at`."""
    head = b"\xff\xf9" if varies else b"\xff\xf8"
    head += bytes([0x70 | code, channels - 1 << 4 | 0x08]) + number(at) + (samples - 1).to_bytes(2, "big") + rate
    head += crc(head, 0x07, 8)
    whole = head + (b"\0" + level.to_bytes(2, "big") if body is None else body) * (channels if body is None else 1)
    return whole + (crc(whole, 0x8005, 16) if sound else b"\x12\x34")


def info(rate: int = RATE, channels: int = 1, total: int = 0, last: bool = True) -> bytes:
    packed = rate << 44 | channels - 1 << 41 | 15 << 36 | total
    block = b"\x00\x10\xff\xff" + bytes(6) + packed.to_bytes(8, "big") + bytes(16)
    return b"fLaC" + bytes([0x80 * last, 0, 0, 34]) + block


def file(count: int = 4, **options: int) -> bytes:
    return info(**options) + b"".join(frame(at) for at in range(count))


def seconds(frames: int, rate: int = RATE) -> float:
    return frames * SIZE / rate


@needs_ffmpeg
@pytest.mark.parametrize("rate", [8000, 16_000, 22_050, 24_000, 44_100, 48_000, 96_000, 12_345])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("piped", [False, True])
def test_as_many_samples_as_were_encoded(rate: int, channels: int, piped: bool) -> None:
    data = encode("-c:a", "flac", suffix="flac", seconds=0.7, rate=rate, channels=channels, piped=piped)
    expected = (round(0.7 * rate) / rate, rate, channels, "flac", len(data), None, False)
    assert facts(read(data)) == expected
    for size in (1, 3, 7, 1000):
        assert facts(read(*pieces(data, size))) == pytest.approx(expected)


@needs_ffmpeg
@pytest.mark.parametrize("duration", [0.001, 0.1, 3.0])
def test_as_ffmpeg_decodes_it(duration: float) -> None:
    data = encode("-c:a", "flac", suffix="flac", seconds=duration, rate=44_100, channels=6)
    found = read(data)
    assert (found.duration, found.sample_rate, found.channels) == pytest.approx(decoded(data, "flac"))


@needs("flac")
@pytest.mark.parametrize(
    "options",
    [
        ["--blocksize=16"],
        ["--blocksize=192"],
        ["--blocksize=1000"],
        ["--blocksize=4608"],
        ["--blocksize=65535", "--lax"],
        ["-0"],
        ["-8"],
        ["--disable-constant-subframes", "--disable-fixed-subframes"],
        ["--padding=70000"],
    ],
)
@pytest.mark.parametrize("bits", [8, 16, 24])
def test_as_flac_encodes_it(options: list[str], bits: int) -> None:
    source = speechlike(30_000, RATE, 2)
    raw = ["--force-raw-format", "--endian=little", "--sign=signed", "--channels=2", f"--bps={bits}"]
    command = ["flac", "--silent", "--stdout", *raw, f"--sample-rate={RATE}", *options, "-"]
    data = subprocess.run(command, input=source, capture_output=True, check=True).stdout
    found = read(data)
    count = len(source) // (2 * bits // 8)
    assert facts(found)[:4] == (pytest.approx(count / RATE), RATE, 2, "flac")
    for size in (997, 16_384, 16_385):
        assert facts(read(*pieces(data, size))) == pytest.approx(facts(found))


@needs_ffmpeg
def test_split_at_every_byte() -> None:
    encoded = encode("-c:a", "flac", "-frame_size", "512", suffix="flac", seconds=0.1, piped=True)
    for data, step in ((file(3), 1), (encoded, 5), (file(2) + file(2, channels=2), 1)):
        whole = facts(read(data))
        assert whole[0] is not None
        for first, second in splits(data, step):
            assert facts(read(first, second)) == pytest.approx(whole)
    assert read(encoded).duration == pytest.approx(0.1)


def test_a_frame_counts_when_its_last_byte_is_there() -> None:
    parts = [info(), *(frame(at, body=bytes(range(200))) for at in range(3))]
    reader = AudioReader()
    assert [reader.feed(part) for part in parts] == [0.0, *[seconds(1)] * 3]
    reader = AudioReader()
    reader.feed(info())
    assert reader.feed(parts[1][:-1]) == 0.0
    assert reader.feed(parts[1][-1:]) == seconds(1)
    assert reader.feed(parts[2] + parts[3][:2]) == seconds(1)
    assert reader.feed(parts[3][2:-2]) == 0.0
    reader.finish()
    assert reader.duration == seconds(2)


def test_what_was_cut_off_does_not_count() -> None:
    head, one = info(), frame(0, body=bytes(range(1, 120)))
    two = frame(1, body=bytes(range(2, 200)))
    data = head + one + two
    for cut in range(len(head), len(data)):
        assert read(data[:cut]).duration == seconds(cut >= len(head + one)), cut
    assert read(data).duration == seconds(2)


@needs_ffmpeg
def test_blocks_that_vary() -> None:
    sizes = [4096, 100, 65_535, 16, 2304, 50_000] * 40
    data, at = info(channels=2), 0
    for size in sizes:
        data += frame(at, size, varies=True, channels=2)
        at += size
    assert read(data).duration == pytest.approx(at / RATE)
    assert decoded(data, "flac")[0] == pytest.approx(at / RATE)
    for size in (1, 7, 100):
        assert read(*pieces(data, size)).duration == pytest.approx(at / RATE)


def test_large_numbers() -> None:
    for begin in (0x7E, 0x7FE, 0xFFFE, 0x1FFFFE, 0x3FFFFFE, 0x7FFFFFFC):
        data = info() + b"".join(frame(begin + at, sound=False) for at in range(4))
        assert read(data).duration == seconds(3)  # of the last one, only the checksum could tell
    begin = 0xFFFFFFFF0
    data = info() + frame(begin - SIZE, varies=True, sound=False) + frame(begin, varies=True)
    assert read(data).duration == seconds(2)


@pytest.mark.parametrize(
    ("code", "extra", "rate"),
    [
        (0, b"", RATE), (4, b"", 8000), (9, b"", 44_100), (12, b"\x20", 32_000), (13, b"\x56\x22", 22_050),
        (14, b"\x3e\x80", 160_000),
    ],
)  # fmt: skip
def test_the_frame_says_the_rate(code: int, extra: bytes, rate: int) -> None:
    data = info() + b"".join(frame(at, code=code, rate=extra) for at in range(3))
    found = read(data)
    assert (found.duration, found.sample_rate) == (pytest.approx(seconds(3, rate)), rate)


def test_totals_that_are_wrong() -> None:
    for total in (0, 1, 0xFFFFFFFFF):
        assert read(file(total=total)).duration == seconds(4)
    assert read(file(rate=0)).duration is None
    assert read(file(rate=0), rate=RATE).duration == seconds(4)


def test_metadata_is_no_audio() -> None:
    blocks = b"\x04\x00\x00\x14" + frame(0)[:12] + bytes(8) + b"\x01\0\0\0" + b"\x86\x01\x00\x00" + bytes(65_536)
    data = info(last=False) + blocks + frame(0) + frame(1)
    assert read(data).duration == seconds(2)
    for size in (1, 5, 1000, 16_384):
        assert read(*pieces(data, size)).duration == seconds(2)
    assert read(info(last=False) + b"\xff\0\0\0" + frame(0)).duration is None
    assert read(b"fLaC\x04\0\0\x22" + info()[8:] + frame(0)).duration is None
    assert read(info(last=False) + b"\x01\0\0\0" * 5000).duration is None


def test_several_in_a_row() -> None:
    data = file(3) + file(2) + info(last=False) + b"\x81\0\0\x04abcd" + frame(0)
    assert read(data).duration == seconds(6)
    assert read(file(3), file(2), file(1)).duration == seconds(6)
    other = file(3) + info(rate=48_000) + b"".join(frame(at) for at in range(3))
    assert read(other).duration == pytest.approx(seconds(3) + seconds(3, 48_000))
    # The first was interrupted.
    assert read(file(3)[:-1] + file(2)).duration == seconds(4)
    # Only the frames, of several files.
    frames = b"".join(frame(at) for at in (0, 1, 2, 0, 1, 7, 8))
    assert read(info() + frames).duration == seconds(7)
    for first, second in splits(info() + frames):
        assert read(first, second).duration == seconds(7)


def test_a_frame_without_its_checksum() -> None:
    broken = info() + frame(0) + frame(1, sound=False) + frame(2)
    assert read(broken).duration == seconds(3)
    assert read(info() + frame(0) + frame(1, sound=False)).duration == seconds(1)
    for wrong in (0x0001, 0x0003, 0x8000, 0x8003, 0xFFFF):
        last = frame(1)
        checksum = int.from_bytes(last[-2:], "big") ^ wrong
        assert read(info() + frame(0) + last[:-2] + checksum.to_bytes(2, "big")).duration == seconds(1)


def test_frames_that_are_missing() -> None:
    noise = bytes(range(1, 250))
    frames = [frame(at, 100, body=noise) for at in range(40)]
    assert read(info() + b"".join(frames[:5] + frames[20:])).duration == pytest.approx(25 * 100 / RATE)
    # Within a frame: what follows is found again.
    found = read(info() + b"".join(frames[:5])[:-40] + b"".join(frames[20:]))
    assert found.duration is not None
    assert 20 * 100 / RATE <= found.duration <= 24 * 100 / RATE


def test_bytes_that_look_like_a_frame() -> None:
    header = frame(1)[:9]
    for false in (header, frame(9)[:9], b"\xff\xf8\xc7\x08\x01\x00", b"\xff\xf9" * 9, b"fLaC\0\0\0\x21"):
        if false == header:
            continue  # that one begins the next frame
        data = info() + frame(0, body=false * 3) + frame(1)
        assert read(data).duration == seconds(2)
        for first, second in splits(data):
            assert read(first, second).duration == seconds(2)


def test_empty() -> None:
    found = read(info(channels=2))
    assert facts(found)[:4] == (0.0, RATE, 2, "flac")
    assert read(info()[:-1]).duration is None
    assert read(b"fLaC").duration is None
    assert read(b"", format="flac", rate=RATE).duration == 0.0


HOSTILE = {
    "zeros": bytes(LOAD),
    "ones": b"\xff" * LOAD,
    "sync": b"\xff\xf8" * (LOAD // 2),
    "beginnings": b"\xff\xf8\xc7\x08\x00" * (LOAD // 5),
    "headers": frame(9)[:9] * (LOAD // 9),
    "magic": info() * (LOAD // 42),
    "some of each": b"".join(frame(at) + b"\xff\xf8\xc7\x08\x00" * 200 for at in range(1, 61)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bytes(name: str) -> None:
    fastest = 1.0
    for _ in range(5):
        reader = AudioReader()
        reader.feed(file(1))
        begin = time.perf_counter()
        reader.feed(HOSTILE[name])
        fastest = min(fastest, time.perf_counter() - begin)
    assert fastest < 0.015  # three times what it may take: this machine does other things
    reader.feed(HOSTILE[name])
    reader.feed(HOSTILE[name])
    held = reader._stream
    reader.finish()
    assert held is not None
    assert sum(len(value) for value in vars(held).values() if isinstance(value, bytes)) < 100
    assert reader.duration in (None, seconds(1))


def test_junk_without_end_is_unknown() -> None:
    assert read(file(2) + bytes(200_000)).duration is None
    assert read(*pieces(file(2) + bytes(200_000), 999)).duration is None


FRAGMENTS = st.one_of(
    st.builds(frame, st.integers(0, 3), st.sampled_from([100, SIZE]), body=st.binary(max_size=60)),
    st.builds(frame, st.integers(0, 3), varies=st.booleans(), channels=st.integers(1, 2)),
    st.just(info()),
    st.just(file(3)),
)


@settings(max_examples=300)
@given(st.lists(FRAGMENTS, max_size=8), st.integers(0, 300), st.integers(1, 500))
def test_any_frames_in_any_split(parts: list[bytes], cut: int, size: int) -> None:
    data = info() + b"".join(parts)
    data = data[: max(len(data) - cut, 0)]
    assert facts(read(*pieces(data, size))) == pytest.approx(facts(read(data)))


@given(st.binary(max_size=300), st.integers(0, 200), st.integers(1, 400))
def test_broken_bytes_never_raise(noise: bytes, at: int, size: int) -> None:
    data = bytearray(file(8))
    data[at : at + len(noise)] = noise
    found = read(*pieces(bytes(data), size))
    assert found.duration is None or found.duration >= 0
