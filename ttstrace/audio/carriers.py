"""Where the audio is in what a backend hands out: a tuple, a dict, an object with attributes."""

from __future__ import annotations

import re
from array import array
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, Final, NamedTuple

from ttstrace.audio import arrays, seekable
from ttstrace.audio.rate import sample_rate_of
from ttstrace.audio.transport import TELLING


class Carried(NamedTuple):
    """The audio, and what its carrier says of it."""

    audio: Any
    rate: int | None = None
    channels: int | None = None
    format: str | None = None
    lengths: object = None
    """Samples of each item of a batch, which is padded to the longest."""
    texts: int | None = None
    """Texts that the audio may be a batch of."""

    def within(self, outer: Carried) -> Carried:
        """This, and what the carrier around it says of what this one does not."""
        return Carried(
            self.audio,
            self.rate or outer.rate,
            self.channels or outer.channels,
            self.format or outer.format,
            outer.lengths if self.lengths is None else self.lengths,
            outer.texts,
        )


class Text(NamedTuple):
    """Text that stands where audio is expected: base64 perhaps."""

    text: str


# piper's AudioChunk comes first: its other attributes are properties that compute and keep.
AUDIO_ATTRIBUTES: Final = (
    "audio_float_array",
    "audio",
    "audio_data",
    "audio_content",
    "samples",
    "waveform",
    "wav",
    "tts_speech",
    "speech",
    "audio_base64",
    "audio_base_64",
    "audioContent",
)
"""Names of the audio, of an attribute or a key."""
GENERIC_ATTRIBUTES: Final = ("data",)
"""Names that are the audio only where a rate or a format stands beside them."""
ANY_ATTRIBUTES: Final = AUDIO_ATTRIBUTES + GENERIC_ATTRIBUTES
RATE_ATTRIBUTES: Final = ("sample_rate", "sampling_rate", "sr")
"""Names of the sample rate."""
CHANNEL_ATTRIBUTES: Final = ("sample_channels", "num_channels", "channels")
"""Names of the number of channels."""
FORMAT_ATTRIBUTES: Final = ("mime_type", "mimeType", "content_type", "format", "encoding")
"""Names of the format, by its media type or as SDKs name it."""
LENGTH_ATTRIBUTES: Final = ("sequence_lengths", "waveform_lengths", "audio_lengths", "lengths")
"""Names of the samples that each item of a batch has."""

_FEWEST: Final = 32
"""Samples below which an array beside another one holds figures of it: lengths, seconds."""
_LARGEST_TUPLE: Final = 16


def from_tuple(values: tuple[Any, ...]) -> Carried | None:
    """The audio of a named tuple, of (audio, rate) or (rate, audio) whatever follows, or the only audio there is.

    None where none of the values is audio, or more than one.
    """
    if type(values) is not tuple and hasattr(values, "_fields"):
        found = from_attributes(values)
        if found is not None:
            return found
    if len(values) >= 2:
        first, second = values[0], values[1]
        rate = sample_rate_of(second)
        if rate is not None:
            return Carried(first, rate, lengths=_lengths_among(values[2:]))
        rate = sample_rate_of(first)
        if rate is not None:
            return Carried(second, rate, lengths=_lengths_among(values[2:]))
    if len(values) > _LARGEST_TUPLE:
        return None
    audios = [value for value in values if is_audio(value)]
    if len(audios) > 1 or sum(1 for value in values if getattr(value, "shape", None)) > 1:
        audios = [value for value in audios if not _are_figures(value)]
    if len(audios) != 1:
        return None
    audio = audios[0]
    others = [value for value in values if value is not audio]
    rates = [rate for rate in map(sample_rate_of, others) if rate is not None]
    return Carried(audio, rates[0] if len(rates) == 1 else None, lengths=_lengths_among(others))


def _lengths_among(values: Sequence[Any]) -> object:
    lengths = [value for value in values if items_of(value) is not None]
    return lengths[0] if len(lengths) == 1 else None


def from_mapping(values: Mapping[Any, Any]) -> Carried | None:
    """The audio among the values, or None where none has the name of one."""
    get = values.get
    rate, format = _first_rate(get), _first_format(get)
    # Bytes and texts under a generic name can be looked at; numbers may be of anything.
    generic = rate is not None or format is not None or not any(map(_are_numbers, map(get, GENERIC_ATTRIBUTES)))
    return _named(get, ANY_ATTRIBUTES if generic else AUDIO_ATTRIBUTES, rate, format)


def from_attributes(value: object) -> Carried | None:
    """The audio among the attributes, or None where none has the name of one."""

    def get(name: str, default: object = None) -> Any:
        found = getattr(value, name, default)
        return default if found is not default and callable(found) else found

    rate, format = _first_rate(get), _first_format(get)
    generic = rate is not None or format is not None
    return _named(get, ANY_ATTRIBUTES if generic else AUDIO_ATTRIBUTES, rate, format)


def is_audio(value: Any) -> bool:
    """It is of a kind that holds audio: not whether that can be read."""
    if value is None or isinstance(value, (str, int, float, type)):
        return False
    if isinstance(value, (bytes, bytearray, memoryview, array)):
        return len(value) > 0
    if isinstance(value, list):
        return bool(value) and (is_number(value[0]) or is_audio(value[0]))
    if getattr(value, "shape", None) is not None and getattr(value, "dtype", None) is not None:
        return arrays.layout_of(value.dtype) is not None and arrays.shape_of(tuple(value.shape)) is not None
    if isinstance(value, tuple):
        return from_tuple(value) is not None
    if isinstance(value, Mapping):
        return from_mapping(value) is not None
    return seekable.is_file_like(value) or from_attributes(value) is not None


def is_without_audio(value: Any, depth: int = 0) -> bool:
    """Nothing in it can be audio: an event of another kind, such as comes between chunks."""
    if value is None or isinstance(value, (int, float)):
        return True
    if isinstance(value, str):
        return not may_be_encoded(value)
    if depth > _DEEPEST or not isinstance(value, (tuple, list, Mapping)) or len(value) > _LARGEST_EVENT:
        return False
    if isinstance(value, list) and len(value) >= _FEWEST and is_number(value[0]):
        return False
    values = value.values() if isinstance(value, Mapping) else value
    return all(is_without_audio(each, depth + 1) for each in values)


def may_be_encoded(text: str) -> bool:
    """A text that may be base64, or a `data:` URI: no word is as long."""
    return text.startswith("data:") or _ENCODED.match(text) is not None


_ENCODED: Final = re.compile(rf"[A-Za-z0-9+/_=-]{{{TELLING}}}")
_LARGEST_EVENT: Final = 1000
_DEEPEST: Final = 4


def items_of(lengths: Any) -> int | None:
    """How many lengths these are, if they are: whole numbers in a row, on a device perhaps."""
    if isinstance(lengths, (list, tuple)):
        counted = 0 < len(lengths) <= _LARGEST_BATCH and all(_is_count(each) for each in lengths)
        return len(lengths) if counted else None
    if getattr(lengths, "dtype", None) is None or len(getattr(lengths, "shape", ())) != 1:
        return None
    layout = arrays.layout_of(lengths.dtype)
    items = lengths.shape[0]
    if layout is None or layout.floating or type(items) is not int:
        return None
    return items if 0 < items <= _LARGEST_BATCH else None


def lengths_of(lengths: Any) -> list[int] | None:
    """The lengths that `items_of` counts; None where they cannot be read in the memory of this process."""
    if isinstance(lengths, (list, tuple)):
        return list(map(int, lengths))
    return list(map(int, lengths.tolist())) if arrays.is_on_cpu(lengths) else None


_LARGEST_BATCH: Final = 10_000
_MISSING: Final = object()


def _named(get: Any, names: Sequence[str], rate: int | None, format: str | None) -> Carried | None:
    named = False
    audio = None
    for name in names:
        found = get(name, _MISSING)
        if found is not _MISSING:
            named = True
            audio = found
            if audio is not None:
                break
    if not named:
        return None
    if isinstance(audio, str):
        audio = Text(audio)
    return Carried(audio, rate, _first_channels(get), format, _first(get, LENGTH_ATTRIBUTES))


# In loops: every chunk of a stream may be such a carrier.


def _first(get: Any, names: Sequence[str]) -> Any:
    for name in names:
        value = get(name)
        if value is not None:
            return value
    return None


def _first_rate(get: Any) -> int | None:
    for name in RATE_ATTRIBUTES:
        value = get(name)
        if value is not None and (rate := sample_rate_of(value)) is not None:
            return rate
    return None


def _first_channels(get: Any) -> int | None:
    for name in CHANNEL_ATTRIBUTES:
        value = get(name)
        if type(value) is int and 0 < value <= arrays.MOST_CHANNELS:
            return value
    return None


def _first_format(get: Any) -> str | None:
    for name in FORMAT_ATTRIBUTES:
        value = get(name)
        if isinstance(value, str):
            return value
    return None


def is_number(value: object) -> bool:
    """It may be one sample."""
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and value >= 0  # type: ignore[operator]


def _are_numbers(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and is_number(value[0])
    return isinstance(value, array) or getattr(value, "dtype", None) is not None


def _are_figures(value: Any) -> bool:
    if isinstance(value, (list, array)):
        return len(value) < _FEWEST and not (isinstance(value, list) and is_audio(value[0]))
    shape = getattr(value, "shape", None)
    if shape is None:
        return False
    size = 1
    for side in shape:
        size *= side
    return size < _FEWEST
