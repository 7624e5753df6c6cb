"""Backends whose truth a test knows: they take a known time and give known audio."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

RATE = 24000


def tone(seconds: float, rate: int = RATE) -> np.ndarray:
    """A sound well above the onset's threshold: a 440 Hz sine at half scale."""
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def silence(seconds: float, rate: int = RATE) -> np.ndarray:
    return np.zeros(round(seconds * rate), np.float32)


def burn(seconds: float) -> None:
    """Use the CPU of this thread for a known time."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def work(seconds: float) -> None:
    """Use the CPU until a known time has passed, as a model does that computes."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def schedule(*gaps_and_seconds: tuple[float, float], busy: bool = True) -> Iterator[np.ndarray]:
    """Chunks of known seconds, each made in a known time."""
    for gap, seconds in gaps_and_seconds:
        (work if busy else time.sleep)(gap)
        yield tone(seconds)
