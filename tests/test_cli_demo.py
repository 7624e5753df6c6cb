"""`ttstrace demo` as a user runs it, held against the files that it leaves and what a real collector receives."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from collector import Plain, black_hole, lines_of, refusing, running_collector

from ttstrace import semconv

STEPS = ["cold", "short", "sentence", "long", "stream", "application", "application", "error"]
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


def environment(**variables: str) -> dict[str, str]:
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OTEL_", "TTSTRACE_")) and name not in ("NO_COLOR", "COLUMNS", "FORCE_COLOR")
    }
    return {**clean, "PYTHONIOENCODING": "utf-8", **variables}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "ttstrace", *arguments]


def demo(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command("demo", *arguments),
        cwd=folder,
        env=environment(**variables),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def syntheses(path: Path) -> list[Plain]:
    return [span for span in lines_of(path) if semconv.GEN_AI_OPERATION_NAME in span["attributes"]]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """One run without arguments, with nothing but a network that refuses every connection."""
    folder = tmp_path_factory.mktemp("plain")
    (folder / "sitecustomize.py").write_text(
        "import pathlib, socket\n"
        "def connect(self, address):\n"
        "    pathlib.Path(__file__).with_name('connected').write_text(str(address))\n"
        "    raise OSError(101, 'Network is unreachable')\n"
        "socket.socket.connect = socket.socket.connect_ex = connect\n"
    )
    with refusing() as port:
        refused = f"http://127.0.0.1:{port}"
        done = demo(folder, PYTHONPATH=str(folder), HTTP_PROXY=refused, HTTPS_PROXY=refused, COLUMNS="80")
    assert done.returncode == 0, done.stderr
    return folder, done


@pytest.fixture(scope="module")
def korean(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    """One run in Korean, as JSON."""
    folder = tmp_path_factory.mktemp("korean")
    done = demo(folder, "--language", "ko", "--json", "--file", "traces.jsonl")
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout), done.stderr


def row(out: str, what: str) -> list[str]:
    line = next(line for line in out.splitlines() if line.strip().startswith(what))
    return line.strip().removeprefix(what).split()


def test_demo_leaves_one_trace_file_and_one_metrics_file(plain: Any) -> None:
    folder, _ = plain
    assert sorted(path.name for path in folder.glob("*.jsonl")) == ["ttstrace.jsonl", "ttstrace.metrics.jsonl"]
    for name, key in (("ttstrace.jsonl", "resourceSpans"), ("ttstrace.metrics.jsonl", "resourceMetrics")):
        lines = (folder / name).read_text().splitlines()
        assert lines
        assert all(list(json.loads(line)) == [key] for line in lines)


def test_spans_are_real_syntheses_of_the_demo_service(plain: Any) -> None:
    folder, _ = plain
    spans = lines_of(folder / "ttstrace.jsonl")
    assert {span["resource"]["service.name"] for span in spans} == {"ttstrace-demo"}
    found = [span["attributes"] for span in syntheses(folder / "ttstrace.jsonl")]
    assert [each.get(semconv.TTS_COLD_START) for each in found] == [True, *[False] * 5, True, False]
    assert [each.get(semconv.GEN_AI_REQUEST_STREAM) for each in found].count(True) == 1
    spoken = [each for each in found if semconv.ERROR_TYPE not in each]
    assert len(spoken) == 7
    assert all(0.5 < each[semconv.TTS_AUDIO_DURATION] < 30 for each in spoken)
    stream = next(each for each in found if each.get(semconv.GEN_AI_REQUEST_STREAM))
    assert stream[semconv.TTS_STREAM_CHUNKS] == 4
    assert stream[semconv.TTS_STREAM_HOLD_DURATION] >= 4 * 0.05


def test_application_span_holds_its_stages_and_hibaris_span(plain: Any) -> None:
    folder, _ = plain
    spans = lines_of(folder / "ttstrace.jsonl")
    outer = next(span for span in spans if span["name"] == "text_to_speech announcer")
    inside = {span["name"]: span for span in spans if span["parent"] == outer["span"]}
    assert sorted(inside) == ["loudness", "speech", "text normalization"]
    inner = [span for span in spans if span["parent"] == inside["speech"]["span"]]
    assert [span["attributes"][semconv.GEN_AI_PROVIDER_NAME] for span in inner] == ["hibari"]
    assert inner[0]["attributes"][semconv.TTS_AUDIO_DURATION] == outer["attributes"][semconv.TTS_AUDIO_DURATION]
    # The text that hibari got is the one that was spelled out.
    assert inner[0]["attributes"][semconv.TTS_INPUT_CHARACTERS] > outer["attributes"][semconv.TTS_INPUT_CHARACTERS]


def test_table_says_what_the_spans_say(plain: Any) -> None:
    folder, done = plain
    labels = ["first call", "warm, short", "warm, sentence", "warm, long", "stream", "└ hibari", "application"]
    for label, span in zip(labels, syntheses(folder / "ttstrace.jsonl"), strict=False):
        read, cells = span["attributes"], row(done.stdout, label)
        assert float(cells[0]) == pytest.approx(read[semconv.TTS_AUDIO_DURATION], abs=0.006)
        assert float(cells[1]) == pytest.approx(read[semconv.TTS_SYNTHESIS_DURATION], abs=0.0006)
        assert float(cells[2]) == pytest.approx(read[semconv.TTS_RTF], abs=0.00006)
        first = read.get(semconv.TTS_TIME_TO_FIRST_AUDIO)
        assert cells[-4] == ("-" if first is None else f"{first:.2f}")
        assert float(cells[-3]) == pytest.approx(read[semconv.TTS_CPU_UTILIZATION] * 100, abs=0.6)
        assert float(cells[-2]) == pytest.approx(read[semconv.TTS_MEMORY_PEAK] / 2**20, abs=0.6)
        assert cells[-1] == span["trace"][:8]


def test_error_is_shown_and_survived(plain: Any) -> None:
    folder, done = plain
    failed = syntheses(folder / "ttstrace.jsonl")[-1]
    assert failed["attributes"][semconv.ERROR_TYPE] == "AttributeError"
    assert failed["status"] == 2
    assert "AttributeError" in row(done.stdout, "no text")
    assert "'NoneType' object has no attribute 'strip'" in done.stderr
    assert "error.type=AttributeError" in done.stdout


def test_console_line_of_each_synthesis_is_shown(plain: Any) -> None:
    folder, done = plain
    lines = [line for line in done.stderr.splitlines() if re.search(r" -> .*  RTF .*  trace [0-9a-f]{8}$", line)]
    expected = [span["trace"][:8] for span in syntheses(folder / "ttstrace.jsonl")]
    assert [line[-8:] for line in lines] == expected


def test_six_lines_are_the_guides(plain: Any) -> None:
    folder, done = plain
    read = syntheses(folder / "ttstrace.jsonl")[3]["attributes"]
    assert (
        "\n".join(
            [
                f"Inference time: {read[semconv.TTS_SYNTHESIS_DURATION]:.2f} s",
                f"Audio length: {read[semconv.TTS_AUDIO_DURATION]:.2f} s",
                f"RTF: {read[semconv.TTS_RTF]:.4f}",
                f"Peak memory: {read[semconv.TTS_MEMORY_PEAK] / 2**20:.2f} MB",
                f"CPU usage: {read[semconv.TTS_CPU_UTILIZATION] * 100:.2f}%",
                "Grade: ",
            ]
        )
        in done.stdout
    )


def test_it_says_how_to_see_it_in_jaeger(plain: Any) -> None:
    _, done = plain
    assert "Drop ttstrace.jsonl on the Upload tab" in done.stdout
    assert "ttstrace demo --endpoint http://localhost:4318" in done.stdout
    assert "ttstrace-demo" in done.stdout
    assert "tts.rtf.grade=very_fast" in done.stdout


def test_it_needs_no_network(plain: Any) -> None:
    folder, _ = plain
    assert not (folder / "connected").exists()
    # The watch itself works.
    connect = "import socket\ntry: socket.create_connection(('127.0.0.1', 1))\nexcept OSError: pass"
    subprocess.run([sys.executable, "-c", connect], env=environment(PYTHONPATH=str(folder)), check=True, timeout=60)
    assert (folder / "connected").exists()


def test_no_line_is_wider_than_80_columns(plain: Any) -> None:
    from rich.cells import cell_len

    assert [line for line in plain[1].stdout.splitlines() if cell_len(line.rstrip()) > 80] == []


def test_piped_output_has_no_escape_sequences(plain: Any) -> None:
    _, done = plain
    assert "\x1b" not in done.stdout + done.stderr


def test_json_is_the_spans(korean: Any) -> None:
    folder, said, _ = korean
    assert [each["step"] for each in said["syntheses"]] == STEPS
    assert said["trace_file"] == str(folder / "traces.jsonl")
    assert said["metrics_file"] == str(folder / "traces.metrics.jsonl")
    assert said["written"] is True
    assert said["sent"] is None
    written = {span["span"]: span for span in lines_of(folder / "traces.jsonl")}
    for each in said["syntheses"]:
        span = written[each["span_id"]]
        assert each["attributes"] == span["attributes"]
        assert (each["trace_id"], each["parent_span_id"] or "") == (span["trace"], span["parent"])
        assert each["name"] == span["name"]
        assert each["status"] == {0: "unset", 2: "error"}[span["status"]]


def test_korean_six_lines_are_the_guides_letter_for_letter(korean: Any) -> None:
    _, said, narration = korean
    lines = said["example"]["lines"]
    read = next(each for each in said["syntheses"] if each["span_id"] == said["example"]["span_id"])["attributes"]
    assert lines[:5] == [
        f"추론 시간: {read[semconv.TTS_SYNTHESIS_DURATION]:.2f}초",
        f"오디오 길이: {read[semconv.TTS_AUDIO_DURATION]:.2f}초",
        f"RTF: {read[semconv.TTS_RTF]:.4f}",
        f"Peak Memory: {read[semconv.TTS_MEMORY_PEAK] / 2**20:.2f} MB",
        f"CPU 사용률: {read[semconv.TTS_CPU_UTILIZATION] * 100:.2f}%",
    ]
    if read[semconv.TTS_RTF_GRADE] == "very_fast":
        assert lines[5] == "평가: 🎉 매우 빠름 (목표 달성!)"
    assert "hibari는 영어만" in narration


def test_second_run_appends(korean: Any) -> None:
    folder, _, _ = korean
    before = [(folder / name).read_bytes() for name in ("traces.jsonl", "traces.metrics.jsonl")]
    done = demo(folder, "--language", "ko", "--file", "traces.jsonl")
    assert done.returncode == 0
    after = [(folder / name).read_bytes() for name in ("traces.jsonl", "traces.metrics.jsonl")]
    for old, new in zip(before, after, strict=True):
        assert new.startswith(old)
        assert len(new) > len(old)
    assert len(syntheses(folder / "traces.jsonl")) == 2 * len(STEPS)
    assert "평가: " in done.stdout
    assert "ttstrace demo --endpoint http://localhost:4318 --language ko --file traces.jsonl" in done.stdout


def test_spans_arrive_at_a_real_collector(tmp_path: Path) -> None:
    with running_collector() as collector:
        done = demo(tmp_path, "--endpoint", collector.http, "--json")
        assert done.returncode == 0, done.stderr
        written = {span["span"]: span for span in lines_of(tmp_path / "ttstrace.jsonl")}
        collector.wait(lambda it: len(it.spans) >= len(written) and semconv.METRIC_RTF in it.metrics)
        assert {span["span"]: span["attributes"] for span in collector.spans} == {
            identity: span["attributes"] for identity, span in written.items()
        }
    sent = json.loads(done.stdout)["sent"]
    assert sent == {"endpoint": collector.http, "spans": True, "metrics": True, "reason": None}


@contextmanager
def traces_alone(refusal: int) -> Iterator[str]:
    """A collector that, like Jaeger, takes spans and answers metrics with ``refusal``."""

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200 if self.path == "/v1/traces" else refusal)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize(("refusal", "status"), [(404, 0), (400, 1)])
def test_collector_of_spans_alone_did_its_job_but_lost_metrics_are_told(
    tmp_path: Path, refusal: int, status: int
) -> None:
    with traces_alone(refusal) as endpoint:
        done = demo(tmp_path, "--endpoint", endpoint)
    count = len(lines_of(tmp_path / "ttstrace.jsonl"))
    assert done.returncode == status, done.stderr
    assert f"All {count} spans arrived at {endpoint}." in done.stdout
    assert f"{endpoint.rpartition(':')[0]}:16686/search?service=ttstrace-demo" in done.stdout
    assert ("takes no metrics" in done.stdout) == (status == 0)
    assert ("metrics did not arrive" in done.stderr) == (status == 1)
    assert "Failed to export" not in done.stderr


@pytest.mark.parametrize("form", ["http://127.0.0.1:{}", "127.0.0.1:{}"])
def test_endpoint_that_is_down_is_told_and_the_file_is_whole(tmp_path: Path, form: str) -> None:
    with refusing() as port:
        endpoint = form.format(port)
        # Long enough for a second try: after the first the SDK does not say yet what was wrong.
        done = demo(tmp_path, "--endpoint", endpoint, "--json", OTEL_EXPORTER_OTLP_TIMEOUT="2")
    assert done.returncode == 1
    assert f"not all spans arrived at {endpoint} (Connection refused)" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("ttstrace: ")
    assert "Transient error" not in done.stderr
    said = json.loads(done.stdout)
    assert (said["sent"]["spans"], said["written"]) == (False, True)
    assert len(syntheses(tmp_path / "ttstrace.jsonl")) == len(STEPS)


def test_ctrl_c_ends_it_cleanly(tmp_path: Path) -> None:
    with black_hole() as port:
        # A shell lets what it starts in the background ignore Ctrl-C, and all that is started there.
        ours = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            running = subprocess.Popen(
                command("demo", "--endpoint", f"http://127.0.0.1:{port}"),
                cwd=tmp_path,
                env=environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                encoding="utf-8",
            )
        finally:
            signal.signal(signal.SIGINT, ours)
        assert running.stderr is not None
        said = ""
        for line in running.stderr:
            said += line
            if line.startswith("Sending"):
                break
        running.send_signal(signal.SIGINT)
        out, rest = running.communicate(timeout=20)
    assert running.returncode == 130, said + rest
    assert "Traceback" not in said + rest
    assert "ttstrace.jsonl" in rest
    assert out == ""
    assert len(syntheses(tmp_path / "ttstrace.jsonl")) == len(STEPS)


def on_a_terminal(folder: Path, columns: int, *arguments: str, **variables: str) -> tuple[int, str]:
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    running = subprocess.Popen(
        command(*arguments),
        cwd=folder,
        env=environment(TERM="xterm-256color", **variables),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    out = b""
    while True:
        try:
            read = os.read(ours, 65536)
        except OSError:  # how Linux says that the other end is closed
            break
        if not read:
            break
        out += read
    os.close(ours)
    return running.wait(30), out.decode()


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX's")
@pytest.mark.parametrize("no_color", [False, True])
def test_colors_appear_on_a_terminal_unless_no_color(tmp_path: Path, no_color: bool) -> None:
    from rich.cells import cell_len

    status, out = on_a_terminal(tmp_path, 80, "demo", **({"NO_COLOR": "1"} if no_color else {}))
    assert status == 0
    assert bool(ESCAPE.search(out)) != no_color
    # The line that is being redrawn while the voice loads has more than one picture in it.
    shown = [ESCAPE.sub("", line) for line in out.replace("\r\n", "\n").split("\n") if "\r" not in line]
    assert [line for line in shown if cell_len(re.sub(r"\x1b\[[?0-9;]*\w", "", line)) > 80] == []


@pytest.mark.parametrize("missing", ["hibari", "rich"])
@pytest.mark.parametrize("how", ["sys.modules[{0!r}] = None", "sys.meta_path.insert(0, Hidden())"])
def test_missing_extra_says_which_pip_install(tmp_path: Path, missing: str, how: str) -> None:
    program = f"""
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
{how.format(missing)}
from ttstrace.cli import main
sys.exit(main(["demo"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr == (
        f"ttstrace: `ttstrace demo` needs {missing}, which is not installed: pip install 'ttstrace[demo]'\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["ttstrace.jsonl", "ttstrace.metrics.jsonl"])
def test_file_that_is_something_else_is_refused_untouched(tmp_path: Path, name: str) -> None:
    theirs = tmp_path / name
    theirs.write_text('{"my": "notes"}\n')
    done = demo(tmp_path)
    assert done.returncode == 1
    assert str(theirs) in done.stderr
    assert "name another file" in done.stderr
    assert theirs.read_text() == '{"my": "notes"}\n'


@pytest.mark.parametrize("path", ["missing/x.jsonl", "."])
def test_file_that_cannot_be_is_refused(tmp_path: Path, path: str) -> None:
    done = demo(tmp_path, "--file", path)
    assert done.returncode == 1
    assert done.stderr.startswith("ttstrace: The ")
    assert done.stdout == ""


@pytest.mark.skipif(not os.path.isdir("/sys/kernel"), reason="needs a folder that even root cannot write")
def test_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    done = demo(tmp_path, "--file", "/sys/kernel/x.jsonl")
    assert done.returncode == 1
    assert "cannot be written" in done.stderr
    assert "--file PATH" in done.stderr


@pytest.mark.parametrize(("variable", "value"), [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_SAMPLER", "always_off")])
def test_variables_that_switch_tracing_off_are_named(tmp_path: Path, variable: str, value: str) -> None:
    done = demo(tmp_path, **{variable: value})
    assert done.returncode == 1
    assert f"{variable}={value}" in done.stderr
    assert "unset" in done.stderr


def test_trace_file_of_the_variable_is_used(tmp_path: Path) -> None:
    done = demo(tmp_path, "--json", TTSTRACE_FILE="mine.jsonl", TTSTRACE_CONSOLE="0", OTEL_TRACES_EXPORTER="none")
    assert json.loads(done.stdout)["trace_file"] == str(tmp_path / "mine.jsonl")
    assert len(syntheses(tmp_path / "mine.jsonl")) == len(STEPS)
