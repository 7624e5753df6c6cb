"""GPU windows: what a stretch of the process's life held of a GPU's memory, and what the card did meanwhile.

A window is opened where this process has CUDA initialized through torch, just before the clock of the other figures
starts, and closed after it stopped. Which device its figures are of is known only then, so that what NVML says is read
for that one device alone.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from typing import Any, Final

from ttstrace.monitor.gpu.allocator import Held, Mark, cuda_in_use
from ttstrace.monitor.gpu.meter import Card, GpuMeter

_log = logging.getLogger(__name__)
_CUDA_DEVICE: Final = re.compile(r"cuda(?::(\d+))?")


class GpuUsage:
    """What was used of one device in one window. None is unknown."""

    __slots__ = (
        "energy", "memory_allocated", "memory_peak", "memory_used", "name", "temperature", "utilization",
    )  # fmt: skip

    name: str | None
    """The card's, as torch gives it."""
    memory_allocated: int | None
    """Bytes that tensors of this process hold at the end, by torch's allocator."""
    memory_peak: int | None
    """Most bytes that they held in the window."""
    memory_used: int | None
    """Bytes of this process on the card at the end, by NVML: the allocator's reserve and CUDA's own included."""
    utilization: float | None
    """Mean of the card's utilization samples that lie in the window, 1.0 = always busy; of all who use the card."""
    temperature: int | None
    """Of the card at the end, in degrees Celsius."""
    energy: float | None
    """Joules that the whole card used in the window; None where its counter did not move."""


class GpuWindow:
    """One open measurement. Opaque until closed."""

    __slots__ = ("current", "energies", "marks", "meter", "start")

    def __init__(self, meter: GpuMeter) -> None:
        self.meter = meter
        self.marks: list[Mark | None] | None = None
        """Where it begins on each device; None where the ledger does not know the window."""
        self.current: int | None = None
        """torch's current device at the start."""
        self.start: int | None = None
        """Nanoseconds of the wall clock; None for a window that began before CUDA was initialized."""
        self.energies: dict[int, float] = {}


_meter = GpuMeter()
# All windows that began before CUDA was initialized in this process are this one: they cost nothing.
_before_cuda = GpuWindow(_meter)


def gpu_meter() -> GpuMeter:
    """What this process measures its GPUs with."""
    return _meter


def load_nvml() -> None:
    """Load NVML where windows are about to be opened, and it is not loaded yet: that may take a while. Never raises."""
    if "torch" in sys.modules and not _meter.nvml.tried:
        try:
            if cuda_in_use() is not None:
                _meter.nvml.module()
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
        return _before_cuda if cuda is None else _open(GpuWindow(_meter), cuda)
    except Exception as error:
        _log.debug("no figures of the GPU: %s: %s", type(error).__name__, error)
        return None


def _open(window: GpuWindow, cuda: Any) -> GpuWindow:
    meter = window.meter
    meter.nvml.module()  # loaded before anything is measured
    window.marks = meter.ledger.open(cuda)
    try:
        window.current = int(cuda.current_device())
        for device, mark in enumerate(window.marks or ()):
            if device == window.current if mark is None else mark.used:
                nvml = meter.card(cuda, device).nvml
                energy = None if nvml is None else nvml.energy()
                if energy is not None:
                    window.energies[device] = energy
    except Exception as error:  # the allocator's figures stand all the same
        _log.debug("no energy of the GPU: %s: %s", type(error).__name__, error)
    window.start = time.time_ns()
    return window


def close_gpu_window(window: GpuWindow | None) -> GpuReading | None:
    """Close a window. Never raises.

    Returns:
        What was read; None where there is nothing: CUDA is not in use, torch fails to answer, or the window
        came through a fork.
    """
    if window is None or window.meter is not _meter:
        return None
    before_cuda = window is _before_cuda
    if before_cuda and "torch" not in sys.modules:
        return None
    end = time.time_ns()
    ledger, marks = window.meter.ledger, window.marks
    try:
        cuda = cuda_in_use()
        if cuda is None:
            return None
        if before_cuda:
            held = ledger.since_ever(cuda)
        elif marks is None:
            held = [Held(None, None, None)] * int(cuda.device_count())
        else:
            held = ledger.held(cuda, marks)
        return GpuReading(window, cuda, held, end)
    except Exception as error:
        _log.debug("no figures of the GPU: %s: %s", type(error).__name__, error)
        return None
    finally:
        if marks is not None:
            ledger.discard()


def discard_gpu_window(window: GpuWindow | None) -> None:
    """Let go of a window whose figures nobody wants, in place of closing it."""
    if window is not None and window.marks is not None:
        window.meter.ledger.discard()


class GpuReading:
    """What was read when a window closed, before it is known which device is meant. Nothing here raises."""

    __slots__ = ("_cuda", "_end", "_held", "_window")

    def __init__(self, window: GpuWindow, cuda: Any, held: list[Held], end: int) -> None:
        self._window = window
        self._cuda = cuda
        self._held = held
        self._end = end

    def of_model(self, device: object, result: object) -> GpuUsage | None:
        """Figures of the device that a model is on.

        Args:
            device: ``cuda``, which is torch's current device at the start, or ``cuda:1``; None where it is unknown.
            result: what the model returned, which may say where it is.

        Returns:
            None where the model is not on a GPU, or several are in use and it is unknown which.
        """
        try:
            if device is None:
                place = str(getattr(result, "device", ""))
                device = place if place.startswith("cuda") else None
            if device is None:
                return self._usage(self._only())
            named = _CUDA_DEVICE.fullmatch(str(device))
            if named is None:
                return None
            return self._usage(int(named[1])) if named[1] else self.of_current()
        except Exception as error:
            _log.debug("no figures of the GPU: %s: %s", type(error).__name__, error)
            return None

    def of_current(self) -> GpuUsage | None:
        """Figures of torch's current device at the start; if it was not used and one other was, of that."""
        try:
            current = self._window.current
            if current is None:
                current = int(self._cuda.current_device())
            in_use = current < len(self._held) and self._held[current].used is not False
            return self._usage(current if in_use else self._only())
        except Exception as error:
            _log.debug("no figures of the GPU: %s: %s", type(error).__name__, error)
            return None

    def _only(self) -> int | None:
        """The one device in use; those where the allocator does not say may be."""
        used = [device for device, held in enumerate(self._held) if held.used is not False]
        return used[0] if len(used) == 1 else None

    def _usage(self, device: int | None) -> GpuUsage | None:
        if device is None or device >= len(self._held) or self._held[device].used is False:
            return None
        window, held = self._window, self._held[device]
        usage = GpuUsage()
        usage.memory_allocated = held.allocated
        usage.memory_peak = held.peak
        usage.memory_used = usage.utilization = usage.temperature = usage.energy = None
        try:
            card = window.meter.card(self._cuda, device)
        except Exception:
            card = Card(None, None)
        usage.name = card.name
        nvml = card.nvml
        if nvml is not None:
            usage.memory_used = nvml.memory_used()
            usage.temperature = nvml.temperature()
            if window.start is not None:
                usage.utilization = nvml.utilization(window.start, self._end)
            before, after = window.energies.get(device), nvml.energy()
            if before is not None and after is not None and after > before:
                usage.energy = after - before
        return usage


def _begin_in_child() -> None:
    global _meter, _before_cuda
    _meter = GpuMeter()
    _before_cuda = GpuWindow(_meter)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_in_child)
