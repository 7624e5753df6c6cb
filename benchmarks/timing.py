"""Blocks of calls, timed in turn.

Whatever else a machine does makes a block slower, and never faster: the fastest of many short blocks is what the code
costs. As the blocks of all ways alternate, none of them has a quieter time of it than the others.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from itertools import islice, repeat
from time import perf_counter
from typing import Any

from subject import TEXT

Block = Callable[[], float]
"""Runs once, and says how many seconds one of what it does took."""
Times = dict[str, list[float]]
"""Seconds of one, of each block, by the name of the way."""


_BLOCK = 0.001
"""Seconds that a block of calls takes at most: less than a busy machine leaves a process alone."""
_CALLS_MAX = 50


def calls(function: Callable[[str], Any], number: int | None = None) -> Block:
    """A block of calls: so many, or as many as are done in time."""
    if number is None:
        function(TEXT)  # what is done at the first call only
        one = min(calls(function, 1)() for _ in range(5))
        number = max(1, min(_CALLS_MAX, int(_BLOCK / one)))

    def block() -> float:
        turns = repeat(None, number)
        began = perf_counter()
        for _ in turns:
            function(TEXT)
        return (perf_counter() - began) / number

    return block


def chunks(function: Callable[[str], Any], skipped: int, number: int) -> Block:
    """A block of so many pulls from a stream, after the first few; the rest of the stream is consumed untimed."""

    def block() -> float:
        stream = function(TEXT)
        for _ in islice(stream, skipped):
            pass
        turns = islice(stream, number)
        began = perf_counter()
        for _ in turns:
            pass
        took = (perf_counter() - began) / number
        for _ in stream:
            pass
        return took

    return block


def alternate(ways: Mapping[str, Block], rounds: int) -> Times:
    """The times of all ways, a block of each in every round, each round beginning with another one."""
    names = list(ways)
    times: Times = {name: [] for name in names}
    for name in names:
        ways[name]()  # what is done at the first call only
    gc.collect()
    for turn in range(rounds):
        for place in range(len(names)):
            name = names[(turn + place) % len(names)]
            times[name].append(ways[name]())
    return times
