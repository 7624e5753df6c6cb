"""The proxies that keep a synthesis alive while the caller consumes a lazy result.

A result that came whole is handed on as it is. One that is still to come (an iterator, an async iterator, a lazy
body, an awaitable) is handed on inside a proxy that looks and behaves like it and tells the synthesis of every pull.
A future is handed on as it is, with a callback.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, MutableMapping
from types import CoroutineType, GeneratorType
from typing import Any, Final

from opentelemetry.context import Context

from ttstrace.api import attach, get_current
from ttstrace.audio import AudioReader, OutputFile
from ttstrace.endings import drain
from ttstrace.faults import is_fault, report
from ttstrace.lifecycle import Synthesis, back_to
from ttstrace.pulls import Guard, Pieces, Pulls, Waiting

_WHOLE: Final = frozenset(
    {type(None), bytes, bytearray, memoryview, str, int, float, bool, tuple, list, dict, set, frozenset}
)


def hand_on(synthesis: Synthesis, result: Any, *, waits: bool = True) -> Any:
    """End the synthesis with a result that came whole, or let it live on with a lazy one.

    Args:
        synthesis: that of the call.
        result: what it returned.
        waits: it may still be waited for, by a method that the operation names.

    Returns what the caller is to get: the result itself, or a proxy around it.
    """
    cls = type(result)
    if synthesis.operation.stays and synthesis.is_open(result):
        return result
    operation = synthesis.operation
    if operation.defers:
        if waits and operation.wait is not None and hasattr(result, operation.wait):
            return _proxy(result, Waiting(synthesis, operation.wait))
        if operation.continues:
            if synthesis.is_continued(result):
                _announced[result] = Waiting(synthesis)
                return result
        elif (found := synthesis.find_body(result)) is not None:
            _put_between(synthesis, *found)
            return result
    if cls in _WHOLE or hasattr(cls, "dtype"):
        synthesis.finish(result)
        return result
    if isinstance(result, concurrent.futures.Future) or asyncio.isfuture(result):
        result.add_done_callback(_Settler(Guard(synthesis)))
        return result
    if hasattr(cls, "__await__"):
        if isinstance(result, CoroutineType):
            return adopt_name(drive(Guard(synthesis, result), result, None), result)
        return _proxy(result, Pulls(synthesis, None))  # it may be a stream or a context manager as well
    if hasattr(cls, "__aiter__"):
        return _stream(synthesis, result)
    if hasattr(cls, "read") or hasattr(result, "read"):
        # What can be sought through is a file, complete and only to be looked at; what cannot is still to come,
        # unless an option knows where in it the audio is.
        if not synthesis.operation.picks and not _seekable(result):
            return _stream(synthesis, result)
    elif cls is GeneratorType and result.gi_code.co_flags & inspect.CO_ITERABLE_COROUTINE:  # by `types.coroutine`
        return adopt_name(drive(Guard(synthesis), result, None), result)
    elif hasattr(cls, "__next__"):
        synthesis.sync_generator = isinstance(result, GeneratorType)
        return _stream(synthesis, result)
    elif hasattr(cls, "__anext__"):
        return _stream(synthesis, result)
    synthesis.finish(result)
    return result


def _stream(synthesis: Synthesis, result: Any) -> Any:
    synthesis.streamed = True
    return _proxy(result, Pulls(synthesis, None))


def _put_between(synthesis: Synthesis, owner: Any, name: str) -> None:
    """Put a proxy where a body is kept that everybody reads through there."""
    if isinstance(owner, MutableMapping):
        owner[name] = _stream(synthesis, owner[name])
    else:
        setattr(owner, name, _stream(synthesis, getattr(owner, name)))


def hand_on_later(synthesis: Synthesis, generator: Any, parent: Context) -> Any:
    """A generator that has not begun: its synthesis starts with the first pull, as a child of `parent`."""
    synthesis.sync_generator = isinstance(generator, GeneratorType)
    return _proxy(generator, Pulls(synthesis, parent))


def _seekable(result: Any) -> bool:
    seekable = getattr(result, "seekable", None)
    try:
        return bool(seekable()) is True if callable(seekable) and not inspect.iscoroutinefunction(seekable) else False
    except BaseException as error:  # a closed file raises
        if not is_fault(error):
            raise
        return False


def count_pieces(synthesis: Synthesis, text: Any) -> Any:
    """The iterator of a text's pieces, inside a proxy that counts them for the synthesis."""
    return _proxy(text, Pieces(synthesis))


# --- awaitables and futures --------------------------------------------------------------------------------------


async def drive(guard: Guard, awaitable: Awaitable[Any], parent: Context | None) -> Any:
    """Await what a call returned, with the span current, and hand on what comes of it.

    Args:
        guard: of a synthesis that is started already, or with `parent` to be started now.
        awaitable: what the call returned.
        parent: the caller's context at the call, for a synthesis that starts with the first await.
    """
    synthesis = guard.synthesis
    outer = context = None
    try:
        outer = get_current()
        drain()
        context = synthesis.context if parent is None else synthesis.begin(parent)
        if context is not None:
            attach(context)
    except BaseException as error:
        context = None
        _give_up(synthesis, outer)
        report(error)
    if outer is None or context is None:
        synthesis.drop()
        return await awaitable
    try:
        result = await awaitable
    except GeneratorExit:
        synthesis.leave(outer)
        guard.seen()  # closed, perhaps by the garbage collector: the guard goes with this frame
        raise
    except BaseException as error:
        try:
            attach(outer)
            synthesis.fail(error)
        except BaseException as fault:
            _give_up(synthesis, outer)
            report(fault)
        raise
    try:
        attach(outer)
        handed_on = hand_on(synthesis, result)
        guard.passed_on = True
        return handed_on
    except BaseException as fault:
        _give_up(synthesis, outer)
        report(fault)
        return result


def _give_up(synthesis: Synthesis, outer: Context | None) -> None:
    """A fault of ours, or an interruption, around what was awaited: as if it were not measured."""
    try:
        if outer is not None:
            back_to(outer)
    finally:
        synthesis.give_up()


def adopt_name(coroutine: Any, original: Any) -> Any:
    """Let a coroutine of ours go by the name of the one it drives: warnings and task dumps show it."""
    coroutine.__name__ = getattr(original, "__name__", coroutine.__name__)
    coroutine.__qualname__ = getattr(original, "__qualname__", coroutine.__qualname__)
    return coroutine


class _Settler:
    """Done callback of a future; a future that is dropped before it is done takes the guard along."""

    __slots__ = ("_guard",)

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def __call__(self, future: Any) -> None:
        synthesis = self._guard.synthesis
        try:
            if future.cancelled():
                synthesis.fail(asyncio.CancelledError())
                return
            # `exception()` of an asyncio future would also mark it as retrieved, and silence the warning about an
            # exception that nobody looked at.
            error = future._exception if hasattr(future, "_exception") else future.exception()
            if error is not None:
                synthesis.fail(error)
            else:
                synthesis.finish(future.result())
        except BaseException as fault:
            synthesis.give_up()
            report(fault)


# --- proxies -----------------------------------------------------------------------------------------------------

_set = object.__setattr__
_WHOLE_BODY: Final = frozenset({"content", "data"})
"""What HTTP clients call the property of a response that reads all of it."""


class Proxy:
    """Looks and behaves like the lazy result inside it; the classes below add what is measured.

    `_ttstrace_body` is the result, `_ttstrace_pulls` is what every pull goes through.
    """

    __slots__ = ("__weakref__", "_ttstrace_body", "_ttstrace_pulls")

    _ttstrace_body: Any
    _ttstrace_pulls: Any

    def __init__(self, body: Any, pulls: Pulls | Pieces | Waiting) -> None:
        _set(self, "_ttstrace_body", body)
        _set(self, "_ttstrace_pulls", pulls)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return type(self._ttstrace_body)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._ttstrace_body, name)
        pulls = self._ttstrace_pulls
        if type(pulls) is not Pulls:
            return _measured_wait(pulls, value) if type(pulls) is Waiting and name == pulls.method else value
        if name in _WHOLE_BODY and isinstance(value, bytes):
            return self._ttstrace_pulls.read(True, lambda: value, (), {})
        measured = _MEASURED_METHODS.get(name)
        if measured is None and isinstance(self._ttstrace_body, (Generator, AsyncGenerator)):
            measured = _MEASURED_METHODS_OF_GENERATORS.get(name)
        if measured is None and name.startswith(("iter_", "aiter_")):
            measured = _measured_iteration
        return value if measured is None or not callable(value) else measured(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._ttstrace_body, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._ttstrace_body, name)

    def __dir__(self) -> list[str]:
        return dir(self._ttstrace_body)

    def __repr__(self) -> str:
        return repr(self._ttstrace_body)

    def __str__(self) -> str:
        return str(self._ttstrace_body)

    def __hash__(self) -> int:
        return hash(self._ttstrace_body)

    def __eq__(self, other: object) -> bool:
        return bool(self._ttstrace_body == (other._ttstrace_body if type(other) is type(self) else other))

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self._ttstrace_body.__reduce_ex__(protocol)


def _forward(name: str) -> Callable[..., Any]:
    def special(self: Proxy, *args: Any, **kwargs: Any) -> Any:
        return getattr(self._ttstrace_body, name)(*args, **kwargs)

    special.__name__ = name
    return special


def _next(self: Proxy) -> Any:
    pulls = self._ttstrace_pulls
    return pulls.pull(self._ttstrace_body.__next__)


def _iter(self: Proxy) -> Any:
    iterator = iter(self._ttstrace_body)
    return self if iterator is self._ttstrace_body else _share(self, iterator)


def _anext(self: Proxy) -> Any:
    return self._ttstrace_pulls.apull(self._ttstrace_body.__anext__)


def _aiter(self: Proxy) -> Any:
    iterator = aiter(self._ttstrace_body)
    return self if iterator is self._ttstrace_body else _share(self, iterator)


def _await(self: Proxy) -> Generator[Any, Any, Any]:
    return drive(self._ttstrace_pulls, self._ttstrace_body, None).__await__()


def _enter(self: Proxy) -> Any:
    entered = self._ttstrace_body.__enter__()
    return self if entered is self._ttstrace_body else _share(self, entered)


def _exit(self: Proxy, *error: Any) -> Any:
    try:
        return self._ttstrace_body.__exit__(*error)
    finally:
        self._ttstrace_pulls.closed()


async def _aenter(self: Proxy) -> Any:
    entered = await self._ttstrace_body.__aenter__()
    return self if entered is self._ttstrace_body else _share(self, entered)


async def _aexit(self: Proxy, *error: Any) -> Any:
    try:
        return await self._ttstrace_body.__aexit__(*error)
    finally:
        self._ttstrace_pulls.closed()


def _share(self: Proxy, part: Any) -> Any:
    """A proxy for another face of the same body: its iterator, what entering it gave; what came whole as it is."""
    cls = type(part)
    return part if cls in _WHOLE or hasattr(cls, "dtype") else _proxy(part, self._ttstrace_pulls)


def _measured_wait(guard: Waiting, method: Callable[..., Any]) -> Callable[..., Any]:
    """The method that waits for what a call is at work on, as `drive` is for what is awaited."""

    def wait(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        synthesis = guard.synthesis
        outer = context = None
        try:
            outer, context = get_current(), synthesis.context
            if context is not None:
                guard.ask()
                attach(context)
        except BaseException as fault:
            context = None
            _give_up(synthesis, outer)
            report(fault)
        if outer is None or context is None:  # it has ended
            return method(*args, **kwargs)
        try:
            result = method(*args, **kwargs)
        except BaseException as error:
            try:
                attach(outer)
                synthesis.fail(error)
            except BaseException as fault:
                _give_up(synthesis, outer)
                report(fault)
            raise
        try:
            attach(outer)
            with synthesis._feeding():  # several threads may have waited
                first, guard.passed_on = not guard.passed_on, True
            return hand_on(synthesis, result, waits=False) if first else result
        except BaseException as fault:
            _give_up(synthesis, outer)
            report(fault)
            return result

    return wait


# Special methods are looked up on the class: a proxy's class has those that its body's class has, no more and no less.
_SPECIAL: Final[dict[str, Callable[..., Any]]] = {
    "__next__": _next,
    "__iter__": _iter,
    "__anext__": _anext,
    "__aiter__": _aiter,
    "__await__": _await,
    "__enter__": _enter,
    "__exit__": _exit,
    "__aenter__": _aenter,
    "__aexit__": _aexit,
} | {
    name: _forward(name)
    for name in (
        "__len__", "__length_hint__", "__bool__", "__contains__", "__getitem__", "__setitem__", "__delitem__",
        "__reversed__", "__call__", "__fspath__", "__bytes__", "__int__", "__float__", "__index__", "__format__",
        "__lt__", "__le__", "__gt__", "__ge__", "__add__", "__copy__", "__deepcopy__",
    )
}  # fmt: skip

_FORWARDED: Final = {name: _forward(name) for name in _SPECIAL}
# A text's end is not its synthesis's: there, only what brings a piece is measured.
_SPECIAL_OF_TEXT: Final = _SPECIAL | {name: _forward(name) for name in ("__await__", "__exit__", "__aexit__")}

_SPECIALS: Final = {Pulls: _SPECIAL, Pieces: _SPECIAL_OF_TEXT, Waiting: _FORWARDED}

_classes: dict[tuple[type, type], type[Proxy]] = {}
_CLASSES_MAX: Final = 128  # classes made anew for each call must not pile up here


def _proxy(body: Any, pulls: Pulls | Pieces | Waiting) -> Any:
    cls = type(body)
    key = cls, type(pulls)
    proxy_class = _classes.get(key)
    if proxy_class is None:
        if len(_classes) >= _CLASSES_MAX:
            _classes.clear()
        own = vars(object)
        members: dict[str, Any] = {
            name: method
            for name, method in _SPECIALS[type(pulls)].items()
            if getattr(cls, name, None) is not None and getattr(cls, name) is not own.get(name)
        }
        members["__slots__"] = ()
        members["__module__"] = cls.__module__
        proxy_class = _classes[key] = type(cls.__name__, (Proxy,), members)
        for kind in (Generator, AsyncGenerator):
            if issubclass(cls, kind):
                kind.register(proxy_class)  # `typing.Generator` asks for the type itself
    return proxy_class(body, pulls)


# --- methods that pull -------------------------------------------------------------------------------------------


def _measured_send(self: Proxy, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    pulls = self._ttstrace_pulls
    return lambda *args: pulls.pull(method, *args)


def _measured_asend(self: Proxy, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    pulls = self._ttstrace_pulls
    return lambda *args: pulls.apull(method, *args)


def _measured_close(self: Proxy, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    pulls = self._ttstrace_pulls

    def close(*args: Any, **kwargs: Any) -> Any:
        outer = _enter_body(pulls)
        try:
            closing = method(*args, **kwargs)
        finally:
            if outer is not None:
                back_to(outer)
            if not (name == "aclose" or inspect.iscoroutinefunction(method)):
                pulls.closed()
        return _aclose(pulls, closing) if inspect.isawaitable(closing) else closing

    return close


async def _aclose(pulls: Pulls, closing: Awaitable[Any]) -> Any:
    outer = _enter_body(pulls)
    try:
        return await closing
    finally:
        if outer is not None:
            back_to(outer)
        pulls.closed()


def _enter_body(pulls: Pulls) -> Context | None:
    """Make the body's context current, if it has one; returns the one outside, to go back to."""
    outer = None
    try:
        if pulls.context is None:
            return None
        outer = get_current()
        attach(pulls.context)
    except BaseException as fault:
        if outer is not None:
            back_to(outer)
        report(fault)
        return None
    return outer


_SIZES: Final = frozenset({"size", "amt", "n", "nbytes", "length", "count", "frames", "limit"})


def _measured_read(self: Proxy, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    pulls = self._ttstrace_pulls

    def read(*args: Any, **kwargs: Any) -> Any:
        size = 1 if name == "readinto" else args[0] if args else None
        for keyword in _SIZES.intersection(kwargs):
            size = kwargs[keyword]
        if size == 0:
            return method(*args, **kwargs)  # its empty answer says nothing
        return pulls.read(size is None or (isinstance(size, int) and size < 0), method, args, kwargs)

    return read


def _measured_iteration(self: Proxy, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    def iteration(*args: Any, **kwargs: Any) -> Any:
        return _share(self, method(*args, **kwargs))

    return iteration


_MEASURED_METHODS: Final[dict[str, Callable[[Proxy, str, Callable[..., Any]], Callable[..., Any]]]] = {
    "close": _measured_close,
    "aclose": _measured_close,
    "read": _measured_read,
    "read1": _measured_read,
    "readall": _measured_read,
    "aread": _measured_read,
    "readinto": _measured_read,
}
# Elsewhere these names mean something else: what a websocket sends is no pull.
_MEASURED_METHODS_OF_GENERATORS: Final[dict[str, Callable[[Proxy, str, Callable[..., Any]], Callable[..., Any]]]] = {
    "send": _measured_send,
    "throw": _measured_send,
    "asend": _measured_asend,
    "athrow": _measured_asend,
}


# --- audio that is read elsewhere --------------------------------------------------------------------------------

_announced: weakref.WeakKeyDictionary[Any, Waiting] = weakref.WeakKeyDictionary()
"""Results whose audio is still to come, by what is made with them."""
_readers: weakref.WeakKeyDictionary[Any, Reader] = weakref.WeakKeyDictionary()
"""What was made with them."""


class Reader:
    """What reads the rest of a synthesis's audio into buffers, piece by piece."""

    __slots__ = ("_counted", "_pulls")

    def __init__(self, pulls: Pulls) -> None:
        self._pulls = pulls
        self._counted = 0  # bytes

    def read(
        self,
        itself: Any,
        buffer: Any,
        end: Callable[[Any], int],
        method: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """One read; see `ttstrace.instrumentor.Pulled`."""
        synthesis = self._pulls.synthesis

        def audio(answer: int) -> Any:
            synthesis.unseen = False
            if not answer:
                synthesis.show_rest(weakref.proxy(itself))  # it keeps its pulls, and they the synthesis
                return b""
            # It may go back, and read once more what was counted before.
            reached = end(itself)
            fresh, self._counted = min(max(0, reached - self._counted), answer), max(reached, self._counted)
            return memoryview(buffer).cast("B")[answer - fresh : answer]

        return self._pulls.read(False, method, args, kwargs, audio)

    def save(
        self, itself: Any, file: Any, method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """All of it is written to a file; see `ttstrace.instrumentor.Saved`."""
        synthesis = self._pulls.synthesis
        try:
            written = OutputFile(file)
        except BaseException as fault:
            report(fault)
            return method(*args, **kwargs)

        def audio(answer: Any) -> bytes:
            synthesis.unseen = False
            synthesis.show_rest(weakref.proxy(itself))
            reader = AudioReader(*synthesis.declared_format(None), onset=False)
            if written.read(reader):
                synthesis.reader = reader  # what was read before is in there
            return b""

        return self._pulls.read(True, method, args, kwargs, audio)


def open_reader(reader: Any, result: Any) -> None:
    """What reads the audio behind a result was made: the synthesis goes on there, if the result has one.

    Raises:
        TypeError: one of them cannot be referenced weakly.
    """
    guard = _announced.pop(result, None)
    if guard is not None and not guard.synthesis.ended:
        guard.ask()
        guard.synthesis.unseen = True  # until it reads
        _readers[reader] = Reader(Pulls(guard.synthesis, None))
        guard.passed_on = True


def reader_of(itself: Any) -> Reader | None:
    """The synthesis that is read here."""
    if not _readers:
        return None
    try:
        return _readers.get(itself)
    except TypeError:  # it cannot be hashed or referenced
        return None
