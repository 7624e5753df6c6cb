"""The metrics say what the spans say, whether or not spans are sampled."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from backends import RATE, tone, work
from conftest import Metrics, Spans, set_tracer_provider
from opentelemetry import metrics as metrics_api
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from ttstrace import metrics, semconv, synthesis, traced_synthesis
from ttstrace.call import Options
from ttstrace.decorator import trace as trace_callable


@traced_synthesis(provider="acme", model="m", sample_rate=RATE, producer="pull")
def speak(text: str) -> np.ndarray:
    work(0.02)
    return tone(0.1)


@traced_synthesis(provider="acme", model="m", sample_rate=RATE, producer="pull")
def stream(text: str) -> Iterator[np.ndarray]:
    for gap in (0.01, 0.3, 0.01):
        work(gap)
        yield tone(0.1)


def test_every_metric_of_a_plain_call(spans: Spans, recorded: Metrics) -> None:
    speak("hello")
    attributes = spans.attributes()
    told = {
        "gen_ai.operation.name": "text_to_speech",
        "gen_ai.provider.name": "acme",
        "gen_ai.request.model": "m",
        "gen_ai.request.stream": False,
        "tts.cold_start": attributes["tts.cold_start"],
    }
    for name, attribute in (
        (semconv.METRIC_RTF, "tts.rtf"),
        (semconv.METRIC_AUDIO_DURATION, "tts.audio.duration"),
        (semconv.METRIC_MEMORY_PEAK, "tts.memory.peak"),
    ):
        (point,) = recorded.points(name)
        assert dict(point.attributes) == told
        assert point.sum == pytest.approx(attributes[attribute])
        assert point.count == 1
    (duration,) = recorded.points(semconv.METRIC_OPERATION_DURATION)
    span = spans.one()
    assert duration.sum == pytest.approx((span.end_time - span.start_time) / 1e9, abs=1e-6)
    assert duration.explicit_bounds[0] == 0.01
    assert duration.explicit_bounds[-1] == pytest.approx(81.92)
    (rtf,) = recorded.points(semconv.METRIC_RTF)
    assert (rtf.explicit_bounds[0], rtf.explicit_bounds[-1]) == (0.005, 10)
    assert recorded.points(semconv.METRIC_INPUT_CHARACTERS)[0].value == 5
    assert not recorded.points(semconv.METRIC_TIME_TO_FIRST_CHUNK)
    assert not recorded.points(semconv.METRIC_STREAM_UNDERRUNS)


def test_metrics_of_a_stream(spans: Spans, recorded: Metrics) -> None:
    list(stream("hello"))
    attributes = spans.attributes()
    for name, attribute in (
        (semconv.METRIC_TIME_TO_FIRST_CHUNK, "gen_ai.response.time_to_first_chunk"),
        (semconv.METRIC_TIME_TO_FIRST_AUDIO, "tts.time_to_first_audio"),
    ):
        (point,) = recorded.points(name)
        assert point.sum == pytest.approx(attributes[attribute])
        assert point.attributes["gen_ai.request.stream"] is True
    assert recorded.points(semconv.METRIC_STREAM_UNDERRUNS)[0].value == attributes["tts.stream.underruns"] == 1


def test_exemplars_point_to_the_span(spans: Spans, recorded: Metrics) -> None:
    list(stream("hello"))
    (point,) = recorded.points(semconv.METRIC_RTF)
    assert [exemplar.span_id for exemplar in point.exemplars] == [spans.one().context.span_id]


def test_active_goes_down_as_it_went_up(spans: Spans, recorded: Metrics) -> None:
    values = []

    @traced_synthesis(provider="acme", model=lambda call: call.result and "late")
    def look(text: str) -> bool:
        values.extend((point.value, dict(point.attributes)) for point in recorded.points(semconv.METRIC_ACTIVE))
        return True

    look("hello")
    told = {"gen_ai.operation.name": "text_to_speech", "gen_ai.provider.name": "acme"}
    assert values == [(1, told)]
    assert [(p.value, dict(p.attributes)) for p in recorded.points(semconv.METRIC_ACTIVE)] == [(0, told)]
    assert spans.attributes()["gen_ai.request.model"] == "late"


def test_errors_are_told_by_type(spans: Spans, recorded: Metrics) -> None:
    @traced_synthesis
    def fail(text: str) -> None:
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        fail("hello")
    (point,) = recorded.points(semconv.METRIC_OPERATION_DURATION)
    assert point.attributes["error.type"] == "OSError"
    assert recorded.points(semconv.METRIC_ACTIVE)[0].value == 0


def test_metrics_without_traces(recorded: Metrics) -> None:
    set_tracer_provider(None)
    speak("hello")
    assert recorded.points(semconv.METRIC_RTF)[0].count == 1


def test_metrics_of_unsampled_calls_and_children_stay_unsampled(recorded: Metrics) -> None:
    set_tracer_provider(TracerProvider(sampler=ALWAYS_OFF))
    seen = []

    @traced_synthesis(sample_rate=RATE)
    def look(text: str) -> np.ndarray:
        seen.append(trace.get_current_span().get_span_context())
        return tone(0.1)

    look("hello")
    set_tracer_provider(None)
    assert seen[0].is_valid
    assert not seen[0].trace_flags.sampled
    assert recorded.points(semconv.METRIC_AUDIO_DURATION)[0].sum == pytest.approx(0.1)


def test_not_sampled_and_no_metrics_is_current_all_the_same() -> None:
    set_tracer_provider(TracerProvider(sampler=ALWAYS_OFF))
    seen = []
    traced_synthesis(lambda text: seen.append(trace.get_current_span().get_span_context()))("hello")
    list(stream("hello"))
    set_tracer_provider(None)
    assert seen[0].is_valid


def test_nested_patched_callables_are_one_synthesis(spans: Spans, recorded: Metrics) -> None:
    inner = trace_callable(lambda text: tone(0.1), Options(provider="inner", sample_rate=RATE), patched=True)
    outer = trace_callable(lambda text: inner(text), Options(provider="outer", sample_rate=RATE), patched=True)
    outer("hello")
    assert spans.attributes()["gen_ai.provider.name"] == "outer"


def test_an_applications_function_around_a_backend_is_parent_and_child(spans: Spans, recorded: Metrics) -> None:
    backend = trace_callable(lambda text: tone(0.1), Options(provider="backend", sample_rate=RATE), patched=True)

    @traced_synthesis(provider="application", sample_rate=RATE)
    def application(text: str) -> Any:
        return backend(text)

    application("hello")
    child, parent = spans.syntheses()
    assert child.parent.span_id == parent.context.span_id
    assert child.attributes["tts.concurrency.max"] == parent.attributes["tts.concurrency.max"] == 1
    (point,) = recorded.points(semconv.METRIC_RTF)
    assert point.attributes["gen_ai.provider.name"] == "backend"
    (active,) = recorded.points(semconv.METRIC_ACTIVE)
    assert active.attributes["gen_ai.provider.name"] == "application"
    assert active.value == 0


def test_more_than_100_models(spans: Spans, recorded: Metrics) -> None:
    for number in range(130):
        with synthesis(text="hi", model=f"model-{number}"):
            pass
    names = {point.attributes["gen_ai.request.model"] for point in recorded.points(semconv.METRIC_OPERATION_DURATION)}
    assert len(names) == 101
    assert "_other" in names


def test_no_attribute_of_a_metric_is_a_text_or_a_voice(spans: Spans, recorded: Metrics) -> None:
    with synthesis(text="hi", model="m", voice="ann", attributes={"user.id": "me"}):
        pass
    for name in semconv.METRICS:
        for point in recorded.points(name):
            assert set(point.attributes) <= {
                "gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "gen_ai.request.stream",
                "tts.cold_start", "error.type",
            }  # fmt: skip


def test_the_apis_own_provider_is_no_reason_to_measure() -> None:
    assert metrics.instruments() is None
    assert "opentelemetry.metrics" in type(metrics_api.get_meter_provider()).__module__
