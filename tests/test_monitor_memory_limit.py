"""The memory a process may use, against cgroup trees made of files."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from ttstrace.monitor import memory_limit as module

GB = 2**30
UNLIMITED_V1 = "9223372036854771712"


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "CGROUP", str(tmp_path / "cgroup"))
    monkeypatch.setattr(module, "MOUNTS", str(tmp_path / "mountinfo"))
    monkeypatch.setattr(module, "total_memory", lambda: 64 * GB)
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
        ({"fs/other/memory.max": str(1 * GB)}, None),
        ({}, None),
    ],
)
def test_the_smallest_limit_on_the_path_counts(tree: Path, limits: dict[str, str], limit: int | None) -> None:
    lay_out(tree, "0::/pod/box\n", [V2], limits)
    assert module.cgroup_limit() == limit
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
    assert module.cgroup_limit() == 3 * GB


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
    assert module.cgroup_limit() == 2 * GB


def test_a_path_outside_what_is_mounted_counts_the_mounts_own_limit(tree: Path) -> None:
    lay_out(tree, "0::/../other\n", [V2], {"fs/memory.max": str(6 * GB)})
    assert module.cgroup_limit() == 6 * GB


def test_mount_points_may_hold_blanks(tree: Path) -> None:
    lay_out(tree, "0::/box\n", [("/", "a b", "cgroup2 cgroup2 rw")], {"a b/box/memory.max": str(GB)})
    assert module.cgroup_limit() == GB


def test_without_cgroups_it_is_ram(tree: Path) -> None:
    assert module.cgroup_limit() is None
    assert module.usable_memory() == 64 * GB


def test_ram_is_what_the_machine_has() -> None:
    assert module.total_memory() == pytest.approx(psutil.virtual_memory().total, rel=0.01)
