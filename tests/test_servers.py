"""gunicorn, uvicorn and Celery as they run in production: no span twice, and none lost but what
``docs/processes.md`` says.
"""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from collector import Collector, clean_environment, free_port, lines_of, running_collector
from process_programs import noted, sent, told, write_voice

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="these servers fork")
pytest.importorskip("gunicorn")
pytest.importorskip("uvicorn")


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with running_collector() as running:
        yield running


def wait_for(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.02)


class Server:
    """A server process that runs in a folder, and its log."""

    def __init__(self, folder: Path, *command: str, **variables: str) -> None:
        self.folder = folder
        self.port = free_port()
        self._log = folder / "log"
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, *(part.format(port=self.port) for part in command)],
                cwd=folder,
                env=clean_environment(OTEL_SERVICE_NAME=folder.name, **variables),
                stdout=log,
                stderr=log,
            )

    def log(self) -> str:
        return self._log.read_text()

    def ask(self, path: str, status: int = 200) -> int:
        """Ask for something; returns the pid of the worker that did it, 0 where it failed as expected."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status == status, (path, body, self.log())
            return int(body) if status == 200 else 0
        finally:
            connection.close()

    def answers(self) -> bool:
        """Whether anybody answers."""
        assert self.process.poll() is None, self.log()
        try:
            return self.ask("/pid") > 0
        except OSError:
            return False

    def ask_for(self, numbers: Sequence[int]) -> dict[int, int]:
        """Ask for these syntheses, several at once; returns the pid of each one's worker."""
        with ThreadPoolExecutor(4) as pool:
            return dict(zip(numbers, pool.map(lambda number: self.ask(f"/speak/{number}"), numbers), strict=True))

    def answer_all_but(self, gone: set[int]) -> bool:
        """Whether two workers answer, and none of those that should be gone is left."""
        with ThreadPoolExecutor(8) as pool:
            answered = set(pool.map(lambda _: self.ask("/pid"), range(32)))
        return len(answered) == 2 and not gone & (answered | self.workers())

    def workers(self) -> set[int]:
        return {child.pid for child in psutil.Process(self.process.pid).children()}

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)


@contextmanager
def serving(folder: Path, *command: str, **variables: str) -> Iterator[Server]:
    server = Server(folder, *command, **variables)
    try:
        wait_for(server.answers, "an answer")
        yield server
    finally:
        for pid in [*server.workers(), server.process.pid] if server.process.poll() is None else ():
            os.kill(pid, signal.SIGKILL)
        server.process.wait(60)


WSGI = """
import os
import time

import ttstrace
from voice import hang, note, speak

if not os.environ.get("BY_HOOK"):
    ttstrace.configure(endpoint=os.environ["WHERE"], file="x.jsonl")

def application(environ, start_response):
    _, what, *numbers = environ["PATH_INFO"].split("/")
    if what == "speak":
        speak(*map(int, numbers))
    elif what == "hang":
        hang("." * int(numbers[0]))
    elif what == "slow":
        note("slow", int(numbers[0]))
        time.sleep(1)
        speak(int(numbers[0]))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"""
CONFIGURED_BY_HOOK = """
import os

def post_fork(server, worker):
    import ttstrace
    ttstrace.configure(endpoint=os.environ["WHERE"], file="x.jsonl")
"""
GUNICORN = ("-m", "gunicorn", "app:application", "--workers", "2", "--bind", "127.0.0.1:{port}", "--no-control-socket")


@pytest.mark.parametrize("how", ["in each worker", "preloaded", "preloaded, configured by hook"])
def test_gunicorn(collector: Collector, tmp_path: Path, how: str) -> None:
    write_voice(tmp_path)
    (tmp_path / "app.py").write_text(WSGI)
    options, variables = (["--preload"] if "preloaded" in how else []), {"WHERE": collector.http}
    if "hook" in how:
        (tmp_path / "gunicorn.conf.py").write_text(CONFIGURED_BY_HOOK)
        variables["BY_HOOK"] = "1"
    hangs = how == "preloaded"
    options += ["--timeout", "6"] if hangs else []
    with serving(tmp_path, *GUNICORN, *options, **variables) as server:
        wait_for(lambda: server.answer_all_but(set()), "both workers")
        by = server.ask_for(range(1, 21))

        before = server.workers()
        server.process.send_signal(signal.SIGHUP)
        by |= server.ask_for(range(21, 41))  # while workers come and go
        wait_for(lambda: server.answer_all_but(before), "new workers")
        by |= server.ask_for(range(41, 61))

        killed = by[60]
        os.kill(killed, signal.SIGKILL)
        wait_for(lambda: server.answer_all_but({killed}), "a new worker")
        by |= server.ask_for(range(61, 81))

        if hangs:
            server.ask("/hang/9999", 500)
            wait_for(lambda: "Worker exiting" in server.log(), "the worker that hung to be gone")
            by |= server.ask_for(range(81, 101))

        with ThreadPoolExecutor(1) as pool:  # in flight when it is stopped
            last = pool.submit(server.ask, "/slow/200")
            wait_for(lambda: noted(tmp_path, "slow"), "the last request")
            assert server.stop() == 0
            by[200] = last.result()
    assert server.log().count("Traceback") == hangs  # gunicorn's own, of its own SystemExit
    assert noted(tmp_path) == sorted(by)
    spans = lines_of(tmp_path / "x.jsonl")
    if hangs:
        (hung,) = [span for span in spans if span["attributes"].get("error.type")]
        assert hung["attributes"]["error.type"] == "SystemExit"
        assert hung["attributes"]["tts.input.characters"] == 9999
        spans.remove(hung)
        by[9999] = 0
    assert told(spans) == noted(tmp_path)
    safe = {number for number, pid in by.items() if pid != killed}
    assert safe <= set(told(sent(collector, tmp_path, len(safe)))) <= set(by)


ENGINE = """
import numpy as np

def synthesize(text):
    return np.zeros(len(text), np.float32), 8000
"""
UNTOUCHED = """
import os

import engine
from voice import note

def application(environ, start_response):
    _, what, *numbers = environ["PATH_INFO"].split("/")
    if what == "speak":
        engine.synthesize("." * int(numbers[0]))
        note("done", int(numbers[0]))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"""
INSTRUMENTED = ("-c", "from opentelemetry.instrumentation.auto_instrumentation import run; run()", sys.executable)


def test_gunicorn_without_code(tmp_path: Path) -> None:
    write_voice(tmp_path)
    (tmp_path / "engine.py").write_text(ENGINE)
    (tmp_path / "app.py").write_text(UNTOUCHED)
    variables = {
        "OTEL_TRACES_EXPORTER": "ttstrace_file",
        "OTEL_METRICS_EXPORTER": "ttstrace_file",
        "OTEL_LOGS_EXPORTER": "none",
        "TTSTRACE_FILE": "x.jsonl",
        "TTSTRACE_TARGETS": "engine:synthesize",
    }
    with serving(tmp_path, *INSTRUMENTED, *GUNICORN, "--preload", **variables) as server:
        wait_for(lambda: server.answer_all_but(set()), "both workers")
        by = server.ask_for(range(1, 21))
        killed = by[20]
        os.kill(killed, signal.SIGKILL)
        wait_for(lambda: server.answer_all_but({killed}), "a new worker")
        server.ask_for(range(21, 41))
        assert server.stop() == 0
    assert told(lines_of(tmp_path / "x.jsonl")) == noted(tmp_path) == [*range(1, 41)]


ASGI = """
import asyncio
import os

import ttstrace
from voice import note, speak

handle = ttstrace.configure(endpoint=os.environ["WHERE"], file="x.jsonl")

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            event = (await receive())["type"]
            if event == "lifespan.shutdown" and os.environ.get("SHUT_DOWN"):
                handle.shutdown()
            await send({"type": f"{event}.complete"})
            if event == "lifespan.shutdown":
                return
    _, what, *numbers = scope["path"].split("/")
    if what == "speak":
        speak(*map(int, numbers))
    elif what == "slow":
        note("slow", int(numbers[0]))
        await asyncio.sleep(1)
        speak(int(numbers[0]))
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
"""
UVICORN = (
    *("-m", "uvicorn", "app:app", "--workers", "2", "--port", "{port}", "--lifespan", "on"),
    *("--timeout-worker-healthcheck", "60"),  # a busy machine's workers take their time to be there
)


@pytest.mark.parametrize("shut_down", [True, False], ids=["shut down by lifespan", "ended by signal"])
def test_uvicorn(collector: Collector, tmp_path: Path, shut_down: bool) -> None:
    write_voice(tmp_path)
    (tmp_path / "app.py").write_text(ASGI)
    with serving(tmp_path, *UVICORN, WHERE=collector.http, SHUT_DOWN="1" if shut_down else "") as server:
        by = server.ask_for(range(1, 21))

        if shut_down:
            before = set(by.values())
            server.process.send_signal(signal.SIGHUP)
            wait_for(lambda: not before & server.workers() and server.answers(), "new workers")
            by |= server.ask_for(range(21, 41))

        killed = by[20 if not shut_down else 40]
        os.kill(killed, signal.SIGKILL)
        wait_for(lambda: killed not in server.workers() and server.answers(), "the worker to be gone")
        by |= server.ask_for(range(41, 61))

        with ThreadPoolExecutor(1) as pool:  # in flight when it is stopped
            last = pool.submit(server.ask, "/slow/200")
            wait_for(lambda: noted(tmp_path, "slow"), "the last request")
            assert server.stop() in (0, -signal.SIGTERM)
            by[200] = last.result()
    assert "Traceback" not in server.log()
    assert told(lines_of(tmp_path / "x.jsonl")) == noted(tmp_path) == sorted(by)
    safe = {number for number, pid in by.items() if pid != killed} if shut_down else set()
    assert safe <= set(told(sent(collector, tmp_path, len(safe)))) <= set(by)
