"""What NVML says, read through the real pynvml over a stand-in library, held against what the test made it say."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from standin_cuda import Card, StandIn, standin_cuda
from standin_nvml import FUNCTIONS, NO_PERMISSION, NOT_SUPPORTED, UNKNOWN, NvmlDevice, StandInNvml

from ttstrace.monitor import PerformanceMonitor, close_gpu_window, open_gpu_window
from ttstrace.monitor.gpu import window as module
from ttstrace.monitor.gpu.reading import GpuUsage

MB = 2**20
ONE, TWO = uuid.UUID(int=1), uuid.UUID(int=2)


def now() -> int:
    """NVML's clock: microseconds of the wall clock."""
    return time.time_ns() // 1000


def read(device: str | None = None) -> GpuUsage:
    reading = close_gpu_window(open_gpu_window())
    assert reading is not None
    found = reading.of_model(device, None)
    assert found is not None
    return found


@pytest.fixture
def one(nvml: StandInNvml, cuda: StandIn) -> NvmlDevice:
    """One card that both know, with memory of ours."""
    nvml.devices = [NvmlDevice(f"GPU-{ONE}", compute=[(os.getpid(), 700 * MB)])]
    nvml.write()
    cuda.allocate(100 * MB)
    return nvml.devices[0]


def test_standin_every_figure_of_a_window(nvml: StandInNvml, one: NvmlDevice, cuda: StandIn) -> None:
    one.samples = [(now() - 10_000, 90)]
    nvml.write()
    with PerformanceMonitor().measure() as metrics:
        window = open_gpu_window()
        opened = now()
        time.sleep(0.3)  # far longer than from one sample to the next
        one.samples += [(opened + 1_000, 20), (opened + 60_000, 60), (now() + 60_000_000, 100)]
        one.energy += 4_500
        one.temperature = 66
        one.compute.append((os.getppid(), 9000 * MB))
        nvml.write()
        reading = close_gpu_window(window)
    assert reading is not None
    found = reading.of_model("cuda:0", None)
    assert found is not None
    assert found.energy == 4.5
    assert found.temperature == 66
    assert found.memory_used == 700 * MB
    assert found.utilization == pytest.approx(0.4)
    assert found.memory_peak == 100 * MB
    assert metrics["gpu_memory_mb"] == 700
    assert metrics["gpu_utilization"] == pytest.approx(40)
    assert metrics["gpu_temperature"] == 66
    assert (metrics["gpu_memory_allocated"], metrics["gpu_max_memory_mb"]) == (100, 100)
    assert {type(value) for key, value in metrics.items() if key.startswith("gpu")} == {float}


def test_standin_energy_that_did_not_move_is_unknown(one: NvmlDevice) -> None:
    assert read().energy is None


def test_standin_no_sample_in_the_window_and_a_window_shorter_than_the_samples_period(
    nvml: StandInNvml, one: NvmlDevice
) -> None:
    assert read().utilization is None  # none at all
    one.samples = [(now() - 400_000, 90), (now() + 60_000_000, 90)]
    nvml.write()
    assert read().utilization is None  # before and after
    before = now()
    window = open_gpu_window()
    time.sleep(0.02)
    one.samples = [(before - 1_500_000, 90), (now() - 5_000, 70)]
    nvml.write()
    reading = close_gpu_window(window)
    assert reading is not None
    short = reading.of_model(None, None)
    assert short is not None
    assert short.utilization is None  # the one inside tells mostly of the time before


def test_standin_cards_are_matched_by_uuid_whatever_their_order(nvml: StandInNvml, new_gpu_meter: None) -> None:
    pid = os.getpid()
    nvml.devices = [
        NvmlDevice(f"GPU-{ONE}", temperature=31, compute=[(pid, MB)]),
        NvmlDevice(f"GPU-{TWO}", temperature=32, compute=[(pid, 2 * MB)]),
    ]
    nvml.write()
    with standin_cuda(Card(TWO, name="Two"), Card(ONE, name="One")) as cuda:
        cuda.allocate(MB, 0)
        cuda.allocate(MB, 1)
        first, second = read("cuda:0"), read("cuda:1")
    assert (first.name, first.temperature, first.memory_used) == ("Two", 32, 2 * MB)
    assert (second.name, second.temperature, second.memory_used) == ("One", 31, MB)


class Older:
    """A card's properties as torch gave them before it knew UUIDs; without `pci`, before it knew those."""

    name = "Older"

    def __init__(self, bus: int | None = None) -> None:
        if bus is not None:
            self.pci_domain_id, self.pci_bus_id, self.pci_device_id = 0, bus, 0


def test_standin_without_uuids_cards_are_matched_by_pci_id(nvml: StandInNvml, cuda: StandIn) -> None:
    nvml.devices = [
        NvmlDevice(f"GPU-{ONE}", pci="00000000:3B:00.0", temperature=31),
        NvmlDevice(f"GPU-{TWO}", pci="00000000:AF:00.0", temperature=32),
    ]
    nvml.write()
    cuda.allocate(MB)
    cuda.module.cuda.get_device_properties = lambda device: Older(0xAF)
    assert read().temperature == 32


def test_standin_without_either_only_a_single_card_is_known(nvml: StandInNvml, cuda: StandIn) -> None:
    cuda.allocate(MB)
    cuda.module.cuda.get_device_properties = lambda device: Older()
    nvml.devices = [NvmlDevice(f"GPU-{ONE}", temperature=31)]
    nvml.write()
    assert read().temperature == 31
    module._meter = None
    nvml.devices.append(NvmlDevice(f"GPU-{TWO}"))
    nvml.write()
    found = read()
    assert found.temperature is None
    assert found.memory_peak == MB
    assert found.name == "Older"


def test_standin_a_card_that_nvml_does_not_know_is_no_other_card(nvml: StandInNvml, cuda: StandIn) -> None:
    nvml.devices = [NvmlDevice(f"GPU-{TWO}", pci="00000000:77:00.0", compute=[(os.getpid(), MB)])]
    nvml.write()
    cuda.allocate(MB)
    found = read()
    assert found.memory_used is found.temperature is None
    assert found.memory_peak == MB


def test_standin_a_part_of_a_card_has_its_memory_and_not_the_cards_figures(nvml: StandInNvml, cuda: StandIn) -> None:
    pid = os.getpid()
    nvml.devices = [
        NvmlDevice(f"GPU-{TWO}", compute=[(pid, 900 * MB)]),
        NvmlDevice(f"MIG-{ONE}", part=True, compute=[(pid, 50 * MB)], samples=[(now() + 10_000, 80)]),
    ]
    nvml.write()
    cuda.allocate(MB)
    window = open_gpu_window()
    nvml.devices[1].energy += 5000
    nvml.write()
    time.sleep(0.02)
    reading = close_gpu_window(window)
    assert reading is not None
    found = reading.of_model(None, None)
    assert found is not None
    assert found.memory_used == 50 * MB
    assert found.energy is found.utilization is found.temperature is None
    assert not [call for call in nvml.calls() if "Energy" in call[2] or "Temperature" in call[2]]


def test_standin_a_process_that_is_not_listed_or_has_no_figure(nvml: StandInNvml, one: NvmlDevice) -> None:
    one.compute = [(os.getppid(), 900 * MB)]
    nvml.write()
    assert read().memory_used is None
    one.compute = [(os.getpid(), -1)]
    nvml.write()
    assert read().memory_used is None
    one.compute = []
    nvml.write()
    assert read().memory_used is None


def test_standin_a_process_that_computes_and_draws_is_counted_once(nvml: StandInNvml, one: NvmlDevice) -> None:
    one.graphics = [(os.getpid(), 700 * MB)]
    nvml.write()
    assert read().memory_used == 700 * MB
    one.compute = []
    nvml.write()
    assert read().memory_used == 700 * MB


@pytest.mark.skipif(sys.platform == "win32", reason="nobody may be asked there without being ended")
def test_standin_pids_of_the_machine_are_not_taken_for_a_containers(nvml: StandInNvml, one: NvmlDevice) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    one.compute = [(os.getpid(), 700 * MB), (ended.pid, 30 * MB)]  # whoever is not here is somewhere else
    nvml.write()
    assert read().memory_used is None


@pytest.mark.parametrize("code", [NOT_SUPPORTED, NO_PERMISSION, UNKNOWN])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_standin_whatever_nvml_answers_only_that_figure_is_unknown(
    nvml: StandInNvml, one: NvmlDevice, function: str, code: int
) -> None:
    (nvml.fails if FUNCTIONS[function] < 0 else one.fails)[function] = code
    one.graphics = [(os.getpid(), 700 * MB)]
    nvml.write()
    theirs = ValueError("the program's own")
    with pytest.raises(ValueError, match="own") as caught, PerformanceMonitor().measure() as metrics:
        time.sleep(0.02)
        one.samples = [(now() - 1000, 50)]
        one.energy += 1000
        nvml.write()
        raise theirs
    assert caught.value is theirs
    lost = {
        "nvmlDeviceGetSamples": {"gpu_utilization"},
        "nvmlDeviceGetTemperature": {"gpu_temperature"},
        "nvmlInitWithFlags": {"gpu_utilization", "gpu_temperature", "gpu_memory_mb"},
    }.get(function, set())  # without the UUID there is the PCI id, without one list of processes the other
    everything = {"gpu_utilization", "gpu_temperature", "gpu_memory_mb", "gpu_memory_allocated", "gpu_max_memory_mb"}
    assert {key for key in metrics if key.startswith("gpu")} == everything - lost
    before = nvml.asked(function)
    with PerformanceMonitor().measure():
        pass
    asked_again = nvml.asked(function) - before
    if FUNCTIONS[function] >= 0 and code == NOT_SUPPORTED:
        assert asked_again == 0
    elif FUNCTIONS[function] >= 0:
        assert asked_again >= 1
    else:
        assert asked_again == 0  # once in a process


def test_standin_an_older_driver_lacks_functions(
    one: NvmlDevice, nvml: StandInNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pynvml

    class Library:
        """The stand-in, without one of its functions."""

        def __init__(self, library: Any) -> None:
            self.library = library

        def __getattr__(self, name: str) -> Any:
            if name == "nvmlDeviceGetComputeRunningProcesses_v3":
                raise AttributeError(name)
            return getattr(self.library, name)

    monkeypatch.setattr(pynvml, "nvmlLib", Library(pynvml.nvmlLib))
    found = read()
    assert found.memory_used is None
    assert found.temperature == 41


def test_standin_nvml_is_initialized_once_in_a_process_also_by_many_threads(
    nvml: StandInNvml, one: NvmlDevice, cuda: StandIn
) -> None:
    start = threading.Barrier(8)
    found: list[int | None] = []

    def measured() -> None:
        start.wait()
        found.append(read().temperature)

    threads = [threading.Thread(target=measured) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [41] * 8
    assert nvml.asked("nvmlInitWithFlags") == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_standin_nvml_is_initialized_again_in_a_child_only_where_cuda_is_used_there(
    nvml: StandInNvml, new_gpu_meter: None
) -> None:
    nvml.devices = [NvmlDevice(f"GPU-{ONE}")]
    nvml.write()

    def forked(uses_cuda: bool) -> int:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                if uses_cuda:
                    cuda.allocate(MB)
                with PerformanceMonitor().measure() as metrics:
                    pass
                code = 0 if (metrics.get("gpu_temperature") == 41) == uses_cuda else 2
            finally:
                os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0
        return pid

    with standin_cuda(Card(ONE), initialized=False) as cuda:
        unused, used = forked(False), forked(True)
    initialized = [pid for pid, _, function in nvml.calls() if function == "nvmlInitWithFlags"]
    assert initialized == [used]
    assert unused not in {pid for pid, _, _ in nvml.calls()}


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no timers")
def test_standin_a_signal_handler_may_come_in_while_nvml_is_loaded(
    nvml: StandInNvml, one: NvmlDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pynvml

    seen: list[int | None] = []
    original = pynvml.nvmlInit

    def interrupted() -> None:
        signal.raise_signal(signal.SIGUSR1)
        original()

    monkeypatch.setattr(pynvml, "nvmlInit", interrupted)
    before = signal.signal(signal.SIGUSR1, lambda *_: seen.append(read().temperature))
    try:
        assert read().temperature == 41
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert seen == [None]
    assert read().temperature == 41


def test_without_nvml_that_is_said_once_at_debug_level(
    cuda: StandIn, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    caplog.set_level(logging.DEBUG, "ttstrace")
    cuda.allocate(MB)
    for _ in range(3):
        assert read().memory_peak == MB
    assert [record.levelname for record in caplog.records] == ["DEBUG"]
    assert "NVML" in caplog.text


def test_standin_system_information(nvml: StandInNvml, new_gpu_meter: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    nvml.devices = [NvmlDevice(f"GPU-{TWO}", name="Two"), NvmlDevice(f"GPU-{ONE}", name="One")]
    nvml.write()
    info = PerformanceMonitor().get_system_info()
    assert (info["gpu_name"], info["gpu_count"], info["cuda_version"]) == ("Two", 2, "12.6")
    assert "torch" not in sys.modules
    nvml.cuda = 13010
    nvml.write()
    assert PerformanceMonitor().get_system_info()["cuda_version"] == "13.1"
    with standin_cuda(Card(ONE, name="One"), Card(TWO, name="Two"), initialized=False) as cuda:
        cuda.module.version.cuda = "12.4"
        info = PerformanceMonitor().get_system_info()
        assert (info["gpu_name"], info["cuda_version"]) == ("Two", "12.4")
        assert not [card for card in cuda.cards if card.context]
        assert not cuda.initialized
        cuda.allocate(MB)
        assert PerformanceMonitor().get_system_info()["gpu_name"] == "One"
        cuda.module.version.cuda = None
        assert PerformanceMonitor().get_system_info()["cuda_version"] == "13.1"


def test_standin_system_information_without_nvml(cuda: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    info = PerformanceMonitor().get_system_info()
    assert (info["gpu_name"], info["gpu_count"], info["cuda_version"]) == ("Stand-in GPU", 1, "12.6")
    with standin_cuda(initialized=False) as unused:
        unused.module.version.cuda = None
        info = PerformanceMonitor().get_system_info()
        assert not {"gpu_name", "gpu_count", "cuda_version"} & set(info)


@pytest.mark.skipif(sys.platform != "linux", reason="libraries are found otherwise there")
def test_standin_nvml_is_found_as_the_system_finds_it(nvml_library: Path, tmp_path: Path) -> None:
    nvml = StandInNvml(tmp_path / "state", [NvmlDevice(f"GPU-{ONE}", name="Found")])
    nvml.write()
    code = (
        "import sys\n"
        "from ttstrace import PerformanceMonitor\n"
        "info = PerformanceMonitor().get_system_info()\n"
        "print(info['gpu_name'], info['gpu_count'], info['cuda_version'], 'torch' in sys.modules)"
    )
    environment = {**os.environ, "LD_LIBRARY_PATH": str(nvml_library.parent), "STANDIN_NVML": str(nvml.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "Found 1 12.6 False"
