"""Whether a command's spans are where they were to go, and what the collector said where they are not."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from ttstrace.telemetry import Telemetry

# How the SDK's exporters report an answer that means "this signal is not taken here".
_NOT_TAKEN = re.compile(r"metrics.*(code: (404|405|501)\b|UNIMPLEMENTED)", re.IGNORECASE | re.DOTALL)
_REASONS = (
    re.compile(r"\[Errno -?\d+\] ([^\"')]+)"),
    re.compile(r"(Read timed out|Connection aborted|DEADLINE_EXCEEDED|certificate verify failed)"),
    re.compile(r"last error: \w+: \S+: (?:Failed to connect to remote host: )?([^\n]+)"),
    re.compile(r"error details: ([^\n]+)"),
    re.compile(r"(code: \d+, reason: [^\n]{1,120})"),
    re.compile(r"due to (timeout)"),
)


@dataclass(frozen=True)
class Arrival:
    """What arrived at the collector.

    Attributes:
        spans: all of them.
        metrics: all of them.
        takes_metrics: False where the collector said that metrics are not its business.
        reason: what went wrong, in the words of the network or of the collector; "" where nothing is known.
    """

    spans: bool
    metrics: bool
    takes_metrics: bool
    reason: str

    @property
    def complete(self) -> bool:
        return self.spans and (self.metrics or not self.takes_metrics)


@contextmanager
def exporter_messages() -> Iterator[list[str]]:
    """What the SDK's exporters log meanwhile, kept from the terminal.

    Where they did complain, their threads may do so once more while the process ends: that is kept from it, too.
    """
    messages: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    logger = logging.getLogger("opentelemetry")
    handler, propagate = Keep(logging.WARNING), logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield messages
    finally:
        if not messages:
            logger.removeHandler(handler)
            logger.propagate = propagate


def deliver(telemetry: Telemetry, timeout: float, messages: Sequence[str]) -> Arrival:
    """Send what is left, and tell what arrived at the collector.

    Args:
        telemetry: what ``configure()`` returned.
        timeout: the longest to take, in seconds.
        messages: those of :func:`exporter_messages` since.
    """
    end = time.monotonic() + timeout
    if telemetry.force_flush(timeout):
        return Arrival(spans=True, metrics=True, takes_metrics=True, reason="")
    if time.monotonic() >= end:
        # What is still under way is not counted as lost yet.
        reason = _reason(messages) or f"no answer within {timeout:g} s"
        return Arrival(spans=False, metrics=False, takes_metrics=True, reason=reason)
    # A flush answers for everything at once; but a collector of spans alone, given all of them, did its job.
    return Arrival(
        spans=telemetry.arrived("traces"),
        metrics=telemetry.arrived("metrics"),
        takes_metrics=not any(_NOT_TAKEN.search(message) for message in messages),
        reason=_reason(messages),
    )


def spans_in(path: str, offset: int) -> set[str]:
    """The ids of the spans that a trace file holds from ``offset`` on, each in a line that is whole."""
    found: set[str] = set()
    with open(path, "rb") as file:
        file.seek(offset)
        for line in file:
            # Other programs may be appending: their last line may not be whole yet.
            if line.endswith(b"\n") and line.strip():
                for resource in json.loads(line)["resourceSpans"]:
                    for scope in resource["scopeSpans"]:
                        found.update(span["spanId"] for span in scope["spans"])
    return found


def _reason(messages: Iterable[str]) -> str:
    text = "\n".join(messages)
    for pattern in _REASONS:
        found = pattern.search(text)
        if found:
            return found.group(1).strip().rstrip(".")
    return ""
