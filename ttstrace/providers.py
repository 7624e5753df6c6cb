"""Who listens: the TracerProvider and the MeterProvider that are set now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry import trace

from ttstrace import semconv
from ttstrace._version import __version__
from ttstrace.metrics import instruments

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer, TracerProvider

_tracer: Tracer | None = None
_tracer_provider: TracerProvider | None = None
_sampler_looks = True


def tracer() -> Tracer | None:
    """The tracer of the TracerProvider that is set now; None while there is only the API's own."""
    global _tracer, _tracer_provider, _sampler_looks
    # The public getter makes a call more where one is set.
    provider = getattr(trace, "_TRACER_PROVIDER", None) or trace.get_tracer_provider()
    if provider is not _tracer_provider:
        made = None
        if not type(provider).__module__.startswith("opentelemetry.trace"):
            made = provider.get_tracer(semconv.SCOPE, __version__)
        _sampler_looks = _looks_at_attributes(getattr(provider, "sampler", None))
        _tracer, _tracer_provider = made, provider
    return _tracer


def _looks_at_attributes(sampler: object) -> bool:
    """Whether a sampler may go by a span's first attributes. The SDK's own do not, and then the attributes are cheaper
    set at the end."""
    if type(sampler).__module__ != "opentelemetry.sdk.trace.sampling":
        return True
    name = type(sampler).__name__
    if name.startswith("ParentBased"):
        return _looks_at_attributes(getattr(sampler, "_root", None))
    return name not in ("StaticSampler", "TraceIdRatioBased")


def sampler_looks_at_attributes() -> bool:
    """Whether the sampler behind :func:`tracer` may go by a span's first attributes."""
    return _sampler_looks


def idle() -> bool:
    """Whether nobody listens: neither a TracerProvider nor a MeterProvider is set."""
    return tracer() is None and instruments() is None
