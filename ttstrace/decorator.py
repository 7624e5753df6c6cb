"""`@traced_synthesis`: a span for every call of a function that synthesizes speech."""

from __future__ import annotations

import copy
import difflib
import functools
import importlib
import inspect
import operator
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, overload

import wrapt
from opentelemetry.context import Context

from ttstrace.api import attach, get_current
from ttstrace.call import Call, Options, Target, carried_context, told
from ttstrace.endings import drain
from ttstrace.faults import report
from ttstrace.lifecycle import Synthesis, back_to, running, suppressed
from ttstrace.providers import idle
from ttstrace.pulls import Guard
from ttstrace.streams import adopt_name, drive, hand_on, hand_on_later

if TYPE_CHECKING:
    import os

    from ttstrace.timeline import Producer

_Function = TypeVar("_Function", bound=Callable[..., Any])
_Text = str | Callable[[Call], Any] | None


@overload
def traced_synthesis(function: _Function, /) -> _Function: ...
@overload
def traced_synthesis(
    *,
    provider: str | Callable[[Call], Any] | None = None,
    model: str | os.PathLike[str] | Callable[[Call], Any] | None = None,
    voice: str | Callable[[Call], Any] | None = None,
    language: str | Callable[[Call], Any] | None = None,
    text: str | Callable[[Call], Any] | None = None,
    sample_rate: int | Callable[[Call], Any] | None = None,
    audio: Callable[[Call], Any] | None = None,
    format: str | Callable[[Call], Any] | None = None,
    device: str | Callable[[Call], Any] | None = None,
    producer: Producer | None = None,
    attributes: Mapping[str, Any] | Callable[[Call], Any] | None = None,
    callback: str | None = None,
) -> Callable[[_Function], _Function]: ...
def traced_synthesis(function: Any = None, /, **options: Any) -> Any:
    """Trace every call of a function that synthesizes speech, whatever it returns.

    Bare (`@traced_synthesis`) or with options; on functions, coroutine functions, generator and async generator
    functions, methods, class and static methods, callable objects and partials. What the call returns or raises is
    unchanged; a lazy result (an iterator, a response body, an awaitable) is measured while it is consumed.

    Every option but `text`, `callback` and `producer` is a literal or a callable that gets the `Call` (`.instance`,
    `.arguments` by name, `.result`; for a stream, `.chunk`).

    Args:
        function: what to trace.
        provider: who synthesizes. Unset: the owning class, else the module.
        model: name of the model; of a file's path, the last component without suffix is recorded.
        voice: name or id of the voice.
        language: BCP 47.
        text: name of the parameter that holds the text. Unset: the first of text, texts, gen_text, ... that holds some;
            else the only str argument that can be it.
        sample_rate: Hz, where the result does not say it.
        audio: where the audio is in the result (`.result`) or in a chunk of it (`.chunk`).
        format: of raw bytes, for example `"pcm_s16le"`.
        device: `"cpu"`, `"cuda:0"`. Unset: where the model's parameters are.
        producer: `"pull"` where a stream is made only while it is pulled, `"push"` where it is made meanwhile, as by a
            remote service.
        attributes: further attributes of the span: bool, str, int, float.
        callback: name of the parameter that holds a callable, sync or async, which is given each chunk as its first
            argument (or what `audio` picks out of that). Time inside it is hold; where the synthesis waits for it,
            `producer="pull"` says so.

    Returns:
        The function, traced; used with options, what traces it.

    Raises:
        TypeError, ValueError: an option is unknown or has no meaning, or `text` or `callback` names no parameter: said
            when the decorator is applied.
    """
    if function is None:
        checked = _checked(options)
        return lambda function: trace(function, checked)
    return trace(function, _checked(options))


_PUBLIC = (
    "provider", "model", "voice", "language", "text", "sample_rate", "audio", "format", "device", "producer",
    "attributes", "callback",
)  # fmt: skip


def _checked(options: dict[str, Any]) -> Options:
    for name in options:
        if name not in _PUBLIC:
            near = difflib.get_close_matches(name, _PUBLIC, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(_PUBLIC)}"
            raise TypeError(f"traced_synthesis has no option {name!r}{hint}")
    return Options(**options)


def trace(function: Any, options: Options, *, name: str | None = None, patched: bool = False) -> Any:
    """A traced stand-in for a callable; see :func:`traced_synthesis`.

    Args:
        function: any callable, or a classmethod or staticmethod object.
        options: what is known of it.
        name: its qualified name, where it does not tell itself.
        patched: put in place of a library's own callable: inside another such one it is the same synthesis.
    """
    if isinstance(function, type):
        raise TypeError(f"{function.__name__} is a class: trace the method that synthesizes, not the class")
    if not callable(function) and not isinstance(function, (classmethod, staticmethod)):
        raise TypeError(f"only a callable can be traced, not {type(function).__name__}")
    target = Target(function, options, name=name, patched=patched)
    return Traced(function, target)


class Traced(wrapt.FunctionWrapper):  # type: ignore[type-arg]
    """The callable itself, to all appearances, with a measured call."""

    def __init__(self, function: Any, target: Target) -> None:
        super().__init__(function, _CALLS[_kind(function)](target))
        self._self_target = target

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.__qualname__  # pickled by name, as any function

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: Any) -> Any:
        return self


class _TracedMethod(wrapt.BoundFunctionWrapper):  # type: ignore[type-arg]
    """A traced callable got from an instance or a class."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        owner = getattr(self, "__self__", None)
        if owner is None:  # got from its class, or a staticmethod: by name, as any function
            found = self.__module__, self.__qualname__
            _look_up(*found)
            return _look_up, found
        return getattr, (owner, self.__name__)

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: Any) -> Any:
        if getattr(self, "__self__", None) is None:
            return self
        return getattr(copy.deepcopy(self.__self__, memo), self.__name__)  # as a bound method is


def _look_up(module: str, qualified: str) -> Any:
    """What a module has under a dotted name.

    Raises:
        AttributeError: nothing, as of what was defined inside a function.
    """
    return operator.attrgetter(qualified)(importlib.import_module(module))


Traced.__bound_function_wrapper__ = _TracedMethod  # type: ignore[misc]


def _kind(function: Any) -> str:
    """What the function is settles when its synthesis starts."""
    if isinstance(function, (classmethod, staticmethod)):
        function = function.__func__
    while isinstance(function, functools.partial):
        function = function.func
    if not inspect.isroutine(function):
        function = type(function).__call__
    if inspect.iscoroutinefunction(function):
        return "coroutine"
    if inspect.isgeneratorfunction(function):
        awaited = function.__code__.co_flags & inspect.CO_ITERABLE_COROUTINE  # by `types.coroutine`
        return "coroutine" if awaited else _kind_of_generator(function)
    if inspect.isasyncgenfunction(function):
        return _kind_of_generator(function)
    return "call"


def _kind_of_generator(function: Any) -> str:
    """What somebody else has put around it, which looks the same, runs when it is called: a span, say, starts there."""
    others = isinstance(function, (wrapt.FunctionWrapper, wrapt.BoundFunctionWrapper))
    return "call" if others and not isinstance(function, (Traced, _TracedMethod)) else "generator"


def _wanted(target: Target, instance: Any, args: Any, kwargs: Any) -> Context | None:
    """The caller's context, if the call is to be measured."""
    if not target.enabled:
        return None
    if idle():
        target.warm(instance, args, kwargs)
        return None
    context = get_current()
    if target.patched:
        carried = carried_context(instance)
        if carried is not None and not context:
            context = carried
    if suppressed(context):
        return None
    if target.stays and (open_one := told(instance)) is not None:
        open_one.go_on(target, instance, args, kwargs)
        return None
    if target.patched:
        outer = running(context)
        if outer is not None and outer.operation.patched:
            return None  # reached from inside another patched callable: one synthesis, the outermost
    return context


def _traced_call(target: Target) -> Callable[..., Any]:
    """For functions that run when they are called."""

    def call(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        __tracebackhide__ = True  # by Sentry and pytest: what is called with may be the text
        outer = context = None
        synthesis: Any = None
        try:
            outer = _wanted(target, instance, args, kwargs)
            if outer is not None:
                drain()
                synthesis = target.synthesis(target, instance, args, kwargs)
                if synthesis.is_synthesis():
                    args, kwargs = synthesis.take_arguments()
                    context = synthesis.begin(outer)
                    if context is not None:
                        attach(context)
        except BaseException as fault:
            if synthesis is not None:
                context = None
                _give_up(synthesis, outer)  # type: ignore[arg-type]
            report(fault)
        if context is None:
            return wrapped(*args, **kwargs)
        try:
            result = wrapped(*args, **kwargs)
        except BaseException as error:
            try:
                attach(outer)  # type: ignore[arg-type]
                synthesis.fail(error)
            except BaseException as fault:
                _give_up(synthesis, outer)  # type: ignore[arg-type]
                report(fault)
            raise
        try:
            attach(outer)  # type: ignore[arg-type]
            return hand_on(synthesis, result)
        except BaseException as fault:
            _give_up(synthesis, outer)  # type: ignore[arg-type]
            report(fault)
            return result

    return call


def _give_up(synthesis: Synthesis, outer: Context) -> None:
    """A fault of ours, or an interruption, between the context's change and the call's end: as if there were none."""
    try:
        back_to(outer)
    finally:
        synthesis.give_up()


def _prepare(
    target: Target, instance: Any, args: Any, kwargs: Any
) -> tuple[tuple[Synthesis, Context] | None, Any, Any]:
    """A synthesis that is yet to start, and where, if the call is to be measured; and the arguments to call with."""
    try:
        parent = _wanted(target, instance, args, kwargs)
        if parent is not None:
            synthesis = target.synthesis(target, instance, args, kwargs)
            if synthesis.is_synthesis():
                return (synthesis, parent), *synthesis.take_arguments()
    except BaseException as error:
        report(error)
    return None, args, kwargs


def _traced_generator(target: Target) -> Callable[..., Any]:
    """For generator and async generator functions: nothing runs before the first pull."""

    def call(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        __tracebackhide__ = True
        prepared, args, kwargs = _prepare(target, instance, args, kwargs)
        generator = wrapped(*args, **kwargs)
        if prepared is None:
            return generator
        synthesis, parent = prepared
        return hand_on_later(synthesis, generator, parent)

    return call


def _traced_coroutine(target: Target) -> Callable[..., Any]:
    """For coroutine functions: nothing runs before the first await."""

    def call(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        __tracebackhide__ = True
        prepared, args, kwargs = _prepare(target, instance, args, kwargs)
        coroutine = wrapped(*args, **kwargs)
        if prepared is None:
            return coroutine
        synthesis, parent = prepared
        return adopt_name(drive(Guard(synthesis, coroutine), coroutine, parent), coroutine)

    return call


_CALLS: dict[str, Callable[[Target], Callable[..., Any]]] = {
    "call": _traced_call,
    "generator": _traced_generator,
    "coroutine": _traced_coroutine,
}
