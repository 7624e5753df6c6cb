"""Whether a command's spans are where they were to go, and what the collector said where they are not."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ttstrace.telemetry import Telemetry
from ttstrace.telemetry.troubles import NOT_TAKEN_THERE


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
def quiet_exporters() -> Iterator[None]:
    """Keep from the terminal what is logged of sending: the command says it itself.

    Where there was something, the exporters' threads may log once more while the process ends: that is kept from it,
    too.
    """
    heard: list[logging.LogRecord] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record)

    handler = Keep(logging.WARNING)
    loggers = {logger: logger.propagate for logger in map(logging.getLogger, ("opentelemetry", "ttstrace.telemetry"))}
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False
    try:
        yield
    finally:
        if not heard:
            for logger, propagate in loggers.items():
                logger.removeHandler(handler)
                logger.propagate = propagate


def deliver(telemetry: Telemetry, timeout: float) -> Arrival:
    """Send what is left, and tell what arrived at the collector.

    Args:
        telemetry: what ``configure()`` returned.
        timeout: the longest to take, in seconds.
    """
    end = time.monotonic() + timeout
    if telemetry.force_flush(timeout):
        return Arrival(spans=True, metrics=True, takes_metrics=True, reason="")
    spans, metrics = telemetry.trouble("traces"), telemetry.trouble("metrics")
    trouble = spans or metrics
    reason = "" if trouble is None else trouble.reason or trouble.state
    if time.monotonic() >= end:
        # What is still under way is not counted as lost yet.
        reason = reason or f"no answer within {timeout:g} s"
        return Arrival(spans=False, metrics=False, takes_metrics=True, reason=reason)
    # A flush answers for everything at once; but a collector of spans alone, given all of them, did its job.
    return Arrival(
        spans=telemetry.arrived("traces"),
        metrics=telemetry.arrived("metrics"),
        takes_metrics=metrics is None or metrics.kind != NOT_TAKEN_THERE,
        reason=reason,
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
