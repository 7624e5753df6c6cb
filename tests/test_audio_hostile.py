"""Whatever is fed to an `AudioReader`: nothing raises, and what it says is a fact or None.

The thorough run is `pytest tests/test_audio_hostile.py --hypothesis-profile=thorough`: 100,000 examples.
"""

from __future__ import annotations

import decimal
import enum
import fractions
import functools
import io
import math
import shutil
import tempfile
from array import array
from collections import ChainMap, UserDict, deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
from audio_mutants import MAGICS, Base, Missing, judge, mutant, shared_objects
from audio_samples import RATE, pcm16, tone, wav
from audio_truth import KINDS, cases, make
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ttstrace.audio import AudioReader
from ttstrace.audio.carriers import AUDIO_ATTRIBUTES, CHANNEL_ATTRIBUTES, GENERIC_ATTRIBUTES, RATE_ATTRIBUTES

pytestmark = pytest.mark.timeout(600)


def examples(share: float) -> settings:
    """The profile's number of examples, times `share`: those that are costly to make are fewer."""
    slow_to_make = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
    count = round(settings().max_examples * share)
    return settings(max_examples=count, deadline=None, suppress_health_check=slow_to_make)


WAV = wav(pcm16(tone(400)))


@functools.lru_cache(maxsize=1)
def files() -> list[bytes]:
    """A small file of every kind whose encoder is here, the first of them a WAV."""
    chosen = {case.kind: case._replace(seconds=1000 / case.rate) for case in cases()}
    found = [WAV]
    if shutil.which("ffmpeg") is None:
        return found
    with ThreadPoolExecutor(4) as pool:
        for made in [pool.submit(make, case) for case in chosen.values()]:
            try:
                found.append(made.result()[:20_000])
            except Missing:
                pass
    return found


# Bytes.

FORMATS = st.none() | st.sampled_from(
    ["pcm_s16le", "pcm_24000", "ulaw_8000", "pcm_s24be_stereo", "pcm_f64be", "pcm_u8", "cassette", "mp3",
     *sorted({kind.format for kind in KINDS.values()})]
)  # fmt: skip
RATES = st.none() | st.sampled_from([4000, 8000, RATE, 44_100, 384_000, 3999, 0, -1])


@st.composite
def fragments(draw: st.DrawFn) -> bytes:
    """A part of a real file: its beginning as often as any other."""
    file = draw(st.sampled_from(files()))
    begin = draw(st.just(0) | st.integers(0, len(file)))
    return file[begin : begin + draw(st.integers(1, 100) | st.integers(1, 4000))]


runs = st.builds(lambda unit, many: unit * many, st.binary(min_size=1, max_size=4), st.integers(1, 2000))
numbers = st.builds(
    lambda value, width, order: (value % (1 << 8 * width)).to_bytes(width, order),
    st.sampled_from([0, 1, 16, 8000, 48_000, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 2**63 - 1, 2**64 - 1]),
    st.sampled_from([1, 2, 3, 4, 8]),
    st.sampled_from(["big", "little"]),
)
mixtures = st.lists(
    st.deferred(fragments) | st.sampled_from(MAGICS) | numbers | st.binary(max_size=20) | runs, min_size=1, max_size=8
).map(b"".join)


def facts(reader: AudioReader) -> tuple[float | None, ...]:
    """What the reader says, each looked at for its type and its range."""
    duration, rate, channels, size = reader.duration, reader.sample_rate, reader.channels, reader.size
    assert duration is None or (type(duration) is float and math.isfinite(duration) and duration >= 0)
    assert rate is None or (type(rate) is int and 4000 <= rate <= 384_000)
    assert channels is None or (type(channels) is int and channels > 0)
    assert size is None or (type(size) is int and size >= 0)
    assert reader.format is None or type(reader.format) is str
    assert reader.onset is None or (type(reader.onset) is float and reader.onset >= 0)
    assert reader.onset_chunk is None or (type(reader.onset_chunk) is int and reader.onset_chunk >= 0)
    assert (reader.onset is None) == (reader.onset_chunk is None)
    return duration, rate, channels, size


def feed(reader: AudioReader, chunks: list[Any]) -> tuple[Any, ...]:
    """The facts after all chunks; their seconds add up."""
    known = []
    for chunk in chunks:
        seconds = reader.feed(chunk)
        assert seconds is None or (type(seconds) is float and math.isfinite(seconds) and seconds >= 0)
        known.append(seconds)
        facts(reader)
    reader.finish()
    found = facts(reader)
    if found[0] is not None:
        total = math.fsum(filter(None, known))
        assert total <= found[0] * (1 + 1e-9) + 1e-6
        # Fewer bytes than a format's beginning are told apart at the end only.
        if None not in known and (found[3] is None or found[3] >= 12):
            assert total == pytest.approx(found[0], rel=1e-9, abs=1e-6)
    reader.finish()
    assert facts(reader) == found
    return (*found, reader.format)


def whole_and_split(data: bytes, cuts: list[float], rate: int | None, declared: str | None, onset: bool) -> None:
    whole = feed(AudioReader(rate, declared, onset=onset), [data])
    places = sorted(int(cut * len(data)) for cut in cuts)
    pieces = [data[begin:end] for begin, end in zip([0, *places], [*places, len(data)], strict=True)]
    split = feed(AudioReader(rate, declared, onset=onset), pieces)
    # A piece that begins with a header of its own is another WAV, wherever the one before it should have ended.
    if any(piece.startswith((b"RIF", b"RF64", b"BW64")) for piece in pieces[1:]):
        return
    assert split[1:] == whole[1:]
    assert split[0] == (whole[0] if whole[0] is None else pytest.approx(whole[0], rel=1e-9))


places = st.lists(st.floats(0, 1, exclude_max=True), max_size=6)


@examples(2)
@given(st.binary(max_size=400), places, RATES, FORMATS, st.booleans())
def test_bytes(data: bytes, cuts: list[float], rate: int | None, declared: str | None, onset: bool) -> None:
    whole_and_split(data, cuts, rate, declared, onset)


@examples(1)
@given(st.sampled_from(MAGICS), mixtures, places, RATES, st.booleans())
def test_after_a_beginning(magic: bytes, data: bytes, cuts: list[float], rate: int | None, onset: bool) -> None:
    whole_and_split(magic + data, cuts, rate, None, onset)


@examples(1)
@given(mixtures, places, RATES, FORMATS, st.booleans())
def test_mixtures(data: bytes, cuts: list[float], rate: int | None, declared: str | None, onset: bool) -> None:
    whole_and_split(data, cuts, rate, declared, onset)


# Everything else.


class Odd(Exception):
    """What strange objects raise."""


class Raises:
    """Whatever is asked of it."""

    def __getattribute__(self, name: str) -> Any:
        if name == "__class__":  # else what makes the examples fails already
            return Raises
        raise Odd(name)

    def _raise(self, *_: object) -> Any:
        raise Odd

    __len__ = __iter__ = __getitem__ = __eq__ = __bool__ = __index__ = __int__ = __float__ = __str__ = __repr__ = _raise
    __hash__ = _raise
    __contains__ = __call__ = __buffer__ = __array__ = _raise


class RaisingProperties:
    """Some of its attributes are there, and raise."""

    def __init__(self, raising: frozenset[str], others: dict[str, Any]) -> None:
        self._raising = raising
        self.__dict__.update(others)

    def __getattr__(self, name: str) -> Any:
        if name in object.__getattribute__(self, "_raising"):
            raise Odd(name)
        raise AttributeError(name)


class RaisingMapping(Mapping[str, Any]):
    """It has no keys that it would tell."""

    def __init__(self, values: dict[str, Any], fails_at: str) -> None:
        self._values = values
        self._fails_at = fails_at

    def __getitem__(self, key: str) -> Any:
        if key == self._fails_at:
            raise Odd(key)
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        raise Odd

    def __len__(self) -> int:
        return -1


class Array:
    """It looks like an array from outside."""

    def __init__(self, shape: Any, dtype: Any) -> None:
        self.shape = shape
        self.dtype = dtype

    def __getitem__(self, key: Any) -> Any:
        raise Odd


class File:
    """It looks like a file, and lies."""

    def __init__(self, answers: list[Any]) -> None:
        self._answers = answers

    def _answer(self, *_: object) -> Any:
        if not self._answers:
            raise Odd
        return self._answers.pop()

    read = seek = tell = _answer

    def seekable(self) -> Any:
        return True


class List(list[Any]):
    """A list that does not let itself be read."""

    def __getitem__(self, key: Any) -> Any:
        raise Odd

    def __len__(self) -> int:
        raise Odd


class Bytes(bytes):
    """Bytes whose length is another."""

    def __len__(self) -> int:
        return 7


class Colour(enum.IntEnum):
    """A number with a name."""

    RED = 24_000


@st.composite
def memoryviews(draw: st.DrawFn) -> Any:
    data = draw(st.binary(max_size=48).map(lambda data: data[: len(data) // 8 * 8]))
    view = memoryview(data)
    code = draw(st.sampled_from("BbcHhIiLlQqfd?"))
    typed = view.cast(code)
    way = draw(st.integers(0, 3))
    if way == 1:
        return typed[:: draw(st.sampled_from([1, 2, -1]))]
    if way == 2 and len(view):
        return view.cast("B", (len(view) // 4, 4)) if draw(st.booleans()) else view.cast("B", (2, len(view) // 2))
    if way == 3:
        typed.release()
    return typed


def _numpy() -> st.SearchStrategy[Any]:
    shapes = st.sampled_from(
        [(), (0,), (1,), (40,), (1, 40), (40, 1), (2, 40), (40, 2), (8, 40), (40, 9), (3, 3), (0, 2), (1, 1, 40),
         (2, 2, 40), (1, 0, 1), (0, 0)]
    )  # fmt: skip
    dtypes = st.sampled_from(
        ["?", "u1", "i1", ">i2", "<i2", "u2", "i4", ">u4", "i8", "u8", "f2", "f4", ">f8", "c8", "O", "S3", "U2",
         "M8[s]", "m8[ms]", "V4", "i2,f4", "f16"]
    )  # fmt: skip

    def build(shape: tuple[int, ...], dtype: str, fill: Any, rows: bool, masked: bool) -> Any:
        made = np.zeros(shape, dtype)
        if dtype in ("f4", "f2", ">f8", "i4", "O"):
            with np.errstate(over="ignore"):
                made[...] = 7 if dtype == "i4" else fill
        if rows:
            made = made[::-1] if made.ndim else made
        return np.ma.masked_array(made) if masked else made

    fills = st.sampled_from([0.0, 0.5, 1e30, math.nan, math.inf, -math.inf])
    return st.builds(build, shapes, dtypes, fills, st.booleans(), st.booleans())


ANY_NUMBER = st.integers() | st.floats() | st.sampled_from(
    [RATE, 8000, True, False, Colour.RED, decimal.Decimal("24000"), decimal.Decimal("NaN"), fractions.Fraction(24_000),
     fractions.Fraction(1, 3), 24_000.0, math.nan, math.inf, np.int64(RATE), np.float32(24_000), np.float64("nan"),
     10**400, 2**62, -1, 1j]
)  # fmt: skip
NAMES = st.sampled_from(
    [*AUDIO_ATTRIBUTES, *GENERIC_ATTRIBUTES, *RATE_ATTRIBUTES, *CHANNEL_ATTRIBUTES, "shape", "dtype"]
)
SHAPES = st.lists(ANY_NUMBER | st.sampled_from([1, 2, 8, 40, 2400]), max_size=4).flatmap(
    lambda sizes: st.sampled_from([tuple(sizes), sizes, sizes and sizes[0]])
)
DTYPES = st.sampled_from(
    ["int16", "float32", "torch.float32", "bfloat16", "uint8", np.dtype("i2"), np.float32, np.dtype("O"), "", [],
     Raises, SimpleNamespace(name=5), SimpleNamespace(name="int16", byteorder=[]), 7, float]
)  # fmt: skip
made_anew: list[Callable[[], Any]] = [
    Raises, object, MagicMock, lambda: iter([b"x"]), lambda: (at for at in range(3)), lambda: io.BytesIO(WAV),
    lambda: io.StringIO("x"), lambda: io.BytesIO(), tempfile.TemporaryFile, lambda: deque([0.5, 0.5]), lambda: range(9),
    lambda: Bytes(WAV), lambda: List([0.5]), lambda: UserDict(audio=WAV), lambda: ChainMap({"audio": WAV}),
    datetime.now, lambda: timedelta(1), lambda: AudioReader, lambda: math, lambda: len, lambda: {1, 2},
    lambda: NotImplemented, lambda: ..., lambda: np.random.default_rng(), lambda: array("u", "x"),
    lambda: array("d", [math.nan]), lambda: Exception("x"), lambda: SimpleNamespace(audio=WAV), lambda: bytearray(WAV),
    lambda: memoryview(WAV),
]  # fmt: skip

leaves = st.one_of(
    st.none(),
    st.booleans(),
    ANY_NUMBER,
    st.text(max_size=20),
    st.binary(max_size=40),
    st.binary(max_size=40).map(bytearray),
    memoryviews(),
    _numpy(),
    arrays.arrays(np.float32, arrays.array_shapes(max_dims=3, max_side=12)),
    st.sampled_from(made_anew).map(lambda make: make()),
    st.builds(lambda code, values: array(code, values), st.sampled_from("bBhHiIlLqQfd"), st.lists(st.integers(0, 100))),
    st.builds(Array, SHAPES, DTYPES),
    st.builds(File, st.lists(ANY_NUMBER | st.none() | st.binary(max_size=20) | st.integers(0, 100), max_size=9)),
)


def _carriers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    values = st.dictionaries(NAMES, inner, max_size=4)
    return st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.tuples(inner, ANY_NUMBER),
        st.tuples(ANY_NUMBER, inner),
        values,
        values.map(lambda names: SimpleNamespace(**names)),
        st.builds(RaisingProperties, st.frozensets(NAMES, max_size=2), values),
        st.builds(RaisingMapping, values, NAMES),
        st.dictionaries(st.integers() | st.none(), inner, max_size=2),
    )


anything = st.recursive(leaves, _carriers, max_leaves=6)


@examples(0.5)
@given(anything, RATES, st.booleans())
def test_anything(value: Any, rate: int | None, onset: bool) -> None:
    feed(AudioReader(rate, onset=onset), [value])


class RaisesItsClass(Raises):
    """Not even what it is can be asked."""

    def __getattribute__(self, name: str) -> Any:
        raise Odd(name)


@pytest.mark.parametrize(
    "wrap", [lambda odd: odd, lambda odd: (odd, RATE), lambda odd: {"audio": odd}, lambda odd: [odd]]
)
def test_not_even_its_class(wrap: Callable[[Any], Any]) -> None:
    feed(AudioReader(RATE), [wrap(RaisesItsClass())])


def test_an_odd_declaration() -> None:
    odd: Any = Raises()
    reader = AudioReader(odd, odd)
    reader.sample_rate = odd
    feed(reader, [WAV])


@examples(0.5)
@given(st.lists(anything | st.just(np.zeros(40, np.float32)) | st.just(WAV), max_size=3), leaves, leaves | FORMATS)
def test_one_thing_after_another(values: list[Any], rate: Any, declared: Any) -> None:
    reader = AudioReader(rate, declared)
    facts(reader)
    feed(reader, [*values, *values[:1]])
    reader.sample_rate = rate
    facts(reader)
    if (source := reader.sample_rate) is not None:
        assert 4000 <= source <= 384_000


# The harness of mutants finds what is wrong.


def judged(data: bytes, **patched: Any) -> str:
    one = mutant(1, [Base("wav", "a WAV", data, "wav", RATE)])
    chunks = [data[:100], data[100:]]
    return str(judge(one._replace(data=data, chunks=chunks, onset=False), shared_objects(), traced=False).complaint)


def test_a_sound_reader_is_not_complained_of() -> None:
    assert judged(WAV) == "None"


def _take_and_raise(self: AudioReader, data: Any, *_: Any) -> None:
    raise Odd("inside")


def _take_and_hold(self: AudioReader, data: Any, *_: Any) -> None:
    self._head += bytes(100_000)


def _take_slowly(self: AudioReader, data: Any, *_: Any) -> None:
    sum(range(400_000))


def _take_too_much(self: AudioReader, data: Any, *_: Any) -> None:
    self.format = "wav"
    self.count(10**9, 8000, 1)


def _take_unsaid(self: AudioReader, data: Any, *_: Any) -> None:
    self.format = "wav"
    self._known, self._frames, self._rate = True, 400, RATE


@pytest.mark.parametrize(
    ("take", "complaint"),
    [
        (_take_and_raise, "swallowed"),
        (_take_and_hold, "held 2"),
        (_take_slowly, "took "),
        (_take_too_much, "duration 250000.0 s of "),
        (_take_unsaid, "the chunks' seconds are 0.000000, the duration 0.016667"),
    ],
)
def test_a_fault_is_found(take: Any, complaint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AudioReader, "_bytes", take)
    assert judged(WAV).startswith(complaint)


def test_what_is_raised_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AudioReader, "_read", _take_and_raise)
    assert judged(WAV).startswith("raised")


def test_what_is_allocated_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AudioReader, "_bytes", lambda self, data, *_: len(bytes(100_000)))
    one = mutant(1, [Base("wav", "a WAV", WAV, "wav", RATE)])
    found = judge(one._replace(chunks=[WAV]), shared_objects(), traced=True)
    assert str(found.complaint).startswith("allocated 100")


def test_a_seed_makes_the_same_mutant() -> None:
    base = [Base("wav", "a WAV", WAV, "wav", RATE)]
    made = [mutant(seed, base) for seed in range(200)]
    assert [one.data for one in made] == [mutant(seed, base).data for seed in range(200)]
    assert len({one.data for one in made}) > 150
