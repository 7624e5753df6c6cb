"""A planted secret is sought in everything that leaves a process: it is nowhere, unless the user asked for it."""

from __future__ import annotations

import contextvars
import gc
import json
import logging
import os
import subprocess
import sys
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from collector import lines_of, running_collector, spans_of
from collector import run_program as run_source
from conftest import Spans, set_tracer_provider
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter
from secret_texts import CONTROL, ENCODINGS, SECRET, count, found, needles, raw_collector

from ttstrace import synthesis, traced_synthesis

CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"


@dataclass
class Told:
    """What a program told: every stream, file and request, by its name."""

    sinks: dict[str, bytes]
    requests: dict[str, list[bytes]]
    """Those that came to the collector, one by one."""
    answers: dict[str, Any]


def run_program(part: str, folder: Path, **variables: str) -> Told:
    """Run `secret_program.py` with every exporter; the secret is among its arguments and variables, too."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "TTSTRACE_"))}
    variables = {
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip", "OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN": "logs/dup",
        "OTEL_BSP_MAX_QUEUE_SIZE": "100000", "A_SECRET": SECRET, **variables,
    }  # fmt: skip
    out, err = folder / "out.txt", folder / "err.txt"
    with raw_collector() as collector:
        program = Path(__file__).with_name("secret_program.py")
        with out.open("wb") as stdout, err.open("wb") as stderr:
            done = subprocess.run(
                [sys.executable, str(program), part, str(folder), collector.http, collector.grpc, SECRET],
                stdout=stdout,
                stderr=stderr,
                env={**clean, **variables},
                timeout=170,
            )
        assert done.returncode == 0, err.read_text(errors="replace")[-3000:]
        sinks = {where: b"\n".join(bodies) for where, bodies in collector.received.items()}
        requests = collector.received
    for file in (out, err, folder / "spans.jsonl", folder / "spans.metrics.jsonl"):
        sinks[file.name] = file.read_bytes()
    return Told(sinks, requests, json.loads((folder / "answers.json").read_text()))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_search_finds_what_is_told(encoding: str) -> None:
    for before in (b"", b"a", b"ab", b"abc"):
        assert found(before + ENCODINGS[encoding](SECRET) + b"after")
    assert not found(ENCODINGS[encoding](CONTROL))


@pytest.mark.parametrize(("part", "capture"), [("calls", "EVENT_ONLY"), ("faults", "true")])
def test_nothing_of_it_is_told(part: str, capture: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = run_program(part, tmp_path, **{CAPTURE: capture})
    control = needles(CONTROL)
    for name, data in told.sinks.items():
        if name not in ("headers", "grpc metadata") and "packed" not in name and "/v1/logs" not in name:
            assert found(data, control), f"{name} was not looked through"
    assert b"exception.stacktrace" in told.sinks["http /v1/logs"]
    leaks = [f"{name}: {trace}" for name, data in told.sinks.items() for trace in found(data)]
    with capsys.disabled():
        print(f"\nsecrets: {told.answers['cells']} cells, {sum(map(len, told.sinks.values()))} bytes")
    assert not leaks, f"{len(leaks)} leaks\n" + "\n\n".join(leaks[:20])
    assert all(told.answers["sent"])
    for name, (plainly, traced) in told.answers.get("uncaught", {}).items():
        assert traced <= plainly, f"{name}: told {traced} times, {plainly} without ttstrace"
    if part == "calls":
        assert sum(plainly > 0 for plainly, _ in told.answers["uncaught"].values()) >= 5, "Python is not looked at"


@pytest.mark.parametrize("capture", ["SPAN_ONLY", "span_and_event"])
def test_it_is_where_it_belongs_and_nowhere_else(capture: str, tmp_path: Path) -> None:
    told = run_program("captured", tmp_path, **{CAPTURE: capture})
    expected = told.answers["expected"]
    grpc = "grpc /opentelemetry.proto.collector.trace.v1.TraceService/Export"
    exports = {"file": lines_of(tmp_path / "spans.jsonl")}
    for name in ("http /v1/traces", grpc):
        requests = map(ExportTraceServiceRequest.FromString, told.requests[name])
        exports[name] = [span for request in requests for span in spans_of(request)]
    for name, spans in exports.items():
        seen = set()
        for span in spans:
            attributes = span["attributes"]
            messages = attributes.pop("gen_ai.input.messages", None)
            number = attributes.get("gen_ai.request.model")
            if number in expected:
                seen.add(number)
                text = None if messages is None else json.loads(messages)[0]["parts"][0]["content"]
                assert text == expected[number], f"{name}: {span}"
            for event in span["events"]:
                event[2].pop("exception.message", None)
            assert not found(json.dumps(span).encode()), name
        assert seen == set(expected), name
    for name, data in told.sinks.items():
        # Spans and logs hold it; what is packed is unpacked elsewhere.
        if not any(part in name for part in ("spans.jsonl", "out.txt", "traces", "Trace", "logs", "packed")):
            assert not found(data), name


# --- long texts, and texts that cannot be encoded ----------------------------------------------------------------


def content_of(span: Any) -> str | None:
    messages = span.attributes.get("gen_ai.input.messages")
    return None if messages is None else json.loads(messages)[0]["parts"][0]["content"]


def by_argument(limit: int, patch: pytest.MonkeyPatch) -> TracerProvider:
    return TracerProvider(span_limits=SpanLimits(max_attribute_length=limit))


def by_argument_for_spans(limit: int, patch: pytest.MonkeyPatch) -> TracerProvider:
    return TracerProvider(span_limits=SpanLimits(max_span_attribute_length=limit, max_attribute_length=limit + 50))


def by_variable(limit: int, patch: pytest.MonkeyPatch) -> TracerProvider:
    patch.setenv("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", str(limit))
    return TracerProvider()


def by_variable_for_spans(limit: int, patch: pytest.MonkeyPatch) -> TracerProvider:
    patch.setenv("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", str(limit + 50))
    patch.setenv("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", str(limit))
    return TracerProvider()


_FRAME = len(json.dumps([{"role": "user", "parts": [{"type": "text", "content": ""}]}]))


@pytest.mark.parametrize("said", [by_argument, by_argument_for_spans, by_variable, by_variable_for_spans])
def test_a_text_is_cut_to_the_limit_and_stays_whole(said: Callable[..., TracerProvider]) -> None:
    """Every limit around the frame of the messages, for texts whose JSON is longer than they are."""
    texts = ['say "\\\\"\n' * 30, "한국어 🌳\u0301é" * 20, "\0\x1f\x7f" * 40, "\ud83c\udf33" * 40, "a" * 300]

    @traced_synthesis
    def speak(text: str) -> None: ...

    for limit in [0, 1, *range(_FRAME - 2, _FRAME + 40), 2 * _FRAME, 5000]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(CAPTURE, "SPAN_ONLY")
            exporter, provider = Spans(), said(limit, patch)
            provider.add_span_processor(SimpleSpanProcessor(exporter))
            set_tracer_provider(provider)
            try:
                for text in texts:
                    exporter.clear()
                    speak(text)
                    span = exporter.one()
                    encode_spans([span]).SerializeToString()
                    told = content_of(span)
                    right = text.encode("utf-8", "replace").decode()
                    if limit < _FRAME:
                        assert told is None
                        continue
                    assert told is not None
                    assert right.startswith(told)
                    assert len(span.attributes["gen_ai.input.messages"]) <= limit
                    one_more = json.dumps(right[: len(told) + 1], ensure_ascii=False)
                    assert told == right or _FRAME - 2 + len(one_more) > limit, "cut more than it had to be"
            finally:
                set_tracer_provider(None)


TEN_MILLION = 10_000_000
LONGEST = 65_536


def test_without_a_limit_it_is_cut_all_the_same(spans: Spans, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CAPTURE, "SPAN_ONLY")
    text = "린" * TEN_MILLION

    @traced_synthesis
    def speak(text: Any) -> bytes:
        raise ValueError(str(text))

    with pytest.raises(ValueError, match="린"):
        speak(text)
    span = spans.one()
    assert content_of(span) == text[: LONGEST - _FRAME]
    assert span.attributes["tts.input.characters"] == TEN_MILLION
    assert span.events[-1].attributes["exception.message"] == text[:LONGEST]
    assert span.status.description == text[:LONGEST]


@pytest.mark.parametrize("over", ["http", "grpc"])
def test_odd_and_long_texts_arrive_beside_others(over: str, tmp_path: Path) -> None:
    """In one batch, at a real collector."""
    source = f"""
    import ttstrace
    texts = ["plain", "a\\udc80b", "\\ud83c", "nul\\0nul", "\\x1f\\x7f\\uffff", "\\udc80" * {LONGEST},
             "린" * {TEN_MILLION}, '"' * {TEN_MILLION}, "last"]
    telemetry = configure("odd", endpoint=os.environ["COLLECTOR"])

    class Failure(ValueError): ...

    Failure.__qualname__ = "Failure\\udc80"

    @ttstrace.traced_synthesis(model="heart")
    def speak(text):
        if "\\0" in text:
            raise Failure(text)

    odd = lambda text: None
    odd.__qualname__ = odd.__name__ = "odd\\udc80"
    ttstrace.traced_synthesis(odd)("in a function of an odd name")
    for text in texts:
        try:
            speak(text)
        except ValueError:
            pass
    say(sent=telemetry.force_flush(30))
    """
    with running_collector() as collector:
        ran = run_source(
            source, tmp_path, COLLECTOR=collector.http if over == "http" else collector.grpc,
            OTEL_BSP_SCHEDULE_DELAY="60000", **{CAPTURE: "SPAN_ONLY"},
        )  # fmt: skip
        assert ran.said["sent"], ran.err
        collector.wait(lambda collector: len(collector.spans) >= 10, 30)
    told = [json.loads(span["attributes"]["gen_ai.input.messages"]) for span in collector.spans]
    contents = [messages[0]["parts"][0]["content"] for messages in told]
    assert contents == [
        "in a function of an odd name", "plain", "a?b", "?", "nul\0nul", "\x1f\x7f\uffff", "?" * (LONGEST - _FRAME),
        "린" * (LONGEST - _FRAME), '"' * ((LONGEST - _FRAME) // 2), "last",
    ]  # fmt: skip
    characters = [span["attributes"]["tts.input.characters"] for span in collector.spans]
    assert characters[-3:] == [TEN_MILLION, TEN_MILLION, 4]
    assert collector.spans[4]["attributes"]["error.type"] == "ValueError"


class Text(str):
    """A text that can be watched."""


@pytest.mark.parametrize("capture", ["", "SPAN_ONLY"])
@pytest.mark.parametrize("given", ["str", "list", "iterator"])
def test_a_long_text_is_not_kept(spans: Spans, monkeypatch: pytest.MonkeyPatch, capture: str, given: str) -> None:
    """A task, a thread or a connection that is begun inside the call keeps the context, and the call in it."""
    monkeypatch.setenv(CAPTURE, capture)
    kept: list[contextvars.Context] = []

    @traced_synthesis
    def speak(text: Any, instructions: str) -> bytes:
        kept.append(contextvars.copy_context())
        if given == "iterator":
            list(text)
        return b""

    def call() -> list[Any]:
        text, instructions = Text("x" * TEN_MILLION), Text("y")
        tracemalloc.reset_peak()
        speak({"str": text, "list": [text, text], "iterator": iter([text, text])}[given], instructions)
        with synthesis(text, format="pcm_s16le") as s:
            kept.append(contextvars.copy_context())
        kept.append(s)  # type: ignore[arg-type]
        return [weakref.ref(text), weakref.ref(instructions)]

    speak("warm", "")
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        watched = call()
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [each() for each in watched] == [None, None]
    assert after - before < TEN_MILLION / 10
    if not capture:
        assert peak - before < 1.5 * TEN_MILLION, "it was copied"


def test_pieces_by_the_ten_thousand_are_put_together_once(spans: Spans, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each piece joined to those before it would copy them all: 10 GB here."""
    monkeypatch.setenv(CAPTURE, "SPAN_ONLY")
    piece = "x" * 1000
    tracemalloc.start()
    try:
        with synthesis() as s:
            for _ in range(10_000):
                s.add_text(piece)
            held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1_000_000
    assert spans.attributes()["tts.input.characters"] == TEN_MILLION


# --- exporters and processors of others ----------------------------------------------------------------------------


class FailingExporter(SpanExporter):
    """Says the secret itself, of its own accord."""

    def export(self, spans: Any) -> Any:
        raise KeyError(SECRET)


@pytest.fixture
def failing_exporter() -> Iterator[None]:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(FailingExporter()))
    set_tracer_provider(provider)
    yield
    set_tracer_provider(None)


@pytest.mark.usefixtures("failing_exporter")
def test_what_an_exporter_says_is_told_as_of_any_span(caplog: pytest.LogCaptureFixture) -> None:
    """Once by the SDK, and of the backend's own exception nothing."""
    caplog.set_level(logging.DEBUG)
    trace.get_tracer("by hand").start_span("a span").end()
    by_hand = count(caplog.text.encode())
    caplog.clear()

    @traced_synthesis
    def speak(text: str) -> bytes:
        raise ValueError(f"{text} {text}")

    with pytest.raises(ValueError, match="Nachtigall"):
        speak(SECRET)
    assert count(caplog.text.encode()) == by_hand > 0
    assert "faults.Withheld" in caplog.text


class Relay(SpanProcessor):
    """Raises what it was told to."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def on_end(self, span: Any) -> None:
        raise self._error


@pytest.mark.parametrize("same", [False, True])
def test_an_interruption_keeps_what_was_being_handled(same: bool) -> None:
    """To whoever catches it, it is chained as without ttstrace."""
    earlier, error = KeyError("earlier"), KeyboardInterrupt("the backend's")
    raised = error if same else KeyboardInterrupt("another")
    provider = TracerProvider()
    provider.add_span_processor(Relay(raised))
    set_tracer_provider(provider)

    @traced_synthesis
    def speak(text: str) -> bytes:
        try:
            raise earlier
        except KeyError:
            raise error  # noqa: B904

    try:
        with pytest.raises(KeyboardInterrupt) as interrupted:
            speak("hello")
    finally:
        set_tracer_provider(None)
    assert interrupted.value is raised
    chain: list[BaseException] = [raised]
    while chain[-1].__context__ is not None and len(chain) < 10:
        chain.append(chain[-1].__context__)
    assert chain[1:] == ([earlier] if same else [error, earlier])


# --- programs that end by an exception ----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["generator", "by hand"])
def test_a_traceback_on_the_way_out_tells_no_more_than_without(shape: str, tmp_path: Path) -> None:
    source = """
    import contextlib, ttstrace
    traced = os.environ["TRACED"] == "yes"
    trace = ttstrace.traced_synthesis if traced else lambda function: function
    by_hand = ttstrace.synthesis if traced else lambda text: contextlib.nullcontext()
    if traced:
        configure("ends", file="ends.jsonl")
    SECRET = os.environ["A_SECRET"]

    @trace
    def generator(text):
        yield b""
        raise KeyError(text)

    if os.environ["SHAPE"] == "generator":
        list(generator(SECRET))
    with by_hand(SECRET):
        raise KeyError(SECRET)
    """
    told = [
        run_source(source, tmp_path, check=False, TRACED=traced, A_SECRET=SECRET, SHAPE=shape, TTSTRACE_CONSOLE="1")
        for traced in ("no", "yes")
    ]
    assert [ran.code for ran in told] == [1, 1]
    plainly, traced = (count((ran.out + ran.err).encode()) for ran in told)
    assert 0 < traced <= plainly
    assert len(lines_of(tmp_path / "ends.jsonl")) == 1
    for file in ("ends.jsonl", "ends.metrics.jsonl"):
        assert not found((tmp_path / file).read_bytes())


def test_the_demo_tells_nothing_of_its_sentences(tmp_path: Path) -> None:
    from ttstrace.cli import demo_steps

    sentences = [
        text
        for name, text in vars(demo_steps).items()
        if name.startswith("_") and not name.startswith("__") and isinstance(text, str)
    ]
    assert len(sentences) >= 5
    with raw_collector() as collector:
        ran = subprocess.run(
            [sys.executable, "-m", "ttstrace", "demo", "--file", "demo.jsonl", "--endpoint", collector.http],
            cwd=tmp_path, capture_output=True, timeout=120,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr.decode(errors="replace")
        bodies = [body for name, bodies in collector.received.items() for body in bodies]
    bodies += [(tmp_path / name).read_bytes() for name in ("demo.jsonl", "demo.metrics.jsonl")]
    assert b"hibari" in b"".join(bodies)
    for sentence in sentences:
        assert not found(b"\n".join(bodies), needles(sentence, [sentence, sentence[:16]])), sentence
