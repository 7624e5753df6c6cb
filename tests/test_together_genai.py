"""With other instrumentation of the same GenAI library: OpenInference's and traceloop's, around OpenAI's speech.

Skips where openai or theirs is not installed."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Iterator
from typing import Any

import beside
import pytest
from beside import CHUNKS, RATE, serving_audio
from conftest import Spans
from opentelemetry import trace

import ttstrace
from ttstrace import semconv

openai = pytest.importorskip("openai")
speech = pytest.importorskip("openai.resources.audio.speech")

PATH = "openai.resources.audio.speech:Speech.create"
THEIRS = {
    "openinference": "openinference.instrumentation.openai",
    "traceloop": "opentelemetry.instrumentation.openai",
}
AUDIO = beside.CHUNK * CHUNKS


@pytest.fixture
def client() -> Iterator[Any]:
    with serving_audio() as service, openai.OpenAI(api_key="none", base_url=service.url, max_retries=0) as made:
        yield made


def instrumentor(name: str) -> Any:
    return pytest.importorskip(THEIRS[name]).OpenAIInstrumentor()


@pytest.mark.parametrize("name", THEIRS)
def test_speech_in_any_order(spans: Spans, client: Any, name: str) -> None:
    """Ours is one span for each call while it is on, theirs is inside it, and what is off has left nothing of ours."""
    theirs = instrumentor(name)
    options = {"audio": lambda call: call.result.content, "sample_rate": RATE, "format": "pcm_s16le"}
    parties = {
        "ours": (lambda: ttstrace.instrument(PATH, **options), lambda: ttstrace.uninstrument(PATH)),
        "theirs": (theirs.instrument, theirs.uninstrument),
    }
    importlib.import_module("openai.resources.audio")
    before = vars(speech.Speech)["create"]
    theirs.instrument()
    client.audio.speech.create(model="tts-1", voice="alloy", input="Hello", response_format="pcm")
    per_call = len(spans.all())
    theirs.uninstrument()
    for on, off in itertools.product(itertools.permutations(parties), repeat=2):
        for party in on:
            parties[party][0]()
        still = set(on)
        for party in (None, *off):
            if party is not None:
                parties[party][1]()
                still.discard(party)
            spans.clear()
            with trace.get_tracer("test").start_as_current_span("request") as request:
                answer = client.audio.speech.create(model="tts-1", voice="alloy", input="Hello", response_format="pcm")
            assert answer.content == AUDIO
            ours, others = spans.syntheses(), [span for span in spans.all() if span not in spans.syntheses()]
            assert len(ours) == ("ours" in still), (on, off, still)
            assert len(others) == 1 + per_call * ("theirs" in still), (on, off, still)
            for span in ours:
                assert span.parent is not None
                assert span.parent.span_id == request.get_span_context().span_id
                assert (span.attributes or {})[semconv.TTS_AUDIO_DURATION] == pytest.approx(0.1 * CHUNKS)
                for other in others[:-1]:
                    assert other.parent is not None
                    assert other.parent.span_id == span.context.span_id
        assert vars(speech.Speech)["create"] is before, (on, off)
