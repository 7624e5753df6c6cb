"""With Sentry's SDK, its own tracing or by its OpenTelemetry integrations: what it sends to a server is looked at.

Sentry takes over the process: each program under test is one of its own."""

from __future__ import annotations

import textwrap
from typing import Any

import pytest
from beside import program

from ttstrace import semconv

pytest.importorskip("sentry_sdk")

PREAMBLE = """
import gzip, json, os, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

received = []

class Server(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        received.append((self.path, body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments):
        pass

server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
DSN = f"http://key@127.0.0.1:{server.server_port}/1"

def items(wanted):
    sentry_sdk.flush()
    found = []
    for path, body in received:
        if path.endswith("/envelope/"):
            lines = body.split(b"\\n")
            for head, payload in zip(lines[1::2], lines[2::2]):
                if json.loads(head)["type"] == wanted:
                    found.append(json.loads(payload))
    return found

import sentry_sdk
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import beside
import ttstrace

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))

def ended():
    return [
        {
            "name": span.name,
            "trace": f"{span.context.trace_id:032x}",
            "span": f"{span.context.span_id:016x}",
            "parent": None if span.parent is None else f"{span.parent.span_id:016x}",
            "text": span.to_json(),
        }
        for span in exporter.get_finished_spans()
    ]
"""

EXCEPTIONS = """
import asyncio, logging
import numpy as np

def whole(text):
    raise ValueError("broken")

def generated(text):
    yield beside.CHUNK
    raise ValueError("broken")

async def awaited(text):
    await asyncio.sleep(0)
    raise ValueError("broken")

def given(text, on_audio):
    on_audio(beside.CHUNK)

def on_audio(audio):
    raise ValueError("broken")

def part(text):
    return parted(text)

def parted(text):
    raise ValueError("broken")

def decorate():
    global whole, generated, awaited, given, part, parted
    whole, generated, awaited, part = map(ttstrace.traced_synthesis, (whole, generated, awaited, part))
    given = ttstrace.traced_synthesis(callback="on_audio")(given)
    parted = ttstrace.stage("part")(parted)

def run_whole():
    whole("My secret")

def run_generated():
    list(generated("My secret"))

def run_awaited():
    asyncio.run(awaited("My secret"))

def run_given():
    given("My secret", on_audio)

def run_part():
    part("My secret")

RUNS = [run_whole, run_generated, run_awaited, run_given, run_part]

def all_ways():
    for run in RUNS:
        try:
            run()
        except ValueError as error:
            sentry_sdk.capture_exception(error)
    thread = threading.Thread(target=run_whole)
    thread.start()
    thread.join()
    try:
        run_whole()
    except ValueError:
        logging.getLogger("service").exception("it failed")

logging.getLogger("service").addHandler(logging.NullHandler())
threading.excepthook = lambda arguments: None  # says nothing
trace.set_tracer_provider(provider)
sentry_sdk.init(DSN, traces_sample_rate=1.0, default_integrations=True)
all_ways()
before = items("event")
received.clear()
decorate()
all_ways()
after = items("event")
print(json.dumps([before, after, ended()]))
"""


def frames(event: Any, ours: bool = False) -> list[Any]:
    (value,) = event["exception"]["values"]
    assert value["type"] == "ValueError"
    return [frame for frame in value["stacktrace"]["frames"] if frame["module"].startswith("ttstrace") is ours]


def test_exceptions_are_the_programs_own() -> None:
    """Whichever way Sentry hears of them: one event each, with the stack that there is without us, and no text in what
    a frame of ours shows."""
    before, after, spans = program(PREAMBLE + EXCEPTIONS)
    assert len(before) == len(after) == 7
    for old, new in zip(before, after, strict=True):
        stacks = [[(frame["function"], frame["lineno"]) for frame in frames(event)] for event in (old, new)]
        assert stacks[0] == stacks[1]
        assert old["exception"]["values"][0]["mechanism"] == new["exception"]["values"][0]["mechanism"]
        assert "My secret" in str(frames(new))  # of the program's own frames, without which the next line says nothing
        for frame in frames(new, ours=True):
            assert "secret" not in str(frame)
            assert "\\x01" not in str(frame)  # nor the audio
        assert "secret" not in str(new.get("breadcrumbs"))
    assert len(spans) == 8  # seven syntheses and a stage
    assert "secret" not in str(spans)


def test_sentrys_own_tracing() -> None:
    """Its transaction holds its own span of the request, once; ours are OpenTelemetry's, and know nothing of it."""
    script = """
    trace.set_tracer_provider(provider)
    sentry_sdk.init(DSN, traces_sample_rate=1.0)
    ttstrace.instrument("beside:Requests.speak", "beside:Requests.stream")
    with beside.serving_audio() as service:
        engine = beside.Requests(service.url)
        with sentry_sdk.start_transaction(name="request"):
            engine.speak("Hello")
            list(engine.stream("Hello"))
            with sentry_sdk.start_span(name="after"):
                pass
    print(json.dumps([items("transaction"), ended(), [each["sentry-trace"] for each in service.headers]]))
    """
    (transaction,), spans, headers = program(PREAMBLE + textwrap.dedent(script))
    names = [span["op"] or span["description"] for span in transaction["spans"]]
    assert [span["description"] for span in transaction["spans"]][-1] == "after"
    assert names.count("http.client") == 2
    assert {span["parent_span_id"] for span in transaction["spans"]} == {transaction["contexts"]["trace"]["span_id"]}
    assert [header.split("-")[1] for header in headers] == [
        span["span_id"] for span in transaction["spans"] if span["op"] == "http.client"
    ]
    assert [(span["name"], span["parent"]) for span in spans] == [
        ("text_to_speech beside.Requests.speak", None),
        ("text_to_speech beside.Requests.stream", None),
    ]


@pytest.mark.parametrize("order", ["ours first", "theirs first"])
def test_sentry_traces_the_same_callable(order: str) -> None:
    """By `functions_to_trace`: a span of theirs and one of ours for each call, whoever came first."""
    script = """
    trace.set_tracer_provider(provider)
    original = vars(beside.Requests)["speak"]
    path = "beside:Requests.speak"

    def theirs():
        sentry_sdk.init(DSN, traces_sample_rate=1.0, functions_to_trace=[{"qualified_name": "beside.Requests.speak"}])

    if ORDER == "ours first":
        ttstrace.instrument(path)
        theirs()
    else:
        theirs()
        ttstrace.instrument(path)
    patched = vars(beside.Requests)["speak"]
    with beside.serving_audio() as service:
        engine = beside.Requests(service.url)
        with sentry_sdk.start_transaction(name="on"):
            on = len(engine.speak("Hello"))
        ttstrace.uninstrument()
        left = vars(beside.Requests)["speak"]
        with sentry_sdk.start_transaction(name="off"):
            off = len(engine.speak("Hello"))
    print(json.dumps([[on, off], items("transaction"), ended(), left is patched, left is original]))
    """
    lengths, transactions, spans, stays, restored = program(f"ORDER = {order!r}\n" + PREAMBLE + textwrap.dedent(script))
    assert lengths == [14400, 14400]
    for transaction in transactions:
        ops = [span["op"] for span in transaction["spans"]]
        assert sorted(ops) == ["function", "http.client"]
    assert len(spans) == 1
    assert (stays, restored) == (order == "ours first", False)


OPENTELEMETRY = """
from opentelemetry.instrumentation.requests import RequestsInstrumentor

@ttstrace.traced_synthesis
def fails(text):
    try:
        raise KeyError("inside")
    except KeyError as error:
        sentry_sdk.capture_exception(error)
    raise ValueError("outside")

@ttstrace.traced_synthesis
def fails_and_is_dealt_with(text):
    raise ValueError("not to be heard of")

def everything():
    ttstrace.instrument("beside:Requests.speak")
    RequestsInstrumentor().instrument()
    with beside.serving_audio() as service:
        with trace.get_tracer("test").start_as_current_span("request"):
            beside.Requests(service.url).speak("My secret")
            try:
                fails("My secret")
            except ValueError as error:
                sentry_sdk.capture_exception(error)
            try:
                fails_and_is_dealt_with("My secret")
            except ValueError:
                pass
    return service.headers[-1]
"""


def by_name(spans: list[Any]) -> dict[str, Any]:
    found = {span["name"]: span for span in spans}
    assert len(found) == len(spans)
    return found


def assert_one_line(spans: list[Any]) -> dict[str, Any]:
    found = by_name(spans)
    request, synthesis = found["request"], found["text_to_speech beside.Requests.speak"]
    assert found["POST"]["parent"] == synthesis["span"]
    assert synthesis["parent"] == found["text_to_speech __main__.fails"]["parent"] == request["span"]
    assert {span["trace"] for span in spans} == {request["trace"]}
    return found


def assert_events(events: list[Any], spans: dict[str, Any]) -> None:
    """Each exception that the program tells of is one event, in the span that was current, and no other is any."""
    inside, outside = events
    assert [each["exception"]["values"][-1]["type"] for each in events] == ["KeyError", "ValueError"]
    assert inside["contexts"]["trace"]["span_id"] == spans["text_to_speech __main__.fails"]["span"]
    assert outside["contexts"]["trace"]["span_id"] == spans["request"]["span"]
    assert {each["contexts"]["trace"]["trace_id"] for each in events} == {spans["request"]["trace"]}


def test_sentrys_span_processor() -> None:
    script = """
    from opentelemetry.propagate import set_global_textmap
    from sentry_sdk.integrations.opentelemetry import SentryPropagator, SentrySpanProcessor

    sentry_sdk.init(DSN, traces_sample_rate=1.0, instrumenter="otel")
    provider.add_span_processor(SentrySpanProcessor())
    trace.set_tracer_provider(provider)
    set_global_textmap(SentryPropagator())
    headers = everything()
    print(json.dumps([items("transaction"), items("event"), ended(), headers]))
    """
    (transaction,), events, spans, headers = program(PREAMBLE + OPENTELEMETRY + textwrap.dedent(script))
    found = assert_one_line(spans)
    assert_events(events, found)
    assert transaction["transaction"] == "request"
    assert transaction["contexts"]["trace"]["trace_id"] == found["request"]["trace"]
    theirs = {span["span_id"]: span for span in transaction["spans"]}
    assert theirs.keys() == {span["span"] for span in spans} - {found["request"]["span"]}
    for span in spans[:-1]:
        assert theirs[span["span"]]["parent_span_id"] == span["parent"]
    data = theirs[found["text_to_speech beside.Requests.speak"]["span"]]["data"]
    assert data[semconv.TTS_INPUT_CHARACTERS] == 9
    assert data[semconv.GEN_AI_OPERATION_NAME] == "text_to_speech"
    assert theirs[found["text_to_speech __main__.fails"]["span"]]["status"] == "internal_error"
    assert headers["sentry-trace"] == f"{found['request']['trace']}-{found['POST']['span']}-1"
    assert "secret" not in str(transaction)


def test_sentrys_otlp_integration() -> None:
    """It catches what goes through `Span.record_exception`, too: ours does not, so that an exception is one event."""
    script = """
    from collector import spans_of
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    from sentry_sdk.integrations.otlp import OTLPIntegration

    trace.set_tracer_provider(provider)
    sentry_sdk.init(DSN, integrations=[OTLPIntegration(capture_exceptions=True)])
    headers = everything()
    provider.force_flush()
    exported = [
        span
        for path, body in received
        if path.endswith("/traces/") or path.endswith("/traces")
        for span in spans_of(ExportTraceServiceRequest.FromString(body))
    ]
    print(json.dumps([exported, items("event"), ended(), headers], default=str))
    """
    exported, events, spans, headers = program(PREAMBLE + OPENTELEMETRY + textwrap.dedent(script))
    found = assert_one_line(spans)
    assert_events(events, found)
    assert {span["span"] for span in exported} == {span["span"] for span in spans}
    assert headers["sentry-trace"] == f"{found['request']['trace']}-{found['POST']['span']}-1"
    assert "secret" not in str(exported)


def test_nobody_is_sampled() -> None:
    """Sentry drops its transaction; ours go where they went."""
    script = """
    trace.set_tracer_provider(provider)
    sentry_sdk.init(DSN, traces_sample_rate=0.0)
    ttstrace.instrument("beside:Requests.speak")
    with beside.serving_audio() as service:
        with sentry_sdk.start_transaction(name="request"):
            beside.Requests(service.url).speak("Hello")
    print(json.dumps([items("transaction"), ended()]))
    """
    transactions, spans = program(PREAMBLE + textwrap.dedent(script))
    assert transactions == []
    assert len(spans) == 1
