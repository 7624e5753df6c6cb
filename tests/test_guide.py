"""The guide: its snippets run as they were written but for the imports, and what it says holds.

Its first edition came before this package, with `from utils import` and `from models import`, and with four warnings
and a problem that this package was to make untrue or to name. What that edition said is quoted here.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from backends import work
from conftest import Spans
from google_tts import GoogleTTS, in_place_of_google, seconds_of

import ttstrace
from ttstrace import GTTSWrapper, PerformanceMonitor, semconv
from ttstrace.monitor import memory_method

ROOT = Path(__file__).parent.parent
GUIDE = (ROOT / "docs" / "performance-monitor.ko.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)

MEASURE = """\
from utils import PerformanceMonitor

# 모니터 생성
monitor = PerformanceMonitor(device='auto')

# 성능 측정
with monitor.measure() as metrics:
    # 측정하고 싶은 코드
    result = my_computation()

# 결과 확인
print(f"추론 시간: {metrics['inference_time']}초")
print(f"메모리 사용량: {metrics['peak_memory_mb']} MB")
print(f"CPU 사용률: {metrics['cpu_percent']}%")
"""
MODEL = """\
from models import GTTSWrapper
from utils import PerformanceMonitor

# TTS 모델 준비
tts = GTTSWrapper()
tts.load_model()

# 성능 모니터
monitor = PerformanceMonitor(device='cpu')

# 음성 합성 + 성능 측정
with monitor.measure() as metrics:
    audio = tts.synthesize("안녕하세요")

# 오디오 길이 계산
audio_duration = len(audio) / tts.sample_rate

# RTF 계산
rtf = PerformanceMonitor.calculate_rtf(
    metrics['inference_time'],
    audio_duration
)

print(f"RTF: {rtf:.4f}")
if rtf < 0.5:
    print("🎉 목표 달성!")
"""
RTF = """\
rtf = PerformanceMonitor.calculate_rtf(
    inference_time=1.5,  # 추론 시간 (초)
    audio_duration=3.0   # 오디오 길이 (초)
)
# RTF = 1.5 / 3.0 = 0.5
"""
SYSTEM = """\
monitor = PerformanceMonitor(device='auto')
info = monitor.get_system_info()

print(f"CPU 코어: {info['cpu_count']}")
print(f"전체 메모리: {info['total_memory_gb']} GB")
print(f"GPU: {info.get('gpu_name', 'N/A')}")
"""
SEVERAL = """\
monitor = PerformanceMonitor(device='auto')
results = []

for text in test_sentences:
    with monitor.measure() as metrics:
        audio = tts.synthesize(text)
    results.append(metrics)

# 평균 계산
avg_time = sum(m['inference_time'] for m in results) / len(results)
print(f"평균 추론 시간: {avg_time:.3f}초")
"""
TORCH = """\
import torch

monitor = PerformanceMonitor(device='cuda')

with monitor.measure() as metrics:
    # 계산
    result = model.forward(input)
    torch.cuda.synchronize()  # GPU 동기화

# GPU 메모리 정리
torch.cuda.empty_cache()
"""
FIRST_EDITION = [MEASURE, MODEL, RTF, SYSTEM, SEVERAL, TORCH]
SECTIONS = [
    "# PerformanceMonitor 사용 가이드",
    "## 개요",
    "## 기본 사용법",
    "### 1. 간단한 성능 측정",
    "### 2. TTS 모델과 함께 사용",
    "## 측정 메트릭",
    "### 기본 메트릭 (항상 제공)",
    "### GPU 메트릭 (CUDA 사용 가능 시)",
    "## RTF (Real-Time Factor) 계산",
    "### RTF 해석",
    "## 시스템 정보 조회",
    "## 고급 사용법",
    "### 다중 측정 및 통계",
    "### GPU 메모리 최적화",
    "## 주의사항",
    "## 예제 출력",
    "## 문제 해결",
    "### GPU 메모리 측정이 안 됨",
    "### CPU 사용률이 0%로 나옴",
]
KEYS = {"inference_time", "peak_memory_mb", "cpu_percent", "memory_percent", "device"}

exact = pytest.mark.skipif(memory_method() != "clear_refs", reason="the mark of memory cannot be reset here")


def of_today(snippet: str) -> str:
    """A snippet of the first edition with this package's import."""
    return re.sub(r"^from (utils|models) import", "from ttstrace import", snippet, flags=re.MULTILINE)


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch) -> Iterator[GoogleTTS]:
    with in_place_of_google(monkeypatch) as service:
        yield service


# --- the document ------------------------------------------------------------------------------------------------


def test_every_section_and_snippet_of_the_first_edition_is_there_in_its_order() -> None:
    fences = re.sub(r"```.*?```", "", GUIDE, flags=re.DOTALL)
    assert re.findall(r"^#+ .*$", fences, re.MULTILINE) == SECTIONS
    assert [block for block in BLOCKS if block in map(of_today, FIRST_EDITION)] == list(map(of_today, FIRST_EDITION))
    assert "from utils" not in GUIDE
    assert "from models" not in GUIDE


def test_its_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)]+)\)", GUIDE)
    assert links
    assert all((ROOT / "docs" / link).exists() for link in links)


@exact
def test_the_basic_keys_are_those_that_are_always_there() -> None:
    basic = GUIDE.split("### 기본 메트릭 (항상 제공)")[1].split("###")[0]
    assert set(re.findall(r"^- `(\w+)` ", basic, re.MULTILINE)) == KEYS
    with PerformanceMonitor(device="cpu").measure() as metrics:
        work(0.001)
    assert set(metrics) == KEYS


@exact
def test_the_snippets_run_in_order(google: GoogleTTS, capsys: pytest.CaptureFixture[str]) -> None:
    """Against a service on this machine that speaks Google's protocol; all but the one that needs CUDA."""
    google.delay = 0.05
    sentences = ["첫 번째 문장입니다.", "The second sentence.", "세 번째 문장입니다."]
    # What a reader would have defined.
    names: dict[str, Any] = {"my_computation": lambda: work(0.02), "test_sentences": sentences}
    after: dict[str, tuple[dict[str, Any], str]] = {}
    for block in BLOCKS:
        if block != TORCH:
            exec(compile(block, "docs/performance-monitor.ko.md", "exec"), names)
            after[block] = dict(names), capsys.readouterr().out

    found, output = after[of_today(MEASURE)]
    metrics = found["metrics"]
    assert 0.02 <= metrics["inference_time"] < 1
    assert metrics["peak_memory_mb"] == pytest.approx(psutil.Process().memory_info().rss / 2**20, rel=0.5)
    assert metrics["cpu_percent"] > 0
    assert output == (
        f"추론 시간: {metrics['inference_time']}초\n"
        f"메모리 사용량: {metrics['peak_memory_mb']} MB\n"
        f"CPU 사용률: {metrics['cpu_percent']}%\n"
    )

    found, output = after[of_today(MODEL)]
    assert google.requests[0] == ("안녕하세요", "ko", False)
    assert found["audio_duration"] == pytest.approx(seconds_of(google.sent[0]), abs=1e-9)
    assert found["metrics"]["inference_time"] >= 0.05
    assert found["metrics"]["device"] == "cpu"
    assert found["rtf"] == found["metrics"]["inference_time"] / found["audio_duration"]
    assert output == f"RTF: {found['rtf']:.4f}\n" + ("🎉 목표 달성!\n" if found["rtf"] < 0.5 else "")

    found, output = after[RTF]
    assert (found["rtf"], output) == (0.5, "")

    found, output = after[SYSTEM]
    ram = psutil.virtual_memory().total / 2**30
    assert found["info"]["total_memory_gb"] == pytest.approx(ram, rel=0.01)
    assert output.splitlines()[0] == f"CPU 코어: {os.cpu_count()}"
    assert re.fullmatch(r"전체 메모리: [\d.]+ GB", output.splitlines()[1])
    assert re.fullmatch(r"GPU: .+", output.splitlines()[2])

    found, output = after[SEVERAL]
    assert [text for text, _, _ in google.requests[1:4]] == sentences
    times = [each["inference_time"] for each in found["results"]]
    assert len(times) == 3
    assert min(times) >= 0.05
    assert output == f"평균 추론 시간: {sum(times) / 3:.3f}초\n"

    assert [block for block in after if block not in map(of_today, FIRST_EDITION)] == BLOCKS[3:4] + BLOCKS[6:7]
    assert after[BLOCKS[3]][1] == "평가: ✅ 실시간보다 빠름\n"
    assert after[BLOCKS[6]][1] == (
        f"평균 {sum(times) / 3:.3f}초, 중앙값 {sorted(times)[1]:.3f}초, "
        f"p95 {0.1 * sorted(times)[1] + 0.9 * max(times):.3f}초 (3회)\n"
    )


def test_the_cuda_snippet_runs_on_cuda_and_is_a_clear_error_without() -> None:
    names: dict[str, Any] = {"PerformanceMonitor": PerformanceMonitor}
    assert TORCH in BLOCKS
    if importlib.util.find_spec("torch") is None:
        with pytest.raises(ModuleNotFoundError, match="torch"):
            exec(TORCH, names)
        # A reader whose torch is missing only where it is measured is told as much.
        with pytest.raises(RuntimeError, match="device='cuda' needs torch: install it, or use device='auto' or 'cpu'"):
            exec(TORCH.replace("import torch\n", ""), names)
        return
    import torch

    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="torch finds no CUDA device: use device='auto' or 'cpu'"):
            exec(TORCH, names)
        return
    names["model"] = torch.nn.Linear(1000, 1000).cuda()
    names["input"] = torch.ones(1000, 1000, device="cuda")
    exec(TORCH, names)
    assert names["metrics"]["device"] == "cuda"
    assert names["metrics"]["inference_time"] > 0


# --- its warnings ------------------------------------------------------------------------------------------------


def notes() -> list[str]:
    section = GUIDE.split("## 주의사항\n")[1].split("\n## ")[0]
    return re.findall(r"^\d\. \*\*(.*?)\*\*", section, re.MULTILINE)


def test_the_four_subjects_of_its_warnings_are_still_spoken_of() -> None:
    assert notes() == ["짧은 연산", "CPU 사용률", "GPU 메트릭", "인터넷 API"]


class Timed:
    """A block that is measured, and what the test's own clocks say closely inside and outside of the measurement."""

    def __init__(self, block: Callable[[], object]) -> None:
        cpu, wall = time.process_time(), time.perf_counter()
        with PerformanceMonitor().measure() as self.metrics:
            inner_wall, inner_cpu = time.perf_counter(), time.process_time()
            block()
            self.inner_cpu, self.inner = time.process_time() - inner_cpu, time.perf_counter() - inner_wall
        self.outer, self.outer_cpu = time.perf_counter() - wall, time.process_time() - cpu
        self.time: float = self.metrics["inference_time"]
        self.percent: float = self.metrics["cpu_percent"]
        assert self.inner <= self.time <= self.outer
        # The kernel's two ways to read CPU time are each rounded.
        assert self.inner_cpu - 20e-6 <= self.percent / 100 * self.time <= self.outer_cpu + 20e-6


def test_warning_1_short_blocks_are_timed_exactly() -> None:
    """First edition: "매우 짧은 연산(< 0.1초)은 측정 오차가 클 수 있습니다." """
    Timed(lambda: None)
    close = 0
    for _ in range(50):
        measured = Timed(lambda: work(0.001))
        close += measured.outer - measured.time <= max(20e-6, 0.01 * measured.outer)
    # Other work on the machine may come between the two clocks, but not each time.
    assert close >= 5


def test_warning_1_a_busy_short_block_has_its_cpu_percent() -> None:
    """First edition: "매우 짧은 연산(< 0.1초)은 측정 오차가 클 수 있습니다." """
    # How busy the machine let it be, each `Timed` holds against clocks of its own.
    busy = [Timed(lambda: work(0.005)).percent for _ in range(50)]
    assert min(busy) > 0
    assert max(busy) <= 150


def test_warning_1_a_sleeping_block_uses_next_to_no_cpu() -> None:
    for _ in range(5):
        assert Timed(lambda: time.sleep(0.05)).percent < 20


def test_warning_2_several_cores_are_more_than_100_percent() -> None:
    """First edition: "멀티코어 시스템에서 100%를 초과할 수 있습니다." """

    def both() -> None:
        """In C code that needs no interpreter lock."""
        arguments = ("sha256", b"text", b"salt", 50_000)
        threads = [threading.Thread(target=hashlib.pbkdf2_hmac, args=arguments) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    most = 0.0
    for _ in range(50):  # until the machine has two cores for this
        most = max(most, Timed(both).percent)
        if most > 110:
            return
    pytest.skip(f"this machine gave the process no second core: at most {most:.0f} %")


@pytest.mark.parametrize("gputil", ["None", "object()"], ids=["not installed", "fails if it is asked"])
def test_warning_3_nothing_asks_for_gputil(gputil: str) -> None:
    """First edition: "GPUtil이 설치되지 않으면 일부 메트릭이 제공되지 않습니다." """
    assert "pip install gputil" not in GUIDE
    assert "`gpu_memory_mb`, `gpu_utilization`,\n   `gpu_temperature`가 빠집니다" in GUIDE
    script = f"""
import sys, warnings
warnings.simplefilter("error")
sys.modules["GPUtil"] = {gputil}
from ttstrace import PerformanceMonitor
for device in ("auto", "cpu"):
    monitor = PerformanceMonitor(device=device)
    with monitor.measure() as metrics:
        sum(range(1000))
    assert metrics["inference_time"] > 0 and "cpu_percent" in metrics, metrics
    assert monitor.get_system_info()["cpu_count"] > 0
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_warning_4_network_time_is_in_the_time_and_is_named(spans: Spans, google: GoogleTTS) -> None:
    """First edition: "gTTS 같은 API 기반 모델은 네트워크 지연이 포함됩니다." """
    google.delay = 0.3
    tts = GTTSWrapper()
    tts.load_model()
    assert ttstrace.instrument("gtts") == ["gtts"]
    try:
        with PerformanceMonitor().measure() as metrics:
            audio = tts.synthesize("안녕하세요")
    finally:
        ttstrace.uninstrument()
    span, found = spans.one(), spans.attributes()
    assert metrics["inference_time"] >= 0.3
    assert 0.3 <= found[semconv.TTS_SYNTHESIS_DURATION] <= metrics["inference_time"]
    rtf = PerformanceMonitor.calculate_rtf(metrics["inference_time"], len(audio) / tts.sample_rate)
    assert rtf >= 0.3 / seconds_of(google.sent[0])
    assert span.kind.name == "CLIENT"
    assert found[semconv.SERVER_ADDRESS] == "translate.google.com"


def test_without_resets_the_peak_is_there_where_it_rose() -> None:
    """The environment variable's sentence."""
    assert "`TTSTRACE_MEMORY_RESET=0`" in GUIDE
    script = """
from ttstrace import PerformanceMonitor
monitor = PerformanceMonitor()
with monitor.measure() as first:
    held = bytearray(50 << 20)
del held
with monitor.measure() as below:
    held = bytearray(20 << 20)
assert first["memory_method"] == "rise" and first["peak_memory_mb"] > 50 and "memory_percent" in first, first
assert not {"peak_memory_mb", "memory_percent", "memory_method"} & set(below), below
assert below["inference_time"] > 0 and "cpu_percent" in below, below
"""
    environment = {**os.environ, "TTSTRACE_MEMORY_RESET": "0"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_problem_cpu_percent_is_0() -> None:
    """First edition: "CPU 사용률이 0%로 나옴: 짧은 연산의 경우 정상입니다. 더 긴 시간 동안 측정하세요." """
    for _ in range(20):
        assert Timed(lambda: work(0.0005)).percent > 0


# --- its errors and its example ----------------------------------------------------------------------------------


def test_errors_say_what_would_be_right() -> None:
    with pytest.raises(ValueError, match=r"inference_time must not be negative, but is -1\.5: pass seconds"):
        PerformanceMonitor.calculate_rtf(inference_time=-1.5, audio_duration=3.0)
    with pytest.raises(ValueError, match=r"audio_duration must not be negative, but is -3\.0: pass seconds"):
        PerformanceMonitor.calculate_rtf(inference_time=1.5, audio_duration=-3.0)
    with pytest.raises(TypeError, match=r"audio_duration must be a number, not str: pass float\(audio_duration\)"):
        PerformanceMonitor.calculate_rtf(1.5, "3.0")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="device must be one of 'auto', 'cpu', 'cuda', not 'gpu'"):
        PerformanceMonitor(device="gpu")


def test_the_example_output_is_what_its_figures_give() -> None:
    """First edition: RTF 0.1137 is "평가: 🎉 매우 빠름 (목표 달성!)"."""
    assert f"평가: {PerformanceMonitor.interpret_rtf(0.1137, 'ko')}" == "평가: 🎉 매우 빠름 (목표 달성!)"
    for line, rtf in [("RTF < 0.5", 0.1137), ("RTF < 1.0", 0.7), ("RTF = 1.0", 1.0), ("RTF > 1.0", 1.5)]:
        assert f"- **{line}**: {PerformanceMonitor.interpret_rtf(rtf, 'ko')}\n" in GUIDE
    check_six_lines(GUIDE.split("## 예제 출력")[1].split("```")[1].strip().splitlines(), "ko")


SIX_LINES = {
    "ko": [
        r"추론 시간: (\d+\.\d\d)초",
        r"오디오 길이: (\d+\.\d\d)초",
        r"RTF: (\d+\.\d{4})",
        r"Peak Memory: (\d+\.\d\d) MB",
        r"CPU 사용률: (\d+\.\d\d)%",
        r"평가: (.+)",
    ],
    "en": [
        r"Inference time: (\d+\.\d\d) s",
        r"Audio length: (\d+\.\d\d) s",
        r"RTF: (\d+\.\d{4})",
        r"Peak memory: (\d+\.\d\d) MB",
        r"CPU usage: (\d+\.\d\d)%",
        r"Grade: (.+)",
    ],
}


def check_six_lines(lines: list[str], language: str) -> float:
    """They have the guide's form, and their figures go together. Returns the audio's length in seconds."""
    found = [re.fullmatch(form, line) for form, line in zip(SIX_LINES[language], lines, strict=True)]
    assert all(found), lines
    values = [match[1] for match in found if match]
    seconds, audio, rtf, memory, cpu = map(float, values[:5])
    half = 0.0051  # of the last digit that is printed of the seconds
    assert (seconds - half) / (audio + half) - 0.00006 <= rtf <= (seconds + half) / (audio - half) + 0.00006
    assert memory > 10
    assert cpu > 0
    assert values[5] == PerformanceMonitor.interpret_rtf(rtf, language)
    return audio


def run_script(*arguments: str, **environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "guide.py"), *arguments],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", **environment},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@exact
@pytest.mark.parametrize("language", ["ko", "en"])
def test_the_script_runs_without_a_network_and_a_gpu(language: str, google: GoogleTTS) -> None:
    nowhere = "http://127.0.0.1:9"  # the port of `discard`, where nobody listens
    lines = run_script(*(["--language", "en"] if language == "en" else []), HTTPS_PROXY=nowhere)
    assert google.requests == []
    voice = "espeak-ng" if language == "ko" and shutil.which("espeak-ng") else "hibari"
    assert any(line.startswith("gtts: ") and "Failed to connect" in line for line in lines)
    assert any(re.match(rf"TTS .*: {voice} ", line) for line in lines)
    assert any(line.startswith("device='cuda'") for line in lines)
    steps = [line for line in lines if line.startswith("# ")]
    assert [step[:5] for step in steps] == [f"# {number}. " for number in range(1, 8)]
    assert steps[0] == ("# 1. 간단한 성능 측정" if language == "ko" else "# 1. A block of code")
    assert 1 < check_six_lines(lines[-6:], language) < 10


@exact
def test_the_script_speaks_with_gtts_where_it_can(google: GoogleTTS) -> None:
    lines = run_script()
    assert any(line.startswith("TTS 모델: gtts ") for line in lines)
    # One call that warms up, the one that is shown, and three in a row.
    assert [language for _, language, _ in google.requests] == ["ko"] * 5
    assert check_six_lines(lines[-6:], "ko") == pytest.approx(seconds_of(google.sent[1]), abs=0.006)
