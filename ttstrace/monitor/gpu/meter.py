"""What one process measures its GPUs with, loaded where CUDA is in use; a forked child gets a new :class:`GpuMeter`."""

from __future__ import annotations

import logging
import time
from typing import Any, NamedTuple

from ttstrace.monitor.gpu.allocator import Held, Ledger
from ttstrace.monitor.gpu.nvml import Nvml, NvmlCard
from ttstrace.monitor.gpu.reading import GpuReading
from ttstrace.monitor.gpu.window import GpuWindow, discard_gpu_window

_log = logging.getLogger(__name__)


class Card(NamedTuple):
    """A device of torch's, as a card."""

    name: str | None
    nvml: NvmlCard | None
    """None where NVML is not to be had, or does not know it."""


class GpuMeter:
    """The allocator's ledger, NVML, and which card is which device."""

    __slots__ = ("_cards", "ledger", "nvml")

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.nvml = Nvml()
        self._cards: dict[int, Card] = {}

    def card(self, cuda: Any, device: int) -> Card:
        """The card behind a device. Asked for devices in use only, and once."""
        found = self._cards.get(device)
        if found is None:
            properties = cuda.get_device_properties(device)
            name = getattr(properties, "name", None)
            found = Card(name if isinstance(name, str) else None, self.nvml.card(properties))
            if self.nvml.tried:
                self._cards[device] = found
        return found

    def open(self, cuda: Any) -> GpuWindow:
        """Begin a window."""
        window = GpuWindow(self)
        self.nvml.module()  # loaded before anything is measured
        window.marks = self.ledger.open(cuda)
        try:
            window.current = int(cuda.current_device())
            for device, mark in enumerate(window.marks or ()):
                if device == window.current if mark is None else mark.used:
                    nvml = self.card(cuda, device).nvml
                    energy = None if nvml is None else nvml.energy()
                    if energy is not None:
                        window.energies[device] = energy
            window.start = time.time_ns()
        except Exception as error:  # the allocator's figures stand all the same
            _log.debug("no energy of the GPU: %s", type(error).__name__)
            window.start = time.time_ns()
        except BaseException:  # an interruption: nobody gets the window
            discard_gpu_window(window)
            raise
        return window

    def read(self, cuda: Any, window: GpuWindow, end: int) -> GpuReading:
        """What is known of a window that ended at `end`; then it is to be discarded."""
        if window.marks is None:
            held = [Held(None, None, None)] * int(cuda.device_count())
        else:
            held = self.ledger.held(cuda, window.marks)
        return GpuReading(window, cuda, held, end)

    def read_since_ever(self, cuda: Any, end: int) -> GpuReading:
        """What is known of a window that began before CUDA was initialized, and so before all that is here."""
        return GpuReading(GpuWindow(self), cuda, self.ledger.since_ever(cuda), end)
