"""Other decorators on the same function, each in an environment of its own: what ttstrace is compared with.

`python peers.py NAME ROUNDS`, in that environment, prints the same as `scenarios.py`. The function is traced by
ttstrace and by the peer in one process, in turn. Each has a TracerProvider of its own, so that none gets to see the
other's spans, and each exports in batches, as in production, to an exporter that drops what it is given: nothing is
sent.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

from environments import PEERS
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from subject import TEXT, decorator, play, speak
from timing import Times, alternate, calls

Way = Callable[[str], Any]


class Drop(SpanExporter):
    """Counts spans and keeps none."""

    def __init__(self) -> None:
        self.count = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.count += len(spans)
        return SpanExportResult.SUCCESS


def logfire(drop: Drop) -> tuple[dict[str, Way], Callable[[], Any]]:
    """Logfire: records the arguments."""
    import logfire

    # `local`: not as the process's own provider, where ttstrace's spans would pass through it as well.
    instance = logfire.configure(
        local=True, send_to_logfire=False, console=False, additional_span_processors=[BatchSpanProcessor(drop)]
    )
    return {
        "peer": instance.instrument()(speak),
        "peer, least": instance.instrument(extract_args=False)(speak),
        "peer, no audio": instance.instrument()(play),
    }, instance.force_flush


def openinference(drop: Drop) -> tuple[dict[str, Way], Callable[[], Any]]:
    """OpenInference: records arguments and result. It has no kind for speech; `chain` is its plainest."""
    from openinference.instrumentation import TraceConfig
    from openinference.instrumentation import TracerProvider as Provider

    shown, hidden = Provider(), Provider(config=TraceConfig(hide_inputs=True, hide_outputs=True))
    for provider in (shown, hidden):
        provider.add_span_processor(BatchSpanProcessor(drop))
    return {
        "peer": shown.get_tracer("benchmark").chain(speak),
        "peer, least": hidden.get_tracer("benchmark").chain(speak),
        "peer, no audio": shown.get_tracer("benchmark").chain(play),
    }, lambda: (shown.force_flush(), hidden.force_flush())


def langfuse(drop: Drop) -> tuple[dict[str, Way], Callable[[], Any]]:
    """Langfuse: records arguments and result, audio sample by sample. Its spans go through its own batching processor,
    as always; only the exporter behind that is ours, and the host is never asked."""
    from langfuse import Langfuse, observe

    client = Langfuse(
        public_key="pk-benchmark",
        secret_key="sk-benchmark",
        base_url="http://127.0.0.1:9",
        tracer_provider=TracerProvider(),
        span_exporter=drop,
    )
    return {
        "peer": observe(speak),
        "peer, least": observe(capture_input=False, capture_output=False)(speak),
        "peer, no audio": observe(play),
    }, client.flush


def compare(name: str, rounds: int) -> tuple[Times, dict[str, Any]]:
    """The times of ttstrace and of one peer.

    Raises:
        AssertionError: not every call left a span.
    """
    ours, theirs = Drop(), Drop()
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(ours))
    trace.set_tracer_provider(provider)
    traced: dict[str, Way] = {"call": decorator(speak), "call, no audio": decorator(play)}
    peer, flush = {"logfire": logfire, "openinference": openinference, "langfuse": langfuse}[name](theirs)
    for function in (*traced.values(), *peer.values()):
        function(TEXT)
    provider.force_flush()
    flush()
    for who, drop, ways in (("ttstrace", ours, traced), (name, theirs, peer)):
        assert drop.count == len(ways), f"{who} ended {drop.count} spans in {len(ways)} calls"
    return alternate({way: calls(function) for way, function in {**traced, **peer}.items()}, rounds), {
        "version": version(PEERS[name].package)
    }


if __name__ == "__main__":
    given, given_rounds = sys.argv[1:]
    found, about = compare(given, int(given_rounds))
    json.dump({"times": found, "about": about}, sys.stdout)
    sys.stdout.flush()
    os._exit(0)  # whatever a peer would still like to send
