"""`stage()`: one part of a synthesis."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from opentelemetry.context import attach, get_current
from opentelemetry.trace import Status, StatusCode, set_span_in_context

from ttstrace import semconv
from ttstrace.exceptions import type_name
from ttstrace.faults import report
from ttstrace.lifecycle import Synthesis, later, running
from ttstrace.providers import tracer
from ttstrace.values import encodable

if TYPE_CHECKING:
    from typing_extensions import Self

_Function = TypeVar("_Function", bound=Callable[..., Any])


class stage:
    """One part of a synthesis: a child span, and its seconds on the synthesis as `tts.stage.duration.<name>`.

    A context manager (`with` and `async with`) and a decorator for functions and coroutine functions. Time that the
    consumer of a stream spends meanwhile is taken off. Where no synthesis is running it does nothing.

    Args:
        name: what the part is called: `"vocoder"`, `"text normalization"`.
        synthesis: False for time that is no synthesis, such as playing the sound: it counts as hold.

    Raises:
        TypeError, ValueError: the name is no non-empty str; what is decorated is a generator function.
    """

    __slots__ = ("_entered", "_entered_from", "_held", "_name", "_running", "_span", "_started", "_synthesis")

    def __init__(self, name: str, *, synthesis: bool = True) -> None:
        if not isinstance(name, str):
            raise TypeError(f"a stage's name must be a str, not {type(name).__name__}; write stage('vocoder')")
        if not name:
            raise ValueError("a stage's name must not be empty; write stage('vocoder')")
        self._name = encodable(name)
        self._synthesis = synthesis
        self._running: Synthesis | None = None

    def __enter__(self) -> Self:
        try:
            context = get_current()
            synthesis = running(context)
            if synthesis is not None:
                self._entered = self._entered_from = context
                self._span = None
                used_tracer = tracer()
                if synthesis.span is not None and used_tracer is not None:
                    self._span = used_tracer.start_span(
                        self._name, context, record_exception=False, set_status_on_exception=False
                    )
                    self._entered = set_span_in_context(self._span, context)
                    attach(self._entered)
                self._held = 0.0 if synthesis.timeline is None else synthesis.timeline.hold
                self._running = synthesis
                self._started = perf_counter()
        except Exception as fault:
            report(fault)
        return self

    def __exit__(
        self, cls: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        synthesis = self._running
        if synthesis is None:
            return
        try:
            elapsed = perf_counter() - self._started
            self._running = None
            span = self._span
            if span is not None:
                if isinstance(error, GeneratorExit):
                    # The generator around it was closed, perhaps by the garbage collector in the midst of anything: the
                    # context that is current then is not ours to change.
                    if get_current() is self._entered:
                        attach(self._entered_from)
                    later(span.end)
                else:
                    attach(self._entered_from)
                    if isinstance(error, Exception):
                        span.set_attribute(semconv.ERROR_TYPE, type_name(error))
                        span.set_status(Status(StatusCode.ERROR))
                    span.end()
            if synthesis.timeline is not None:
                elapsed -= synthesis.timeline.hold - self._held
            synthesis.add_stage(self._name, elapsed)
            if not self._synthesis:
                synthesis.mark_hold(elapsed)
        except Exception as fault:
            report(fault)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, cls: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(cls, error, traceback)

    def __call__(self, function: _Function) -> _Function:
        name, counts = self._name, self._synthesis
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                f"stage({name!r}) cannot decorate a generator function; write `with stage({name!r}):` inside it"
            )
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def staged_coroutine(*args: Any, **kwargs: Any) -> Any:
                with stage(name, synthesis=counts):
                    return await function(*args, **kwargs)

            return cast("_Function", staged_coroutine)

        @functools.wraps(function)
        def staged(*args: Any, **kwargs: Any) -> Any:
            with stage(name, synthesis=counts):
                return function(*args, **kwargs)

        return cast("_Function", staged)
