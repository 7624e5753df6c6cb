"""WAV of every layout, whole and split at every byte, with lengths that are true, unknown or wrong."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
import wave

import pytest
from audio_samples import RATE, facts, pcm16, pieces, read, splits, tone, wav
from hypothesis import given
from hypothesis import strategies as st

from ttstrace.audio import AudioReader

FRAMES = 1201
LIST = b"LIST" + struct.pack("<I", 5) + b"INFOx\0"


@pytest.mark.parametrize(
    ("tag", "bits"), [(1, 8), (1, 16), (1, 24), (1, 32), (3, 32), (3, 64), (6, 8), (7, 8), (1, 40)]
)
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("extensible", [False, True])
def test_every_layout(tag: int, bits: int, channels: int, extensible: bool) -> None:
    data = bytes(FRAMES * channels * bits // 8)
    file = wav(data, tag=tag, bits=bits, channels=channels, extensible=extensible, before=LIST, after=LIST)
    found = read(file)
    assert (found.duration, found.sample_rate) == (FRAMES / RATE, RATE)
    assert (found.channels, found.format, found.size) == (channels, "wav", len(file))
    assert found.readable == (bits != 40)


@pytest.mark.parametrize(
    "file",
    [
        wav(pcm16(tone(1800, silence=480)), before=LIST, after=LIST),
        wav(pcm16(tone(1800, silence=480)), size=0, riff_size=36),
        wav(pcm16(tone(1800, silence=480)), size=0xFFFFFFFF, riff_size=0xFFFFFFFF, extensible=True),
        wav(bytes([128] * 481) + bytes([200, 50] * 720), bits=8, after=LIST),
        wav(b"".join(struct.pack("<f", v) for v in tone(1500)), bits=32, tag=3),
    ],
)
def test_split_at_every_byte(file: bytes) -> None:
    whole = facts(read(file))
    assert whole[0] is not None
    assert whole[5] is not None
    for first, second in splits(file[:200], 1):
        assert facts(read(first, second + file[200:])) == whole
    for first, second in splits(file, 7):
        assert facts(read(first, second)) == whole
    for size in (1, 2, 3, 5, 43, 44, 45, 1000):
        assert facts(read(*pieces(file, size))) == whole


def test_the_header_is_no_audio() -> None:
    reader = AudioReader()
    assert [reader.feed(byte) for byte in pieces(wav(pcm16(tone(10))), 1)[:44]] == [0.0] * 44
    assert reader.sample_rate == RATE
    assert reader.feed(b"\0") == 0.0
    assert reader.feed(b"\0") == 1 / RATE


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF, 0xFFFFFFDB, 0x7FFFFFDB])
@pytest.mark.parametrize("riff_size", [0, 36, 0xFFFFFFFF, 0x7FFFFFFF])
def test_a_length_that_was_not_known(size: int, riff_size: int) -> None:
    assert read(wav(pcm16(tone(FRAMES)), size=size, riff_size=riff_size)).duration == FRAMES / RATE


def test_what_was_cut_off_does_not_count() -> None:
    assert read(wav(pcm16(tone(FRAMES)))[:-201]).duration == (FRAMES - 101) / RATE


def test_what_follows_the_samples_does_not_count() -> None:
    assert read(wav(pcm16(tone(FRAMES))) + b"junk" * 100).duration == FRAMES / RATE
    assert read(wav(pcm16(tone(FRAMES))) + b"\xff\x00\x80\x81" * 100).duration == FRAMES / RATE


def test_empty() -> None:
    empty = read(wav(b""))
    assert (empty.duration, empty.sample_rate, empty.size) == (0.0, RATE, 44)
    # There is no audio, but there is a chunk after it.
    assert read(wav(b"", after=LIST * 10)).duration == 0.0
    assert read(wav(b"")[:40]).duration == 0.0


@pytest.mark.parametrize("length", [4, 12, 20, 35])
def test_cut_within_the_header(length: int) -> None:
    found = read(wav(b"")[:length])
    assert (found.duration, found.sample_rate, found.size) == (None, None, length)


def test_several_in_a_row() -> None:
    one, two = wav(pcm16(tone(2400))), wav(pcm16(tone(1600)), rate=16000)
    found = read(one, one, two)
    assert found.duration == pytest.approx(0.3)
    for first, second in splits(one + two, 11):
        assert read(first, second).duration == pytest.approx(0.2)
    # Even where the lengths say nothing, a chunk that begins with a header begins a file.
    streamed = wav(pcm16(tone(2400)), size=0xFFFFFFFF, riff_size=0xFFFFFFFF)
    assert read(*[streamed] * 6).duration == pytest.approx(0.6)
    assert read(streamed[:44], streamed[44:], streamed[:44], streamed[44:]).duration == pytest.approx(0.2)


def test_rf64_and_rifx() -> None:
    data = pcm16(tone(FRAMES))
    ds64 = b"ds64" + struct.pack("<IQQQI", 28, len(data) + 80, len(data), FRAMES, 0)
    file = b"RF64" + wav(data, size=0xFFFFFFFF, riff_size=0xFFFFFFFF, before=ds64)[4:] + LIST
    assert read(file).duration == FRAMES / RATE
    big = struct.pack(">4sI4s4sIHHIIHH4sI", b"RIFX", 36 + 200, b"WAVE", b"fmt ", 16, 1, 1, RATE, RATE * 2,
    2, 16,
                      b"data", 200)  # fmt: skip
    assert read(big + bytes(200)).duration == 100 / RATE


def test_samples_in_more_bytes_than_they_need() -> None:
    file = bytearray(wav(bytes(4 * FRAMES), bits=32))
    file[34] = 20
    assert read(bytes(file)).duration == FRAMES / RATE


def test_a_codec_that_is_not_read() -> None:
    found = read(wav(bytes(4000), tag=0x11, bits=16))
    assert (found.duration, found.sample_rate, found.format, found.readable) == (None, RATE, "wav", False)


def test_a_rate_that_is_none_is_left_to_who_declares_it() -> None:
    file = wav(pcm16(tone(FRAMES)), rate=0)
    assert read(file).duration is None
    assert read(file, rate=RATE).duration == FRAMES / RATE


def test_the_header_wins_over_what_was_declared() -> None:
    file = wav(pcm16(tone(FRAMES)), rate=22050)
    for rate, format in ((8000, None), (8000, "pcm_s16le"), (None, "mp3"), (8000, "linear16"), (None, "wav")):
        found = read(file, rate=rate, format=format)
        assert (found.duration, found.sample_rate, found.format) == (FRAMES / 22050, 22050, "wav")
        assert facts(read(file[:1], file[1:], rate=rate, format=format)) == facts(found)
    found = read((file, 16000))
    assert (found.duration, found.sample_rate) == (FRAMES / 22050, 22050)
    reader = read(file)
    reader.sample_rate = 8000
    assert reader.duration == FRAMES / 22050


def test_as_the_standard_library_writes_it() -> None:
    target = io.BytesIO()
    with wave.open(target, "wb") as writer:
        writer.setparams((2, 3, 44100, 0, "NONE", ""))
        writer.writeframes(bytes(6 * 500))
    assert facts(read(target.getvalue()))[:4] == (500 / 44100, 44100, 2, "wav")


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
@pytest.mark.parametrize("codec", ["pcm_u8", "pcm_s24le", "pcm_f32le", "pcm_f64le", "pcm_mulaw", "pcm_alaw"])
def test_as_ffmpeg_streams_it(codec: str) -> None:
    command = ["ffmpeg", "-v", "error", "-f", "s16le", "-ar", str(RATE), "-ac", "1", "-i", "-"]
    source = pcm16(tone(RATE // 2, silence=RATE // 10))
    made = subprocess.run(
        [*command, "-c:a", codec, "-f", "wav", "-"], input=source, capture_output=True, check=True
    ).stdout
    found = read(*pieces(made, 1111))
    assert (found.duration, found.format) == (0.5, "wav")
    assert found.onset == pytest.approx(0.1, abs=0.001)


@given(st.binary(max_size=300), st.integers(0, 60), st.integers(1, 400))
def test_a_broken_header_never_raises(noise: bytes, at: int, size: int) -> None:
    file = bytearray(wav(pcm16(tone(100)), before=LIST))
    file[at : at + len(noise)] = noise
    read(*pieces(bytes(file), size))
