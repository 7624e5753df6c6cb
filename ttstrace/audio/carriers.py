"""Where the audio is in what a backend hands out: a pair with the rate, a dict, an object with attributes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from ttstrace.audio.arrays import MOST_CHANNELS
from ttstrace.audio.rate import sample_rate_of


class Carried(NamedTuple):
    """The audio, and what its carrier says of it."""

    audio: object
    rate: int | None
    channels: int | None


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
)
"""Names of the audio, of an attribute or a key."""
GENERIC_ATTRIBUTES: Final = ("data",)
"""Names that are the audio only where a rate stands beside them."""
RATE_ATTRIBUTES: Final = ("sample_rate", "sampling_rate", "sr")
"""Names of the sample rate."""
CHANNEL_ATTRIBUTES: Final = ("sample_channels", "num_channels", "channels")
"""Names of the number of channels."""


def from_pair(pair: Sequence[object]) -> Carried | None:
    """(audio, rate) or (rate, audio), whatever follows; None where it is neither."""
    if len(pair) < 2:
        return None
    first, second = pair[0], pair[1]
    rate = sample_rate_of(second)
    if rate is not None:
        return Carried(first, rate, None)
    rate = sample_rate_of(first)
    return Carried(second, rate, None) if rate is not None else None


def from_mapping(values: Mapping[Any, object]) -> Carried | None:
    """The audio among the values, or None where none has the name of one."""
    rate = _first_rate([values.get(name) for name in RATE_ATTRIBUTES])
    channels = _first_channels([values.get(name) for name in CHANNEL_ATTRIBUTES])
    for name in (*AUDIO_ATTRIBUTES, *GENERIC_ATTRIBUTES):
        if name in values:
            return Carried(values[name], rate, channels)
    return None


def from_attributes(value: object) -> Carried | None:
    """The audio among the attributes, or None where none has the name of one."""
    rate = _first_rate([getattr(value, name, None) for name in RATE_ATTRIBUTES])
    for name in AUDIO_ATTRIBUTES if rate is None else (*AUDIO_ATTRIBUTES, *GENERIC_ATTRIBUTES):
        audio = getattr(value, name, _MISSING)
        if audio is not _MISSING and not callable(audio):
            channels = _first_channels([getattr(value, name, None) for name in CHANNEL_ATTRIBUTES])
            return Carried(audio, rate, channels)
    return None


_MISSING: Final = object()


def _first_rate(values: list[object]) -> int | None:
    return next((rate for rate in map(sample_rate_of, values) if rate is not None), None)


def _first_channels(values: list[object]) -> int | None:
    return next((value for value in values if type(value) is int and 0 < value <= MOST_CHANNELS), None)
