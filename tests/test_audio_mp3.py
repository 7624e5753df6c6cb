"""MP3 frames counted, whole and split at any byte; encoders' own output is the ground truth."""

from __future__ import annotations

import struct

import lameenc
import pytest
from audio_samples import facts, pcm16, pieces, read, splits, tone
from ffmpeg import encode as encoded
from ffmpeg import needs
from framed_samples import APE, ID3, ID3V1, adts, check, lame
from hypothesis import given
from hypothesis import strategies as st

from ttstrace.audio import AudioReader, framed
from ttstrace.audio.frames import header as frame_header


def encode(rate: int = 24_000, seconds: float = 0.6, channels: int = 1, kilobits: int = 48, quality: int = 7) -> bytes:
    encoder = lameenc.Encoder()
    encoder.silence()
    encoder.set_in_sample_rate(rate)
    encoder.set_out_sample_rate(rate)
    encoder.set_channels(channels)
    encoder.set_bit_rate(kilobits)
    encoder.set_quality(quality)
    samples = [value for value in tone(int(rate * seconds), rate) for _ in range(channels)]
    return bytes(encoder.encode(pcm16(samples)) + encoder.flush())


def header(bitrate: int = 6, rate: int = 1, padding: int = 0, version: int = 2, mode: int = 3) -> bytes:
    """MPEG-2 (version 2) layer III at 24 kHz, 48 kbit/s, mono: frames of 144 bytes."""
    return bytes([0xFF, 0xE3 | version << 3, bitrate << 4 | rate << 2 | padding << 1, mode << 6])


def frames(count: int, **options: int) -> bytes:
    return (header(**options) + bytes(140)) * count


@pytest.mark.parametrize(
    ("rate", "samples"),
    [
        (48000, 1152),
        (44100, 1152),
        (32000, 1152),
        (24000, 576),
        (22050, 576),
        (16000, 576),
        (11025, 576),
        (8000, 576),
    ],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_every_rate(rate: int, samples: int, channels: int) -> None:
    data = encode(rate, channels=channels, kilobits=64 if rate > 12000 else 32)
    found = read(data)
    assert (found.sample_rate, found.channels, found.format, found.size) == (rate, channels, "mp3", len(data))
    assert not found.readable
    assert found.duration is not None
    count = found.duration * rate / samples
    assert count == pytest.approx(round(count))
    # The encoder pads: what was put in, its delay, and at most two frames more.
    assert 0.6 <= found.duration <= 0.6 + 4 * samples / rate


@needs("lame", "ffprobe", "ffmpeg")
@pytest.mark.parametrize("rate", [48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000])
@pytest.mark.parametrize(
    "options",
    [
        ("-m", "m", "-b", "32"),
        ("-m", "s", "--cbr", "-b", "64", "-t"),  # without a table
        ("-m", "j", "-V2"),
        ("-m", "j", "-V9", "-t"),
        ("-m", "f", "--vbr-old", "-V4", "-p"),  # with CRC
        ("-m", "d", "--abr", "40", "--add-id3v2", "--id3v2-only", "--tt", "title"),
        ("-m", "m", "-V5", "--id3v1-only", "--tt", "title"),
    ],
)
def test_as_many_frames_as_of_lame(rate: int, options: tuple[str, ...]) -> None:
    check(lame(*options, rate=rate, channels=1 if options[1] == "m" else 2), "mp3", 1152 if rate > 24000 else 576)


@needs("ffprobe", "ffmpeg")
@pytest.mark.parametrize("rate", [44100, 24000, 8000])
@pytest.mark.parametrize(
    "options",
    [
        ("-b:a", "48k"),
        ("-q:a", "5", "-joint_stereo", "0"),
        ("-q:a", "9", "-write_xing", "0", "-id3v2_version", "0"),
        ("-q:a", "4", "-write_id3v1", "1", "-metadata", "title=title"),
    ],
)
@pytest.mark.parametrize("piped", [False, True])
def test_as_many_frames_as_of_ffmpeg(rate: int, options: tuple[str, ...], piped: bool) -> None:
    data = encoded("-c:a", "libmp3lame", *options, suffix="mp3", seconds=0.7, rate=rate, channels=2, piped=piped)
    check(data, "mp3", 1152 if rate > 24000 else 576)


@needs("ffprobe", "ffmpeg")
@pytest.mark.parametrize("rate", [48000, 44100, 32000, 24000, 22050, 16000])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("bitrate", ["32k", "160k", "384k"])
def test_layer_2_of_ffmpeg(rate: int, channels: int, bitrate: str) -> None:
    if bitrate == "384k" and (rate <= 24000 or channels == 1):
        bitrate = "64k"
    data = encoded("-c:a", "mp2", "-b:a", bitrate, suffix="mp2", seconds=0.5, rate=rate, channels=channels)
    check(data, "mp2", 1152)


@pytest.mark.parametrize("format", [None, "mp3", "aac"])
def test_every_layer_and_version(format: str | None) -> None:
    # The lengths are those of ISO/IEC 11172-3 and 13818-3: slots of 4 bytes in layer I, of 1 in the others.
    for second, third, length, samples, rate, name in (
        (0xFF, 0x10, 12 * 32_000 // 44_100 * 4, 384, 44_100, "mp1"),
        (0xFF, 0xE6, (12 * 448_000 // 48_000 + 1) * 4, 384, 48_000, "mp1"),
        (0xF7, 0x94, 12 * 144_000 // 24_000 * 4, 384, 24_000, "mp1"),
        (0xFD, 0xE8, 144 * 384_000 // 32_000, 1152, 32_000, "mp2"),
        (0xF5, 0x12, 144 * 8_000 // 22_050 + 1, 1152, 22_050, "mp2"),
        (0xFB, 0xE0, 144 * 320_000 // 44_100, 1152, 44_100, "mp3"),
        (0xF3, 0xE8, 72 * 160_000 // 16_000, 576, 16_000, "mp3"),
        (0xE3, 0x18, 72 * 8_000 // 8_000, 576, 8_000, "mp3"),
    ):
        for mode, channels in ((0x00, 2), (0x40, 2), (0x80, 2), (0xC0, 1)):
            frame = bytes([0xFF, second, third, mode]) + bytes(length - 4)
            for data in (frame * 5, ID3 + frame * 5 + ID3V1, frame * 5 + frame[:-1]):
                found = read(data, format=format)
                assert (found.format, found.sample_rate, found.channels) == (name, rate, channels)
                assert found.duration == 5 * samples / rate
    # MPEG-2.5 has no other layer, and nothing else a version, a rate or a bit rate.
    for second, third in ((0xE5, 0x54), (0xE7, 0x54), (0xEB, 0x54), (0xFB, 0x5C), (0xFB, 0xF0), (0xFD, 0x00)):
        assert read((bytes([0xFF, second, third, 0xC0]) + bytes(140)) * 9, format=format).duration is None


@pytest.mark.parametrize("format", [None, "mp3"])
def test_split_at_every_byte(format: str | None) -> None:
    data = ID3 + encode(seconds=0.2) + ID3V1
    for file in (data, data[len(ID3) :]):
        whole = facts(read(file, format=format))
        assert whole[0] is not None
        for first, second in splits(file):
            assert facts(read(first, second, format=format)) == whole
        for size in (1, 3, 143, 144, 145, 720):
            assert facts(read(*pieces(file, size), format=format)) == whole


def test_a_frame_counts_when_its_last_byte_is_there() -> None:
    reader = AudioReader(format="mp3")
    data = frames(3)
    assert reader.feed(data[:143]) == 0.0
    assert reader.feed(data[143:144]) == 576 / 24000
    assert reader.feed(data[144:400]) == 576 / 24000
    reader.finish()
    assert reader.duration == 2 * 576 / 24000


def test_two_frames_have_to_agree() -> None:
    assert read(frames(2)).duration == 2 * 576 / 24000
    assert read(frames(1)).duration is None
    assert read(frames(1) + bytes(300)).duration is None
    assert read(frames(1) + frames(1, rate=0)).duration is None
    assert read(frames(1) + header() + bytes(3)).duration == 576 / 24000
    # An ID3 tag, or a declaration, says the same.
    assert read(ID3 + frames(1)).duration == 576 / 24000
    assert read(frames(1), format="mp3").duration == 576 / 24000


def test_sound_that_looks_like_a_frame_is_not_mp3() -> None:
    silence_below_zero = b"\xff\xfb\x90\x00" + b"\xff\xff" * 2000
    found = read(silence_below_zero)
    assert (found.duration, found.format) == (None, None)
    assert read(silence_below_zero, format="pcm_s16le", rate=8000).duration == 2002 / 8000


@pytest.mark.parametrize("name", [b"Xing", b"Info"])
def test_a_table_is_no_audio(name: bytes) -> None:
    table = header() + bytes(9) + name + bytes(127)
    assert read(table + frames(5)).duration == 5 * 576 / 24000
    # Services join the answers to several requests.
    assert read((table + frames(5)) * 3).duration == 15 * 576 / 24000
    vbri = header() + bytes(32) + b"VBRI" + bytes(104)
    assert read(vbri + frames(5)).duration == 5 * 576 / 24000


def test_tags_are_no_audio() -> None:
    body = frames(5)
    assert read(ID3 + body + ID3V1).duration == 5 * 576 / 24000
    assert read((ID3 + body + ID3V1) * 2).duration == 10 * 576 / 24000
    assert read((body + APE + ID3V1) * 2).duration == 10 * 576 / 24000
    assert read((body + APE[32:]) * 2).duration == 10 * 576 / 24000  # a footer without a header
    footer = b"ID3\x04\x00\x10\x00\x00\x00\x05" + bytes(15)
    assert read(footer + body).duration == 5 * 576 / 24000
    assert read(footer + frames(1)).duration == 576 / 24000
    for no_tag in (b"ID3\x04\x00\x00\x80\x7f\x7f\x7f", b"ID3\xff\x00\x00\x7f\x7f\x7f\x7f", b"APE" + b"\xff" * 40):
        assert read(body + no_tag + body).duration == 10 * 576 / 24000


def test_a_tag_that_hides_frames() -> None:
    hidden = b"ID3\x03\x00\x00\x00\x00\x0a\x00" + frames(9)[:1280]
    assert read(hidden + frames(4)).duration == 4 * 576 / 24000


def test_another_rate_further_on() -> None:
    other = frames(1, rate=0, bitrate=4)[:104]  # 22.05 kHz, 32 kbit/s
    assert read(frames(4) + other * 4).duration == pytest.approx(4 * 576 / 24000 + 4 * 576 / 22050)
    assert read(*pieces(frames(4) + other * 4, 100)).duration == pytest.approx(4 * 576 / 24000 + 4 * 576 / 22050)


def test_junk_between_frames() -> None:
    assert read(frames(4) + b"\xff\x00junk" * 20 + frames(4)).duration == 8 * 576 / 24000
    assert read(b"junk" * 20 + frames(4), format="mp3").duration == 4 * 576 / 24000
    hidden = b"ID3\x03\x00\x00\x00\x00\x01\x10" + frames(1)  # 144 bytes that are no audio
    for tag in (b"", hidden):
        file = b"junkI" * 3 + tag + frames(3)
        whole = facts(read(file, format="mp3"))
        assert whole[0] == 3 * 576 / 24000
        for first, second in splits(file[:300]):
            assert facts(read(first, second + file[300:], format="mp3")) == whole
    assert read(frames(4) + bytes(200_000) + frames(4)).duration is None


@pytest.mark.parametrize("data", [b"\xff" * 400_000, bytes(400_000), b"\xff\xe3" * 200_000])
def test_nothing_but_junk(data: bytes) -> None:
    found = read(data, format="mp3")
    assert (found.duration, found.size) == (None, 400_000)


def test_the_free_format_is_unknown() -> None:
    table = header() + bytes(9) + b"Info" + bytes(127)
    for file in (frames(20, bitrate=0), ID3 + frames(20, bitrate=0), table + frames(20, bitrate=0)):
        assert read(file).duration is None
        assert read(file, format="mp3").duration is None
        assert read(b"", file, format="mp3", rate=24000).duration is None


@needs("lame")
@pytest.mark.parametrize("options", [("-b", "64"), ("-b", "200", "-t"), ("-b", "400", "--add-id3v2", "--tt", "title")])
def test_the_free_format_of_lame_is_unknown(options: tuple[str, ...]) -> None:
    data = lame("--freeformat", "-m", "m", *options, rate=24000, channels=1)
    for file in (data, data * 9):
        assert read(file).duration is None
        assert read(file, format="mp3").duration is None


def test_empty() -> None:
    assert read(b"", format="mp3", rate=24000).duration == 0.0
    assert read(b"", format="mp3").duration is None
    assert read(b"").duration is None


def test_little_is_held_of_a_stream() -> None:
    for data in (ID3[:6] + struct.pack(">I", 0x7F7F7F7F) + bytes(1_000_000), adts(8191) * 100):
        for size in (10_000, len(data)):
            reader = AudioReader(format="mp3")
            for piece in pieces(data, size):
                reader.feed(piece)
                held = reader._stream
                assert held is not None
                assert sum(len(value) for value in vars(held).values() if isinstance(value, bytes)) < 8_200


def test_never_longer_than_the_bytes_can_be() -> None:
    assert read(ID3[:6] + struct.pack(">I", 0x7F7F7F7F) + frames(1000)).duration is None
    assert read(frames(9) + b"APETAGEX" + struct.pack("<IIII", 2000, 2**32 - 1, 9, 1 << 29) + frames(9)).duration == (
        9 * 576 / 24000
    )


SMALL = bytes([0xFF, 0xF3, 0x14, 0xC0]) + bytes(20)
OTHER = bytes([0xFF, 0xF3, 0x10, 0xC0]) + bytes(22)
EMPTY = b"ID3\x04" + bytes(6)


@pytest.mark.parametrize("format", [None, "mp3"])
@pytest.mark.parametrize("before", [b"", SMALL * 2, adts(12) * 2, ID3])
@pytest.mark.parametrize(
    "unit",
    [
        b"\xff",
        b"\xff\xe3",
        b"\xff\xfb\x90",
        b"\xff\xfb\x90\x00",
        b"\xff\xf1\x50",
        b"\xff\xf1\x50\x40\x00\x1f\xfc",
        SMALL,
        adts(12),
        SMALL + OTHER,
        SMALL * 2 + OTHER * 2,
        adts(12) + adts(12, rate=5),
        adts(12) * 2 + adts(12, rate=5) * 2,
        EMPTY,
        EMPTY + SMALL,
        EMPTY + adts(12),
        b"ID3",
        b"TAG",
        b"APE",
        b"APETAGEX" + bytes(24),
        SMALL[:13] + b"Xing" + bytes(7),
        bytes(range(256)),
    ],
    ids=lambda unit: unit[:8].hex(),
)
def test_no_bytes_cost_much(unit: bytes, before: bytes, format: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0

    def counted(buffer: bytes, at: int) -> object:
        nonlocal looks
        looks += 1
        assert len(buffer) <= 16_384
        return frame_header(buffer, at)

    data = before + (unit * 65_536)[:65_536]
    whole = facts(read(data, format=format))
    monkeypatch.setattr(framed, "header", counted)
    assert facts(read(*pieces(data, 65_536), format=format)) == whole
    # As many as there are of the smallest frames; what makes no sense is given up before.
    assert looks <= 65_536 // 12 + 100
    monkeypatch.undo()
    assert facts(read(*pieces(data, 777), format=format)) == whole


FRAGMENTS = st.one_of(
    st.binary(max_size=200),
    st.sampled_from([frames(3), frames(1, rate=0), adts(20) * 3, adts(8191), ID3, ID3V1, APE, b"\xff\xfb\x90", SMALL]),
)


@given(st.lists(FRAGMENTS), st.data())
def test_any_bytes_in_any_split(parts: list[bytes], data: st.DataObject) -> None:
    file = b"".join(parts)
    format = data.draw(st.sampled_from([None, "mp3"]))
    size = data.draw(st.integers(1, 500))
    assert facts(read(*pieces(file, size), format=format)) == facts(read(file, format=format))


def test_a_stream_that_is_cut_where_it_looks_like_text() -> None:
    """A mark of one byte is no text for that; nor does a first byte alone tell what it is no part of."""
    frames = (bytes([0xFF, 0xF3, 0x64, 0xC0]) + bytes(140)) * 10
    for begin in (b"<", b"\n"):
        assert read(begin + bytes(20) + frames, format="mp3").duration == pytest.approx(0.24)
    assert read(frames[:1], frames[1:]).duration == pytest.approx(0.24)
