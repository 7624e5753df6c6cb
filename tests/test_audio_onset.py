"""Onset of speech: leading silence by measuring.md, in every sample format and however the stream is cut."""

from __future__ import annotations

import math
import struct
import subprocess
import sys
from array import array
from collections.abc import Callable
from itertools import pairwise
from random import Random
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
from audio_samples import RATE, pcm16, read, tone, wav

from ttstrace.audio import AudioReader

MILLISECOND = 0.001
SILENCE = 0.2


def samples(rate: int = RATE, silence: float = SILENCE, seconds: float = 0.4, level: float = 0.5) -> list[float]:
    return tone(int(seconds * rate), rate, round(silence * rate), level)


def mu_law(value: float) -> int:
    """ITU-T G.711 by its definition, straight from the 14-bit magnitude."""
    magnitude = min(int(abs(value) * 8159), 8158) + 33
    segment = magnitude.bit_length() - 6
    code = segment << 4 | (magnitude >> (segment + 1)) & 15
    return ~(code | (0x80 if value < 0 else 0)) & 0xFF


def a_law(value: float) -> int:
    magnitude = min(int(abs(value) * 4096), 4095)
    segment = max(magnitude.bit_length() - 5, 0)
    step = magnitude >> max(segment, 1) & 15
    return (segment << 4 | step | (0 if value < 0 else 0x80)) ^ 0x55


def s24(value: float, order: str) -> bytes:
    return round(value * 8388607).to_bytes(3, order, signed=True)  # type: ignore[arg-type]


ENCODED = {
    "pcm_u8": lambda values: bytes(round(value * 127) + 128 for value in values),
    "pcm_s8": lambda values: struct.pack(f"{len(values)}b", *(round(value * 127) for value in values)),
    "pcm_s16le": pcm16,
    "pcm_s16be": lambda values: struct.pack(f">{len(values)}h", *(round(value * 32767) for value in values)),
    "pcm_u16le": lambda values: struct.pack(f"<{len(values)}H", *(round(v * 32767) + 32768 for v in values)),
    "pcm_s24le": lambda values: b"".join(s24(value, "little") for value in values),
    "pcm_s24be": lambda values: b"".join(s24(value, "big") for value in values),
    "pcm_s32le": lambda values: struct.pack(f"<{len(values)}i", *(round(v * 2147483647) for v in values)),
    "pcm_f16le": lambda values: struct.pack(f"<{len(values)}e", *values),
    "pcm_f32le": lambda values: struct.pack(f"<{len(values)}f", *values),
    "pcm_f32be": lambda values: struct.pack(f">{len(values)}f", *values),
    "pcm_f64le": lambda values: struct.pack(f"<{len(values)}d", *values),
    "pcm_mulaw": lambda values: bytes(map(mu_law, values)),
    "pcm_alaw": lambda values: bytes(map(a_law, values)),
}


@pytest.fixture(params=["numpy", "plain"])
def arithmetic(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "plain":
        monkeypatch.delitem(sys.modules, "numpy")
    return str(request.param)


@pytest.mark.usefixtures("arithmetic")
@pytest.mark.parametrize("name", ENCODED)
def test_known_silence_in_every_layout(name: str) -> None:
    data = ENCODED[name](samples())
    found = read(data, rate=RATE, format=name)
    assert found.readable
    assert found.format == name
    assert found.onset is not None
    assert SILENCE - MILLISECOND < found.onset <= SILENCE
    assert read(ENCODED[name](samples(level=0.004)), rate=RATE, format=name).onset is None


@pytest.mark.usefixtures("arithmetic")
@pytest.mark.parametrize("name", ENCODED)
def test_the_threshold_lies_at_forty_decibels_below_full_scale(name: str) -> None:
    if name in ("pcm_u8", "pcm_s8"):
        pytest.skip("8 bits have a step of -42 dB")
    at_threshold = 0.01 * math.sqrt(2)
    assert read(ENCODED[name](samples(level=at_threshold * 1.12)), rate=RATE, format=name).onset is not None
    assert read(ENCODED[name](samples(level=at_threshold * 0.9)), rate=RATE, format=name).onset is None


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("silence", [0, 1, 7, 100, 101, 1_000, 3_333])
def test_a_step_is_found_within_a_millisecond(rate: int, silence: int) -> None:
    values = np.array(tone(silence + rate // 8, rate, silence), np.float32)
    onset = read((values, rate)).onset
    assert onset is not None
    assert silence / rate - MILLISECOND <= onset <= silence / rate


@pytest.mark.usefixtures("arithmetic")
def test_any_chunking_gives_the_same_onset() -> None:
    random = Random(7)
    values = [random.uniform(-0.003, 0.003) for _ in range(2000)] + tone(3000, level=0.1)
    data = struct.pack(f"<{len(values)}d", *values)
    whole = read(data, rate=RATE, format="pcm_f64le").onset
    assert whole is not None
    for _ in range(40):
        cuts = sorted({0, len(data), *(random.randrange(len(data)) for _ in range(random.randrange(30)))})
        chunks = [data[begin:end] for begin, end in pairwise(cuts)]
        assert read(*chunks, rate=RATE, format="pcm_f64le").onset == whole
    for size in (1, 3, 24, 240, 1024):
        chunks = [values[at : at + size] for at in range(0, len(values), size)]
        assert read(*chunks, rate=RATE).onset == whole


@pytest.mark.usefixtures("arithmetic")
def test_the_chunk_is_the_one_that_holds_the_onset_not_the_one_that_confirms_it() -> None:
    data = pcm16(samples(silence=0.1))
    size = RATE // 100 * 2
    reader = AudioReader(RATE, "pcm_s16le")
    chunks = [b"", *(data[at : at + size] for at in range(0, len(data), size))]
    confirmed = None
    for index, chunk in enumerate(chunks):
        reader.feed(chunk)
        if confirmed is None and reader.onset is not None:
            confirmed = index - 1  # the empty first chunk does not count
    assert reader.onset_chunk == 10
    assert confirmed == 14


def test_a_header_alone_is_no_chunk() -> None:
    file = wav(pcm16(samples(silence=0)))
    reader = AudioReader()
    assert reader.feed(file[:44]) == 0.0
    assert reader.feed(file[44:]) == pytest.approx(0.4)
    assert reader.onset_chunk == 0


def test_a_click_is_no_onset() -> None:
    click = tone(RATE * 25 // 1000)
    assert read((np.array(click + [0.0] * RATE, np.float32), RATE)).onset is None
    both = click + [0.0] * RATE + tone(RATE // 10)
    assert read((np.array(both, np.float32), RATE)).onset == pytest.approx(1.025, abs=MILLISECOND)


def test_three_seconds_are_searched() -> None:
    late = np.array(tone(4 * RATE, silence=3 * RATE + 10), np.float32)
    found = read((late, RATE))
    assert found.onset is None
    assert found.readable
    assert read((late[RATE:], RATE)).onset == pytest.approx(2.0, abs=MILLISECOND)


def test_what_comes_after_the_search_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = AudioReader(RATE)
    reader.feed(np.array(tone(RATE), np.float32))
    assert not reader.searching
    monkeypatch.setattr(AudioReader, "listen", None)
    assert reader.feed(np.zeros(2400, np.float32)) == 0.1


@pytest.mark.parametrize("channels", [2, 5])
def test_channels_interleaved_and_planar(channels: int) -> None:
    one = np.array(samples(), np.float32)
    planar = np.zeros((channels, len(one)), np.float32)
    planar[-1] = one
    table = np.ascontiguousarray(planar.T)
    for value in (planar, table):
        found = read((value, RATE))
        assert (found.channels, found.duration) == (channels, pytest.approx(0.4))
        assert found.onset == pytest.approx(SILENCE, abs=MILLISECOND)
    # The mean square is over the channels: one of five is 7 dB quieter.
    quiet = table * np.float32(0.045)
    assert (read((quiet, RATE)).onset is None) == (channels == 5)


@pytest.mark.usefixtures("arithmetic")
def test_channels_in_bytes() -> None:
    frames = [value for one in samples() for value in (0.0, 0.0, one)]
    data = wav(pcm16(frames), channels=3)
    for cut in (44, 1001, 1002, 1003):
        found = read(data[:cut], data[cut:])
        assert (found.channels, found.duration) == (3, pytest.approx(0.4))
        assert found.onset == pytest.approx(SILENCE, abs=MILLISECOND)


@pytest.mark.parametrize("make", [list, np.float32, np.int64, lambda values: array("f", values)])
def test_sixteen_bit_integers_as_floats(make: Callable[[list[float]], object]) -> None:
    noise = Random(3)
    floor = [float(noise.choice([-4, -3, 3, 4])) for _ in range(RATE // 10)]
    values = floor + [value * 32767 for value in tone(RATE // 5, level=0.2)]
    assert read((make(values), RATE)).onset == pytest.approx(0.1, abs=MILLISECOND)


def test_integers_are_squared_in_float() -> None:
    loud = np.full(RATE, 10_240, np.int16)  # squared in 16 bits it is 0
    assert read((loud, RATE)).onset == 0.0


@pytest.mark.filterwarnings("error")
def test_what_is_no_number_is_no_sound() -> None:
    values = np.array(tone(RATE // 4, silence=2400), np.float64)
    values[100:200] = np.nan
    values[300] = np.inf
    values[310] = 1e300
    assert read((values, RATE)).onset == pytest.approx(0.1, abs=MILLISECOND)
    stereo = values.repeat(2).tobytes()
    assert read(stereo, rate=2 * RATE, format="pcm_f64le").onset == pytest.approx(0.1, abs=MILLISECOND)
    found = read(stereo, format="raw-24khz-float64-stereo")
    assert (found.channels, found.onset) == (2, pytest.approx(0.1, abs=MILLISECOND))


def test_inputs_are_not_changed() -> None:
    values = np.array(tone(RATE // 4), np.float64)
    octets = (values * 100 + 128).astype(np.uint8)
    kept, kept_octets = values.copy(), octets.copy()
    read((values, RATE), (values[None], RATE))
    read((octets, RATE))
    assert np.array_equal(values, kept)
    assert np.array_equal(octets, kept_octets)
    locked = values.copy()
    locked.flags.writeable = False
    assert read((locked, RATE)).onset == 0.0


def test_no_onset_where_samples_cannot_be_read() -> None:
    class OnDevice:
        shape = (24_000,)
        dtype = "float32"

        def __getattr__(self, name: str) -> object:
            if name in ("tolist", "__array__", "cpu", "__getitem__", "numpy"):
                raise AssertionError(f"copied from the device by {name}")
            raise AttributeError(name)

    found = read(OnDevice(), rate=RATE)
    assert (found.duration, found.onset, found.readable) == (1.0, None, False)
    # With a gap there is no telling where the sound began.
    found = read(OnDevice(), np.array(tone(RATE), np.float32), rate=RATE)
    assert (found.duration, found.onset, found.readable) == (2.0, None, False)


class StandInTensor:
    """As much of a torch tensor as is looked at, where torch is not installed."""

    layout = "torch.strided"
    dtype = "torch.float32"
    copied: ClassVar[list[str]] = []

    def __init__(self, values: list[float], device: str) -> None:
        self._values = values
        self.shape = (len(values),)
        self.device = SimpleNamespace(type=device)

    def __getitem__(self, piece: slice) -> StandInTensor:
        return StandInTensor(self._values[piece], self.device.type)

    def tolist(self) -> list[float]:
        self.copied.append(self.device.type)
        return self._values


def test_a_stand_in_for_a_torch_tensor_is_read_only_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(Tensor=StandInTensor))
    found = read(StandInTensor(samples(), "cpu"), rate=RATE)
    assert (found.duration, found.format) == (pytest.approx(0.4), "pcm_f32le")
    assert found.onset == pytest.approx(SILENCE, abs=MILLISECOND)
    found = read(StandInTensor(samples(), "cuda"), rate=RATE)
    assert (found.duration, found.onset, found.readable) == (pytest.approx(0.4), None, False)
    assert set(StandInTensor.copied) == {"cpu"}


def test_without_a_rate_there_is_no_onset() -> None:
    reader = AudioReader()
    assert reader.feed(np.array(tone(RATE), np.float32)) is None
    reader.sample_rate = RATE
    reader.finish()
    assert (reader.duration, reader.onset, reader.readable) == (1.0, None, False)


def test_the_search_can_be_left_out() -> None:
    reader = AudioReader(RATE, onset=False)
    assert reader.feed(np.array(tone(RATE), np.float32)) == 1.0
    assert (reader.onset, reader.readable) == (None, False)


def test_numpy_is_not_imported_for_it() -> None:
    code = """
import struct, sys
from array import array
from collections.abc import Callable
from ttstrace.audio import AudioReader
values = [0.0] * 2400 + [0.5, -0.5] * 1200
for chunk, name in ((struct.pack('<4800h', *(int(v * 32767) for v in values)), 'pcm_s16le'), (values, None),
                    (array('f', values), None), (struct.pack('<4800f', *values), 'pcm_f32le')):
    reader = AudioReader(24000, name)
    assert reader.feed(chunk) == 0.2, name
    assert reader.onset == 0.1, reader.onset
loaded = {name.partition('.')[0] for name in sys.modules}
assert not loaded & {'numpy', 'torch', 'wave'}, loaded
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("decibel", [-41.5, -38.5])
def test_the_threshold_in_every_form_of_stereo(decibel: float) -> None:
    """The mean of the channels counts, not their sum; in pieces shorter than a window, too."""
    level = 10 ** (decibel / 20) * math.sqrt(2)
    mono = tone(RATE // 2, level=level)
    interleaved = [value for value in mono for _ in range(2)]
    whole = [round(value * 32767) for value in interleaved]
    both = np.asarray([mono, mono], np.float32)
    forms: list[object] = [
        both,
        both.T,
        np.ascontiguousarray((both * 2**31).astype(np.int32)),
        {"samples": interleaved, "sample_rate": RATE, "channels": 2},
        {"samples": array("h", whole), "sample_rate": RATE, "channels": 2},
        {"samples": np.asarray(interleaved), "sample_rate": RATE, "channels": 2},
        {"data": array("h", whole).tobytes(), "format": "pcm", "sample_rate": RATE, "channels": 2},
    ]
    for form in forms:
        assert (read(form, rate=RATE).onset is None) == (decibel < -40)
    step = RATE // 1000
    assert (read(*(both[:, at : at + step] for at in range(0, RATE // 2, step)), rate=RATE).onset is None) == (
        decibel < -40
    )


@pytest.mark.parametrize("decibel", [-43.5, -37.0])
@pytest.mark.parametrize("dtype", ["i1", "u1", "<i2", ">i2", "u2", "i4", "u4", "f2", "f4", ">f8"])
def test_the_threshold_at_the_full_scale_of_each_format(dtype: str, decibel: float) -> None:
    level = 10 ** (decibel / 20) * math.sqrt(2)
    kind = np.dtype(dtype)
    scale = 1.0 if kind.kind == "f" else 2.0 ** (8 * kind.itemsize - 1)
    middle = scale if kind.kind == "u" else 0.0
    values = np.asarray(tone(RATE // 4, level=level)) * scale + middle
    samples = (values if kind.kind == "f" else np.round(values)).astype(kind)
    order = "" if kind.itemsize == 1 else "be" if dtype[0] == ">" else "le"
    letter = "s" if kind.kind == "i" else kind.kind
    name = f"pcm_{letter}{8 * kind.itemsize}{order}"
    for found in (read(samples, rate=RATE), read(samples.tobytes(), rate=RATE, format=name)):
        assert (found.format, found.readable) == (name, kind.str[1:] != "u4")
        assert (found.onset is None) == (decibel < -40 or not found.readable)
