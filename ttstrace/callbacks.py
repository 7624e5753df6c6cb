"""A callback that is given the audio: what happens around each call of it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Coroutine
from time import perf_counter
from types import CoroutineType
from typing import Any

import wrapt

from ttstrace.faults import report
from ttstrace.lifecycle import Synthesis
from ttstrace.streams import adopt_name

Take = Callable[[float | None, float, object], None]


def listen(synthesis: Synthesis, callback: Any, take: Take) -> Any:
    """The callback, to all appearances, that tells of each chunk it is given.

    Args:
        synthesis: whose chunks they are.
        callback: any callable, sync or async; its answers and exceptions pass through.
        take: what accounts for a chunk; see `Synthesis.take_chunk`.
    """
    return _Heard(callback, Listener(synthesis, take))


class _Heard(wrapt.FunctionWrapper):  # type: ignore[type-arg]
    """The callable itself; what is stored, sent or copied of it is measured as long as it is this one call's."""

    def __init__(self, callback: Any, listener: Listener) -> None:
        super().__init__(callback, listener)
        self._self_listener = listener

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _same, (self.__wrapped__,)  # in another process there is nothing to tell it to

    def __copy__(self) -> Any:
        return _Heard(copy.copy(self.__wrapped__), self._self_listener)

    def __deepcopy__(self, memo: Any) -> Any:
        return _Heard(copy.deepcopy(self.__wrapped__, memo), self._self_listener)


def _same(callback: Any) -> Any:
    return callback


class Listener:
    """Accounts for the chunks, and for the time inside the callback: that is the program's, as time between two pulls
    is. The time between two of its calls is the producer's."""

    __slots__ = ("_held", "_inside", "_returned", "_since", "_synthesis", "_take")

    def __init__(self, synthesis: Synthesis, take: Take) -> None:
        self._synthesis: Synthesis | None = synthesis
        self._take: Take | None = take
        self._inside = 0
        """How many of its calls are running: they may come from several threads at once."""
        self._since = 0.0
        self._held = 0.0
        self._returned: float | None = None

    def __call__(self, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        __tracebackhide__ = True  # by Sentry and pytest: what is called with is the audio
        given = args or tuple(kwargs.values())
        return self.around(given[0] if args or len(given) == 1 else None, wrapped, args, kwargs)

    def around(self, chunk: object, wrapped: Any, args: Any, kwargs: Any) -> Any:
        """Make a call by which the program is given a chunk; None: it is given none."""
        __tracebackhide__ = True
        heard = self._enter(chunk)
        try:
            answer = wrapped(*args, **kwargs)
        finally:
            if heard:
                self._leave()
        if heard and isinstance(answer, CoroutineType):
            return adopt_name(self._awaited(answer), answer)
        return answer

    async def _awaited(self, answer: Coroutine[Any, Any, Any]) -> Any:
        heard = self._enter(None)
        try:
            return await answer
        finally:
            if heard:
                self._leave()

    def _enter(self, chunk: object) -> bool:
        """The producer calls. False where nobody listens any more."""
        arrived = perf_counter()
        synthesis, take = self._synthesis, self._take
        if synthesis is None or take is None:
            return False
        try:
            with synthesis._feeding():
                if synthesis.ended or synthesis.start_time is None:
                    if synthesis.ended:  # who keeps the callback keeps no synthesis with it
                        self._synthesis = self._take = None
                    return False
                timeline = synthesis.follow()
                if not self._inside:
                    self._since = arrived
                    self._held = timeline.hold
                    if timeline.first_pull is None:
                        timeline.end = arrived
                if chunk is not None:
                    take(None if self._inside else self._returned, arrived, chunk)
                self._inside += 1
                return True
        except BaseException as error:
            report(error)
            return False

    def _leave(self) -> None:
        returned = perf_counter()
        synthesis = self._synthesis
        if synthesis is None:
            return
        try:
            with synthesis._feeding():
                self._inside -= 1
                if self._inside or synthesis.ended:
                    return
                self._returned = returned
                timeline = synthesis.follow()
                spent = returned - self._since
                counted = min(timeline.hold - self._held, spent)  # what the callback itself marked as no synthesis
                try:
                    if timeline.first_pull is None:
                        timeline.ask(returned)
                        timeline.hold -= counted
                    else:  # somebody pulls as well, and accounts for the time between two pulls
                        timeline.mark_hold(spent - counted, returned)
                except Exception:  # a card failed: the program learns of it from torch
                    timeline.give_up()
        except BaseException as error:
            report(error)
