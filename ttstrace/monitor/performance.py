"""Measuring by hand: a block's time, CPU, memory and GPU as a dict, and statistics over many of them."""

from __future__ import annotations

import importlib
import math
import os
import sys
from collections.abc import Iterable, Mapping
from numbers import Real
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ttstrace.monitor.gpu import GpuWindow, close_gpu_window, cuda_in_use, open_gpu_window
from ttstrace.monitor.limits import cpu_limit, memory_limit, total_memory
from ttstrace.monitor.rtf import calculate_rtf, interpret_rtf
from ttstrace.monitor.window import Window, close_window, open_window

if TYPE_CHECKING:
    from ttstrace.monitor.gpu.reading import GpuUsage

_MB = 2**20
_GB = 2**30
_DEVICES = ("auto", "cpu", "cuda")


class PerformanceMonitor:
    """Measures blocks of code, short ones too. They may nest, and overlap on threads and over ``await``.

    Args:
        device: ``cpu``, ``cuda`` or ``auto``: ``cuda`` where this process uses CUDA through torch, else
            ``cpu``. Settled anew at each :meth:`measure`.
        synchronize: wait at both edges of a block until CUDA has done what it was given.

    Raises:
        ValueError: ``device`` is none of the three.
    """

    def __init__(self, device: str = "auto", synchronize: bool = False) -> None:
        if device not in _DEVICES:
            raise ValueError(f"device must be one of {', '.join(map(repr, _DEVICES))}, not {device!r}")
        self.device = device
        self.synchronize = synchronize

    def measure(self) -> Measurement:
        """A context manager around the block to measure.

        It gives a dict that is filled when the block ends, also where it ends with an exception. A key whose
        value cannot be known is missing.

        ``inference_time``: seconds the block took.
        ``peak_memory_mb``: highest resident memory of the process meanwhile, in MB of 2^20 bytes.
        ``memory_method``: only where the kernel's mark cannot be reset, how that peak was found: ``rise`` (the mark
        rose in the block: exact) or ``sampler`` (the highest of readings 5 ms apart: a lower bound).
        ``memory_percent``: that peak, in percent of the memory the process may use (cgroup limit, or RAM).
        ``cpu_percent``: CPU time of the process and its finished children, in percent of ``inference_time``;
        above 100 where more than one core was busy.
        ``device``: ``cuda`` or ``cpu``.

        Where the process uses CUDA through torch and ``device`` is not ``cpu``, figures of torch's current device
        at the start (of the only other one in use, where that one was not used):

        ``gpu_memory_allocated``: MB that tensors hold at the end, by torch's allocator.
        ``gpu_max_memory_mb``: most MB that they held in the block. Opening a block resets the peak that torch
        itself tells, which ``TTSTRACE_MEMORY_RESET=0`` forbids; it is then known where it rose in the block.
        ``gpu_memory_mb``: MB of this process on the card at the end, by NVML; unknown where NVML does not list
        the process, as in a container with pids of its own.
        ``gpu_utilization``: mean utilization of the card in the block, in percent, by NVML's own samples;
        unknown where the block is shorter than their period (1/6 to 1 s on most cards).
        ``gpu_temperature``: of the card at the end, in degrees Celsius.

        NVML is read through ``nvidia-ml-py`` (``pip install 'ttstrace[gpu]'``); GPUtil is not used, as it can
        only tell of the time after a block.

        Raises:
            RuntimeError: ``device`` is ``cuda``, and torch is not there or has no CUDA.
        """
        if self.device == "cuda":
            _require_cuda()
        return Measurement(self.device, self.synchronize)

    calculate_rtf = staticmethod(calculate_rtf)
    interpret_rtf = staticmethod(interpret_rtf)

    def get_system_info(self) -> dict[str, Any]:
        """The machine that this process sees. A key whose value cannot be known is missing.

        ``cpu_count``: logical cores; ``physical_cores``; ``cpu_limit``: cores this process may use, by its affinity
        and its cgroups' quota, where that is less than ``cpu_count``, and may be part of a core;
        ``total_memory_gb``: RAM in GB of 2^30 bytes; ``memory_limit_gb``: the cgroups' limit, where one is set;
        ``python``: its version; ``platform``; ``gpu_name``: torch's current device where CUDA is in use, else NVML's
        first card; ``gpu_count``: by NVML; ``cuda_version``: torch's where torch is loaded, else the driver's. This
        makes no CUDA context.
        """
        from ttstrace.monitor.gpu.system import system_gpus

        total = total_memory()
        limit = memory_limit()
        found = {
            "cpu_count": os.cpu_count(),
            "physical_cores": _physical_cores(),
            "cpu_limit": cpu_limit(),
            "total_memory_gb": None if total is None else total / _GB,
            "memory_limit_gb": None if limit is None else limit / _GB,
            "python": ".".join(map(str, sys.version_info[:3])),
            "platform": importlib.import_module("platform").platform(),
            **system_gpus(),
        }
        return {key: value for key, value in found.items() if value is not None}


class Measurement:
    """One block that :meth:`PerformanceMonitor.measure` measures.

    Raises:
        RuntimeError: it is entered a second time.
    """

    __slots__ = ("_device", "_gpu", "_metrics", "_synchronize", "_window")

    def __init__(self, device: str, synchronize: bool) -> None:
        self._device = device
        self._synchronize = synchronize
        self._metrics: dict[str, Any] = {}
        self._window: Window | None = None
        self._gpu: GpuWindow | None

    def __enter__(self) -> dict[str, Any]:
        if self._window is not None:
            raise RuntimeError(
                "measure() was entered before, and its dict is that block's: call measure() for each block"
            )
        if self._synchronize:
            _synchronize()
        self._gpu = None if self._device == "cpu" else open_gpu_window()
        self._window = open_window()
        return self._metrics

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._synchronize:
            _synchronize()
        usage = close_window(self._window)  # type: ignore[arg-type]
        reading = close_gpu_window(self._gpu)
        metrics = self._metrics
        metrics["inference_time"] = usage.wall
        if usage.memory_peak is not None:
            metrics["peak_memory_mb"] = usage.memory_peak / _MB
            if usage.memory_method != "clear_refs":
                metrics["memory_method"] = usage.memory_method
        if usage.cpu_time is not None and usage.wall > 0:
            metrics["cpu_percent"] = 100 * usage.cpu_time / usage.wall
        if usage.memory_utilization is not None:
            metrics["memory_percent"] = 100 * usage.memory_utilization
        # CUDA may have come into use only inside the block.
        on_cuda = self._device == "cuda" or (self._device == "auto" and _cuda_in_use())
        metrics["device"] = "cuda" if on_cuda else "cpu"
        gpu = None if reading is None else reading.of_current()
        if gpu is not None:
            _add_gpu(metrics, gpu)


def _add_gpu(metrics: dict[str, Any], usage: GpuUsage) -> None:
    for key, value, unit in (
        ("gpu_memory_mb", usage.memory_used, 1 / _MB),
        ("gpu_max_memory_mb", usage.memory_peak, 1 / _MB),
        ("gpu_memory_allocated", usage.memory_allocated, 1 / _MB),
        ("gpu_utilization", usage.utilization, 100.0),
        ("gpu_temperature", usage.temperature, 1.0),
    ):
        if value is not None:
            metrics[key] = value * unit


def summarize(metrics: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Statistics over measurements, for each key that has numbers.

    Args:
        metrics: dicts such as :meth:`PerformanceMonitor.measure` gives. What is no finite number is passed over,
            and ``count`` says how many there were.

    Returns:
        By key: ``count``, ``mean``, ``median``, ``p95``, ``p99``, ``min`` and ``max``. Percentiles are
        interpolated linearly between the two nearest values (Hyndman and Fan's definition 7).
    """
    values: dict[str, list[float]] = {}
    for one in metrics:
        for key, value in one.items():
            if isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value):
                values.setdefault(key, []).append(float(value))
    return {key: _statistics(sorted(of_key)) for key, of_key in values.items()}


def _statistics(values: list[float]) -> dict[str, float]:
    return {
        "count": len(values),
        "mean": math.fsum(values) / len(values),
        "median": _percentile(values, 0.5),
        "p95": _percentile(values, 0.95),
        "p99": _percentile(values, 0.99),
        "min": values[0],
        "max": values[-1],
    }


def _percentile(values: list[float], fraction: float) -> float:
    below, part = divmod(fraction * (len(values) - 1), 1)
    low = values[int(below)]
    return low if part == 0 else low + part * (values[int(below) + 1] - low)


def _cuda_in_use() -> bool:
    try:
        return cuda_in_use() is not None
    except Exception:
        return False


def _require_cuda() -> None:
    try:
        available = bool(importlib.import_module("torch").cuda.is_available())
    except ImportError as error:
        raise RuntimeError("device='cuda' needs torch: install it, or use device='auto' or 'cpu'") from error
    if not available:
        raise RuntimeError("device='cuda', but torch finds no CUDA device: use device='auto' or 'cpu'")


def _synchronize() -> None:
    try:
        cuda = cuda_in_use()
        if cuda is not None:
            cuda.synchronize()
    except Exception:  # the block's own error, perhaps, which the program's next call to CUDA tells as well
        pass


def _physical_cores() -> int | None:
    try:
        cores: int | None = importlib.import_module("psutil").cpu_count(logical=False)
    except Exception:
        return None
    return cores
