"""To the program, a traced call is the call: same results, same exceptions, same appearance."""

from __future__ import annotations

import asyncio
import collections.abc
import copy
import functools
import gc
import inspect
import pickle
import types
import warnings
from collections.abc import Generator, Iterator
from typing import Any

import pytest
from conftest import Spans, set_tracer_provider
from opentelemetry import trace

import ttstrace
from ttstrace import synthesis, traced_synthesis

pytestmark = pytest.mark.usefixtures("spans")


def speak(text: str, *, speed: float = 1.0) -> bytes:
    """Say it."""
    return text.encode()


@traced_synthesis
def traced_at_top_level(text: str) -> bytes:
    return text.encode()


def test_a_traced_function_looks_like_the_function() -> None:
    traced = traced_synthesis(speak)
    assert traced.__name__ == "speak"
    assert traced.__doc__ == "Say it."
    assert traced.__module__ == speak.__module__
    assert inspect.signature(traced) == inspect.signature(speak)
    assert traced.__wrapped__ is speak
    assert inspect.isfunction(traced)
    assert functools.wraps(traced)(lambda text: traced(text))("hi") == b"hi"


def test_kinds_of_functions_stay_what_they_are() -> None:
    @traced_synthesis
    async def coroutine(text: str) -> None: ...

    @traced_synthesis
    def generator(text: str) -> Iterator[bytes]:
        yield b""

    @traced_synthesis
    async def async_generator(text: str) -> Any:
        yield b""

    assert inspect.iscoroutinefunction(coroutine)
    assert asyncio.iscoroutinefunction(coroutine)
    assert inspect.isgeneratorfunction(generator)
    assert inspect.isasyncgenfunction(async_generator)
    pending = coroutine("hi")
    assert asyncio.iscoroutine(pending)
    assert pending.__name__ == "coroutine"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pending.close()
    with pytest.warns(RuntimeWarning, match="coroutine '.*coroutine' was never awaited") as warned:
        coroutine("hi")
        gc.collect()
    assert len(warned) == 1


def test_pickled_by_name() -> None:
    assert pickle.loads(pickle.dumps(traced_at_top_level)) is traced_at_top_level


class Voice:
    def __init__(self) -> None:
        self.name = "ann"

    @traced_synthesis
    def speak(self, text: str) -> bytes:
        return (self.name + text).encode()


def test_bound_methods_are_pickled_and_copied_with_their_object() -> None:
    voice = Voice()
    assert pickle.loads(pickle.dumps(voice.speak))("!") == b"ann!"
    assert copy.copy(voice.speak)("!") == b"ann!"
    copied = copy.deepcopy(voice.speak)
    voice.name = "bob"
    assert (voice.speak("!"), copied("!")) == (b"bob!", b"ann!")
    assert copy.deepcopy(traced_at_top_level) is traced_at_top_level


def test_the_backend_runs_once_and_its_result_is_the_object_itself() -> None:
    calls = []

    @traced_synthesis
    def once(text: str) -> object:
        calls.append(text)
        return calls

    assert once("hi") is calls
    assert calls == ["hi"]


def test_wrong_arguments_raise_at_the_call() -> None:
    @traced_synthesis
    async def coroutine(text: str) -> None: ...

    @traced_synthesis
    def generator(text: str) -> Iterator[bytes]:
        yield b""

    for function in (coroutine, generator, traced_synthesis(speak)):
        with pytest.raises(TypeError, match="unexpected keyword argument 'nope'"):
            function("hi", nope=1)


def test_the_exception_is_the_object_itself(spans: Spans) -> None:
    error = ValueError("no")

    @traced_synthesis
    def fail(text: str) -> None:
        raise error

    with pytest.raises(ValueError, match="no") as caught:
        fail("hi")
    assert caught.value is error
    assert caught.value.__context__ is None
    assert [entry.name for entry in caught.traceback][-1] == "fail"


def conversation(text: str) -> Generator[str, str, str]:
    heard = yield text
    try:
        heard = yield heard
    except KeyError:
        heard = yield "caught"
    return heard


def test_generator_protocol(spans: Spans) -> None:
    stream = traced_synthesis(conversation)("hi")
    assert isinstance(stream, types.GeneratorType)
    assert isinstance(stream, collections.abc.Generator)
    assert inspect.isgenerator(stream)
    assert not hasattr(stream, "__len__")
    assert not isinstance(stream, collections.abc.Sized)
    assert iter(stream) is stream
    assert stream.gi_frame is not None
    assert next(stream) == "hi"
    assert stream.send("there") == "there"
    assert stream.throw(KeyError("x")) == "caught"
    with pytest.raises(StopIteration) as stopped:
        stream.send("bye")
    assert stopped.value.value == "bye"
    assert "error.type" not in spans.attributes()


def test_yield_from_passes_values_through(spans: Spans) -> None:
    def outer() -> Generator[str, str, str]:
        return (yield from traced_synthesis(conversation)("hi"))

    stream = outer()
    assert next(stream) == "hi"
    assert stream.send("there") == "there"
    with pytest.raises(StopIteration) as stopped:
        stream.send("bye")
    assert stopped.value.value == "bye"
    assert len(spans.syntheses()) == 1


def test_async_generator_protocol(spans: Spans) -> None:
    @traced_synthesis
    async def chat(text: str) -> Any:
        heard = yield text
        try:
            yield heard
        except KeyError:
            yield "caught"

    async def talk() -> None:
        stream = chat("hi")
        assert isinstance(stream, types.AsyncGeneratorType)
        assert isinstance(stream, collections.abc.AsyncIterator)
        assert aiter(stream) is stream
        assert await anext(stream) == "hi"
        assert await stream.asend("there") == "there"
        assert await stream.athrow(KeyError("x")) == "caught"
        with pytest.raises(StopAsyncIteration):
            await anext(stream)

    asyncio.run(talk())
    assert len(spans.syntheses()) == 1


class Stream:
    """An iterator with a life of its own."""

    voice = "ann"

    def __init__(self) -> None:
        self.left = 2
        self.entered = 0

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> bytes:
        if not self.left:
            raise StopIteration
        self.left -= 1
        return b"12"

    def __len__(self) -> int:
        return self.left

    def __enter__(self) -> Stream:
        self.entered += 1
        return self

    def __exit__(self, *error: object) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream)

    def __hash__(self) -> int:
        return 7

    def __repr__(self) -> str:
        return "Stream(...)"

    def rewind(self) -> str:
        self.left = 2
        return "rewound"


def test_iterator_proxy_is_the_object_to_all_appearances(spans: Spans) -> None:
    inner = Stream()
    stream = traced_synthesis(lambda text: inner)("hi")
    assert stream is not inner
    assert isinstance(stream, Stream)
    assert stream.__class__ is Stream
    assert (len(stream), bool(stream), repr(stream), hash(stream)) == (2, True, "Stream(...)", 7)
    assert stream == Stream()
    stream.voice = "bob"
    assert inner.voice == "bob"
    del stream.voice
    assert stream.voice == "ann"
    assert stream.rewind() == "rewound"
    assert next(stream) == b"12"
    with stream as entered:
        assert entered is stream
        raise KeyError("swallowed by the body's own __exit__")
    assert inner.entered == 1
    with pytest.raises(AttributeError, match="has no attribute 'nope'"):
        _ = stream.nope
    with pytest.raises(TypeError):
        stream[0]
    assert spans.attributes()["tts.interrupted"] is True


def test_after_the_end_the_proxy_goes_on_as_the_object(spans: Spans) -> None:
    stream = traced_synthesis(lambda text: Stream())("hi")
    assert len(list(stream)) == 2
    stream.rewind()
    assert len(list(stream)) == 2
    assert len(spans.syntheses()) == 1


def test_nothing_is_measured_without_a_provider() -> None:
    set_tracer_provider(None)
    seen = []

    @traced_synthesis
    def quiet(text: str) -> Iterator[bytes]:
        seen.append((synthesis.current(), trace.get_current_span()))
        yield b""

    stream = quiet("hi")
    assert type(stream) is types.GeneratorType
    list(stream)
    current, span = seen[0]
    current.chunk(b"12")
    current.add_text("x")
    current.set_attribute("x", 1)
    assert not span.get_span_context().is_valid


def test_suppressed_calls_pass_through(spans: Spans) -> None:
    from opentelemetry.instrumentation.utils import suppress_instrumentation

    traced = traced_synthesis(speak)
    with suppress_instrumentation():
        traced("hi")
        with synthesis(text="hi"):
            pass
    assert not spans.all()
    traced("hi")
    assert len(spans.all()) == 1


def test_public_names() -> None:
    for name in ttstrace.__all__:
        assert getattr(ttstrace, name) is not None
    assert set(ttstrace.__all__) <= set(dir(ttstrace))
    with pytest.raises(AttributeError, match="has no attribute 'nope'"):
        _ = ttstrace.nope  # type: ignore[attr-defined]


def test_import_loads_nothing_heavy() -> None:
    import subprocess
    import sys

    script = """
import sys
import ttstrace
heavy = ("opentelemetry.sdk", "opentelemetry.instrumentation", "opentelemetry.exporter", "numpy", "torch", "requests",
         "gtts", "hibari", "piper", "pyttsx3", "rich")
print([name for name in sys.modules if name.startswith(heavy)])
"""
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "[]\n"
