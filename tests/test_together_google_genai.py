"""With OpenTelemetry's own instrumentation of google-genai, which patches the same methods. It wants one before 3."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Spans
from instrumented import is_child
from opentelemetry import trace
from speech_server import SpeechServer, serving
from test_integrations_http import DOORS, Door

import ttstrace
from ttstrace import semconv

models = pytest.importorskip("google.genai.models")
theirs = pytest.importorskip("opentelemetry.instrumentation.google_genai").GoogleGenAiSdkInstrumentor()
if theirs._check_dependency_conflicts() is not None:
    pytest.skip("theirs wants another google-genai", allow_module_level=True)

METHODS = ("generate_content", "generate_content_stream")
OWNERS = (models.Models, models.AsyncModels)


@pytest.fixture(autouse=True)
def come_off() -> Iterator[None]:
    yield
    ttstrace.uninstrument()
    if theirs.is_instrumented_by_opentelemetry:
        theirs.uninstrument()


@pytest.mark.parametrize("door", [each for each in DOORS if each.backend == "google_genai"], ids=lambda door: door.name)
def test_speech_in_any_order(spans: Spans, door: Door) -> None:
    """One synthesis for each call while ours is on, one span of theirs while that is: one below the other."""
    parties = {
        "ours": (lambda: ttstrace.instrument(door.backend), lambda: ttstrace.uninstrument(door.backend)),
        "theirs": (theirs.instrument, theirs.uninstrument),
    }
    before = [vars(owner)[name] for owner in OWNERS for name in METHODS]
    service = SpeechServer()
    half = len(door.audio) // 2
    service.pieces = door.pieces([door.audio[:half], door.audio[half:]])
    with serving(service):
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
                    answer = door.speak(service.url)
                    audio = answer if isinstance(answer, bytes) else b"".join(answer)
                assert audio == door.audio
                ours = [span for span in spans.syntheses() if _operation(span) == semconv.OPERATION]
                others = [span for span in spans.syntheses() if _operation(span) == "generate_content"]
                # Put on first and taken off first, theirs takes what was put over it along.
                gone = on[0] == "theirs" == off[0] and still == {"ours"}
                assert (len(ours), len(others)) == ("ours" in still and not gone, "theirs" in still), (on, off, still)
                assert len(spans.all()) == 1 + len(ours) + len(others)
                for span in ours:
                    assert (span.attributes or {})[semconv.TTS_AUDIO_DURATION] == 1.0
                if ours and others:
                    outer, inner = (ours[0], others[0]) if on[-1] == "ours" else (others[0], ours[0])
                    assert is_child(outer, request)
                    assert is_child(inner, outer)
            ttstrace.uninstrument()  # theirs is off by now
            after = [vars(owner)[name] for owner in OWNERS for name in METHODS]
            assert all(now is was for now, was in zip(after, before, strict=True)), (on, off)


def _operation(span: Any) -> object:
    return (span.attributes or {})[semconv.GEN_AI_OPERATION_NAME]
