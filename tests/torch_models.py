"""What tests of models on torch share: what a span says, a consumer at its own pace, truth of times."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import operator
import sys
import time
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

import pytest
from conftest import Spans
from opentelemetry.trace import SpanKind, StatusCode

import ttstrace
from ttstrace import semconv

torch = pytest.importorskip("torch")
# Tiny models: several threads only wait for each other, for seconds where the machine is busy.
torch.set_num_threads(1)

# torchaudio's wheels are built for CUDA, and their libraries do not load without. What is used of it here is Python,
# which does without them where they are not there.
if "torchaudio" not in sys.modules:
    _extension: Any = ModuleType("torchaudio._extension")
    _extension._IS_TORCHAUDIO_EXT_AVAILABLE = False
    _extension.fail_if_no_align = lambda function: function
    sys.modules[_extension.__name__] = _extension


def prepare_for(name: str) -> None:
    """Skip where a library is not installed: only there, not where something else is missing."""
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed", allow_module_level=True)


def library(name: str) -> Any:
    """A library, whose tests skip where it is not installed."""
    prepare_for(name)
    return importlib.import_module(name)


class _Unused(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def leave_out(*names: str) -> None:
    """Stand in for modules that a library imports, but does not use for speech: training, downloads."""
    for name in names:
        sys.modules.setdefault(name, _Unused(name))


def check(spans: Spans, **expected: Any) -> dict[str, Any]:
    """The attributes of the one span: of a local synthesis that went well, with these among them; None is absent."""
    span = spans.one()
    attributes = dict(span.attributes or {})
    assert span.kind is SpanKind.INTERNAL
    assert span.status.status_code is StatusCode.UNSET
    told = {name.replace("__", "."): value for name, value in expected.items()}
    found = {name: attributes.get(name) for name in told}
    assert found == told, {name: (found[name], told[name]) for name in told if found[name] != told[name]}
    assert semconv.SERVER_ADDRESS not in attributes
    return attributes


def check_failed(spans: Spans, error: type[BaseException]) -> dict[str, Any]:
    """The attributes of the one span, of a synthesis that failed."""
    span = spans.one()
    attributes = dict(span.attributes or {})
    assert span.status.status_code is StatusCode.ERROR
    assert attributes[semconv.ERROR_TYPE] == error.__qualname__
    assert semconv.TTS_AUDIO_DURATION not in attributes
    assert semconv.TTS_RTF not in attributes
    return attributes


def check_put_back(name: str) -> None:
    """An integration leaves every callable that it patched as it found it, identical."""
    (entry,) = importlib.metadata.entry_points(group="opentelemetry_instrumentor", name=f"ttstrace_{name}")

    def held() -> list[object]:
        found = []
        for patch in entry.load().patches:
            owner = operator.attrgetter(patch.owner)(importlib.import_module(patch.module))
            found.append(vars(owner)[patch.attribute])
        return found

    ttstrace.uninstrument()
    before = held()
    ttstrace.instrument(name)
    assert not any(one is other for one, other in zip(before, held(), strict=True))
    ttstrace.uninstrument(name)
    assert all(one is other for one, other in zip(before, held(), strict=True))


class Stopwatch:
    """The seconds that a callable takes, all its calls together."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
        self.seconds = 0.0
        monkeypatch.setattr(owner, name, self._timed(getattr(owner, name)))

    def _timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            begun = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - begun

        return timed


def paced(stream: Iterable[Any], hold: float) -> tuple[list[Any], float]:
    """The chunks of a stream whose consumer takes some seconds with each, and the seconds spent in pulls."""
    chunks = []
    pulled = 0.0
    pulls = iter(stream)
    while True:
        begun = time.perf_counter()
        chunk = next(pulls, None)
        pulled += time.perf_counter() - begun
        if chunk is None:
            return chunks, pulled
        chunks.append(chunk)
        time.sleep(hold)
