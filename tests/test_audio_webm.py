"""WebM and Matroska by their headers, whole, live, and split at any byte; ffmpeg's output is the ground truth."""

from __future__ import annotations

import struct
import time
from itertools import pairwise

import pytest
from audio_samples import facts, pieces, read, splits
from ffmpeg import decoded, encode, needs_ffmpeg
from hypothesis import given
from hypothesis import strategies as st

from ttstrace.audio import AudioReader
from ttstrace.audio.webm import _laced

RATE = 24_000
UNKNOWN = b"\x01" + b"\xff" * 7
TWENTY = b"\x08"  # the first byte of an Opus packet of 20 ms, and of no more bytes


def element(name: int, *parts: bytes, size: bytes | None = None) -> bytes:
    body = b"".join(parts)
    if size is None:
        size = bytes([0x80 | len(body)]) if len(body) < 127 else struct.pack(">I", 0x10000000 | len(body))
    return name.to_bytes((name.bit_length() + 7) // 8, "big") + size + body


def unsigned(name: int, value: int) -> bytes:
    return element(name, value.to_bytes(max((value.bit_length() + 7) // 8, 1), "big"))


def float64(name: int, value: float) -> bytes:
    return element(name, struct.pack(">d", value))


def track(
    codec: bytes = b"A_OPUS", *more: bytes, number: int = 1, kind: int = 2, rate: float = RATE, channels: int = 1
) -> bytes:
    audio = element(0xE1, float64(0xB5, rate), unsigned(0x9F, channels))
    return element(0xAE, unsigned(0xD7, number), unsigned(0x83, kind), element(0x86, codec), audio, *more)


def header(*tracks: bytes, scale: int | None = None, duration: float | None = None) -> bytes:
    info = b"" if scale is None else unsigned(0x2AD7B1, scale)
    info += b"" if duration is None else float64(0x4489, duration)
    return (
        element(0x1A45DFA3, element(0x4282, b"webm"))
        + element(0x18538067, size=UNKNOWN)
        + element(0xEC, bytes(50))
        + element(0x1549A966, info)
        + element(0x1654AE6B, *tracks)
    )


def cluster(timestamp: int, *blocks: bytes, live: bool = False) -> bytes:
    return element(0x1F43B675, unsigned(0xE7, timestamp), *blocks, size=UNKNOWN if live else None)


def body(frames: bytes, at: int = 0, number: int = 1, lacing: int = 0) -> bytes:
    coded = bytes([0x80 | number]) if number < 128 else struct.pack(">H", 0x4000 | number)
    return coded + struct.pack(">hB", at, 0x80 | lacing) + frames


def simple(frames: bytes = TWENTY, at: int = 0, number: int = 1, lacing: int = 0) -> bytes:
    return element(0xA3, body(frames, at, number, lacing))


def group(*more: bytes, frames: bytes = TWENTY, at: int = 0, lacing: int = 0) -> bytes:
    return element(0xA0, element(0xA1, body(frames, at, lacing=lacing)), *more)


def discard(nanoseconds: int) -> bytes:
    return element(0x75A2, nanoseconds.to_bytes(8, "big", signed=True))


HEADER = header(track())
VORBIS = header(track(b"A_VORBIS"))


def timed(*starts: int, size: int = 9) -> list[bytes]:
    return [simple(bytes(size), start) for start in starts]


@needs_ffmpeg
@pytest.mark.parametrize("rate", [8000, 16000, 24000, 48000])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("seconds", [0.05, 1.0, 2.345])
@pytest.mark.parametrize("piped", [False, True])
def test_opus_is_exact(rate: int, channels: int, seconds: float, piped: bool) -> None:
    data = encode("-c:a", "libopus", suffix="webm", seconds=seconds, rate=rate, channels=channels, piped=piped)
    found = read(data)
    assert facts(found)[1:] == (48000, channels, "webm", len(data), None, False)
    assert found.duration == pytest.approx(seconds, abs=1e-4)
    assert found.duration == decoded(data, "webm")[0]


@needs_ffmpeg
@pytest.mark.parametrize("milliseconds", ["2.5", "5", "10", "40", "60", "120"])
def test_opus_frames_of_every_length(milliseconds: str) -> None:
    data = encode("-c:a", "libopus", "-frame_duration", milliseconds, suffix="webm", seconds=1.3)
    assert read(data).duration == pytest.approx(1.3, abs=1e-4)


CODECS = {
    "vorbis": (["-c:a", "libvorbis"], "webm", 1024),
    "aac": (["-c:a", "aac"], "mka", 1024),
    "flac": (["-c:a", "flac"], "mka", 4608),
    "mp3": (["-c:a", "libmp3lame"], "mka", 576),
}


@needs_ffmpeg
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("rate", [16000, 24000, 44100])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("piped", [False, True])
@pytest.mark.parametrize("seconds", [0.4, 2.345])
def test_timestamps(codec: str, rate: int, channels: int, piped: bool, seconds: float) -> None:
    options, suffix, frame = CODECS[codec]
    if piped and suffix == "mka":
        data = encode(*options, suffix="matroska", rate=rate, channels=channels, seconds=seconds, piped=True)
    else:
        data = encode(*options, suffix=suffix, rate=rate, channels=channels, seconds=seconds, piped=piped)
    found = read(*pieces(data, 1000))
    assert facts(found)[1:] == (rate, channels, "webm", len(data), None, False)
    longer = 1152 if codec == "mp3" and rate > 24000 else frame
    assert found.duration == pytest.approx(decoded(data, suffix)[0], abs=longer / rate)


@needs_ffmpeg
@pytest.mark.parametrize("codec", ["pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_f32le", "pcm_f64le", "pcm_u8"])
@pytest.mark.parametrize("rate", [22050, 48000])
@pytest.mark.parametrize("piped", [False, True])
def test_pcm_is_exact(codec: str, rate: int, piped: bool) -> None:
    suffix = "matroska" if piped else "mka"
    data = encode("-c:a", codec, suffix=suffix, seconds=1.2345, rate=rate, channels=2, piped=piped)
    found = read(*pieces(data, 1000))
    assert facts(found)[:4] == (round(1.2345 * rate) / rate, rate, 2, "webm")


@needs_ffmpeg
@pytest.mark.parametrize(
    ("options", "suffix"),
    [(["-c:a", "libopus"], "webm"), (["-c:a", "libvorbis", "-q:a", "0"], "webm"), (["-c:a", "aac"], "mka")],
)
@pytest.mark.parametrize("piped", [False, True])
def test_split_at_every_byte(options: list[str], suffix: str, piped: bool) -> None:
    if piped and suffix == "mka":
        suffix = "matroska"
    data = encode(*options, suffix=suffix, seconds=0.3, piped=piped)
    whole = facts(read(data))
    assert whole[0] is not None
    for first, second in splits(data):
        assert facts(read(first, second)) == whole
    for size in (1, 3, 7, 1000):
        assert facts(read(*pieces(data, size))) == whole


@needs_ffmpeg
def test_a_live_stream_as_it_comes() -> None:
    data = encode("-c:a", "libopus", "-live", "1", suffix="webm", seconds=2.0, piped=True)
    reader = AudioReader()
    seconds = [reader.feed(piece) for piece in pieces(data, 100)]
    reader.finish()
    assert None not in seconds
    assert sum(filter(None, seconds)) == pytest.approx(reader.duration)
    steps = {round(value * 50, 6) for value in seconds if value}
    assert max(steps) <= 2


@needs_ffmpeg
def test_cut_off_is_what_came() -> None:
    data = encode("-c:a", "libopus", suffix="webm", seconds=2.0)
    begin = data.index(b"\x1f\x43\xb6\x75")
    found = read(data[: begin + (len(data) - begin) // 2])
    assert found.duration == pytest.approx(1.0, abs=0.1)
    # What was cut off is not told by the Duration in the header.
    for codec, suffix in (("libvorbis", "webm"), ("aac", "mka"), ("flac", "mka")):
        data = encode("-c:a", codec, suffix=suffix, seconds=2.0)
        begin = data.index(b"\x1f\x43\xb6\x75")
        part = data[: begin + (len(data) - begin) // 2]
        assert read(part).duration == pytest.approx(decoded(part, suffix)[0], abs=4608 / RATE)
        assert read(part).duration == pytest.approx(1.0, abs=0.2)
        assert read(data[:begin]).duration == 0.0
        assert read(data[: begin // 2]).duration is None


def test_a_block_counts_when_its_last_byte_is_there() -> None:
    reader = AudioReader()
    long = simple(TWENTY + bytes(300))
    assert reader.feed(HEADER) == 0.0
    assert (reader.sample_rate, reader.channels) == (48000, 1)
    assert reader.feed(cluster(0, live=True) + long[:-1]) == 0.0
    assert reader.feed(long[-1:] + long[:5]) == 0.02
    assert reader.feed(long[5:-1]) == 0.0
    assert reader.feed(long[-1:] + simple()[:-1]) == 0.02
    # The rest of a group may say that less of its block is heard.
    part = group(discard(5_000_000))
    assert reader.feed(simple()[-1:] + part[:8]) == 0.02
    assert [reader.feed(piece) for piece in (part[8:-4], part[-4:-1], part[-1:])] == [None, 0.0, None]
    reader.finish()
    assert reader.duration == pytest.approx(0.075)


def test_timestamps_tell_the_block_before() -> None:
    reader = AudioReader()
    assert reader.feed(VORBIS + cluster(0, live=True)) == 0.0
    seconds = [reader.feed(block) for block in timed(0, 20, 45)]
    assert seconds == [None, None, None]
    assert reader.duration == 0.045
    assert reader.feed(element(0xEC, bytes(9))) == 0.0
    reader.finish()
    assert reader.duration == 0.07


def test_the_delay_of_the_encoder() -> None:
    blocks = cluster(0, *[simple()] * 10)
    delay = unsigned(0x56AA, 6_500_000)
    assert read(header(track(b"A_OPUS", delay)) + blocks).duration == pytest.approx(0.2 - 312 / 48000)
    head = element(0x63A2, b"OpusHead\x01\x01" + struct.pack("<HIhB", 2880, RATE, 0, 0))
    assert read(header(track(b"A_OPUS", delay, head)) + blocks).duration == pytest.approx(0.2 - 2880 / 48000)
    short = element(0x63A2, b"OpusHead\x01\x01")
    assert read(header(track(b"A_OPUS", short, delay)) + blocks).duration == pytest.approx(0.2 - 312 / 48000)
    assert read(header(track(b"A_OPUS", unsigned(0x56AA, 2**60))) + blocks).duration == 0.0
    aac = header(track(b"A_AAC", unsigned(0x56AA, 50_000_000)))
    assert read(aac + cluster(0, *timed(0, 20, 40, 60, 80))).duration == pytest.approx(0.05)


@pytest.mark.parametrize("live", [False, True])
def test_clusters(live: bool) -> None:
    parts = [cluster(at, *[simple()] * 5, live=live) for at in range(0, 1000, 100)]
    assert read(*pieces(HEADER + b"".join(parts), 99)).duration == pytest.approx(1.0)
    parts = [cluster(at, *timed(0, 50), live=live) for at in range(0, 1000, 100)]
    assert read(*pieces(VORBIS + b"".join(parts), 99)).duration == pytest.approx(1.0)
    # A stream that was joined late.
    assert read(VORBIS + b"".join(parts[3:])).duration == pytest.approx(0.7)


def xiph(*frames: bytes) -> bytes:
    sizes = b"".join(b"\xff" * (len(frame) // 255) + bytes([len(frame) % 255]) for frame in frames[:-1])
    return bytes([len(frames) - 1]) + sizes + b"".join(frames)


def ebml(*frames: bytes) -> bytes:
    sizes = struct.pack(">H", 0x4000 | len(frames[0]))
    for before, frame in pairwise(frames[:-1]):
        sizes += struct.pack(">H", 0x4000 | len(frame) - len(before) + 0x1FFF)
    return bytes([len(frames) - 1]) + sizes + b"".join(frames)


FRAMES = [TWENTY + bytes(299), b"\x00" + bytes(600), TWENTY, b"\x18" * 2]  # 20, 10, 20 and 60 ms
LACED = [
    (2, xiph(*FRAMES), 0.11),
    (2, xiph(TWENTY), 0.02),
    (6, ebml(*FRAMES), 0.11),
    (6, ebml(*reversed(FRAMES)), 0.11),
    (4, b"\x02" + (TWENTY + bytes(99)) * 3, 0.06),
]


@pytest.mark.parametrize(("lacing", "frames", "seconds"), LACED)
def test_lacing(lacing: int, frames: bytes, seconds: float) -> None:
    for block in (simple(frames, lacing=lacing), group(frames=frames, lacing=lacing)):
        file = HEADER + cluster(0, block, simple(), block)
        for size in (1, 100, len(file)):
            assert read(*pieces(file, size)).duration == pytest.approx(2 * seconds + 0.02)
    pcm = header(track(b"A_PCM/INT/LIT", unsigned(0x6264, 8)))
    samples = sum(size for _, size in _laced(frames, lacing))
    assert read(pcm + cluster(0, simple(frames, lacing=lacing))).duration == samples / RATE


def test_lacing_where_only_the_number_of_frames_matters() -> None:
    blocks = [simple(b"\x03" + bytes(40), at, lacing=4) for at in (0, 80, 160)]
    assert read(VORBIS + cluster(0, *blocks)).duration == pytest.approx(0.24)
    blocks.append(simple(bytes(9), 240))
    assert read(VORBIS + cluster(0, *blocks)).duration == pytest.approx(0.26)
    default = header(track(b"A_AAC", unsigned(0x23E383, 20_000_000)))
    assert read(default + cluster(0, *blocks)).duration == pytest.approx(0.26)


@pytest.mark.parametrize(
    ("lacing", "frames"),
    [
        (4, b"\x02" + TWENTY * 4),
        (4, b"\x02"),
        (2, b"\x01\x09" + TWENTY * 9),
        (2, b"\x01\xff"),
        (2, b"\x05"),
        (6, b"\x02\x81\x80" + TWENTY * 9),
        (6, b"\x02\x82"),
        (6, b"\x02\x40"),
        (6, b"\x01\x00" + TWENTY * 9),
        (6, b"\x01\x89" + TWENTY * 9),
        (4, b"\x00" + TWENTY * 16_384),
    ],
)
def test_broken_lacing(lacing: int, frames: bytes) -> None:
    pcm = header(track(b"A_PCM/INT/LIT", unsigned(0x6264, 8)))
    for file in (HEADER, pcm):
        assert read(file + cluster(0, simple(frames, lacing=lacing))).duration is None


def test_what_is_no_opus() -> None:
    assert read(HEADER + cluster(0, simple(), simple(b"\x0b"))).duration is None
    assert read(HEADER + cluster(0, simple(), simple(b"\x0b\x00abc"))).duration is None
    assert read(HEADER + cluster(0, simple(), simple(b"\x0b\x02abc"))).duration == pytest.approx(0.06)
    # Without frames there is nothing to count.
    assert read(HEADER + cluster(0, simple(), simple(b""))).duration == 0.02


def test_discarded() -> None:
    assert read(HEADER + cluster(0, simple(), group(discard(13_500_000)))).duration == pytest.approx(0.0265)
    assert read(HEADER + cluster(0, simple(), group(discard(-13_500_000)))).duration == pytest.approx(0.0265)
    assert read(HEADER + cluster(0, simple(), group(discard(2**62)), simple())).duration == 0.04
    # Before the block, as well as after it; and not of what comes later.
    early = element(0xA0, discard(5_000_000), element(0xA1, body(TWENTY)))
    assert read(HEADER + cluster(0, early, simple(), simple())).duration == pytest.approx(0.055)
    last = group(discard(5_000_000), frames=bytes(9), at=40)
    assert read(VORBIS + cluster(0, *timed(0, 20), last)).duration == pytest.approx(0.055)
    middle = group(discard(5_000_000), frames=bytes(9), at=20)
    assert read(VORBIS + cluster(0, *timed(0), middle, *timed(40))).duration == pytest.approx(0.055)


def test_what_is_discarded_is_so_once() -> None:
    parts = [group(unsigned(0x9B, 20), discard(5_000_000), frames=bytes(9)), group(frames=bytes(9), at=20), *timed(40)]
    assert read(VORBIS + cluster(0, *parts)).duration == pytest.approx(0.055)
    # A Duration leaves it out, or does not: the block before knows better.
    last = group(discard(5_000_000), frames=bytes(9), at=40)
    file = header(track(b"A_VORBIS"), duration=58.0) + cluster(0, *timed(0, 20), last)
    assert read(file).duration == pytest.approx(0.055)


def test_a_block_of_unknown_size() -> None:
    for size in (b"\xff", b"\x7f\xff"):
        junk = b"\xa3" + size + body(TWENTY) + bytes(20_000)
        assert read(HEADER + cluster(0, simple(), live=True) + junk).duration is None


def test_a_group_cut_off_after_its_block() -> None:
    part = group(discard(5_000_000))
    for length in range(9, len(part)):
        assert read(HEADER + cluster(0, simple(), live=True) + part[:length]).duration == 0.04
    assert read(HEADER + cluster(0, simple(), live=True) + part[:8]).duration == 0.02


@pytest.mark.parametrize(
    ("more", "duration", "seconds"),
    [
        (b"", None, 0.07),  # as long as the block before
        (b"", 68.0, 0.068),
        (b"", 71.0, 0.071),
        (b"", 75.0, 0.07),  # what the header promises did not come
        (b"", 45.0, 0.07),
        (b"", float("inf"), 0.07),
        (b"", float("nan"), 0.07),
        (unsigned(0x9B, 15), None, 0.06),
        (unsigned(0x9B, 15), 68.0, 0.06),
    ],
)
def test_the_last_block(more: bytes, duration: float | None, seconds: float) -> None:
    last = group(more, frames=bytes(9), at=45)
    file = header(track(b"A_VORBIS"), duration=duration) + cluster(0, *timed(0, 20), last)
    assert read(file).duration == pytest.approx(seconds)
    assert read(*pieces(file, 1)).duration == pytest.approx(seconds)


def test_blocks_of_known_length() -> None:
    default = header(track(b"A_AAC", unsigned(0x23E383, 42_666_667)))
    # Timestamps are coarse, and their rounding does not add up.
    starts = [round(1000 * at * 1024 / RATE) for at in range(700)]
    blocks = timed(*starts)
    assert read(default + cluster(0, *blocks)).duration == pytest.approx(700 * 1024 / RATE, abs=0.001)
    reader = AudioReader()
    seconds = [reader.feed(piece) for piece in (default + cluster(0, live=True), *blocks)]
    assert None not in seconds
    reader.finish()
    assert sum(filter(None, seconds)) == pytest.approx(reader.duration)
    grouped = [group(unsigned(0x9B, 43), frames=bytes(40), at=start) for start in starts]
    assert read(VORBIS + cluster(0, *grouped)).duration == pytest.approx(700 * 1024 / RATE, abs=0.001)


def test_one_block() -> None:
    assert read(VORBIS + cluster(0, *timed(0))).duration is None
    known = header(track(b"A_VORBIS"), duration=21.0)
    assert read(known + cluster(0, *timed(0))).duration == pytest.approx(0.021)
    assert read(header(track(b"A_VORBIS"), duration=9e9) + cluster(0, *timed(0))).duration is None


def test_another_timestamp_scale() -> None:
    fine = header(track(b"A_VORBIS"), scale=100_000, duration=600.0)
    assert read(fine + cluster(0, *timed(0, 200, 400))).duration == pytest.approx(0.06)


@pytest.mark.parametrize("starts", [(0, 20, 10), (0, 20, 30_000), (0, -5)])
def test_timestamps_that_make_no_sense(starts: tuple[int, ...]) -> None:
    assert read(VORBIS + cluster(50, *timed(*starts))).duration is None


def test_timestamps_that_the_bytes_cannot_hold() -> None:
    parts = [cluster(at, *timed(0)) for at in (0, 2**60)]
    assert read(VORBIS + b"".join(parts)).duration is None
    assert read(VORBIS + cluster(0, group(unsigned(0x9B, 2**60), frames=bytes(9)))).duration is None
    assert read(header(track(b"A_AAC", unsigned(0x23E383, 2**60))) + cluster(0, *timed(0, 20))).duration is None
    assert read(VORBIS + cluster(0, simple(b"\xff" + bytes(40), lacing=4), *timed(20))).duration is None


def test_tracks() -> None:
    video = track(b"V_VP9", number=1, kind=1)
    second = track(b"A_VORBIS", number=3)
    file = header(video, track(number=2), second)
    blocks = [simple(bytes(900), number=1), simple(number=2), simple(bytes(5), number=3)] * 5
    assert facts(read(file + cluster(0, *blocks)))[:3] == (pytest.approx(0.1), 48000, 1)
    assert read(header(video) + cluster(0, *blocks)).duration is None
    assert read(header() + cluster(0, simple())).duration is None
    many = header(track(number=200))
    assert read(many + cluster(0, *[simple(number=200)] * 5)).duration == pytest.approx(0.1)
    zero = header(track(number=128))
    assert read(zero + cluster(0, element(0xA3, b"\x80\0\0\x80" + TWENTY) * 3)).duration == 0.0


def test_what_a_track_says() -> None:
    def said(*more: bytes, codec: bytes = b"A_VORBIS", rate: float = RATE, channels: int = 1) -> tuple[object, ...]:
        file = header(track(codec, *more, rate=rate, channels=channels))
        return facts(read(file + cluster(0, *timed(0, 20, 40))))[:3]

    assert said() == (0.06, RATE, 1)
    assert said(rate=22_050, channels=6) == (0.06, 22_050, 6)
    assert said(float64(0x78B5, 48_000.0)) == (0.06, 48_000, 1)
    assert said(rate=1e300) == said(rate=float("nan"), codec=b"A_PCM/INT/LIT") == (None, None, None)
    assert said(channels=1 << 20)[2] is None
    assert said(codec=b"A_PCM/INT/LIT") == (None, None, None)  # samples of unknown size
    assert said(unsigned(0x6264, 24), codec=b"A_PCM/INT/LIT") == (9 / RATE, RATE, 1)
    assert said(codec=b"A_VORBIS\0\0")[0] == 0.06
    # Frames whose beginning may be left out are not looked into.
    assert said(element(0x6D80, bytes(9)), codec=b"A_OPUS") == (0.06, 48_000, 1)
    plain = element(0xAE, unsigned(0xD7, 1), unsigned(0x83, 2), element(0x86, b"A_VORBIS"))
    assert facts(read(header(plain) + cluster(0, *timed(0, 20))))[:3] == (0.04, 8000, 1)


def test_several_in_a_row() -> None:
    live = HEADER + cluster(0, *[simple()] * 5, live=True)
    vorbis = header(track(b"A_VORBIS"), duration=65.0) + cluster(0, *timed(0, 20, 40))
    pcm = header(track(b"A_PCM/INT/LIT", unsigned(0x6264, 16), rate=16000)) + cluster(0, simple(bytes(3200)))
    file = live + vorbis + pcm + vorbis + live
    seconds = 0.1 + 0.06 + 0.1 + 0.06 + 0.1
    for size in (1, 33, len(file)):
        assert read(*pieces(file, size)).duration == pytest.approx(seconds)
    assert read(vorbis + HEADER[:40]).duration is None


@pytest.mark.parametrize(
    "junk",
    [
        b"\0",
        b"\x0f\x80",
        element(0xEC, size=b"\xff"),
        element(0xAE, size=UNKNOWN),
        b"\xec\x00",
        element(0xA3, b"\0" * 9),
    ],
)
def test_what_is_no_matroska(junk: bytes) -> None:
    assert read(HEADER + cluster(0, simple()) + junk + bytes(9)).duration is None


def test_elements_that_say_nothing() -> None:
    odd = [
        element(0xEC),
        element(0xE7),
        element(0xA0),
        element(0xA3, b"\x81\0"),
        element(0xA3),
        element(0x9B, bytes(9)),
    ]
    odd += [element(0x4489, bytes(3)), element(0x86, bytes(90)), element(0xA3, b"\x40\x01\0")]
    assert read(HEADER + cluster(0, simple(), *odd, simple())).duration == 0.04


@pytest.mark.parametrize(
    "data",
    [
        HEADER + b"\xec\x80" * 60_000,
        HEADER + b"\xe7\x81\0" * 60_000,
        HEADER + b"\xa0\x80" * 60_000,
        HEADER + cluster(0, live=True) + simple() * 60_000,
        VORBIS + cluster(0, live=True) + simple() * 60_000,
        HEADER + b"\x1f\x43\xb6\x75\x80" * 60_000,
        HEADER + cluster(0, simple(b"\xfe" + b"\xff" * 16_000, lacing=2), live=True) * 20,
    ],
)
def test_elements_that_make_no_sense(data: bytes) -> None:
    begin = time.thread_time()
    found = read(data)
    assert time.thread_time() - begin < 0.05
    assert found.duration is None


def test_little_is_held() -> None:
    for block in (simple(TWENTY * 16_000), simple(b"\x00" + TWENTY * 16_000, lacing=4), simple(bytes(100_000))):
        reader = AudioReader()
        for piece in pieces(HEADER + cluster(0, block, block, live=True), 1000):
            reader.feed(piece)
            held = reader._stream
            assert held is None or sum(len(value) for value in vars(held).values() if isinstance(value, bytes)) < 32_768


PARTS = [
    HEADER,
    VORBIS,
    header(track(b"A_AAC", unsigned(0x23E383, 20_000_000)), duration=60.0),
    cluster(0, *timed(0, 20, 40)),
    cluster(100, live=True),
    simple(TWENTY + bytes(150)),
    simple(at=30),
    simple(ebml(*FRAMES), at=50, lacing=6),
    group(discard(7_000_000), at=70),
    group(unsigned(0x9B, 20), frames=bytes(30), at=90)[:-3],
]


@given(st.lists(st.one_of(st.binary(max_size=20), st.sampled_from(PARTS)), max_size=12), st.integers(1, 500))
def test_any_bytes_in_any_split(parts: list[bytes], size: int) -> None:
    file = HEADER + b"".join(parts)
    assert facts(read(*pieces(file, size))) == facts(read(file))


@given(st.binary(min_size=1, max_size=12), st.integers(0, 400), st.integers(1, 300), st.booleans())
def test_broken_headers_never_raise(noise: bytes, at: int, size: int, opus: bool) -> None:
    file = bytearray((HEADER if opus else VORBIS) + cluster(0, *timed(0, 20, 40), group(at=60), *timed(80)))
    file[at : at + len(noise)] = noise
    found = read(*pieces(bytes(file), size))
    assert facts(found) == facts(read(bytes(file)))
    assert found.duration is None or found.duration < 60
