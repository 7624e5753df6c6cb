"""The machine's GPUs, without a CUDA context and without importing torch."""

from __future__ import annotations

import sys
from typing import Any

from ttstrace.monitor.gpu.window import cuda_in_use, gpu_meter


def system_gpus() -> dict[str, Any]:
    """``gpu_name``, ``gpu_count`` and ``cuda_version``, as far as they can be known.

    The name is that of torch's current device where this process uses CUDA, else of NVML's first card; the count is
    NVML's, which is the machine's, else torch's. The version is the CUDA that torch was built with where torch is
    loaded, else the newest that the driver can do. Never raises.
    """
    nvml = gpu_meter().nvml
    found: dict[str, Any] = {}
    names = nvml.names()
    if names is not None:
        found["gpu_count"] = len(names)
        if names and names[0]:
            found["gpu_name"] = names[0]
    try:
        cuda = cuda_in_use()
        if cuda is not None:
            found["gpu_name"] = str(cuda.get_device_properties(cuda.current_device()).name)
            found.setdefault("gpu_count", int(cuda.device_count()))
    except Exception:
        pass
    version = getattr(getattr(sys.modules.get("torch"), "version", None), "cuda", None) or nvml.cuda_version()
    if version is not None:
        found["cuda_version"] = str(version)
    return found
