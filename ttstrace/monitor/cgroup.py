"""The control groups above this process: where their files are."""

from __future__ import annotations

import re

CGROUP = "/proc/self/cgroup"
"""Which cgroup of each hierarchy the process is in: cgroups(7)."""
MOUNTS = "/proc/self/mountinfo"
"""Where each hierarchy is mounted, and which part of it: proc_pid_mountinfo(5)."""


def settings(controller: str, v2: str, v1: str) -> list[tuple[str, str]]:
    """What a file of the process's own cgroup says, and of all that hold it, as far up as they can be seen.

    A limit of any of them holds for the process.

    Args:
        controller: ``memory`` or ``cpu``.
        v2: the file's name in the one hierarchy of version 2.
        v1: its name in the controller's own hierarchy of version 1.

    Returns:
        The directory and the text of each file that is there, from the process's own cgroup upwards.
    """
    found = []
    for directory, version in _directories(controller):
        text = read(f"{directory}/{v2 if version == 2 else v1}")
        if text is not None:  # the root has no such file
            found.append((directory, text))
    return found


def read(path: str) -> str | None:
    """The text of one of their files; None where it is missing or refused."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return None


def _directories(controller: str) -> list[tuple[str, int]]:
    paths = {}
    for line in (read(CGROUP) or "").splitlines():
        membership = line.split(":", 2)
        if len(membership) == 3:
            _, controllers, path = membership
            if not controllers:
                paths["cgroup2"] = path
            elif controller in controllers.split(","):
                paths["cgroup"] = path
    found = []
    for line in (read(MOUNTS) or "").splitlines():
        fields = line.split(" ")
        kind, options = fields[-3], fields[-1]
        if kind not in paths or (kind == "cgroup" and controller not in options.split(",")):
            continue
        below = _below(paths[kind], _unescape(fields[3]))
        if below is not None:
            for depth in range(len(below), -1, -1):
                found.append(("/".join([_unescape(fields[4]), *below[:depth]]), 2 if kind == "cgroup2" else 1))
    return found


def _below(path: str, root: str) -> list[str] | None:
    """The names that lead from a mount whose root is ``root`` down to the cgroup ``path``; None where that is outside.

    Both are relative to the cgroup namespace, and begin with ``/..`` where they are above its root. How the levels
    between such a mount's root and the namespace's are named cannot be seen: then the names end before them.
    """
    to_path, to_root = path.strip("/").split("/"), root.strip("/").split("/")
    names = [name for name in to_path if name]
    roots = [name for name in to_root if name]
    while names and roots and names[0] == roots[0]:
        del names[0], roots[0]
    if roots:
        return [] if all(name == ".." for name in roots) else None
    return None if ".." in names else names


def _unescape(field: str) -> str:
    """A field of mountinfo, whose blanks and backslashes are written as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), field)
