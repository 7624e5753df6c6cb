"""AIFF and AIFF-C of every layout, whole and split at every byte, with lengths that are true, unknown or wrong."""

from __future__ import annotations

import io
import struct

import pytest
from audio_samples import RATE, facts, pcm16, pieces, read, splits, tone
from ffmpeg import decoded, encode, needs, needs_ffmpeg
from hypothesis import given
from hypothesis import strategies as st
from sox import sox

from ttstrace.audio import AudioReader

FRAMES = 1201
NAME = b"NAME" + struct.pack(">I", 3) + b"abc\0"


def extended(rate: int) -> bytes:
    """An 80-bit float."""
    bits = max(rate.bit_length(), 1)
    return struct.pack(">HQ", 16383 + bits - 1, rate << (64 - bits))


def comm(
    frames: int,
    *,
    compression: bytes | None = None,
    bits: int = 16,
    channels: int = 1,
    rate: bytes = extended(RATE),
    name: bytes = b"\x03abc",
) -> bytes:
    body = struct.pack(">HIH", channels, frames, bits) + rate
    if compression is not None:
        body += compression + name
    return b"COMM" + struct.pack(">I", len(body)) + body + bytes(len(body) & 1)


def ssnd(data: bytes, *, size: int | None = None, offset: int = 0) -> bytes:
    """A chunk of samples; `size` is what its header claims instead of the truth."""
    chunk = b"SSND" + struct.pack(">III", len(data) + 8 + offset if size is None else size, offset, 0)
    return chunk + b"\x7f" * offset + data + bytes(len(data) + offset & 1)


def form(*chunks: bytes, size: int | None = None, kind: bytes = b"AIFF") -> bytes:
    body = kind + b"".join(chunks)
    return b"FORM" + struct.pack(">I", len(body) if size is None else size) + body


def aiff(data: bytes, compression: bytes | None = None, *, frames: int = FRAMES, **common: int) -> bytes:
    kind = b"AIFF" if compression is None else b"AIFC"
    return form(comm(frames, compression=compression, **common), ssnd(data), kind=kind)  # type: ignore[arg-type]


def big16(values: list[float]) -> bytes:
    return struct.pack(f">{len(values)}h", *(round(value * 32767) for value in values))


def count(*chunks: bytes) -> float | None:
    """Frames."""
    duration = read(*chunks).duration
    return None if duration is None else round(duration * RATE, 6)


@pytest.mark.parametrize(
    ("compression", "bits", "width"),
    [
        (None, 8, 1),
        (None, 12, 2),
        (None, 16, 2),
        (None, 24, 3),
        (None, 32, 4),
        (b"NONE", 16, 2),
        (b"twos", 8, 1),
        (b"twos", 16, 2),
        (b"sowt", 8, 1),
        (b"sowt", 16, 2),
        (b"sowt", 24, 3),
        (b"raw ", 8, 1),
        (b"raw ", 16, 2),
        (b"in24", 16, 3),
        (b"in32", 16, 4),
        (b"fl32", 32, 4),
        (b"FL32", 16, 4),
        (b"fl64", 64, 8),
        (b"FL64", 64, 8),
        (b"ulaw", 16, 1),
        (b"ULAW", 8, 1),
        (b"alaw", 16, 1),
        (b"ALAW", 8, 1),
        (b"NONE", 40, 5),
    ],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_every_layout(compression: bytes | None, bits: int, width: int, channels: int) -> None:
    file = aiff(bytes(FRAMES * channels * width), compression, bits=bits, channels=channels) + NAME
    found = read(file)
    assert (found.duration, found.sample_rate) == (FRAMES / RATE, RATE)
    assert (found.channels, found.format, found.size) == (channels, "aiff", len(file))
    assert found.readable == (bits != 40)


@needs_ffmpeg
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    "codec",
    [
        "pcm_s8", "pcm_u8", "pcm_s16be", "pcm_s24be", "pcm_s32be", "pcm_f32be", "pcm_f64be", "pcm_s16le",
        "pcm_mulaw", "pcm_alaw", "adpcm_ima_qt",
    ],
)  # fmt: skip
def test_as_ffmpeg_writes_it(codec: str, channels: int) -> None:
    made = encode("-c:a", codec, suffix="aiff", seconds=1.1, channels=channels)
    found = read(*pieces(made, 1111))
    assert found.duration == pytest.approx(decoded(made, "aiff")[0], abs=1e-9)
    assert (found.sample_rate, found.channels, found.format) == (RATE, channels, "aiff")
    assert found.readable == (codec != "adpcm_ima_qt")
    assert found.onset == (0.0 if found.readable else None)
    piped = encode("-c:a", codec, suffix="aiff", seconds=1.1, channels=channels, piped=True)
    assert piped[4:8] == bytes(4)
    assert read(*pieces(piped, 1111)).duration == found.duration


@needs("sox", "ffmpeg")
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    "options", [["-b", "8"], ["-b", "16"], ["-b", "24"], ["-e", "floating-point", "-b", "32"]], ids=str
)
def test_as_sox_writes_it(options: list[str], channels: int) -> None:
    for suffix in ("aiff", "aifc"):
        if suffix == "aiff" and "-e" in options:
            continue
        made = sox(*options, suffix=suffix, channels=channels)
        assert read(made).duration == 24_123 / 8000 == pytest.approx(decoded(made, suffix)[0])
        piped = sox(*options, suffix=suffix, channels=channels, piped=True)
        assert piped[4:5] == b"\x7f"
        # A byte that pads is not told apart from a sample of one byte.
        assert read(*pieces(piped, 1000)).duration == pytest.approx(24_123 / 8000, abs=1.01 / 8000)


@pytest.mark.parametrize(
    "file",
    [
        form(NAME, comm(1800), NAME, ssnd(big16(tone(1800, silence=480))), NAME),
        form(comm(1800), ssnd(big16(tone(1800, silence=480)), offset=5)),
        form(comm(0), ssnd(big16(tone(1800, silence=480)), size=0), size=0),
        form(
            comm(1800, compression=b"sowt"),
            ssnd(pcm16(tone(1800, silence=480)), size=0xFFFFFFFF),
            size=0xFFFFFFFF,
            kind=b"AIFC",
        ),
        form(comm(481, bits=8), ssnd(bytes(481)), NAME) + form(comm(1441, bits=8), ssnd(bytes([90, 166] * 720 + [90]))),
        form(comm(1500, compression=b"fl32", bits=32), ssnd(b"".join(struct.pack(">f", v) for v in tone(1500))),
             kind=b"AIFC"),
    ],
)  # fmt: skip
def test_split_at_every_byte(file: bytes) -> None:
    whole = facts(read(file))
    assert whole[0] is not None
    assert whole[5] is not None
    for first, second in splits(file[:200], 1):
        assert facts(read(first, second + file[200:])) == whole
    for first, second in splits(file, 7):
        assert facts(read(first, second)) == whole
    for size in (1, 2, 3, 5, 53, 54, 55, 1000):
        assert facts(read(*pieces(file, size))) == whole


def test_the_header_is_no_audio() -> None:
    reader = AudioReader()
    assert [reader.feed(byte) for byte in pieces(aiff(big16(tone(10))), 1)[:54]] == [0.0] * 54
    assert reader.sample_rate == RATE
    assert reader.feed(b"\0") == 0.0
    assert reader.feed(b"\0") == 1 / RATE


@pytest.mark.parametrize("size", [0, 8, 0xFFFFFFFF, 0x7FFFFFFF, 0x7F000008])
@pytest.mark.parametrize("form_size", [0, 46, 0xFFFFFFFF, 0x7F000050])
def test_a_length_that_was_not_known(size: int, form_size: int) -> None:
    file = form(comm(0), ssnd(big16(tone(FRAMES)), size=size), size=form_size)
    assert count(file) == FRAMES
    assert count(file, file, file) == 3 * FRAMES
    assert count(file[:54], file[54:], file[:54], file[54:]) == 2 * FRAMES


def test_pieces_that_begin_files_of_unknown_length() -> None:
    """Also where samples are only counted, once the onset is found."""
    file = form(comm(0), ssnd(big16(tone(2400, silence=240)), size=0), size=0)
    reader = read(*[file] * 6)
    assert (reader.duration, reader.onset) == (pytest.approx(0.6), 0.01)


def test_what_was_cut_off_does_not_count() -> None:
    file = aiff(big16(tone(FRAMES)))
    assert count(file[:-201]) == FRAMES - 101
    assert count(file[:54]) == count(file[:50]) == 0
    # Without samples it is as good as a file whose samples were still to come, but for a header that is not whole.
    for length in (4, 12, 20, 37):
        assert facts(read(file[:length]))[:2] == (None, None)


def test_what_follows_the_samples_does_not_count() -> None:
    assert count(aiff(big16(tone(FRAMES))) + b"junk" * 100) == FRAMES
    assert count(aiff(big16(tone(FRAMES))) + b"\xff\x00\x80\x81" * 100) == FRAMES


def test_empty() -> None:
    empty = read(aiff(b"", frames=0))
    assert (empty.duration, empty.sample_rate, empty.size) == (0.0, RATE, 54)
    assert count(form(comm(0), ssnd(b""), NAME * 10)) == 0
    assert count(form(comm(0))) == 0


def test_samples_before_what_says_what_they_are() -> None:
    data = big16(tone(FRAMES))
    reader = AudioReader()
    file = form(ssnd(data, offset=2), comm(FRAMES))
    assert [reader.feed(piece) for piece in (file[:32], file[32:1000], file[1000:-20])] == [None, None, None]
    assert reader.feed(file[-20:]) == FRAMES / RATE
    assert (reader.duration, reader.readable, reader.sample_rate) == (FRAMES / RATE, False, RATE)
    whole = facts(read(file))
    for size in (1, 3, 7, 1000):
        assert facts(read(*pieces(file, size))) == whole
    assert count(file[:-1]) is None
    assert count(form(ssnd(data), NAME)) is None
    assert count(form(ssnd(data, size=0), comm(FRAMES), size=0)) is None
    assert count(form(ssnd(b""), NAME, comm(0))) == 0
    assert count(file * 3) == 3 * FRAMES
    for compression, size, frames in ((b"ima4", 340, 640), (b"abcd", 340, FRAMES), (b"abcd", 17, None)):
        late = form(ssnd(bytes(size)), comm(FRAMES, compression=compression), kind=b"AIFC")
        assert count(late) == frames


@pytest.mark.parametrize(
    ("compression", "packet", "frames"), [(b"ima4", 34, 64), (b"GSM ", 33, 160), (b"MAC3", 2, 6), (b"MAC6", 1, 6)]
)
@pytest.mark.parametrize("channels", [1, 2])
def test_packets(compression: bytes, packet: int, frames: int, channels: int) -> None:
    packet *= channels
    # Whatever is called a frame, packets are counted.
    for said in (0, 5, 5 * frames, 0xFFFFFFFF):
        file = aiff(bytes(5 * packet), compression, frames=said, bits=0, channels=channels)
        found = read(file)
        assert found.duration == pytest.approx(5 * frames / RATE)
        assert (found.channels, found.readable) == (channels, False)
        for size in (1, 3, 7, packet, 1000):
            assert facts(read(*pieces(file, size))) == facts(found)
    begin = file.index(b"SSND") + 16
    assert count(file[: begin + 5 * packet - 1]) == 4 * frames


def test_a_codec_that_is_not_read() -> None:
    # So many frames can be so many bytes.
    for frames in (1000, 4000, 8000, 256_000):
        file = aiff(bytes(4000), b"abcd", frames=frames)
        assert count(file) == count(*pieces(file, 7)) == frames
        assert count(file[:-1]) is None
    # Packets, nothing, or nonsense.
    for frames in (0, 1, 999, 256_001, 0xFFFFFFFF):
        assert count(aiff(bytes(4000), b"abcd", frames=frames)) is None
    file = form(comm(4000, compression=b"abcd"), ssnd(bytes(4000), size=0), size=0, kind=b"AIFC")
    assert count(file) is None
    found = read(aiff(bytes(4000), b"abcd"))
    assert (found.sample_rate, found.format, found.readable) == (RATE, "aiff", False)


def test_several_in_a_row() -> None:
    one, two = aiff(big16(tone(2400))), aiff(pcm16(tone(1600)), b"sowt", frames=1600)
    assert count(one, one, two) == 6400
    for first, second in splits(one + two, 11):
        assert count(first, second) == 4000
    odd = form(comm(3, bits=8), ssnd(bytes(3)))
    assert count(odd * 3 + odd[:-1] + odd) == 15  # padded as it should be, or not


@pytest.mark.parametrize(
    ("rate", "found"),
    [
        (extended(8000), 8000),
        (extended(44100), 44100),
        (extended(384_000), 384_000),
        (bytes.fromhex("400daddd1745d1746000"), 22255),  # 22254.5454 Hz, of the first Macintosh
        (bytes.fromhex("400caddd1745d1746000"), 11127),  # 11127.2727
        (extended(0), None),
        (bytes(10), None),
        (b"\xff" * 10, None),
        (bytes.fromhex("c00dbb80000000000000"), None),  # negative
        (bytes.fromhex("7fff8000000000000000"), None),  # infinite
        (extended(384_001), None),
    ],
)
def test_rates(rate: bytes, found: int | None) -> None:
    file = form(comm(FRAMES, rate=rate), ssnd(big16(tone(FRAMES))))
    assert read(file).sample_rate == found
    assert read(file).duration == (None if found is None else FRAMES / found)
    assert read(file, rate=8000).sample_rate == (found or 8000)


@pytest.mark.parametrize("offset", [4001, 0xFFFFFFFF])
@pytest.mark.parametrize("size", [4008, 0])
def test_samples_that_begin_after_their_end(offset: int, size: int) -> None:
    chunk = b"SSND" + struct.pack(">III", size, offset, 0) + bytes(4000)
    assert count(form(comm(2000), chunk, size=0)) is None


def test_no_channels_and_no_bits() -> None:
    assert count(form(comm(0, channels=0), ssnd(bytes(100)))) is None
    assert count(form(comm(0, bits=0), ssnd(bytes(100)))) is None
    assert count(form(comm(0, bits=65), ssnd(bytes(100)))) is None


def test_a_compression_that_aiff_does_not_have() -> None:
    """Only AIFF-C says how samples are compressed; what else follows in an AIFF means nothing."""
    assert count(form(comm(50, compression=b"ima4"), ssnd(bytes(100)))) == 50


def test_a_file_is_not_read_to_its_end() -> None:
    class Counting(io.BytesIO):
        taken = 0

        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            self.taken += len(data)
            return data

    file = Counting(form(comm(10_000_000), ssnd(bytes(20_000_000)), NAME))
    assert read(file).duration == 10_000_000 / RATE
    assert file.taken < 10_000


@pytest.mark.parametrize(
    "unit",
    [
        b"abcd\0\0\0\0",
        b"FORM\0\0\0\0AIFF",
        comm(0),
        comm(1) + ssnd(b"ab"),
        aiff(b"ab", frames=1),
    ],
)
def test_a_great_many_chunks_of_nothing(unit: bytes) -> None:
    reader = AudioReader()
    reader.feed((b"FORM\0\0\0\1AIFC" + unit * 10_000)[:65_536])
    assert reader._stream is not None
    assert reader._stream.failed
    assert reader._stream._units < 1000  # type: ignore[attr-defined]


def test_little_is_held_of_a_stream() -> None:
    for file in (
        form(ssnd(bytes(100_000))),
        form(comm(0, compression=b"abcd"), ssnd(bytes(100_000)), kind=b"AIFC"),
        form(comm(0, channels=0xFFFF, compression=b"ima4"), ssnd(bytes(100_000)), kind=b"AIFC"),
        form(b"COMM" + struct.pack(">I", 1 << 30) + bytes(100_000)),
        form(b"NAME" + struct.pack(">I", 1 << 30) + bytes(100_000)),
    ):
        reader = AudioReader()
        for piece in pieces(file, 10_001):
            reader.feed(piece)
        assert reader._stream is not None
        assert sum(len(value) for value in vars(reader._stream).values() if isinstance(value, bytes)) < 100


CHUNKS = [
    comm(500),
    comm(500, bits=8, channels=2),
    comm(500, compression=b"ima4"),
    comm(500, compression=b"abcd"),
    comm(500, compression=b"fl64"),
    comm(500, channels=0),
    ssnd(bytes(1024)),
    ssnd(bytes(501)),
    ssnd(bytes(501))[:-1],
    ssnd(bytes(501), offset=30),
    ssnd(b""),
    ssnd(b"", size=0xFFFFFFFF),
    ssnd(b"", size=3),
    NAME,
]


@given(
    st.lists(st.one_of(st.sampled_from(CHUNKS), st.binary(max_size=60)), max_size=12),
    st.sampled_from([0, 100, 0xFFFFFFFF]),
    st.sampled_from([b"AIFF", b"AIFC"]),
    st.integers(1, 700),
)
def test_any_chunks_in_any_split(chunks: list[bytes], form_size: int, kind: bytes, size: int) -> None:
    file = form(*chunks, size=form_size, kind=kind)
    assert facts(read(*pieces(file, size))) == facts(read(file))


@given(st.binary(max_size=300), st.integers(0, 70), st.integers(1, 400))
def test_a_broken_header_never_raises(noise: bytes, at: int, size: int) -> None:
    file = bytearray(form(NAME, comm(100, compression=b"NONE"), ssnd(big16(tone(100))), kind=b"AIFC"))
    file[at : at + len(noise)] = noise
    read(*pieces(bytes(file), size))
