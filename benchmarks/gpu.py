"""What the GPU's figures say of a truth that is known, on a machine that has one: `python benchmarks/gpu.py`.

A block of known size is allocated and freed, and a convolution runs for a time that CUDA's own events tell. Both are
measured by PerformanceMonitor, by a span of a plain call and by a span of a stream; each figure is printed next to
what it should be. Where there is no GPU, it says so.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

from ttstrace import PerformanceMonitor, semconv, traced_synthesis

MB = 2**20
PCM = bytes(48_000)


class Keep(SpanProcessor):
    """The span that ended last."""

    last: ReadableSpan

    def on_end(self, span: ReadableSpan) -> None:
        self.last = span


def gpu() -> Any | None:
    """torch, where it finds a CUDA device; else None, and why is printed."""
    try:
        torch: Any = importlib.import_module("torch")
    except ImportError:
        print("no GPU: torch is not installed")
        return None
    if not torch.cuda.is_available():
        print("no GPU: torch finds no CUDA device")
        return None
    return torch


class Work:
    """Memory and work of known size on the current device."""

    def __init__(self, torch: Any, size: int, seconds: float) -> None:
        self.torch = torch
        self.size = size
        self.signal = torch.randn(1, 64, 1 << 18, device="cuda")
        self.kernel = torch.randn(64, 64, 15, device="cuda")
        self.convolve(3)  # compiled and loaded
        self.times = max(1, round(seconds / (self.seconds(lambda: self.convolve(20)) / 20)))
        self.truth = 0.0

    def convolve(self, times: int) -> None:
        for _ in range(times):
            self.torch.nn.functional.conv1d(self.signal, self.kernel, padding=7)

    def seconds(self, work: Callable[[], None]) -> float:
        """How long the card was at it, by its own clock."""
        start, end = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / 1000

    def __call__(self) -> None:
        block = self.torch.empty(self.size, dtype=self.torch.uint8, device="cuda")
        del block
        self.truth = self.seconds(lambda: self.convolve(self.times))

    def needed(self) -> int:
        """Most bytes that one run holds above what is held now."""
        cuda = self.torch.cuda
        cuda.reset_peak_memory_stats()
        before = cuda.memory_allocated()
        self()
        return int(cuda.max_memory_allocated() - before)


def row(way: str, figure: str, value: Any, truth: Any) -> None:
    def shown(number: Any) -> str:
        return "absent" if number is None else f"{number:,.4g}" if isinstance(number, float) else str(number)

    print(f"{way:<10}{figure:<26}{shown(value):>14}   {shown(truth)}")


def rows(way: str, figures: dict[str, Any], work: Work, expected: int) -> None:
    held = work.torch.cuda.memory_allocated()
    row(way, "peak, MB", figures.get("peak"), (held + expected) / MB)
    row(way, "allocated, MB", figures.get("allocated"), held / MB)
    row(way, "used by NVML, MB", figures.get("used"), f"above {work.torch.cuda.memory_reserved() / MB:.0f}")
    row(way, "seconds", figures.get("seconds"), work.truth)
    row(way, "utilization", figures.get("utilization"), "near 1")
    row(way, "temperature, Cel", figures.get("temperature"), "see nvidia-smi")
    if way != "monitor":
        row(way, "energy, J", figures.get("energy"), "power x seconds")
        row(way, "card", figures.get("card"), work.torch.cuda.get_device_name())


def of_monitor(work: Work) -> dict[str, Any]:
    with PerformanceMonitor(device="cuda", synchronize=True).measure() as metrics:
        work()
    percent = metrics.get("gpu_utilization")
    return {
        "peak": metrics.get("gpu_max_memory_mb"),
        "allocated": metrics.get("gpu_memory_allocated"),
        "used": metrics.get("gpu_memory_mb"),
        "seconds": metrics["inference_time"],
        "utilization": None if percent is None else percent / 100,
        "temperature": metrics.get("gpu_temperature"),
    }


def of_span(span: ReadableSpan) -> dict[str, Any]:
    attributes = dict(span.attributes or {})

    def megabytes(name: str) -> float | None:
        value: Any = attributes.get(name)
        return None if value is None else value / MB

    return {
        "peak": megabytes(semconv.TTS_GPU_MEMORY_PEAK),
        "allocated": megabytes(semconv.TTS_GPU_MEMORY_ALLOCATED),
        "used": megabytes(semconv.TTS_GPU_MEMORY_USED),
        "seconds": attributes.get(semconv.TTS_SYNTHESIS_DURATION),
        "utilization": attributes.get(semconv.TTS_GPU_UTILIZATION),
        "temperature": attributes.get(semconv.TTS_GPU_TEMPERATURE),
        "energy": attributes.get(semconv.TTS_GPU_ENERGY),
        "card": attributes.get(semconv.HW_NAME),
    }


def positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def main() -> int:
    parser = argparse.ArgumentParser(description="The GPU's figures against a truth that is known.")
    parser.add_argument("--megabytes", type=positive, default=512, help="size of the allocation, 2^20 bytes each")
    parser.add_argument("--seconds", type=positive, default=2, help="about how long the card is kept at work")
    options = parser.parse_args()
    torch = gpu()
    if torch is None:
        return 0
    keep = Keep()
    provider = TracerProvider()
    provider.add_span_processor(keep)
    trace.set_tracer_provider(provider)
    work = Work(torch, int(options.megabytes * MB), options.seconds)

    @traced_synthesis(sample_rate=24_000, format="pcm_s16le", device="cuda")
    def plain(text: str) -> bytes:
        work()
        return PCM

    @traced_synthesis(sample_rate=24_000, format="pcm_s16le", device="cuda", producer="pull")
    def streamed(text: str) -> Iterator[bytes]:
        yield PCM
        work()
        yield PCM

    expected = work.needed()
    info = PerformanceMonitor().get_system_info()
    print(", ".join(f"{key}: {info.get(key, 'unknown')}" for key in ("gpu_name", "gpu_count", "cuda_version")))
    print(f"{'':<10}{'figure':<26}{'measured':>14}   truth")
    rows("monitor", of_monitor(work), work, expected)
    plain("hello")
    rows("plain", of_span(keep.last), work, expected)
    for _ in streamed("hello"):
        pass
    rows("streamed", of_span(keep.last), work, expected)
    return 0


if __name__ == "__main__":
    sys.exit(main())
