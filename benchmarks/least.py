"""The least that a traced call has to do: the floor under what the engine can cost.

One flat function, for one function only: it says what a traced call of `subject.speak` says, by the same rules, and
knows nothing else. No options, no streams, no futures, no files, no GPU, and no function of its own is called.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from time import perf_counter, time_ns
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context, attach, create_key, get_current
from opentelemetry.metrics import _internal as metrics_internal
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import Span, SpanKind

from ttstrace import semconv
from ttstrace.environment import is_set
from ttstrace.monitor import rtf_grade

_SUPPRESS = (otel_context._SUPPRESS_INSTRUMENTATION_KEY, "suppress_instrumentation")
_SPAN = next(iter(trace.set_span_in_context(trace.INVALID_SPAN, Context())))
_SYNTHESIS = create_key("least")
_CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_PAGE = os.sysconf("SC_PAGE_SIZE")
_LAYOUTS = {"float32": ("pcm_f32le", 4)}


class _Synthesis:
    """What `synthesis.current()` finds while the call runs."""

    __slots__ = ("ended", "span", "start_time")

    def __init__(self, span: Span) -> None:
        self.span = span
        self.start_time = 0.0
        self.ended = False


def least(function: Callable[[str], Any], like: ReadableSpan, rate: int) -> Callable[[str], Any]:
    """The function, traced with the least effort.

    Args:
        function: returns one array of one dimension, at once.
        like: a span that the engine made of it: who, what and which model are taken from there.
        rate: Hz.
    """
    known_provider = trace.get_tracer_provider()
    tracer = trace.get_tracer(semconv.SCOPE)
    told: dict[str, Any] = dict(like.attributes or {})
    fixed = {
        key: told[key]
        for key in (
            semconv.GEN_AI_OPERATION_NAME,
            semconv.GEN_AI_PROVIDER_NAME,
            semconv.GEN_AI_REQUEST_MODEL,
            semconv.GEN_AI_SPEECH_VOICE,
            semconv.TTS_LANGUAGE,
            semconv.TTS_DEVICE,
            semconv.GEN_AI_OUTPUT_TYPE,
            semconv.CODE_FUNCTION_NAME,
        )
    }
    name, kind = like.name, SpanKind.INTERNAL
    write, pread = os.write, os.pread
    clear_refs = os.open("/proc/self/clear_refs", os.O_WRONLY)
    statm = os.open("/proc/self/statm", os.O_RDONLY)
    memory = told[semconv.TTS_MEMORY_PEAK] / told[semconv.TTS_MEMORY_UTILIZATION]
    lock = threading.RLock()
    abandoned: SimpleQueue[Any] = SimpleQueue()  # by the garbage collector: ended at the next call
    unfinished: list[Any] = []  # by cards
    warm = {id(function)}
    opened: list[None] = []  # everything that is open now
    counts: list[int] = []  # how many were, where one came upon another
    marks: list[int] = []  # of memory, of windows that another one cut short
    layouts: dict[Any, tuple[str, int]] = {}

    def call(text: str) -> Any:
        # Is anybody listening, and does the caller want this call to be seen?
        if trace.get_tracer_provider() is not known_provider or metrics_internal._METER_PROVIDER is not None:
            raise RuntimeError("made for one provider")
        outer = get_current()
        if outer and (outer.get(_SUPPRESS[0]) or outer.get(_SUPPRESS[1])):
            return function(text)
        if unfinished or not abandoned.empty():
            raise RuntimeError("nothing is left behind here")
        characters = len(text) if isinstance(text, str) else None
        if is_set(_CAPTURE):
            raise RuntimeError("the text is not recorded here")
        cold = id(function) not in warm
        # The span, and the context that the function runs in.
        start_ns = time_ns()
        span = tracer.start_span(name, outer, kind, None, None, start_ns, False, False)
        synthesis = _Synthesis(span)
        inside = outer.copy()
        inside[_SPAN] = span
        inside[_SYNTHESIS] = synthesis
        # Open the window: this call among the others, memory, CPU.
        since = len(counts)
        opened.append(None)
        if len(opened) > 1:
            counts.append(len(opened))
        pages = pread(statm, 64, 0)
        usage = getrusage(RUSAGE_CHILDREN)
        children = usage.ru_utime + usage.ru_stime
        with lock:
            position = len(marks)
            if len(opened) > 1:
                marks.append(getrusage(RUSAGE_SELF).ru_maxrss)
            write(clear_refs, b"5")
            usage = getrusage(RUSAGE_SELF)
        mark, cpu = usage.ru_maxrss, usage.ru_utime + usage.ru_stime
        attach(Context(inside))
        start = synthesis.start_time = perf_counter()
        try:
            result = function(text)
        except BaseException as error:
            attach(outer)
            span.set_attribute(semconv.ERROR_TYPE, type(error).__qualname__)
            span.end()
            raise
        end = perf_counter()
        attach(outer)
        # Close the window, and only once: a thread may still be reporting chunks to it.
        with lock:
            if synthesis.ended:
                return result
            synthesis.ended = True
        usage = getrusage(RUSAGE_SELF)
        peak = usage.ru_maxrss
        cpu = usage.ru_utime + usage.ru_stime - cpu
        with lock:
            if len(marks) > position:
                peak = max(peak, *marks[position:])
            opened.pop()
            if not opened:
                marks.clear()
        usage = getrusage(RUSAGE_CHILDREN)
        cpu += usage.ru_utime + usage.ru_stime - children
        pages_now = pread(statm, 64, 0)
        growth = 0 if pages_now == pages else (int(pages_now.split()[1]) - int(pages.split()[1])) * _PAGE
        together = max(counts[since:]) if len(counts) > since else 1
        # The audio.
        shape, dtype = result.shape, result.dtype
        try:
            layout, width = layouts[dtype]
        except KeyError:
            layout, width = layouts[dtype] = _LAYOUTS[dtype.name]
        frames = shape[0]
        seconds = frames / rate
        duration = end - start
        rtf = duration / seconds
        span.set_attributes(
            {
                **fixed,
                semconv.GEN_AI_REQUEST_STREAM: False,
                semconv.TTS_INPUT_CHARACTERS: characters,
                semconv.TTS_COLD_START: cold,
                semconv.TTS_AUDIO_SIZE: frames * width,
                semconv.TTS_AUDIO_DURATION: seconds,
                semconv.TTS_AUDIO_SAMPLE_RATE: rate,
                semconv.TTS_AUDIO_CHANNELS: 1,
                semconv.TTS_AUDIO_FORMAT: layout,
                semconv.TTS_CPU_TIME: cpu,
                semconv.TTS_CPU_UTILIZATION: cpu / duration,
                semconv.TTS_MEMORY_PEAK: peak * 1024,
                semconv.TTS_MEMORY_BURST: (peak - mark) * 1024,
                semconv.TTS_MEMORY_GROWTH: growth,
                semconv.TTS_MEMORY_UTILIZATION: peak * 1024 / memory,
                semconv.TTS_CONCURRENCY_MAX: together,
                semconv.TTS_SYNTHESIS_DURATION: duration,
                semconv.TTS_RTF: rtf,
                semconv.TTS_RTF_GRADE: rtf_grade(rtf),
            }
        )
        span.end(start_ns + int(duration * 1e9))
        return result

    return call
