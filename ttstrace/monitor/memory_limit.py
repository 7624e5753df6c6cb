"""How much memory this process may use: the smallest cgroup limit above it, or the machine's RAM."""

from __future__ import annotations

import importlib
import os
import posixpath
import re
import sys

CGROUP = "/proc/self/cgroup"
"""Which cgroup of each hierarchy the process is in: cgroups(7)."""
MOUNTS = "/proc/self/mountinfo"
"""Where each hierarchy is mounted, and which part of it: proc_pid_mountinfo(5)."""


def total_memory() -> int | None:
    """RAM of the machine in bytes; None where the system does not say."""
    if sys.platform != "win32":
        try:
            return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (OSError, ValueError):
            return None
    try:
        return int(importlib.import_module("psutil").virtual_memory().total)
    except Exception:
        return None


def cgroup_limit() -> int | None:
    """The smallest memory limit, in bytes, of the process's cgroups and all that hold them, v1 and v2.

    None where no limit is set, or only one above the machine's RAM (v1 writes "no limit" as a huge number).
    """
    smallest = None
    for directory, file in _cgroups():
        try:
            with open(f"{directory}/{file}", encoding="ascii") as limit:
                value = int(limit.read())
        except (OSError, ValueError):  # the root has no such file, and v2 writes "max" for no limit
            continue
        if smallest is None or value < smallest:
            smallest = value
    total = total_memory()
    if smallest is None or (total is not None and smallest >= total):
        return None
    return smallest


def usable_memory() -> int | None:
    """Memory this process may use, in bytes: its cgroup limit, or else RAM; None where neither is known."""
    limit = cgroup_limit()
    return total_memory() if limit is None else limit


def _cgroups() -> list[tuple[str, str]]:
    """Each cgroup directory from the process's own up to the mount point, with the name of its limit file."""
    try:
        with open(CGROUP, encoding="utf-8", errors="surrogateescape") as file:
            memberships = [line.rstrip("\n").split(":", 2) for line in file]
        with open(MOUNTS, encoding="utf-8", errors="surrogateescape") as file:
            mounts = [line.split(" ") for line in file.read().splitlines()]
    except OSError:
        return []
    paths = {}
    for membership in memberships:
        if len(membership) == 3:
            _, controllers, path = membership
            if not controllers:
                paths["cgroup2"] = path
            elif "memory" in controllers.split(","):
                paths["cgroup"] = path
    found = []
    for fields in mounts:
        kind, options = fields[-3], fields[-1]
        if kind not in paths or (kind == "cgroup" and "memory" not in options.split(",")):
            continue
        file_name = "memory.max" if kind == "cgroup2" else "memory.limit_in_bytes"
        root, mount_point = _unescape(fields[3]), _unescape(fields[4])
        # Where only a part of the hierarchy is mounted, as in a container, paths begin above its root.
        below = posixpath.relpath(paths[kind], root)
        parts = [] if below.startswith(".") else below.split("/")
        for depth in range(len(parts), -1, -1):
            found.append((posixpath.join(mount_point, *parts[:depth]), file_name))
    return found


def _unescape(field: str) -> str:
    """A field of mountinfo, whose blanks and backslashes are written as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), field)
