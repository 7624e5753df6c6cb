"""GPU figures on spans: plain, streamed and fed by hand, over stand-ins for torch.cuda and NVML."""

from __future__ import annotations

import gc
import os
import threading
import time
import uuid
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import Metrics, Spans, set_tracer_provider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from standin_cuda import Card, Device, StandIn, Tensor, standin_cuda
from standin_nvml import FUNCTIONS, UNKNOWN, NvmlDevice, StandInNvml
from test_monitor_gpu_memory import CUDA_FUNCTIONS

from ttstrace import semconv, synthesis, traced_synthesis
from ttstrace.call import Options
from ttstrace.decorator import trace as trace_callable
from ttstrace.monitor.gpu import window as module

MB = 2**20
ONE, TWO = uuid.UUID(int=1), uuid.UUID(int=2)


def gpu_names(attributes: dict[str, Any]) -> set[str]:
    return {name for name in attributes if name.startswith("tts.gpu.") or name == semconv.HW_NAME}


@pytest.fixture
def card(nvml: StandInNvml, cuda: StandIn) -> NvmlDevice:
    nvml.devices = [NvmlDevice(f"GPU-{ONE}", compute=[(os.getpid(), 700 * MB)])]
    nvml.write()
    cuda.allocate(100 * MB)
    return nvml.devices[0]


def run(cuda: StandIn, nvml: StandInNvml, size: int) -> None:
    """What a model does: memory for a while, and the card's work."""
    cuda.allocate(size)
    cuda.free(size)
    time.sleep(0.02)
    device = nvml.devices[0]
    device.samples.append((time.time_ns() // 1000 - 1000, 80))
    device.energy += 2000
    nvml.write()


EVERYTHING = {
    semconv.TTS_GPU_MEMORY_ALLOCATED: 100 * MB,
    semconv.TTS_GPU_MEMORY_USED: 700 * MB,
    semconv.TTS_GPU_TEMPERATURE: 41,
    semconv.TTS_GPU_ENERGY: 2.0,
    semconv.TTS_GPU_UTILIZATION: 0.8,
    semconv.HW_NAME: "Stand-in GPU",
}


def test_standin_a_plain_call(
    spans: Spans, recorded: Metrics, nvml: StandInNvml, card: NvmlDevice, cuda: StandIn
) -> None:
    @traced_synthesis(sample_rate=24000)
    def speak(text: str) -> Tensor:
        run(cuda, nvml, 50 * MB)
        return cuda.tensor(1, 24000, dtype="torch.float16")

    speak("hello")
    attributes = spans.attributes()
    expected = {**EVERYTHING, semconv.TTS_GPU_MEMORY_PEAK: 150 * MB}
    assert {name: attributes[name] for name in gpu_names(attributes)} == expected
    assert attributes["tts.device"] == "cuda:0"
    # Half precision is read by its dtype; the samples stay where they are.
    assert attributes["tts.audio.duration"] == 1.0
    assert attributes["tts.audio.format"] == "pcm_f16le"
    assert attributes["tts.audio.channels"] == 1
    assert attributes["tts.audio.size"] == 48000
    [point] = recorded.points(semconv.METRIC_GPU_MEMORY_PEAK)
    assert point.sum == 150 * MB


def test_standin_a_stream_has_the_peak_of_all_its_pulls(
    spans: Spans, nvml: StandInNvml, card: NvmlDevice, cuda: StandIn
) -> None:
    @traced_synthesis(sample_rate=24000, format="pcm_s16le", device="cuda")
    def speak(text: str) -> Iterator[bytes]:
        yield bytes(4800)
        run(cuda, nvml, 70 * MB)
        yield bytes(4800)

    cuda.allocate(900 * MB)
    cuda.free(900 * MB)
    for _ in speak("hello"):
        pass
    attributes = spans.attributes()
    expected = {**EVERYTHING, semconv.TTS_GPU_MEMORY_PEAK: 170 * MB}
    assert {name: attributes[name] for name in gpu_names(attributes)} == expected


@pytest.mark.parametrize("streamed", [False, True])
def test_standin_energy_of_work_that_goes_on_after_the_return_is_unknown(
    spans: Spans, nvml: StandInNvml, card: NvmlDevice, cuda: StandIn, streamed: bool
) -> None:
    """What the card used and did until the return is a part of it."""

    def work() -> Tensor:
        run(cuda, nvml, 50 * MB)
        cuda.launch(0.3)
        return cuda.tensor(1, 24000)

    @traced_synthesis(sample_rate=24000)
    def speak(text: str) -> Tensor:
        return work()

    @traced_synthesis(sample_rate=24000)
    def stream(text: str) -> Iterator[Tensor]:
        yield work()

    if streamed:
        assert len(list(stream("hello"))) == 1
    else:
        speak("hello")
    cuda.wait()
    attributes = spans.attributes()
    expected = {**EVERYTHING, semconv.TTS_GPU_MEMORY_PEAK: 150 * MB}
    del expected[semconv.TTS_GPU_ENERGY], expected[semconv.TTS_GPU_UTILIZATION]
    assert {name: attributes[name] for name in gpu_names(attributes)} == expected


@pytest.mark.keeps_time
def test_standin_nvml_is_loaded_before_any_clock(
    spans: Spans, card: NvmlDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pynvml

    original, body = pynvml.nvmlInit, []

    def slow() -> None:
        time.sleep(0.3)
        original()

    monkeypatch.setattr(pynvml, "nvmlInit", slow)

    @traced_synthesis
    def speak(text: str) -> bytes:
        body.append(time.time_ns())
        time.sleep(0.01)
        body.append(time.time_ns())
        return bytes(10)

    speak("hello")
    span = spans.one()
    assert body[0] - 200_000_000 < (span.start_time or 0) <= body[0]
    assert body[1] - 100_000_000 < (span.end_time or 0) < body[1] + 200_000_000
    assert (span.attributes or {})[semconv.TTS_SYNTHESIS_DURATION] < 0.2
    assert (span.attributes or {})[semconv.TTS_GPU_TEMPERATURE] == 41


def test_standin_fed_by_hand(spans: Spans, nvml: StandInNvml, card: NvmlDevice, cuda: StandIn) -> None:
    with synthesis(text="hello", sample_rate=24000, format="pcm_s16le") as s:
        run(cuda, nvml, 30 * MB)
        s.chunk(bytes(4800))
    assert spans.attributes()[semconv.TTS_GPU_MEMORY_PEAK] == 130 * MB
    assert spans.attributes()[semconv.TTS_GPU_ENERGY] == 2.0


def test_standin_of_two_cards_the_models(spans: Spans, nvml: StandInNvml, new_gpu_meter: None) -> None:
    nvml.devices = [NvmlDevice(f"GPU-{ONE}", temperature=31), NvmlDevice(f"GPU-{TWO}", temperature=32)]
    nvml.write()

    class Engine:
        def __init__(self, device: str) -> None:
            self.device = device

        def parameters(self) -> Iterator[SimpleNamespace]:
            yield SimpleNamespace(device=self.device)

        @traced_synthesis
        def speak(self, text: str) -> bytes:
            return bytes(10)

    with standin_cuda(Card(TWO, name="Two"), Card(ONE, name="One")) as cuda:
        cuda.allocate(2 * MB, 0)
        cuda.allocate(MB, 1)
        Engine("cuda:1").speak("hello")
        Engine("cuda:0").speak("hello")
        Engine("cpu").speak("hello")
        traced_synthesis(lambda text: cuda.tensor(1, 10, device=1))("hello")
        traced_synthesis(lambda text: bytes(10))("hello")  # nobody can know
    one, two, cpu, result, unknown = [dict(span.attributes or {}) for span in spans.syntheses()]
    told = [semconv.HW_NAME, semconv.TTS_GPU_TEMPERATURE, semconv.TTS_GPU_MEMORY_PEAK]
    assert [one[name] for name in told] == ["One", 31, MB]
    assert [two[name] for name in told] == ["Two", 32, 2 * MB]
    assert [result[name] for name in told] == ["One", 31, MB]
    assert gpu_names(cpu) == gpu_names(unknown) == set()


def test_standin_overlapping_calls_each_have_their_own_peak(spans: Spans, cuda: StandIn) -> None:
    cuda.allocate(10 * MB)
    inside, go_on = threading.Event(), threading.Event()

    @traced_synthesis(model="long")
    def long(text: str) -> bytes:
        cuda.allocate(300 * MB)
        cuda.free(300 * MB)
        inside.set()
        go_on.wait(10)
        return bytes(10)

    @traced_synthesis(model="short")
    def short(text: str) -> bytes:
        cuda.allocate(20 * MB)
        cuda.free(20 * MB)
        return bytes(10)

    thread = threading.Thread(target=long, args=("hello",))
    thread.start()
    inside.wait(10)
    short("hello")
    go_on.set()
    thread.join()
    peaks = {span.name: (span.attributes or {})[semconv.TTS_GPU_MEMORY_PEAK] for span in spans.syntheses()}
    assert peaks == {"text_to_speech long": 310 * MB, "text_to_speech short": 30 * MB}


def test_standin_a_model_that_moves_to_the_gpu_in_the_call(spans: Spans, new_gpu_meter: None) -> None:
    with standin_cuda(initialized=False) as cuda:

        @traced_synthesis(device="cuda")
        def speak(text: str) -> bytes:
            cuda.allocate(500 * MB)
            cuda.free(100 * MB)
            return bytes(10)

        speak("hello")
    attributes = spans.attributes()
    assert attributes[semconv.TTS_GPU_MEMORY_PEAK] == 500 * MB
    assert attributes[semconv.TTS_GPU_MEMORY_ALLOCATED] == 400 * MB


@pytest.mark.parametrize("streamed", [False, True])
def test_standin_never_of_a_remote_service(
    spans: Spans, nvml: StandInNvml, card: NvmlDevice, cuda: StandIn, streamed: bool
) -> None:
    def plain(text: str) -> bytes:
        run(cuda, nvml, MB)
        return bytes(10)

    def stream(text: str) -> Iterator[bytes]:
        run(cuda, nvml, MB)
        yield bytes(10)

    resets = cuda.cards[0].resets
    result = trace_callable(stream if streamed else plain, Options(device="cuda", remote=True))("hello")
    for _ in result:
        pass
    span = spans.one()
    assert span.kind.name == "CLIENT"
    assert gpu_names(dict(span.attributes or {})) == set()
    assert cuda.cards[0].resets == resets
    assert nvml.calls() == []


def test_standin_a_call_that_nobody_records_opens_no_window(cuda: StandIn) -> None:
    cuda.allocate(MB)
    traced = traced_synthesis(lambda text: bytes(10))
    traced("hello")
    set_tracer_provider(TracerProvider(sampler=ALWAYS_OFF))
    try:
        traced("hello")
        assert cuda.cards[0].resets == 0
        set_tracer_provider(TracerProvider())
        traced("hello")
        assert cuda.cards[0].resets == 1
    finally:
        set_tracer_provider(None)


def test_standin_what_was_collected_has_no_figures_and_leaves_no_window(spans: Spans, cuda: StandIn) -> None:
    cuda.allocate(MB)

    @traced_synthesis
    def speak(text: str) -> Iterator[bytes]:
        yield bytes(10)
        yield bytes(10)

    chunks = speak("hello")
    next(chunks)
    assert len(module.gpu_meter().ledger._open) == 1
    del chunks
    gc.collect()
    assert gpu_names(spans.attributes()) == set()
    assert module.gpu_meter().ledger._open == []


def test_standin_a_failed_and_a_closed_synthesis_have_figures(spans: Spans, cuda: StandIn) -> None:
    cuda.allocate(MB)
    error = RuntimeError("CUDA out of memory")

    @traced_synthesis
    def speak(text: str) -> Iterator[bytes]:
        yield bytes(10)
        raise error

    with pytest.raises(RuntimeError) as caught:
        list(speak("hello"))
    assert caught.value is error
    chunks = speak("hello")
    next(chunks)
    chunks.close()
    for span in spans.syntheses():
        assert (span.attributes or {})[semconv.TTS_GPU_MEMORY_PEAK] == MB
    assert module.gpu_meter().ledger._open == []


@pytest.mark.parametrize("function", CUDA_FUNCTIONS)
@pytest.mark.parametrize("raises", [False, True])
def test_standin_whatever_torch_raises_costs_its_own_figures_only(
    spans: Spans, cuda: StandIn, function: str, raises: bool
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    theirs, result, calls = ValueError("the program's own"), object(), []

    @traced_synthesis
    def speak(text: str) -> object:
        calls.append(text)
        if raises:
            raise theirs
        return result

    cuda.allocate(MB)
    setattr(cuda.module.cuda, function, broken)
    if raises:
        with pytest.raises(ValueError, match="own") as caught:
            speak("hello")
        assert caught.value is theirs
    else:
        assert speak("hello") is result
    assert calls == ["hello"]
    attributes = spans.attributes()
    assert attributes[semconv.TTS_CPU_TIME] >= 0
    assert attributes.get(semconv.TTS_GPU_MEMORY_PEAK, MB) == MB
    assert module.gpu_meter().ledger._open == []


@pytest.mark.parametrize("function", FUNCTIONS)
def test_standin_whatever_nvml_fails_at_costs_its_own_figures_only(
    spans: Spans, nvml: StandInNvml, card: NvmlDevice, cuda: StandIn, function: str
) -> None:
    (nvml.fails if FUNCTIONS[function] < 0 else card.fails)[function] = UNKNOWN
    nvml.write()
    result = Tensor(cuda, Device("cuda", 0), 10)

    @traced_synthesis
    def speak(text: str) -> Tensor:
        run(cuda, nvml, 9 * MB)
        return result

    assert speak("hello") is result
    attributes = spans.attributes()
    assert attributes[semconv.TTS_GPU_MEMORY_PEAK] == 109 * MB
    lost = {
        "nvmlInitWithFlags": 4,
        "nvmlDeviceGetComputeRunningProcesses_v3": 1,
        "nvmlDeviceGetSamples": 1,
        "nvmlDeviceGetTotalEnergyConsumption": 1,
        "nvmlDeviceGetTemperature": 1,
    }.get(function, 0)
    assert len(gpu_names(attributes)) == 7 - lost
