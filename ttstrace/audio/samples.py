"""Samples of every kind, read as the energy of each instant.

numpy does the arithmetic where the process has it already; it is never imported for it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ttstrace.audio import layouts

if TYPE_CHECKING:
    from ttstrace.audio.streams import Buffer


class Samples(Protocol):
    """A piece of audio that can be listened to."""

    @property
    def frames(self) -> int:
        """Samples per channel."""

    @property
    def channels(self) -> int:
        """Samples per frame."""

    @property
    def scale(self) -> float:
        """What one energy is to be divided by to have 1.0 at full scale."""

    @property
    def floating(self) -> bool:
        """The full scale is a convention (1.0), which 16-bit integers in disguise do not keep."""

    def energies(self, start: int, stop: int) -> Sequence[float]:
        """For each frame from `start` to `stop`, the sum over its channels of the squared sample."""


def loaded_numpy() -> Any:
    """numpy where the process has imported it, else None."""
    numpy = sys.modules.get("numpy")
    return numpy if hasattr(numpy, "ndarray") else None  # half imported, it lacks its names


class ByteSamples:
    """Interleaved samples in bytes that begin and end at a frame."""

    floating: bool

    def __init__(self, data: Buffer, layout: layouts.Layout, channels: int) -> None:
        self._data = data
        self._layout = layout
        self.channels = channels
        self._block = layout.width * channels
        self.frames = len(data) // self._block
        full_scale = layout.full_scale or 1.0
        self.scale = full_scale * full_scale * channels
        self.floating = layout.floating

    def energies(self, start: int, stop: int) -> Sequence[float]:
        piece = self._data[start * self._block : stop * self._block]
        numpy = loaded_numpy()
        if numpy is None:
            return per_frame(layouts.squares(self._layout, piece, None), self.channels)
        with numpy.errstate(all="ignore"):  # what is no number must not become a warning of the host's
            return per_frame(layouts.squares(self._layout, piece, numpy), self.channels)


class NumberSamples:
    """Interleaved samples as Python numbers: a list, a typed memoryview or an `array.array`."""

    def __init__(self, numbers: Sequence[Any], channels: int, full_scale: float | None, middle: int = 0) -> None:
        self._numbers = numbers
        self.channels = channels
        self._middle = middle
        self.frames = len(numbers) // channels
        self.floating = full_scale is None
        self.scale = (full_scale or 1.0) ** 2 * channels

    def energies(self, start: int, stop: int) -> Sequence[float]:
        piece = self._numbers[start * self.channels : stop * self.channels]
        middle = self._middle
        return per_frame([(float(value) - middle) ** 2 for value in piece], self.channels)


class ArraySamples:
    """A one- or two-dimensional array on the CPU: numpy's, or torch's.

    `axis` is the dimension of the frames; with `channels` and one dimension they are interleaved.
    """

    def __init__(
        self, values: Any, frames: int, axis: int, channels: int, full_scale: float | None, middle: int
    ) -> None:
        self._values = values
        self._axis = axis
        self._flat = len(values.shape) == 1
        self.channels = channels
        self._middle = middle
        self.frames = frames
        self.floating = full_scale is None
        self.scale = (full_scale or 1.0) ** 2 * channels

    def energies(self, start: int, stop: int) -> Sequence[float]:
        values = self._values
        if self._flat:
            piece = values[start * self.channels : stop * self.channels]
        else:
            piece = values[start:stop] if self._axis == 0 else values[:, start:stop]
        numpy = loaded_numpy()
        if numpy is None or not isinstance(piece, numpy.ndarray):
            return self._from_lists(piece.tolist())
        with numpy.errstate(all="ignore"):
            squares = numpy.asarray(piece).astype(numpy.float64)  # a copy: the caller's array is not touched
            if self._middle:
                squares -= self._middle
            squares *= squares
            if self._flat:
                return per_frame(squares, self.channels)
            return squares.sum(axis=1 - self._axis)  # type: ignore[no-any-return]

    def _from_lists(self, piece: list[Any]) -> Sequence[float]:
        middle = self._middle
        if self._flat:
            return per_frame([(float(value) - middle) ** 2 for value in piece], self.channels)
        rows = piece if self._axis == 0 else zip(*piece, strict=True)
        return [sum((float(value) - middle) ** 2 for value in row) for row in rows]


def per_frame(squares: Sequence[float], channels: int) -> Sequence[float]:
    """Sums of `channels` squares at a time, interleaved."""
    if channels == 1:
        return squares
    if isinstance(squares, list):
        return [sum(squares[at : at + channels]) for at in range(0, len(squares), channels)]
    table: Any = squares
    return table.reshape(-1, channels).sum(axis=1)  # type: ignore[no-any-return]
