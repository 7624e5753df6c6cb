"""Exceptions in telemetry: their type and their frames. Messages and source lines may hold the text."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

from opentelemetry.trace import Status, StatusCode, set_span_in_context

from ttstrace import semconv
from ttstrace._version import __version__
from ttstrace.api import add_event
from ttstrace.values import Attributes, capture_content, cut, encodable

if TYPE_CHECKING:
    from types import FrameType

    from opentelemetry.trace import Span

_SIGNAL: Final = "OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN"
_OURS: Final = os.path.dirname(__file__) + os.sep
# Code that was made from a text (a template, a formula) may have that text for its file's name.
_SOURCE_FILE: Final = re.compile(r"[^\n]*\.(?:py|pyw|pyi|pyc|pyx|pxd)|<(?:frozen )?[\w.-]+>")
_CLASS: Final = re.compile(r"[^\W\d]\w*(?:\.(?:<locals>|[^\W\d]\w*))*")


class Failure(Exception):
    """A failure that a result tells of, and nobody raised."""

    def __init__(self, kind: str, message: str = "") -> None:
        """
        Args:
            kind: the span's `error.type`: an identifier, such as the name of a service's error code.
            message: may hold the text.
        """
        super().__init__(message)
        self.kind = kind


def frames(error: BaseException, *, ours: bool = False) -> str:
    """The traceback as file, line number and function, without those of the measuring itself unless `ours`. Never the
    source line, which may hold the text."""
    lines = []
    traceback = error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if ours or not code.co_filename.startswith(_OURS):
            lines.append(f'File "{_file_of(traceback.tb_frame)}", line {traceback.tb_lineno}, in {code.co_name}')
        traceback = traceback.tb_next
    return encodable("\n".join(lines[-64:]))


def _file_of(frame: FrameType) -> str:
    """Its source file; `<withheld>` where that is no file's name."""
    name = frame.f_code.co_filename
    return name if _SOURCE_FILE.fullmatch(name) or name == frame.f_globals.get("__file__") else "<withheld>"


def type_name(error: BaseException) -> str:
    """The name of an exception's class as OpenTelemetry's `error.type` wants it: qualified, unless a builtin.

    Of a class that was made with a name that is none (a text, perhaps) it is the nearest base's.
    """
    if isinstance(error, Failure) and _CLASS.fullmatch(error.kind):
        return error.kind
    for cls in type(error).__mro__:
        module, name = cls.__module__, cls.__qualname__
        if isinstance(module, str) and _CLASS.fullmatch(module) and _CLASS.fullmatch(name):
            return name if module == "builtins" else f"{module}.{name}"
    return BaseException.__name__


def record_exception(span: Span, error: BaseException, at: int) -> None:
    """The exception as type and frames; its message, which may hold the text, only with content capture on.

    An event of the span, or a log record in its context where `OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN` asks for `logs`
    (`logs/dup`: both), as OpenTelemetry moves from the one to the other.
    """
    name = type_name(error)
    attributes: Attributes = {semconv.EXCEPTION_TYPE: name}
    if error.__traceback__ is not None:  # it was raised
        attributes[semconv.EXCEPTION_STACKTRACE] = frames(error)
    description = None
    if capture_content():
        try:
            attributes[semconv.EXCEPTION_MESSAGE] = description = cut(encodable(str(error)))
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
        add_event(span, semconv.EVENT_EXCEPTION, attributes, at)
    span.set_status(Status(StatusCode.ERROR, description))
