"""What tests share: spans and metrics in memory, normalised for comparison with what a test knows."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from opentelemetry import metrics, trace
from opentelemetry.metrics import _internal as metrics_internal
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.util._once import Once
from standin_cuda import StandIn, standin_cuda
from standin_nvml import StandInNvml, compiled, installed

import ttstrace  # noqa: F401 - loads the modules whose faults are looked for
from ttstrace import endings, semconv
from ttstrace.faults import is_fault
from ttstrace.monitor.gpu import window as gpu_window

# No example has a time to keep.
settings.register_profile("steady", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", settings.get_profile("steady"), max_examples=20_000)
settings.load_profile("steady")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A machine that was busy just then breaks a figure once in a while; one that is wrong is wrong on every try."""
    for item in items:
        if item.get_closest_marker("keeps_time") is not None:
            item.add_marker(pytest.mark.flaky(reruns=2, only_rerun=[AssertionError]))


class between:
    """A duration that the test timed from inside and from outside, in seconds.

    However busy the machine is: a pause that falls into the figure falls into the outer time as well, and what the
    inner time has is in the figure.
    """

    def __init__(self, inner: float, outer: float) -> None:
        self.inner = inner
        self.outer = outer

    def __eq__(self, other: object) -> bool:
        # A span's times are whole nanoseconds.
        return isinstance(other, float) and self.inner - 1e-6 <= other <= self.outer + 1e-6

    def __repr__(self) -> str:
        return f"between {self.inner} s and {self.outer} s"


class Spans(InMemorySpanExporter):
    """The spans that ended, in the order in which they did."""

    def all(self) -> list[ReadableSpan]:
        endings.drain()
        return list(self.get_finished_spans())

    def syntheses(self) -> list[ReadableSpan]:
        return [span for span in self.all() if (span.attributes or {}).get(semconv.GEN_AI_OPERATION_NAME) is not None]

    def one(self) -> ReadableSpan:
        found = self.syntheses()
        assert len(found) == 1, [span.name for span in found]
        return found[0]

    def attributes(self) -> dict[str, Any]:
        return dict(self.one().attributes or {})


def set_tracer_provider(provider: trace.TracerProvider | None) -> None:
    """Providers can be set once in a process; tests need it more often."""
    trace._TRACER_PROVIDER = None
    trace._TRACER_PROVIDER_SET_ONCE = Once()
    if provider is not None:
        trace.set_tracer_provider(provider)


def set_meter_provider(provider: metrics.MeterProvider | None) -> None:
    metrics_internal._METER_PROVIDER = None
    metrics_internal._METER_PROVIDER_SET_ONCE = Once()
    if provider is not None:
        metrics.set_meter_provider(provider)


@pytest.fixture(autouse=True)
def no_faults_of_ours(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[BaseException]]:
    """A fault inside ttstrace is only logged: in tests it fails them, unless they take it from this list."""
    faults: list[BaseException] = []

    def report(error: BaseException) -> None:
        if not is_fault(error):
            raise error
        faults.append(error)

    for name, module in list(sys.modules.items()):
        if name.startswith("ttstrace.") and hasattr(module, "report"):
            monkeypatch.setattr(module, "report", report)
    yield faults
    if faults:
        raise faults[0]


@pytest.fixture
def spans() -> Iterator[Spans]:
    exporter = Spans()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    set_tracer_provider(provider)
    yield exporter
    endings.drain()
    set_tracer_provider(None)


class Metrics(InMemoryMetricReader):
    """The metrics recorded so far."""

    def points(self, name: str) -> list[Any]:
        data = self.get_metrics_data()
        return [
            point
            for resource in (data.resource_metrics if data is not None else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]


@pytest.fixture
def recorded() -> Iterator[Metrics]:
    reader = Metrics()
    set_meter_provider(MeterProvider([reader]))
    yield reader
    set_meter_provider(None)


@pytest.fixture
def new_gpu_meter(monkeypatch: pytest.MonkeyPatch) -> None:
    """GPUs are met for the first time, as in a new process."""
    monkeypatch.setattr(gpu_window, "_meter", None)
    monkeypatch.setattr(gpu_window, "_before_cuda", gpu_window.GpuWindow(None))


@pytest.fixture
def cuda(new_gpu_meter: None) -> Iterator[StandIn]:
    """One card under torch, by a stand-in, with CUDA initialized."""
    with standin_cuda() as standin:
        yield standin


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("the stand-in for NVML needs gcc")
    return compiled(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def nvml(nvml_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new_gpu_meter: None) -> StandInNvml:
    """NVML under the real pynvml, by a stand-in; its devices are the test's to say."""
    return installed(nvml_library, tmp_path / "nvml", monkeypatch)


# Figures that differ from run to run, in snapshots of whole spans.
_MEASURED = {
    semconv.TTS_SYNTHESIS_DURATION, semconv.TTS_STREAM_HOLD_DURATION, semconv.TTS_RTF, semconv.TTS_RTF_GRADE,
    semconv.TTS_CPU_TIME, semconv.TTS_CPU_UTILIZATION, semconv.TTS_MEMORY_PEAK, semconv.TTS_MEMORY_BURST,
    semconv.TTS_MEMORY_GROWTH, semconv.TTS_MEMORY_UTILIZATION, semconv.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK,
    semconv.TTS_TIME_TO_FIRST_AUDIO, semconv.TTS_INPUT_WAIT_DURATION, semconv.TTS_STREAM_UNDERRUN_DURATION,
    semconv.TTS_STREAM_UNDERRUN_MAX, semconv.EXCEPTION_STACKTRACE,
}  # fmt: skip


def snapshot_of(span: ReadableSpan) -> dict[str, Any]:
    """A whole span as plain data; what differs from run to run is its type only."""

    def plain(attributes: Any) -> dict[str, Any]:
        return {
            name: f"<{type(value).__name__}>" if name in _MEASURED or name.startswith("tts.stage.duration.") else value
            for name, value in sorted(attributes.items())
        }

    return {
        "name": span.name,
        "kind": span.kind.name,
        "status": span.status.status_code.name,
        "attributes": plain(span.attributes or {}),
        "events": [(event.name, plain(event.attributes or {})) for event in span.events],
    }
