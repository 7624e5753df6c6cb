"""What a stretch of the process's life took of a GPU: torch's allocator, and the card as NVML sees it.

Nothing here imports torch, makes a CUDA context or raises: what cannot be read is absent.
"""

from ttstrace.monitor.gpu.window import (
    GpuWindow,
    close_gpu_window,
    cuda_in_use,
    discard_gpu_window,
    load_nvml,
    open_gpu_window,
)

__all__ = [
    "GpuWindow",
    "close_gpu_window",
    "cuda_in_use",
    "discard_gpu_window",
    "load_nvml",
    "open_gpu_window",
]
