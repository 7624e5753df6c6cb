"""Ends that are easily lost or come too early."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
from conftest import Spans

from ttstrace import semconv, traced_synthesis

CHUNK = np.zeros(2400, np.float32)


def test_an_awaited_stream_outlives_what_was_awaited(spans: Spans) -> None:
    @traced_synthesis(sample_rate=24000)
    async def speak(text: str) -> AsyncIterator[Any]:
        async def pieces() -> AsyncIterator[Any]:
            for _ in range(3):
                yield CHUNK

        return pieces()

    @traced_synthesis
    def other(text: str) -> None: ...

    async def main() -> None:
        stream = await speak("hello")
        gc.collect()
        other("in between")  # ends what was left behind: the stream was not
        spans.all()
        async for _ in stream:
            pass

    asyncio.run(main())
    attributes = next(dict(s.attributes or {}) for s in spans.syntheses() if s.name.endswith("speak"))
    assert attributes[semconv.TTS_STREAM_CHUNKS] == 3
    assert attributes[semconv.TTS_AUDIO_DURATION] == 0.3
    assert semconv.TTS_INTERRUPTED not in attributes
