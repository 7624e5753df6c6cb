"""With Logfire: its providers are kept, ours go through them, and either may decorate above the other.

Logfire takes over the process: each program under test is one of its own."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest
from beside import program

from ttstrace import semconv

pytest.importorskip("logfire")

PREAMBLE = """
import asyncio, json
import logfire
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import beside
import ttstrace

exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()

def configure(**options):
    logfire.configure(
        send_to_logfire=False,
        console=False,
        inspect_arguments=False,
        additional_span_processors=[SimpleSpanProcessor(exporter)],
        metrics=logfire.MetricsOptions(additional_readers=[reader]),
        **options,
    )

def ended():
    return [
        {
            "name": span.name,
            "trace": f"{span.context.trace_id:032x}",
            "span": f"{span.context.span_id:016x}",
            "parent": None if span.parent is None else f"{span.parent.span_id:016x}",
            "attributes": dict(span.attributes),
            "status": span.status.status_code.name,
            "text": span.to_json(),
        }
        for span in exporter.get_finished_spans()
    ]

def measured():
    data = reader.get_metrics_data()
    return [] if data is None else sorted(
        metric.name
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if scope.scope.name == "ttstrace"
    )
"""


def run(script: str, **environment: str) -> Any:
    return program(PREAMBLE + textwrap.dedent(script), **environment)


def named(spans: list[Any], name: str) -> Any:
    (found,) = [span for span in spans if span["name"] == name]
    return found


@pytest.mark.parametrize("order", ["theirs first", "ours first"])
def test_our_spans_go_through_its_provider(order: str) -> None:
    """Also where Logfire is configured only when calls have been traced, and where one fails."""
    pytest.importorskip("opentelemetry.instrumentation.requests")
    script = """
    def theirs():
        configure()
        logfire.instrument_requests()

    @ttstrace.traced_synthesis
    def fails(text):
        raise ValueError(text)

    if ORDER == "theirs first":
        theirs()
    ttstrace.instrument("beside:Requests.speak", "beside:Requests.stream", sample_rate=24000, format="pcm_s16le")
    with beside.serving_audio() as service:
        engine = beside.Requests(service.url)
        if ORDER == "ours first":
            engine.speak("Hello")  # nobody listens yet
            theirs()
        provider = trace.get_tracer_provider()
        with logfire.span("request"):
            engine.speak("Hello")
            stream = engine.stream("Hello")
            try:
                fails("A secret")
            except ValueError as error:
                said = str(error)
        with logfire.span("later"):
            for _ in stream:
                logfire.info("between")
        headers = [each["traceparent"].split("-")[2] for each in service.headers[-2:]]
    print(json.dumps([ended(), measured(), headers, said, trace.get_tracer_provider() is provider]))
    """
    spans, metrics, headers, said, same = run(f"ORDER = {order!r}\n" + script.replace("\n    ", "\n"))
    assert (same, said) == (True, "A secret")
    request = named(spans, "request")
    speak, stream = (named(spans, f"text_to_speech beside.Requests.{name}") for name in ("speak", "stream"))
    failed = named(spans, "text_to_speech __main__.fails")
    assert speak["parent"] == stream["parent"] == failed["parent"] == request["span"]
    posts = [span for span in spans if span["name"] == "POST"]
    assert [span["parent"] for span in posts] == [speak["span"], stream["span"]]
    assert [span["span"] for span in posts] == headers
    later = named(spans, "later")
    assert {span["parent"] for span in spans if span["name"] == "between"} == {later["span"]}
    assert speak["attributes"][semconv.TTS_AUDIO_DURATION] == pytest.approx(0.3)
    assert failed["status"] == "ERROR"
    assert "secret" not in failed["text"]
    assert "gen_ai.client.operation.duration" in metrics


def test_decorated_by_both() -> None:
    """Above ours, theirs is the parent; below, the child; for functions of every kind."""
    script = """
    configure()
    CHUNK = beside.CHUNK
    ours = ttstrace.traced_synthesis(sample_rate=24000, format="pcm_s16le")

    def whole(text):
        return CHUNK

    def generated(text):
        yield CHUNK
        yield CHUNK

    async def awaited(text):
        await asyncio.sleep(0)
        return CHUNK

    async def async_generated(text):
        yield CHUNK
        yield CHUNK

    async def collected(stream):
        return [chunk async for chunk in stream]

    said = []
    for function in whole, generated, awaited, async_generated:
        theirs = logfire.instrument("theirs", extract_args=False, allow_generator="generated" in function.__name__)
        for decorated in ours(theirs(function)), theirs(ours(function)):
            exporter.clear()
            result = decorated("Hello")
            if hasattr(result, "__aiter__"):
                result = asyncio.run(collected(result))
            elif hasattr(result, "__await__"):
                result = asyncio.run(result)
            elif hasattr(result, "__next__"):
                result = list(result)
            said.append([b"".join(result) if isinstance(result, list) else result, ended()])
    print(json.dumps([[len(audio), spans] for audio, spans in said]))
    """
    for number, (size, spans) in enumerate(run(script)):
        chunks = 2 if number // 2 in (1, 3) else 1
        assert size == 4800 * chunks
        theirs = named(spans, "theirs")
        (ours,) = [span for span in spans if span is not theirs]
        assert ours["attributes"][semconv.TTS_AUDIO_DURATION] == pytest.approx(0.1 * chunks)
        above, below = (theirs, ours) if number % 2 else (ours, theirs)
        assert below["parent"] == above["span"], number
        assert above["parent"] is None


def test_auto_tracing_of_the_same_module(tmp_path: Path) -> None:
    """Logfire rewrites a module when it is imported, which is when ours is put on."""
    (tmp_path / "acme.py").write_text("class Engine:\n    def speak(self, text):\n        return text.encode()\n")
    script = f"""
    import sys
    sys.path.insert(0, {str(tmp_path)!r})
    configure()
    logfire.install_auto_tracing(modules=["acme"], min_duration=0)
    ttstrace.instrument("acme:Engine.speak")
    import acme
    assert acme.Engine().speak("Hello") == b"Hello"
    ttstrace.uninstrument()
    assert acme.Engine().speak("Hello") == b"Hello"
    print(json.dumps(ended()))
    """
    theirs, ours, alone = run(script)
    assert ours["name"] == "text_to_speech acme.Engine.speak"
    assert theirs["parent"] == ours["span"]
    assert theirs["name"] == alone["name"]
    assert alone["parent"] is None


def test_nobody_is_sampled() -> None:
    script = """
    configure(sampling=logfire.SamplingOptions(head=0.0))
    ttstrace.instrument("beside:Requests.speak")
    with beside.serving_audio() as service:
        with logfire.span("request"):
            assert beside.Requests(service.url).speak("Hello") == beside.CHUNK * 3
    print(json.dumps([ended(), measured()]))
    """
    spans, metrics = run(script)
    assert spans == []
    assert "gen_ai.client.operation.duration" in metrics


@pytest.mark.parametrize("order", ["theirs first", "ours first"])
def test_both_are_configured(tmp_path: Path, order: str) -> None:
    """Ours adds its file to Logfire's provider; where ours comes first, OpenTelemetry says that Logfire comes too late,
    and each has its own spans."""
    script = f"""
    import logging
    logging.disable()
    file = {str(tmp_path / "trace.jsonl")!r}
    if {order!r} == "theirs first":
        configure()
        ttstrace.configure()
        handle = ttstrace.configure(file=file)
    else:
        handle = ttstrace.configure(file=file)
        configure()
    with logfire.span("request"), ttstrace.synthesis(text="Hello", model="one"):
        pass
    handle.force_flush()
    with open(file) as lines:
        names = [span["name"] for line in lines for resource in json.loads(line)["resourceSpans"]
                 for scope in resource["scopeSpans"] for span in scope["spans"]]
    print(json.dumps([names, [span["name"] for span in ended()]]))
    """
    in_file, of_theirs = run(script)
    both = ["text_to_speech one", "request"]
    assert (in_file, of_theirs) == ((both, both) if order == "theirs first" else (both[:1], both[1:]))
