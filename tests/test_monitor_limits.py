"""The memory and the cores a process may use, against cgroup trees made of files."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from ttstrace.monitor import cgroup
from ttstrace.monitor import limits as module

GB = 2**30
UNLIMITED_V1 = "9223372036854771712"


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cgroup, "CGROUP", str(tmp_path / "cgroup"))
    monkeypatch.setattr(cgroup, "MOUNTS", str(tmp_path / "mountinfo"))
    monkeypatch.setattr(module, "total_memory", lambda: 64 * GB)
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(16)), raising=False)
    return tmp_path


def lay_out(tree: Path, cgroup: str, mounts: list[tuple[str, str, str]], limits: dict[str, str]) -> None:
    """``mounts``: root, mount point below the tree, and what stands after the dash."""
    (tree / "cgroup").write_text(cgroup)
    lines = ["22 1 8:1 / / rw,relatime - ext4 /dev/root rw"]
    for root, mount_point, rest in mounts:
        point = str(tree / mount_point).replace(" ", "\\040")
        lines.append(f"31 23 0:28 {root} {point} rw,relatime shared:9 master:1 - {rest}")
    (tree / "mountinfo").write_text("\n".join(lines) + "\n")
    for path, value in limits.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(value + "\n")


V2 = ("/", "fs", "cgroup2 cgroup2 rw,nsdelegate")


@pytest.mark.parametrize(
    ("limits", "limit"),
    [
        ({"fs/pod/box/memory.max": str(4 * GB), "fs/pod/memory.max": "max"}, 4 * GB),
        ({"fs/pod/box/memory.max": str(8 * GB), "fs/pod/memory.max": str(2 * GB)}, 2 * GB),
        ({"fs/pod/box/memory.max": "max", "fs/pod/memory.max": "max"}, None),
        ({"fs/pod/box/memory.max": str(100 * GB)}, None),
        ({"fs/pod/box/memory.max": str(4 * GB), "fs/pod/box/memory.high": str(1 * GB)}, 4 * GB),
        ({"fs/memory.max": str(1 * GB), "fs/pod/memory.max": str(2 * GB)}, 1 * GB),
        ({"fs/pod/box/memory.max": "not a number", "fs/pod/memory.max": str(1 * GB)}, 1 * GB),
        ({"fs/other/memory.max": str(1 * GB)}, None),
        ({}, None),
    ],
)
def test_the_smallest_limit_on_the_path_counts(tree: Path, limits: dict[str, str], limit: int | None) -> None:
    lay_out(tree, "0::/pod/box\n", [V2], limits)
    assert module.memory_limit() == limit
    assert module.usable_memory() == (limit or 64 * GB)


def test_version_1_with_the_other_hierarchies_beside_it(tree: Path) -> None:
    lay_out(
        tree,
        "5:cpu,cpuacct:/elsewhere\n4:hugetlb,memory:/pod/box\n0::/\n",
        [
            ("/", "fs/cpu", "cgroup cgroup rw,cpu,cpuacct"),
            ("/", "fs/memory", "cgroup cgroup rw,memory"),
            ("/", "fs/unified", "cgroup2 cgroup2 rw"),
        ],
        {
            "fs/memory/memory.limit_in_bytes": UNLIMITED_V1,
            "fs/memory/pod/memory.limit_in_bytes": str(3 * GB),
            "fs/memory/pod/box/memory.limit_in_bytes": str(5 * GB),
            "fs/cpu/elsewhere/memory.limit_in_bytes": str(1 * GB),
        },
    )
    assert module.memory_limit() == 3 * GB


def test_a_container_sees_its_part_of_the_tree_as_the_whole(tree: Path) -> None:
    lay_out(
        tree,
        "4:memory:/docker/abc/inner\n",
        [("/docker/abc", "fs/memory", "cgroup cgroup rw,memory")],
        {
            "fs/memory/memory.limit_in_bytes": str(3 * GB),
            "fs/memory/inner/memory.limit_in_bytes": str(2 * GB),
        },
    )
    assert module.memory_limit() == 2 * GB


def test_in_a_namespace_of_its_own_the_limit_is_at_the_mounts_root(tree: Path) -> None:
    lay_out(tree, "0::/\n", [V2], {"fs/memory.max": str(6 * GB), "fs/cpu.max": "150000 100000"})
    assert module.memory_limit() == 6 * GB
    assert module.cpu_limit() == 1.5


@pytest.mark.parametrize(
    ("path", "root"), [("/../other", "/"), ("/docker/abc", "/docker/xyz"), ("/docker", "/docker/abc"), ("/..", "/")]
)
def test_a_limit_that_the_process_is_not_below_does_not_count(tree: Path, path: str, root: str) -> None:
    limits = {f"fs/{name}memory.max": str(GB) for name in ("", "other/", "docker/", "docker/abc/", "abc/")}
    lay_out(tree, f"0::{path}\n", [(root, "fs", "cgroup2 cgroup2 rw")], limits)
    assert module.memory_limit() is None


@pytest.mark.parametrize(
    ("path", "root", "limit"),
    [
        # Mounted before the namespace was made: how the levels in between are named cannot be seen.
        ("/", "/../..", 8 * GB),
        ("/box", "/..", 8 * GB),
        ("/../other/box", "/..", 2 * GB),
    ],
)
def test_a_mount_from_above_the_namespace_counts_as_far_as_it_can_be_seen(
    tree: Path, path: str, root: str, limit: int
) -> None:
    limits = {"fs/memory.max": str(8 * GB), "fs/box/memory.max": str(GB), "fs/other/box/memory.max": str(2 * GB)}
    lay_out(tree, f"0::{path}\n", [(root, "fs", "cgroup2 cgroup2 rw")], limits)
    assert module.memory_limit() == limit


def test_a_mount_of_somebody_elses_cgroup_beside_the_own_does_not_count(tree: Path) -> None:
    lay_out(
        tree,
        "0::/pod/mine\n",
        [V2, ("/pod/theirs", "theirs", "cgroup2 cgroup2 rw")],
        {"fs/pod/mine/memory.max": str(2 * GB), "theirs/memory.max": str(GB)},
    )
    assert module.memory_limit() == 2 * GB


def test_mount_points_may_hold_blanks(tree: Path) -> None:
    lay_out(tree, "0::/box\n", [("/", "a b", "cgroup2 cgroup2 rw")], {"a b/box/memory.max": str(GB)})
    assert module.memory_limit() == GB


@pytest.mark.parametrize(
    ("limits", "cores"),
    [
        ({"fs/pod/box/cpu.max": "50000 100000"}, 0.5),
        ({"fs/pod/box/cpu.max": "max 100000", "fs/pod/cpu.max": "250000 100000"}, 2.5),
        ({"fs/pod/box/cpu.max": "400000 200000", "fs/pod/cpu.max": "300000 100000"}, 2.0),
        ({"fs/pod/box/cpu.max": "max 100000"}, None),
        ({"fs/pod/box/cpu.max": "1600000 100000"}, None),
        ({"fs/pod/box/cpu.max": "unreadable"}, None),
        ({"fs/pod/box/cpu.max": "1000 0"}, None),
        ({"fs/other/cpu.max": "50000 100000"}, None),
        ({}, None),
    ],
)
def test_the_smallest_quota_on_the_path_counts(tree: Path, limits: dict[str, str], cores: float | None) -> None:
    lay_out(tree, "0::/pod/box\n", [V2], limits)
    assert module.cpu_limit() == cores


@pytest.mark.parametrize(
    ("quota", "pod_quota", "cores"), [("-1", "-1", None), ("-1", "120000", 1.2), ("50000", "-1", 0.5)]
)
def test_version_1_has_quota_and_period_in_two_files(
    tree: Path, quota: str, pod_quota: str, cores: float | None
) -> None:
    lay_out(
        tree,
        "5:cpu,cpuacct:/pod/box\n4:memory:/elsewhere\n2:cpuset:/elsewhere\n0::/\n",
        [
            ("/", "fs/cpu", "cgroup cgroup rw,cpu,cpuacct"),
            ("/", "fs/cpuset", "cgroup cgroup rw,cpuset"),
            ("/", "fs/unified", "cgroup2 cgroup2 rw"),
        ],
        {
            "fs/cpu/pod/cpu.cfs_quota_us": pod_quota,
            "fs/cpu/pod/cpu.cfs_period_us": "100000",
            "fs/cpu/pod/box/cpu.cfs_quota_us": quota,
            "fs/cpu/pod/box/cpu.cfs_period_us": "100000",
            "fs/cpu/elsewhere/cpu.cfs_quota_us": "1000",
            "fs/cpu/elsewhere/cpu.cfs_period_us": "100000",
        },
    )
    assert module.cpu_limit() == cores


def test_a_quota_whose_period_is_missing_is_unknown(tree: Path) -> None:
    lay_out(tree, "5:cpu:/\n", [("/", "fs", "cgroup cgroup rw,cpu")], {"fs/cpu.cfs_quota_us": "50000"})
    assert module.cpu_limit() is None


def test_the_affinity_mask_counts_where_it_is_less_than_the_quota(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out(tree, "0::/box\n", [V2], {"fs/box/cpu.max": "450000 100000"})
    assert module.cpu_limit() == 4.5
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {2, 3}, raising=False)
    assert module.cpu_limit() == 2.0


def test_without_cgroups_it_is_ram(tree: Path) -> None:
    assert module.memory_limit() is None
    assert module.cpu_limit() is None
    assert module.usable_memory() == 64 * GB


def test_ram_is_what_the_machine_has() -> None:
    assert module.total_memory() == pytest.approx(psutil.virtual_memory().total, rel=0.01)
