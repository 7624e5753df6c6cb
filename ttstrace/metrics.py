"""The OpenTelemetry instruments that every synthesis is recorded with."""

from __future__ import annotations

import gc
import threading
from typing import TYPE_CHECKING, Final

from opentelemetry import metrics
from opentelemetry.environment_variables import OTEL_PYTHON_METER_PROVIDER
from opentelemetry.metrics import _internal

from ttstrace import semconv
from ttstrace._version import __version__
from ttstrace.environment import is_set

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider

# Bucket boundaries go out as advice with the instruments, so that a user's views still win. The SDK's default
# boundaries were made for milliseconds: they put every RTF below 5 into one bucket.
_DURATIONS: Final = [0.01 * 2**power for power in range(14)]  # 0.01 s doubling to 81.92 s
_FACTORS: Final = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0]
_BYTES: Final = [float(2**power) for power in range(24, 38)]  # 16 MiB doubling to 128 GiB

_MODELS_MAX: Final = 100
_OTHER_MODEL: Final = "_other"


class Instruments:
    """The instruments, made with one MeterProvider."""

    __slots__ = (
        "_models",
        "active",
        "audio_duration",
        "characters",
        "duration",
        "gpu_memory_peak",
        "memory_peak",
        "provider",
        "rtf",
        "time_to_first_audio",
        "time_to_first_chunk",
        "underruns",
    )

    def __init__(self, provider: MeterProvider) -> None:
        self.provider = provider
        meter = provider.get_meter(semconv.SCOPE, __version__)

        def histogram(name: str, boundaries: list[float]) -> metrics.Histogram:
            unit, meaning = semconv.METRICS[name]
            return meter.create_histogram(name, unit, meaning, explicit_bucket_boundaries_advisory=boundaries)

        self.duration = histogram(semconv.METRIC_OPERATION_DURATION, _DURATIONS)
        self.time_to_first_chunk = histogram(semconv.METRIC_TIME_TO_FIRST_CHUNK, _DURATIONS)
        self.time_to_first_audio = histogram(semconv.METRIC_TIME_TO_FIRST_AUDIO, _DURATIONS)
        self.audio_duration = histogram(semconv.METRIC_AUDIO_DURATION, _DURATIONS)
        self.rtf = histogram(semconv.METRIC_RTF, _FACTORS)
        self.memory_peak = histogram(semconv.METRIC_MEMORY_PEAK, _BYTES)
        self.gpu_memory_peak = histogram(semconv.METRIC_GPU_MEMORY_PEAK, _BYTES)
        self.characters = meter.create_counter(
            semconv.METRIC_INPUT_CHARACTERS, *semconv.METRICS[semconv.METRIC_INPUT_CHARACTERS]
        )
        self.underruns = meter.create_counter(
            semconv.METRIC_STREAM_UNDERRUNS, *semconv.METRICS[semconv.METRIC_STREAM_UNDERRUNS]
        )
        self.active = meter.create_up_down_counter(semconv.METRIC_ACTIVE, *semconv.METRICS[semconv.METRIC_ACTIVE])
        self._models: set[str] = set()

    def model(self, name: str) -> str:
        """The model's name as a metric attribute: beyond 100 models in a process, `_other`."""
        models = self._models
        if name in models:
            return name
        if len(models) >= _MODELS_MAX:
            return _OTHER_MODEL
        models.add(name)
        return name


_internal_is_known: Final = hasattr(_internal, "_METER_PROVIDER")
_current: Instruments | None = None
_idle_provider: object = None


def instruments() -> Instruments | None:
    """The instruments of the MeterProvider that is set now; None where there is none.

    A provider that belongs to the API itself (the proxy before an SDK is set, the no-op) measures nothing, and is
    no reason to measure.
    """
    global _current, _idle_provider
    # The public getter looks into the environment, by way of an exception, as long as no provider is set.
    provider = getattr(_internal, "_METER_PROVIDER", None)
    if provider is None:
        if _internal_is_known and not is_set(OTEL_PYTHON_METER_PROVIDER):
            return None
        provider = metrics.get_meter_provider()
    current = _current
    if current is not None and current.provider is provider:
        return current
    if provider is _idle_provider:
        return None
    if type(provider).__module__.startswith("opentelemetry.metrics"):  # the API's own
        _idle_provider = provider
        return None
    _current = current = Instruments(provider)
    return current


_LOCKS: Final = (type(threading.Lock()), type(threading.RLock()))


def free_locks() -> None:
    """In a forked child: let go of the SDK's locks that threads of the parent held, and that nobody would release here.

    The SDK does so for some of them only. A thread that records holds others for microseconds, one that exports does so
    for as long as the collector takes: to record, or to export, would wait forever here.
    """
    todo: list[object] = [getattr(_internal, "_METER_PROVIDER", None)]
    seen: set[int] = set()
    while todo:
        each = todo.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, _LOCKS):
            each._at_fork_reinit()  # type: ignore[union-attr]  # threading's own, which it does this with itself
        elif isinstance(each, (dict, list, tuple)) or type(each).__module__.startswith("opentelemetry.sdk.metrics"):
            todo += gc.get_referents(each)
