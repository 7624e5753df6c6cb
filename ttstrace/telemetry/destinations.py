"""Where spans and metrics are to go: the arguments, then the ``OTEL_*`` variables, then the file."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from opentelemetry.environment_variables import OTEL_METRICS_EXPORTER, OTEL_TRACES_EXPORTER
from opentelemetry.sdk.environment_variables import (
    OTEL_EXPORTER_OTLP_ENDPOINT,
    OTEL_EXPORTER_OTLP_METRICS_ENDPOINT,
    OTEL_EXPORTER_OTLP_METRICS_PROTOCOL,
    OTEL_EXPORTER_OTLP_METRICS_TIMEOUT,
    OTEL_EXPORTER_OTLP_PROTOCOL,
    OTEL_EXPORTER_OTLP_TIMEOUT,
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT,
    OTEL_EXPORTER_OTLP_TRACES_PROTOCOL,
    OTEL_EXPORTER_OTLP_TRACES_TIMEOUT,
)

from ttstrace.telemetry.delivery import EXIT_SECONDS
from ttstrace.telemetry.trace_file import DEFAULT_PATH, EXPORTER_NAME, PATH_VARIABLE, metrics_path

if TYPE_CHECKING:
    from ttstrace.telemetry.trace_file import PathLike

# The SDK's names of the exporters.
_EXPORTERS = {"grpc": "otlp_proto_grpc", "http/protobuf": "otlp_proto_http"}
_PROTOCOLS = {name: protocol for protocol, name in _EXPORTERS.items()}
_HOST_AND_PORT = re.compile(r"(?:[^\s:/?#@\[\]]+|\[[0-9A-Fa-f:.]+\]):(\d{1,5})")


@dataclass(frozen=True)
class _Signal:
    path: str
    exporter: str
    endpoint: str
    protocol: str
    timeout: str


_TRACES = _Signal(
    "/v1/traces",
    OTEL_TRACES_EXPORTER,
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT,
    OTEL_EXPORTER_OTLP_TRACES_PROTOCOL,
    OTEL_EXPORTER_OTLP_TRACES_TIMEOUT,
)
_METRICS = _Signal(
    "/v1/metrics",
    OTEL_METRICS_EXPORTER,
    OTEL_EXPORTER_OTLP_METRICS_ENDPOINT,
    OTEL_EXPORTER_OTLP_METRICS_PROTOCOL,
    OTEL_EXPORTER_OTLP_METRICS_TIMEOUT,
)


@dataclass(frozen=True)
class Destination:
    """One exporter: the name that the SDK finds it by, and its constructor's arguments."""

    exporter: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    address: str = ""
    """File or collector; with the exporter's name it tells whether two destinations are the same."""

    @property
    def identity(self) -> tuple[str, str]:
        return self.exporter, self.address


@dataclass(frozen=True)
class Destinations:
    """Where the spans and the metrics of one ``configure()`` go."""

    traces: tuple[Destination, ...]
    metrics: tuple[Destination, ...]
    explicit: bool
    """The arguments said so, so that it is added to an application's own provider, too."""

    @staticmethod
    def file(signal: Sequence[Destination]) -> Destination | None:
        """The first of a signal's destinations that is a trace file."""
        return next((each for each in signal if each.exporter == EXPORTER_NAME), None)

    @staticmethod
    def collector(signal: Sequence[Destination]) -> Destination | None:
        """The first of a signal's destinations that is a collector."""
        return next((each for each in signal if each.exporter in _PROTOCOLS), None)


def resolve(
    endpoint: str | None, protocol: str | None, file: PathLike | None, environ: Mapping[str, str] = os.environ
) -> Destinations:
    """Settle where spans and metrics go. Opens and connects nothing.

    Raises:
        ValueError: the endpoint is no address, or the protocol is unknown, or it has no endpoint to go with.
    """
    if protocol is not None and protocol not in _EXPORTERS:
        raise ValueError(f'Unknown protocol {protocol!r}: use "http/protobuf" or "grpc".')
    if endpoint is not None or file is not None:
        if protocol is not None and endpoint is None:
            raise ValueError(f"protocol={protocol!r} has no endpoint to go with: pass endpoint=..., too.")
        traces: list[Destination] = []
        metrics: list[Destination] = []
        if file is not None:
            path = os.fsdecode(os.fspath(file))
            if not path:
                raise ValueError(f"file is empty: name a file, such as {DEFAULT_PATH!r}, or leave it out.")
            traces.append(_file(path))
            metrics.append(_metrics_file(path))
        if endpoint is not None:
            protocol, address, base = _parse(endpoint, protocol)
            traces.append(_collector(_TRACES, protocol, address, base, environ))
            metrics.append(_collector(_METRICS, protocol, address, base, environ))
        return Destinations(tuple(traces), tuple(metrics), explicit=True)

    path = environ.get(PATH_VARIABLE) or DEFAULT_PATH
    named_traces = _named(_TRACES, protocol, path, environ)
    named_metrics = _named(_METRICS, protocol, path, environ)
    if protocol is not None and not any(each.exporter in _PROTOCOLS for each in named_traces or named_metrics or ()):
        raise ValueError(
            f"protocol={protocol!r} has no endpoint to go with: pass endpoint=..., "
            f"or set {OTEL_EXPORTER_OTLP_ENDPOINT}."
        )
    if named_traces is None:
        named_traces = (_file(path),)
    if named_metrics is None:
        # The metrics of a service whose spans go elsewhere would fill a file that nobody asked for.
        to_file = any(each.exporter == EXPORTER_NAME for each in named_traces)
        named_metrics = (_metrics_file(path),) if to_file else ()
    return Destinations(named_traces, named_metrics, explicit=False)


def _file(path: str) -> Destination:
    path = os.path.abspath(path)
    return Destination(EXPORTER_NAME, {"path": path}, path)


def _metrics_file(path: str) -> Destination:
    return _file(metrics_path(path))


def _parse(endpoint: str, protocol: str | None) -> tuple[str, str, str]:
    """The protocol, the address as it was given, and the base URL that exporters get."""
    address = endpoint.strip()
    fix = "give a URL such as 'http://localhost:4318', or 'host:port' for gRPC"
    if "://" not in address:
        match = _HOST_AND_PORT.fullmatch(address)
        if match is None or int(match.group(1)) > 65535:
            raise ValueError(f"The endpoint {endpoint!r} is neither a URL nor host:port: {fix}.")
        # 4318 is the port of OTLP over HTTP everywhere; any other port alone is gRPC, as in gRPC's own
        # addresses.
        return (
            protocol or ("http/protobuf" if match.group(1) == "4318" else "grpc"),
            address,
            f"http://{address}",
        )
    try:
        url = urlsplit(address)
        port = url.port
    except ValueError as error:
        raise ValueError(f"The endpoint {endpoint!r} is not a valid URL ({error}): {fix}.") from None
    if url.scheme.lower() not in ("http", "https") or not url.hostname or re.search(r"\s", address):
        raise ValueError(f"The endpoint {endpoint!r} is not an http:// or https:// URL: {fix}.")
    return protocol or ("grpc" if port == 4317 else "http/protobuf"), address, address


def _collector(signal: _Signal, protocol: str, address: str, base: str, environ: Mapping[str, str]) -> Destination:
    if protocol == "http/protobuf":
        for path in (_TRACES.path, _METRICS.path):
            base = base.rstrip("/").removesuffix(path)
        base += signal.path
    return Destination(_EXPORTERS[protocol], {"endpoint": base, **_timeout(signal, environ)}, address)


def _timeout(signal: _Signal, environ: Mapping[str, str]) -> dict[str, float]:
    """No longer than the exit waits, so that it is the SDK that gives up, and says so; unless the user set
    one.
    """
    if environ.get(signal.timeout) or environ.get(OTEL_EXPORTER_OTLP_TIMEOUT):
        return {}
    return {"timeout": EXIT_SECONDS}


def _named(
    signal: _Signal, protocol: str | None, path: str, environ: Mapping[str, str]
) -> tuple[Destination, ...] | None:
    """What the variables say about one signal; None where they say nothing."""
    address = environ.get(signal.endpoint) or environ.get(OTEL_EXPORTER_OTLP_ENDPOINT)
    names = environ.get(signal.exporter, "").strip() or ("otlp" if address else "")
    if not names:
        return None
    destinations: dict[str, Destination] = {}
    for name in (each.strip() for each in names.split(",")):
        if name.lower() == "none" or not name:
            continue
        if name == EXPORTER_NAME:
            destination = _file(path) if signal is _TRACES else _metrics_file(path)
        elif name == "otlp" or name in _PROTOCOLS:
            spoken = _PROTOCOLS.get(name) or protocol or _protocol(signal, address, environ)
            default = "http://localhost:4317" if spoken == "grpc" else "http://localhost:4318"
            # The endpoint stays the SDK's to read: of the variables it knows each signal's own rules.
            destination = Destination(_EXPORTERS[spoken], _timeout(signal, environ), address or default)
        else:
            destination = Destination(name)
        destinations[destination.exporter] = destination
    return tuple(destinations.values())


def _protocol(signal: _Signal, address: str | None, environ: Mapping[str, str]) -> str:
    protocol = (environ.get(signal.protocol) or environ.get(OTEL_EXPORTER_OTLP_PROTOCOL) or "").strip()
    if protocol:
        if protocol not in _EXPORTERS:
            raise ValueError(
                f'Unknown protocol {protocol!r} in {OTEL_EXPORTER_OTLP_PROTOCOL}: use "http/protobuf" or "grpc".'
            )
        return protocol
    # The SDK's default, gRPC, would speak it to port 4318 as well.
    try:
        return _parse(address, None)[0] if address else "http/protobuf"
    except ValueError:
        return "http/protobuf"
