"""One line per synthesis on standard error, for people who watch."""

from __future__ import annotations

import math
import os
import sys
from typing import TextIO

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.trace import SpanKind, StatusCode

from ttstrace import semconv

CONSOLE_VARIABLE = "TTSTRACE_CONSOLE"

_LONGEST_NAME = 40
_MEBIBYTE = 2**20
_RESET = "\x1b[0m"
_DIM, _RED, _GREEN, _YELLOW = "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[33m"


def wants_console() -> bool:
    """Whether to print: as ``TTSTRACE_CONSOLE`` says (1 or 0), else where standard error is a terminal."""
    said = os.environ.get(CONSOLE_VARIABLE, "").strip().lower()
    if said in ("1", "true", "yes", "on"):
        return True
    if said in ("0", "false", "no", "off"):
        return False
    return _is_terminal(sys.stderr)


def format_line(span: ReadableSpan, *, color: bool = False) -> str:
    """One line about one synthesis, from its span's attributes alone; what is unknown is ``-``.

    Seconds, RTF (seconds of synthesis per second of audio), characters, CPU in per cent of one core, memory
    in MB of 2^20 bytes (in brackets what the call itself needed). ``stall 2x0.3 s`` is two underruns of 0.3 s
    on average. Nothing in it controls a terminal, whatever a voice or a model is called, but for the colours
    asked for.
    """

    def paint(text: str, code: str) -> str:
        return f"{code}{text}{_RESET}" if color else text

    read = _Attributes(span)
    rtf = read.number(semconv.TTS_RTF)
    ratio = f"RTF {_figure(rtf)}"
    if rtf is not None:
        ratio = paint(ratio, _GREEN if rtf < 1 else _RED)
    fields = [
        f"{_seconds(read.number(semconv.TTS_SYNTHESIS_DURATION))} -> "
        f"{_seconds(read.number(semconv.TTS_AUDIO_DURATION))}",
        ratio,
    ]
    if read.true(semconv.GEN_AI_REQUEST_STREAM):
        first = read.number(semconv.TTS_TIME_TO_FIRST_AUDIO)
        if first is None:
            first = read.number(semconv.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK)
        fields.append(f"first {_seconds(first)}")
    voice = read.text(semconv.GEN_AI_SPEECH_VOICE) or read.text(semconv.GEN_AI_REQUEST_MODEL)
    fields.append(
        f"{read.text(semconv.GEN_AI_PROVIDER_NAME) or '-'}/{voice or '-'} "
        f"{read.text(semconv.TTS_LANGUAGE) or '-'} {_whole(read.number(semconv.TTS_INPUT_CHARACTERS), 'ch')}"
    )
    cpu = read.number(semconv.TTS_CPU_UTILIZATION)
    fields.append(f"cpu {_whole(None if cpu is None else cpu * 100, '%')}")
    fields.append(_memory(read))
    flags = [paint(f"[{flag}]", _YELLOW) for flag in _flags(span, read)]
    error = read.text(semconv.ERROR_TYPE)
    if error is not None or span.status.status_code is StatusCode.ERROR:
        flags.append(paint(f"[error: {error or '-'}]", _RED))
    if flags:
        fields.append(" ".join(flags))
    identity = f"{span.context.trace_id:032x}"[:8] if span.context is not None else "-"
    fields.append(paint(f"trace {identity}", _DIM))
    return "  ".join(fields)


class ConsoleLines(SpanProcessor):
    """Prints the line of each synthesis when its span ends; other spans are passed over."""

    def __init__(self) -> None:
        self._stopped = False

    def on_end(self, span: ReadableSpan) -> None:
        # Whatever happens to standard error, it is not the application's concern.
        try:
            attributes = span.attributes or {}
            if not self._stopped and attributes.get(semconv.GEN_AI_OPERATION_NAME) == semconv.OPERATION:
                _print(span, sys.stderr)
        except Exception:
            pass

    def shutdown(self) -> None:
        self._stopped = True

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return True


def _print(span: ReadableSpan, stream: TextIO | None) -> None:
    if stream is None:
        return
    color = _is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    encoding = getattr(stream, "encoding", None) or "ascii"
    line = format_line(span, color=color).encode(encoding, "replace").decode(encoding)
    # One write, so that the lines of two threads do not mix.
    stream.write(line + "\n")
    stream.flush()


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False


class _Attributes:
    """The attributes of a span that anybody may have made: a value of the wrong type is no value."""

    def __init__(self, span: ReadableSpan) -> None:
        self._values = span.attributes or {}

    def number(self, name: str) -> float | None:
        value = self._values.get(name)
        known = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        return value if known else None  # type: ignore[return-value]

    def text(self, name: str) -> str | None:
        value = self._values.get(name)
        return _printable(value) if isinstance(value, str) and value else None

    def true(self, name: str) -> bool:
        return self._values.get(name) is True


def _printable(text: str) -> str:
    """A name without whatever could move the cursor, colour the screen or turn the line round."""
    text = "".join(character if character.isprintable() else "?" for character in text[: _LONGEST_NAME + 1])
    return text if len(text) <= _LONGEST_NAME else text[: _LONGEST_NAME - 3] + "..."


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    if value == 0 or abs(value) >= 0.01:
        return f"{value:.2f}"
    return f"{value:.4f}".rstrip("0") if abs(value) >= 0.0001 else "<0.0001"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{_figure(value)} s"


def _whole(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:.0f} {unit}"


def _memory(read: _Attributes) -> str:
    peak, burst = read.number(semconv.TTS_MEMORY_PEAK), read.number(semconv.TTS_MEMORY_BURST)
    if peak is None:
        return "peak -"
    return f"peak {peak / _MEBIBYTE:.0f} MB" + ("" if burst is None else f" (+{burst / _MEBIBYTE:.0f})")


def _flags(span: ReadableSpan, read: _Attributes) -> list[str]:
    flags = []
    if read.true(semconv.TTS_COLD_START):
        flags.append("cold")
    underruns = read.number(semconv.TTS_STREAM_UNDERRUNS)
    if underruns:
        silence = read.number(semconv.TTS_STREAM_UNDERRUN_DURATION)
        flags.append(f"stall {underruns:.0f}x" + ("" if silence is None else f"{silence / underruns:.1f} s"))
    if read.true(semconv.TTS_INTERRUPTED):
        flags.append("interrupted")
    if span.kind is SpanKind.CLIENT:
        flags.append("incl. network")
    return flags
