"""How one sample is written in bytes, and the squares of samples read from them."""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from ttstrace.audio.streams import Buffer


class Layout(NamedTuple):
    """A sample format of linear PCM, or of the logarithmic PCM of ITU-T G.711."""

    name: str
    """As ffmpeg spells it: `pcm_s16le`."""
    width: int
    """Bytes of one sample."""
    code: str
    """Type code of `struct` and numpy, without byte order; "t" for 24-bit integers, "x" for bfloat16, "m" and
    "a" for G.711."""
    big: bool
    """Most significant byte first."""

    @property
    def full_scale(self) -> float | None:
        """The value that is 0 dBFS as `squares` reads it; None where no sample of this layout can be read."""
        return _FULL_SCALES.get(self.code)

    @property
    def floating(self) -> bool:
        """Samples are floats: their full scale is a convention, not a limit."""
        return self.code in "efdx"

    @property
    def middle(self) -> int:
        """The value that is silence."""
        return 2 ** (8 * self.width - 1) if self.code in "BHIQ" else 0


# 24-bit integers are read by their upper 16 bits: what is dropped lies at -96 dBFS.
_FULL_SCALES: Final = {
    "b": 2.0**7, "B": 2.0**7, "h": 2.0**15, "H": 2.0**15, "t": 2.0**15, "i": 2.0**31,
    "e": 1.0, "f": 1.0, "d": 1.0, "m": 2.0**15, "a": 2.0**15,
}  # fmt: skip


def _layouts() -> dict[str, Layout]:
    kinds = {
        "s16": "h", "u16": "H", "s24": "t", "s32": "i", "u32": "I", "s64": "q", "u64": "Q",
        "f16": "e", "bf16": "x", "f32": "f", "f64": "d",
    }  # fmt: skip
    found = {
        name: Layout(name, 1, code, False)
        for name, code in {"pcm_s8": "b", "pcm_u8": "B", "pcm_mulaw": "m", "pcm_alaw": "a"}.items()
    }
    for kind, code in kinds.items():
        for order in ("le", "be"):
            name = f"pcm_{kind}{order}"
            found[name] = Layout(name, int(kind.lstrip("bsuf")) // 8, code, order == "be")
    return found


LAYOUTS: Final = _layouts()
"""Every layout by its name."""

NATIVE: Final = "le" if sys.byteorder == "little" else "be"
"""Byte order of this machine, as names of layouts spell it."""


def layout_of_code(code: str, width: int) -> Layout | None:
    """The layout of native numbers of this type code of `array` and `struct`, `width` bytes each."""
    kind = "s" if code in "bhilq" else "u" if code in "BHILQ" else "f" if code in "efd" else None
    if kind is None or len(code) != 1:
        return None
    return LAYOUTS.get(f"pcm_{kind}8" if width == 1 else f"pcm_{kind}{8 * width}{NATIVE}")


def _mu_law_squares() -> list[float]:
    """ITU-T G.711 mu-law: sign, 3 bits of segment, 4 bits of step, all inverted; 16-bit scale."""
    squares = []
    for byte in range(256):
        segment, step = (~byte >> 4) & 7, ~byte & 15
        magnitude = (((step << 3) + 132) << segment) - 132
        squares.append(float(magnitude * magnitude))
    return squares


def _a_law_squares() -> list[float]:
    """ITU-T G.711 A-law: sign, 3 bits of segment, 4 bits of step, even bits inverted; 16-bit scale."""
    squares = []
    for byte in range(256):
        segment, step = ((byte ^ 0x55) >> 4) & 7, (byte ^ 0x55) & 15
        magnitude = (step << 4) + 8 if not segment else ((step << 4) + 264) << (segment - 1)
        squares.append(float(magnitude * magnitude))
    return squares


_LAWS: dict[str, list[float]] = {}


def squares(layout: Layout, data: Buffer, numpy: Any) -> Sequence[float]:
    """The square of every sample in `data`, which holds whole samples, at the layout's own scale.

    `numpy` is the module where the process has it already, else None; an array comes back where it is used.
    """
    code = layout.code
    if code in "ma":
        table = _LAWS.get(code)
        if table is None:
            table = _LAWS[code] = _mu_law_squares() if code == "m" else _a_law_squares()
        return [table[byte] for byte in bytes(data)]
    if code == "t":
        upper, centre = (0, 1) if layout.big else (2, 1)
        raw = bytes(data)
        if numpy is not None:
            high = numpy.frombuffer(raw[upper::3], numpy.int8).astype(numpy.float64)
            return _array_squares(high * 256.0 + numpy.frombuffer(raw[centre::3], numpy.uint8))
        return [
            float((high * 256 + low) ** 2) for high, low in zip(array("b", raw[upper::3]), raw[centre::3], strict=True)
        ]
    middle = layout.middle
    if numpy is not None:
        values = numpy.frombuffer(data, (">" if layout.big else "<") + code).astype(numpy.float64)
        return _array_squares(values - middle if middle else values)
    numbers: Sequence[float]
    if code == "e":
        numbers = struct.unpack(f"{'>' if layout.big else '<'}{len(data) // 2}e", data)
    else:
        typed = array(code, bytes(data))
        if layout.width > 1 and layout.big != (NATIVE == "be"):
            typed.byteswap()
        numbers = typed
    if middle:
        return [float((value - middle) ** 2) for value in numbers]
    return [float(value) * value for value in numbers]


def _array_squares(values: Any) -> Sequence[float]:
    values *= values
    return values  # type: ignore[no-any-return]
