"""OpenTelemetry's own instrumentation of clients and servers, where it is installed."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from conftest import Spans
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind

CLIENTS = {
    "requests": "requests:RequestsInstrumentor",
    "httpx": "httpx:HTTPXClientInstrumentor",
    "httpx2": "httpx:HTTPX2ClientInstrumentor",
    "urllib3": "urllib3:URLLib3Instrumentor",
    "urllib": "urllib:URLLibInstrumentor",
    "aiohttp": "aiohttp_client:AioHttpClientInstrumentor",
    "botocore": "botocore:BotocoreInstrumentor",
    "aiobotocore": "botocore:AiobotocoreInstrumentor",
    "grpc": "grpc:GrpcInstrumentorClient",
    "grpc.aio": "grpc:GrpcAioInstrumentorClient",
}


def instrumentor(name: str) -> Any:
    """OpenTelemetry's instrumentor of a client; None where it is not installed."""
    module, _, cls = CLIENTS[name].partition(":")
    try:
        importlib.import_module(name)
        return getattr(importlib.import_module(f"opentelemetry.instrumentation.{module}"), cls)()
    except (ImportError, AttributeError):  # not there, or older than the client
        return None


def needed(name: str) -> Any:
    found = instrumentor(name)
    if found is None:
        pytest.skip(f"no instrumentation of {name} here")
    return found


@contextmanager
def instrumented_clients(*names: str) -> Iterator[None]:
    """With the instrumentation of these clients, or of all whose instrumentation is there."""
    with ExitStack() as stack:
        for each in filter(None, map(instrumentor, names or CLIENTS)):
            each.instrument()
            stack.callback(each.uninstrument)
        yield


def of_clients(spans: Spans) -> list[ReadableSpan]:
    """The spans of requests, by OpenTelemetry's instrumentation."""
    return [
        span
        for span in spans.all()
        if span.instrumentation_scope is not None
        and span.instrumentation_scope.name.startswith("opentelemetry.instrumentation.")
        and span.kind is SpanKind.CLIENT
    ]


def is_child(child: ReadableSpan, parent: Any) -> bool:
    own = parent.get_span_context()
    return child.parent is not None and (child.parent.trace_id, child.parent.span_id) == (own.trace_id, own.span_id)


@contextmanager
def served(app: Any) -> Iterator[str]:
    """Serve by uvicorn; gives the URL."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            threading.Event().wait(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
