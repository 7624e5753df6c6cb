"""A stand-in for `torch.cuda`, for machines without a GPU: streams that take their time, an allocator that counts.

It is entered as `torch` in `sys.modules`. Where the real torch is installed, `test_standin_cuda.py` holds every name
and signature here against it. Kernels "run" on a stream's own clock: `launch` returns at once, and the stream is busy
until then, as on a real card.
"""

from __future__ import annotations

import os
import sys
import time
import types
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Card:
    """One GPU as torch sees it, under torch's index."""

    uuid: uuid.UUID
    name: str = "Stand-in GPU"
    total_memory: int = 16 * 2**30
    pci_bus_id: int = 1
    pci_device_id: int = 0
    pci_domain_id: int = 0
    context: bool = False
    """Something ran or was allocated there: a CUDA context exists, some 300 MB on a real card."""
    allocated: int = 0
    peak: int = 0
    reserved: int = 0
    """From the driver: kept when tensors are freed, until `empty_cache`."""
    reserved_peak: int = 0
    resets: int = 0
    busy_until: float = 0.0


class Device:
    def __init__(self, type: str, index: int | None = None) -> None:
        self.type = type
        self.index = index

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"


class Stream:
    def __init__(self, device: Device) -> None:
        self.device = device


class Tensor:
    """As much of a tensor as may be looked at without copying it to the host."""

    def __init__(self, cuda: StandIn, device: Device, *shape: int, dtype: str = "torch.float32") -> None:
        self._cuda = cuda
        self.device = device
        self.shape = shape
        self.dtype = dtype
        self.is_cuda = device.type == "cuda"

    def _copied(self, *_: object, **__: object) -> Any:
        raise AssertionError("copied to the host by somebody who may not")

    __array__ = __getitem__ = __iter__ = __len__ = tolist = item = numpy = __float__ = __bool__ = _copied

    def cpu(self) -> Tensor:
        """What the program does itself: waits until the card is done."""
        self._cuda.wait(self.device.index or 0)
        return Tensor(self._cuda, Device("cpu"), *self.shape, dtype=self.dtype)


@dataclass
class StandIn:
    """The cards, and what was asked of them."""

    cards: list[Card]
    initialized: bool = True
    available: bool = True
    current: int = 0
    synchronized: int = 0
    events: int = 0
    capturing: bool = False
    captures_broken: int = 0
    """Times that the current stream was asked for what it may not be while it captures."""
    captured_events: int = 0
    process: int = field(default_factory=os.getpid)
    """The one that initialized CUDA: in a process forked from it, CUDA cannot be used."""
    forbidden: list[str] = field(default_factory=list)
    """What was called in such a process."""
    module: Any = field(default=None)

    def is_initialized(self) -> bool:
        return self.initialized and self.process == os.getpid()

    def initialize(self, caller: str = "") -> None:
        if not self.available:
            raise RuntimeError("No CUDA GPUs are available")
        if not self.initialized:
            self.initialized, self.process = True, os.getpid()
        elif self.process != os.getpid():
            self.forbidden.append(caller)
            raise RuntimeError("Cannot re-initialize CUDA in forked subprocess.")

    def launch(self, seconds: float, device: int = 0) -> None:
        """A kernel of known length: returns at once."""
        self.initialize()
        card = self.cards[device]
        card.context = True
        card.busy_until = max(time.perf_counter(), card.busy_until) + seconds

    def wait(self, device: int = 0) -> None:
        while (left := self.cards[device].busy_until - time.perf_counter()) > 0:
            time.sleep(left)

    def allocate(self, size: int, device: int = 0) -> None:
        self.initialize()
        card = self.cards[device]
        card.context = True
        card.allocated += size
        card.peak = max(card.peak, card.allocated)
        card.reserved = max(card.reserved, card.allocated)
        card.reserved_peak = max(card.reserved_peak, card.reserved)

    def free(self, size: int, device: int = 0) -> None:
        self.cards[device].allocated -= size

    def empty_cache(self, device: int = 0) -> None:
        self.cards[device].reserved = self.cards[device].allocated

    def tensor(self, *shape: int, device: int = 0, dtype: str = "torch.float32") -> Tensor:
        return Tensor(self, Device("cuda", device), *shape, dtype=dtype)


def _index(standin: StandIn, device: Any) -> int:
    if device is None:
        return standin.current
    if isinstance(device, int):
        return device
    index = getattr(device, "index", None)
    return standin.current if index is None else int(index)


def _module(standin: StandIn) -> Any:
    cuda: Any = types.ModuleType("torch.cuda")

    class Event:
        def __init__(self, enable_timing: bool = False) -> None:
            self.enable_timing = enable_timing
            self.time: float | None = None
            standin.events += 1

        def record(self, stream: Stream | None = None) -> None:
            index = standin.current if stream is None else _index(standin, stream.device)
            card = standin.cards[index]
            card.context = True  # as on a real card, this makes one
            if standin.capturing:  # a node of the graph: no event that can be asked
                standin.captured_events += 1
            self.time = max(time.perf_counter(), card.busy_until)

        def query(self) -> bool:
            if standin.capturing:
                standin.captures_broken += 1
                raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
            return self.time is None or time.perf_counter() >= self.time

        def elapsed_time(self, end_event: Event) -> float:
            """Milliseconds."""
            if not (self.enable_timing and end_event.enable_timing):
                raise ValueError("Both events must be created with argument 'enable_timing=True'.")
            if self.time is None or end_event.time is None or not (self.query() and end_event.query()):
                raise RuntimeError("CUDA error: device not ready")
            return (end_event.time - self.time) * 1000

        def synchronize(self) -> None:
            standin.synchronized += 1
            time.sleep(max(0.0, (self.time or 0.0) - time.perf_counter()))

    def memory_stats_as_nested_dict(device: Any = None) -> dict[str, Any]:
        if not standin.is_initialized():
            return {}
        card = standin.cards[_index(standin, device)]
        held = {"current": card.allocated, "peak": card.peak, "allocated": 0, "freed": 0}
        reserved = {"current": card.reserved, "peak": card.reserved_peak, "allocated": 0, "freed": 0}
        return {"allocated_bytes": {"all": held}, "reserved_bytes": {"all": reserved}}

    def reset_peak_memory_stats(device: Any = None) -> None:
        standin.initialize("reset_peak_memory_stats")
        card = standin.cards[_index(standin, device)]
        card.peak = card.allocated
        card.reserved_peak = card.reserved
        card.resets += 1

    def current_stream(device: Any = None) -> Stream:
        standin.initialize("current_stream")
        return Stream(Device("cuda", _index(standin, device)))

    def synchronize(device: Any = None) -> None:
        standin.initialize("synchronize")
        standin.synchronized += 1
        standin.wait(_index(standin, device))

    def get_device_properties(device: Any = None) -> Card:
        standin.initialize("get_device_properties")
        return standin.cards[_index(standin, device)]

    def current_device() -> int:
        standin.initialize("current_device")
        return standin.current

    def device_count() -> int:
        if standin.initialized and not standin.is_initialized():
            standin.forbidden.append("device_count")
        return len(standin.cards)

    cuda.Event = Event
    cuda.is_initialized = standin.is_initialized
    cuda.is_available = lambda: standin.available
    cuda.device_count = device_count
    cuda.is_current_stream_capturing = lambda: standin.capturing
    cuda.current_device = current_device
    cuda.memory_stats_as_nested_dict = memory_stats_as_nested_dict
    cuda.reset_peak_memory_stats = reset_peak_memory_stats
    cuda.current_stream = current_stream
    cuda.synchronize = synchronize
    cuda.get_device_properties = get_device_properties
    torch: Any = types.ModuleType("torch")
    torch.cuda = cuda
    torch.Tensor = Tensor
    torch.version = types.SimpleNamespace(cuda="12.6")
    return torch


@contextmanager
def standin_cuda(*cards: Card, initialized: bool = True) -> Iterator[StandIn]:
    """`torch` is the stand-in inside, with these cards (one, if none is given)."""
    standin = StandIn(list(cards) or [Card(uuid.UUID(int=1))], initialized=initialized)
    standin.module = _module(standin)
    before = {name: module for name, module in sys.modules.items() if name == "torch" or name.startswith("torch.")}
    for name in before:
        del sys.modules[name]
    sys.modules["torch"] = standin.module
    sys.modules["torch.cuda"] = standin.module.cuda
    try:
        yield standin
    finally:
        for name in [name for name in sys.modules if name == "torch" or name.startswith("torch.")]:
            del sys.modules[name]
        sys.modules.update(before)
