"""Real speech through `configure()`: what a real collector has is what the engine recorded; broken ones hurt nobody."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from collector import Collector, every_broken_collector, lines_of, run_program, running_collector
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from ttstrace import semconv
from ttstrace.telemetry.delivery import SpanOutput

SPEAK = """
import ttstrace
ttstrace.instrument("hibari")
from hibari import Hibari

tts = Hibari()

@ttstrace.traced_synthesis(model="app")
def answer(text):
    with ttstrace.stage("normalization"):
        text = text.strip()
    if not text:
        raise ValueError("nothing to say")
    return tts(text)

def speak():
    answer("Good morning. ")
    chunks = list(tts.stream("It is one. It is two. It is three."))
    try:
        answer(" ")
    except ValueError:
        pass
    return sum(map(len, chunks)) / tts.sample_rate
"""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with running_collector() as running:
        yield running


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_real_speech_at_a_real_collector(collector: Collector, tmp_path: Path, protocol: str) -> None:
    ran = run_program(
        SPEAK
        + """
handle = configure("voice", endpoint=os.environ["WHERE"], file="traces.jsonl")
seen = in_memory()
seconds = speak()
say(sent=handle.force_flush(10), spans=[plain(span) for span in seen.get_finished_spans()], seconds=seconds)
""",
        tmp_path,
        WHERE=collector.grpc if protocol == "grpc" else collector.http,
    )
    assert ran.err == ""
    assert ran.said["sent"] is True
    collector.wait(lambda it: len(it.spans) >= 6 and semconv.METRIC_RTF in it.metrics)
    expected = sorted(ran.said["spans"], key=lambda span: str(span["span"]))
    assert sorted(collector.spans, key=lambda span: str(span["span"])) == expected
    assert sorted(lines_of(tmp_path / "traces.jsonl"), key=lambda span: str(span["span"])) == expected
    parents = {span["parent"] for span in collector.spans if span["name"] == "normalization"}
    assert parents == {span["span"] for span in collector.spans if span["name"] == "text_to_speech app"}
    stream = next(span for span in collector.spans if span["attributes"].get("gen_ai.request.stream"))
    assert stream["attributes"]["tts.stream.chunks"] == 3
    assert stream["attributes"]["tts.audio.duration"] == pytest.approx(ran.said["seconds"])
    failed = next(span for span in collector.spans if span["status"] == 2 and span["name"] == "text_to_speech app")
    assert failed["attributes"]["error.type"] == "ValueError"
    assert {point.count for point in collector.metrics[semconv.METRIC_RTF].histogram.data_points} == {1}


@pytest.mark.keeps_time
def test_calls_neither_fail_nor_wait_for_a_broken_collector(tmp_path: Path) -> None:
    source = """
        import ttstrace
        configure(endpoint=os.environ["WHERE"], protocol=os.environ["PROTOCOL"])

        @ttstrace.traced_synthesis(format="pcm_s16le", sample_rate=16000)
        def speak(text):
            time.sleep(0.001)
            return audio

        audio, results, times = bytes(3200), [], []
        for _ in range(1500):
            began = time.perf_counter()
            results.append(speak("hello") is audio)
            times.append(time.perf_counter() - began)
        say(results=all(results), worst=max(times))
        """
    for case, ran in every_broken_collector(tmp_path, source).items():
        assert ran.said["results"] is True, case
        assert ran.said["worst"] < 0.5, case
        assert "Traceback" not in ran.err, case


class CutOff(SpanExporter):
    """As the SDK's over gRPC: in the midst of a batch when exit closes its channel."""

    def __init__(self) -> None:
        self.closed = threading.Event()
        self.over = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.closed.wait(20)
        try:
            raise ValueError("Cannot invoke RPC on closed channel!")
        finally:
            self.over.set()

    def shutdown(self) -> None:
        self.closed.set()


def test_an_export_that_exit_cuts_off_is_lost_without_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    exporter = CutOff()
    output = SpanOutput(exporter, ("cut off", "nowhere"))
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(output.processor)
    provider.get_tracer("test").start_span("speech").end()
    assert output.close(0.2) is False
    assert exporter.over.wait(20)
    output.processor._batch_processor._worker_thread.join(20)  # type: ignore[attr-defined]
    assert not output.tally.all_arrived()
    assert [record.message for record in caplog.records if record.exc_info] == []


def test_a_flush_sends_what_was_abandoned(collector: Collector, tmp_path: Path) -> None:
    ran = run_program(
        """
import ttstrace
handle = configure(endpoint=os.environ["WHERE"])

@ttstrace.traced_synthesis
def speak(text):
    yield b"1"
    yield b"2"

stream = speak("hello")
next(stream)
del stream
say(sent=handle.force_flush(10))
os._exit(0)
""",
        tmp_path,
        WHERE=collector.http,
    )
    assert ran.said["sent"] is True
    collector.wait(lambda it: it.spans)
    assert collector.spans[0]["attributes"]["tts.interrupted"] is True
