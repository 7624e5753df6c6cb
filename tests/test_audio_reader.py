"""Facts of whatever a backend hands out: arrays, pairs, dicts, objects, bytes, files."""

from __future__ import annotations

import io
import struct
import sys
import tempfile
from array import array
from collections import UserDict
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import MagicMock

import numpy as np
import pytest
from audio_samples import RATE, facts, pcm16, pieces, read, tone, wav
from hypothesis import given
from hypothesis import strategies as st

from ttstrace.audio import AudioReader, whole_array
from ttstrace.audio.arrays import shape_of

N = 2400


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((N,), (N, 1)), ((1, N), (N, 1)), ((N, 1), (N, 1)), ((2, N), (N, 2)), ((N, 2), (N, 2)), ((8, N),
        (N, 8)),
        ((1, 1, N), (N, 1)), ((1, 2, N), (N, 2)), ((1, 5), (5, 1)), ((0,), (0, 1)), ((1, 0), (0, 1)),
        ((0, 2), (0, 2)), ((1,), (1, 1)),
        ((9, N), None), ((2, 4), None), ((), None), ((2, 3, N), None), ((80, 100), None), (("x",), None),
        ((-1,), None), ((10**30,), None), ((None, N), None),
    ],
)  # fmt: skip
def test_shapes(shape: tuple[Any, ...], expected: tuple[int, int] | None) -> None:
    found = shape_of(shape)
    assert (found and (found.frames, found.channels)) == expected


@pytest.mark.parametrize(
    ("dtype", "name", "width"),
    [
        ("int16", "pcm_s16le", 2), (">i2", "pcm_s16be", 2), ("int32", "pcm_s32le", 4), ("float32",
        "pcm_f32le", 4),
        ("float64", "pcm_f64le", 8), ("float16", "pcm_f16le", 2), ("uint8", "pcm_u8", 1), ("int8",
        "pcm_s8", 1),
    ],
)  # fmt: skip
def test_arrays(dtype: str, name: str, width: int) -> None:
    for shape, channels in (((N,), 1), ((1, N), 1), ((2, N), 2), ((N, 2), 2), ((1, 1, N), 1)):
        silence = np.full(shape, 128 if dtype == "uint8" else 0, dtype)
        found = read(silence, rate=RATE)
        expected = (0.1, RATE, channels, name, N * channels * width, None, True)
        assert facts(found) == expected
        thrice = read(silence, silence, silence, rate=RATE)
        assert (thrice.duration, thrice.size) == (pytest.approx(0.3), 3 * expected[4])


class Foreign:
    """An array that can be asked for nothing but its outside."""

    def __init__(self, shape: object, dtype: object) -> None:
        self.shape = shape
        self.dtype = dtype


class TorchDtype:
    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return f"torch.{self._name}"


def test_anything_with_shape_and_dtype() -> None:
    found = read(Foreign((1, N), TorchDtype("float32")), rate=RATE)
    assert facts(found) == (0.1, RATE, 1, "pcm_f32le", N * 4, None, False)
    assert read(Foreign([N], TorchDtype("bfloat16")), rate=RATE).format == "pcm_bf16le"
    assert read(Foreign((N,), "complex64"), rate=RATE).duration is None
    assert read(Foreign((80, 100), "float32"), rate=RATE).duration is None
    assert read(np.array([None, 1]), rate=RATE).duration is None
    assert read(np.zeros(N, bool), rate=RATE).duration is None
    assert read(np.float32(1.0), rate=RATE).duration is None


def test_a_stream_changes_its_kind_of_chunk() -> None:
    reader = AudioReader(RATE, onset=False)
    chunks = [
        np.zeros(N, np.float32), np.zeros(N, np.float32), np.zeros((1, N), np.float32), np.zeros((1, N),
        np.float32),
        np.zeros(N, np.int16), np.zeros(N, np.int16), [0.0] * N, pcm16([0.0] * N), np.zeros(0, np.int16),
        (np.zeros(N, np.int16), RATE), (np.zeros(N, np.int16), RATE), (np.zeros(N, np.int16), RATE * 2),
        (np.zeros(N, np.int16), RATE), None, b"", np.zeros((N, 2), np.float32), np.zeros((N // 2, 2),
        np.float32),
        np.zeros((4, 2), np.float32), np.zeros((2, N), np.float32),
    ]  # fmt: skip
    known = [0.1] * 7 + [None] + [0.0, 0.1, 0.1, 0.05, 0.1, 0.0, 0.0, 0.1, 0.05, 4 / RATE, 0.1]
    assert [reader.feed(chunk) for chunk in chunks] == known
    assert reader.duration is None
    assert reader.size is None
    sized = AudioReader(RATE, onset=False)
    for chunk in (chunks[0], chunks[1], chunks[0], chunks[2], chunks[2]):
        sized.feed(chunk)
    assert sized.size == 5 * N * 4
    del chunks[7], known[7]
    assert read(*chunks, rate=RATE).duration == pytest.approx(sum(filter(None, known)))


def test_numbers() -> None:
    assert facts(read([0.0] * N, rate=RATE)) == (0.1, RATE, 1, None, None, None, True)
    assert read(list(np.zeros(N, np.float32)), rate=RATE).duration == 0.1
    assert read([0] * N, rate=RATE).duration == 0.1
    assert read([], rate=RATE).duration == 0.0
    assert read(["a", "b"], rate=RATE).duration is None
    assert read([True] * N, rate=RATE).duration is None
    assert facts(read(array("h", [0] * N), rate=RATE)) == (0.1, RATE, 1, "pcm_s16le", N * 2, None, True)
    assert facts(read(array("f", [0] * N), rate=RATE))[3:5] == ("pcm_f32le", N * 4)
    assert read(array("B", [128] * N), rate=RATE).duration == 0.1
    assert facts(read(memoryview(array("h", [0] * N)), rate=RATE))[:4] == (0.1, RATE, 1, "pcm_s16le")
    broken: list[Any] = [0.0] * N
    broken[100] = "x"
    assert facts(read(broken, rate=RATE)) == (0.1, RATE, 1, None, None, None, False)


def test_octets_that_are_a_file() -> None:
    file = wav(pcm16(tone(N)))
    for value in (np.frombuffer(file, np.uint8), array("B", file), memoryview(file), bytearray(file)):
        assert facts(read(value)) == facts(read(file))
    data = np.frombuffer(pcm16(tone(N)), np.uint8)
    assert read(data, rate=RATE, format="pcm").duration == 0.1
    assert read(data[::2], rate=RATE, format="pcm_u8").duration == 0.1
    assert read(memoryview(file)[::2]).duration is None


def test_pairs() -> None:
    audio = np.zeros(N, np.float32)
    for pair in (
        (audio, RATE),
        (RATE, audio),
        (audio, float(RATE)),
        (np.int64(RATE), audio),
        (audio, RATE, "spec"),
    ):
        assert facts(read(pair))[:2] == (0.1, RATE)
        assert facts(read(pair, rate=8000))[:2] == (0.1, RATE)
    for pair in ((), (audio, audio), (512, None), ("text", None)):
        assert read(pair, rate=RATE).duration is None
    assert read((pcm16(tone(N)), RATE), format="pcm").duration == 0.1
    reader = AudioReader(onset=False)
    assert [reader.feed(pair) for pair in ((audio, RATE), (audio, RATE), (audio, audio))] == [0.1, 0.1, None]


def test_dicts() -> None:
    audio = np.zeros((1, N), np.float32)
    assert read({"audio": audio, "sampling_rate": RATE}).duration == 0.1
    assert read(UserDict({"waveform": audio, "sr": RATE})).duration == 0.1
    assert read({"tts_speech": audio}, rate=RATE).duration == 0.1
    assert read({"type": "audio", "data": pcm16(tone(N))}, rate=RATE, format="pcm").duration == 0.1
    assert read({"type": "WordBoundary"}, rate=RATE).duration is None


class PiperChunk:
    sample_rate = RATE
    sample_width = 2
    sample_channels = 1

    def __init__(self, frames: int) -> None:
        self.audio_float_array = np.zeros(frames, np.float32)

    @property
    def audio_int16_array(self) -> object:
        raise AssertionError("computed")

    audio_int16_bytes = audio_int16_array


class Frame(NamedTuple):
    data: memoryview
    sample_rate: int
    num_channels: int


class Carrier:
    def __init__(self, **attributes: object) -> None:
        vars(self).update(attributes)


def test_objects() -> None:
    assert facts(read(PiperChunk(N), PiperChunk(N))) == (0.2, RATE, 1, "pcm_f32le", N * 8, None, True)
    assert read(Carrier(samples=[0.0] * N, sample_rate=RATE)).duration == 0.1
    assert read(Carrier(wav=np.zeros(N), sr=RATE)).duration == 0.1
    assert read(Carrier(audio_content=wav(pcm16(tone(N))))).duration == 0.1
    assert read(Carrier(audio=pcm16(tone(N)), sample_rate=RATE, num_channels=2), format="pcm").duration == 0.05
    stereo = Carrier(data=memoryview(array("h", [0] * N)), sample_rate=RATE, num_channels=2)
    assert facts(read(stereo, stereo))[:3] == (0.1, RATE, 2)
    planar = Carrier(audio=np.zeros(N, np.float32), sample_rate=RATE, channels=2)
    bare = np.zeros(N, np.float32)
    mixed = AudioReader(RATE, onset=False)
    assert [mixed.feed(chunk) for chunk in (planar, bare, planar, bare, bare)] == [0.05, 0.1, 0.05, 0.1, 0.1]
    assert mixed.size == 5 * N * 4
    assert read(Carrier(data=bare), rate=RATE).duration is None
    assert read(Carrier(audio=None, sample_rate=RATE)).size is None
    assert AudioReader(RATE).feed(Carrier(audio=None)) == 0.0


def test_the_end_is_the_end() -> None:
    reader = AudioReader(RATE, "mp3")
    for chunk in (b"", b"ID3\x04\x00\x00\x00\x00\x00\x0fno audio at all"):
        reader.feed(chunk)
    reader.finish()
    once = facts(reader)
    assert once[0] is None
    reader.finish()
    assert facts(reader) == once


def test_nothing_is_nothing() -> None:
    reader = AudioReader(RATE, "pcm")
    assert reader.feed(None) == 0.0
    reader.finish()
    assert facts(reader) == (None, RATE, None, None, None, None, False)


class Hostile:
    def __getattr__(self, name: str) -> object:
        raise RuntimeError(name)


class Endless:
    def __init__(self) -> None:
        self.audio = self


@pytest.mark.parametrize(
    "value",
    [
        Hostile(), Endless(), MagicMock(), MagicMock(spec=io.BytesIO), object(), "text", 17, 1.5, True, int,
        Foreign(Hostile(), Hostile()), Foreign((N,), Hostile()), Foreign(MagicMock(), MagicMock()), {1, 2},
        iter([]),
        {"audio": Hostile()}, ((((b"",), RATE), RATE), RATE), io.StringIO("text"), {"text": object()}, type("X", (),
        {"audio": 3})(),
    ],
    ids=map(str, range(19)),
)  # fmt: skip
def test_what_is_no_audio_is_unknown(value: object) -> None:
    reader = AudioReader(RATE, "pcm")
    assert reader.feed(value) is None
    reader.finish()
    assert (reader.duration, reader.size) == (None, None)
    reader.feed(pcm16(tone(N)))
    assert reader.duration is None  # a part of it stays unknown


def test_raw_samples() -> None:
    data = pcm16(tone(N, silence=480))
    whole = facts(read(data, rate=RATE, format="pcm_s16le"))
    assert whole == (0.1, RATE, 1, "pcm_s16le", N * 2, 0.02, True)
    for size in (1, 2, 3, 5, 999):
        assert facts(read(*pieces(data, size), rate=RATE, format="pcm_s16le")) == whole
        assert facts(read(*map(bytearray, pieces(data, size)), rate=RATE, format="pcm")) == whole
        assert facts(read(*map(memoryview, pieces(data, size)), format="pcm_24000")) == whole
    assert read(data, rate=RATE, format="pcm_f32le").duration == 0.05
    assert read(data, format="raw-24khz-16bit-stereo-pcm").duration == 0.05
    assert read(data, rate=8000, format="ulaw_8000").duration == 0.6
    assert read(data, format="mulaw", rate=8000).duration == 0.6
    assert read(b"", rate=RATE, format="pcm").duration == 0.0
    assert read(b"RIFF", rate=RATE, format="pcm").duration == 2 / RATE
    assert read(b"R", b"IFFER" * 20, rate=RATE, format="pcm").duration == 50 / RATE
    assert read(data, format="pcm").duration is None
    # Any samples may begin so: what was declared holds.
    for begin in (b"\xff\xfb\x90\x00", b"ID3\x04\0\0\0\0\0\0", b"fLaC", b"OggS"):
        found = read(begin + bytes(100 - len(begin)), rate=RATE, format="pcm")
        assert (found.duration, found.format) == (50 / RATE, "pcm_s16le")


def test_raw_samples_without_a_format_are_unknown() -> None:
    reader = AudioReader(RATE)
    assert reader.feed(pcm16(tone(N))) is None
    assert facts(reader) == (None, RATE, None, None, N * 2, None, False)
    assert reader.feed(b"") == 0.0


@pytest.mark.parametrize(
    ("data", "name"),
    [(b"fLaC" + bytes(100), "flac"), (b"OggS" + bytes(100), "ogg"), (b"FORM\0\0\0\0AIFF" + bytes(9), "aiff")],
)
def test_other_containers_have_a_name_and_a_size(data: bytes, name: str) -> None:
    assert facts(read(data)) == (None, None, None, name, len(data), None, False)
    assert facts(read(*pieces(data, 1))) == facts(read(data))
    assert read(bytes(range(1, 100)), format="opus").format == "opus"


def test_a_rate_that_comes_late() -> None:
    reader = AudioReader()
    assert reader.feed(np.zeros(N, np.float32)) is None
    assert reader.feed(np.zeros(N, np.float32)) is None
    assert facts(reader)[:5] == (None, None, 1, "pcm_f32le", N * 8)
    reader.sample_rate = RATE
    reader.finish()
    assert (reader.duration, reader.sample_rate) == (0.2, RATE)
    # What the audio itself says wins over what is declared, whenever.
    reader = read((np.zeros(N, np.float32), RATE))
    reader.sample_rate = 8000
    assert (reader.duration, reader.sample_rate) == (0.1, RATE)
    assert AudioReader(3).sample_rate is None


def test_the_rate_changes_on_the_way() -> None:
    reader = AudioReader(8000)
    assert reader.feed(np.zeros(800)) == 0.1
    assert reader.feed((np.zeros(1600), 16000)) == 0.1
    assert reader.feed(np.zeros(1600)) == 0.1
    assert reader.duration == pytest.approx(0.3)
    assert reader.sample_rate == 16000
    assert not reader.readable


class Counting(io.BytesIO):
    read_bytes = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.read_bytes += len(data)
        return data


def test_files_are_looked_at_in_place() -> None:
    file = Counting(wav(bytes(20_000_000), after=b"LIST" + struct.pack("<I", 4) + b"INFO"))
    for position in (0, 7, len(file.getvalue())):
        file.seek(position)
        file.read_bytes = 0
        found = read(file)
        assert (found.duration, found.size) == (10_000_000 / RATE, len(file.getvalue()))
        assert file.tell() == position
        assert file.read_bytes < 10_000
    raw = Counting(bytes(2_000_001))
    assert read(raw, format="pcm_24000").duration == 1_000_000 / RATE
    assert raw.read_bytes < 10_000
    assert read(io.BytesIO(b""), rate=RATE, format="pcm").duration == 0.0
    assert read(io.BytesIO(wav(pcm16(tone(N)), size=0, riff_size=0))).duration == 0.1
    assert read(*[io.BytesIO(wav(pcm16(tone(N))))] * 3).duration == pytest.approx(0.3)


def test_open_files(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(wav(pcm16(tone(N))))
    with path.open("rb") as file:
        file.seek(3)
        assert read(file).duration == 0.1
        assert file.tell() == 3
    with tempfile.SpooledTemporaryFile() as spooled:
        spooled.write(path.read_bytes())
        # Before Python 3.11 it does not say that it can seek, and what does not is not read.
        assert read(spooled).duration == (0.1 if sys.version_info >= (3, 11) else None)


def test_a_file_that_cannot_seek_is_not_read() -> None:
    class Pipe(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise AssertionError("read")

    assert read(Pipe(), rate=RATE, format="pcm").duration is None

    class Stuck(io.BytesIO):
        def seekable(self) -> bool:
            return False

    stuck = Stuck(wav(pcm16(tone(N))))
    assert read(stuck).duration is None

    class Lying(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return b""

    assert read(Lying(wav(pcm16(tone(N))))).duration is None


def test_little_is_held_of_a_stream() -> None:
    reader = AudioReader(RATE, "pcm")
    for piece in pieces(bytes(1_000_001), 1001):
        reader.feed(piece)
    assert len(reader._stream._carry) < 2  # type: ignore[union-attr]
    reader = AudioReader()
    reader.feed(wav(b"", channels=32767, rate=65536, bits=16, size=0xFFFFFFFF))
    reader.feed(bytes(65_533))
    assert not reader._stream.pcm._carry  # type: ignore[union-attr]
    assert not reader.readable


@given(
    st.one_of(
        st.binary(max_size=400),
        st.builds(
            lambda magic, rest: magic + rest,
            st.sampled_from([b"RIFF\0\0\0\0WAVE", b"ID3\x03\0\0\0\0\0\x05", b"\xff\xf3\x64\xc0", b"OggS", b"RF64"]),
            st.binary(max_size=400),
        ),
    ),
    st.sampled_from([None, "pcm", "pcm_f32le", "pcm_s24be", "mulaw", "pcm_f16le", "mp3", "wav", "flac", "nonsense"]),
    st.sampled_from([None, 8000, 0]),
    st.data(),
)
def test_any_bytes_in_any_split(data: bytes, format: str | None, rate: int | None, draw: st.DataObject) -> None:
    size = draw.draw(st.integers(1, 100))
    assert facts(read(*pieces(data, size), format=format, rate=rate)) == facts(read(data, format=format, rate=rate))


@given(st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.binary(max_size=50),
    st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.tuples(inner, inner),
        st.dictionaries(st.sampled_from(["audio", "sampling_rate", "channels", "data"]), inner, max_size=4),
    ),
))  # fmt: skip
def test_any_value(value: object) -> None:
    reader = AudioReader(8000, "pcm")
    seconds = reader.feed(value)
    reader.finish()
    assert seconds is None or seconds >= 0.0


@pytest.mark.parametrize(
    "dtype", ["i1", "u1", "<i2", ">i2", "u2", "i4", "u4", "i8", "f2", "f4", ">f4", "f8", "?", "c8", "O"]
)
@pytest.mark.parametrize("shape", [(0,), (1,), (2400,), (1, 2400), (2, 2400), (2400, 2), (3, 4, 5), ()])
@pytest.mark.parametrize("rate", [None, RATE])
def test_the_short_way_for_whole_arrays_says_what_the_reader_says(
    dtype: str, shape: tuple[int, ...], rate: int | None
) -> None:
    array = np.zeros(shape, dtype)
    short = whole_array(array, rate)
    reader = AudioReader(rate, onset=False)
    reader.feed(array)
    reader.finish()
    if short is not None:
        assert short == (reader.duration, reader.sample_rate, reader.channels, reader.format, reader.size)
    else:
        assert len(shape) != 1 or dtype in ("u1", "?", "c8", "O")


@pytest.mark.parametrize("make", [lambda data: np.frombuffer(data, np.uint8), lambda data: array("B", data)])
def test_octets_in_an_array_that_are_encoded(make: Any) -> None:
    """Of a format whose first bytes are no long mark, too; what begins like none is samples."""
    frames = (bytes([0xFF, 0xF3, 0x64, 0xC0]) + bytes(140)) * 10
    assert facts(read(make(frames), rate=RATE))[:4] == (pytest.approx(0.24), RATE, 1, "mp3")
    assert read(make(b'{"error": "no quota left"}'), rate=RATE).duration is None
    for begin in (b"", b"\xff", b"<", b'{"', b"\xff\xff\xff\xff"):
        samples = begin + bytes([128]) * (N - len(begin))
        assert facts(read(make(samples), rate=RATE))[:4] == (0.1, RATE, 1, "pcm_u8")


def test_a_buffer_is_let_go_of() -> None:
    """Whoever keeps a view of the program's own buffer keeps it from being resized."""
    frames = (bytes([0xFF, 0xF3, 0x64, 0xC0]) + bytes(140)) * 10
    for data, format in ((wav(pcm16(tone(N))), None), (frames, None), (pcm16(tone(N)), "pcm"), (b'{"audio": "', None)):
        for size in (7, 100, 1001):
            reader = AudioReader(RATE, format)
            for piece in pieces(data, size):
                for buffer in (bytearray(piece), array("B", piece)):
                    reader.feed(buffer)
                    buffer.append(0)  # BufferError, where it is kept


def test_the_short_way_leaves_octets_to_the_reader() -> None:
    assert whole_array(np.frombuffer(wav(pcm16(tone(N))), np.uint8), RATE) is None


def test_the_channels_are_those_that_came_first() -> None:
    assert read(np.zeros(N), np.zeros((2, N)), rate=RATE).channels == 1
    assert read(wav(pcm16(tone(2 * N)), channels=2), wav(pcm16(tone(N)))).channels == 2


def test_no_onset_is_looked_for_in_files() -> None:
    """Their samples are passed over."""
    found = read(io.BytesIO(pcm16(tone(N))), np.asarray(tone(N)), rate=RATE, format="pcm")
    assert (found.duration, found.onset, found.readable) == (0.2, None, False)
