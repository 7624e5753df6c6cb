"""The stand-in for torch.cuda, held against the real one."""

from __future__ import annotations

import inspect
import time
from pathlib import Path

import pytest
from standin_cuda import standin_cuda

torch = pytest.importorskip("torch")


def test_every_name_is_torchs_own() -> None:
    with standin_cuda() as standin:
        names = [name for name in vars(standin.module.cuda) if not name.startswith("_")]
        for name in names:
            assert hasattr(torch.cuda, name), name
        for name in ("memory_stats_as_nested_dict", "reset_peak_memory_stats", "current_stream", "synchronize"):
            ours, theirs = getattr(standin.module.cuda, name), getattr(torch.cuda, name)
            assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters)
        for name in ("is_initialized", "current_device", "device_count"):
            assert not inspect.signature(getattr(standin.module.cuda, name)).parameters
            assert not inspect.signature(getattr(torch.cuda, name)).parameters
        for name in ("record", "query", "elapsed_time", "synchronize"):
            assert hasattr(torch.cuda.Event, name)
    # Builds for the CPU lack the class of what get_device_properties returns, and have its description.
    described = Path(torch.__file__).with_name("_C").joinpath("__init__.pyi").read_text()
    properties = described[described.index("class _CudaDeviceProperties") :].split("\nclass ")[0]
    for name in ("uuid", "name", "total_memory"):  # the PCI ids are there, and not described
        assert f"    {name}: " in properties, name


def test_a_kernel_takes_its_time() -> None:
    with standin_cuda() as standin:
        start, end = (standin.module.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        standin.launch(0.05)
        end.record()
        assert not end.query()
        time.sleep(0.06)
        assert end.query()
        assert start.elapsed_time(end) == pytest.approx(50, abs=2)
