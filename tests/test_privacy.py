"""No text by default: nowhere. With content capture on: where it belongs, and whole JSON."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from conftest import Metrics, Spans
from opentelemetry.sdk.trace import ReadableSpan

from ttstrace import stage, synthesis, traced_synthesis

SECRET = "Der Schatz liegt unter der Linde"
CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"


class Leaky(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.add_note(text) if hasattr(self, "add_note") else None


@traced_synthesis
def plain(text: str) -> bytes:
    return text.encode()


@traced_synthesis
def failing(text: str) -> bytes:
    try:
        raise KeyError(text)
    except KeyError as error:
        raise Leaky(text) from error


@traced_synthesis
def stream(text: str) -> Iterator[bytes]:
    with stage("vocoder"):
        yield text.encode()
    raise Leaky(text)


@traced_synthesis
async def astream(text: str) -> AsyncIterator[bytes]:
    yield text.encode()
    raise Leaky(text)


@traced_synthesis(voice=lambda call: {"text": call.arguments["text"]}, attributes=lambda call: {"x": [call.arguments]})
def careless_options(text: str) -> str:
    return text


def by_hand(text: str) -> None:
    with synthesis(text=text, provider="acme") as s:
        s.add_text(text)
        with stage("vocoder"):
            raise Leaky(text)


async def consume(text: str) -> None:
    async for _ in astream(text):
        pass


def run_everything(text: str) -> None:
    plain(text)
    careless_options(text)
    for function in (failing, lambda t: list(stream(t)), by_hand, lambda t: asyncio.run(consume(t))):
        with pytest.raises(Leaky):
            function(text)


def everything(span: ReadableSpan) -> str:
    return str(span.to_json()) + repr(span.resource.attributes)


def test_nothing_of_the_text_is_told(
    spans: Spans, recorded: Metrics, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    run_everything(SECRET)
    found = spans.all()
    assert len(found) == 8
    told = "".join(everything(span) for span in found)
    for part in ("Schatz", "Linde", repr(SECRET)):
        assert part not in told
        assert part not in str(recorded.get_metrics_data())
        assert part not in caplog.text
    assert "".join(capfd.readouterr()) == ""
    failed = [span for span in found if span.attributes and span.attributes.get("error.type")]
    assert {span.attributes["error.type"] for span in failed} == {"test_privacy.Leaky"}
    stack = failed[0].events[-1].attributes["exception.stacktrace"]
    assert "test_privacy.py" in stack
    assert "in failing" in stack
    assert "raise" not in stack


@pytest.mark.parametrize("value", ["", "NO_CONTENT", "EVENT_ONLY", "true", "1"])
def test_other_values_leave_it_off(spans: Spans, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(CAPTURE, value)
    run_everything(SECRET)
    assert "Schatz" not in "".join(everything(span) for span in spans.all())


@pytest.mark.parametrize("value", ["SPAN_ONLY", "SPAN_AND_EVENT", "span_only"])
def test_captured_where_it_belongs(spans: Spans, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(CAPTURE, value)
    plain(SECRET)
    messages = json.loads(spans.attributes()["gen_ai.input.messages"])
    assert messages == [{"role": "user", "parts": [{"type": "text", "content": SECRET}]}]
    spans.clear()
    with pytest.raises(Leaky):
        failing(SECRET)
    event = spans.one().events[-1]
    assert event.attributes["exception.message"] == SECRET
    assert spans.one().status.description == SECRET


def test_pieces_are_captured_together(spans: Spans, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CAPTURE, "SPAN_ONLY")
    traced_synthesis(lambda text: b"".join(piece.encode() for piece in text))(iter(["Good ", "morning"]))
    assert json.loads(spans.attributes()["gen_ai.input.messages"])[0]["parts"][0]["content"] == "Good morning"


@pytest.mark.parametrize("limit", ["80", "100", "5000"])
def test_cut_inside_the_text(spans: Spans, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setenv(CAPTURE, "SPAN_ONLY")
    monkeypatch.setenv("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", limit)
    text = 'say "한국어"\n' * 1000
    plain(text)
    value: Any = spans.attributes()["gen_ai.input.messages"]
    assert int(limit) - 2 <= len(value) <= int(limit)
    content = json.loads(value)[0]["parts"][0]["content"]
    assert text.startswith(content)
    assert content


def test_text_that_cannot_be_encoded(spans: Spans, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CAPTURE, "SPAN_ONLY")
    traced_synthesis(lambda text: None)("a\udc80b\0c")
    value = spans.attributes()["gen_ai.input.messages"]
    assert json.loads(value.encode("utf-8"))[0]["parts"][0]["content"] == "a?b\0c"
    assert spans.attributes()["tts.input.characters"] == 5


@pytest.mark.parametrize(("signal", "events", "logs"), [("", 1, 0), ("logs", 0, 1), ("http,logs/dup", 1, 1)])
def test_exceptions_as_logs_where_asked_for(
    spans: Spans, monkeypatch: pytest.MonkeyPatch, signal: str, events: int, logs: int
) -> None:
    from opentelemetry import _logs
    from opentelemetry._logs import _internal
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
    from opentelemetry.util._once import Once

    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider()
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    monkeypatch.setattr(_internal, "_LOGGER_PROVIDER_SET_ONCE", Once())
    monkeypatch.setattr(_internal, "_LOGGER_PROVIDER", None)
    _logs.set_logger_provider(provider)
    monkeypatch.setenv("OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN", signal)
    with pytest.raises(Leaky):
        failing(SECRET)
    assert len(spans.one().events) == events
    records = [log.log_record for log in exporter.get_finished_logs()]
    assert len(records) == logs
    for record in records:
        assert record.event_name == "exception"
        assert record.span_id == spans.one().context.span_id
        assert set(record.attributes) == {"exception.type", "exception.stacktrace"}
        assert "Schatz" not in repr(record) + repr(dict(record.attributes))


@pytest.mark.parametrize("value", ["", "SPAN_ONLY"])
def test_an_exception_that_cannot_say_itself_costs_its_message_only(
    spans: Spans, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    class Speechless(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    @traced_synthesis
    def fail(text: str) -> None:
        raise Speechless

    monkeypatch.setenv(CAPTURE, value)
    with pytest.raises(Speechless):
        fail(SECRET)
    span = spans.one()
    assert span.status.status_code.name == "ERROR"
    assert spans.attributes()["tts.input.characters"] == len(SECRET)
    assert "exception.message" not in span.events[-1].attributes
