"""A stand-in for NVML under the real `nvidia-ml-py`: `standin_nvml.c`, compiled here, and the file it answers from."""

from __future__ import annotations

import ctypes
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

NOT_SUPPORTED, NO_PERMISSION, UNKNOWN = 3, 4, 999
FUNCTIONS = {
    "nvmlInitWithFlags": -1,
    "nvmlDeviceGetHandleByUUID": -1,
    "nvmlDeviceGetComputeRunningProcesses_v3": 0,
    "nvmlDeviceGetGraphicsRunningProcesses_v3": 0,
    "nvmlDeviceGetSamples": 0,
    "nvmlDeviceGetTotalEnergyConsumption": 0,
    "nvmlDeviceGetTemperature": 0,
}
"""What a window asks, and of whom: a device, or NVML itself (-1)."""


def compiled(directory: Path) -> Path:
    """The library, built into `directory`."""
    library = directory / "libnvidia-ml.so.1"
    source = Path(__file__).with_suffix(".c")
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-O1", "-Wl,-soname,libnvidia-ml.so.1", "-o", library, source], check=True
    )
    return library


@dataclass
class NvmlDevice:
    """One card, or part of one; `fails` maps functions to the code that they return."""

    uuid: str
    pci: str = "00000000:01:00.0"
    name: str = "Stand-in GPU"
    energy: int = 1_000_000
    temperature: int = 41
    part: bool = False
    compute: list[tuple[int, int]] = field(default_factory=list)
    graphics: list[tuple[int, int]] = field(default_factory=list)
    samples: list[tuple[int, int]] = field(default_factory=list)
    fails: dict[str, int] = field(default_factory=dict)


@dataclass
class StandInNvml:
    """What NVML knows; `write` makes it so."""

    path: Path
    devices: list[NvmlDevice] = field(default_factory=list)
    fails: dict[str, int] = field(default_factory=dict)
    cuda: int = 12060

    def write(self) -> None:
        lines = [f"- cuda {self.cuda}", *(f"- fails {name} {code}" for name, code in self.fails.items())]
        for index, device in enumerate(self.devices):
            lines += [f"{index} {key} {getattr(device, key)}" for key in ("uuid", "pci", "name", "energy")]
            lines += [f"{index} temperature {device.temperature}", *([f"{index} part"] if device.part else [])]
            for key in ("compute", "graphics"):
                lines += [f"{index} {key} {pid} {used}" for pid, used in getattr(device, key)]
            lines += [f"{index} sample {instant} {percent}" for instant, percent in device.samples]
            lines += [f"{index} fails {name} {code}" for name, code in device.fails.items()]
        # Read by another thread or process meanwhile, it is the old one or the new one.
        new = self.path.with_suffix(".new")
        new.write_text("\n".join(lines) + "\n")
        os.replace(new, self.path)

    def calls(self) -> list[tuple[int, int, str]]:
        """Every call so far: process, device (-1: of NVML itself), function."""
        log = self.path.with_name(self.path.name + ".log")
        found = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
        return [(int(pid), int(device), function) for pid, device, function in found]

    def asked(self, function: str) -> int:
        return sum(called == function for _, _, called in self.calls())


def installed(library: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> StandInNvml:
    """pynvml talks to the stand-in until the test is over."""
    pynvml: Any = pytest.importorskip("pynvml")
    monkeypatch.setattr(pynvml, "nvmlLib", ctypes.CDLL(str(library)))
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    monkeypatch.setenv("STANDIN_NVML", str(path))
    return StandInNvml(path)
