"""WAV of every layout, whole and split at every byte, with lengths that are true, unknown or wrong."""

from __future__ import annotations

import io
import struct
import subprocess
import wave

import pytest
from audio_samples import RATE, facts, pcm16, pieces, read, splits, tone, wav
from ffmpeg import decoded, encode, needs, needs_ffmpeg
from hypothesis import given
from hypothesis import strategies as st
from sox import sox

from ttstrace.audio import AudioReader

FRAMES = 1201
LIST = b"LIST" + struct.pack("<I", 5) + b"INFOx\0"
MS_ADPCM, IMA_ADPCM, G726, GSM, MP3 = 0x02, 0x11, 0x45, 0x31, 0x55


def compressed(
    tag: int,
    data: bytes,
    *,
    block: int = 256,
    said: int = 0,
    bits: int = 4,
    channels: int = 1,
    fact: int | None = None,
    size: int | None = None,
) -> bytes:
    """A WAV file at 8 kHz of a codec with blocks, which its header says to be of `said` frames."""
    fmt = struct.pack("<HHIIHHHH", tag, channels, 8000, 4000, block, bits, 2, said)
    body = b"WAVEfmt " + struct.pack("<I", len(fmt)) + fmt
    if fact is not None:
        body += b"fact" + struct.pack("<II", 4, fact)
    body += b"data" + struct.pack("<I", len(data) if size is None else size) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def count(*chunks: bytes) -> float | None:
    """Frames at 8 kHz."""
    duration = read(*chunks).duration
    return None if duration is None else round(duration * 8000, 6)


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


@needs("ffmpeg")
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


@needs_ffmpeg
@pytest.mark.parametrize("options", [["-rf64", "always"], ["-c:a", "pcm_s24le", "-rf64", "always"]])
def test_rf64_as_ffmpeg_writes_it(options: list[str]) -> None:
    made = encode(*options, suffix="wav")
    assert made[:4] == b"RF64"
    assert read(made).duration == 1.0


@needs_ffmpeg
@pytest.mark.parametrize("piped", [False, True])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("codec", ["adpcm_ms", "adpcm_ima_wav", "libmp3lame", "libgsm_ms"])
def test_codecs_as_ffmpeg_writes_them(codec: str, channels: int, piped: bool) -> None:
    if codec == "libgsm_ms" and channels == 2:
        pytest.skip("GSM is mono")
    rate = 8000 if codec == "libgsm_ms" else RATE
    made = encode("-c:a", codec, suffix="wav", seconds=1.1, rate=rate, channels=channels, piped=piped)
    found = read(*pieces(made, 1111))
    assert found.duration == pytest.approx(decoded(made, "wav")[0], abs=1e-9)
    assert (found.sample_rate, found.channels, found.format, found.readable) == (rate, channels, "wav", False)
    assert found.onset is None


@needs_ffmpeg
@pytest.mark.parametrize(
    ("codec", "rate"), [("g726", 8000), ("adpcm_g722", 16000), ("g723_1", 8000), ("adpcm_yamaha", RATE)]
)
def test_what_only_fact_tells(codec: str, rate: int) -> None:
    made = encode("-c:a", codec, *(["-b:a", "32k"] if codec == "g726" else []), suffix="wav", rate=rate)
    found = read(*pieces(made, 1111))
    # A byte may hold two frames, of which only one is meant.
    assert found.duration == pytest.approx(decoded(made, "wav")[0], abs=1.01 / rate)
    assert (found.sample_rate, found.readable) == (rate, False)
    assert read(made[:-1]).duration is None
    piped = encode("-c:a", codec, *(["-b:a", "32k"] if codec == "g726" else []), suffix="wav", rate=rate, piped=True)
    assert b"fact" not in piped
    assert read(piped).duration is None


@needs("sox", "ffmpeg")
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(("codec", "block"), [("ms-adpcm", 500), ("ima-adpcm", 505), ("gsm-full-rate", 320)])
def test_as_many_frames_as_were_put_in(codec: str, block: int, channels: int) -> None:
    if codec == "gsm-full-rate" and channels == 2:
        pytest.skip("GSM is mono")
    made = sox("-e", codec, suffix="wav", channels=channels)
    assert read(made).duration == 24_123 / 8000
    assert 0 < round(decoded(made, "wav")[0] * 8000) - 24_123 < block
    # Of what was cut off, whole blocks count.
    part = read(made[: len(made) // 2]).duration
    assert part is not None
    assert part == pytest.approx(decoded(made[: len(made) // 2], "wav")[0], abs=block / 8000)
    # One after the other, in pieces of any size.
    for size in (13, 1000, len(made)):
        assert read(*pieces(made * 3, size)).duration == pytest.approx(3 * 24_123 / 8000)


@pytest.mark.parametrize(
    ("tag", "channels", "block", "frames"),
    [
        (MS_ADPCM, 1, 256, 500),
        (MS_ADPCM, 2, 512, 500),
        (MS_ADPCM, 1, 7, 2),
        (IMA_ADPCM, 1, 256, 505),
        (IMA_ADPCM, 2, 512, 505),
        (IMA_ADPCM, 1, 4, 1),
        (GSM, 1, 65, 320),
    ],
)
def test_blocks(tag: int, channels: int, block: int, frames: int) -> None:
    for blocks in (0, 1, 3):
        for said in (0, frames, frames + 1, 0xFFFF):
            data = bytes(blocks * block)
            assert count(compressed(tag, data, block=block, said=said, channels=channels)) == blocks * frames
    file = compressed(tag, bytes(3 * block), block=block, channels=channels)
    whole = facts(read(file))
    for size in (1, 3, 7, 60, 65, 1000):
        assert facts(read(*pieces(file, size))) == whole
    for first, second in splits(file):
        assert facts(read(first, second)) == whole
    # Where the length is not known, as many as come.
    for size in (0, 0xFFFFFFFF):
        streamed = bytearray(compressed(tag, bytes(3 * block), block=block, channels=channels, size=size))
        streamed[4:8] = bytes(4)
        assert count(bytes(streamed)) == 3 * frames
        assert count(bytes(streamed), bytes(streamed)) == 6 * frames
        assert count(bytes(streamed[:-1])) == 2 * frames


def test_fewer_frames_in_a_block_than_it_could_hold() -> None:
    assert count(compressed(MS_ADPCM, bytes(512), said=400)) == 800
    assert count(compressed(MS_ADPCM, bytes(512 + 250), said=400)) == 1200


@pytest.mark.parametrize(
    ("tag", "channels", "block", "rest", "frames"),
    [
        (MS_ADPCM, 1, 256, 7, 2),
        (MS_ADPCM, 1, 256, 8, 4),
        (MS_ADPCM, 1, 256, 6, 0),
        (MS_ADPCM, 2, 512, 20, 8),
        (IMA_ADPCM, 1, 256, 4, 1),
        (IMA_ADPCM, 1, 256, 8, 9),
        (IMA_ADPCM, 1, 256, 11, 9),
        (IMA_ADPCM, 2, 512, 24, 17),
        (IMA_ADPCM, 2, 512, 7, 0),
        (GSM, 1, 65, 33, 160),
        (GSM, 1, 65, 32, 0),
    ],
)
def test_a_last_block_that_is_shorter(tag: int, channels: int, block: int, rest: int, frames: int) -> None:
    file = compressed(tag, bytes(block + rest), block=block, channels=channels)
    full = count(compressed(tag, bytes(block), block=block, channels=channels))
    assert full is not None
    assert count(file) == count(file[:-1], file[-1:] + LIST) == full + frames
    assert count(file[:-1]) == full


@pytest.mark.parametrize(
    ("fact", "frames"), [(1500, 1500), (1499, 1499), (1001, 1001), (1000, 1500), (1501, 1500), (0, 1500), (3, 1500)]
)
def test_fact_trims_the_last_block(fact: int, frames: int) -> None:
    file = compressed(MS_ADPCM, bytes(3 * 256), fact=fact)
    assert count(file) == count(*pieces(file, 7)) == frames
    assert count(file[:-1]) == 1000
    assert count(compressed(MS_ADPCM, bytes(3 * 256), fact=fact, size=0xFFFFFFFF)) == 1500


def test_fact_and_a_last_block_that_is_shorter() -> None:
    data = bytes(2 * 256 + 8)  # 1004 frames
    for fact, frames in ((1003, 1003), (505, 505), (504, 1004), (0, 1004)):
        assert count(compressed(MS_ADPCM, data, fact=fact)) == frames
    assert count(compressed(MS_ADPCM, data[-8:], fact=0)) == 4


def test_silence_and_then_what_cannot_be_read_has_no_onset() -> None:
    for tag in (MS_ADPCM, G726, MP3):
        found = read(wav(bytes(4800)), compressed(tag, bytes(512), fact=1000), wav(pcm16(tone(2400))))
        assert (found.onset, found.readable) == (None, False)


@pytest.mark.parametrize("fact", [0, 1, 999, 256_001, 0xFFFFFFFF])
def test_a_fact_that_cannot_be(fact: int) -> None:
    assert count(compressed(G726, bytes(4000), fact=fact)) is None


def test_fact_of_a_codec_that_is_not_read() -> None:
    reader = AudioReader()
    file = compressed(G726, bytes(4000), fact=8000)
    assert [reader.feed(piece) for piece in (file[:60], file[60:2000], file[2000:-1])] == [0.0, None, None]
    assert reader.feed(file[-1:]) is None
    assert reader.feed(LIST) == 0.0
    assert reader.duration == 1.0
    assert count(file[:-1]) is None
    assert count(compressed(G726, b"", fact=0)) is None
    assert read(*[file] * 3).duration == 3.0
    # What was cut off by the next file is as unknown.
    assert read(file[:2000], wav(pcm16(tone(FRAMES)))).duration is None


@pytest.mark.parametrize(
    ("tag", "block", "channels", "bits"),
    [
        (MS_ADPCM, 0, 1, 4),
        (MS_ADPCM, 6, 1, 4),
        (MS_ADPCM, 13, 2, 4),
        (IMA_ADPCM, 3, 1, 4),
        (IMA_ADPCM, 256, 1, 3),
        (GSM, 64, 1, 0),
        (GSM, 65, 2, 0),
        (MS_ADPCM, 256, 0, 4),
    ],
)
def test_blocks_that_cannot_be(tag: int, block: int, channels: int, bits: int) -> None:
    assert count(compressed(tag, bytes(1024), block=block, channels=channels, bits=bits)) is None


def test_mp3_in_wav() -> None:
    frame = b"\xff\xf3\x64\xc0" + bytes(140)  # 24 kHz, 48 kbit/s, mono
    file = compressed(MP3, frame * 5, block=1, fact=4000)
    for size in (1, 3, 143, 144, 145, 1000):
        found = read(*pieces(file, size))
        assert (found.duration, found.sample_rate, found.channels) == (5 * 576 / 24000, 24000, 1)
        assert (found.format, found.readable) == ("wav", False)
    assert read(*pieces(file * 2, 1000)).duration == pytest.approx(10 * 576 / 24000)
    assert read(file[:-1]).duration == 4 * 576 / 24000
    assert read(compressed(MP3, bytes(100_000), block=1)).duration is None
    assert read(compressed(MP3, bytes(100), block=1), file).duration is None
    streamed = compressed(MP3, frame * 5, block=1, size=0xFFFFFFFF)
    assert read(*[streamed] * 3).duration == pytest.approx(15 * 576 / 24000)


def test_samples_of_odd_length_in_a_row() -> None:
    padded = wav(bytes(3), bits=8) + b"\0"
    assert read(padded * 3 + wav(bytes(3), bits=8) * 2).duration == 15 / RATE


@pytest.mark.parametrize(
    "unit",
    [b"abcd\0\0\0\0", b"RIFF\0\0\0\0WAVE", wav(b"")[12:36], wav(b"ab"), b"ds64\x10\0\0\0" + bytes(16)],
)
def test_a_great_many_chunks_of_nothing(unit: bytes) -> None:
    reader = AudioReader()
    reader.feed((b"RIFF\0\0\0\0WAVE" + unit * 10_000)[:65_536])
    assert reader._stream is not None
    assert reader._stream.failed
    assert reader._stream._units < 1000  # type: ignore[attr-defined]


def test_many_small_files_in_a_row() -> None:
    words = wav(bytes(640), rate=16_000)  # 20 ms
    assert read(words * 2000).duration == pytest.approx(40.0)


def test_many_small_files_of_unknown_length() -> None:
    assert read(*[wav(bytes(20), size=0, riff_size=36)] * 1000).duration == pytest.approx(10_000 / RATE)


def test_little_is_held_of_a_stream() -> None:
    for file in (
        compressed(G726, bytes(100_000), size=0xFFFFFFFF),
        compressed(MS_ADPCM, bytes(100_000), block=0xFFFF),
        wav(b"", before=b"LIST" + struct.pack("<I", 1 << 30) + bytes(100_000)),
        wav(b"", before=b"fmt " + struct.pack("<I", 1 << 30) + bytes(100_000)),
    ):
        reader = AudioReader()
        for piece in pieces(file, 10_001):
            reader.feed(piece)
        assert reader._stream is not None
        assert sum(len(value) for value in vars(reader._stream).values() if isinstance(value, bytes)) < 100


CHUNKS = [
    wav(b"", bits=8)[12:36],
    wav(b"", bits=24, channels=2)[12:36],
    compressed(MS_ADPCM, b"")[12:40],
    compressed(IMA_ADPCM, b"", channels=2)[12:40],
    compressed(GSM, b"", block=65)[12:40],
    compressed(G726, b"")[12:40],
    compressed(MP3, b"")[12:40],
    b"fact" + struct.pack("<II", 4, 1000),
    b"data" + struct.pack("<I", 1024) + bytes(1024),
    b"data" + struct.pack("<I", 501) + bytes(502),
    b"data" + struct.pack("<I", 501) + bytes(501),
    b"data" + struct.pack("<I", 0),
    b"data" + struct.pack("<I", 0xFFFFFFFF),
    b"data" + struct.pack("<I", 288) + (b"\xff\xf3\x64\xc0" + bytes(140)) * 2,
    LIST,
]


@given(
    st.lists(st.one_of(st.sampled_from(CHUNKS), st.binary(max_size=60)), max_size=12),
    st.sampled_from([0, 100, 0xFFFFFFFF]),
    st.integers(1, 700),
)
def test_any_chunks_in_any_split(chunks: list[bytes], riff_size: int, size: int) -> None:
    file = b"RIFF" + struct.pack("<I", riff_size) + b"WAVE" + b"".join(chunks)
    assert facts(read(*pieces(file, size))) == facts(read(file))


@given(st.binary(max_size=300), st.integers(0, 60), st.integers(1, 400))
def test_a_broken_header_never_raises(noise: bytes, at: int, size: int) -> None:
    file = bytearray(wav(pcm16(tone(100)), before=LIST))
    file[at : at + len(noise)] = noise
    read(*pieces(bytes(file), size))
