"""What NVML, the library under nvidia-smi, says of a card and of this process there; by way of ``nvidia-ml-py``.

GPUtil, which knows less, is no way around it: it runs nvidia-smi, whose snapshot comes after the window it would be
told of, and it does not import on Python 3.12 and later.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import threading
from typing import Any, Final

_log = logging.getLogger(__name__)

# Codes of NVML after which there is no sense in asking again: not supported, no such function in this driver.
_NEVER: Final = (3, 13)
_UNSIGNED: Final = (1, 2, 3)  # NVML_VALUE_TYPE_UNSIGNED_INT, _LONG and _LONG_LONG: the low bits lie in one place
_LOOK_BACK: Final = 2_000_000  # microseconds, above NVML's sampling period


class NvmlCard:
    """One card, or one part of a card that is divided by MIG. What NVML does not say is None."""

    __slots__ = ("_handle", "_module", "_part", "_refused")

    def __init__(self, module: Any, handle: Any, part: bool) -> None:
        self._module = module
        self._handle = handle
        self._part = part  # utilization, temperature and energy are the whole card's: not told of a part
        self._refused: set[str] = set()

    def _ask(self, function: str, *arguments: Any) -> Any:
        if function in self._refused:
            return None
        try:
            return getattr(self._module, function)(self._handle, *arguments)
        except Exception as error:
            # Without a code it is none of NVML's, but a binding or a driver that is too old.
            if getattr(error, "value", None) in (None, *_NEVER):
                self._refused.add(function)
            return None

    def memory_used(self) -> int | None:
        """Bytes that this process uses there; None where it is not listed, as in a container with pids of its own."""
        pid = os.getpid()
        found = []
        for function in ("nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetGraphicsRunningProcesses"):
            listed = self._ask(function) or ()
            sizes = [process.usedGpuMemory for process in listed if process.pid == pid]
            if not sizes or None in sizes or not all(_lives_here(process.pid) for process in listed):
                continue
            found.append(sum(sizes))
        # A process that computes and draws is in both lists, with the same memory.
        return max(found, default=None)

    def energy(self) -> float | None:
        """Joules the card used since its driver was loaded. The counter moves about every 0.1 s."""
        millijoules = None if self._part else self._ask("nvmlDeviceGetTotalEnergyConsumption")
        return None if millijoules is None else float(millijoules) / 1000

    def temperature(self) -> int | None:
        """Degrees Celsius."""
        return None if self._part else self._ask("nvmlDeviceGetTemperature", 0)  # NVML_TEMPERATURE_GPU

    def utilization(self, start: int, end: int) -> float | None:
        """Mean of the card's utilization samples between two instants, 1.0 = always busy.

        Args:
            start, end: nanoseconds of the wall clock. Where that is shorter than NVML's sampling period (1/6 to
                1 s on most cards), a sample would tell of the time before: None.
        """
        if self._part:
            return None
        start, end = start // 1000, end // 1000
        answer: Any = self._ask("nvmlDeviceGetSamples", 1, max(0, start - _LOOK_BACK))  # NVML_GPU_UTILIZATION_SAMPLES
        if answer is None or answer[0] not in _UNSIGNED:
            return None
        samples: list[tuple[int, int]] = sorted((sample.timeStamp, sample.sampleValue.uiVal) for sample in answer[1])
        inside = [position for position, (instant, _) in enumerate(samples) if start < instant <= end]
        if not inside:
            return None
        first = inside[0]
        if first and samples[first][0] - samples[first - 1][0] > end - start:
            return None
        return sum(samples[position][1] for position in inside) / len(inside) / 100


def _lives_here(pid: int) -> bool:
    """Whether there is such a process, as seen from here.

    Older drivers list the machine's pids also to a container that has its own: then some process listed is none
    of the container's, and a number that equals ours is somebody else's.
    """
    if sys.platform != "win32":
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except OSError:  # somebody else's
            pass
    return True


class Nvml:
    """NVML in this process: loaded and initialized once. A forked child needs a new one."""

    __slots__ = ("_lock", "_module", "_trying", "tried")

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._module: Any = None
        self._trying = False
        self.tried = False
        """It was loaded, or is not to be had."""

    def module(self) -> Any | None:
        """``pynvml``, initialized; None where it or NVML is not to be had, which is said once."""
        if not self.tried:
            with self._lock:
                if not self._trying:  # else a signal handler came in here: it goes without
                    self._trying = True
                    try:
                        module = importlib.import_module("pynvml")
                        module.nvmlInit()
                        self._module = module
                    except Exception as error:
                        _log.debug("no figures of the GPU by NVML: %s: %s", type(error).__name__, error)
                    self.tried = True
        return self._module

    def card(self, properties: Any) -> NvmlCard | None:
        """The card with these properties of torch's.

        By UUID, else by PCI id: NVML's order is not CUDA's, which ``CUDA_VISIBLE_DEVICES`` changes. Where torch is
        too old to tell either, the one card there is.
        """
        module = self.module()
        if module is None:
            return None
        uuid = getattr(properties, "uuid", None)
        if uuid is not None:
            for prefix in ("GPU-", "MIG-"):
                handle = _handle(module.nvmlDeviceGetHandleByUUID, f"{prefix}{uuid}")
                if handle is not None:
                    return NvmlCard(module, handle, prefix == "MIG-")
        places: list[Any] = [getattr(properties, f"pci_{place}_id", None) for place in ("domain", "bus", "device")]
        if None not in places:
            handle = _handle(module.nvmlDeviceGetHandleByPciBusId, "{:08X}:{:02X}:{:02X}.0".format(*places))
        elif uuid is None and _handle(module.nvmlDeviceGetCount) == 1:
            handle = _handle(module.nvmlDeviceGetHandleByIndex, 0)
        else:
            handle = None
        return None if handle is None else NvmlCard(module, handle, False)

    def names(self) -> list[str] | None:
        """The names of the machine's cards in NVML's order; None where NVML is not to be had."""
        module = self.module()
        count = None if module is None else _handle(module.nvmlDeviceGetCount)
        if module is None or count is None:
            return None
        handles = (_handle(module.nvmlDeviceGetHandleByIndex, index) for index in range(count))
        return ["" if handle is None else _handle(module.nvmlDeviceGetName, handle) or "" for handle in handles]

    def cuda_version(self) -> str | None:
        """The newest CUDA that the driver can do, as ``12.6``."""
        module = self.module()
        version = None if module is None else _handle(module.nvmlSystemGetCudaDriverVersion)
        return None if version is None else f"{version // 1000}.{version % 1000 // 10}"


def _handle(function: Any, *arguments: Any) -> Any:
    """What a function of NVML's answers; None where it fails."""
    try:
        return function(*arguments)
    except Exception:
        return None
