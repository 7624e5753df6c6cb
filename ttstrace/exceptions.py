"""Exceptions in telemetry: their type and their frames. Messages and source lines may hold the text."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from opentelemetry.trace import Status, StatusCode, set_span_in_context

from ttstrace import semconv
from ttstrace._version import __version__
from ttstrace.values import Attributes, capture_content, encodable

if TYPE_CHECKING:
    from opentelemetry.trace import Span

_SIGNAL: Final = "OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN"
_OURS: Final = os.path.dirname(__file__) + os.sep


def frames(error: BaseException, *, ours: bool = False) -> str:
    """The traceback as file, line number and function, without those of the measuring itself unless `ours`. Never the
    source line, which may hold the text."""
    lines = []
    traceback = error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if ours or not code.co_filename.startswith(_OURS):
            lines.append(f'File "{code.co_filename}", line {traceback.tb_lineno}, in {code.co_name}')
        traceback = traceback.tb_next
    return encodable("\n".join(lines[-64:]))


def type_name(error: BaseException) -> str:
    """The name of an exception's class as OpenTelemetry's `error.type` wants it: qualified, unless a builtin."""
    cls = type(error)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def record_exception(span: Span, error: BaseException, at: int) -> None:
    """The exception as type and frames; its message, which may hold the text, only with content capture on.

    An event of the span, or a log record in its context where `OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN` asks for `logs`
    (`logs/dup`: both), as OpenTelemetry moves from the one to the other.
    """
    name = type_name(error)
    attributes: Attributes = {semconv.EXCEPTION_TYPE: name, semconv.EXCEPTION_STACKTRACE: frames(error)}
    description = None
    if capture_content():
        try:
            attributes[semconv.EXCEPTION_MESSAGE] = description = encodable(str(error))
        except Exception:  # an exception of the program's that cannot say itself
            pass
    signals = {signal.strip() for signal in os.environ.get(_SIGNAL, "").split(",")}
    if "logs" in signals or "logs/dup" in signals:
        from opentelemetry._logs import LogRecord, SeverityNumber, get_logger

        get_logger(semconv.SCOPE, __version__).emit(
            LogRecord(
                timestamp=at,
                context=set_span_in_context(span),
                severity_number=SeverityNumber.ERROR,
                event_name=semconv.EVENT_EXCEPTION,
                attributes=attributes,
            )
        )
    if "logs" not in signals:
        span.add_event(semconv.EVENT_EXCEPTION, attributes, at)
    span.set_status(Status(StatusCode.ERROR, description))
