"""Whether playback of a stream would have stuttered."""

from __future__ import annotations

from typing import Final

THRESHOLD: Final = 0.1
"""Seconds of silence above which a stall counts as an underrun (vLLM-Omni's threshold)."""

_CLOCK: Final = 1e-9
"""Clocks tick in nanoseconds: float rounding must not lift a stall of exactly the threshold above it."""


class Playback:
    """A player that starts at the first chunk, with no pre-roll, and plays each chunk as it comes.

    Kept is the time until which there is audio to play, P. After the first chunk P = t1 + d1. A later chunk,
    pulled by the consumer at p, arriving at t and lasting d seconds, makes the player stall for
    max(0, t - max(P, p)), since a consumer that comes late is not the stream's fault; then
    P = max(P, t, p) + d. Times are seconds of one monotonic clock.
    """

    __slots__ = ("_until", "chunks", "longest", "silence", "underruns")

    def __init__(self) -> None:
        self._until = 0.0
        self.chunks: int = 0
        """Chunks added."""
        self.underruns: int = 0
        """Times the player ran dry for more than 0.1 s."""
        self.silence: float = 0.0
        """Seconds of silence of all underruns."""
        self.longest: float = 0.0
        """Seconds of silence of the longest underrun; 0.0 where there was none."""

    def add(self, arrival: float, seconds: float, pulled: float | None) -> tuple[float, float] | None:
        """Add a chunk with audio; the underrun it ended, as (time it ran dry, seconds of silence), or None.

        `pulled` is when the consumer asked for the chunk; None where nobody asked (fed by hand).
        """
        self.chunks += 1
        if self.chunks == 1:
            self._until = arrival + seconds
            return None
        due = self._until
        if pulled is not None and pulled > due:
            due = pulled
        if arrival <= due:
            self._until = due + seconds
            return None
        self._until = arrival + seconds
        stall = arrival - due
        if stall <= THRESHOLD + _CLOCK:
            return None
        self.underruns += 1
        self.silence += stall
        if stall > self.longest:
            self.longest = stall
        return due, stall
