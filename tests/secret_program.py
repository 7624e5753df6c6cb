"""The program of `test_secrets`: every cell of its matrix, with every exporter there is, and everything logged.

    python secret_program.py PART FOLDER HTTP_ENDPOINT GRPC_ENDPOINT

It writes down how many cells it ran; whoever started it looks through what came out.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import logging
import os
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fault_shapes
import pytest
import secret_shapes
import test_fault_matrix as matrix
from fault_shapes import Backend
from opentelemetry import metrics, trace
from opentelemetry._logs import get_logger_provider
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, PeriodicExportingMetricReader
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from secret_texts import CONTROL, SECRET, count
from standin_cuda import standin_cuda

from ttstrace import configure, endings, faults, synthesis, traced_synthesis
from ttstrace.decorator import Traced

Cell = tuple[str, Callable[[], object]]
"""Its name, and what runs it."""
OPTIONS: dict[str, Any] = {"sample_rate": 24_000, "format": "pcm_s16le"}


class Everything(logging.Formatter):
    """All that a record holds."""

    def format(self, record: logging.LogRecord) -> str:
        held = {name: value for name, value in vars(record).items() if name not in ("exc_info", "exc_text")}
        return f"LOG {record.name}: {super().format(record)} {held!r}"


def log_everything() -> None:
    handler = logging.StreamHandler()  # standard error
    handler.setFormatter(Everything())
    logging.basicConfig(level=logging.DEBUG, handlers=[handler])
    logging.captureWarnings(True)
    warnings.simplefilter("always")


class Unavailable(SpanExporter):
    """A destination that takes nothing: what the SDK logs of that tells what is being handled meanwhile, if anything
    is."""

    def export(self, spans: Any) -> Any:
        if sys.exc_info()[1] is not None:
            raise ConnectionError("nobody there")
        return SpanExportResult.SUCCESS


def tell_everybody(folder: Path, http: str, grpc: str) -> list[Any]:
    """Everything goes everywhere."""
    handles = [configure("secrets", endpoint=http, file=folder / "spans.jsonl"), configure(endpoint=grpc)]
    provider: Any = trace.get_tracer_provider()
    for exporter in (ConsoleSpanExporter(), InMemorySpanExporter(), Unavailable()):
        provider.add_span_processor(SimpleSpanProcessor(exporter))
    provider.add_span_processor(matrix.Processor())
    meters: Any = metrics.get_meter_provider()
    meters.add_metric_reader(PeriodicExportingMetricReader(ConsoleMetricExporter(), export_interval_millis=3_600_000))
    logs: Any = get_logger_provider()
    logs.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter(f"{http}/v1/logs"), max_queue_size=100_000))
    return handles


# --- the cells ---------------------------------------------------------------------------------------------------


class Tally:
    """Whether the cell that runs came by what it is about."""

    struck = False


def decorating(
    text: Callable[[str], Any] = secret_shapes.TEXTS["str"],
    fail: Callable[[], Any] | None = None,
    by_name: bool = False,
    options: dict[str, Any] = OPTIONS,
) -> Any:
    """What decorates the functions of the shapes: traced, given the secret for their text, and failing when done."""

    def failed() -> Any:
        Tally.struck = True
        return fail()  # type: ignore[misc]

    def decorate(function: Any) -> Any:
        if function in fault_shapes.SHAPES:  # it asks whether it is decorated at all
            return object()
        traced = traced_synthesis(**options)(secret_shapes.failing(function, failed) if fail else function)
        # A method's text is the argument after its instance or its class.
        first = getattr(function, "__code__", decorate.__code__).co_varnames[:1]

        def called(*given: Any) -> Any:
            if first == ("self",):
                return traced.__get__(given[0], type(given[0]))(text(SECRET))
            if first == ("cls",):
                return traced(given[0], text(SECRET))
            if by_name and len(given) == 1:
                return traced(text=text(SECRET))
            return traced(text(SECRET), *given[1:])

        called.__name__ = "speak"
        return called

    return decorate


def backend_in(folder: Path) -> Backend:
    inside = folder / SECRET
    inside.mkdir(exist_ok=True)
    path = inside / "out.wav"
    path.unlink(missing_ok=True)
    made = Backend(path)
    made.error = fault_shapes.BackendError(SECRET)
    return made


ALL_SHAPES = (*fault_shapes.SHAPES, *secret_shapes.SHAPES)


def texts(folder: Path) -> Iterator[Cell]:
    """Every shape of result, whatever the text is."""
    for shape in ALL_SHAPES:
        for name, text in secret_shapes.TEXTS.items():
            for by_name in (False, True)[: 1 + (name == "str")]:
                decorate = decorating(text, None, by_name)
                yield f"{shape.__name__}, {name}", lambda shape=shape, d=decorate: shape(backend_in(folder), d)


def failures(folder: Path) -> Iterator[Cell]:
    """Every shape of result, whatever is raised."""
    for shape in ALL_SHAPES:
        for name, fail in secret_shapes.FAILURES.items():
            decorate = decorating(fail=fail)
            yield f"{shape.__name__}, {name}", lambda shape=shape, d=decorate: shape(backend_in(folder), d)
    for name, fail in secret_shapes.FAILURES.items():

        def by_hand(fail: Callable[[], Any] = fail) -> None:
            with synthesis(SECRET), secret_shapes.stage("words"):
                Tally.struck = True
                fail()

        yield f"by hand, {name}", by_hand


def places(folder: Path) -> Iterator[Cell]:
    """Every place that a text, or a path, may have among options and arguments."""
    os.chdir(folder)
    Path(secret_shapes.FOLDER_THERE).mkdir(parents=True)
    for option, path in secret_shapes.PATHS:
        for given in (path, lambda call, path=path: path):
            if option == "voice" and not callable(given) and not isinstance(given, str):
                continue  # refused when the decorator is applied
            yield (
                f"{option}={path!r}",
                lambda option=option, given=given: secret_shapes.traced_with_arguments(**{option: given})("hello"),
            )
    for name in matrix._OPTIONS:
        for answer, value in secret_shapes.ANSWERS.items():
            for shape in ALL_SHAPES[:4]:
                decorate = decorating(options={**OPTIONS, name: lambda call, value=value: value})
                yield f"{name} answers {answer}", lambda shape=shape, d=decorate: shape(backend_in(folder), d)
        for failure, fail in secret_shapes.FAILURES.items():
            if failure not in _INTERRUPTIONS:
                decorate = decorating(options={**OPTIONS, name: lambda call, fail=fail: fail()})
                for shape in (fault_shapes.generator, fault_shapes.exception):
                    yield f"{name}: {failure}", lambda shape=shape, d=decorate: shape(backend_in(folder), d)
    given = SECRET, f"/nowhere/{SECRET}.wav", Path("/nowhere") / SECRET, [SECRET], secret_shapes.Disclosing()
    for argument in secret_shapes.ARGUMENTS:
        for value in given:
            yield (
                f"{argument}={value!r}",
                lambda argument=argument, value=value: secret_shapes.traced_with_arguments()("hi", **{argument: value}),
            )
    for value in secret_shapes.ANSWERS.values():
        attributes: Any = {"odd": lambda call, value=value: value}
        yield "attribute", lambda a=attributes: secret_shapes.traced_with_arguments(attributes=a)("hello")


_INTERRUPTIONS = ("SystemExit", "KeyboardInterrupt", "GeneratorExit", "CancelledError")


def inner_faults(folder: Path) -> Iterator[Cell]:
    """Whatever fails in ttstrace says the secret, under every shape that says it, too."""
    matrix.WAYS["tells"] = lambda fault, original, args, kwargs: fault.fail(matrix.Broken(SECRET))
    shapes = (*fault_shapes.SHAPES, *secret_shapes.SHAPES[-9:])
    for point, install in matrix.POINTS.items():
        if point in ("exporter.export", "span.end"):  # the SDK logs what these raise: its own affair
            continue
        for shape in shapes:

            def cell(shape: Any = shape, install: Any = install) -> None:
                with pytest.MonkeyPatch.context() as patch:
                    fault, options = matrix.Fault("tells"), dict(OPTIONS)
                    install(patch, fault, options)
                    fail = secret_shapes.FAILURES["context"] if shape is fault_shapes.value else None
                    faults._reported = False
                    try:
                        shape(backend_in(folder), decorating(fail=fail, options=options))
                    finally:
                        Tally.struck = bool(fault.struck)

            yield f"{point}, {shape.__name__}", cell


def cards(folder: Path) -> Iterator[Cell]:
    """Whatever fails of a card (a stand-in) says the secret."""
    for name in ("memory_stats_as_nested_dict", "reset_peak_memory_stats", "current_device", "device_count", "Event"):
        for shape in (fault_shapes.value, fault_shapes.generator):

            def cell(name: str = name, shape: Any = shape) -> None:
                with standin_cuda() as standin:
                    setattr(standin.module.cuda, name, lambda *args, **kwargs: {}[SECRET])  # type: ignore[index]
                    shape(backend_in(folder), decorating())

            yield f"{name}, {shape.__name__}", cell

    class Model:
        def parameters(self) -> Any:
            return iter([secret_shapes.Disclosing()])

    class Speech:
        audio, device = b"\1\0" * 1200, SECRET

    class Engine:
        model = Model()

        @traced_synthesis
        def speak(self, text: str) -> Any:
            return Speech()

    def on_an_odd_device() -> None:
        with standin_cuda():
            Engine().speak(SECRET)

    yield "the model's device", on_an_odd_device
    yield "the result's device", lambda: _on_its_device(Speech())


def _on_its_device(speech: Any) -> None:
    with standin_cuda():
        traced_synthesis(lambda text: speech)(SECRET)


class _BrokenHandler(logging.Handler):
    """A handler that fails, as one does whose file is closed: logging prints where it was asked to write."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            raise ValueError("closed")
        except ValueError:
            self.handleError(record)


def broken_handlers(folder: Path) -> Iterator[Cell]:
    """Whoever writes the log fails, and Python says so, with all that was being handled."""
    for name, fail in secret_shapes.FAILURES.items():
        if "file" in name or "line" in name:
            continue  # logging prints the program's own stack as well, source lines and all
        for shape in (fault_shapes.value, fault_shapes.generator, fault_shapes.coroutine, secret_shapes.method):
            for options in (OPTIONS, {**OPTIONS, "audio": lambda call, fail=fail: fail()}):
                if options is not OPTIONS and name in _INTERRUPTIONS:
                    continue

                def cell(shape: Any = shape, fail: Any = fail, options: Any = options) -> None:
                    handler = _BrokenHandler()
                    logging.getLogger("ttstrace").addHandler(handler)
                    logging.getLogger("opentelemetry.sdk.trace.export").addHandler(handler)
                    try:
                        shape(backend_in(folder), decorating(fail=fail, options=options))
                    finally:
                        logging.getLogger("ttstrace").removeHandler(handler)
                        logging.getLogger("opentelemetry.sdk.trace.export").removeHandler(handler)

                yield f"{shape.__name__}, {name}", cell


def reprs(folder: Path) -> Iterator[Cell]:
    """What our own objects say of themselves, which a traceback or a debugger may ask them."""

    def cell() -> None:
        options: dict[str, Any] = {"model": f"/srv/{SECRET}/v.onnx", "voice": SECRET, "attributes": {"a": SECRET}}
        speak = secret_shapes.traced_with_arguments(**options)
        assert isinstance(speak, Traced)
        seen: list[Any] = []

        def look(call: Any) -> None:
            seen.extend((call, synthesis.current()))

        looking = traced_synthesis(audio=look, voice=lambda call: f"{SECRET}.wav")(lambda text: b"\1\0")
        looking(SECRET)
        target = speak._self_target
        by_hand = synthesis(SECRET)
        for each in (speak, target, target.options, by_hand, *seen, secret_shapes.stage("words")):
            logging.getLogger("repr").info("%r %s", each, each)

    yield "repr", cell


CAPTURED = (
    fault_shapes.value, fault_shapes.generator, fault_shapes.async_generator, fault_shapes.coroutine,
    fault_shapes.awaitable, fault_shapes.body, fault_shapes.async_body, fault_shapes.dropped_generator,
    fault_shapes.context_manager, fault_shapes.future, fault_shapes.output_file, fault_shapes.exception,
    fault_shapes.nested, fault_shapes.pieces_of_text, secret_shapes.class_method, secret_shapes.callable_object,
    secret_shapes.batch, secret_shapes.cancelled, secret_shapes.in_a_pool, secret_shapes.with_a_callback,
)  # fmt: skip
_RECORDED = {
    "str": SECRET, "str of its own": SECRET, "list": SECRET * 2, "SSML": secret_shapes.TEXTS["SSML"](SECRET),
    "surrogates and NULs": f"?{SECRET}\0", "iterator": SECRET,
}  # fmt: skip
"""What of a text is recorded where that is asked for; nothing of what is no text."""
expected: dict[str, str | None] = {}
"""By the cell's number, which is its model's name."""


def captured(folder: Path) -> Iterator[Cell]:
    """Where content capture is on: every shape, whatever the text is, and the paths and instructions beside it."""
    for shape in CAPTURED:
        for name, text in secret_shapes.TEXTS.items():
            number = str(len(expected))
            pulled = name != "iterator" or shape is fault_shapes.pieces_of_text
            expected[number] = _RECORDED.get(name) if pulled else None
            decorate = decorating(text, options={**OPTIONS, "model": number, "voice": f"{SECRET}.wav"})
            yield f"{shape.__name__}, {name}", lambda shape=shape, d=decorate: shape(backend_in(folder), d)
    for argument in secret_shapes.ARGUMENTS:
        number = str(len(expected))
        expected[number] = "hello"
        speak = secret_shapes.traced_with_arguments(model=number)
        yield argument, lambda speak=speak, argument=argument: speak("hello", **{argument: SECRET})


PARTS: dict[str, tuple[Callable[[Path], Iterator[Cell]], ...]] = {
    "calls": (texts, failures, places, reprs),
    "faults": (inner_faults, cards, broken_handlers),
    "captured": (captured,),
}


def run(cells: Callable[[Path], Iterator[Cell]], folder: Path) -> int:
    """Run some cells; how many of them came by what they are about."""
    ran = 0
    for name, cell in cells(folder):
        Tally.struck = cells not in (failures, inner_faults)
        # What Python itself says of what nobody catches is another test's.
        with contextlib.suppress(BaseException):
            cell()
        with contextlib.suppress(BaseException):
            endings.drain()
        ran += Tally.struck
        logging.getLogger("cells").info("%s", name.replace(SECRET, "..").encode("ascii", "replace"))
    return ran


# --- what nobody catches -----------------------------------------------------------------------------------------


def told_by_python(program: Callable[[Any], None], decorate: Any) -> str:
    """Everything that Python prints, logs or hands to a hook while a program runs."""
    printed, hooked = io.StringIO(), []
    handler = logging.StreamHandler(printed)
    before = sys.excepthook, threading.excepthook, sys.unraisablehook

    def unraisable(args: Any) -> None:
        hooked.append((repr(args.object), args.err_msg, *traceback.format_exception(args.exc_value)))

    def thread(args: Any) -> None:
        hooked.append(tuple(traceback.format_exception(args.exc_value)))

    root = logging.getLogger()
    handlers, root.handlers = root.handlers, [handler]
    threading.excepthook, sys.unraisablehook = thread, unraisable
    try:
        with contextlib.redirect_stderr(printed), contextlib.redirect_stdout(printed):
            with contextlib.suppress(BaseException):
                program(decorate)
            gc.collect()
            endings.drain()
    finally:
        sys.excepthook, threading.excepthook, sys.unraisablehook = before
        root.handlers = handlers
    return printed.getvalue() + repr(hooked)


def uncaught() -> dict[str, tuple[int, int]]:
    """How often each program has Python tell the secret: by itself, and traced."""
    answers = {}
    for program in secret_shapes.UNCAUGHT:
        plain = told_by_python(program, lambda function: function)
        traced = told_by_python(program, traced_synthesis)
        answers[program.__name__] = count(plain.encode()), count(traced.encode())
    return answers


def main(part: str, folder: Path, http: str, grpc: str) -> None:
    log_everything()
    handles = tell_everybody(folder, http, grpc)
    fault_shapes.synthesis = lambda text, **options: synthesis(SECRET, **options)  # type: ignore[assignment]
    traced_synthesis(model=CONTROL)(lambda text: b"")("hello")
    logging.getLogger("control").info(CONTROL)
    ran = {cells.__name__: run(cells, folder) for cells in PARTS[part]}
    answers: dict[str, Any] = {"cells": ran, "expected": expected}
    if part == "calls":
        answers["uncaught"] = uncaught()
    provider: Any = trace.get_tracer_provider()
    answers["sent"] = [handle.force_flush(60) for handle in handles]
    logs: Any = get_logger_provider()
    logs.force_flush()
    metrics.get_meter_provider().force_flush()  # type: ignore[attr-defined]
    provider.force_flush()
    (folder / "answers.json").write_text(json.dumps(answers))
    logs.shutdown()


if __name__ == "__main__":
    os.environ["TTSTRACE_CONSOLE"] = "1"
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4])
