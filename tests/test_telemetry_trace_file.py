"""The trace file: every span that ended is on a line of its own, whatever became of its process."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest
from collector import lines_of, run_program
from opentelemetry.sdk.trace import TracerProvider

from ttstrace.telemetry import SpanFileExporter
from ttstrace.telemetry.trace_file import LineFile, SpanFileProcessor, metrics_path, to_line

SPAN_LINE = '{"resourceSpans": []}\n'


def test_lines_hold_what_was_recorded(tmp_path: Path) -> None:
    ran = run_program(
        """
        handle = configure("voice-service")
        seen = in_memory()
        with trace.get_tracer("app").start_as_current_span("request", kind=trace.SpanKind.SERVER) as span:
            synthesize(voice="안녕", half=0.5, done=False, big=2**62)
            span.set_status(trace.StatusCode.ERROR)
        record()
        say(spans=[plain(span) for span in seen.get_finished_spans()], flushed=handle.force_flush(),
            shut=handle.shutdown(), file=handle.file, metrics=handle.metrics_file, endpoint=handle.endpoint)
        """,
        tmp_path,
    )
    assert ran.err == ""
    assert ran.said["flushed"] is True
    assert ran.said["shut"] is True
    assert ran.said["file"] == str(tmp_path / "ttstrace.jsonl")
    assert ran.said["metrics"] == str(tmp_path / "ttstrace.metrics.jsonl")
    assert ran.said["endpoint"] is None
    assert lines_of(tmp_path / "ttstrace.jsonl") == ran.said["spans"]
    last = json.loads((tmp_path / "ttstrace.metrics.jsonl").read_text().splitlines()[-1])
    (scope,) = last["resourceMetrics"][0]["scopeMetrics"]
    histogram, counter = sorted(scope["metrics"], key=lambda metric: "sum" in metric)
    assert (histogram["name"], histogram["histogram"]["dataPoints"][0]["sum"]) == ("tts.client.rtf", 0.113)
    assert (counter["name"], counter["sum"]["dataPoints"][0]["asInt"]) == (
        "tts.client.input.characters",
        "42",
    )


def test_a_span_is_on_disk_when_it_has_ended(tmp_path: Path) -> None:
    ran = run_program(
        """
        configure(file="x.jsonl")
        sizes = []
        for _ in range(3):
            synthesize()
            sizes.append(open("x.jsonl").read().count("\\n"))
        say(sizes=sizes)
        """,
        tmp_path,
    )
    assert ran.said["sizes"] == [1, 2, 3]


def test_runs_are_appended(tmp_path: Path) -> None:
    for _ in range(2):
        run_program("configure(file='x.jsonl'); synthesize()", tmp_path)
    assert len(lines_of(tmp_path / "x.jsonl")) == 2


def test_processes_do_not_tear_each_others_lines(tmp_path: Path) -> None:
    run_program(
        """
        configure(file="x.jsonl")
        children = []
        for process in range(4):
            child = os.fork()
            if child == 0:
                for number in range(300):
                    synthesize(process=process, number=number, long="x" * (number * 40))
                os._exit(0)
            children.append(child)
        for child in children:
            os.waitpid(child, 0)
        """,
        tmp_path,
    )
    spans = lines_of(tmp_path / "x.jsonl")
    written = {(span["attributes"]["process"], span["attributes"]["number"]) for span in spans}
    assert len(spans) == 1200
    assert len(written) == 1200


@pytest.mark.parametrize("end", ["os._exit(0)", f"os.kill(os.getpid(), {int(signal.SIGKILL)})"])
def test_a_process_that_ends_at_once_keeps_its_spans(tmp_path: Path, end: str) -> None:
    run_program(f"configure(); synthesize(); {end}", tmp_path, check=False)
    assert len(lines_of(tmp_path / "ttstrace.jsonl")) == 1


@pytest.mark.parametrize("how", ["fork", "spawn", "forkserver"])
def test_workers_of_a_pool_keep_theirs(tmp_path: Path, how: str) -> None:
    run_program(
        """
        import multiprocessing

        def work(number):
            synthesize(number=number)

        def start():
            if os.environ["HOW"] != "fork":
                configure()

        if __name__ == "__main__":
            configure()
            # Leaving the block terminates the workers.
            with multiprocessing.get_context(os.environ["HOW"]).Pool(2, start) as pool:
                pool.map(work, range(8))
        """,
        tmp_path,
        HOW=how,
    )
    numbers = [span["attributes"]["number"] for span in lines_of(tmp_path / "ttstrace.jsonl")]
    assert sorted(numbers) == list(range(8))


def test_zero_code_writes_each_span_when_it_ends(tmp_path: Path) -> None:
    ran = run_program(
        """
        synthesize(big="\\udc80")
        record()
        print(open("zero.jsonl").read().count("\\n"))
        metrics.get_meter_provider().force_flush()
        os._exit(0)
        """,
        tmp_path,
        str(Path(sys.executable).with_name("opentelemetry-instrument")),
        sys.executable,
        OTEL_TRACES_EXPORTER="ttstrace_file",
        OTEL_METRICS_EXPORTER="ttstrace_file",
        OTEL_LOGS_EXPORTER="none",
        TTSTRACE_FILE="zero.jsonl",
    )
    assert ran.out == "1\n"
    assert len(lines_of(tmp_path / "zero.jsonl")) == 1
    assert "tts.client.rtf" in (tmp_path / "zero.metrics.jsonl").read_text()


@pytest.mark.parametrize(
    ("attribute", "kept"),
    [
        ("\ud800", "\ufffd"),
        ("a\udcffb", "a\ufffdb"),
        ("\ud800\ud800x", "\ufffd\ufffdx"),
        ("\udc00\ud800", "\ufffd\ufffd"),
        ("😀", "😀"),
        ("\\ud800", "\\ud800"),
        ("\\\ud800", "\\\ufffd"),
        ("안녕\u2028\x85\n\0", "안녕\u2028\x85\n\0"),
        ("\ud83d\ude00", "😀"),  # a pair of halves is what JSON writes for the whole
    ],
)
def test_strings_are_readable_everywhere(tmp_path: Path, attribute: str, kept: str) -> None:
    path = tmp_path / "x.jsonl"
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SpanFileProcessor(SpanFileExporter(path)))
    span = provider.get_tracer("t").start_span(f"n{attribute}")
    span.set_attribute("value", attribute)
    span.set_attribute(f"k{attribute}", 1)
    span.add_event(attribute, {"value": attribute})
    span.end()
    (read,) = lines_of(path)
    assert read["name"] == f"n{kept}"
    assert read["attributes"] == {"value": kept, f"k{kept}": 1}
    assert read["events"][0][0] == kept
    assert json.loads(path.read_bytes().decode("utf-8", "strict"))


def test_integers_beyond_64_bits_do_not_spoil_the_file() -> None:
    inside, beyond, quoted = 2**63 - 1, 2**63, '"intValue": "99999999999999999999"'
    message = json.dumps({"a": {"intValue": str(inside)}, "b": {"intValue": str(beyond)}, "c": quoted})
    assert json.loads(to_line(message)) == {
        "a": {"intValue": str(inside)},
        "b": {"stringValue": str(beyond)},
        "c": quoted,
    }


def test_the_file_of_metrics_lies_beside() -> None:
    assert metrics_path("x.jsonl") == "x.metrics.jsonl"
    assert metrics_path("/a.b/trace") == "/a.b/trace.metrics"


def test_a_line_cut_short_is_not_joined_with_the_next(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(SPAN_LINE + '{"resourceSp')
    assert LineFile(path, "resourceSpans").write(b"{}\n")
    assert path.read_text().splitlines() == [SPAN_LINE.strip(), '{"resourceSp', "{}"]


def test_short_writes_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = LineFile(tmp_path / "x.jsonl", "resourceSpans")
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:3]))
    assert file.write(b'{"a": "long enough"}\n')
    assert (tmp_path / "x.jsonl").read_bytes() == b'{"a": "long enough"}\n'


def test_a_full_disk_is_one_warning_and_a_loss(tmp_path: Path) -> None:
    ran = run_program(
        """
        import resource, signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        handle = configure(file="x.jsonl")
        synthesize()
        before = handle.force_flush()
        resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize("x.jsonl") + 10, resource.RLIM_INFINITY))
        for _ in range(3):
            synthesize()
        full = handle.force_flush()
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        synthesize()
        say(before=before, full=full, after=handle.force_flush(), ever=handle.shutdown())
        """,
        tmp_path,
    )
    assert ran.said == {"before": True, "full": False, "after": True, "ever": False}
    assert ran.err.count("x.jsonl cannot be written") == 1
    assert ran.err.count("\n") == 1
    first, torn, last = (tmp_path / "x.jsonl").read_text().splitlines()
    assert len(torn) == 10
    assert json.loads(first)
    assert json.loads(last)


def test_what_is_not_a_trace_file_is_left_alone(tmp_path: Path) -> None:
    for content in ("hello\n", "{}\n", "[1]\n", '{"resourceMetrics": []}\n', "\n" + SPAN_LINE, "\0\0"):
        path = tmp_path / "other"
        path.write_text(content)
        with pytest.raises(ValueError, match=r"other' exists and is not a file of spans .*another file"):
            SpanFileExporter(path)
        assert path.read_text() == content
    for content in ("", SPAN_LINE, '{ "a": 1, "resourceSpans": [] }\r\n', '{"resourceSpans": [{"res'):
        path.write_bytes(content.encode())
        SpanFileExporter(path)
        assert path.read_bytes() == content.encode()


def test_bad_paths_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere' first"):
        SpanFileExporter(tmp_path / "nowhere" / "x.jsonl")
    with pytest.raises(IsADirectoryError, match=r"is a folder: name a file in it"):
        SpanFileExporter(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="not a regular file"):
        SpanFileExporter(tmp_path / "pipe")
    with pytest.raises(OSError, match=r"cannot be written \(.*\): name another one"):
        SpanFileExporter("/proc/x.jsonl")


def test_descriptors_are_not_inherited_and_are_given_back(tmp_path: Path) -> None:
    file = LineFile(tmp_path / "x.jsonl", "resourceSpans")
    descriptor = file._descriptor
    assert not os.get_inheritable(descriptor)
    del file
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_configure_beside_zero_code_writes_no_span_twice(tmp_path: Path) -> None:
    ran = run_program(
        """
        handle = configure(file="zero.jsonl")
        synthesize()
        record()
        say(file=handle.file, metrics=handle.metrics_file, sent=handle.shutdown())
        """,
        tmp_path,
        str(Path(sys.executable).with_name("opentelemetry-instrument")),
        sys.executable,
        OTEL_TRACES_EXPORTER="ttstrace_file",
        OTEL_METRICS_EXPORTER="ttstrace_file",
        OTEL_LOGS_EXPORTER="none",
        TTSTRACE_FILE="zero.jsonl",
    )
    assert ran.said["file"] == str(tmp_path / "zero.jsonl")
    assert ran.said["metrics"] == str(tmp_path / "zero.metrics.jsonl")
    assert len(lines_of(tmp_path / "zero.jsonl")) == 1
    assert "nothing was added" in ran.err
