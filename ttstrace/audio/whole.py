"""The commonest result of all, read at the least cost: one whole array of samples in one dimension."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from ttstrace.audio.arrays import layout_of


class Whole(NamedTuple):
    """What `AudioReader` would say of an array."""

    duration: float | None
    sample_rate: int | None
    channels: int | None
    format: str | None
    size: int | None


# By dtype, what one costs per sample and is called; None where it is left to the reader (octets may be encoded audio).
_LAYOUTS: Final[dict[object, tuple[str, int] | None]] = {}
_LAYOUTS_MAX: Final = 64


def whole_array(value: Any, rate: int | None) -> Whole | None:
    """The facts of an array in one dimension, or None: then it takes an `AudioReader`.

    Args:
        value: anything with a `dtype` and a `shape`.
        rate: its sample rate in Hz, if known.
    """
    shape = value.shape
    if len(shape) != 1:
        return None
    dtype = value.dtype
    try:
        layout = _LAYOUTS[dtype]
    except KeyError:
        found = layout_of(dtype)
        layout = None if found is None or found.name == "pcm_u8" else (found.name, found.width)
        if len(_LAYOUTS) < _LAYOUTS_MAX:
            _LAYOUTS[dtype] = layout
    frames = shape[0]
    if layout is None or type(frames) is not int:
        return None
    return Whole(frames / rate if rate else None, rate, 1, layout[0], frames * layout[1])
