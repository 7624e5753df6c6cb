"""The line that people see."""

from __future__ import annotations

import io
import os
import pty
import sys
from typing import Any

import pytest
from inline_snapshot import snapshot
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from ttstrace import semconv
from ttstrace.console import ConsoleLines, format_line, wants_console


def span(attributes: dict[str, Any], kind: SpanKind = SpanKind.INTERNAL, **more: Any) -> ReadableSpan:
    context = SpanContext(0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7, False, TraceFlags(1))
    attributes = {semconv.GEN_AI_OPERATION_NAME: semconv.OPERATION, **attributes}
    return ReadableSpan("text_to_speech x", context, attributes=attributes, kind=kind, **more)


WHOLE = {
    semconv.GEN_AI_PROVIDER_NAME: "hibari",
    semconv.GEN_AI_REQUEST_MODEL: "hibari-1",
    semconv.GEN_AI_SPEECH_VOICE: "heart",
    semconv.TTS_LANGUAGE: "en",
    semconv.TTS_INPUT_CHARACTERS: 42,
    semconv.TTS_SYNTHESIS_DURATION: 0.4412,
    semconv.TTS_AUDIO_DURATION: 3.89,
    semconv.TTS_RTF: 0.1134,
    semconv.TTS_CPU_UTILIZATION: 0.98,
    semconv.TTS_MEMORY_PEAK: 808 * 2**20,
    semconv.TTS_MEMORY_BURST: 12 * 2**20,
}


def test_whole() -> None:
    assert format_line(span(WHOLE)) == snapshot(
        "0.44 s -> 3.89 s  RTF 0.11  hibari/heart en 42 ch  cpu 98 %  peak 808 MB (+12)  trace 4bf92f35"
    )


def test_stream_with_every_flag() -> None:
    attributes = {
        **WHOLE,
        semconv.GEN_AI_REQUEST_STREAM: True,
        semconv.TTS_TIME_TO_FIRST_AUDIO: 0.083,
        semconv.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK: 0.05,
        semconv.TTS_COLD_START: True,
        semconv.TTS_STREAM_UNDERRUNS: 2,
        semconv.TTS_STREAM_UNDERRUN_DURATION: 0.6,
        semconv.TTS_INTERRUPTED: True,
        semconv.ERROR_TYPE: "TimeoutError",
    }
    assert format_line(span(attributes, SpanKind.CLIENT)) == snapshot(
        "0.44 s -> 3.89 s  RTF 0.11  first 0.08 s  hibari/heart en 42 ch  cpu 98 %  peak 808 MB (+12)  "
        "[cold] [stall 2x0.3 s] [interrupted] [incl. network] [error: TimeoutError]  trace 4bf92f35"
    )
    del attributes[semconv.TTS_TIME_TO_FIRST_AUDIO]
    assert "  first 0.05 s  " in format_line(span(attributes))
    del attributes[semconv.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK]
    assert "  first -  " in format_line(span(attributes))


def test_nothing_known() -> None:
    assert format_line(span({})) == snapshot("- -> -  RTF -  -/- - -  cpu -  peak -  trace 4bf92f35")
    assert format_line(span({}, status=Status(StatusCode.ERROR))).endswith("[error: -]  trace 4bf92f35")
    assert format_line(ReadableSpan("x")).endswith("trace -")


def test_model_stands_for_a_voice_that_is_unknown() -> None:
    without = {name: value for name, value in WHOLE.items() if name != semconv.GEN_AI_SPEECH_VOICE}
    assert " hibari/hibari-1 en " in format_line(span(without))


@pytest.mark.parametrize(
    ("rtf", "shown"),
    [
        (0.0, "0.00"),
        (0.0061, "0.0061"),
        (0.00001, "<0.0001"),
        (0.1, "0.10"),
        (12.3456, "12.35"),
        (0.009999, "0.01"),
    ],
)
def test_small_figures_do_not_turn_to_zero(rtf: float, shown: str) -> None:
    assert f"  RTF {shown}  " in format_line(span({semconv.TTS_RTF: rtf}))


def test_values_of_the_wrong_type_are_unknown() -> None:
    wrong = {name: "12" if not isinstance(value, str) else 7 for name, value in WHOLE.items()}
    assert format_line(span(wrong)) == format_line(span({}))
    odd = {
        semconv.TTS_RTF: float("nan"),
        semconv.TTS_MEMORY_PEAK: float("inf"),
        semconv.TTS_CPU_UTILIZATION: True,
    }
    assert format_line(span(odd)) == format_line(span({}))


@pytest.mark.parametrize("name", ["\x1b[2J\x1b]0;pwned\x07", "a\nb\r", "\x9b31m", "\u202eevil", "x\ud800", "\0"])
def test_names_do_not_control_the_terminal(name: str) -> None:
    names = (
        semconv.GEN_AI_PROVIDER_NAME,
        semconv.GEN_AI_SPEECH_VOICE,
        semconv.TTS_LANGUAGE,
        semconv.ERROR_TYPE,
    )
    line = format_line(span(dict.fromkeys(names, name)))
    assert line.isprintable()
    assert line.count("?") >= 4


def test_long_names_are_cut() -> None:
    assert format_line(span({semconv.GEN_AI_SPEECH_VOICE: "v" * 5000})).count("v") == 37


def test_colours_only_where_asked_for() -> None:
    attributes = {**WHOLE, semconv.TTS_COLD_START: True, semconv.ERROR_TYPE: "E"}
    painted = format_line(span(attributes), color=True)
    assert "\x1b[32mRTF 0.11\x1b[0m" in painted
    assert "\x1b[31mRTF 1.50\x1b[0m" in format_line(span({semconv.TTS_RTF: 1.5}), color=True)
    assert "\x1b" not in format_line(span(attributes))
    import re

    assert re.sub(r"\x1b\[\d+m", "", painted) == format_line(span(attributes))


def test_only_syntheses_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    lines = ConsoleLines()
    lines.on_end(span({semconv.GEN_AI_OPERATION_NAME: "chat"}))
    lines.on_end(ReadableSpan("no attributes"))
    assert capsys.readouterr() == ("", "")
    lines.on_end(span(WHOLE))
    assert capsys.readouterr().err == format_line(span(WHOLE)) + "\n"
    lines.shutdown()
    lines.on_end(span(WHOLE))
    assert capsys.readouterr().err == ""


class Broken(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_broken_standard_error_hurts_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    for stream in (None, closed, Broken(), object()):
        monkeypatch.setattr(sys, "stderr", stream)
        ConsoleLines().on_end(span(WHOLE))
        if stream is not None and hasattr(stream, "isatty"):
            assert wants_console() is False


def test_encoding_of_standard_error_is_kept_to(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(raw, encoding="ascii", errors="strict"))
    ConsoleLines().on_end(span({**WHOLE, semconv.GEN_AI_SPEECH_VOICE: "한글"}))
    assert b" hibari/?? en " in raw.getvalue()


@pytest.mark.parametrize(("no_color", "colored"), [("", True), ("1", False)])
def test_terminal_gets_colours_unless_told_not_to(
    monkeypatch: pytest.MonkeyPatch, no_color: str, colored: bool
) -> None:
    parent, child = pty.openpty()
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("TTSTRACE_CONSOLE", raising=False)
    with open(child, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        assert wants_console() is True
        monkeypatch.setenv("TTSTRACE_CONSOLE", "0")
        assert wants_console() is False
        ConsoleLines().on_end(span(WHOLE))
        shown = os.read(parent, 10_000)
    os.close(parent)
    assert (b"\x1b[" in shown) is colored
    assert b"RTF 0.11" in shown


def test_variable_forces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    for value, wanted in (("1", True), ("true", True), ("0", False), ("", False), ("maybe", False)):
        monkeypatch.setenv("TTSTRACE_CONSOLE", value)
        assert wants_console() is wanted
