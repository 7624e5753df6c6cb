"""GPU windows: what a stretch of the process's life held of a GPU's memory, and what the card did meanwhile.

A window is opened where this process has CUDA initialized through torch, just before the clock of the other figures
starts, and closed after it stopped. Which device its figures are of is known only then, so that what NVML says is read
for that one device alone.

What does the measuring is loaded with the first window: most processes have no GPU.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ttstrace.monitor.gpu.allocator import Mark
    from ttstrace.monitor.gpu.meter import GpuMeter
    from ttstrace.monitor.gpu.reading import GpuReading

_log = logging.getLogger(__name__)


def cuda_in_use() -> Any | None:
    """The module ``torch.cuda``, where this process has initialized CUDA through it; else None.

    Asking whether CUDA is available instead can break it for a process that is forked later. In a child that was
    forked with CUDA initialized, where it cannot be used, this is None.
    """
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    # A module that another thread is still importing lacks the function.
    is_initialized = getattr(cuda, "is_initialized", None)
    return cuda if is_initialized is not None and is_initialized() else None


class GpuWindow:
    """One open measurement. Opaque until closed."""

    __slots__ = ("current", "energies", "marks", "meter", "start")

    def __init__(self, meter: GpuMeter | None) -> None:
        self.meter = meter
        self.marks: list[Mark | None] | None = None
        """Where it begins on each device; None where the ledger does not know the window."""
        self.current: int | None = None
        """torch's current device at the start."""
        self.start: int | None = None
        """Nanoseconds of the wall clock; None for a window that began before CUDA was initialized."""
        self.energies: dict[int, float] = {}


_lock = threading.RLock()
_meter: GpuMeter | None = None
# All windows that began before CUDA was initialized in this process are this one: they cost nothing.
_before_cuda = GpuWindow(None)


def gpu_meter() -> GpuMeter:
    """What this process measures its GPUs with; made with the first question."""
    global _meter
    if _meter is None:
        from ttstrace.monitor.gpu.meter import GpuMeter

        with _lock:
            if _meter is None:
                _meter = GpuMeter()
    return _meter


def load_nvml() -> None:
    """Load NVML where windows are about to be opened, and it is not loaded yet: that may take a while. Never raises."""
    if "torch" in sys.modules and (_meter is None or not _meter.nvml.tried):
        try:
            if cuda_in_use() is not None:
                gpu_meter().nvml.module()
        except Exception:  # it will be told when the window is opened
            pass


def open_gpu_window() -> GpuWindow | None:
    """Open a window, on any thread. The caller closes it or discards it, once, on any thread.

    Resets the peak of torch's allocator on the devices where this process has memory, which
    ``TTSTRACE_MEMORY_RESET=0`` forbids. Never raises.

    Returns:
        The window; None where torch fails to answer, and there will be no figures.
    """
    if "torch" not in sys.modules:
        return _before_cuda
    try:
        cuda = cuda_in_use()
        return _before_cuda if cuda is None else gpu_meter().open(cuda)
    except Exception as error:
        _log.debug("no figures of the GPU: %s", type(error).__name__)
        return None


def close_gpu_window(window: GpuWindow | None) -> GpuReading | None:
    """Close a window. Never raises.

    Returns:
        What was read; None where there is nothing: CUDA is not in use, torch fails to answer, or the window
        came through a fork.
    """
    if window is None or (window is _before_cuda and "torch" not in sys.modules):
        return None
    end = time.time_ns()
    try:
        cuda = cuda_in_use()
        if cuda is None:
            return None
        if window is _before_cuda:
            return gpu_meter().read_since_ever(cuda, end)
        meter = window.meter
        return None if meter is None else meter.read(cuda, window, end)
    except Exception as error:
        _log.debug("no figures of the GPU: %s", type(error).__name__)
        return None
    finally:
        discard_gpu_window(window)


def discard_gpu_window(window: GpuWindow | None) -> None:
    """Let go of a window whose figures nobody wants, in place of closing it. Of one that is closed nothing is left."""
    if window is not None and window.marks is not None and (meter := window.meter) is not None and meter is _meter:
        meter.ledger.discard(window)


def _begin_in_child() -> None:
    global _lock, _meter, _before_cuda
    _lock = threading.RLock()
    _meter = None
    _before_cuda = GpuWindow(None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_in_child)
