"""``ttstrace run``: a program as it is, traced by OpenTelemetry's auto-instrumentation with our defaults."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

from ttstrace.cli.errors import Failure, UsageError
from ttstrace.cli.started import PID_VARIABLE, inside, path_without

if TYPE_CHECKING:
    from ttstrace.telemetry.destinations import Destination, Destinations

SUMMARY = "run a program, and trace what it synthesizes"
DESCRIPTION = """\
Runs a Python program, unchanged, and traces every synthesis of the TTS
libraries that ttstrace knows, and what OpenTelemetry's other installed
instrumentations trace. Without an endpoint, spans and metrics go to a file.
Each synthesis prints one line on standard error.

The program is started in place of this command: its exit status, signals,
standard input and output are its own. Programs that it starts are traced as
well, if they are Python's."""
EPILOG = """\
examples:
  ttstrace run -- speak.py --voice heart
  ttstrace run -m speaker.cli
  ttstrace run --endpoint http://localhost:4318 -- uvicorn app:app --workers 4
  ttstrace run --target acme.tts:Engine.synthesize -- serve.py
      traces a callable that no integration knows

Everything that the OTEL_* variables say holds, too."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--file",
        metavar="PATH",
        help="the trace file, appended to (default: what TTSTRACE_FILE says, else ttstrace.jsonl)",
    )
    parser.add_argument(
        "--endpoint",
        metavar="URL",
        help="send everything to this OTLP collector, such as http://localhost:4318; to a file only with --file",
    )
    parser.add_argument("--protocol", choices=("http/protobuf", "grpc"), help="of the endpoint (default: by its port)")
    parser.add_argument("--service", metavar="NAME", help="the service's name (default: the program's)")
    parser.add_argument(
        "--target",
        metavar="PATH",
        action="append",
        default=[],
        help="also trace this callable, as package.module:Class.method; may be given several times",
    )
    parser.add_argument("--quiet", action="store_true", help="print nothing of our own")
    # Whatever follows is the program's: no option of ours.
    parser.add_argument("-m", dest="module", metavar="MODULE ...", nargs=argparse.REMAINDER, help="run a module")
    parser.add_argument("program", metavar="-- PROGRAM ...", nargs=argparse.REMAINDER, help="script.py, or a command")


def run(arguments: argparse.Namespace) -> NoReturn:
    command = _command(arguments)
    environ = _environment(arguments, command)
    sys.stdout.flush()
    sys.stderr.flush()
    # Python ignores these, and what it becomes would go on ignoring them.
    for name in ("SIGPIPE", "SIGXFSZ"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
    try:
        os.execve(command[0], command, environ)
    except OSError as error:
        raise Failure(f"{command[0]} cannot be run: {error.strerror}") from None


def _command(arguments: argparse.Namespace) -> list[str]:
    if arguments.module is not None:
        if not arguments.module:
            raise UsageError("-m needs a module: ttstrace run -m package.module", "ttstrace run")
        return [sys.executable, "-m", *arguments.module]
    program: list[str] = arguments.program
    if program and program[0] == "--":
        program = program[1:]
    if not program:
        raise UsageError("there is no program to run: ttstrace run -- script.py", "ttstrace run")
    first, rest = program[0], program[1:]
    if first == "-m":
        return [sys.executable, *program]
    is_script = first.endswith((".py", ".pyz")) and os.path.exists(first)
    found = None if is_script else shutil.which(first)
    if found is not None:
        return [found, *rest]
    if not os.path.exists(first):
        raise Failure(f"there is no script and no command {first} (a module is run by -m)")
    return [sys.executable, *program]


def _environment(arguments: argparse.Namespace, command: list[str]) -> dict[str, str]:
    from ttstrace.instrumentor import parse_path
    from ttstrace.telemetry.destinations import resolve

    environ = dict(os.environ)
    folder = inside()
    behind = path_without(folder, environ)
    environ["PYTHONPATH"] = folder + (os.pathsep + behind if behind else "")
    environ[PID_VARIABLE] = str(os.getpid())
    environ.setdefault("TTSTRACE_CONSOLE", "1")
    if arguments.quiet:
        environ["TTSTRACE_CONSOLE"] = "0"
        del environ[PID_VARIABLE]
    if arguments.service or not _names_service(environ):
        environ["OTEL_SERVICE_NAME"] = arguments.service or _program_name(command)
    try:
        for path in arguments.target:
            parse_path(path)
        destinations = resolve(arguments.endpoint, arguments.protocol, arguments.file, environ)
    except ValueError as error:
        raise UsageError(str(error), "ttstrace run") from None
    if arguments.target:
        environ["TTSTRACE_TARGETS"] = ",".join([*filter(None, [environ.get("TTSTRACE_TARGETS")]), *arguments.target])
    _send(destinations, environ)
    _check_files(destinations)
    if not arguments.quiet:
        print(f"ttstrace: {_where(destinations)}", file=sys.stderr)
    return environ


def _names_service(environ: dict[str, str]) -> bool:
    return bool(environ.get("OTEL_SERVICE_NAME")) or "service.name=" in environ.get("OTEL_RESOURCE_ATTRIBUTES", "")


def _program_name(command: list[str]) -> str:
    program = command[0] if command[0] != sys.executable else command[2] if command[1] == "-m" else command[1]
    return os.path.splitext(os.path.basename(os.path.abspath(program)))[0]


def _send(destinations: Destinations, environ: dict[str, str]) -> None:
    """Say in OpenTelemetry's variables what the options say, so that every process of the program has it."""
    for signal_name, of_signal in (("TRACES", destinations.traces), ("METRICS", destinations.metrics)):
        file, collector = destinations.file(of_signal), destinations.collector(of_signal)
        if file is not None and signal_name == "TRACES":
            environ["TTSTRACE_FILE"] = file.address  # absolute: programs may be started elsewhere
        if not destinations.explicit:
            continue
        environ[f"OTEL_{signal_name}_EXPORTER"] = ",".join(each.exporter for each in of_signal)
        if collector is not None:
            environ[f"OTEL_EXPORTER_OTLP_{signal_name}_ENDPOINT"] = collector.arguments["endpoint"]


def _check_files(destinations: Destinations) -> None:
    from ttstrace.telemetry.trace_file import MetricFileExporter, SpanFileExporter

    for exporter, of_signal in ((SpanFileExporter, destinations.traces), (MetricFileExporter, destinations.metrics)):
        file = destinations.file(of_signal)
        if file is not None:
            try:
                exporter(**file.arguments)
            except (OSError, ValueError) as error:
                raise Failure(str(error)) from None


def _where(destinations: Destinations) -> str:
    spans, metrics = (_addresses(of_signal) for of_signal in (destinations.traces, destinations.metrics))
    if spans == metrics:
        return f"spans and metrics go {spans or 'nowhere'}"
    return f"spans go {spans or 'nowhere'}, metrics {metrics or 'nowhere'}"


def _addresses(of_signal: tuple[Destination, ...]) -> str:
    return " and ".join(f"to {each.address or each.exporter}" for each in of_signal)
