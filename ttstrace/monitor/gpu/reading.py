"""What was read of the GPUs when a window closed, and the figures of the one device that is meant."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any, Final

from ttstrace.monitor.gpu.allocator import Held
from ttstrace.monitor.gpu.nvml import NvmlCard

if TYPE_CHECKING:
    from ttstrace.monitor.gpu.window import GpuWindow

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
            _log.debug("no figures of the GPU: %s", type(error).__name__)
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
            _log.debug("no figures of the GPU: %s", type(error).__name__)
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
        name: str | None = None
        nvml: NvmlCard | None = None
        if window.meter is not None:
            try:
                name, nvml = window.meter.card(self._cuda, device)
            except Exception:
                pass
        usage.name = name
        if nvml is not None:
            usage.memory_used = nvml.memory_used()
            usage.temperature = nvml.temperature()
            if window.start is not None:
                usage.utilization = nvml.utilization(window.start, self._end)
            before, after = window.energies.get(device), nvml.energy()
            if before is not None and after is not None and after > before:
                usage.energy = after - before
        return usage
