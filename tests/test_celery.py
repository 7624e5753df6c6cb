"""Celery's prefork pool: no span twice, none lost but what ``docs/processes.md`` says; and its limit of memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from collector import Collector, clean_environment, lines_of, running_collector
from process_programs import noted, sent, told, write_voice

from ttstrace import semconv
from ttstrace.monitor import memory_method

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="its prefork pool forks, and prctl is Linux's"),
    pytest.mark.timeout(600),  # many processes, one after the other, on a machine that may be busy
]
pytest.importorskip("celery")

MB = 2**20
BROKER = """
from pathlib import Path

from celery import Celery

def connected(folder):
    queue = str(Path(folder, "queue"))
    app = Celery("app", broker="filesystem://")
    app.conf.broker_transport_options = {
        "data_folder_in": queue, "data_folder_out": queue, "control_folder": queue, "polling_interval": 0.05
    }
    app.conf.task_ignore_result = True
    app.conf.worker_proc_alive_timeout = 120  # seconds in which a process has to be up; a busy machine may take some
    return app
"""
APP = """
import ctypes
import os

import ttstrace
from celery.exceptions import SoftTimeLimitExceeded
from celery.signals import worker_process_init
import voice
from broker import connected

app = connected(os.path.dirname(__file__))

@worker_process_init.connect
def outlive_thread(**_):
    # Celery has the kernel kill a process when the thread that forked it ends. For those that replace others that is
    # a thread which a stop ends first of all: they would race against it.
    ctypes.CDLL(None).prctl(1, 0)  # PR_SET_PDEATHSIG: none

def configure(**_):
    ttstrace.configure(endpoint=os.environ["WHERE"], file="x.jsonl")

if os.environ.get("IN_EACH_PROCESS"):
    worker_process_init.connect(configure)
else:
    configure()

def note(what, number):
    voice.note(what, number)
    voice.note(f"{what}-{os.getpid()}", number)

@app.task
def speak(number):
    voice.speak(number)
    note("finished", number)

kept = []

@ttstrace.traced_synthesis(sample_rate=8000, format="pcm_s16le")
def keep(text):
    kept.append(b"x" * (200 * 2**20))
    return bytes(2 * len(text))

@ttstrace.traced_synthesis(sample_rate=8000, format="pcm_s16le")
def burst(text):
    len(b"x" * (200 * 2**20))
    return bytes(2 * len(text))

@app.task
def need(what, number, then):
    {"keep": keep, "burst": burst}[what]("." * number)
    voice.note("done", number)
    if then:
        voice.speak(then)
    note("finished", number)

@app.task
def hang(number):
    note("started", number)
    try:
        voice.hang("." * number)
    except SoftTimeLimitExceeded:
        note("finished", number)
"""


class Worker:
    """A worker of Celery and the tasks that it is sent, in a folder."""

    def __init__(self, folder: Path, *options: str, **variables: str) -> None:
        write_voice(folder)
        (folder / "app.py").write_text(APP)
        (folder / "broker.py").write_text(BROKER)
        (folder / "queue").mkdir()
        self.folder = folder
        found: dict[str, Any] = {}
        exec(BROKER, found)
        self._app = found["connected"](folder)
        self._log = folder / "log"
        command = ("-m", "celery", "-A", "app", "worker", "-c", "2", "--loglevel", "info", *options)
        quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat")
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, *command, *quiet],
                cwd=folder,
                env=clean_environment(OTEL_SERVICE_NAME=folder.name, **variables),
                stdout=log,
                stderr=log,
            )

    def log(self) -> str:
        return self._log.read_text()

    def send(self, task: str, *arguments: object, **options: object) -> None:
        self._app.send_task(f"app.{task}", arguments, **options)

    def do(self, numbers: Sequence[int]) -> None:
        """Have these spoken."""
        for number in numbers:
            self.send("speak", number)
        self.wait_until_finished(*numbers)

    def wait_for(self, condition: Callable[[], object], what: str) -> None:
        end = time.monotonic() + 150
        while not condition():
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < end, f"waited in vain for {what}: {self.log()}"
            time.sleep(0.02)

    def wait_until_finished(self, *numbers: int) -> None:
        self.wait_for(lambda: set(numbers) <= set(noted(self.folder, "finished")), f"{numbers}")

    def of_process(self, number: int, what: str = "finished") -> set[int]:
        """What the process that finished (or only started) this task has finished, too."""
        return set(noted(self.folder, f"finished-{self.process_of(number, what)}"))

    def process_of(self, number: int, what: str = "finished") -> int:
        lines = (self.folder / "ledger").read_text().splitlines()
        return next(
            int(kind.rpartition("-")[2])
            for kind, of in (line.split() for line in lines)
            if kind.startswith(f"{what}-") and int(of) == number
        )

    def pool(self) -> set[int]:
        return {child.pid for child in psutil.Process(self.process.pid).children()}


@contextmanager
def working(folder: Path, *options: str, **variables: str) -> Iterator[Worker]:
    worker = Worker(folder, *options, **variables)
    try:
        yield worker
    finally:
        if worker.process.poll() is None:
            for pid in [*worker.pool(), worker.process.pid]:
                os.kill(pid, signal.SIGKILL)
        worker.process.wait(60)


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with running_collector() as running:
        yield running


def test_processes_that_grew_were_killed_or_stopped(collector: Collector, tmp_path: Path) -> None:
    with working(tmp_path, "--max-memory-per-child", "180000", WHERE=collector.http) as worker:
        worker.do(range(1, 21))

        # Celery reads the high-water mark, which a synthesis sets anew when it begins and leaves alone when it ends:
        # what was needed since the task's last one began is seen, and so is what was kept; what was let go of before
        # is not.
        for what, number, then in (("keep", 100, 101), ("burst", 200, 0)):
            worker.send("need", what, number, then)
            worker.wait_until_finished(number)
            worker.wait_for(lambda n=number: worker.process_of(n) not in worker.pool(), "the process to be replaced")
        worker.send("need", "burst", 300, 301)
        worker.wait_until_finished(300)
        worker.do(range(21, 41))
        if memory_method() == "clear_refs":
            assert worker.process_of(300) in worker.pool()

        worker.send("hang", 500, soft_time_limit=1)
        worker.wait_until_finished(500)
        worker.send("hang", 600, time_limit=1)
        worker.wait_for(lambda: "Hard time limit" in worker.log(), "the task that hangs to be killed")
        worker.wait_for(lambda: worker.process_of(600, "started") not in worker.pool(), "its process to be gone")
        worker.do(range(41, 61))
        worker.process.send_signal(signal.SIGTERM)
        assert worker.process.wait(150) == 0
    expected = [*range(1, 61), 100, 101, 200, 300, 301]
    assert noted(tmp_path) == expected
    spans = lines_of(tmp_path / "x.jsonl")
    by_number = {span["attributes"]["tts.input.characters"]: span["attributes"] for span in spans}
    assert by_number[100]["tts.memory.peak"] > 200 * MB
    assert by_number[200]["tts.memory.peak"] > 200 * MB
    assert by_number[500]["error.type"].endswith("SoftTimeLimitExceeded")
    # Celery lets a task that it kills raise SystemExit first, if that goes quickly enough.
    assert [number for number in told(spans) if number != 600] == [*expected[:-2], 300, 301, 500]
    of_killed = worker.of_process(600, "started") | {600}
    safe = {*expected, 500} - of_killed - ({301} if 300 in of_killed else set())
    assert safe <= set(told(sent(collector, tmp_path, len(safe)))) <= {*expected, 500, 600}


def test_configured_in_each_process(collector: Collector, tmp_path: Path) -> None:
    with working(tmp_path, "--max-tasks-per-child", "3", WHERE=collector.http, IN_EACH_PROCESS="1") as worker:
        worker.do(range(1, 11))
        worker.process.send_signal(signal.SIGTERM)
        assert worker.process.wait(150) == 0
    assert told(lines_of(tmp_path / "x.jsonl")) == noted(tmp_path) == [*range(1, 11)]
    assert told(sent(collector, tmp_path, 10)) == noted(tmp_path)
    # The last that each process said of its counter; none of them counts what another did.
    characters: dict[str, int] = {}
    for line in (tmp_path / "x.metrics.jsonl").read_text().splitlines():
        (resource,) = json.loads(line)["resourceMetrics"]
        (process,) = (each for each in resource["resource"]["attributes"] if each["key"] == "service.instance.id")
        for metric in resource["scopeMetrics"][0]["metrics"]:
            if metric["name"] == semconv.METRIC_INPUT_CHARACTERS:
                points = metric["sum"]["dataPoints"]
                characters[process["value"]["stringValue"]] = sum(int(point["asInt"]) for point in points)
    assert sum(characters.values()) == sum(noted(tmp_path))
