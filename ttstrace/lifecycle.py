"""The life of one synthesis: from its start, through its chunks, to its one end.

A :class:`Synthesis` owns one span and everything that is measured for it. It is driven by whoever knows when things
happen: the decorator around a call, the proxies around a lazy result, or the program itself through
:class:`synthesis`.
"""

from __future__ import annotations

import asyncio
import atexit
import gc
import os
import sys
import threading
import weakref
from contextlib import ExitStack
from functools import partial
from time import perf_counter, time_ns
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import trace
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, Context
from opentelemetry.trace import SpanKind, set_span_in_context

from ttstrace import semconv
from ttstrace.api import SYNTHESIS, add_event, attach, get_current
from ttstrace.audio import AudioReader, OutputFile, ReturnedFile, Whole, whole_array
from ttstrace.endings import drain_for_good, later, unfinished
from ttstrace.exceptions import record_exception, type_name
from ttstrace.faults import Withheld, apart, is_fault, report
from ttstrace.metrics import Instruments, free_locks, instruments
from ttstrace.monitor import (
    Concurrency,
    GpuWindow,
    Usage,
    Window,
    close_gpu_window,
    close_window,
    discard_gpu_window,
    discard_window,
    load_nvml,
    open_gpu_window,
    open_window,
    rtf_grade,
)
from ttstrace.promises import Promises, Stretch
from ttstrace.providers import sampler_looks_at_attributes, tracer
from ttstrace.timeline import Producer, Timeline
from ttstrace.values import Attributes, capture_content, clean, encodable, input_messages, text_limit

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from ttstrace.monitor.gpu.reading import GpuReading

_STAGES_MAX: Final = 16
_FEEDING_MAX: Final = 1.0  # seconds
# The API's own key for the current span, learned through the API: both are then set by one copy of the context.
_SPAN: Final = next(iter(set_span_in_context(trace.INVALID_SPAN, Context())))
_SUPPRESS: Final = (_SUPPRESS_INSTRUMENTATION_KEY, "suppress_instrumentation")


def running(context: Context) -> Synthesis | None:
    """The synthesis that is running in this context. One that runs in the parent of this forked process does not: a
    worker of a pool keeps the context that it was forked in, and would never have spans of its own."""
    found = context.get(SYNTHESIS)
    return found if isinstance(found, Synthesis) and not found.ended and found._generation == _generation else None


def suppressed(context: Context) -> bool:
    """Whether instrumentation is suppressed in this context."""
    return bool(context) and bool(context.get(_SUPPRESS[0]) or context.get(_SUPPRESS[1]))


# --- process-wide state ------------------------------------------------------------------------------------------

_lock = threading.RLock()  # re-entrant: a signal handler may run a traced call while this thread holds it
_concurrency = Concurrency()
_generation = 0  # one more in every forked child
_warm: dict[int, Any] = {}  # id of a loaded model -> what keeps the id from meaning another object
_exit_hook = False


def _after_fork_in_child() -> None:
    """What the parent has open stays the parent's: its syntheses are dropped here, unended."""
    global _lock, _generation
    _lock = threading.RLock()
    _generation += 1
    try:
        free_locks()
    except Exception as fault:
        report(fault)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def drain_at_exit() -> None:
    """End everything, what is still open included: the process ends. See `drain`."""
    # Looked for at this one time, so that no call pays for being listed.
    for each in gc.get_objects() if _exit_hook else ():
        if issubclass(type(each), Synthesis) and not getattr(each, "ended", True):
            abandon(each, each.last_seen())
    drain_for_good()


def back_to(outer: Context) -> None:
    """Make the context outside current again, also where that was interrupted or failed once."""
    try:
        attach(outer)
    except BaseException as fault:
        try:
            attach(outer)
        except BaseException as again:
            report(again)
        report(fault)


def abandon(found: Synthesis, at: float) -> None:
    """The garbage collector, or a close that may be its doing, found an open synthesis that last did something `at`."""
    if not found.ended and found.start_time is not None:
        later(partial(found.end_abandoned, at))


def is_cold(model: object) -> bool | None:
    """Whether this is the first synthesis of a loaded model in this process, and from now on it is not.

    None where the object gives no way to tell whether it still is the same one.
    """
    key = id(model)
    if key in _warm:
        return False
    try:
        # The callback touches a dict only: it may run inside the garbage collector.
        _warm[key] = weakref.ref(model, lambda _: _warm.pop(key, None))
    except TypeError:
        return None
    return True


# --- one synthesis -----------------------------------------------------------------------------------------------


_UNKNOWN_AUDIO: Final = Whole(None, None, None, None, None)
# Who and what: what samplers may go by, and metrics are told apart by.
_IDENTITY: Final = (semconv.GEN_AI_OPERATION_NAME, semconv.GEN_AI_PROVIDER_NAME, semconv.GEN_AI_REQUEST_MODEL)
# Read when the backend returned: where the card went on, that is not the synthesis's.
_OF_THE_CARD_MEANWHILE: Final = (semconv.TTS_GPU_ENERGY, semconv.TTS_GPU_UTILIZATION)


class Operation:
    """What all syntheses of one callable have in common, known before the first."""

    __slots__ = (
        "__weakref__", "asks", "attributes", "continues", "defers", "fails", "function", "kind", "name", "patched",
        "picks", "plays", "producer", "remote", "says_duration", "stays", "tells", "wait", "writes",
    )  # fmt: skip

    def __init__(
        self,
        function: str,
        *,
        remote: bool = False,
        producer: Producer | None = None,
        patched: bool = False,
        attributes: Attributes | None = None,
    ) -> None:
        self.function = function = encodable(function)
        self.remote = remote
        self.kind = SpanKind.CLIENT if remote else SpanKind.INTERNAL
        self.producer = producer
        self.patched = patched
        self.attributes: Attributes = {
            semconv.GEN_AI_OPERATION_NAME: semconv.OPERATION,
            **(attributes or {}),
            semconv.GEN_AI_OUTPUT_TYPE: semconv.OUTPUT_TYPE_SPEECH,
        }
        if function:
            self.attributes[semconv.CODE_FUNCTION_NAME] = function
        self.name = self.name_with(self.attributes.get(semconv.GEN_AI_REQUEST_MODEL))
        # Which questions a synthesis of it has an answer to: the others are not asked at every call.
        self.asks = False
        """Some facts are to be asked for before the backend runs."""
        self.tells = False
        """Some facts are to be asked for when it is done, torch or not."""
        self.picks = False
        """The audio is to be picked out of results and chunks."""
        self.defers = False
        """The audio may be yet to come, from somewhere behind the result: one of the following two, or a body."""
        self.wait: str | None = None
        """The method of the result that waits for it."""
        self.continues = False
        """It may be read by what is made with the result."""
        self.fails = False
        """A result may say that it is a failure."""
        self.says_duration = False
        """Only the result says how long the backend took."""
        self.stays = False
        """The audio may be yet to come, another way than by the result."""
        self.writes = False
        """The backend may write its audio somewhere."""
        self.plays = False
        """The backend may play its audio itself."""

    def name_with(self, model: str | None) -> str:
        """The span's name."""
        return f"{semconv.OPERATION} {model or self.function}".rstrip()


class Synthesis:
    """One synthesis from start to its one end: the span, the meter, the chunks.

    The program meets it as what :class:`synthesis` gives and as `synthesis.current()`: there it reports
    chunks, text and attributes. Reporting never raises, and after the end does nothing.
    """

    __slots__ = (
        "__weakref__",
        "_active",
        "_attributes",
        "_cold",
        "_feeding_lock",
        "_generation",
        "_gpu",
        "_instruments",
        "_name",
        "_outermost",
        "_output",
        "_parent",
        "_presence",
        "_promises",
        "_stages",
        "_stages_dropped",
        "_start_ns",
        "_window",
        "characters",
        "context",
        "duration_said",
        "ended",
        "inner",
        "operation",
        "prepared",
        "reader",
        "remote_inside",
        "span",
        "start_time",
        "streamed",
        "sync_generator",
        "text",
        "texts",
        "timeline",
        "unseen",
    )

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self._attributes = operation.attributes.copy()
        self._name = operation.name
        self._cold: bool | None = None
        self.span: Span | None = None
        self.start_time: float | None = None
        """Reading of the monotonic clock when the backend started; None before that."""
        self.timeline: Timeline | None = None
        self.reader: AudioReader | None = None
        self.context: Context | None = None
        """The context in which the backend runs; None before the start and after the end."""
        self.characters: int | None = None
        self.text: list[str] | None = None
        """The text itself, piece by piece, held only while content capture is on, and until the end."""
        self.texts: int | None = None
        """How many texts were given as a list: the result may be a batch of as many."""
        self.prepared: float | None = 0.0
        """Seconds that earlier steps took, of which this one makes the audio; None where that is not known."""
        self.streamed: bool | None = None
        self.sync_generator = False
        self.inner = False
        """Another synthesis ran inside: that one records the metrics."""
        self.remote_inside = False
        self.ended = False
        self.unseen = False
        """The backend is at work where nobody looks: when it is done is not known before somebody asks."""
        self.duration_said: float | None = None
        """Seconds that the backend took, by what the result says."""
        self._stages: dict[str, float] | None = None
        self._stages_dropped = 0
        self._output: OutputFile | None = None
        self._window: Window | None = None
        self._promises: Promises | None = None
        self._gpu: GpuWindow | None = None
        self._feeding_lock: threading.RLock | None = None
        self._parent: Synthesis | None = None
        self._presence: int | None = None
        self._active: Attributes | None = None

    # --- what its driver knows of it: these know nothing, a traced call (`ttstrace.call`) answers them ---

    def weights(self) -> object | None:
        """The object that holds the loaded model; None where there is none to be known."""
        return None

    def describe_request(self, attributes: Attributes) -> None:
        """Add what is known before the backend runs."""

    def text_in(self, piece: object) -> str | None:
        """The text in a piece of the input; None where it holds none."""
        return piece if isinstance(piece, str) else None

    def find_output(self) -> OutputFile | None:
        """Where the audio will be written; asked before the backend runs."""
        return None

    def declared_format(self, audio: object) -> tuple[int | None, str | None]:
        """The sample rate and the format of raw audio, as far as the program says them; `audio` is what of it came
        first, None where a stream ended without any."""
        return None, None

    def pick_audio(self, value: object) -> object:
        """Where the audio is in a result or a chunk."""
        return value

    def find_body(self, result: object) -> tuple[Any, str] | None:
        """Where audio that is yet to come is read, behind a result: an object and its attribute, or a mapping and its
        key."""
        return None

    def is_continued(self, result: object) -> bool:
        """Whether audio is still to come that is read by what is made with this result."""
        return False

    def show_rest(self, rest: object) -> None:
        """The audio that was still to come has come, out of this."""

    def failure(self, result: object) -> BaseException | None:
        """What the result says that failed."""
        return None

    def is_open(self, result: object) -> bool:
        """Whether the audio is yet to come, another way than by the result."""
        return False

    def show_result(self, result: object) -> None:
        """The whole result has come: the audio is to be picked out of it."""

    def describe_result(self, attributes: Attributes, result: object) -> None:
        """Add what is known when the backend is done."""

    def is_played(self) -> bool:
        """Whether the backend plays the sound itself: then the time is playback's."""
        return False

    def let_go(self) -> None:
        """Keep nothing of the program's from here on: only times are to come, from a card that is still at work. A
        task or a connection that began meanwhile keeps the context it began in, and with it the synthesis."""
        self._output = self.text = None

    # --- the program's side ---

    def chunk(self, audio: object) -> None:
        """Report one chunk of audio that just came.

        Args:
            audio: the chunk in any form that a backend may return: an array (any numeric dtype, one to eight
                channels), bytes, `(array, rate)`, an object that holds one.
        """
        arrived = perf_counter()
        try:
            with self._feeding():
                if self.start_time is not None and not self.ended:
                    self.take_chunk(None, arrived, audio)
        except BaseException as error:
            report(error)

    def add_text(self, text: str) -> None:
        """Report a piece of the text that is being synthesized. Its characters are counted; the text itself is
        recorded only with content capture on."""
        try:
            if isinstance(text, str):
                with self._feeding():
                    if not self.ended:
                        self.take_text(text)
        except BaseException as error:
            report(error)

    def set_attribute(self, name: str, value: bool | str | int | float) -> None:
        """Set an attribute of the span. Values that are not bool, str, int or finite float are dropped."""
        try:
            cleaned = clean(value)
            if cleaned is None or not isinstance(name, str) or not name or self.ended:
                return
            if self.start_time is None:
                self._attributes[encodable(name)] = cleaned
            elif self.span is not None:
                self.span.set_attribute(encodable(name), cleaned)
        except BaseException as error:
            report(error)

    def _feeding(self) -> threading.RLock:
        """What is held while something is reported: callbacks and receivers do so from threads of their own."""
        with _lock:
            lock = self._feeding_lock
            # A thread of the parent's may hold what came through a fork.
            if lock is None or (self.start_time is not None and self._generation != _generation):
                lock = self._feeding_lock = threading.RLock()
            return lock

    # --- start ---

    def begin(self, context: Context) -> Context | None:
        """Start measuring, as a child of the span in `context`.

        Returns the context in which the backend is to run, or None where nothing listens. The clock is read last.
        """
        used_tracer, used_instruments = tracer(), instruments()
        if used_tracer is None and used_instruments is None:
            return None
        operation = self.operation
        self._generation = _generation
        self._instruments = used_instruments
        if operation.asks:
            self.describe_request(self._attributes)
            self._name = operation.name_with(self._attributes.get(semconv.GEN_AI_REQUEST_MODEL))
        if not operation.remote:
            if (weights := self.weights()) is not None:
                self._cold = is_cold(weights)
            load_nvml()  # before any clock
        start_ns = self._start_ns = time_ns()
        entries: dict[str, object] = {**context, SYNTHESIS: self}
        try:
            if used_tracer is not None:
                # All attributes are set at the end, at once; what a sampler may go by is there at the start as well.
                first = self._identity() if sampler_looks_at_attributes() else None
                self.span = entries[_SPAN] = span = used_tracer.start_span(
                    self._name, context, operation.kind, first, None, start_ns, False, False
                )
                if not span.is_recording():
                    self.span = None
            self._enter_among_others(running(context) if context else None)
            self.context = Context(entries)
            if operation.writes:
                self._output = self.find_output()
            if not _exit_hook:
                _register_exit_hook()
            # A span that is not sampled is made current all the same: else its children would become roots.
            if self.span is not None or used_instruments is not None:
                if not operation.remote:  # a service's GPU is not ours
                    self._gpu = open_gpu_window()
                self._window = open_window()
                if not operation.remote:
                    self._promises = _promises(marked=True)
            self.start_time = perf_counter()
        except BaseException:
            self.start_time = perf_counter()
            self._end(self.start_time, interrupted=True, collected=True)
            raise
        return self.context

    def _enter_among_others(self, parent: Synthesis | None) -> None:
        """Be counted: an outermost synthesis among those open now, an inner one by those it is inside."""
        self._parent = parent
        if parent is not None:
            self._presence = _concurrency.observe()
            self._outermost = False
            while parent is not None:
                parent.inner = True
                if self.operation.remote:
                    parent.remote_inside = True
                parent = parent._parent
            return
        self._outermost = True
        self._presence = _concurrency.enter()
        if self._instruments is not None:
            active = self._metric_attributes(self._instruments)
            self._instruments.active.add(1, active)
            self._active = active

    # --- while it runs ---

    def follow(self) -> Timeline:
        """The timeline of this synthesis, begun with the first need of it."""
        timeline = self.timeline
        if timeline is None:
            with _lock:  # the text may be taken in a thread of the library's own
                timeline = self.timeline
                if timeline is None:
                    timeline = Timeline(self.start_time or perf_counter())
                    timeline.promises = self._promises
                    self.timeline = timeline
        return timeline

    def take_chunk(self, asked: float | None, arrived: float, chunk: object) -> None:
        """Account for one chunk; see `Timeline.chunk`."""
        reader, timeline = self.reader, self.timeline
        if reader is None:
            self.streamed = True
            self._find_promises()
            if timeline is not None:
                timeline.promises = self._promises
            reader = self.reader = AudioReader(*self.declared_format(chunk), texts=self.texts)
        audio = self.pick_audio(chunk) if self.operation.picks else chunk
        seconds = reader.feed(audio)
        if timeline is None:
            timeline = self.follow()
        if timeline.promises is not None:
            try:
                if not timeline.is_unpromised(asked, arrived, seconds, reader, audio):
                    return
            except Exception:  # unmarked work, or a card failed: the program learns of that from torch
                timeline.give_up()
        timeline.chunk(asked, arrived, seconds, reader)

    def _find_promises(self) -> None:
        """A card may have come into use only since the start: the first call loads the model."""
        if self._promises is None and self._window is not None and not self.operation.remote:
            self._promises = _promises(marked=False)

    def take_text(self, text: str) -> None:
        """Count a text, or a further piece of it."""
        self.characters = (self.characters or 0) + len(text)
        if capture_content():
            if self.text is None:
                self.text = []
            self.text.append(text)

    def mark_hold(self, seconds: float) -> None:
        """Time inside the call that the program says is no synthesis."""
        timeline = self.follow()
        try:
            timeline.mark_hold(seconds, perf_counter())
        except Exception:  # a card failed: the program learns of it from torch
            timeline.give_up()

    def add_stage(self, name: str, seconds: float) -> None:
        """Time spent in a named part of the synthesis; of more than 16 names the rest is only counted."""
        with _lock:
            stages = self._stages
            if stages is None:
                stages = self._stages = {}
            if name in stages:
                stages[name] += seconds
            elif len(stages) < _STAGES_MAX:
                stages[name] = seconds
            else:
                self._stages_dropped += 1

    def leave(self, outer: Context) -> None:
        """Make `outer` current again where the backend was closed (`GeneratorExit`): by the garbage collector perhaps,
        in the midst of anything. A context that is not this synthesis's is not ours to change."""
        try:
            if get_current().get(SYNTHESIS) is self:
                attach(outer)
        except BaseException as fault:
            if not is_fault(fault):
                raise
            later(partial(report, fault))

    # --- the one end ---

    def finish(self, result: object = None) -> None:
        """The backend is done; `result` is what it returned, None for a stream that is exhausted."""
        end = perf_counter()
        stretch, known = None, True
        if result is not None:
            if self.operation.picks and not self.ended:
                self.show_result(result)
            if self._promises is None and "torch" in sys.modules:
                self._find_promises()
            if self._promises is not None:
                try:
                    stretch = self._promises.stretch(self.pick_audio(result) if self.operation.picks else result)
                except Exception:  # unmarked work, or a card failed: the program learns of that from torch
                    known = False
        if self.operation.fails and not self.ended and (failure := self.failure(result)) is not None:
            self.describe_result(self._attributes, result)  # it came, and says more than that
            self._end_failed(end, failure)
            return
        self._end(end, result=result, stretch=stretch, known=known)

    def fail(self, error: BaseException) -> None:
        """The backend raised. A cancellation is an interruption, not an error."""
        self._end_failed(perf_counter(), error)

    def _end_failed(self, end: float, error: BaseException) -> None:
        if isinstance(error, (asyncio.CancelledError, GeneratorExit)):
            self._end(end, interrupted=True)
        else:
            self._end(end, error=error)

    def interrupt(self) -> None:
        """The consumer closed the stream half way: the synthesis ended with its last pull."""
        self._end(self.follow().end, interrupted=True)

    def end_abandoned(self, at: float) -> None:
        """End as of then. By now the resource figures would be somebody else's: there are none."""
        # What was awaited is not seen between its start and its end: how long it was at work is then not known.
        start: float = self.start_time  # type: ignore[assignment]
        known = at >= start and not self.unseen
        self._end(max(at, start), interrupted=not self.unseen, collected=True, known=known)

    def last_seen(self) -> float:
        """When it last did something: a stream with its last pull or chunk; what runs does so now."""
        timeline = self.timeline
        return perf_counter() if timeline is None else max(timeline.end, timeline.arrival or 0.0)

    def give_up(self) -> None:
        """End it now: something of ours failed, or was interrupted, while it ran."""
        if self.start_time is None:
            self.drop()
        else:
            self.end_abandoned(perf_counter())

    def drop(self) -> None:
        """Let go of it without a trace: it never began, or the parent of this forked process will end it."""
        self.ended = True
        self.context = self._parent = None

    def _end(
        self,
        end: float,
        *,
        result: object = None,
        error: BaseException | None = None,
        interrupted: bool = False,
        collected: bool = False,
        stretch: Stretch | None = None,
        known: bool = True,
    ) -> None:
        feeding = self._feeding_lock
        waited: list[bool] = []
        ends = False
        try:
            try:
                if feeding is not None:
                    # What is being reported by another thread belongs to it; a thread that hangs there must not hang
                    # this one. Taken and noted in one call: an interruption in between would leave it taken for good.
                    waited.extend(map(feeding.acquire, (True,), (_FEEDING_MAX,)))
                with _lock:
                    if self.ended or self.start_time is None:
                        return
                    self.ended = ends = True
            finally:
                if True in waited:
                    feeding.release()  # type: ignore[union-attr]
            if self._generation != _generation:
                self.drop()
                return
            context, measured = self.context, self._window is not None
            self.context = self._parent = None  # a cycle through the context would wait for the garbage collector
            usage, gpu, together = self._stop_meters(collected)
            if not measured:
                self.let_go()
                if self.span is not None:
                    apart(self.span.end)
                return
            audio = _UNKNOWN_AUDIO
            try:
                audio = self._describe(result, error, interrupted, usage)
                if gpu is not None:
                    _describe_gpu(self._attributes, gpu, result)
                if together:
                    self._attributes[semconv.TTS_CONCURRENCY_MAX] = together
                if self.operation.plays and self.is_played():
                    known = False
            except BaseException as fault:
                report(fault)
            self.let_go()
            if self._promises is None:
                self.settle(end, error, audio.duration, context, known)
                return
            ending = _Ending(self, end, error, audio, context, stretch, known)
            if ending.is_due(give_up=collected):
                ending.settle()
            else:
                for name in _OF_THE_CARD_MEANWHILE:
                    self._attributes.pop(name, None)
                unfinished(ending)
        except BaseException as fault:  # a started span is always ended
            if not ends:  # yet to be ended by whoever comes next
                raise
            self.context = self._parent = None
            self._stop_all_meters()
            try:
                if self.span is not None and self.span.is_recording():
                    apart(self.span.end)
            except BaseException as again:
                report(again)
            report(fault)

    def _stop_meters(self, collected: bool) -> tuple[Usage | None, GpuReading | None, int]:
        """Be counted no more; what was used, and the most syntheses that were open at once. What the caller does not
        know after a failure is let go of all the same."""
        usage, gpu, together = None, None, 0
        try:
            # Each is forgotten once it is let go of: what raises before is let go of again, which is safe.
            window = self._window
            if window is not None:
                if collected:
                    discard_window(window)
                else:
                    usage = close_window(window)
                self._window = None
            gpu_window = self._gpu
            if gpu_window is not None:
                if collected:
                    discard_gpu_window(gpu_window)
                else:
                    gpu = close_gpu_window(gpu_window)
                self._gpu = None
            presence = self._presence
            if presence is not None:
                together = _concurrency.leave(presence) if self._outermost else _concurrency.seen(presence)
                self._presence = None
            active, self._active = self._active, None
            if active is not None:
                self._instruments.active.add(-1, active)  # type: ignore[union-attr]
        except BaseException as fault:
            self._stop_all_meters()
            report(fault)
        return usage, gpu, together

    def _stop_all_meters(self) -> None:
        """Of all that is still held: nothing may stay counted as open, whatever failed."""
        window, self._window = self._window, None
        gpu, self._gpu = self._gpu, None
        presence, self._presence = self._presence, None
        active, self._active = self._active, None
        try:
            with ExitStack() as last:  # each, also where one before it fails
                if window is not None:
                    last.callback(discard_window, window)
                if gpu is not None:
                    last.callback(discard_gpu_window, gpu)
                if presence is not None and self._outermost:
                    last.callback(_concurrency.leave, presence)
                if active is not None:
                    last.callback(self._instruments.active.add, -1, active)  # type: ignore[union-attr]
        except Exception as fault:
            report(fault)

    def _describe(self, result: object, error: BaseException | None, interrupted: bool, usage: Usage | None) -> Whole:
        """Add everything that is known when the backend has returned, but for the times; returns the audio's facts."""
        attributes = self._attributes
        returned = error is None and not interrupted and not self.unseen
        audio = _UNKNOWN_AUDIO
        try:
            if returned and (self.operation.tells or "torch" in sys.modules):
                self.describe_result(attributes, result)
            if self.operation.asks and self.span is not None:
                name = self.operation.name_with(attributes.get(semconv.GEN_AI_REQUEST_MODEL))
                if name != self._name:  # the model became known only since the start
                    self.span.update_name(name)
            audio = self._read_audio(result, returned)
        except BaseException as fault:  # then nothing is known of the audio; the times still are
            report(fault)
        streamed = self.streamed
        if streamed is None and returned:
            streamed = False
        if streamed is not None:
            attributes[semconv.GEN_AI_REQUEST_STREAM] = streamed
        if self.characters is not None:
            attributes[semconv.TTS_INPUT_CHARACTERS] = self.characters
        if self.text is not None:
            messages = None if self.span is None else input_messages("".join(self.text), text_limit(self.span))
            if messages is not None:
                attributes[semconv.GEN_AI_INPUT_MESSAGES] = messages
        if self._cold is not None:
            attributes[semconv.TTS_COLD_START] = self._cold
        if interrupted:
            attributes[semconv.TTS_INTERRUPTED] = True
        if error is not None:
            attributes[semconv.ERROR_TYPE] = type_name(error)
        seconds, rate, channels, format, size = audio
        if size is not None:
            attributes[semconv.TTS_AUDIO_SIZE] = size
        if seconds is not None:
            attributes[semconv.TTS_AUDIO_DURATION] = seconds
        if rate is not None:
            attributes[semconv.TTS_AUDIO_SAMPLE_RATE] = rate
        if channels is not None:
            attributes[semconv.TTS_AUDIO_CHANNELS] = channels
        if format is not None:
            attributes[semconv.TTS_AUDIO_FORMAT] = format
        if usage is not None:
            if usage.cpu_time is not None:
                attributes[semconv.TTS_CPU_TIME] = usage.cpu_time
                if usage.wall:
                    attributes[semconv.TTS_CPU_UTILIZATION] = usage.cpu_time / usage.wall
            if usage.memory_peak is not None:
                attributes[semconv.TTS_MEMORY_PEAK] = usage.memory_peak
                if usage.memory_method != "clear_refs":
                    attributes[semconv.TTS_MEMORY_METHOD] = usage.memory_method
            if usage.memory_burst is not None:
                attributes[semconv.TTS_MEMORY_BURST] = usage.memory_burst
            if usage.memory_growth is not None:
                attributes[semconv.TTS_MEMORY_GROWTH] = usage.memory_growth
            if usage.memory_utilization is not None:
                attributes[semconv.TTS_MEMORY_UTILIZATION] = usage.memory_utilization
        if self._stages is not None:
            for name, spent in self._stages.items():
                attributes[semconv.TTS_STAGE_DURATION + name] = spent
            if self._stages_dropped:
                attributes[semconv.TTS_STAGE_DROPPED] = self._stages_dropped
        return audio

    def settle(
        self,
        end: float,
        error: BaseException | None,
        seconds: float | None,
        context: Context | None,
        known: bool,
    ) -> None:
        """End the span.

        Args:
            end: when it ended, by the monotonic clock.
            error: what the backend raised.
            seconds: of audio.
            context: the span's.
            known: whether `end` is when the backend was done; it is not where a card was given up on, nor where the
                backend played the sound.
        """
        if sys.exc_info()[0] not in (None, Withheld):
            apart(self.settle, end, error, seconds, context, known)
            return
        span, used_instruments = self.span, self._instruments
        length = end - self.start_time  # type: ignore[operator]
        end_ns = self._start_ns + int(length * 1e9)
        attributes = self._attributes
        try:
            duration: float | None = length
            if self.timeline is not None:
                reader = self.reader or AudioReader(onset=False)
                duration = self._describe_timeline(attributes, self.timeline, reader, end)
            if self.operation.says_duration:
                duration, known = self.duration_said, True
            prepared = self.prepared
            if duration is not None and known and prepared is not None:
                duration += prepared
                attributes[semconv.TTS_SYNTHESIS_DURATION] = duration
                if seconds and error is None:
                    attributes[semconv.TTS_RTF] = rtf = duration / seconds
                    attributes[semconv.TTS_RTF_GRADE] = rtf_grade(rtf)
            if span is not None:
                span.set_attributes(attributes)
                if error is not None:
                    record_exception(span, error, end_ns)
            if used_instruments is not None and not self.inner:
                self._record(used_instruments, attributes, length, context)
        except BaseException as fault:
            report(fault)
        finally:
            if span is not None:
                span.end(end_ns)

    def _read_audio(self, result: object, returned: bool) -> Whole:
        """The audio's facts: of the chunks that came, of a whole result, or of the file that the call wrote."""
        reader, written = self.reader, self._output
        if reader is None:
            if not returned or (result is None and written is None):
                return self._nothing_came() if returned and self.streamed else _UNKNOWN_AUDIO
            rate, format = self.declared_format(result)
            audio = self.pick_audio(result) if self.operation.picks and result is not None else result
            plain = format is None and written is None and self.texts is None
            if plain and hasattr(type(audio), "dtype"):
                whole = whole_array(audio, rate)
                if whole is not None:
                    return whole
            reader = AudioReader(rate, format, onset=False, texts=self.texts)
            if audio is None or isinstance(audio, (str, os.PathLike)):
                if written is None or not (written.read(reader) or written.is_at(audio)):
                    ReturnedFile(audio, self._start_ns).read(reader)
            else:
                reader.feed(audio)
                if written is not None:
                    reader.finish()
                    if reader.duration is None:  # a status, timings: the result is not the audio, the file is
                        of_file = AudioReader(rate, format, onset=False)
                        if written.read(of_file):
                            reader = of_file
        reader.finish()
        if reader.batch_size is not None:
            self._attributes[semconv.TTS_BATCH_SIZE] = reader.batch_size
        return Whole(reader.duration, reader.sample_rate, reader.channels, reader.format, reader.size)

    def _nothing_came(self) -> Whole:
        """The audio's facts where a stream ended without a chunk: no seconds, if it is known of what."""
        reader = AudioReader(*self.declared_format(None), onset=False)
        reader.feed(b"")
        reader.finish()
        if reader.duration is None:
            return _UNKNOWN_AUDIO
        return Whole(reader.duration, reader.sample_rate, reader.channels, reader.format, reader.size)

    def find_producer(self, timeline: Timeline) -> Producer:
        """Who worked between the pulls, where the program does not say."""
        declared = self.operation.producer
        if declared is not None:
            return declared
        if self.operation.wait is not None:
            return "push"
        if timeline.first_pull is None:
            # Nobody pulled. Chunks reported while the call ran came from elsewhere, unless the program itself says
            # where it did not synthesize.
            return "push" if timeline.chunks and not timeline.marked else "pull"
        return "pull" if self.sync_generator and not self.remote_inside and not timeline.waited() else "push"

    def _describe_timeline(
        self, attributes: Attributes, timeline: Timeline, reader: AudioReader, end: float
    ) -> float | None:
        """What the chunks' times say; returns the synthesis's duration, None where it is unknown."""
        if timeline.first_pull is None:
            timeline.end = end
        figures = timeline.settle(self.find_producer(timeline), reader)
        held = timeline.first_pull is not None or timeline.marked or (timeline.hold and self.streamed)
        if held and not timeline.unknown:
            attributes[semconv.TTS_STREAM_HOLD_DURATION] = timeline.hold
        if timeline.first_piece is not None:
            attributes[semconv.TTS_INPUT_WAIT_DURATION] = timeline.wait
        if not self.streamed:
            return figures.duration
        attributes[semconv.TTS_STREAM_CHUNKS] = timeline.chunks
        if figures.time_to_first_chunk is not None:
            attributes[semconv.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK] = figures.time_to_first_chunk
        if figures.time_to_first_audio is not None:
            attributes[semconv.TTS_TIME_TO_FIRST_AUDIO] = figures.time_to_first_audio
        playback = timeline.playback
        if playback is not None:
            attributes[semconv.TTS_STREAM_CONTINUOUS] = playback.underruns == 0
            attributes[semconv.TTS_STREAM_UNDERRUNS] = playback.underruns
            attributes[semconv.TTS_STREAM_UNDERRUN_DURATION] = playback.silence
            attributes[semconv.TTS_STREAM_UNDERRUN_MAX] = playback.longest
        if self.span is not None:
            if figures.first_instant is not None:
                name = semconv.EVENT_FIRST_CHUNK if reader.onset is None else semconv.EVENT_FIRST_AUDIO
                self._mark(name, figures.first_instant, end)
            if playback is not None:
                for ran_dry, seconds in timeline.underruns:
                    self._mark(semconv.EVENT_UNDERRUN, ran_dry, end, {semconv.TTS_STREAM_UNDERRUN_DURATION: seconds})
        return figures.duration

    def _mark(self, name: str, instant: float, end: float, attributes: Attributes | None = None) -> None:
        """An event on the span's bar; one after the span's end is put at the end."""
        since_start = min(instant, end) - self.start_time  # type: ignore[operator]
        add_event(self.span, name, attributes, self._start_ns + int(since_start * 1e9))  # type: ignore[arg-type]

    def _identity(self) -> Attributes:
        known = self._attributes
        return {name: known[name] for name in _IDENTITY if name in known}

    def _metric_attributes(self, used: Instruments) -> Attributes:
        attributes = self._identity()
        model = attributes.get(semconv.GEN_AI_REQUEST_MODEL)
        if model is not None:
            attributes[semconv.GEN_AI_REQUEST_MODEL] = used.model(model)
        return attributes

    def _record(self, used: Instruments, known: Attributes, length: float, span_context: Context | None) -> None:
        """Record the metrics, in the span's context so that exemplars point to it."""
        attributes = self._metric_attributes(used)
        for name in (semconv.GEN_AI_REQUEST_STREAM, semconv.TTS_COLD_START, semconv.ERROR_TYPE):
            if name in known:
                attributes[name] = known[name]
        used.duration.record(length, attributes, span_context)
        for instrument, name in (
            (used.time_to_first_chunk, semconv.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK),
            (used.rtf, semconv.TTS_RTF),
            (used.time_to_first_audio, semconv.TTS_TIME_TO_FIRST_AUDIO),
            (used.audio_duration, semconv.TTS_AUDIO_DURATION),
            (used.memory_peak, semconv.TTS_MEMORY_PEAK),
            (used.gpu_memory_peak, semconv.TTS_GPU_MEMORY_PEAK),
        ):
            value = known.get(name)
            if value is not None:
                instrument.record(value, attributes, span_context)
        if self.characters:
            used.characters.add(self.characters, attributes, span_context)
        if underruns := known.get(semconv.TTS_STREAM_UNDERRUNS):
            used.underruns.add(underruns, attributes, span_context)


def _describe_gpu(attributes: Attributes, reading: GpuReading, result: object) -> None:
    """What was used of the GPU that the model is on."""
    usage = reading.of_model(attributes.get(semconv.TTS_DEVICE), result)
    if usage is not None:
        for name, value in (
            (semconv.TTS_GPU_MEMORY_USED, usage.memory_used),
            (semconv.TTS_GPU_MEMORY_PEAK, usage.memory_peak),
            (semconv.TTS_GPU_MEMORY_ALLOCATED, usage.memory_allocated),
            (semconv.TTS_GPU_UTILIZATION, usage.utilization),
            (semconv.TTS_GPU_TEMPERATURE, usage.temperature),
            (semconv.TTS_GPU_ENERGY, usage.energy),
            (semconv.HW_NAME, usage.name),
        ):
            if value is not None:
                attributes[name] = value


class _Ending:
    """A synthesis whose backend is done, and whose span ends as soon as the cards are done, too."""

    __slots__ = ("_audio", "_context", "_end", "_error", "_known", "_stretch", "_synthesis", "settled")

    def __init__(
        self,
        synthesis: Synthesis,
        end: float,
        error: BaseException | None,
        audio: Whole,
        context: Context | None,
        stretch: Stretch | None,
        known: bool,
    ) -> None:
        self._known = known
        self._synthesis = synthesis
        self._end = end
        self._error = error
        self._audio = audio
        self._context = context
        self._stretch = stretch
        self.settled = False

    def is_due(self, give_up: bool = False) -> bool:
        """Whether no card is still at work, or that is given up on."""
        timeline = self._synthesis.timeline
        try:
            if self._stretch is not None:
                took = self._stretch.seconds()
                if took is not None:
                    self._end = max(self._end, self._synthesis.start_time + took)  # type: ignore[operator]
                elif not give_up:
                    return False
                else:
                    self._known = False
            if timeline is not None and timeline.promises is not None:
                if timeline.is_finished():
                    self._end = max(self._end, timeline.end)
                elif not give_up:
                    return False
                else:
                    timeline.give_up()
        except BaseException as fault:
            if not is_fault(fault):
                raise
            self._known = False  # a card failed: the program learns of it from torch
            try:
                if timeline is not None:
                    timeline.give_up()
            except BaseException as again:
                report(again)
        return True

    def settle(self) -> None:
        """End the span."""
        self.settled = True
        try:
            self._synthesis.settle(self._end, self._error, self._audio.duration, self._context, self._known)
        except BaseException as fault:  # out of a span processor of the program's: others wait for their end
            report(fault)


def _promises(marked: bool) -> Promises | None:
    if "torch" not in sys.modules:
        return None
    try:
        promises = Promises.find()
        if promises is not None and marked:
            promises.mark()
        return promises
    except Exception:  # a card failed: the program learns of it from torch
        return None


def _register_exit_hook() -> None:
    """End at exit what was abandoned or is still open. Registered with the first measured call, which is after the
    providers' own hooks, so that it runs before them."""
    global _exit_hook
    _exit_hook = True
    atexit.register(drain_at_exit)
