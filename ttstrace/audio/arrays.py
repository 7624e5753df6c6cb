"""Arrays and tensors, looked at from outside: anything with a `shape` and a `dtype`."""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import Any, Final, NamedTuple

from ttstrace.audio.layouts import LAYOUTS, NATIVE, Layout
from ttstrace.audio.samples import loaded_numpy

MOST_CHANNELS: Final = 8
"""A dimension above this is never taken for channels."""
_MOST_FRAMES: Final = 2**62


class Shape(NamedTuple):
    """How an array holds audio."""

    frames: int
    channels: int
    axis: int
    """Dimension of the frames, of the last two."""


def shape_of(dimensions: tuple[int, ...]) -> Shape | None:
    """Frames and channels of an array of these dimensions, or None where that is not clear.

    Taken as audio are (N,), (1, N), (N, 1), (C, N) and (N, C) with at most 8 channels and more frames than
    that; leading dimensions of 1 before the last two are passed over.
    """
    if len(dimensions) == 1 and type(dimensions[0]) is int and 0 <= dimensions[0] < _MOST_FRAMES:
        return Shape(dimensions[0], 1, 0)
    while len(dimensions) > 2 and dimensions[0] == 1:
        dimensions = dimensions[1:]
    if not all(isinstance(size, int) and 0 <= size < _MOST_FRAMES for size in dimensions):
        return None
    if len(dimensions) == 1:
        return Shape(dimensions[0], 1, 0)
    if len(dimensions) != 2:
        return None
    first, second = dimensions
    if first == 1 or second > MOST_CHANNELS >= first > 0:
        return Shape(second, first, 1)
    if second == 1 or first > MOST_CHANNELS >= second > 0:
        return Shape(first, second, 0)
    if not first and 0 < second <= MOST_CHANNELS:
        return Shape(0, second, 0)
    if not second and 0 < first <= MOST_CHANNELS:
        return Shape(0, first, 1)
    return None


def batch_of(dimensions: tuple[int, ...], items: int) -> Shape | None:
    """What each item of an array is that holds this many of them, padded to the longest; None where it does not."""
    if len(dimensions) < 2 or dimensions[0] != items:
        return None
    return shape_of(dimensions[1:])


_KINDS: Final = {
    "int8": "s8", "uint8": "u8", "int16": "s16", "uint16": "u16", "int32": "s32", "uint32": "u32",
    "int64": "s64", "uint64": "u64", "float16": "f16", "bfloat16": "bf16", "float32": "f32", "float64": "f64",
}  # fmt: skip


_FOREIGN: Final = ">" if sys.byteorder == "little" else "<"


@lru_cache(maxsize=64)
def layout_of(dtype: object) -> Layout | None:
    """The layout of samples of this dtype, or None: bool, complex and object hold none.

    Works for numpy, torch, jax, tensorflow and whatever else gives its dtypes those names.
    """
    name = getattr(dtype, "name", None)
    foreign = getattr(dtype, "byteorder", "=") == _FOREIGN
    kind = _KINDS.get((name if isinstance(name, str) else str(dtype)).rpartition(".")[2])
    if kind is None:
        return None
    order = NATIVE if not foreign else "be" if NATIVE == "le" else "le"
    return LAYOUTS[f"pcm_{kind}" if kind in ("s8", "u8") else f"pcm_{kind}{order}"]


def is_on_cpu(value: object) -> bool:
    """Its samples can be read in place: a numpy array, or a dense torch tensor that is on the CPU.

    Of anything else nobody knows where it lives; reading it might copy it from a device.
    """
    numpy: Any = loaded_numpy()
    if numpy is not None and isinstance(value, numpy.ndarray):
        return True
    tensor = getattr(sys.modules.get("torch"), "Tensor", None)
    if tensor is None or not isinstance(value, tensor):
        return False
    seen: Any = value
    return seen.device.type == "cpu" and str(seen.layout) == "torch.strided"
