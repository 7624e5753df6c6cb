"""AAC in ADTS counted, whole and split at any byte; ffmpeg's own output is the ground truth."""

from __future__ import annotations

import pytest
from audio_samples import facts, pieces, read, splits
from ffmpeg import encode, needs_ffmpeg
from framed_samples import APE, ID3, ID3V1, adts, check
from hypothesis import given
from hypothesis import strategies as st

from ttstrace.audio import AudioReader

RATES = [96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350]
SECOND = 1024 / 24000
"""Seconds of one frame."""


@needs_ffmpeg
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("channels", [1, 2])
def test_every_rate(rate: int, channels: int) -> None:
    check(encode("-c:a", "aac", "-f", "adts", suffix="aac", seconds=0.4, rate=rate, channels=channels), "aac", 1024)


@needs_ffmpeg
@pytest.mark.parametrize(
    ("layout", "configured"),
    [("3.0", 3), ("4.0", 4), ("5.0", 5), ("5.1", 6), ("7.1", 8), ("2.1", None), ("6.1", None)],
)
def test_every_configuration_of_channels(layout: str, configured: int | None) -> None:
    # What has no configuration of its own is described in the first frame.
    options = ("-ac", str(sum(map(int, layout.split(".")))), "-channel_layout", layout)
    data = encode(*options, "-c:a", "aac", "-f", "adts", suffix="aac", seconds=0.2)
    check(data, "aac", 1024, channels=configured)


@needs_ffmpeg
@pytest.mark.parametrize(
    "options",
    [
        ("-write_id3v2", "1", "-metadata", "title=title"),
        ("-write_apetag", "1", "-metadata", "title=title"),
        ("-write_mpeg2", "1", "-b:a", "16k"),
        ("-b:a", "140k", "-profile:a", "aac_ltp", "-strict", "-2"),
        ("-profile:a", "aac_main", "-strict", "-2"),
    ],
)
@pytest.mark.parametrize("piped", [False, True])
def test_what_else_ffmpeg_writes(options: tuple[str, ...], piped: bool) -> None:
    data = encode("-c:a", "aac", "-f", "adts", *options, suffix="adts" if piped else "aac", piped=piped)
    check(data, "aac", 1024)


@needs_ffmpeg
def test_split_at_every_byte() -> None:
    data = encode("-c:a", "aac", "-b:a", "12k", "-f", "adts", suffix="aac", seconds=0.3)
    for file in (data, ID3 + data, (ID3 + data + APE + ID3V1) * 2):
        for format in (None, "aac"):
            whole = facts(read(file, format=format))
            assert whole[0] is not None
            for first, second in splits(file, 1 if format else 7):
                assert facts(read(first, second, format=format)) == whole
            for size in (1, 3, 7, 1000):
                assert facts(read(*pieces(file, size), format=format)) == whole


def test_a_frame_counts_when_its_last_byte_is_there() -> None:
    reader = AudioReader(format="aac")
    data = adts(100) * 3
    assert reader.feed(data[:99]) == 0.0
    assert reader.feed(data[99:100]) == SECOND
    assert reader.feed(data[100:250]) == SECOND
    reader.finish()
    assert reader.duration == 2 * SECOND
    assert reader.format == "aac"


@pytest.mark.parametrize("second", [0xF0, 0xF1, 0xF8, 0xF9])
@pytest.mark.parametrize("blocks", [1, 2, 3, 4])
def test_every_header(second: int, blocks: int) -> None:
    for number, rate in enumerate(RATES):
        for configuration, channels in enumerate((None, 1, 2, 3, 4, 5, 6, 8)):
            frame = adts(100, rate=number, channels=configuration, blocks=blocks, second=second)
            found = read(frame * 3)
            assert (found.format, found.sample_rate, found.channels) == ("aac", rate, channels)
            assert found.duration == 3 * blocks * 1024 / rate


def test_what_is_no_header() -> None:
    assert read(adts(100, second=0xE1) * 9, format="aac").duration is None
    for number in (13, 14, 15):
        assert read(adts(100, rate=number) * 9, format="aac").duration is None
    for length, blocks in ((0, 1), (7, 1), (11, 1), (26, 4)):  # too short for as many blocks
        frame = adts(100, blocks=blocks)
        wrong = bytearray(frame)
        wrong[3:6] = ((int.from_bytes(frame[3:6], "big") & ~(0x1FFF << 5)) | length << 5).to_bytes(3, "big")
        assert read(bytes(wrong) * 9, format="aac").duration is None
        assert read(adts(100) * 2 + bytes(wrong) + adts(100) * 2).duration == 4 * SECOND
    for frame in (adts(12), adts(27, blocks=4), adts(8191)):
        assert read(frame * 3).duration == 3 * SECOND * (4 if len(frame) == 27 else 1)


def test_two_frames_have_to_agree() -> None:
    frame = adts(100)
    assert read(frame * 2).duration == 2 * SECOND
    assert read(frame).duration is None
    assert read(frame + bytes(300)).duration is None
    for other in (
        adts(100, rate=7),
        adts(100, channels=2),
        adts(100, second=0xF9),
        bytes([0xFF, 0xF3, 0x64, 0xC0]) + bytes(140),
    ):
        assert read(frame + other).duration is None
    assert read(frame + frame[:7]).duration == SECOND
    assert read(ID3 + frame).duration == SECOND
    assert read(frame, format="aac").duration == SECOND


def test_what_follows_a_tag_tells_what_it_is() -> None:
    mp3 = (bytes([0xFF, 0xF3, 0x64, 0xC0]) + bytes(140)) * 3
    for declared in (None, "mp3", "aac", "opus"):
        assert facts(read(ID3 + adts(100) * 3, format=declared))[:4] == (3 * SECOND, 24000, 1, "aac")
        assert facts(read(ID3 + mp3, format=declared))[:4] == (3 * 576 / 24000, 24000, 1, "mp3")
    # A tag before every frame, with its time.
    stamp = b"ID3\x04\x00\x00\x00\x00\x00\x3f" + bytes(63)
    assert read((stamp + adts(100)) * 1000).duration == pytest.approx(1000 * SECOND)
    assert read(*[stamp + adts(100)] * 1000).duration == pytest.approx(1000 * SECOND)


def test_a_tag_is_believed_once() -> None:
    data = adts(100) * 3
    odd = adts(50, rate=0) + bytes(50)
    assert read(ID3 + data + odd + data).duration == 6 * SECOND
    assert read(data + ID3 + data + odd + data).duration == 9 * SECOND
    assert read(ID3 + b"junk" + odd + data).duration == 3 * SECOND


def test_the_bytes_say_it_better_than_the_declaration() -> None:
    data = adts(100) * 3
    for declared in (None, "mp3", "opus", "ogg", "wav"):
        assert facts(read(data, format=declared))[:4] == (3 * SECOND, 24000, 1, "aac")
    # Raw samples may begin with anything.
    assert read(data, format="pcm_s16le", rate=8000).duration == 150 / 8000
    # What begins like a frame, and is none, is what it was declared to be.
    assert facts(read(data[:90] + bytes(300), format="opus"))[:4] == (None, None, None, "opus")
    assert facts(read(bytes(300), format="aac"))[:4] == (None, None, None, "aac")
    assert facts(read(bytes(300)))[:4] == (None, None, None, None)


def test_another_kind_further_on() -> None:
    data = adts(100) * 3 + adts(100, rate=3, channels=2) * 4
    expected = 3 * SECOND + 4 * 1024 / 48000
    assert read(data).duration == pytest.approx(expected)
    for size in (1, 50, 100, 333):
        assert read(*pieces(data, size)).duration == pytest.approx(expected)


def test_junk_between_frames() -> None:
    assert read(adts(100) * 3 + b"\xff\xf1\x50junk" * 20 + adts(100) * 3).duration == 6 * SECOND
    assert read(adts(100) * 3 + adts(100)[:60] + adts(100) * 3).duration == pytest.approx(6 * SECOND, abs=SECOND)
    assert read(adts(100) * 3 + bytes(60_000) + adts(100) * 3).duration == 6 * SECOND
    assert read((bytes(60_000) + adts(100) * 3) * 3, format="aac").duration == 9 * SECOND
    assert read(adts(100) * 3 + bytes(70_000) + adts(100) * 3).duration is None
    # Within junk no single frame is believed, and before everything else no junk.
    assert read(adts(100) * 3 + b"junk" + adts(100) + b"junk" * 9).duration == 3 * SECOND
    assert read(adts(100) + b"junk" + adts(100) * 9).duration is None
    assert read(adts(100) + b"junk" + adts(100) * 9, format="aac").duration == pytest.approx(10 * SECOND)


def test_frames_that_junk_hides_until_the_end() -> None:
    false = adts(1000, channels=2)[:7]
    assert AudioReader().feed(adts(100)) == 0.0
    reader = AudioReader(format="aac")
    assert reader.feed(adts(100) * 3) == 3 * SECOND
    assert reader.feed(b"junk" + false) is None
    assert reader.feed(adts(100) * 3) is None
    assert reader.feed(adts(100)) is None
    reader.finish()
    assert reader.duration == pytest.approx(7 * SECOND)
    # Where there is more, it is known at once.
    assert AudioReader().feed(adts(100) * 79 + b"junk" + false + adts(100) * 30) == pytest.approx(109 * SECOND)


def test_an_interrupted_stream_counts_what_came() -> None:
    data = adts(100) * 5
    for size in range(107, len(data)):
        assert read(data[:size]).duration == size // 100 * SECOND


FRAGMENTS = st.one_of(
    st.binary(max_size=100),
    st.integers(12, 300).map(adts),
    st.sampled_from([adts(20, rate=3) * 2, adts(8191), ID3, ID3V1, APE, APE[:40], b"\xff\xf1", b"ID3\x04" + bytes(6)]),
)


@given(st.lists(FRAGMENTS, max_size=30), st.integers(1, 500), st.sampled_from([None, "aac", "mp3", "opus"]))
def test_any_bytes_in_any_split(parts: list[bytes], size: int, format: str | None) -> None:
    data = b"".join(parts)
    assert facts(read(*pieces(data, size), format=format)) == facts(read(data, format=format))
