"""What the README shows is what happens."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ttstrace import semconv

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
SCRIPTS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
LINE = re.compile(
    r"^\d[\d.]* s -> \d[\d.]* s  RTF \d[\d.]*  .* ch  cpu \d+ %  peak \d+ MB \(\+\d+\) .*trace [0-9a-f]{8}$"
)


def run(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "TTSTRACE_"))}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env={**environment, "TTSTRACE_CONSOLE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done


TRACED = [script for script in SCRIPTS if "ttstrace.configure" in script]
MEASURED = [script for script in SCRIPTS if "PerformanceMonitor" in script]


@pytest.mark.parametrize("script", TRACED, ids=["decorate", "instrument", "by-hand"])
def test_scripts_run_as_they_stand(script: str, tmp_path: Path) -> None:
    done = run(script, tmp_path)
    (line,) = done.stderr.splitlines()
    assert LINE.match(line), line
    spans = [json.loads(each) for each in (tmp_path / "ttstrace.jsonl").read_text().splitlines()]
    assert len(spans) == 1
    assert "resourceMetrics" in (tmp_path / "ttstrace.metrics.jsonl").read_text()


def test_a_block_is_measured_as_it_stands(tmp_path: Path) -> None:
    pytest.importorskip("hibari")
    (script,) = MEASURED
    assert len(TRACED) + len(MEASURED) == len(SCRIPTS)
    *lines, summary = run(script, tmp_path).stdout.splitlines()
    assert len(lines) == 2
    for line in lines:
        assert re.match(r"^\d\.\d{3} .+ \d+ MB$", line), line
    assert summary.startswith("{'count': 2, 'mean': ")


def test_example_lines_have_the_form_of_the_real_ones() -> None:
    lines = [line for line in README.splitlines() if re.match(r"\d[\d.]* s -> ", line)]
    assert len(lines) == 4
    for line in lines:
        assert LINE.match(line), line


def test_every_name_is_a_real_one() -> None:
    known = {*semconv.ATTRIBUTES, *semconv.METRICS, *semconv.EVENTS, semconv.TTS_STAGE_DURATION + "<name>"}
    named = set(re.findall(r"`((?:tts|gen_ai|error|server)\.[a-z_.]+(?:<name>)?)", README))
    assert len(named) > 40
    assert named <= known, named - known
