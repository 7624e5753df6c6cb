"""`synthesis()`: one synthesis fed by hand."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Final

from opentelemetry.context import Context

from ttstrace.api import attach, get_current
from ttstrace.endings import drain
from ttstrace.faults import report
from ttstrace.lifecycle import Operation, Synthesis, abandon, back_to, running, suppressed
from ttstrace.values import Attributes, add_known, check_options

if TYPE_CHECKING:
    import os

    from typing_extensions import Self

    from ttstrace.timeline import Producer


class _NoSynthesis(Synthesis):
    """What `synthesis.current()` gives where none is running: takes everything, does nothing."""

    def __init__(self) -> None:
        super().__init__(Operation(""))
        self.drop()


_NONE: Final = _NoSynthesis()


class synthesis(Synthesis):
    """One synthesis fed by hand: for callbacks, websockets, queues, anything that is no single call.

    ::

        with synthesis(text=text, provider="acme", model="v2", format="pcm_s16le", sample_rate=24000) as s:
            async for message in socket:
                s.chunk(message.audio)

    Also `async with`; or `s = synthesis(...)`, `s.start()` and `s.end()`, from any thread.

    Args:
        text: the text; more can follow by `add_text`.
        provider: who synthesizes.
        model: name of the model.
        voice: name or id of the voice.
        language: BCP 47.
        sample_rate: Hz, of raw audio that does not say it itself.
        format: of raw bytes: `pcm_s16le`, ...
        device: `cpu`, `cuda:0`, ...
        producer: `"pull"` where the audio is made by the very code that reports it, `"push"` where it comes from
            elsewhere.
        attributes: further attributes of the span: bool, str, int, float.

    Raises:
        TypeError, ValueError: an option has no meaning; said when it is made, before anything runs.
    """

    __slots__ = ("_entered_from", "_format")

    def __init__(
        self,
        text: str | None = None,
        *,
        provider: str | None = None,
        model: str | os.PathLike[str] | None = None,
        voice: str | None = None,
        language: str | None = None,
        sample_rate: int | None = None,
        format: str | None = None,
        device: str | None = None,
        producer: Producer | None = None,
        attributes: Mapping[str, bool | str | int | float] | None = None,
    ) -> None:
        check_options(sample_rate=sample_rate, format=format, producer=producer, attributes=attributes)
        known: Attributes = {}
        for name, value in (
            ("provider", provider),
            ("model", model),
            ("voice", voice),
            ("language", language),
            ("device", device),
            ("attributes", attributes),
        ):
            add_known(known, name, value)
        super().__init__(Operation("", producer=producer, attributes=known))
        self._format = (sample_rate, format)
        self._entered_from: Context | None = None
        if text is not None:
            if not isinstance(text, str):
                raise TypeError(f"text must be a str, not {type(text).__name__}")
            try:
                self.take_text(text)
            except BaseException as fault:
                report(fault)

    def __del__(self) -> None:
        if not getattr(self, "ended", True):  # refused options leave it half made
            timeline = self.timeline
            at = self.start_time if timeline is None else timeline.arrival or timeline.start
            if at is not None:
                abandon(self, at)

    @staticmethod
    def current() -> Synthesis:
        """The synthesis that is running here; where there is none, one that takes everything and does nothing."""
        return running(get_current()) or _NONE

    def declared_format(self, audio: object) -> tuple[int | None, str | None]:
        return self._format

    def start(self) -> Self:
        """Start. Unlike `with`, this does not make the span current: spans started next are not its children."""
        self._start()
        return self

    def end(self, error: BaseException | None = None) -> None:
        """End; only the first call does anything.

        Args:
            error: what went wrong, if anything did.
        """
        try:
            if error is None:
                self.finish()
            else:
                self.fail(error)
        except BaseException as fault:
            self.give_up()
            report(fault)

    def _start(self) -> Context | None:
        try:
            drain()
            context = get_current()
            with self._feeding():  # threads that all start it start it once
                if self.start_time is None and not self.ended and not suppressed(context):
                    return self.begin(context)
        except BaseException as fault:
            if self.start_time is not None:
                self.give_up()
            report(fault)
        return None

    def __enter__(self) -> Self:
        try:
            context = self._start()
            if context is not None:
                self._entered_from = get_current()
                attach(context)
        except BaseException as fault:
            outer, self._entered_from = self._entered_from, None
            try:
                if outer is not None:
                    back_to(outer)
            finally:
                self.give_up()
            report(fault)
        return self

    def __exit__(
        self, cls: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        outer, self._entered_from = self._entered_from, None
        # Where the generator around it was closed, the garbage collector may have done so in the midst of anything: the
        # context that is current then is not ours to change.
        try:
            if outer is not None and (cls is not GeneratorExit or get_current() is self.context):
                # By value: a token does not work where the block is left in another thread's or task's context.
                back_to(outer)
        finally:
            if cls is GeneratorExit:
                abandon(self, perf_counter())
            else:
                self.end(error)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, cls: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(cls, error, traceback)
