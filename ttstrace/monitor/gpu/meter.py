"""What one process measures its GPUs with; a forked child gets a new :class:`GpuMeter`."""

from __future__ import annotations

from typing import Any, NamedTuple

from ttstrace.monitor.gpu.allocator import Ledger
from ttstrace.monitor.gpu.nvml import Nvml, NvmlCard


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
