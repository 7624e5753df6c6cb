"""The maximum of a sequence from any of its positions to its end, for windows that overlap in any order."""

from __future__ import annotations

from bisect import bisect_left


class SuffixMaximum:
    """The maximum of all values pushed since a remembered position.

    A monotonic stack: of the values pushed, only those remain that no later one equals or exceeds, so they
    fall strictly and the maximum since a position is the first that was pushed there or later. A push is
    O(1), amortised; a question is O(log n). Values are 0 or more.

    Not locked: the owner's lock holds. A question that a signal handler asks in the middle of a push is
    answered as before that push or after it, or without the values that the one being pushed exceeds.
    """

    __slots__ = ("_next", "_positions", "_values")

    def __init__(self) -> None:
        self._positions: list[int] = []
        self._values: list[int] = []
        self._next = 0

    def position(self) -> int:
        """The position of the next value to be pushed."""
        return self._next

    def push(self, value: int) -> int:
        """Append a value. Returns the position it was pushed at."""
        positions = self._positions
        values = self._values
        position = self._next
        # There is never a position without its value: see the class's last paragraph.
        while positions and values[-1] < value:
            positions.pop()
            values.pop()
        if positions and values[-1] == value:
            positions[-1] = position
        else:
            values.append(value)
            positions.append(position)
        self._next = position + 1
        return position

    def since(self, position: int) -> int:
        """The greatest value pushed at ``position`` or later; 0 where there is none."""
        while True:
            index = bisect_left(self._positions, position)
            try:
                return self._values[index] if index < len(self._positions) else 0
            except IndexError:  # a signal handler's push came in between and took values off
                continue

    def clear(self) -> None:
        """Forget every value. Positions begin again at 0: those handed out before mean nothing any more."""
        self._positions.clear()
        self._values.clear()
        self._next = 0
