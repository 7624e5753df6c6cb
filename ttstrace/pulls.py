"""What happens around each pull of a lazy result, and of a text that arrives in pieces."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from time import perf_counter, thread_time
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.context import Context

from ttstrace.api import attach, get_current
from ttstrace.endings import drain
from ttstrace.faults import report
from ttstrace.lifecycle import Synthesis, abandon, back_to

if TYPE_CHECKING:
    from ttstrace.timeline import Timeline


class Guard:
    """Ends a synthesis whose lazy result is dropped before it came to its end."""

    __slots__ = ("_coroutine", "at", "passed_on", "synthesis")

    def __init__(self, synthesis: Synthesis, awaited: object = None) -> None:
        self.synthesis = synthesis
        self._coroutine = awaited if isinstance(awaited, CoroutineType) else None
        self.at = perf_counter()
        self.passed_on = False
        """What was awaited turned out to be a stream: that one's guard answers for the synthesis from then on."""

    def __del__(self) -> None:
        if getattr(self, "passed_on", True):  # or it was interrupted before it was whole: whoever made it has ended it
            return
        coroutine = self._coroutine
        if coroutine is not None and inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
            # Ours, which was to await it, was closed or warns that it was never awaited: once is enough.
            coroutine.close()
        if not self.synthesis.ended:
            abandon(self.synthesis, self.last_seen())

    def last_seen(self) -> float:
        """When it last did something."""
        return self.at

    def seen(self) -> None:
        """It did something just now."""
        self.at = perf_counter()


class Waiting(Guard):
    """Guards a synthesis that goes on elsewhere until the program asks for what comes of it. Where it never does,
    nothing is known of what became of it: that is no interruption."""

    __slots__ = ("method",)

    def __init__(self, synthesis: Synthesis, method: str | None = None) -> None:
        """
        Args:
            synthesis: that was started.
            method: the one by which the program asks.
        """
        self.method = method
        synthesis.follow().end = perf_counter()  # from here on it is the program's time
        synthesis.unseen = True
        super().__init__(synthesis)

    def ask(self) -> None:
        """The program asks: what passed until now was hold."""
        synthesis = self.synthesis
        with synthesis._feeding():  # several threads may ask at once
            if synthesis.unseen:
                synthesis.unseen = False
                Pulls.account_for_hold(synthesis.follow(), perf_counter())


class Pulls(Guard):
    """What happens around each pull: the span is current, the clock is read, the chunk is accounted for."""

    __slots__ = ("consumers", "context", "inside", "over", "parent", "shared", "timeline")

    def __init__(self, synthesis: Synthesis, parent: Context | None) -> None:
        self.parent = parent
        """The context to start in with the first pull; None where the call has started it already."""
        self.context: Context | None = None
        """The body's own context, as it left it: spans that it holds open over a `yield` keep their children."""
        self.timeline: Timeline | None = None
        self.inside = False
        """A consumer is inside the body; once it is shared, always."""
        self.shared = False
        """Two consumers were inside at once: from then on they are counted, and what they are given is serialized."""
        self.consumers = 0
        """How many are inside the shared body."""
        self.over = False
        """One of them came to its end; others may still be inside, waiting for the last chunks."""
        if parent is None:
            self.context = synthesis.context
            self.timeline = timeline = synthesis.follow()
            timeline.end = perf_counter()
        super().__init__(synthesis)  # last: what is not whole is not answered for

    def last_seen(self) -> float:
        return self.at if self.timeline is None else self.timeline.end

    def seen(self) -> None:
        if self.timeline is not None:
            self.timeline.end = perf_counter()

    def ask(self) -> tuple[float, Context] | None:
        """The consumer asks for more: make the body's context current.

        Returns when, and the context outside; None where nothing is measured.
        """
        synthesis = self.synthesis
        if synthesis.ended:
            return None
        outer = None
        try:
            outer = get_current()
            timeline = self.timeline
            if timeline is None:
                with synthesis._feeding():  # another consumer may have come first
                    asked = self._begin() if self.timeline is None else perf_counter()
                if asked is None:
                    synthesis.drop()
                    return None
            else:
                asked = perf_counter()
                self.account_for_hold(timeline, asked)
            attach(self.context)  # type: ignore[arg-type]
            return asked, outer
        except BaseException as fault:
            self._give_up(outer)
            report(fault)
            return None

    def _give_up(self, outer: Context | None) -> None:
        """A fault of ours, or an interruption, before the body was asked: it goes on as if it were not measured."""
        try:
            if outer is not None:
                back_to(outer)
        finally:
            self.synthesis.give_up()

    @staticmethod
    def account_for_hold(timeline: Timeline, asked: float) -> None:
        """The consumer asks: what passed since the end of what it asked for before was its own time."""
        try:
            timeline.ask(asked)
        except Exception:  # a card failed: the program learns of it from torch
            timeline.give_up()

    def _begin(self) -> float | None:
        """Start with the first pull. Returns when; None where nothing listens."""
        synthesis = self.synthesis
        drain()
        parent, self.parent = self.parent, None
        self.context = None if parent is None else synthesis.begin(parent)
        if self.context is None:
            return None
        self.timeline = timeline = synthesis.follow()
        synthesis.streamed = True
        return timeline.start

    def answer(self, asked: float, outer: Context, chunk: Any, cpu: float | None) -> None:
        """The body answered with a chunk."""
        if self.shared:
            self._part(outer, asked, chunk)
            return
        self.inside = False
        try:
            arrived = perf_counter()
            self.context = get_current()
            attach(outer)  # by value: a token does not work where the next pull comes from another thread or task
            timeline = self.timeline
            timeline.end = arrived  # type: ignore[union-attr]
            if cpu is not None:
                timeline.first_pull = (arrived - asked, thread_time() - cpu)  # type: ignore[union-attr]
            self.synthesis.take_chunk(asked, arrived, chunk)
        except BaseException as error:
            back_to(outer)
            report(error)

    def over_with(self, outer: Context, error: BaseException) -> None:
        """The body has no more, raised, or was cancelled. What this raises, the caller gives up for."""
        if self.shared:
            self._part(outer, None, None, error)
            return
        timeline = self.timeline
        timeline.end = perf_counter()  # type: ignore[union-attr]
        if timeline.first_pull is None:  # type: ignore[union-attr]
            timeline.first_pull = (0.0, 0.0)  # type: ignore[union-attr]
        self.context = None
        attach(outer)
        if isinstance(error, _EXHAUSTED):
            self.synthesis.finish()
        else:
            self.synthesis.fail(error)

    def _gave_up(self, outer: Context | None, fault: BaseException) -> None:
        self._give_up(outer)
        report(fault)

    def closed(self) -> None:
        """The consumer closed the body half way."""
        if self.synthesis.start_time is None:
            self.synthesis.drop()
        elif not self.synthesis.ended:
            try:
                drain()  # what the body's own blocks left behind when they were closed
                self.synthesis.interrupt()
            except BaseException as fault:
                self.synthesis.give_up()
                report(fault)

    # The three ways in which a body is asked for more.

    def pull(self, method: Callable[..., Any], *args: Any) -> Any:
        """One pull by a plain call: `__next__`, `send`, `throw`."""
        if self.inside:
            return self._pull_beside(method, args)
        self.inside = True
        timeline = self.timeline
        if timeline is None or timeline.first_pull is None or self.synthesis.ended:
            return self._first_pull(method, args)
        # As `ask` and `answer`, in line: this is what every chunk of a stream costs.
        outer = None
        try:
            outer = get_current()
            asked = perf_counter()
            if timeline.promises is None:
                timeline.hold += asked - timeline.end
            else:
                self.account_for_hold(timeline, asked)
            attach(self.context)  # type: ignore[arg-type]
        except BaseException as fault:
            self._give_up(outer)
            report(fault)
            return method(*args)
        try:
            chunk = method(*args)
        except BaseException as error:
            try:
                self.over_with(outer, error)
            except BaseException as fault:
                self._gave_up(outer, fault)
            raise
        try:
            if self.shared:
                self._part(outer, asked, chunk)
                return chunk
            self.inside = False
            arrived = perf_counter()
            self.context = get_current()
            attach(outer)
            timeline.end = arrived
            self.synthesis.take_chunk(asked, arrived, chunk)
        except BaseException as error:
            back_to(outer)
            report(error)
        return chunk

    def _first_pull(self, method: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """The first, which may have to start the synthesis and tells how the producer works; or one after the end."""
        begun = self.ask()
        if begun is None:
            return method(*args)
        asked, outer = begun
        try:
            cpu = thread_time()
            chunk = method(*args)
        except BaseException as error:
            try:
                self.over_with(outer, error)
            except BaseException as fault:
                self._gave_up(outer, fault)
            raise
        try:
            self.answer(asked, outer, chunk, cpu)
        except BaseException:
            back_to(outer)
            raise
        return chunk

    async def apull(self, method: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        """One pull by an await: `__anext__`, `asend`, `athrow`."""
        begun = self._enter()
        if begun is None:
            return await method(*args)
        asked, outer = begun
        try:
            chunk = await method(*args)
        except GeneratorExit:
            self._forsaken(outer)
            raise
        except BaseException as error:
            try:
                self.over_with(outer, error)
            except BaseException as fault:
                self._gave_up(outer, fault)
            raise
        try:
            self.answer(asked, outer, chunk, 0.0 if self.timeline.first_pull is None else None)  # type: ignore[union-attr]
        except BaseException:
            back_to(outer)
            raise
        return chunk

    # Several consumers at once: threads or tasks that share the body.

    def _pull_beside(self, method: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        begun = self._join()
        if begun is None:
            return method(*args)
        asked, outer = begun
        try:
            chunk = method(*args)
        except BaseException as error:
            try:
                self._part(outer, asked, None, error)
            except BaseException as fault:
                self._gave_up(outer, fault)
            raise
        try:
            self._part(outer, asked, chunk)
        except BaseException:
            back_to(outer)
            raise
        return chunk

    def _join(self) -> tuple[float, Context] | None:
        """One more consumer asks; see `ask`."""
        synthesis = self.synthesis
        if synthesis.ended:
            return None
        outer = None
        try:
            outer = get_current()
            with synthesis._feeding():
                if not self.shared:
                    self.consumers = int(self.inside)
                    self.shared = self.inside = True
                if self.timeline is None and self._begin() is None:
                    synthesis.drop()
                context = synthesis.context
                if synthesis.ended or context is None:
                    return None
                asked = perf_counter()
                if not self.consumers:
                    self.account_for_hold(self.timeline, asked)  # type: ignore[arg-type]
                attach(context)
                self.consumers += 1
            return asked, outer
        except BaseException as fault:
            self._give_up(outer)
            report(fault)
            return None

    def _part(self, outer: Context, asked: float | None, chunk: Any, error: BaseException | None = None) -> None:
        """One of several consumers was answered. The stream is over when the last of them has left."""
        arrived = perf_counter()
        synthesis, timeline = self.synthesis, self.timeline
        try:
            attach(outer)
            with synthesis._feeding():
                self.consumers -= 1
                timeline.end = arrived  # type: ignore[union-attr]
                if timeline.first_pull is None:  # type: ignore[union-attr]
                    timeline.first_pull = (0.0, 0.0)  # type: ignore[union-attr]
                if synthesis.ended:
                    return
                if error is None:
                    self._take(asked, arrived, chunk)
                elif isinstance(error, _EXHAUSTED):
                    self.over, error = True, None
                elif _was_busy(error) or (isinstance(error, asyncio.CancelledError) and (self.consumers or self.over)):
                    error = None  # the others go on, or were given everything
                over = self.over and not self.consumers
            if error is not None:
                synthesis.fail(error)
            elif over:
                synthesis.finish()
        except BaseException as fault:
            self._give_up(outer)
            report(fault)

    def _take(self, asked: float | None, arrived: float, chunk: Any) -> None:
        try:
            self.synthesis.take_chunk(asked, arrived, chunk)
        except BaseException as fault:
            report(fault)

    def read(
        self,
        whole: bool,
        method: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        audio: Callable[[Any], Any] | None = None,
    ) -> Any:
        """One pull by reading: an empty answer, or one that was to be everything, is the end.

        Args:
            whole: everything is asked for.
            method: what reads, with its arguments.
            audio: finds what was read, where that is not the answer.
        """
        begun = self._enter()
        if begun is None:
            return method(*args, **kwargs)
        asked, outer = begun
        try:
            answer = method(*args, **kwargs)
            awaited = inspect.isawaitable(answer)
        except BaseException as error:
            try:
                self.over_with(outer, error)
            except BaseException as fault:
                self._gave_up(outer, fault)
            raise
        if awaited:
            try:
                self._step_out(outer)
            except BaseException as fault:
                self._gave_up(outer, fault)
            return self._aread(whole, answer)
        try:
            self._read(asked, outer, whole, answer, args, audio)
        except BaseException:
            back_to(outer)
            raise
        return answer

    def _enter(self) -> tuple[float, Context] | None:
        """A consumer asks, alone or beside others; see `ask`."""
        if self.inside:
            return self._join()
        self.inside = True
        return self.ask()

    def _step_out(self, outer: Context) -> None:
        """The body gave what is to be awaited: until then nobody is inside."""
        if self.shared:
            attach(outer)
            with self.synthesis._feeding():
                self.consumers -= 1
        else:
            self.inside = False
            self.context = get_current()
            attach(outer)
        self.timeline.end = perf_counter()  # type: ignore[union-attr]

    async def _aread(self, whole: bool, answer: Awaitable[Any]) -> Any:
        begun = self._enter()
        if begun is None:
            return await answer
        asked, outer = begun
        try:
            data = await answer
        except GeneratorExit:
            self._forsaken(outer)
            raise
        except BaseException as error:
            try:
                self.over_with(outer, error)
            except BaseException as fault:
                self._gave_up(outer, fault)
            raise
        try:
            self._read(asked, outer, whole, data, ())
        except BaseException:
            back_to(outer)
            raise
        return data

    def _read(
        self,
        asked: float,
        outer: Context,
        whole: bool,
        answer: Any,
        args: tuple[Any, ...],
        audio: Callable[[Any], Any] | None = None,
    ) -> None:
        try:
            data, ended = answer, whole or (answer is not None and _is_empty(answer))
            if audio is not None:
                data = audio(answer)
            elif isinstance(answer, int) and args:  # readinto: so many bytes, whatever the buffer's items are
                data = memoryview(args[0]).cast("B")[:answer]
        except BaseException as error:
            back_to(outer)
            report(error)
            data, ended = None, whole
        if ended:
            self.over = True
        self.answer(asked, outer, data, 0.0 if self.timeline.first_pull is None else None)  # type: ignore[union-attr]
        if ended and not self.shared:  # else with the last of those who share it
            try:
                self.synthesis.finish()
            except BaseException as error:
                report(error)

    def _forsaken(self, outer: Context) -> None:
        # Closed while it was suspended, perhaps by the garbage collector: nothing of OpenTelemetry may be called here.
        try:
            self.synthesis.leave(outer)
        finally:
            self.timeline.end = perf_counter()  # type: ignore[union-attr]
            if self.shared:
                self.consumers -= 1
            if not (self.shared and self.consumers):  # else the others go on
                abandon(self.synthesis, self.last_seen())


_EXHAUSTED: Final = (StopIteration, StopAsyncIteration)


def _was_busy(error: BaseException) -> bool:
    """Whether a generator refused, without running, because another consumer was inside it."""
    return (type(error) is ValueError and str(error) == "generator already executing") or (
        type(error) is RuntimeError and str(error).endswith("asynchronous generator is already running")
    )


def _is_empty(answer: Any) -> bool:
    """Whether what was read says that there is no more. None says that there is none yet."""
    return len(answer) == 0 if hasattr(answer, "__len__") else not answer


class Pieces:
    """What happens around each pull of the text: waiting is timed, characters are counted."""

    __slots__ = ("synthesis",)

    def __init__(self, synthesis: Synthesis) -> None:
        self.synthesis = synthesis

    def pull(self, method: Callable[..., Any], *args: Any) -> Any:
        asked = perf_counter()
        piece = method(*args)
        self._arrived(asked, piece)
        return piece

    async def apull(self, method: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        asked = perf_counter()
        piece = await method(*args)
        self._arrived(asked, piece)
        return piece

    def _arrived(self, asked: float, piece: Any) -> None:
        arrived = perf_counter()
        synthesis = self.synthesis
        try:
            with synthesis._feeding():  # a thread of the library's own may be who asks for the text
                if synthesis.start_time is None or synthesis.ended:
                    return
                text = synthesis.text_in(piece)
                synthesis.follow().piece(asked, arrived, text is not None)
                if text is not None:
                    synthesis.take_text(text)
        except BaseException as error:
            report(error)
