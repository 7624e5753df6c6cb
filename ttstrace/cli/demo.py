"""``ttstrace demo``: a real voice measured, and how to see the result in Jaeger."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ttstrace import semconv
from ttstrace._version import __version__
from ttstrace.cli.errors import Failure, UsageError, require

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from rich.console import Console

    from ttstrace.cli.arrival import Arrival
    from ttstrace.cli.demo_steps import Step
    from ttstrace.cli.demo_words import Words
    from ttstrace.telemetry import Telemetry

SERVICE = "ttstrace-demo"
SUMMARY = "measure a small real voice, and see what you get"
DESCRIPTION = """\
Measures real sentences of a small English voice that is installed with the
demo (hibari): plain and streamed calls, an application's own function with
stages, and one error. Prints one line per synthesis, a table, and one of them
in the six lines of the performance guide; writes a trace file and a file of
metrics; and tells how to see the traces in Jaeger. Nothing leaves this machine
without --endpoint."""
EPILOG = """\
examples:
  ttstrace demo
      writes ttstrace.jsonl and ttstrace.metrics.jsonl into the working
      directory; what is in them already stays
  ttstrace demo --language ko
      the words around the figures in Korean
  ttstrace demo --endpoint http://localhost:4318
      also sends everything to a Jaeger, or any other OTLP collector
  ttstrace demo --endpoint localhost:4317 --protocol grpc
      the same over gRPC
  ttstrace demo --file traces/monday.jsonl
      another trace file; the metrics go to traces/monday.metrics.jsonl
  ttstrace demo --json | jq '.syntheses[] | {step, rtf: .attributes["tts.rtf"]}'
      for programs: one JSON object on standard output, everything else on
      standard error

needs: pip install 'ttstrace[demo]'"""

_ENDPOINT_EXAMPLE = "http://localhost:4318"
_JAEGER = (
    "docker run --rm -e JAEGER_LISTEN_HOST=0.0.0.0 \\",
    "    -p 16686:16686 -p 4318:4318 jaegertracing/jaeger:latest",
)
_JAEGER_PORT = 16686
# Which of the steps is shown in the six lines.
_EXAMPLE = "long"
# The exporters themselves give up after 5 seconds.
_SENDING_SECONDS = 10.0
_LEAVING_SECONDS = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--language", choices=("en", "ko"), default="en", help="of the words around the figures (default: en)"
    )
    parser.add_argument(
        "--file",
        metavar="PATH",
        help="the trace file, appended to (default: what TTSTRACE_FILE says, else ttstrace.jsonl)",
    )
    parser.add_argument(
        "--endpoint", metavar="URL", help=f"also send everything to this OTLP collector, such as {_ENDPOINT_EXAMPLE}"
    )
    parser.add_argument(
        "--protocol",
        choices=("http/protobuf", "grpc"),
        help="of the endpoint (default: grpc for port 4317 and for a bare host:port, else http/protobuf)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")


@dataclass(frozen=True)
class _Spoken:
    """A step and the spans of its syntheses, the outermost first."""

    step: Step
    syntheses: list[ReadableSpan]


def run(arguments: argparse.Namespace) -> int:
    require("demo", "demo", "rich", "hibari", "onnxruntime", "numpy")
    from ttstrace.cli.arrival import deliver, quiet_exporters, spans_in
    from ttstrace.cli.demo_words import WORDS
    from ttstrace.cli.terminal import open_console
    from ttstrace.telemetry.destinations import resolve
    from ttstrace.telemetry.trace_file import default_path

    words = WORDS[arguments.language]
    progress = open_console(sys.stderr)
    path = default_path() if arguments.file is None else arguments.file
    if arguments.protocol and not arguments.endpoint:
        raise UsageError(f"--protocol goes with --endpoint: add --endpoint {_ENDPOINT_EXAMPLE}", "ttstrace demo")
    try:
        resolve(arguments.endpoint, arguments.protocol, path)
    except ValueError as error:
        raise UsageError(str(error), "ttstrace demo") from None
    offset = os.path.getsize(path) if os.path.isfile(path) else 0
    with quiet_exporters():
        telemetry = _configure(path, arguments.endpoint, arguments.protocol)
        file = str(telemetry.file)
        try:
            spoken, spans = _speak(words, progress)
            with _waiting(progress, words.sending.format(endpoint=arguments.endpoint) if arguments.endpoint else ""):
                arrival = deliver(telemetry, _SENDING_SECONDS)
        except BaseException as error:
            telemetry.shutdown(_LEAVING_SECONDS)
            if isinstance(error, KeyboardInterrupt):
                _say(progress, words.stopped.format(file=_shown(file)))
            raise
        # A collector that did not answer is not waited for a second time.
        telemetry.shutdown(_SENDING_SECONDS if arrival.complete else _LEAVING_SECONDS)

    missing = {_span_id(span) for span in spans} - spans_in(file, offset)
    if arguments.json:
        print(json.dumps(_as_json(arguments.language, telemetry, spoken, arrival, not missing), indent=2))
    else:
        _report(open_console(sys.stdout), words, arguments.language, telemetry, spoken, len(spans), arrival)
    if missing:
        raise Failure(
            f"{len(missing)} of {len(spans)} spans are not in {file}: is the disk full? Make room, or name another "
            "file with --file."
        )
    if not arrival.complete:
        raise Failure(_not_arrived(arguments.endpoint, arrival, _shown(file)))
    return 0


# --- what is measured --------------------------------------------------------------------------------------------


def _configure(path: str, endpoint: str | None, protocol: str | None) -> Telemetry:
    from ttstrace.console import CONSOLE_VARIABLE
    from ttstrace.telemetry import configure

    said = os.environ.get(CONSOLE_VARIABLE)
    # The demo prints those lines itself, each below what it is about.
    os.environ[CONSOLE_VARIABLE] = "0"
    try:
        telemetry = configure(SERVICE, file=path, endpoint=endpoint, protocol=protocol)
    except (ValueError, OSError) as error:
        raise Failure(str(error).replace("file=...", "--file PATH")) from None
    finally:
        if said is None:
            del os.environ[CONSOLE_VARIABLE]
        else:
            os.environ[CONSOLE_VARIABLE] = said
    if telemetry.file is None:
        raise Failure("OpenTelemetry is switched off here by OTEL_SDK_DISABLED=true: unset that, and run it again.")
    return telemetry


def _speak(words: Words, progress: Console) -> tuple[list[_Spoken], list[ReadableSpan]]:
    """Make every call; the spans of each, and all that there were, stages included."""
    from opentelemetry import trace

    from ttstrace.cli.demo_steps import steps
    from ttstrace.cli.recorder import Recorder, is_synthesis
    from ttstrace.instrumentor import instrument, uninstrument

    _say(progress, words.welcome)
    if "hibari" not in instrument("hibari"):
        raise Failure("this version of hibari-tts is not known to work: pip install -U 'ttstrace[demo]'")
    recorder = Recorder(lambda span: _print_line(progress, span))
    add_processor: Any = getattr(trace.get_tracer_provider(), "add_span_processor", None)
    if add_processor is None:
        raise Failure("another tracer provider is in the way, and takes no processor: run the demo on its own.")
    add_processor(recorder)
    try:
        with _waiting(progress, words.loading):
            voice = _load_voice()
        spoken = []
        for number, step in enumerate(steps(voice), 1):
            before = len(recorder.spans)
            _say(progress, f"\n{number}  {words.headings[step.key]}")
            if step.text is not None:
                _say(progress, f"\u201c{step.text}\u201d", "dim", indent=3)
            error = _survive(step)
            if error is not None:
                _say(progress, words.expected_error.format(error=f"{type(error).__name__}: {error}"), "dim", indent=3)
            # A span ends before the one around it.
            syntheses = [span for span in recorder.spans[before:] if is_synthesis(span)][::-1]
            if not syntheses:
                sampler = os.environ.get("OTEL_TRACES_SAMPLER")
                why = f"OTEL_TRACES_SAMPLER={sampler} drops spans" if sampler else "something drops spans"
                raise Failure(f"a call left no span: {why}; unset it, and run the demo again.")
            spoken.append(_Spoken(step, syntheses))
        _say(progress, "")
        return spoken, list(recorder.spans)
    finally:
        recorder.shutdown()
        uninstrument("hibari")


def _load_voice() -> Any:
    from hibari import Hibari  # type: ignore[import-untyped]

    try:
        return Hibari()
    except Exception as error:
        raise Failure(
            f"hibari could not load its voice ({type(error).__name__}: {error}): "
            "pip install --force-reinstall hibari-tts"
        ) from error


def _survive(step: Step) -> Exception | None:
    """Make the call; the error of the one that is to fail."""
    try:
        step.run()
    except Exception as error:
        if step.text is None:
            return error
        raise
    return None


# --- what is shown meanwhile -------------------------------------------------------------------------------------


def _say(progress: Console, message: str, style: str = "", *, indent: int = 0) -> None:
    from rich.padding import Padding
    from rich.text import Text

    text = Text(message, style)
    # Lines in a file are as long as they are; only a terminal's must fit.
    if progress.is_terminal:
        progress.print(Padding(text, (0, 0, 0, indent), expand=False))
    else:
        progress.print(" " * indent + message, soft_wrap=True)


def _print_line(progress: Console, span: ReadableSpan) -> None:
    from rich.text import Text

    from ttstrace.cli.terminal import fold
    from ttstrace.console import format_line

    color = progress.is_terminal and progress.color_system is not None
    fields = [Text.from_ansi(field) for field in format_line(span, color=color).split("  ")]
    width = progress.width if progress.is_terminal else sys.maxsize
    for line in fold(fields, width, 3):
        progress.print(line, soft_wrap=True)


@contextmanager
def _waiting(progress: Console, what: str) -> Iterator[None]:
    """Say what is being waited for: on a terminal as long as it takes, else once."""
    if what and progress.is_terminal:
        with progress.status(f"{what} ..."):
            yield
    else:
        if what:
            _say(progress, f"{what} ...")
        yield


# --- what is shown at the end ------------------------------------------------------------------------------------


def _report(
    console: Console,
    words: Words,
    language: str,
    telemetry: Telemetry,
    spoken: list[_Spoken],
    count: int,
    arrival: Arrival,
) -> None:
    from rich.text import Text

    from ttstrace.cli.guide import guide_lines
    from ttstrace.cli.summary import Row, summary_table

    def say(text: str = "", style: str = "", indent: int = 0) -> None:
        # Never broken, for what is to be copied.
        for line in text.split("\n"):
            console.print(Text(" " * indent + line, style), soft_wrap=True)

    def explain(text: str) -> None:
        console.print(Text(text, "dim"))

    rows = [
        Row(words.rows[each.step.key] if index == 0 else words.inner, span.attributes or {}, _trace_id(span))
        for each in spoken
        for index, span in enumerate(each.syntheses)
    ]
    console.print(summary_table(rows, language=language, width=console.width))
    hold = sum(_attribute(each, semconv.TTS_STREAM_HOLD_DURATION, 0.0) for each in spoken)
    explain(words.notes.format(hold=hold))
    explain(words.stages.format(stages=", ".join(_stages(spoken))))
    say()

    example = _example(spoken)
    say(words.example.format(what=words.rows[example.step.key]), "bold")
    for line in guide_lines(example.syntheses[0].attributes or {}, language):
        say(line)
    say()

    file, metrics = _shown(str(telemetry.file)), _shown(str(telemetry.metrics_file))
    say(words.files, "bold")
    say(f"{file}\n{metrics}", indent=2)
    say()

    say(words.see, "bold")
    if telemetry.endpoint is not None and arrival.spans:
        say(words.sent.format(count=count, endpoint=telemetry.endpoint), "green", indent=2)
        if not arrival.metrics and not arrival.takes_metrics:
            say(words.metrics_refused.format(metrics=metrics), indent=2)
        say(words.page, indent=2)
        say(_jaeger_page(telemetry.endpoint), "cyan", indent=6)
    else:
        say(words.upload.format(file=file), indent=2)
        if telemetry.endpoint is None:
            say(words.send, indent=2)
            say(_again(language, file), "cyan", indent=6)
    say(words.search.format(service=SERVICE), indent=2)
    error = next((span.attributes or {})[semconv.ERROR_TYPE] for span in spoken[-1].syntheses)
    searches = {tag.format(error=error): found for tag, found in words.searches.items()}
    longest = max(map(len, searches))
    for tag, found in searches.items():
        say(f"{tag:{longest}}   {found}", indent=6)
    if telemetry.endpoint is None:
        say(words.no_jaeger, indent=2)
        for line in _JAEGER:
            say(line, "cyan", indent=6)


def _as_json(
    language: str, telemetry: Telemetry, spoken: list[_Spoken], arrival: Arrival, written: bool
) -> dict[str, Any]:
    from ttstrace.cli.guide import guide_lines

    example = _example(spoken)
    sent = None
    if telemetry.endpoint is not None:
        sent = {
            "endpoint": telemetry.endpoint,
            "spans": arrival.spans,
            "metrics": arrival.metrics,
            "reason": arrival.reason or None,
        }
    return {
        "ttstrace": __version__,
        "service": SERVICE,
        "trace_file": telemetry.file,
        "metrics_file": telemetry.metrics_file,
        "written": written,
        "sent": sent,
        "syntheses": [
            {
                "step": each.step.key,
                "text": each.step.text,
                "name": span.name,
                "trace_id": _trace_id(span),
                "span_id": _span_id(span),
                "parent_span_id": None if span.parent is None else f"{span.parent.span_id:016x}",
                "status": span.status.status_code.name.lower(),
                "attributes": dict(span.attributes or {}),
            }
            for each in spoken
            for span in each.syntheses
        ],
        "example": {
            "span_id": _span_id(example.syntheses[0]),
            "lines": guide_lines(example.syntheses[0].attributes or {}, language),
        },
    }


def _example(spoken: list[_Spoken]) -> _Spoken:
    return next(each for each in spoken if each.step.key == _EXAMPLE)


def _stages(spoken: list[_Spoken]) -> Iterator[str]:
    for each in spoken:
        for name, seconds in (each.syntheses[0].attributes or {}).items():
            if name.startswith(semconv.TTS_STAGE_DURATION) and isinstance(seconds, float):
                yield f"{name.removeprefix(semconv.TTS_STAGE_DURATION)} {seconds * 1000:.1f} ms"


def _attribute(spoken: _Spoken, name: str, default: float) -> float:
    value = (spoken.syntheses[0].attributes or {}).get(name, default)
    return value if isinstance(value, float) else default


def _trace_id(span: ReadableSpan) -> str:
    return "" if span.context is None else f"{span.context.trace_id:032x}"


def _span_id(span: ReadableSpan) -> str:
    return "" if span.context is None else f"{span.context.span_id:016x}"


def _shown(path: str) -> str:
    """A file below the working directory by its short name."""
    short = os.path.relpath(path)
    return path if short.startswith(os.pardir) else short


def _again(language: str, file: str) -> str:
    """The command that does the same and sends it, too."""
    from ttstrace.telemetry.trace_file import DEFAULT_PATH

    words = ["ttstrace", "demo", "--endpoint", _ENDPOINT_EXAMPLE]
    if language != "en":
        words += ["--language", language]
    if file != DEFAULT_PATH:
        words += ["--file", file]
    return shlex.join(words)


def _jaeger_page(endpoint: str) -> str:
    host = urlsplit(endpoint if "://" in endpoint else f"//{endpoint}").hostname or "localhost"
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{_JAEGER_PORT}/search?service={SERVICE}"


def _not_arrived(endpoint: str, arrival: Arrival, file: str) -> str:
    what = "the metrics did not arrive" if arrival.spans else "not all spans arrived"
    reason = f" ({arrival.reason})" if arrival.reason else ""
    return (
        f"{what} at {endpoint}{reason}: is a collector listening there? Jaeger takes OTLP over HTTP on port 4318 "
        f"and over gRPC on 4317. Nothing is lost: {file} has every span."
    )
