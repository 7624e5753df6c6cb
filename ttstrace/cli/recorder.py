"""The spans of this process as they end, for commands that show them."""

from __future__ import annotations

from collections.abc import Callable

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from ttstrace import semconv


class Recorder(SpanProcessor):
    """Keeps the spans that end.

    Args:
        on_synthesis: called with each span of a synthesis when it has ended.
    """

    def __init__(self, on_synthesis: Callable[[ReadableSpan], None]) -> None:
        self.spans: list[ReadableSpan] = []
        self._on_synthesis = on_synthesis
        self._stopped = False

    def on_end(self, span: ReadableSpan) -> None:
        if self._stopped:
            return
        self.spans.append(span)
        if is_synthesis(span):
            self._on_synthesis(span)

    def shutdown(self) -> None:
        self._stopped = True

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return True


def is_synthesis(span: ReadableSpan) -> bool:
    return (span.attributes or {}).get(semconv.GEN_AI_OPERATION_NAME) == semconv.OPERATION
