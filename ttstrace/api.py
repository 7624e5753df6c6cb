"""OpenTelemetry's API as ttstrace uses it, also where ddtrace is behind it (`DD_TRACE_OTEL_ENABLED`).

ddtrace keeps the current context itself, and of it only a span and the baggage: no other entry, and no context without
a span, so that a span made current stays so until it ends. It takes the times of events in microseconds. What is here
does as OpenTelemetry says.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import context as _context
from opentelemetry.context import Context, attach, create_key, get_current
from opentelemetry.trace import get_current_span

if TYPE_CHECKING:
    from opentelemetry.trace import Span
    from opentelemetry.util.types import Attributes

__all__ = ["SYNTHESIS", "add_event", "attach", "get_current"]

SYNTHESIS: Final = create_key("ttstrace-synthesis")
"""The context's entry for the synthesis that is running."""

if type(getattr(_context, "_RUNTIME_CONTEXT", None)).__module__.startswith("ddtrace."):
    from ddtrace.trace import tracer as _ddtracer  # type: ignore[import-not-found, unused-ignore]

    _ACTIVE: Final = create_key("ttstrace-ddtrace-active")
    _running: ContextVar[object] = ContextVar("ttstrace_running", default=None)

    def _attach(context: Context) -> None:
        _running.set(context.get(SYNTHESIS))
        kept: Any = context.get(_ACTIVE)
        if kept is not None and kept[0] is get_current_span(context):
            _ddtracer.context_provider.activate(kept[1])  # what was active, also where that was nothing
        else:
            _context.attach(context)

    def _get_current() -> Context:
        active = _ddtracer.context_provider.active()
        found = _context.get_current()
        return Context({**found, _ACTIVE: (get_current_span(found), active), SYNTHESIS: _running.get()})

    attach, get_current = _attach, _get_current  # type: ignore[assignment]


def add_event(span: Span, name: str, attributes: Attributes, at: int) -> None:
    """Add an event to a span.

    Args:
        span: what it is an event of.
        name: of the event.
        attributes: of the event.
        at: when it was, in nanoseconds since 1970.
    """
    span.add_event(name, attributes, at // 1000 if type(span).__module__.startswith("ddtrace.") else at)
