"""What is said of the machine, against what its own tools and real cgroups say."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from ttstrace import PerformanceMonitor
from ttstrace.monitor import cgroup

MB = 2**20
GB = 2**30

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and /sys")
PROGRAM = (
    "import json, sys; from ttstrace import PerformanceMonitor; info = PerformanceMonitor().get_system_info(); "
    "print(json.dumps([info, [name for name in ('torch', 'numpy') if name in sys.modules]]))"
)


def info(*launcher: str) -> dict[str, Any]:
    """What a process of its own says, started by ``launcher``."""
    done = subprocess.run([*launcher, sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found, imported = json.loads(done.stdout)
    assert imported == []
    return found


def tool(*command: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.strip()


def test_every_key_there_is_and_no_other() -> None:
    found = info()
    optional = {"physical_cores", "memory_limit_gb", "cpu_limit"}
    assert set(found) - optional == {"cpu_count", "total_memory_gb", "python", "platform"}
    assert found["python"] == platform.python_version().split("+")[0]
    assert found["platform"] == platform.platform()
    assert found["total_memory_gb"] == pytest.approx(psutil.virtual_memory().total / GB, rel=0.01)
    assert found.get("physical_cores") == psutil.cpu_count(logical=False)


@linux
def test_cores_are_what_nproc_and_sys_say() -> None:
    found = info()
    assert found["cpu_count"] == int(tool("nproc", "--all"))
    topology = Path("/sys/devices/system/cpu")
    cores = {path.read_text() for path in topology.glob("cpu[0-9]*/topology/thread_siblings_list")}
    if cores:
        assert found["physical_cores"] == len(cores)


@linux
def test_memory_is_what_proc_meminfo_says() -> None:
    kilobytes = re.search(r"MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    assert kilobytes is not None
    assert info()["total_memory_gb"] == pytest.approx(int(kilobytes.group(1)) * 1024 / GB, rel=0.01)


@linux
def test_a_process_bound_to_one_core_says_so() -> None:
    if (os.cpu_count() or 1) < 2:
        pytest.skip("there is only one core")
    core = str(min(os.sched_getaffinity(0)))
    bound = info("taskset", "--cpu-list", core)
    assert bound["cpu_limit"] == int(tool("taskset", "--cpu-list", core, "nproc")) == 1
    assert bound["cpu_count"] == os.cpu_count()


@linux
def test_without_a_proc_the_rest_is_said() -> None:
    """In a mount namespace whose /proc is an empty directory, as in a chroot."""
    hidden = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh"]
    if subprocess.run([*hidden, "true"], capture_output=True).returncode != 0:
        pytest.skip("no mount namespace can be made here")
    found = info(*hidden)
    assert found["cpu_count"] == os.cpu_count()
    assert found["total_memory_gb"] == pytest.approx(psutil.virtual_memory().total / GB, rel=0.01)
    assert "memory_limit_gb" not in found
    assert found["platform"]


def test_where_the_proc_paths_do_not_exist_limits_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup, "CGROUP", "/nowhere/cgroup")
    monkeypatch.setattr(cgroup, "MOUNTS", "/nowhere/mountinfo")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(os.cpu_count() or 1)), raising=False)
    found = PerformanceMonitor().get_system_info()
    assert not {"memory_limit_gb", "cpu_limit"} & set(found)


def test_what_the_system_does_not_say_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*arguments: object, **options: object) -> int:
        raise OSError("no")

    monkeypatch.setattr(os, "cpu_count", lambda: None)
    monkeypatch.setattr(os, "sysconf", lambda name: -1, raising=False)
    monkeypatch.setattr(psutil, "cpu_count", refuses)
    monkeypatch.setattr(os, "sched_getaffinity", refuses, raising=False)
    monkeypatch.setattr(cgroup, "CGROUP", "/nowhere/cgroup")
    if sys.platform == "win32":
        monkeypatch.setattr(psutil, "virtual_memory", refuses)
    assert set(PerformanceMonitor().get_system_info()) == {"python", "platform"}


# --- real cgroups ------------------------------------------------------------------------------------------------


class Group:
    """A real cgroup below this process's own, of one controller."""

    def __init__(self, parent: Path, version: int) -> None:
        self.path = parent / f"ttstrace-test-{os.getpid()}"
        self.version = version

    def limit(self, v2: tuple[str, str], *v1: tuple[str, str]) -> None:
        for name, value in [v2] if self.version == 2 else v1:
            (self.path / name).write_text(value)

    def launcher(self) -> list[str]:
        return ["sh", "-c", f'echo $$ > "{self.path}/cgroup.procs" && exec "$@"', "sh"]


def group(controller: str, file_v2: str, file_v1: str) -> Iterator[Group]:
    """Below the process's own, so that every limit above it goes on holding."""
    if sys.platform != "linux":
        pytest.skip("no cgroups")
    for directory, version in cgroup._directories(controller):
        made = Group(Path(directory), version)
        try:
            made.path.mkdir()
        except OSError:
            continue
        try:
            if (made.path / (file_v2 if version == 2 else file_v1)).exists():
                yield made
                return
        finally:
            made.path.rmdir()
    pytest.skip(f"no cgroup with the {controller} controller can be made here")


@pytest.fixture
def memory_group() -> Iterator[Group]:
    yield from group("memory", "memory.max", "memory.limit_in_bytes")


@pytest.fixture
def cpu_group() -> Iterator[Group]:
    yield from group("cpu", "cpu.max", "cpu.cfs_quota_us")


def test_a_process_in_a_real_cgroup_with_a_memory_limit_says_it(memory_group: Group) -> None:
    without = info(*memory_group.launcher())
    memory_group.limit(("memory.max", str(700 * MB)), ("memory.limit_in_bytes", str(700 * MB)))
    found = info(*memory_group.launcher())
    assert found["memory_limit_gb"] == 700 * MB / GB
    assert without.get("memory_limit_gb") != found["memory_limit_gb"]
    assert found["total_memory_gb"] == without["total_memory_gb"]


def test_utilization_is_over_the_real_cgroups_limit(memory_group: Group) -> None:
    memory_group.limit(("memory.max", str(700 * MB)), ("memory.limit_in_bytes", str(700 * MB)))
    program = (
        "from ttstrace import PerformanceMonitor\n"
        "with PerformanceMonitor().measure() as metrics: bytearray(100 * 2**20)\n"
        "print(metrics['memory_percent'] / 100 * 700 / metrics['peak_memory_mb'])"
    )
    done = subprocess.run(
        [*memory_group.launcher(), sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert float(done.stdout) == pytest.approx(1), done.stderr


def test_a_real_cgroup_namespace_shows_the_limit_at_its_root(memory_group: Group) -> None:
    """With the hierarchy mounted anew inside the namespace, as container runtimes do."""
    memory_group.limit(("memory.max", str(700 * MB)), ("memory.limit_in_bytes", str(700 * MB)))
    kind = "cgroup2" if memory_group.version == 2 else "cgroup -o memory"
    mount = f'umount -R /sys/fs/cgroup && mount -t {kind} none /sys/fs/cgroup && exec "$@"'
    launcher = [*memory_group.launcher(), "unshare", "--mount", "--cgroup", "sh", "-c", mount, "sh"]
    if subprocess.run([*launcher, "true"], capture_output=True).returncode != 0:
        pytest.skip("no cgroup namespace can be made here")
    assert info(*launcher)["memory_limit_gb"] == 700 * MB / GB
    inside = subprocess.run(
        [*launcher, "grep", "-E", ":memory:|^0::", "/proc/self/cgroup"], capture_output=True, text=True
    )
    assert all(line.endswith(":/") for line in inside.stdout.split())


def test_a_process_in_a_real_cgroup_with_a_quota_says_it(cpu_group: Group) -> None:
    without = info(*cpu_group.launcher())
    cpu_group.limit(("cpu.max", "70000 100000"), ("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "70000"))
    found = info(*cpu_group.launcher())
    assert found["cpu_limit"] == 0.7
    assert without.get("cpu_limit") != 0.7
    assert found["cpu_count"] == without["cpu_count"]
