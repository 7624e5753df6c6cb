"""What `ttstrace run` does inside the program, before its first line: providers, patches, and the words at its end."""

from __future__ import annotations

import atexit
import logging
import os
import sys
from collections.abc import Mapping
from typing import Any

PID_VARIABLE = "TTSTRACE_RUN_PID"
"""The process that the program began as: it says the last word, and those that it starts do not."""
_SYNTHESIS = b'"gen_ai.operation.name", "value": {"stringValue": "text_to_speech"}'

_log = logging.getLogger("ttstrace")


def path_without(folder: str, environ: Mapping[str, str]) -> str:
    """PYTHONPATH without a folder."""
    parts = environ.get("PYTHONPATH", "").split(os.pathsep)
    return os.pathsep.join(part for part in parts if part and os.path.abspath(part) != folder)


def inside() -> str:
    """The folder that goes in front of PYTHONPATH."""
    return os.path.join(os.path.dirname(os.path.abspath(__file__)), "inside")


def start() -> None:
    """Set up OpenTelemetry and patch what is installed. Whatever goes wrong, the program goes on."""
    path = os.environ.get("PYTHONPATH")
    # Programs that are started meanwhile, to ask for the platform, are none of the user's.
    os.environ["PYTHONPATH"] = path_without(inside(), os.environ)
    try:
        _start()
    except Exception as error:
        sys.stderr.write(f"ttstrace: nothing is traced in this process: {type(error).__name__}: {error}\n")
    finally:
        if path is not None:
            os.environ["PYTHONPATH"] = path


def _start() -> None:
    from opentelemetry.instrumentation import distro
    from opentelemetry.instrumentation.auto_instrumentation import _load

    from ttstrace import configure

    last_word = LastWord() if os.environ.get(PID_VARIABLE) == str(os.getpid()) else None
    if last_word is not None:
        atexit.register(last_word)  # runs after what configure() registers: everything is written by then
    telemetry = configure()
    if last_word is not None:
        last_word.begin(telemetry.file, telemetry.metrics_file)
    untyped_load: Any = _load
    untyped_distro: Any = distro
    # Not the distribution that is installed, which would settle where things go, and tell the program's children.
    untyped_load._load_instrumentors(untyped_distro.DefaultDistro())


class LastWord:
    """At the program's end: what was recorded, and where."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._file: str | None = None
        self._metrics: str | None = None
        self._size = 0

    def begin(self, file: str | None, metrics: str | None) -> None:
        """Learn where spans and metrics go."""
        self._file, self._metrics, self._size = file, metrics, _size(file)

    def __call__(self) -> None:
        if self._file is None or os.getpid() != self._pid:  # a fork ends by its parent's hooks
            return
        spans, syntheses = _count(self._file, self._size)
        said = f"{_number(syntheses, 'synthesis', 'syntheses')} in {self._file}"
        if spans > syntheses:
            said += f" (among {spans} spans)"
        if self._metrics is not None and _size(self._metrics):
            said += f", metrics in {self._metrics}"
        if not syntheses:
            said += "\nIf the program did synthesize, name what does: --target package.module:Class.method"
        try:
            sys.stderr.write(f"ttstrace: {said}\n")
            sys.stderr.flush()
        except (OSError, ValueError, AttributeError):  # closed, or never there
            pass


def _number(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def _size(file: str | None) -> int:
    try:
        return os.path.getsize(file) if file is not None else 0
    except OSError:
        return 0


def _count(file: str, since: int) -> tuple[int, int]:
    """Spans, and syntheses among them, that a trace file holds from this size on."""
    spans = syntheses = 0
    try:
        with open(file, "rb") as lines:
            lines.seek(since)
            for line in lines:
                spans += 1
                syntheses += _SYNTHESIS in line
    except OSError:
        pass
    return spans, syntheses
