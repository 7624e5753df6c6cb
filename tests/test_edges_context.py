"""Which span is current, for whom, and whose child a synthesis is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pytest
from conftest import Spans
from opentelemetry import trace

from ttstrace import synthesis, traced_synthesis

CHUNK = np.zeros(2400, np.float32)


def _current() -> Any:
    return trace.get_current_span().get_span_context()


@traced_synthesis
def stream(text: str) -> Iterator[Any]:
    yield CHUNK


@traced_synthesis
async def astream(text: str) -> AsyncIterator[Any]:
    yield CHUNK


@traced_synthesis
async def whole(text: str) -> Any:
    return CHUNK


async def _drain(pieces: Any) -> None:
    async for _ in pieces:
        pass


@pytest.mark.parametrize("function", [stream, astream, whole], ids=lambda function: function.__name__)
def test_the_parent_is_the_callers_span_of_the_call(spans: Spans, function: Any) -> None:
    async def main() -> None:
        with trace.get_tracer("app").start_as_current_span("app") as span:
            result = function("hello")
        if function is stream:
            list(result)
        else:
            await (result if function is whole else _drain(result))
        parent = spans.one().parent
        assert parent is not None
        assert parent.span_id == span.get_span_context().span_id

    asyncio.run(main())


def test_a_span_that_is_opened_late_keeps_its_children(spans: Spans) -> None:
    tracer = trace.get_tracer("backend")
    seen: list[Any] = []

    @traced_synthesis
    def speak(text: str) -> Iterator[Any]:
        yield CHUNK
        with tracer.start_as_current_span("late") as late:
            yield CHUNK
            seen.extend((_current(), late.get_span_context()))
            yield CHUNK
        seen.append(_current())

    for _ in speak("hello"):
        assert not _current().is_valid
    assert seen[0] == seen[1]
    assert seen[2] == spans.syntheses()[0].context


def test_every_async_pull_has_the_span_current(spans: Spans) -> None:
    tracer = trace.get_tracer("backend")
    seen: list[Any] = []

    @traced_synthesis
    async def speak(text: str) -> AsyncIterator[Any]:
        for _ in range(3):
            seen.append(_current())
            yield CHUNK
        with tracer.start_as_current_span("late") as late:
            yield CHUNK
            assert _current() == late.get_span_context()

    async def main() -> None:
        async for _ in speak("hello"):
            assert not _current().is_valid
        assert not _current().is_valid

    asyncio.run(main())
    assert {context.span_id for context in seen} == {spans.one().context.span_id}


def test_every_async_read_has_the_span_current(spans: Spans) -> None:
    seen: list[Any] = []

    class Body:
        left = 3

        async def read(self, size: int = -1) -> bytes:
            seen.append(_current())
            await asyncio.sleep(0)
            seen.append(_current())
            self.left -= 1
            return b"x" * self.left

    @traced_synthesis
    def speak(text: str) -> Body:
        return Body()

    async def main() -> None:
        body = speak("hello")
        while await body.read(10):
            assert not _current().is_valid
        assert not _current().is_valid

    asyncio.run(main())
    assert len(seen) == 6
    assert {context.span_id for context in seen} == {spans.one().context.span_id}


def test_by_hand_the_span_is_current_inside_and_only_there(spans: Spans) -> None:
    with trace.get_tracer("app").start_as_current_span("app") as span:
        with synthesis(text="hello"):
            assert _current() != span.get_span_context()
        assert _current() == span.get_span_context()
        with pytest.raises(ValueError), synthesis(text="hello"):  # noqa: PT011
            raise ValueError
        assert _current() == span.get_span_context()
    assert not _current().is_valid


def test_a_failed_call_leaves_the_callers_span_current(spans: Spans) -> None:
    @traced_synthesis
    def fails(text: str) -> None:
        raise ValueError

    @traced_synthesis
    async def fails_later(text: str) -> None:
        raise ValueError

    async def main() -> None:
        with pytest.raises(ValueError):  # noqa: PT011
            await fails_later("hello")
        assert not _current().is_valid
        await whole("hello")
        assert not _current().is_valid

    with pytest.raises(ValueError):  # noqa: PT011
        fails("hello")
    assert not _current().is_valid
    asyncio.run(main())


def test_a_closed_body_cleans_up_in_its_own_context(spans: Spans) -> None:
    seen: list[Any] = []

    @traced_synthesis
    def speak(text: str) -> Iterator[Any]:
        try:
            yield CHUNK
        finally:
            seen.append(_current())

    @traced_synthesis
    async def aspeak(text: str) -> AsyncIterator[Any]:
        try:
            yield CHUNK
        finally:
            seen.append(_current())
            await asyncio.sleep(0)
            seen.append(_current())

    async def main() -> None:
        pieces = aspeak("hello")
        await pieces.__anext__()
        await pieces.aclose()  # type: ignore[attr-defined]
        assert not _current().is_valid

    pieces = speak("hello")
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    assert not _current().is_valid
    assert [context.span_id for context in seen] == [spans.one().context.span_id]
    spans.clear()
    seen.clear()
    asyncio.run(main())
    assert [context.span_id for context in seen] == [spans.one().context.span_id] * 2
