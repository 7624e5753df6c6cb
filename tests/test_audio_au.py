"""AU of every layout, whole and split at every byte, with a length that is true, unknown or wrong."""

from __future__ import annotations

import struct

import pytest
from audio_samples import RATE, facts, pieces, read, splits, tone
from ffmpeg import decoded, encode, needs, needs_ffmpeg
from hypothesis import given
from hypothesis import strategies as st
from sox import sox

from ttstrace.audio import AudioReader

FRAMES = 1201


def au(
    data: bytes, encoding: int = 3, *, channels: int = 1, rate: int = RATE, size: int | None = None, note: bytes = b""
) -> bytes:
    """An AU file; `size` is what the header claims instead of the truth."""
    size = len(data) if size is None else size
    return b".snd" + struct.pack(">5I", 24 + len(note), size, encoding, rate, channels) + note + data


def big16(values: list[float]) -> bytes:
    return struct.pack(f">{len(values)}h", *(round(value * 32767) for value in values))


@pytest.mark.parametrize(
    ("encoding", "width"), [(1, 1), (2, 1), (3, 2), (4, 3), (5, 4), (6, 4), (7, 8), (27, 1)]
)  # fmt: skip
@pytest.mark.parametrize("channels", [1, 2])
def test_every_layout(encoding: int, width: int, channels: int) -> None:
    file = au(bytes(FRAMES * channels * width), encoding, channels=channels, note=b"note")
    found = read(file)
    assert (found.duration, found.sample_rate) == (FRAMES / RATE, RATE)
    assert (found.channels, found.format, found.size) == (channels, "au", len(file))
    assert found.readable


@needs_ffmpeg
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("codec", ["pcm_mulaw", "pcm_alaw", "pcm_s8", "pcm_s16be", "pcm_s24be", "pcm_f32be"])
def test_as_ffmpeg_writes_it(codec: str, channels: int) -> None:
    made = encode("-c:a", codec, suffix="au", seconds=1.1, channels=channels)
    found = read(*pieces(made, 1111))
    assert found.duration == pytest.approx(decoded(made, "au")[0], abs=1e-9)
    assert (found.sample_rate, found.channels, found.format, found.onset) == (RATE, channels, "au", 0.0)
    piped = encode("-c:a", codec, suffix="au", seconds=1.1, channels=channels, piped=True)
    assert piped[8:12] == b"\xff" * 4
    assert read(*pieces(piped, 1111)).duration == found.duration


@needs("sox")
@pytest.mark.parametrize(
    "options", [["-b", "16"], ["-b", "24"], ["-e", "mu-law"], ["-e", "floating-point", "-b", "64"]]
)
def test_as_sox_writes_it(options: list[str]) -> None:
    made = sox(*options, suffix="au")
    assert read(made).duration == 24_123 / 8000
    assert read(*pieces(made * 2, 1000)).duration == pytest.approx(2 * 24_123 / 8000)
    assert read(sox(*options, suffix="au", piped=True)).duration == 24_123 / 8000


@pytest.mark.parametrize(
    "file",
    [
        au(big16(tone(1800, silence=480)), note=b"a note\0\0"),
        au(big16(tone(1800, silence=480)), size=0xFFFFFFFF),
        au(bytes(962)) + au(big16(tone(1400))),
    ],
)
def test_split_at_every_byte(file: bytes) -> None:
    whole = facts(read(file))
    assert whole[0] is not None
    assert whole[5] is not None
    for first, second in splits(file[:100], 1):
        assert facts(read(first, second + file[100:])) == whole
    for first, second in splits(file, 7):
        assert facts(read(first, second)) == whole
    for size in (1, 2, 3, 23, 24, 25, 1000):
        assert facts(read(*pieces(file, size))) == whole


def test_the_header_is_no_audio() -> None:
    reader = AudioReader()
    assert [reader.feed(byte) for byte in pieces(au(big16(tone(10)), note=b"ab"), 1)[:26]] == [0.0] * 26
    assert reader.feed(b"\0") == 0.0
    assert reader.feed(b"\0") == 1 / RATE


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
def test_a_length_that_was_not_known(size: int) -> None:
    file = au(big16(tone(2400, silence=240)), size=size)
    assert read(file).duration == 0.1
    # A piece that begins with a header begins a file, also where samples are only counted.
    reader = read(*[file] * 6)
    assert (reader.duration, reader.onset) == (pytest.approx(0.6), 0.01)
    # One that begins with the word only is samples.
    assert read(file, b".snd" + bytes(44)).duration == pytest.approx(2424 / RATE)


def test_what_was_cut_off_does_not_count() -> None:
    file = au(big16(tone(FRAMES)), note=b"note")
    assert read(file[:-201]).duration == (FRAMES - 101) / RATE
    assert read(file[:28]).duration == 0.0
    for length in (3, 4, 20, 23, 27):
        assert read(file[:length]).duration is None


def test_what_follows_the_samples_does_not_count() -> None:
    assert read(au(big16(tone(FRAMES))) + b"junk" * 100).duration == FRAMES / RATE


def test_several_in_a_row() -> None:
    one, two = au(big16(tone(2400)), note=b"n"), au(big16(tone(1600)), rate=16_000)
    assert read(one, one, two).duration == pytest.approx(0.3)
    for first, second in splits(one + two, 11):
        assert read(first, second).duration == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("encoding", "channels", "begin"), [(23, 1, 24), (0, 1, 24), (3, 0, 24), (3, 256, 24), (3, 1, 23)]
)
def test_what_is_not_understood(encoding: int, channels: int, begin: int) -> None:
    file = b".snd" + struct.pack(">5I", begin, 4000, encoding, RATE, channels) + bytes(4000)
    found = read(file)
    assert (found.duration, found.format, found.readable) == (None, "au", False)


def test_samples_that_would_begin_far_away() -> None:
    assert read(b".snd" + struct.pack(">5I", 1 << 31, 4000, 3, RATE, 1) + bytes(4000)).duration is None


def test_a_rate_that_is_none_is_left_to_who_declares_it() -> None:
    file = au(big16(tone(FRAMES)), rate=0)
    assert read(file).duration is None
    assert read(file, rate=RATE).duration == FRAMES / RATE


def test_a_great_many_files_of_nothing() -> None:
    reader = AudioReader()
    reader.feed(au(b"a", note=b"n") * 3000)
    assert reader.duration is None
    assert reader._stream._units < 1000  # type: ignore[union-attr]


@given(
    st.lists(st.sampled_from([au(bytes(1000)), au(bytes(31), 4, note=b"note"), au(bytes(9), 23)])),
    st.binary(max_size=40),
    st.integers(1, 500),
)
def test_any_bytes_in_any_split(files: list[bytes], rest: bytes, size: int) -> None:
    file = au(b"ab") + b"".join(files) + rest
    assert facts(read(*pieces(file, size))) == facts(read(file))


@given(st.binary(max_size=100), st.integers(0, 40), st.integers(1, 400))
def test_a_broken_header_never_raises(noise: bytes, at: int, size: int) -> None:
    file = bytearray(au(big16(tone(100)), note=b"note"))
    file[at : at + len(noise)] = noise
    read(*pieces(bytes(file), size))
