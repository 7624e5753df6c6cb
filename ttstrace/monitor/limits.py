"""What this process may use of the machine's memory and processors, which a container may make less than all."""

from __future__ import annotations

import importlib
import os
import sys

from ttstrace.monitor import cgroup


def total_memory() -> int | None:
    """RAM of the machine in bytes; None where the system does not say."""
    if sys.platform != "win32":
        try:
            pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
        except (OSError, ValueError):
            return None
        return pages * size if pages > 0 and size > 0 else None
    try:
        return int(importlib.import_module("psutil").virtual_memory().total)
    except Exception:
        return None


def memory_limit() -> int | None:
    """The smallest memory limit, in bytes, of the process's cgroups and all that hold them, v1 and v2.

    That is what more cannot be had of: not ``memory.high``, above which a process is slowed down and not stopped.
    None where no limit is set, or only one above the machine's RAM (v1 writes "no limit" as a huge number).
    """
    smallest = None
    for _, text in cgroup.settings("memory", "memory.max", "memory.limit_in_bytes"):
        try:
            limit = int(text)
        except ValueError:  # v2 writes "max" for no limit
            continue
        if smallest is None or limit < smallest:
            smallest = limit
    total = total_memory()
    if smallest is None or (total is not None and smallest >= total):
        return None
    return smallest


def usable_memory() -> int | None:
    """Memory this process may use, in bytes: its cgroup limit, or else RAM; None where neither is known."""
    limit = memory_limit()
    return total_memory() if limit is None else limit


def cpu_limit() -> float | None:
    """The cores this process may use: by the affinity of the calling thread, and by the smallest quota of its cgroups
    and all that hold them, v1 and v2. A quota may be part of a core.

    None where that is all there are, or where the system does not say.
    """
    limits: list[float] = []
    for directory, text in cgroup.settings("cpu", "cpu.max", "cpu.cfs_quota_us"):
        try:
            # v2 has both in one file; v1's quota is -1 where there is none, v2's "max".
            quota, period = map(int, text.split() if " " in text else (text, _period(directory)))
            if quota > 0:
                limits.append(quota / period)
        except (ValueError, ZeroDivisionError):
            continue
    if sys.platform == "linux":
        try:
            limits.append(float(len(os.sched_getaffinity(0))))
        except OSError:
            pass
    smallest = min(limits, default=None)
    count = os.cpu_count()
    return None if smallest is None or (count is not None and smallest >= count) else smallest


def _period(directory: str) -> str:
    return cgroup.read(f"{directory}/cpu.cfs_period_us") or ""
