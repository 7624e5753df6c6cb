"""The resource meter: what a stretch of the process's life took of time, CPU, memory and GPU."""

from ttstrace.monitor.concurrency import Concurrency
from ttstrace.monitor.gpu import (
    GpuWindow,
    close_gpu_window,
    discard_gpu_window,
    load_nvml,
    open_gpu_window,
)
from ttstrace.monitor.performance import PerformanceMonitor, summarize
from ttstrace.monitor.rtf import calculate_rtf, interpret_rtf, rtf_grade
from ttstrace.monitor.suffix import SuffixMaximum
from ttstrace.monitor.window import (
    Usage,
    Window,
    close_window,
    discard_window,
    memory_method,
    memory_method_reason,
    open_window,
)

__all__ = [
    "Concurrency",
    "GpuWindow",
    "PerformanceMonitor",
    "SuffixMaximum",
    "Usage",
    "Window",
    "calculate_rtf",
    "close_gpu_window",
    "close_window",
    "discard_gpu_window",
    "discard_window",
    "interpret_rtf",
    "load_nvml",
    "memory_method",
    "memory_method_reason",
    "open_gpu_window",
    "open_window",
    "rtf_grade",
    "summarize",
]
