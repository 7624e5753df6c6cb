"""With ddtrace behind OpenTelemetry's API: what it sends is looked at, as OTLP, which it can send as well.

ddtrace takes over the process: the program under test is one of its own. Skips where ddtrace is not installed."""

from __future__ import annotations

import importlib.util
import textwrap
from typing import Any

import pytest
from beside import program

from ttstrace import semconv

if importlib.util.find_spec("ddtrace") is None:
    pytest.skip("ddtrace is not installed", allow_module_level=True)

Span = dict[str, Any]

PREAMBLE = """
import json, os, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

received = []

class Agent(BaseHTTPRequestHandler):
    def do_POST(self):
        received.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments):
        pass

agent = ThreadingHTTPServer(("127.0.0.1", 0), Agent)
threading.Thread(target=agent.serve_forever, daemon=True).start()
os.environ.setdefault("DD_TRACE_OTEL_ENABLED", "true")
os.environ.update(
    DD_TRACE_WRITER_INTERVAL_SECONDS="3600",  # all at the end, at once
    DD_REMOTE_CONFIGURATION_ENABLED="false",
    DD_INSTRUMENTATION_TELEMETRY_ENABLED="false",
    OTEL_TRACES_EXPORTER="otlp",
    OTEL_EXPORTER_OTLP_TRACES_PROTOCOL="http/protobuf",
    OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{agent.server_port}",
)
import ddtrace.auto
from ddtrace.trace import tracer
from opentelemetry import baggage, context, trace

import ttstrace
import beside

def sent():
    from collector import spans_of
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    with tracer.trace("last") as last:  # ddtrace sends in order, but a flush does not wait for all of it
        last.set_tag("manual.keep")
    while True:
        tracer.flush()
        found = [span for body in received for span in spans_of(ExportTraceServiceRequest.FromString(body))]
        if any(span["name"] == "last" for span in found):
            return [span for span in found if span["name"] != "last"]
        time.sleep(0.05)

def current():
    found = tracer.current_span()
    return None if found is None else found.name

said = {}
"""

PROGRAM = """
import asyncio, gc
from concurrent.futures import ThreadPoolExecutor

CHUNK = beside.CHUNK
options = dict(sample_rate=beside.RATE, format="pcm_s16le")

@ttstrace.traced_synthesis(model="stream", **options)
def stream(text):
    for _ in range(3):
        with tracer.trace("inside"):
            yield CHUNK

# One that asks a service by requests, which ddtrace patches.
with beside.serving_audio() as service:
    ttstrace.instrument("beside:Requests.speak", model="remote", **options)
    with tracer.trace("root.remote") as root:
        token = context.attach(baggage.set_baggage("tenant", "blue"))
        beside.Requests(service.url).speak("Hello")
        said["after remote"] = current()
    said["headers"] = service.headers[-1]
    ttstrace.uninstrument()

# A stream with nothing around it, and what its consumer does meanwhile.
for _ in stream("Hello"):
    said.setdefault("between", []).append(current())
    with tracer.trace("consumer"):
        pass
said["after stream"] = current()

# A stream inside a span, pulled by other threads when that span is over.
with tracer.trace("root.threads"):
    pieces = stream("Hello")
done = object()
while True:
    with ThreadPoolExecutor(1) as pool:
        if pool.submit(next, pieces, done).result() is done:
            break

# One that its consumer leaves, and one that is dropped.
pieces = stream("Hello")
next(pieces)
pieces.close()
said["after close"] = current()
pieces = stream("Hello")
next(pieces)
del pieces
gc.collect()
said["after drop"] = current()

# One patched callable inside another: one synthesis. A decorated one around it, with a part: two.
import gtts

class Canned(gtts.gTTS):
    def stream(self):
        yield piece

from google_tts import mp3
piece = mp3(0.5)
ttstrace.instrument("gtts")
Canned("Hello").save(os.devnull)

@ttstrace.traced_synthesis(model="outer", **options)
def outer(text):
    said["current"] = ttstrace.synthesis.current() is not ttstrace.manual._NONE
    with ttstrace.stage("vocoder"):
        with tracer.trace("in.stage"):
            return CHUNK

outer("Hello")

# By hand, and at once in several tasks.
async def task(name):
    with tracer.trace("root." + name):
        async with ttstrace.synthesis(text="Hello", model=name, **options) as s:
            await asyncio.sleep(0.01)
            with tracer.trace("in." + name):
                s.chunk(CHUNK)
            await asyncio.sleep(0.01)
        said["after " + name] = current()

async def tasks():
    await asyncio.gather(task("one"), task("two"))

asyncio.run(tasks())

@ttstrace.traced_synthesis(model="fails")
def fails(text):
    raise ValueError(text)

try:
    fails("A secret")
except ValueError as error:
    said["error"] = str(error)
said["at the end"] = current()

# Under contexts of ddtrace's that hold no span: the caller's in another process, and baggage alone.
from ddtrace.trace import Context

def under(model, given):
    @ttstrace.traced_synthesis(model=model, **options)
    def under(text):
        for _ in range(2):
            said.setdefault(model, []).append(dict(baggage.get_all()))
            yield CHUNK

    tracer.context_provider.activate(given)
    said["kept by " + model] = [tracer.context_provider.active() is given for _ in under("Hello")]
    said["kept by " + model].append(tracer.context_provider.active() is given)

under("remote parent", Context(trace_id=123, span_id=45, sampling_priority=1))
carrying = Context()
carrying.set_baggage_item("tenant", "blue")
under("baggage", carrying)
tracer.context_provider.activate(None)
print(json.dumps({"said": said, "spans": sent()}))
"""


@pytest.fixture(scope="module")
def seen() -> Any:
    return program(PREAMBLE + PROGRAM)


@pytest.fixture(scope="module")
def said(seen: Any) -> dict[str, Any]:
    found: dict[str, Any] = seen["said"]
    return found


def named(seen: Any, name: str) -> list[Span]:
    return [span for span in seen["spans"] if span["name"] == name]


def model(seen: Any, name: str) -> list[Span]:
    return named(seen, f"text_to_speech {name}")


def children(seen: Any, span: Span) -> list[str]:
    return [each["name"] for each in seen["spans"] if each["parent"] == span["span"]]


def test_request_nests_under_its_synthesis(seen: Any, said: Any) -> None:
    (root,), (synthesis,) = named(seen, "root.remote"), model(seen, "remote")
    (request,) = [span for span in seen["spans"] if span["parent"] == synthesis["span"]]
    assert request["attributes"]["component"] == "requests"
    assert synthesis["parent"] == root["span"]
    assert {root["trace"], request["trace"]} == {synthesis["trace"]}
    assert said["headers"]["traceparent"].split("-")[1:3] == [synthesis["trace"], request["span"]]
    assert said["headers"]["baggage"] == "tenant=blue"
    assert said["after remote"] == "root.remote"


def test_attributes_and_times(seen: Any) -> None:
    (synthesis,) = model(seen, "remote")
    found = synthesis["attributes"]
    assert found[semconv.TTS_AUDIO_DURATION] == pytest.approx(0.3)
    assert found[semconv.TTS_INPUT_CHARACTERS] == 5
    assert found[semconv.GEN_AI_REQUEST_MODEL] == "remote"
    assert found[semconv.TTS_MEMORY_PEAK] > 10_000_000
    length = (synthesis["end"] - synthesis["start"]) / 1e9
    assert found[semconv.TTS_SYNTHESIS_DURATION] == pytest.approx(length, abs=1e-6)
    (root,) = named(seen, "root.remote")
    assert root["start"] <= synthesis["start"] <= synthesis["end"] <= root["end"]


def test_stream_is_current_inside_its_pulls_only(seen: Any, said: Any) -> None:
    assert said["between"] == [None, None, None]
    assert said["after stream"] is None
    alone = model(seen, "stream")[0]
    assert alone["parent"] == ""
    assert children(seen, alone) == ["inside"] * 3
    assert [span["parent"] for span in named(seen, "consumer")] == [""] * 3
    assert alone["attributes"][semconv.TTS_STREAM_CHUNKS] == 3
    assert alone["attributes"][semconv.TTS_AUDIO_DURATION] == pytest.approx(0.3)


def test_events_are_inside_their_span(seen: Any) -> None:
    for synthesis in model(seen, "stream"):
        ((name, at, _),) = synthesis["events"]
        assert name == semconv.EVENT_FIRST_CHUNK  # of silence
        assert synthesis["start"] - 1000 <= at <= synthesis["end"]  # ddtrace takes microseconds
    (failed,) = model(seen, "fails")
    ((_, at, _),) = failed["events"]
    assert abs(at - failed["end"]) <= 1000


def test_stream_that_other_threads_pull(seen: Any) -> None:
    (root,) = named(seen, "root.threads")
    (synthesis,) = [span for span in model(seen, "stream") if span["parent"]]
    assert synthesis["parent"] == root["span"]
    assert children(seen, synthesis) == ["inside"] * 3


def test_streams_that_were_left(seen: Any, said: Any) -> None:
    assert said["after close"] is said["after drop"] is None
    left = [span for span in model(seen, "stream") if span["attributes"].get(semconv.TTS_INTERRUPTED)]
    assert [span["attributes"][semconv.TTS_STREAM_CHUNKS] for span in left] == [1, 1]


def test_one_synthesis_is_one_span(seen: Any, said: Any) -> None:
    found = [span for span in seen["spans"] if span["attributes"].get(semconv.GEN_AI_PROVIDER_NAME) == "gtts"]
    assert [span["name"] for span in found] == ["text_to_speech gtts.tts.gTTS.save"]


def test_parts(seen: Any, said: Any) -> None:
    assert said["current"] is True
    (outer,), (part,) = model(seen, "outer"), named(seen, "vocoder")
    assert part["parent"] == outer["span"]
    assert children(seen, part) == ["in.stage"]
    assert outer["attributes"][semconv.TTS_STAGE_DURATION + "vocoder"] > 0


@pytest.mark.parametrize("name", ["one", "two"])
def test_tasks_keep_apart(seen: Any, said: Any, name: str) -> None:
    (root,), (synthesis,), (inside,) = named(seen, f"root.{name}"), model(seen, name), named(seen, f"in.{name}")
    assert (synthesis["parent"], inside["parent"]) == (root["span"], synthesis["span"])
    assert said[f"after {name}"] == f"root.{name}"
    assert synthesis["attributes"][semconv.TTS_CONCURRENCY_MAX] == 2


def test_error(seen: Any, said: Any) -> None:
    assert said["error"] == "A secret"
    (failed,) = model(seen, "fails")
    assert failed["status"] == 2
    assert failed["attributes"][semconv.ERROR_TYPE] == "ValueError"
    assert "secret" not in str(failed)
    assert said["at the end"] is None


def test_contexts_without_a_span(seen: Any, said: Any) -> None:
    """ddtrace's own context is current again, as it was, between pulls and after."""
    (remote,) = model(seen, "remote parent")
    assert (int(remote["trace"], 16), int(remote["parent"], 16)) == (123, 45)
    # Under baggage alone ddtrace itself samples no span that is started by OpenTelemetry's API: none is looked for.
    assert said["baggage"] == [{"tenant": "blue"}] * 2
    assert said["kept by remote parent"] == said["kept by baggage"] == [True] * 3


def test_nobody_is_sampled() -> None:
    """What ddtrace drops is sent nowhere; the service below is told so, in the same trace."""
    script = """
    with beside.serving_audio() as service, tracer.trace("root") as root:
        ttstrace.instrument("beside:Requests.speak")
        beside.Requests(service.url).speak("Hello")
    print(json.dumps([sent(), service.headers[-1]["traceparent"], f"{root.trace_id:032x}"]))
    """
    spans, traceparent, trace_id = program(
        PREAMBLE + textwrap.dedent(script), DD_TRACE_SAMPLING_RULES='[{"sample_rate": 0}]'
    )
    assert spans == []
    assert traceparent.split("-")[1] == trace_id
    assert traceparent.endswith("-00")


def test_on_and_off_in_any_order() -> None:
    """With ddtrace's patches of requests and with wrappers of its on the same callable."""
    script = """
    import itertools
    import requests
    from ddtrace.contrib.internal.requests.patch import patch, unpatch
    from ddtrace.contrib.internal.trace_utils import unwrap, wrap

    unpatch()
    path = "beside:Requests.speak"
    calls = []

    def theirs(wrapped, instance, args, kwargs):
        calls.append(1)
        with tracer.trace("theirs"):
            return wrapped(*args, **kwargs)

    parties = {
        "ours": (lambda: ttstrace.instrument(path), lambda: ttstrace.uninstrument(path)),
        "requests": (patch, unpatch),
        "theirs": (lambda: wrap(beside.Requests, "speak", theirs), lambda: unwrap(beside.Requests, "speak")),
    }
    owners = beside.Requests, requests.Session
    before = [dict(vars(owner)) for owner in owners]
    wrong = []
    expected = {"ours": 0, "theirs": 0, "POST /speech": 0}
    with beside.serving_audio() as service:
        for on, off in itertools.product(itertools.permutations(parties), repeat=2):
            if on.index("theirs") < on.index("ours") and off.index("theirs") < off.index("ours"):
                continue  # of two wrappers that wrapt put on, `unwrap` takes off the outermost, whosever it is
            for party in on:
                parties[party][0]()
                parties[party][0]() if party != "theirs" else None
            still = set(on)
            for party in (None, *off):
                if party is not None:
                    parties[party][1]()
                    still.discard(party)
                calls.clear()
                expected["ours"] += "ours" in still
                expected["theirs"] += "theirs" in still
                expected["POST /speech"] += "requests" in still
                audio = beside.Requests(service.url).speak("Hello")
                if audio != beside.CHUNK * 3 or len(calls) != ("theirs" in still):
                    wrong.append([on, off, party, len(calls)])
            ttstrace.uninstrument()
            after = [dict(vars(owner)) for owner in owners]
            if not all(old[name] is new[name] for old, new in zip(before, after) for name in old):
                wrong.append([on, off, str(after)])
    counts = {}
    for span in sent():
        name = "ours" if span["name"].startswith("text_to_speech") else span["name"]
        counts[name] = counts.get(name, 0) + 1
    print(json.dumps([wrong, counts, expected]))
    """
    wrong, counts, expected = program(PREAMBLE + textwrap.dedent(script))
    assert wrong == []
    assert counts == expected
    assert expected["ours"] > 27


def test_without_its_opentelemetry_api() -> None:
    """Each traces into its own: neither knows of the other, and the request is ddtrace's child of ddtrace's span."""
    script = """
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    ttstrace.instrument("beside:Requests.stream")
    with beside.serving_audio() as service:
        with tracer.trace("root"):
            for _ in beside.Requests(service.url).stream("Hello"):
                said.setdefault("between", []).append(current())
    ours = [[span.name, span.parent] for span in exporter.get_finished_spans()]
    print(json.dumps([sent(), ours, said]))
    """
    spans, ours, said = program(PREAMBLE + textwrap.dedent(script), DD_TRACE_OTEL_ENABLED="false")
    (root,) = [span for span in spans if span["name"] == "root"]
    assert [span["parent"] for span in spans if span is not root] == [root["span"]]
    assert ours == [["text_to_speech beside.Requests.stream", None]]
    assert said["between"] == ["root"] * 3


def test_configure_leaves_its_provider_alone(tmp_path: Any) -> None:
    script = f"""
    import logging
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    logging.getLogger("ttstrace").addHandler(handler)
    logging.getLogger("ttstrace").propagate = False
    provider = trace.get_tracer_provider()
    ttstrace.configure(file={str(tmp_path / "trace.jsonl")!r})
    with ttstrace.synthesis(text="Hello", model="one"):
        pass
    print(json.dumps([trace.get_tracer_provider() is provider, [span["name"] for span in sent()],
                      [record.getMessage() for record in records]]))
    """
    same, names, messages = program(PREAMBLE + textwrap.dedent(script))
    assert same is True
    assert names == ["text_to_speech one"]
    (message,) = messages
    assert "its TracerProvider is kept" in message
    assert "it takes no more exporters" in message
