"""``configure()``: traces and metrics by the SDK's own configurator, given names and arguments."""

from __future__ import annotations

import atexit
import logging
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from opentelemetry import metrics, trace
from opentelemetry.distro import OpenTelemetryConfigurator
from opentelemetry.environment_variables import OTEL_METRICS_EXPORTER, OTEL_TRACES_EXPORTER
from opentelemetry.metrics._internal import _ProxyMeterProvider  # it has no public name
from opentelemetry.sdk import _configuration as sdk
from opentelemetry.sdk.environment_variables import OTEL_CONFIG_FILE, OTEL_SDK_DISABLED
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter

from ttstrace.console import ConsoleLines, wants_console
from ttstrace.telemetry.delivery import ConsoleOutput, MetricOutput, Output, SpanOutput
from ttstrace.telemetry.destinations import Destination, Destinations, resolve
from ttstrace.telemetry.handle import Telemetry, end_with_process, open_outputs
from ttstrace.telemetry.trace_file import EXPORTER_NAME, MetricFileExporter, SpanFileExporter, written_by_name

if TYPE_CHECKING:
    from ttstrace.telemetry.trace_file import PathLike

_logger = logging.getLogger(__name__)
_lock = threading.Lock()
# The providers that configure() itself has set in this process. By identity: Logfire's cannot be hashed.
_made: list[object] = []


def configure(
    service_name: str | None = None,
    *,
    endpoint: str | None = None,
    protocol: str | None = None,
    file: PathLike | None = None,
) -> Telemetry:
    """Set up where spans and metrics go: a collector, a trace file, or both.

    What the arguments say comes first. Without ``endpoint`` and ``file`` it is what the ``OTEL_*`` variables
    say (``OTEL_TRACES_EXPORTER`` and ``OTEL_METRICS_EXPORTER`` with ``otlp``, ``console``, ``none``,
    ``ttstrace_file``; ``OTEL_EXPORTER_OTLP_ENDPOINT`` and its kin). Without those, spans go to the trace file
    that ``TTSTRACE_FILE`` names (default ``ttstrace.jsonl``), and metrics to the file beside it
    (``ttstrace.metrics.jsonl``). ``OTEL_SDK_DISABLED=true`` switches everything off. Logs are not exported,
    unless ``OTEL_LOGS_EXPORTER`` says so.

    A provider that the application has set is kept, with a warning; an explicit ``endpoint`` or ``file`` is
    added to it. A second call adds what is new, with a warning. Where standard error is a terminal, each
    synthesis is also printed there as one line; ``TTSTRACE_CONSOLE=0`` and ``=1`` force it off and on.

    When the process ends, what is left is sent; that takes 5 seconds at most, also when the collector is
    down.

    Args:
        service_name: the service's name; else ``OTEL_SERVICE_NAME``.
        endpoint: the collector: a base URL, such as ``http://localhost:4318`` (``/v1/traces`` and
            ``/v1/metrics`` are added for HTTP), or ``host:port``.
        protocol: ``"http/protobuf"`` or ``"grpc"``. Without one it is gRPC for port 4317 and for a bare
            ``host:port`` (but for port 4318), and HTTP for everything else.
        file: a trace file: OTLP JSON, one line a span, appended to. Metrics go to a file of their own beside
            it: ``x.jsonl`` -> ``x.metrics.jsonl``.

    Returns:
        A handle to flush, to shut down, and to see where everything goes.

    Raises:
        ValueError: the endpoint is no address, the protocol is unknown, or the file holds something else.
        OSError: the file's folder is missing, it is a folder, or it cannot be written.
    """
    destinations = resolve(endpoint, protocol, file)
    if os.environ.get(OTEL_SDK_DISABLED, "").strip().lower() == "true":
        return Telemetry()
    with _lock:
        return _configure(service_name, destinations)


def _configure(service_name: str | None, wanted: Destinations) -> Telemetry:
    by_config_file = bool(os.environ.get(OTEL_CONFIG_FILE)) and _tracer_provider() is None and _meter_provider() is None
    if by_config_file:
        # That file settles everything, and the SDK reads it; what the arguments say is added to it below.
        _run_configurator()

    tracer_provider, meter_provider = _tracer_provider(), _meter_provider()
    borrowed = open_outputs()
    known = {output.identity for output in borrowed} | written_by_name

    def to_add(signal: str, destinations: Sequence[Destination], provider: object | None) -> list[Destination]:
        # A provider that is there already gets what was asked for in so many words, and nothing by default;
        # ours gets the default again once everything that it had is shut down.
        if provider is None or wanted.explicit or (_is_made(provider) and not borrowed):
            return [each for each in destinations if (signal, *each.identity) not in known]
        return []

    traces = to_add("traces", wanted.traces, tracer_provider)
    metric = to_add("metrics", wanted.metrics, meter_provider)
    _check_files(traces, metric)

    outputs: list[Output] = []
    refused: list[str] = []
    if tracer_provider is None and meter_provider is None:
        outputs += _set_up(service_name, traces, metric)
    else:
        if tracer_provider is None:
            outputs += _set_up_traces(Resource.create(_attributes(service_name)), traces)
        elif hasattr(tracer_provider, "add_span_processor"):
            outputs += _add_traces(tracer_provider, traces)
        elif traces:
            refused.append("spans")
        if meter_provider is None:
            # What both say about the service should be the same.
            resource = getattr(tracer_provider, "resource", None) or Resource.create(_attributes(service_name))
            outputs += _set_up_metrics(resource, metric)
        elif hasattr(meter_provider, "add_metric_reader"):
            outputs += _add_metrics(meter_provider, metric)
        elif metric:
            refused.append("metrics")
        if not by_config_file:
            _warn(tracer_provider, meter_provider, service_name, [*traces, *metric], refused)

    outputs += _print_lines(known)
    # Files first: they take no time, so that a collector that is down cannot take theirs.
    outputs.sort(key=lambda output: output.identity[1] != EXPORTER_NAME)
    reached = known | {output.identity for output in outputs}
    if outputs:
        end_with_process()

    def address(signal: str, destination: Destination | None) -> str | None:
        return destination.address if destination and (signal, *destination.identity) in reached else None

    return Telemetry(
        file=address("traces", wanted.file(wanted.traces)),
        metrics_file=address("metrics", wanted.file(wanted.metrics)),
        endpoint=address("traces", wanted.collector(wanted.traces))
        or address("metrics", wanted.collector(wanted.metrics)),
        outputs=outputs,
        borrowed=borrowed,
    )


def _tracer_provider() -> Any:
    """The global provider; None where nobody has set one."""
    provider = trace.get_tracer_provider()
    return None if isinstance(provider, trace.ProxyTracerProvider) else provider


def _meter_provider() -> Any:
    provider = metrics.get_meter_provider()
    return None if isinstance(provider, _ProxyMeterProvider) else provider


def _attributes(service_name: str | None) -> dict[str, Any]:
    return {} if service_name is None else {SERVICE_NAME: service_name}


def _check_files(traces: Sequence[Destination], metric: Sequence[Destination]) -> None:
    """Fail now if a file cannot be written, and not when providers are half set up."""
    for exporter, destinations in ((SpanFileExporter, traces), (MetricFileExporter, metric)):
        for destination in destinations:
            if destination.exporter == EXPORTER_NAME:
                exporter(**destination.arguments)


@contextmanager
def _unset(*variables: str) -> Iterator[None]:
    saved = {name: os.environ.pop(name) for name in variables if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(saved)


def _is_made(provider: object) -> bool:
    return any(made is provider for made in _made)


def _exporters(traces: Sequence[Destination], metric: Sequence[Destination]) -> tuple[Any, Any, Mapping[Any, Any]]:
    """The exporters' classes by name, for spans and metrics, and their arguments."""
    spans, metrics_, _ = sdk._import_exporters(
        [each.exporter for each in traces], [each.exporter for each in metric], []
    )
    arguments: dict[Any, Mapping[str, Any]] = {spans[each.exporter]: each.arguments for each in traces}
    arguments.update({metrics_[each.exporter]: each.arguments for each in metric})
    return spans, metrics_, arguments


class _Processors:
    """Puts each exporter that the SDK makes behind a processor that counts what arrives."""

    def __init__(self, destinations: Sequence[Destination]) -> None:
        self.outputs: list[SpanOutput] = []
        # The SDK makes the exporters in the order of their names.
        self._destinations = iter(destinations)

    def __call__(self, span_exporter: SpanExporter, *args: Any, **kwargs: Any) -> SpanProcessor:
        output = SpanOutput(span_exporter, next(self._destinations).identity)
        self.outputs.append(output)
        return output.processor


def _run_configurator(**arguments: Any) -> None:
    configurator: Any = OpenTelemetryConfigurator  # untyped
    configurator().configure(**arguments)


def _set_up(service_name: str | None, traces: Sequence[Destination], metric: Sequence[Destination]) -> list[Output]:
    _, _, arguments = _exporters(traces, metric)
    processors = _Processors(traces)
    # What these two say is in the destinations already, unless an argument comes before them.
    with _unset(OTEL_TRACES_EXPORTER, OTEL_METRICS_EXPORTER):
        _run_configurator(
            resource_attributes=_attributes(service_name),
            trace_exporter_names=[each.exporter for each in traces],
            metric_exporter_names=[each.exporter for each in metric],
            exporter_args_map=arguments,
            export_span_processor=processors,
        )
    _made.append(trace.get_tracer_provider())
    return [*processors.outputs, *_own_metrics(metric)]


def _set_up_traces(resource: Resource, traces: Sequence[Destination]) -> list[Output]:
    """The configurator's part for traces alone, beside a MeterProvider of the application's."""
    spans, _, arguments = _exporters(traces, ())
    processors = _Processors(traces)
    sdk._init_tracing(
        spans,
        id_generator=sdk._import_id_generator(sdk._get_id_generator()),
        sampler=sdk._import_sampler(sdk._get_sampler()),
        resource=resource,
        exporter_args_map=arguments,
        export_span_processor=processors,
        tracer_configurator=sdk._import_tracer_configurator(sdk._get_tracer_configurator()),
    )
    _made.append(trace.get_tracer_provider())
    return [*processors.outputs]


def _set_up_metrics(resource: Resource, metric: Sequence[Destination]) -> list[Output]:
    """The configurator's part for metrics alone, beside a TracerProvider of the application's."""
    _, metrics_, arguments = _exporters((), metric)
    sdk._init_metrics(
        metrics_,
        resource,
        exporter_args_map=arguments,
        meter_configurator=sdk._import_meter_configurator(sdk._get_meter_configurator()),
    )
    return [*_own_metrics(metric)]


def _own_metrics(metric: Sequence[Destination]) -> list[MetricOutput]:
    provider = metrics.get_meter_provider()
    if not isinstance(provider, MeterProvider):
        return []
    _made.append(provider)
    # Its readers are shut down by ours, and complain about a second time.
    atexit.unregister(provider.shutdown)
    return [
        MetricOutput(reader, each.identity)
        # The configurator gives the readers that it makes to nobody.
        for reader, each in zip(provider._metric_readers, metric, strict=True)
        if isinstance(reader, PeriodicExportingMetricReader)
    ]


def _add_traces(provider: Any, traces: Sequence[Destination]) -> list[Output]:
    spans, _, _ = _exporters(traces, ())
    outputs: list[Output] = []
    for each in traces:
        output = SpanOutput(spans[each.exporter](**each.arguments), each.identity)
        provider.add_span_processor(output.processor)
        outputs.append(output)
    return outputs


def _add_metrics(provider: Any, metric: Sequence[Destination]) -> list[Output]:
    _, metrics_, _ = _exporters((), metric)
    outputs: list[Output] = []
    for each in metric:
        reader = PeriodicExportingMetricReader(metrics_[each.exporter](**each.arguments))
        provider.add_metric_reader(reader)
        outputs.append(MetricOutput(reader, each.identity))
    return outputs


def _print_lines(known: set[tuple[str, str, str]]) -> list[Output]:
    provider = _tracer_provider()
    output = ConsoleOutput(ConsoleLines())
    if output.identity in known or not wants_console() or not hasattr(provider, "add_span_processor"):
        return []
    provider.add_span_processor(output.processor)
    return [output]


def _warn(
    tracer_provider: object | None,
    meter_provider: object | None,
    service_name: str | None,
    added: Sequence[Destination],
    refused: Sequence[str],
) -> None:
    kept = [provider for provider in (tracer_provider, meter_provider) if provider is not None]
    names = " and ".join(f"its {type(provider).__name__}" for provider in kept)
    be = "is" if len(kept) == 1 else "are"
    if all(map(_is_made, kept)):
        said = "configure() was called before in this process, and its providers are kept"
    else:
        said = f"The application has set up OpenTelemetry before configure(), and {names} {be} kept"
    where = sorted({each.address or each.exporter for each in added})
    said += f"; added: {', '.join(where)}" if where else "; nothing was added"
    if not where and not refused:
        said += " (an explicit endpoint=... or file=... would be)"
    if refused:
        said += f"; it takes no more exporters, so that its {' and '.join(refused)} go where they went before"
    if service_name is not None:
        said += f"; service_name={service_name!r} has no effect on it"
    _logger.warning("%s.", said)
