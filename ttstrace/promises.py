"""Results on CUDA that are promises: the call has returned, the card is still at work.

A call of a model on CUDA queues its work and returns at once. Waiting for it (a synchronize) would change what is
measured, so two events are put into the card's own queue, one before the call's work and one after it, and what lies
between them is read when the card has got there. torch is looked up, never imported; no context is created on a card
that the process does not use.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, Final

from ttstrace.audio import AUDIO_ATTRIBUTES
from ttstrace.monitor.gpu import cuda_in_use

_MOST_ITEMS: Final = 8
"""Values of a tuple, a list or a dict that are looked at for one on CUDA."""
_DEEPEST: Final = 2


class Stretch:
    """Work between two events of one card's queue."""

    __slots__ = ("_begin", "_cuda", "_end")

    def __init__(self, cuda: Any, begin: Any, end: Any) -> None:
        self._cuda = cuda
        self._begin = begin
        self._end = end

    def seconds(self) -> float | None:
        """How long it took; None while the card is still at it, or may not be asked: while the program captures a
        graph here, to look at an event would break the capture.

        Raises:
            Exception: the card failed; the program learns of it at its own next use of the card.
        """
        if self._cuda.is_current_stream_capturing() or not self._end.query():
            return None
        return float(self._begin.elapsed_time(self._end)) / 1000


class Promises:
    """Begins and ends of the work that one synthesis gives to the cards."""

    __slots__ = ("_begins", "_cuda", "_devices")

    def __init__(self, cuda: Any, devices: list[int]) -> None:
        self._cuda = cuda
        self._devices = devices
        self._begins: dict[int, Any] = {}

    @classmethod
    def find(cls) -> Promises | None:
        """For every card in use, with no begin marked; None where the process uses none."""
        if "torch" not in sys.modules:
            return None
        cuda = cuda_in_use()
        if cuda is None:
            return None
        devices = [index for index in range(cuda.device_count()) if _is_in_use(cuda, index)]
        return cls(cuda, devices) if devices else None

    def mark(self) -> None:
        """What comes now is a new piece of work; one that is captured into a graph is not timed."""
        capturing = self._cuda.is_current_stream_capturing()
        self._begins = {} if capturing else {index: self._event(index) for index in self._devices}

    def stretch(self, result: object) -> Stretch | None:
        """The work that `result` still waits for; None where it is finished, or not on a card.

        Raises:
            LookupError: it waits for work whose begin was not marked, as the card came into use only meanwhile.
            Exception: the card failed.
        """
        index = cuda_device_of(result)
        if index is None or self._cuda.is_current_stream_capturing():
            return None
        end = self._event(index)
        return None if end.query() else Stretch(self._cuda, self._begins[index], end)

    def _event(self, index: int | None) -> Any:
        event = self._cuda.Event(enable_timing=True)
        event.record(self._cuda.current_stream(index))
        return event


def _is_in_use(cuda: Any, index: int) -> bool:
    """The process has memory there. To put an event on another card would create a context there."""
    return bool(cuda.memory_stats_as_nested_dict(index)["reserved_bytes"]["all"]["current"])


def cuda_device_of(value: Any) -> int | None:
    """The index of the card that audio is on; None where it is on none.

    Of a tuple, a list, a dict or an object with an attribute named as audio is, the first array there decides.
    """
    device: Any = getattr(_array_in(value, 0), "device", None)
    if getattr(device, "type", None) != "cuda":
        return None
    return device.index if isinstance(device.index, int) else None


def _array_in(value: Any, depth: int) -> Any:
    """The first array in a value; None where there is none."""
    if value is None or isinstance(value, (str, bytes, bytearray, int, float)):
        return None
    if getattr(value, "dtype", None) is not None:
        return value
    if depth == _DEEPEST:
        return None
    inside: Iterable[Any]
    if isinstance(value, (tuple, list)):
        inside = islice(value, _MOST_ITEMS)
    elif isinstance(value, Mapping):
        named = [value[name] for name in AUDIO_ATTRIBUTES if name in value]
        inside = named or islice(value.values(), _MOST_ITEMS)
    else:
        inside = (getattr(value, name, None) for name in AUDIO_ATTRIBUTES)
    return next((array for each in inside if (array := _array_in(each, depth + 1)) is not None), None)
