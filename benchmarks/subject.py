"""What everything is measured on: a function that returns one second of audio and does nothing for it, so that all the
time there is goes into measuring."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from ttstrace import traced_synthesis

TEXT = "hello"
AUDIO = np.zeros(24_000, np.float32)
CHUNK = (0.5 * np.sin(np.arange(1024) / 5)).astype(np.float32)
CHUNK_BYTES = (CHUNK * 32767).astype(np.int16).tobytes()
SILENCE = np.zeros(1024, np.float32)
RATE = 24_000
CHUNKS = 1060


def decorator(function: Any, **changed: Any) -> Any:
    """The function, traced, and all said of it that a user can say at once: every attribute of a call is there."""
    options: dict[str, Any] = {"provider": "acme", "model": "m", "voice": "v", "language": "en", "device": "cpu"}
    return traced_synthesis(**{**options, "sample_rate": RATE, "producer": "pull", **changed})(function)


def speak(text: str) -> np.ndarray:
    return AUDIO


def play(text: str) -> None:
    """Says nothing, as a backend that plays its sound itself."""


def stream(text: str) -> Iterator[np.ndarray]:
    for _ in range(CHUNKS):
        yield CHUNK


def bytes_stream(text: str) -> Iterator[bytes]:
    for _ in range(CHUNKS):
        yield CHUNK_BYTES


def silent_stream(text: str) -> Iterator[np.ndarray]:
    for _ in range(CHUNKS):
        yield SILENCE


class Keep(SpanProcessor):
    """Keeps the span that ended last, and drops all others: what exporting costs is no figure of ours."""

    last: ReadableSpan

    def on_end(self, span: ReadableSpan) -> None:
        self.last = span
