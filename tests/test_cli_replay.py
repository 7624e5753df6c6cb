"""`ttstrace replay`: trace files sent to a real collector, and to a server that answers what a test wants."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from collector import Plain, clean_environment, free_port, lines_of, running_collector, spans_of
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ttstrace import cli

# Long enough for three requests.
SPANS = 1200


@dataclass
class Taker:
    """Takes OTLP over HTTP, and answers what it is told to: status, headers, body."""

    url: str = ""
    answers: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)
    spans: list[Plain] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    hold: threading.Event | None = None


@pytest.fixture
def taker() -> Iterator[Taker]:
    with taking() as taker:
        yield taker


@contextmanager
def taking() -> Iterator[Taker]:
    taker = Taker()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            sent = gzip.decompress(self.rfile.read(int(self.headers["Content-Length"])))
            status, headers, body = taker.answers.pop(0) if taker.answers else (200, {}, b"{}")
            taker.paths.append(self.path)
            taker.headers.append({name.lower(): value for name, value in self.headers.items()})
            if taker.hold is not None and len(taker.paths) == 2:
                taker.hold.wait(60)
            if status == 200:
                taker.spans += spans_of(ExportTraceServiceRequest.FromString(sent))
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            with contextlib.suppress(BrokenPipeError):  # whoever was interrupted does not wait
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    taker.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield taker
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real trace file."""
    file = tmp_path_factory.mktemp("recorded") / "x.jsonl"
    program = f"""
        from ttstrace import configure, synthesis
        configure("a-service", file={str(file)!r})
        for number in range({SPANS}):
            with synthesis(text="x" * (number + 1), provider="acme", sample_rate=16_000, format="pcm_s16le") as s:
                s.chunk(bytes(3200))
    """
    source = "\n".join(line.strip() if not line.startswith(" " * 12) else line[8:] for line in program.splitlines())
    subprocess.run([sys.executable, "-c", source], check=True, env=clean_environment(), timeout=120)
    return file


def replay(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = cli.main(["replay", *words])
    return (status, *capsys.readouterr())


def test_a_real_collector_gets_what_is_in_the_file(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with running_collector() as collector:
        status, out, err = replay(capsys, str(recorded), "--endpoint", collector.http)
        assert (status, err) == (0, "")
        assert out == f"1,200 spans sent to {collector.http}/v1/traces in 3 requests.\n"
        end = time.monotonic() + 60
        while len(collector.spans) < SPANS and time.monotonic() < end:
            time.sleep(0.02)

        def known(span: dict[str, Any]) -> str:
            return json.dumps(span, sort_keys=True, default=str)

        assert sorted(map(known, collector.spans)) == sorted(map(known, lines_of(recorded)))


def test_every_value_is_unchanged(recorded: Path, taker: Taker, capsys: pytest.CaptureFixture[str]) -> None:
    assert replay(capsys, str(recorded), "--endpoint", taker.url + "/")[0] == 0
    assert taker.spans == lines_of(recorded)
    assert taker.paths == ["/v1/traces"] * 3
    assert {headers["content-type"] for headers in taker.headers} == {"application/x-protobuf"}


@pytest.mark.parametrize("suffix", ["", "/", "/v1/traces", "/v1/traces/", "/prefix"])
def test_where_it_goes(
    suffix: str, tmp_path: Path, recorded: Path, taker: Taker, capsys: pytest.CaptureFixture[str]
) -> None:
    one = tmp_path / "one.jsonl"
    one.write_text(recorded.read_text().splitlines()[0])  # no newline at its end
    assert replay(capsys, str(one), "--endpoint", taker.url + suffix)[0] == 0
    assert taker.paths == [("/prefix" if suffix == "/prefix" else "") + "/v1/traces"]
    assert len(taker.spans) == 1


def test_headers_are_the_usual_ones(
    recorded: Path, taker: Taker, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=a%20b")
    assert replay(capsys, str(recorded), "--endpoint", taker.url)[0] == 0
    assert {headers["x-key"] for headers in taker.headers} == {"a b"}


def test_lines_that_hold_no_spans_are_counted(
    tmp_path: Path, recorded: Path, taker: Taker, capsys: pytest.CaptureFixture[str]
) -> None:
    good = recorded.read_text().splitlines()[:3]
    broken = [good[0][:-5], "[]", "{}", "\x00", '{"resourceSpans": 3}', '{"resourceSpans": [{}]}', "[" * 100_000]
    file = tmp_path / "mixed.jsonl"
    file.write_text("\n".join([good[0], *broken, good[1], '{"resourceMetrics": []}', "", good[2], good[2][:50]]))
    status, out, err = replay(capsys, str(file), "--endpoint", taker.url)
    assert (status, err) == (0, "")
    assert out == (
        f"3 spans sent to {taker.url}/v1/traces in 1 request.\n"
        f"9 lines skipped that hold no whole spans, the first: {file}, line 2. "
        "Some hold metrics, which are no matter of traces.\n"
    )
    assert taker.spans == lines_of(recorded)[:3]


def test_for_programs(tmp_path: Path, recorded: Path, taker: Taker, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text(recorded.read_text().splitlines()[0] + "\nbroken\n")
    status, out, err = replay(capsys, str(file), str(recorded), "--endpoint", taker.url, "--json")
    assert (status, err) == (0, "")
    assert json.loads(out) == {
        "url": f"{taker.url}/v1/traces",
        "files": [str(file), str(recorded)],
        "spans_sent": SPANS + 1,
        "spans_rejected": 0,
        "requests": 4,
        "lines_skipped": [{"file": str(file), "line": 2}],
    }


def test_what_is_busy_is_tried_again(recorded: Path, taker: Taker, capsys: pytest.CaptureFixture[str]) -> None:
    taker.answers = [(503, {"Retry-After": "0"}, b""), (429, {"Retry-After": "0"}, b"")]
    status, out, _ = replay(capsys, str(recorded), "--endpoint", taker.url)
    assert status == 0
    assert out.startswith("1,200 spans sent")
    assert len(taker.paths) == 5
    assert len({span["span"] for span in taker.spans}) == len(taker.spans) == SPANS


def test_what_stops_half_way_can_go_on(recorded: Path, taker: Taker, capsys: pytest.CaptureFixture[str]) -> None:
    taker.answers = [(200, {}, b"{}"), (401, {}, b"who are you")]
    status, out, err = replay(capsys, str(recorded), "--endpoint", taker.url)
    assert (status, out) == (1, "")
    first, done, go_on = err.splitlines()
    assert first.startswith(f"ttstrace: the collector at {taker.url}/v1/traces ")
    assert "401" in first
    assert "who are you" in first
    assert done == f"512 spans sent to {taker.url}/v1/traces in 1 request."
    command = go_on.partition(": ")[2].split()
    assert command[:2] == ["ttstrace", "replay"]
    status, out, _ = replay(capsys, *command[2:])
    assert (status, out.split()[0]) == (0, str(SPANS - 512))
    assert len({span["span"] for span in taker.spans}) == len(taker.spans) == SPANS


def test_going_on_with_the_second_file(
    tmp_path: Path, recorded: Path, taker: Taker, capsys: pytest.CaptureFixture[str]
) -> None:
    one = tmp_path / "with a space.jsonl"
    one.write_text(recorded.read_text().splitlines()[0] + "\n")
    taker.answers = [(200, {}, b"{}"), (200, {}, b"{}"), (400, {}, b"")]
    status, _, err = replay(capsys, str(one), str(recorded), "--endpoint", taker.url)
    assert status == 1
    assert f"ttstrace replay {recorded} --endpoint {taker.url} --from-line 513" in err


@pytest.mark.skipif(os.name == "nt", reason="no such signals there")
def test_interrupted(recorded: Path, taker: Taker) -> None:
    taker.hold = threading.Event()
    process = subprocess.Popen(
        [sys.executable, "-m", "ttstrace", "replay", str(recorded), "--endpoint", taker.url],
        env=clean_environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while len(taker.paths) < 2:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        taker.hold.set()
        process.kill()
    assert process.returncode == 130
    assert err.splitlines() == [
        f"512 spans sent to {taker.url}/v1/traces in 1 request.",
        f"To go on where it stopped: ttstrace replay {recorded} --endpoint {taker.url} --from-line 513",
        "ttstrace: interrupted",
    ]


def test_spans_that_are_not_taken(recorded: Path, taker: Taker, capsys: pytest.CaptureFixture[str]) -> None:
    partial = {"partialSuccess": {"rejectedSpans": "5", "errorMessage": "too old"}}
    taker.answers = [(200, {}, json.dumps(partial).encode())]
    status, out, err = replay(capsys, str(recorded), "--endpoint", taker.url)
    assert status == 1
    assert out.startswith("1,195 spans sent")
    assert err == "ttstrace: 5 spans were not taken by the collector: too old\n"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((200, {"Content-Type": "text/html"}, b"<h1>Log in</h1>"), "answers with a web page"),
        ((302, {"Location": "/elsewhere"}, b""), "sends to another address"),
        ((404, {}, b""), "404"),
    ],
)
def test_what_is_no_collector(
    answer: tuple[int, dict[str, str], bytes],
    said: str,
    recorded: Path,
    taker: Taker,
    capsys: pytest.CaptureFixture[str],
) -> None:
    taker.answers = [answer]
    status, _, err = replay(capsys, str(recorded), "--endpoint", taker.url)
    assert status == 1
    assert said in err
    assert "Is it running, and is --endpoint its base URL?" in err
    assert "0 spans sent" in err
    assert len(taker.paths) == 1


def test_nobody_there(recorded: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("urllib3.util.Retry.get_backoff_time", lambda self: 0)
    status, _, err = replay(capsys, str(recorded), "--endpoint", f"http://127.0.0.1:{free_port()}")
    assert status == 1
    assert "Connection refused" in err


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["x.jsonl"], 2, "ttstrace replay: the following arguments are required: --endpoint"),
        (["--endpoint", "http://localhost:4318"], 2, "ttstrace replay: the following arguments are required: FILE"),
        (["x.jsonl", "--endpoint", "nonsense"], 2, "ttstrace replay: The endpoint 'nonsense' is neither"),
        (["x.jsonl", "--endpoint", "localhost:4317"], 2, "ttstrace replay: port 4317 is OTLP over gRPC"),
        (["x.jsonl", "--endpoint", "http://localhost:4318", "--from-line", "0"], 2, "ttstrace replay: --from-line"),
        (["none.jsonl", "--endpoint", "http://localhost:4318"], 1, "ttstrace: none.jsonl cannot be read: No such"),
        ([".", "--endpoint", "http://localhost:4318"], 1, "ttstrace: . is a folder"),
    ],
)
def test_wrong_calls(
    words: list[str],
    status: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.jsonl").write_text("")
    got, out, err = replay(capsys, *words)
    assert (got, out) == (status, "")
    assert err.startswith(said)


def test_an_empty_file_sends_nothing(tmp_path: Path, taker: Taker, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.jsonl").write_text("")
    status, out, _ = replay(capsys, str(tmp_path / "x.jsonl"), "--endpoint", taker.url)
    assert (status, out) == (0, f"0 spans sent to {taker.url}/v1/traces in 0 requests.\n")
    assert taker.paths == []
