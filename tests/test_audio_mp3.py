"""MP3 frames counted, whole and split at any byte; encoders' own output is the ground truth."""

from __future__ import annotations

import shutil
import struct
import subprocess

import lameenc
import pytest
from audio_samples import facts, pcm16, pieces, read, splits, tone
from hypothesis import given
from hypothesis import strategies as st

from ttstrace.audio import AudioReader

ID3 = b"ID3\x04\x00\x00\x00\x00\x02\x01" + bytes(257)
ID3V1 = b"TAG" + bytes(125)


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


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="needs ffprobe")
@pytest.mark.parametrize("rate", [44100, 24000, 8000])
@pytest.mark.parametrize("options", [["-b:a", "48k"], ["-q:a", "5"], ["-q:a", "9", "-write_xing", "0"]])
def test_as_many_frames_as_ffmpeg_finds(rate: int, options: list[str]) -> None:
    source = pcm16(tone(rate, rate))
    command = [
        "ffmpeg",
        "-v",
        "error",
        "-f",
        "s16le",
        "-ar",
        str(rate),
        "-ac",
        "1",
        "-i",
        "-",
        "-c:a",
        "libmp3lame",
    ]
    done = subprocess.run([*command, *options, "-f", "mp3", "-"], input=source, capture_output=True, check=False)
    if done.returncode:
        pytest.skip("this ffmpeg has no MP3 encoder")
    probe = [
        "ffprobe",
        "-v",
        "error",
        "-count_packets",
        "-show_entries",
        "stream=nb_read_packets",
        "-of",
        "csv=p=0",
    ]
    counted = subprocess.run([*probe, "-"], input=done.stdout, capture_output=True, check=True).stdout
    samples = 1152 if rate > 24000 else 576
    assert read(done.stdout).duration == pytest.approx(int(counted) * samples / rate)


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
    assert read(frames(1) + header()).duration == 576 / 24000
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
    footer = b"ID3\x04\x00\x10\x00\x00\x00\x05" + bytes(15)
    assert read(footer + body).duration == 5 * 576 / 24000


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
    assert read(frames(20, bitrate=0)).duration is None
    assert read(frames(20, bitrate=0), format="mp3").duration is None


def test_empty() -> None:
    assert read(b"", format="mp3", rate=24000).duration == 0.0
    assert read(b"", format="mp3").duration is None
    assert read(b"").duration is None


def test_little_is_held_of_a_stream() -> None:
    reader = AudioReader(format="mp3")
    data = ID3[:6] + struct.pack(">I", 0x7F7F7F7F) + bytes(1_000_000)
    for piece in pieces(data, 10_000):
        reader.feed(piece)
    held = reader._stream
    assert held is not None
    assert sum(len(value) for value in vars(held).values() if isinstance(value, bytes)) < 65_536


@given(st.lists(st.one_of(st.binary(max_size=200), st.just(frames(3)), st.just(ID3), st.just(ID3V1))), st.data())
def test_any_bytes_in_any_split(parts: list[bytes], data: st.DataObject) -> None:
    file = b"".join(parts)
    format = data.draw(st.sampled_from([None, "mp3"]))
    size = data.draw(st.integers(1, 500))
    assert facts(read(*pieces(file, size), format=format)) == facts(read(file, format=format))
