"""Every kind of file that `audio_truth.py` makes, in a few of its cases: the reader against ffmpeg."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import audio_truth
import pytest
from audio_truth import KINDS, Case, Outcome, cases, check, table
from ffmpeg import needs

from ttstrace.audio import AudioReader


def _slice() -> Iterator[Case]:
    """Of each kind the third, and of the larger ones one from their middle."""
    every = list(cases())
    for kind in KINDS:
        of_kind = [case for case in every if case.kind == kind]
        yield of_kind[min(2, len(of_kind) - 1)]
        if len(of_kind) > 17:
            yield of_kind[len(of_kind) // 2]


@needs("ffmpeg", "ffprobe")
@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in _slice()])
def test_against_a_full_decode(case: Case) -> None:
    outcome = check(case)
    if outcome.skipped is not None:
        pytest.skip(outcome.skipped)
    assert outcome.complaint is None


def test_every_case_is_another_one() -> None:
    every = list(cases())
    assert len({case.name for case in every}) == len(every) >= 300
    assert {case.kind for case in every} == set(KINDS)


def one(kind: str) -> Case:
    return next(case for case in cases() if case.kind == kind)


@needs("ffmpeg", "ffprobe", "lame")
@pytest.mark.parametrize("kind", ["wav", "raw", "mp3 cbr", "mp3 no xing", "mp3 lame"])
def test_one_codec_frame_too_many_is_found(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = one(kind)
    frame = case.frame / case.rate
    duration = AudioReader.duration.fget
    assert duration is not None
    monkeypatch.setattr(AudioReader, "duration", property(lambda self: duration(self) + frame))
    outcome = check(case)
    assert outcome.frames == pytest.approx(1)
    assert "duration is" in str(outcome.complaint)
    assert "the chunks' seconds" in str(outcome.complaint)


@needs("ffmpeg", "ffprobe")
def test_what_differs_in_pieces_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    feed = AudioReader.feed
    monkeypatch.setattr(AudioReader, "feed", lambda self, chunk: feed(self, chunk) if chunk != b"RIFF" else None)
    monkeypatch.setattr(audio_truth, "PIECES", (4,))
    assert "pieces of 4: " in str(check(one("wav")).complaint)


@needs("ffmpeg", "ffprobe")
@pytest.mark.parametrize("fact", ["sample_rate", "channels", "format", "size"])
def test_a_wrong_fact_is_found(fact: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AudioReader, fact, property(lambda self: 5, lambda self, value: None))
    assert "rate, channels, format, size are" in str(check(one("wav")).complaint)


@needs("ffmpeg", "ffprobe")
def test_a_format_that_is_not_read_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AudioReader, "duration", None)
    outcome = check(one("wav"))
    assert outcome.complaint == "not read: the reader calls it 'wav'"
    (row,) = table([outcome])
    assert (row.not_read, row.failed, row.seconds) == (1, 0, None)


def test_a_missing_tool_skips() -> None:
    case = one("wav")._replace(command=("no-such-encoder", "-"))
    assert check(case) == Outcome(case.kind, case.name, skipped="no no-such-encoder")


def run(*arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    script = Path(audio_truth.__file__)
    env = {"PATH": path} if path is not None else None
    return subprocess.run(
        [sys.executable, str(script), *arguments], capture_output=True, text=True, env=env, check=False
    )


@needs("ffmpeg", "ffprobe", "sox")
def test_the_table() -> None:
    done = run("--only", "wav rifx")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0].split() == ["kind", "files", "worst", "(s)", "(frames)", "worst", "file"]
    assert done.stdout.splitlines()[-1].startswith("3 files in ")
    done = run("--only", "wav rifx", "--json")
    report = json.loads(done.stdout)
    assert (report["files"], report["failed"], len(report["outcomes"])) == (3, 0, 3)
    assert math.isclose(report["kinds"][0]["seconds"], 0, abs_tol=1e-9)


def test_without_ffmpeg_it_says_so(tmp_path: Path) -> None:
    done = run(path=str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.startswith("ffmpeg and ffprobe not found")


@needs("ffmpeg")
def test_a_kind_that_there_is_not() -> None:
    done = run("--only", "cassette")
    assert done.returncode == 2
    assert "no kind is called cassette" in done.stderr
