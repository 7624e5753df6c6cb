"""OpenTelemetry for text-to-speech: one span per synthesis that tells the truth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ttstrace._version import __version__
from ttstrace.decorator import traced_synthesis
from ttstrace.manual import synthesis
from ttstrace.monitor import PerformanceMonitor, summarize
from ttstrace.stages import stage

if TYPE_CHECKING:
    from ttstrace.instrumentor import instrument, uninstrument
    from ttstrace.models import GTTSWrapper
    from ttstrace.telemetry import configure

__all__ = [
    "GTTSWrapper",
    "PerformanceMonitor",
    "__version__",
    "configure",
    "instrument",
    "stage",
    "summarize",
    "synthesis",
    "traced_synthesis",
    "uninstrument",
]

# What these need (the SDK, the instrumentation base, a TTS library) is loaded with their first use, not with ttstrace.
_LAZY = {
    "GTTSWrapper": "ttstrace.models",
    "configure": "ttstrace.telemetry",
    "instrument": "ttstrace.instrumentor",
    "uninstrument": "ttstrace.instrumentor",
}


def __getattr__(name: str) -> Any:
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module 'ttstrace' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_LAZY))
