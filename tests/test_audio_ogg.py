"""Ogg pages counted, whole and split at any byte; encoders' own output is the ground truth."""

from __future__ import annotations

import struct
import subprocess
import time

import pytest
from audio_samples import facts, pieces, read, splits
from ffmpeg import decoded, encode, needs, needs_ffmpeg, speechlike
from hypothesis import given, settings
from hypothesis import strategies as st

from ttstrace.audio import AudioReader

LOAD = 64 * 1024
SKIP = 312


def page(*packets: bytes, granule: int = -1, flags: int = 0, serial: int = 1, goes_on: bool = False) -> bytes:
    """A page with these packets; `goes_on` leaves the last one, of a multiple of 255 bytes, open."""
    table = b"".join(b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255]) for packet in packets)
    table = table[:-1] if goes_on else table
    return b"OggS\0" + struct.pack("<BqIIIB", flags, granule, serial, 0, 0, len(table)) + table + b"".join(packets)


def opus_head(channels: int = 1, skip: int = 0, serial: int = 1) -> bytes:
    head = b"OpusHead\x01" + struct.pack("<BHIhB", channels, skip, 24_000, 0, 0)
    return page(head, granule=0, flags=2, serial=serial)


def opus(channels: int = 1, skip: int = 0, serial: int = 1) -> bytes:
    """The headers of a stream."""
    return opus_head(channels, skip, serial) + page(b"OpusTags" + bytes(8), granule=0, serial=serial)


PACKET = b"\x08" + bytes(40)  # 20 ms: 960 samples
LONG = b"\x18" + bytes(508)  # 60 ms


def second(begin: int = 0, *, flags: int = 0, trim: int = 0, serial: int = 1) -> bytes:
    """A page with a second of Opus."""
    return page(*[PACKET] * 50, granule=begin + 48_000 - trim, flags=flags, serial=serial)


def vorbis(rate: int = 24_000, channels: int = 2, serial: int = 1) -> bytes:
    head = b"\x01vorbis" + struct.pack("<IBIIIIBB", 0, channels, rate, 0, 0, 0, 0xB8, 1)
    more = page(b"\x03vorbis" + bytes(9), b"\x05vorbis" + bytes(99), granule=0, serial=serial)
    return page(head, granule=0, flags=2, serial=serial) + more


def ogg_flac(rate: int = 24_000, channels: int = 1) -> bytes:
    info = b"\x10\0\x10\0" + bytes(6) + (rate << 44 | channels - 1 << 41 | 15 << 36).to_bytes(8, "big") + bytes(16)
    head = b"\x7fFLAC\x01\0\0\x01fLaC\0\0\0\x22" + info
    return page(head, granule=0, flags=2) + page(b"\x84\0\0\x04abcd", granule=0)


def check_against_ffmpeg(data: bytes, format: str, seconds: float, rate: int, channels: int, error: float) -> None:
    found = read(data)
    truth = decoded(data, "ogg")
    assert facts(found)[1:] == (rate, channels, format, len(data), None, False)
    assert truth[1:] == (rate, channels)
    assert found.duration == pytest.approx(seconds, abs=error)
    assert found.duration == pytest.approx(truth[0], abs=error)
    for size in (1, 3, 7, 1000):
        assert facts(read(*pieces(data, size))) == pytest.approx(facts(found))


@needs_ffmpeg
@pytest.mark.parametrize("milliseconds", ["2.5", "5", "10", "20", "40", "60", "100", "120"])
@pytest.mark.parametrize(("bits", "rate", "channels"), [("8k", 16_000, 1), ("32k", 24_000, 1), ("160k", 48_000, 2)])
@pytest.mark.parametrize(("suffix", "piped"), [("ogg", False), ("opus", True), ("oga", True)])
def test_opus(milliseconds: str, bits: str, rate: int, channels: int, suffix: str, piped: bool) -> None:
    data = encode(
        "-c:a", "libopus", "-frame_duration", milliseconds, "-b:a", bits,
        suffix=suffix, seconds=1.234, rate=rate, channels=channels, piped=piped,
    )  # fmt: skip
    check_against_ffmpeg(data, "opus", 1.234, 48_000, channels, 0.0001)


@needs_ffmpeg
@pytest.mark.parametrize("seconds", [0.001, 0.02, 3.3])
@pytest.mark.parametrize("page", ["1", "100000", "5000000"])
def test_opus_in_pages_of_every_length(seconds: float, page: str) -> None:
    data = encode("-c:a", "libopus", "-page_duration", page, suffix="ogg", seconds=seconds, piped=True)
    check_against_ffmpeg(data, "opus", seconds, 48_000, 1, 0.0001)


@needs_ffmpeg
@needs("opusenc")
@pytest.mark.parametrize("size", ["2.5", "20", "60"])
@pytest.mark.parametrize("more", [[], ["--hard-cbr"], ["--max-delay", "0"], ["--bitrate", "300"]])
def test_as_opusenc_encodes_it(size: str, more: list[str]) -> None:
    source = speechlike(30_000, 24_000, 1)
    command = ["opusenc", "--quiet", "--raw", "--raw-rate", "24000", "--raw-chan", "1", "--framesize", size, *more]
    data = subprocess.run([*command, "-", "-"], input=source, capture_output=True, check=True).stdout
    check_against_ffmpeg(data, "opus", 1.25, 48_000, 1, 0.0001)


@needs_ffmpeg
@pytest.mark.parametrize("rate", [8000, 24_000, 44_100])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("seconds", [0.01, 0.3, 3.3])
def test_vorbis(rate: int, channels: int, seconds: float) -> None:
    data = encode("-c:a", "libvorbis", suffix="ogg", seconds=seconds, rate=rate, channels=channels, piped=True)
    assert read(data).duration == pytest.approx(seconds)
    # It decodes the last block to its end where there is but one page.
    check_against_ffmpeg(data, "vorbis", seconds, rate, channels, 1024 / rate)


@needs("oggenc")
@pytest.mark.parametrize("quality", ["-1", "3", "10"])
def test_as_oggenc_encodes_it(quality: str) -> None:
    source = speechlike(60_000, 24_000, 1)
    command = ["oggenc", "--quiet", "--raw", "--raw-rate", "24000", "--raw-chan", "1", "-q", quality, "-o", "-", "-"]
    data = subprocess.run(command, input=source, capture_output=True, check=True).stdout
    assert facts(read(data))[:4] == (2.5, 24_000, 1, "vorbis")


@needs_ffmpeg
@pytest.mark.parametrize("rate", [8000, 24_000, 96_000])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("seconds", [0.01, 1.234])
def test_flac(rate: int, channels: int, seconds: float) -> None:
    data = encode("-c:a", "flac", suffix="ogg", seconds=seconds, rate=rate, channels=channels, piped=True)
    check_against_ffmpeg(data, "flac", seconds, rate, channels, 0.0001)


@needs("flac")
def test_as_flac_encodes_it() -> None:
    source = speechlike(60_000, 24_000, 1)
    raw = ["--force-raw-format", "--endian=little", "--sign=signed", "--channels=1", "--bps=16", "--sample-rate=24000"]
    command = ["flac", "--silent", "--stdout", "--ogg", *raw, "-"]
    data = subprocess.run(command, input=source, capture_output=True, check=True).stdout
    assert facts(read(data))[:4] == (2.5, 24_000, 1, "flac")


@needs_ffmpeg
@pytest.mark.parametrize("rate", [8000, 16_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_speex(rate: int, channels: int) -> None:
    data = encode("-c:a", "libspeex", suffix="ogg", seconds=1.5, rate=rate, channels=channels, piped=True)
    check_against_ffmpeg(data, "speex", 1.5, rate, channels, 0.02)


@needs_ffmpeg
def test_streams_in_a_row() -> None:
    parts = [
        encode("-c:a", "libopus", suffix="ogg", seconds=seconds, channels=channels)
        for seconds, channels in ((1.1, 1), (0.2, 1), (0.4, 2))
    ]
    assert read(b"".join(parts)).duration == pytest.approx(1.7, abs=0.0001)
    assert read(*parts).duration == pytest.approx(1.7, abs=0.0001)
    assert read(parts[0], parts[0], parts[0]).duration == pytest.approx(3.3, abs=0.0001)
    other = encode("-c:a", "libvorbis", suffix="ogg", seconds=0.5, rate=22_050)
    assert read(parts[1] + other + parts[1]).duration == pytest.approx(0.9, abs=0.0001)


@needs_ffmpeg
def test_what_was_cut_off_does_not_count() -> None:
    data = encode("-c:a", "libopus", "-page_duration", "100000", suffix="ogg", seconds=1.0)
    found = read(data[: len(data) // 2])
    assert found.duration == pytest.approx(decoded(data[: len(data) // 2], "ogg")[0], abs=0.1)


@pytest.mark.parametrize(
    "data",
    [
        opus(skip=SKIP) + second() + page(LONG[:255], goes_on=True) + page(LONG[255:], PACKET, granule=51_840, flags=5),
        opus() + page(b"\x0b\x03" + bytes(9), b"\x0b", b"", b"\xff\x30", b"\xfe", granule=9000) + b"junk" + second(),
        vorbis() + page(bytes(9), bytes(600), granule=900) + vorbis() + page(bytes(9), granule=400, flags=4),
        b"".join([page(b"fishead\0", flags=2, serial=3), opus(), page(b"x", serial=3), second(), page(b"x", serial=3)]),
        ogg_flac() + page(bytes(9), bytes(600), granule=8192) + page(bytes(9), granule=9000, flags=4),
    ],
)
def test_split_at_every_byte(data: bytes) -> None:
    whole = facts(read(data))
    assert whole[0]
    for first, second_part in splits(data):
        assert facts(read(first, second_part)) == pytest.approx(whole)
    for size in (1, 2, 3, 5, 27, 28, 300):
        assert facts(read(*pieces(data, size))) == pytest.approx(whole)


def test_a_page_counts_when_its_last_byte_is_there() -> None:
    reader = AudioReader()
    assert reader.feed(opus()) == 0.0
    assert (reader.sample_rate, reader.channels, reader.format) == (48_000, 1, "opus")
    one = second()
    assert reader.feed(one[:-1]) == 0.0
    assert reader.feed(one[-1:]) == 1.0
    assert reader.feed(second(48_000) + second(96_000)) == 2.0


def frames_of(config: int, code: int, count: int | None = None) -> bytes:
    return bytes([config << 3 | code]) + (b"" if count is None else bytes([count])) + bytes(9)


@pytest.mark.parametrize(
    ("packet", "milliseconds"),
    [
        *((frames_of(config, 0), (10, 20, 40, 60)[config % 4]) for config in range(12)),
        *((frames_of(config, 0), (10, 20)[config % 2]) for config in range(12, 16)),
        *((frames_of(config, 0), (2.5, 5, 10, 20)[config % 4]) for config in range(16, 32)),
        (frames_of(1, 1), 40), (frames_of(1, 2), 40), (frames_of(3, 1), 120),
        (frames_of(1, 3, 3), 60), (frames_of(1, 3, 0xC0 | 6), 120), (frames_of(16, 3, 48), 120),
        # No packets: more than 120 ms, no frame, or no byte that says how many.
        (frames_of(1, 3, 7), 0), (frames_of(1, 3, 0), 0), (b"\x03", 0), (b"", 0),
    ],
)  # fmt: skip
def test_opus_packets_say_how_long_they_are(packet: bytes, milliseconds: float) -> None:
    data = opus() + page(packet, PACKET, granule=10**6)
    for size in (1, len(data)):
        assert read(*pieces(data, size)).duration == pytest.approx((milliseconds + 20) / 1000)


def test_pre_skip_and_end_trim() -> None:
    assert read(opus(skip=SKIP) + second() + second(48_000)).duration == pytest.approx(2 - SKIP / 48_000)
    assert read(opus(skip=SKIP) + second(trim=700, flags=4)).duration == pytest.approx(1 - (700 + SKIP) / 48_000)
    # More than the first page has, and more than there is.
    small = b"".join(page(PACKET, granule=960 * (at + 1)) for at in range(6))
    assert read(opus(skip=3840) + small).duration == pytest.approx(0.04)
    assert read(opus(skip=60_000) + small).duration == 0.0
    assert read(opus() + second() + page(PACKET, granule=48_000, flags=4)).duration == pytest.approx(1)
    assert read(opus() + second() + page(PACKET, granule=47_000, flags=4)).duration == pytest.approx(1)
    assert read(opus() + second() + page(granule=48_000, flags=4)).duration == pytest.approx(1)


def test_opus_whose_positions_are_wrong() -> None:
    # At the encoder's rate; the same on every page; none.
    for granules in (range(480, 4800, 480), [960] * 9, [0] * 9, [-1] * 9, [2**62] * 9, [-(2**63)] * 9):
        pages = [page(PACKET, granule=granule) for granule in granules]
        assert read(opus() + b"".join(pages)).duration == pytest.approx(0.18)
    last = page(PACKET, granule=960, flags=4)
    assert read(opus() + page(PACKET, granule=480) + last).duration == pytest.approx(0.04)


def test_opus_that_was_captured_midway() -> None:
    begin = 10**9
    assert read(opus() + second(begin) + second(begin + 48_000, trim=480, flags=4)).duration == pytest.approx(1.99)
    assert read(opus_head() + second(begin)).duration == 1.0
    # Within a packet.
    rest = page(LONG[255:], PACKET, granule=begin, flags=1)
    assert read(opus() + rest + second(begin)).duration == pytest.approx(1.02)


def test_opus_packets_on_several_pages() -> None:
    part, rest = page(LONG[:255], goes_on=True), page(LONG[255:], PACKET, granule=3840, flags=1)
    assert read(opus() + part + rest).duration == pytest.approx(0.08)
    assert read(opus() + part).duration == 0.0
    middle = page(bytes(255), flags=1, goes_on=True)
    assert read(opus() + part + middle + middle + rest).duration == pytest.approx(0.08)
    # The page in between is missing.
    assert read(opus() + part + second()).duration == 1.0
    # Tags that are long are tags.
    tags = page(b"OpusTags" + bytes(247), goes_on=True) + page(bytes(255), flags=1, goes_on=True)
    tags += page(bytes(99), granule=0, flags=1)
    assert read(opus_head() + tags + second()).duration == 1.0


def test_positions() -> None:
    for head, rate in ((vorbis(), 24_000), (ogg_flac(), 24_000)):
        one, two = page(bytes(9), bytes(9), granule=1500), page(bytes(9), granule=2000)
        assert read(head + one + page(bytes(255), goes_on=True) + two).duration == 2000 / rate
        assert read(head + one + two + page(granule=1800, flags=4)).duration == 2000 / rate
        # What is missing is not counted.
        far = page(bytes(9), granule=10**9) + page(bytes(9), granule=10**9 + 500)
        assert read(head + one + far).duration == 2000 / rate
        assert read(head + one + page(bytes(9), granule=100) + page(bytes(9), granule=600)).duration == 2000 / rate
        assert read(head + page(bytes(9), granule=2**63 - 1)).duration == 0.0


def test_streams_side_by_side() -> None:
    fish = page(b"fishead\0" + bytes(56), flags=2, serial=7)
    both = fish + opus_head() + vorbis(serial=9)[:58] + page(b"OpusTags" + bytes(8), granule=0)
    video = page(bytes(99), granule=10**6, serial=7) + page(bytes(99), bytes(99), granule=1000, serial=9)
    found = read(both + video + second() + video + second(48_000) + video)
    assert facts(found)[:4] == (2.0, 48_000, 1, "opus")
    # Afterwards others, of the same number or of another.
    assert read(both + second() + opus(serial=5) + second(serial=5) + second()).duration == 2.0
    assert read(both + second() + opus() + second() + opus() + second()).duration == 3.0
    assert read(opus_head(skip=960) + opus() + second()).duration == 1.0


def test_codecs_that_are_not_known() -> None:
    data = page(b"\x80theora" + bytes(35), flags=2, granule=0) + page(bytes(99), granule=0)
    assert facts(read(data)) == (None, None, None, "ogg", len(data), None, False)
    assert facts(read(*pieces(data, 1))) == facts(read(data))
    assert read(opus() + second() + data).duration is None
    assert read(second()).duration is None
    for head in (opus_head()[:-1], page(b"OpusHead", flags=2), page(b"", flags=2), page(flags=2)):
        assert read(head).duration is None
    assert facts(read(opus_head(channels=2)))[:4] == (0.0, 48_000, 2, "opus")
    assert read(vorbis(rate=0) + page(bytes(9), granule=500)).duration is None


def test_sync_that_was_lost() -> None:
    one, two = second(), second(48_000)
    for junk in (b"x", b"Ogg", b"OggS", b"OggS\x01" + bytes(22), bytes(5000), b"OggS" * 1000):
        data = opus() + one + junk + two
        assert read(data).duration == 2.0
        for size in (1, 26, 999):
            assert read(*pieces(data, size)).duration == 2.0
    # Bytes are missing within the first page: they are taken from the next one.
    assert read(opus() + one[:-9] + two + second(96_000)).duration == 2.0
    assert read(opus() + one + bytes(300_000) + two).duration is None


def test_empty() -> None:
    assert read(b"OggS").duration is None
    assert read(b"", format="ogg", rate=48_000).duration == 0.0
    assert read(opus()).duration == 0.0


HOSTILE = {
    "zeros": bytes(LOAD),
    "patterns": b"OggS" * (LOAD // 4),
    "starts": b"OggS\0" * (LOAD // 5),
    "no segments": page() * (LOAD // 27),
    "empty segments": page(*[b""] * 255, granule=0) * (LOAD // 282),
    "small packets": page(*[b"\0"] * 255, granule=0) * (LOAD // 537),
    "many frames": page(*[b"\3\1"] * 127, granule=0) * (LOAD // 408),
    "small pages": page(b"\0", granule=0) * (LOAD // 29),
    "first pages": opus_head() * (LOAD // 47),
    "streams": (opus() + page(b"\0", granule=0)) * (LOAD // 120),
    "large page": page(bytes(65_000), granule=0),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("head", [opus(), vorbis()])
def test_hostile_bytes(name: str, head: bytes) -> None:
    fastest = 1.0
    for _ in range(5):
        reader = AudioReader()
        reader.feed(head)
        begin = time.perf_counter()
        reader.feed(HOSTILE[name])
        fastest = min(fastest, time.perf_counter() - begin)
    assert fastest < 0.015  # three times what it may take: this machine does other things
    for part in pieces(HOSTILE[name], 1000):
        reader.feed(part)
    held = reader._stream
    assert held is not None
    assert sum(len(value) for value in vars(held).values() if isinstance(value, bytes)) < 500
    reader.finish()


PARTS = st.one_of(
    st.builds(
        page,
        st.sampled_from([PACKET, LONG, b"", b"\x0b", b"\x0b\x02"]),
        st.binary(max_size=20),
        granule=st.sampled_from([-1, 0, 960, 2000, 48_000, 10**9, -5]),
        flags=st.integers(0, 7),
        serial=st.integers(0, 2),
    ),
    st.sampled_from([opus(), vorbis(), ogg_flac(), opus_head(2, 999), second(), page(LONG[:255], goes_on=True)]),
    st.binary(max_size=40),
)


@settings(max_examples=300)
@given(st.lists(PARTS, max_size=8), st.integers(0, 100), st.integers(1, 300))
def test_any_pages_in_any_split(parts: list[bytes], cut: int, size: int) -> None:
    data = opus() + b"".join(parts)
    data = data[: max(len(data) - cut, 0)]
    found = read(data)
    assert facts(read(*pieces(data, size))) == pytest.approx(facts(found))
    assert found.duration is None or 0 <= found.duration < 60
