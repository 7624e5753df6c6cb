"""`stage()`: one part of a synthesis."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from opentelemetry.context import Context
from opentelemetry.trace import Status, StatusCode, set_span_in_context

from ttstrace import semconv
from ttstrace.api import attach, get_current
from ttstrace.endings import later
from ttstrace.exceptions import type_name
from ttstrace.faults import apart, report
from ttstrace.lifecycle import Synthesis, back_to, running
from ttstrace.providers import tracer
from ttstrace.values import encodable

if TYPE_CHECKING:
    from opentelemetry.trace import Span
    from typing_extensions import Self

_Function = TypeVar("_Function", bound=Callable[..., Any])


class _Part:
    """A stage that was entered."""

    __slots__ = ("_entered_from", "_held", "_span", "_started", "entered", "synthesis")

    def __init__(self, synthesis: Synthesis, context: Context) -> None:
        self.synthesis = synthesis
        self.entered = self._entered_from = context
        self._span: Span | None = None
        self._held = 0.0
        self._started = 0.0

    def enter(self, name: str) -> None:
        """Start the span. Where this raises, the part is to be given up."""
        synthesis, context = self.synthesis, self._entered_from
        used_tracer = tracer()
        if synthesis.span is not None and used_tracer is not None:
            self._span = span = used_tracer.start_span(
                name, context, record_exception=False, set_status_on_exception=False
            )
            self.entered = set_span_in_context(span, context)
            attach(self.entered)
        self._held = 0.0 if synthesis.timeline is None else synthesis.timeline.hold
        self._started = perf_counter()

    def leave(self, error: BaseException | None) -> float:
        """End the span; the stage's seconds, hold taken off. Where this raises, the part is to be given up."""
        elapsed = perf_counter() - self._started
        span = self._span
        if span is not None:
            if isinstance(error, GeneratorExit):
                # The generator around it was closed, perhaps by the garbage collector in the midst of anything: the
                # context that is current then is not ours to change.
                if get_current() is self.entered:
                    attach(self._entered_from)
                later(span.end)
            else:
                back_to(self._entered_from)
                if isinstance(error, Exception):
                    span.set_attribute(semconv.ERROR_TYPE, type_name(error))
                    span.set_status(Status(StatusCode.ERROR))
                apart(span.end)
        if self.synthesis.timeline is not None:
            elapsed -= self.synthesis.timeline.hold - self._held
        return elapsed

    def give_up(self) -> None:
        """A fault of ours, or an interruption, while it was entered or left: the span ends all the same."""
        span = self._span
        try:
            if get_current() is self.entered:
                back_to(self._entered_from)
        except BaseException as fault:
            report(fault)
        finally:
            if span is not None:
                _end(span)


def _end(span: Span) -> None:
    try:
        if span.is_recording():
            apart(span.end)
    except BaseException as fault:
        report(fault)


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

    __slots__ = ("_name", "_open", "_synthesis")

    def __init__(self, name: str, *, synthesis: bool = True) -> None:
        if not isinstance(name, str):
            raise TypeError(f"a stage's name must be a str, not {type(name).__name__}; write stage('vocoder')")
        if not name:
            raise ValueError("a stage's name must not be empty; write stage('vocoder')")
        self._name = encodable(name)
        self._synthesis = synthesis
        self._open: list[tuple[Context | None, _Part | None]] = []
        """What was entered and not yet left, by the context inside: more than one where the same object is entered
        again, inside itself or in another thread."""

    def __enter__(self) -> Self:
        part = context = None
        try:
            context = get_current()
            synthesis = running(context)
            if synthesis is not None:
                part = _Part(synthesis, context)
                part.enter(self._name)
                context = part.entered
            self._open.append((context, part))
        except BaseException as fault:
            if part is not None:
                part.give_up()
            report(fault)
            self._open.append((None, None))  # it will be left all the same
        return self

    def __exit__(
        self, cls: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        opened = self._open
        entry = opened[-1]
        try:
            if len(opened) > 1:  # the one whose context is current, else the last
                context = get_current()
                entry = next((each for each in reversed(opened) if each[0] is context), entry)
            opened.remove(entry)
            part = entry[1]
            if part is not None:
                elapsed = part.leave(error)
                part.synthesis.add_stage(self._name, elapsed)
                if not self._synthesis:
                    part.synthesis.mark_hold(elapsed)
        except BaseException as fault:
            if entry[1] is not None:
                entry[1].give_up()
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
                __tracebackhide__ = True
                with stage(name, synthesis=counts):
                    return await function(*args, **kwargs)

            return cast("_Function", staged_coroutine)

        @functools.wraps(function)
        def staged(*args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            with stage(name, synthesis=counts):
                return function(*args, **kwargs)

        return cast("_Function", staged)
