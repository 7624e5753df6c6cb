"""`ttstrace run`: real programs, as they are, started by it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from collector import clean_environment, free_port, lines_of
from otlp_server import otlp_server

pytestmark = pytest.mark.skipif(os.name == "nt", reason="a program is not replaced there")
RUN = [sys.executable, "-m", "ttstrace", "run"]
# A library that ttstrace has no integration for.
ACME = """
from array import array

class Engine:
    def synthesize(self, text):
        return array("h", [0]) * 100 * len(text), 24_000
"""


def write(folder: Path, **modules: str) -> None:
    for name, source in modules.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(source))


def run(folder: Path, *words: str, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*RUN, *words],
        cwd=folder,
        env=clean_environment(**variables),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
    )


@contextmanager
def running(folder: Path, *words: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    with (folder / "stderr").open("w") as stderr:
        process = subprocess.Popen(
            [*RUN, *words],
            cwd=folder,
            env=clean_environment(**variables),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    try:
        yield process
    finally:
        for each in [*psutil.Process(process.pid).children(recursive=True), process] if process.poll() is None else []:
            each.kill()
        process.communicate()


def synthesized(folder: Path) -> list[dict[str, Any]]:
    return [span["attributes"] for span in lines_of(folder / "ttstrace.jsonl") if span["scope"][0] == "ttstrace"]


def test_a_program_as_it_is(tmp_path: Path) -> None:
    write(
        tmp_path,
        speak="""
        import os, sys
        from hibari import Hibari
        audio = Hibari()(sys.stdin.read())
        print(len(audio), sys.argv, __name__, __file__)
        print("its own words", file=sys.stderr)
        sys.exit(3)
        """,
    )
    done = run(tmp_path, "--", "speak.py", "--file", "-m", "--", "x", stdin="Hello there.")
    assert done.returncode == 3
    samples, _, rest = done.stdout.partition(" ")
    assert rest == f"['speak.py', '--file', '-m', '--', 'x'] __main__ {tmp_path}/speak.py\n"
    (attributes,) = synthesized(tmp_path)
    assert attributes["gen_ai.provider.name"] == "hibari"
    assert attributes["tts.input.characters"] == 12
    assert attributes["tts.audio.duration"] == int(samples) / 24_000
    began, line, own, ended = done.stderr.splitlines()
    file, metrics = tmp_path / "ttstrace.jsonl", tmp_path / "ttstrace.metrics.jsonl"
    assert began == f"ttstrace: spans go to {file}, metrics to {metrics}"
    assert " 12 ch " in line
    assert own == "its own words"
    assert ended == f"ttstrace: 1 synthesis in {file}, metrics in {metrics}"
    assert metrics.exists()


def test_the_process_is_the_programs(tmp_path: Path) -> None:
    write(tmp_path, wait="import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(60)")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL):
        with running(tmp_path, "--", "wait.py") as process:
            assert process.stdout is not None
            assert int(process.stdout.readline()) == process.pid
            process.send_signal(number)
            assert process.wait(60) == -number
        said = (tmp_path / "stderr").read_text()
        assert ("Traceback" in said) is (number == signal.SIGINT)  # Python's own
        assert ("ttstrace: 0 syntheses in" in said) is (number == signal.SIGINT)


def test_signals_that_python_ignores_are_not_ignored_by_others(tmp_path: Path) -> None:
    done = run(tmp_path, "--", "sh", "-c", "kill -PIPE $$; echo ignored")
    assert (done.returncode, done.stdout) == (-signal.SIGPIPE, "")


@pytest.mark.parametrize("words", [["-m", "pack", "a", "-m"], ["--", "-m", "pack", "a", "-m"]])
def test_a_module(tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "pack").mkdir()
    write(tmp_path / "pack", __main__="import sys; print(sys.argv[1:])")
    done = run(tmp_path, *words)
    assert (done.returncode, done.stdout) == (0, "['a', '-m']\n")


def test_a_callable_that_no_integration_knows(tmp_path: Path) -> None:
    write(tmp_path, acme=ACME, speak="from acme import Engine\nEngine().synthesize('Hello')")
    assert run(tmp_path, "--target", "acme:Engine.synthesize", "--", "speak.py").returncode == 0
    (attributes,) = synthesized(tmp_path)
    assert attributes["code.function.name"] == "acme.Engine.synthesize"
    assert attributes["tts.audio.duration"] == 500 / 24_000


def test_nothing_traced_says_what_to_do(tmp_path: Path) -> None:
    write(tmp_path, acme=ACME, speak="from acme import Engine\nEngine().synthesize('Hello')")
    assert "--target package.module:Class.method" in run(tmp_path, "--", "speak.py").stderr


def test_quiet_says_nothing(tmp_path: Path) -> None:
    write(tmp_path, acme=ACME, speak="from acme import Engine\nEngine().synthesize('Hello')")
    done = run(tmp_path, "--quiet", "--target", "acme:Engine.synthesize", "--", "speak.py")
    assert (done.stdout, done.stderr) == ("", "")
    assert len(synthesized(tmp_path)) == 1


def test_what_it_adds_to_is_not_counted(tmp_path: Path) -> None:
    write(tmp_path, acme=ACME, speak="from acme import Engine\nEngine().synthesize('Hello')")
    for _ in range(2):
        done = run(tmp_path, "--file", "x.jsonl", "--target", "acme:Engine.synthesize", "--", "speak.py")
        assert "ttstrace: 1 synthesis in" in done.stderr
    assert len(lines_of(tmp_path / "x.jsonl")) == 2


def test_who_it_is(tmp_path: Path) -> None:
    write(tmp_path, acme=ACME, speak="from acme import Engine\nEngine().synthesize('Hello')")
    target = ("--target", "acme:Engine.synthesize")
    run(tmp_path, *target, "--", "speak.py")
    run(tmp_path, *target, "-m", "speak")
    run(tmp_path, *target, "--service", "mine", "--", "speak.py", OTEL_SERVICE_NAME="another")
    run(tmp_path, *target, "--", "speak.py", OTEL_SERVICE_NAME="another")
    run(tmp_path, *target, "--", "speak.py", OTEL_RESOURCE_ATTRIBUTES="service.name=third")
    names = [span["resource"]["service.name"] for span in lines_of(tmp_path / "ttstrace.jsonl")]
    assert names == ["speak", "speak", "mine", "another", "third"]


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_to_a_collector(tmp_path: Path, protocol: str) -> None:
    write(tmp_path, acme=ACME, speak="from acme import Engine\nEngine().synthesize('Hello')")
    with otlp_server(protocol) as server:
        url = server.endpoint
        chosen = ["--protocol", "grpc"] if protocol == "grpc" else []
        done = run(
            tmp_path, "--endpoint", url, *chosen, "--target", "acme:Engine.synthesize", "--", "speak.py",
            OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="http://127.0.0.1:1/not/there", OTEL_TRACES_EXPORTER="none",
        )  # fmt: skip
        assert done.returncode == 0
        assert f"ttstrace: spans and metrics go to {url}\n" in done.stderr
        assert [span["name"] for span in server.spans] == ["text_to_speech acme.Engine.synthesize"]
    assert not (tmp_path / "ttstrace.jsonl").exists()


def test_processes_that_the_program_starts(tmp_path: Path) -> None:
    write(
        tmp_path,
        acme=ACME,
        speak="""
        import multiprocessing, os, subprocess, sys
        from acme import Engine

        def speak(number):
            Engine().synthesize("x" * number)

        if __name__ == "__main__":
            os.chdir("/")  # the file stays where it is
            for method in ("fork", "spawn", "forkserver"):
                with multiprocessing.get_context(method).Pool(2) as pool:
                    pool.map(speak, range(1, 5), chunksize=1)
                    pool.close()
                    pool.join()
            subprocess.run([sys.executable, "-c", "from acme import Engine; Engine().synthesize('x' * 9)"], check=True)
        """,
    )
    done = run(tmp_path, "--target", "acme:Engine.synthesize", "--", "speak.py", PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert sorted(each["tts.input.characters"] for each in synthesized(tmp_path)) == sorted([*range(1, 5)] * 3 + [9])
    assert done.stderr.count("ttstrace: 13 syntheses in") == 1
    assert done.stderr.count("ttstrace: spans go to") == 1


SERVICE = """
import os, time
from acme import Engine
from fastapi import FastAPI

app = FastAPI()

@app.get("/{number}")
def speak(number: int) -> int:
    time.sleep(0.05)
    Engine().synthesize("x" * number)
    return os.getpid()
"""


@pytest.mark.parametrize(
    "command",
    [
        ["uvicorn", "service:app", "--workers", "2", "--timeout-worker-healthcheck", "60", "--port", "{port}"],
        ["gunicorn", "service:app", "--workers", "2", "--worker-class", "asgi", "--bind", "127.0.0.1:{port}"],
    ],
    ids=["uvicorn", "gunicorn"],
)
def test_a_server_with_workers(tmp_path: Path, command: list[str]) -> None:
    pytest.importorskip(command[0])
    write(tmp_path, acme=ACME, service=SERVICE)
    port = free_port()
    words = [part.format(port=port) for part in command]
    bin_folder = os.path.dirname(sys.executable)
    with running(
        tmp_path, "--target", "acme:Engine.synthesize", "--", *words,
        PATH=bin_folder + os.pathsep + os.environ["PATH"], PYTHONPATH=str(tmp_path),
    ) as process:  # fmt: skip

        def ask(number: int) -> int | None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/{number}", timeout=30) as answer:
                    return int(answer.read())
            except OSError:
                return None

        pids: dict[int, int] = {}
        end = time.monotonic() + 90
        number = 0
        while len(pids) < 2 or number < 20:
            assert process.poll() is None, (tmp_path / "stderr").read_text()
            assert time.monotonic() < end, (tmp_path / "stderr").read_text()
            pid = ask(number + 1)
            if pid is None:
                time.sleep(0.05)
                continue
            number += 1
            pids[pid] = pids.get(pid, 0) + 1
        assert process.pid not in pids
        process.send_signal(signal.SIGINT)
        process.wait(60)
    spans = lines_of(tmp_path / "ttstrace.jsonl")
    ours = [span for span in spans if span["scope"][0] == "ttstrace"]
    assert sorted(span["attributes"]["tts.input.characters"] for span in ours) == list(range(1, number + 1))
    # contrib's instrumentation of FastAPI, which is installed here, is at work as well: its span is the parent.
    by_id = {span["span"]: span for span in spans}
    assert {by_id[span["parent"]]["name"] for span in ours} == {"GET /{number}"}


def test_the_environments_own_sitecustomize_runs(tmp_path: Path) -> None:
    write(tmp_path, sitecustomize="print('theirs')", program="print('program')")
    done = run(tmp_path, "--", "program.py", PYTHONPATH=str(tmp_path))
    of_the_command, *of_the_program = done.stdout.splitlines()
    assert of_the_command == "theirs"
    assert of_the_program == ["theirs", "program"]


def test_a_python_without_ttstrace_is_told_and_goes_on(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True, timeout=120)
    python = tmp_path / "bare" / "bin" / "python"
    done = run(tmp_path, "--", str(python), "-c", "print('program')")
    assert (done.returncode, done.stdout) == (0, "program\n")
    _, said = done.stderr.splitlines()
    assert said.startswith("ttstrace: nothing is traced in this process: No module named 'ttstrace'.")
    assert said.endswith(f"{python} -m pip install ttstrace")


def test_a_fault_inside_leaves_the_program_alone(tmp_path: Path) -> None:
    write(tmp_path, program="import os; print(os.environ['PYTHONPATH'])")
    done = run(tmp_path, "--", "program.py", OTEL_TRACES_EXPORTER="no_such_exporter")
    assert done.returncode == 0
    assert done.stdout.strip().endswith("inside")
    assert "ttstrace: nothing is traced in this process: " in done.stderr
    assert "no_such_exporter" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ([], 2, "ttstrace run: there is no program to run"),
        (["--"], 2, "ttstrace run: there is no program to run"),
        (["-m"], 2, "ttstrace run: -m needs a module"),
        (["--", "none.py"], 1, "ttstrace: there is no script and no command none.py"),
        (["--target", "acme.Engine", "--", "x.py"], 2, "ttstrace run: 'acme.Engine' names no callable; write"),
        (["--endpoint", "nonsense", "--", "x.py"], 2, "ttstrace run: The endpoint 'nonsense' is neither"),
        (["--protocol", "grpc", "--", "x.py"], 2, "ttstrace run: protocol='grpc' has no endpoint to go with"),
        (["--file", "no/folder.jsonl", "--", "x.py"], 1, "ttstrace: "),
    ],
)
def test_what_cannot_be_run(tmp_path: Path, words: list[str], status: int, said: str) -> None:
    write(tmp_path, x="print('ran')")
    done = run(tmp_path, *words)
    assert done.returncode == status
    assert done.stderr.startswith(said)
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
