"""Where the sound begins: the first sustained onset of a stream, however it is cut into chunks.

Energy is looked at in windows of 10 ms that move by 1 ms; the edge of millisecond k is sample
floor(k x rate / 1000). A window is sound where its RMS is above -40 dBFS (1.0 is full scale), an onset is 41
windows of sound in a row (50 ms), and it lies at the newest millisecond of the first of them. That reading is
what makes an onset exact: with a step from silence to tone at time t, the first window of sound is the one
whose newest millisecond holds t, so the onset is within 1 ms of t. What precedes the audio counts as silence,
so that a tone from the very start has its onset at 0, not at 9 ms. The first 3 s are searched. (Pipecat's
parameters.)
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import isfinite
from typing import Final

from ttstrace.audio.samples import Samples, loaded_numpy

WINDOW: Final = 10
"""Milliseconds of a window."""
SUSTAINED: Final = 41
"""Windows of sound in a row that make an onset."""
LIMIT: Final = 3000
"""Milliseconds that are searched."""
THRESHOLD: Final = 1e-4
"""Mean square at -40 dBFS."""

_INT16_FULL_SCALE_SQUARED: Final = 2.0**30
# No float audio has a millisecond with an RMS of 1.4: full scale is 1.0, and clipping is rare and short.
_BEYOND_FLOAT: Final = 2.0
_STEP: Final = 1024
"""Samples that are turned into floats at a time."""
# Sums in another order may differ by this much.
_ROUNDING: Final = 1.000001


class OnsetSearch:
    """The search in one stream of one sample rate; it holds sums, never samples."""

    __slots__ = (
        "_begun_in", "_bin", "_count", "_edge", "_position", "_recent", "_run", "_sum", "_threshold",
        "chunk", "onset", "rate", "settled",
    )  # fmt: skip

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self._position = 0  # frames taken
        self._bin = 0  # the millisecond that is being filled
        self._edge = rate // 1000
        self._sum = 0.0
        self._count = 0
        self._begun_in = 0  # chunk of the first frame of this millisecond
        self._recent = [0.0] * WINDOW  # sums of the last milliseconds, a ring
        self._run = 0
        self._threshold = THRESHOLD
        self.onset: float | None = None
        """Seconds before the onset; None while none was found."""
        self.chunk: int | None = None
        """Index of the chunk that holds the onset's first frame."""
        self.settled = False
        """Found, or searched to the end: nothing more is wanted."""

    def listen(self, samples: Samples, chunk: int) -> None:
        """Take the samples of chunk number `chunk`, or its next ones; stops as soon as all is settled."""
        step = max(_STEP // samples.channels, 1)
        start = 0
        total = min(samples.frames, LIMIT * self.rate // 1000 - self._position)
        while start < total and not self.settled:
            stop = min(start + step, total)
            self._take(samples.energies(start, stop), stop - start, samples, chunk)
            start = stop

    def _take(self, energies: Sequence[float], frames: int, samples: Samples, chunk: int) -> None:
        cuts = [0]
        edge, index, rate = self._edge - self._position, self._bin, self.rate
        while edge < frames:
            cuts.append(edge)
            index += 1
            edge = (index + 1) * rate // 1000 - self._position
        cuts.append(frames)
        sums = _sums(energies, cuts)
        # No window can be sound where all that is new would not make one: then only sums are kept.
        most = (sum(sums) / samples.scale + self._sum + sum(self._recent)) * _ROUNDING
        silent = most < self._threshold * (WINDOW * rate // 1000)
        for begin, end, energy in zip(cuts, cuts[1:], sums, strict=False):
            if not self._count:
                self._begun_in = chunk
            self._sum += energy / samples.scale
            self._count += end - begin
            self._position += end - begin
            if self._position == self._edge:
                self._close(samples.floating, silent)
                if self.settled:
                    return

    def _close(self, floating: bool, silent: bool) -> None:
        """A millisecond is full: judge the window that it ends, unless all are known to be `silent`."""
        energy = self._sum
        index, rate = self._bin, self.rate
        if silent:
            self._recent[index % WINDOW] = energy
            self._run = 0
        else:
            if not isfinite(energy):
                energy = 0.0
            self._recent[index % WINDOW] = energy
            if floating and energy > _BEYOND_FLOAT * self._count and self._threshold == THRESHOLD:
                # Floats far above 1.0 are 16-bit integers in disguise; whatever came before was silence then.
                self._threshold = THRESHOLD * _INT16_FULL_SCALE_SQUARED
                self._run = 0
            frames = self._edge - (index + 1 - WINDOW) * rate // 1000
            if sum(self._recent) > self._threshold * frames:
                self._run += 1
                if self._run == 1:
                    self.chunk = self._begun_in
                elif self._run == SUSTAINED:
                    self.onset = ((index + 1 - SUSTAINED) * rate // 1000) / rate
                    self.settled = True
                    return
            else:
                self._run = 0
        if index + 1 >= LIMIT:
            self.settled = True
            return
        self._bin = index + 1
        self._edge = (index + 2) * rate // 1000
        self._sum = 0.0
        self._count = 0


def _sums(energies: Sequence[float], cuts: list[int]) -> Sequence[float]:
    if isinstance(energies, list):
        return [sum(energies[begin:end]) for begin, end in pairwise(cuts)]
    numpy = loaded_numpy()
    with numpy.errstate(all="ignore"):
        return numpy.add.reduceat(energies, cuts[:-1]).tolist()  # type: ignore[no-any-return]
