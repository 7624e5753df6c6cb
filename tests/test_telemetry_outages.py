"""Collectors that die, come back, refuse, hang, and take a part: no call waits, and what was lost is said once."""

from __future__ import annotations

import datetime
import logging
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trustme
from collector import Plain, black_hole, free_port, run_program, running_collector
from conftest import set_meter_provider, set_tracer_provider
from opentelemetry import trace
from opentelemetry._logs import _internal as logs
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.util._once import Once
from otlp_server import Answer, otlp_server

import ttstrace
from ttstrace import semconv
from ttstrace.telemetry import Telemetry, configure, outages, troubles

PROTOCOLS = ["http/protobuf", "grpc"]
both = pytest.mark.parametrize("protocol", PROTOCOLS)


class Program:
    """A program that is traced: its calls, its spans as the SDK knows them, and what its log says."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self.caplog = caplog
        self.calls = 0
        self.handle = Telemetry()

    def configure(self, endpoint: str, protocol: str) -> Telemetry:
        self.handle = configure("outages", endpoint=endpoint, protocol=protocol)
        self.seen = InMemorySpanExporter()
        provider: Any = trace.get_tracer_provider()
        provider.add_span_processor(SimpleSpanProcessor(self.seen))

        @ttstrace.traced_synthesis(
            model="mute", sample_rate=8000, attributes=lambda call: {"number": call.arguments["number"]}
        )
        def speak(text: str, number: int) -> np.ndarray:
            self.calls += 1
            return np.full(800, number, np.float32)

        self._speak = speak
        return self.handle

    def speak(self, count: int = 1) -> None:
        """Call the backend; each call must return what it made."""
        for _ in range(count):
            number = self.calls + 1
            assert self._speak("hello", number)[0] == number
            assert self.calls == number  # the backend ran once

    def spans(self) -> list[ReadableSpan]:
        return list(self.seen.get_finished_spans())

    def lines(self) -> list[str]:
        """What a log at its usual level says."""
        return [record.getMessage() for record in self.caplog.records if record.levelno >= logging.WARNING]

    def lost(self) -> int:
        """How many spans the log says were lost: for each outage, its last line counts."""
        last: dict[str, int] = {}
        for line in self.lines():
            found = re.search(r"lost (?:so far|in all): ([\d,]+) spans?\b", line)
            state = line.partition("; lost")[0]
            again = re.search(r"It was: (.*)\.$", line)
            if found:
                state = f"{line.split()[0]} {again.group(1)}" if again else state
                last[re.sub(r" \(.*", "", state)] = int(found.group(1).replace(",", ""))
        return sum(last.values())


def forget_providers() -> None:
    set_tracer_provider(None)
    set_meter_provider(None)
    # The SDK's configurator sets one of these, too, and complains about a second.
    logs._LOGGER_PROVIDER, logs._LOGGER_PROVIDER_SET_ONCE = None, Once()


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[Program]:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    # One try per batch: the SDK does not wait for a second longer than this.
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.7")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    forget_providers()
    caplog.set_level(logging.INFO)
    running = Program(caplog)
    yield running
    running.handle.shutdown(0.2)
    forget_providers()


def wait_for(condition: Callable[[], object], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.01)


def as_sent(span: ReadableSpan) -> Plain:
    """The SDK's own view of a span, without any encoder, as what arrives is looked at."""
    context, scope = span.context, span.instrumentation_scope
    assert context is not None
    assert scope is not None
    return {
        "name": span.name,
        "trace": f"{context.trace_id:032x}",
        "span": f"{context.span_id:016x}",
        "parent": "",
        "kind": span.kind.value + 1,
        "start": span.start_time,
        "end": span.end_time,
        "attributes": dict(span.attributes or {}),
        "events": [[event.name, event.timestamp, dict(event.attributes or {})] for event in span.events],
        "status": span.status.status_code.value,
        "scope": [scope.name, scope.version],
        "resource": dict(span.resource.attributes),
    }


# --- a collector that dies, and comes back --------------------------------------------------------------------------


@both
def test_killed_collector_costs_no_call_and_gets_what_comes_after_its_restart(
    program: Program, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "16")
    with running_collector() as collector:
        handle = program.configure(collector.grpc if protocol == "grpc" else collector.http, protocol)

        def speak_until(condition: Callable[[], object]) -> None:
            def speak() -> bool:
                program.speak(5)
                return bool(condition())

            wait_for(speak)

        speak_until(lambda: len(collector.spans) >= 50)
        collector.kill()
        speak_until(program.lines)
        speak_until(lambda at=program.calls: program.calls >= at + 50)
        collector.restart()
        passed = program.calls
        speak_until(lambda: any(span["attributes"]["number"] > passed for span in collector.spans))
        handle.force_flush(10)  # what the outage had left
        first = program.calls
        program.speak(100)
        assert handle.force_flush(10)
        assert not handle.shutdown()  # not everything ever recorded
        arrived_after = set(range(first + 1, first + 101))
        collector.wait(lambda it: {span["attributes"]["number"] for span in it.spans} >= arrived_after)

    sent = {span["span"]: span for span in map(as_sent, program.spans())}
    assert len(sent) == program.calls
    arrived = [span["span"] for span in collector.spans]
    assert len(set(arrived)) == len(arrived)  # once
    assert all(sent[span["span"]] == span for span in collector.spans)  # unbroken
    said, acknowledged = program.lost(), handle._outputs[0].tally._delivered
    assert said > 0
    assert said + acknowledged == len(sent)
    # What it had acknowledged and not passed on when it died is its own loss, which nobody here can know of.
    assert len(arrived) <= acknowledged
    first, *rest = program.lines()
    assert "lost so far" in first
    assert len(rest) <= 1, rest  # where it lost more than the first line knew of


@both
def test_collector_that_is_down_at_first_gets_what_is_recorded_once_it_is_up(program: Program, protocol: str) -> None:
    port = free_port()
    handle = program.configure(f"http://127.0.0.1:{port}", protocol)
    program.speak(3)
    assert not handle.force_flush(10)
    trouble = handle.trouble("traces")
    assert trouble is not None
    assert trouble.kind == "unreachable"
    assert "Connection refused" in trouble.reason
    program.speak(4)
    assert not handle.force_flush(10)
    with otlp_server(protocol, port=port) as server:
        program.speak(5)
        assert handle.force_flush(10)
        assert not handle.arrived("traces")
        assert handle.arrived("metrics")  # cumulative: the last collection holds what the lost ones held
        assert not handle.shutdown()
    assert server.spans == [as_sent(span) for span in program.spans()[7:]]
    points = server.metrics[semconv.METRIC_INPUT_CHARACTERS].sum.data_points
    assert sum(point.as_int for point in points) == 12 * len("hello")
    assert program.lost() == 7
    first, last = program.lines()
    assert "cannot be reached (Connection refused" in first
    assert "Start the collector, or correct endpoint=... or OTEL_EXPORTER_OTLP_ENDPOINT." in first
    assert "lost in all: 7 spans." in last


def test_outage_that_is_over_is_told_with_all_that_was_lost(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "QUIET_SECONDS", 0.0)
    with otlp_server("http/protobuf") as server:
        handle = program.configure(server.endpoint, "http/protobuf")
        server.answer = Answer(503)
        for count in (2, 3):
            program.speak(count)
            assert not handle.force_flush(10)
        server.answer = Answer()
        program.speak()
        assert handle.force_flush(10)
        assert handle.force_flush(10)  # the metrics as well
        first, last = program.lines()
        assert "is not ready (503 Service Unavailable)" in first
        assert "takes what it is sent again; lost in all: 5 spans. It was: is not ready" in last
        handle.shutdown()
        assert len(program.lines()) == 2
    assert len(server.spans) == 1


def test_outage_that_comes_and_goes_is_one(program: Program) -> None:
    with otlp_server("http/protobuf") as server:
        handle = program.configure(server.endpoint, "http/protobuf")
        for number in range(12):
            server.answer = Answer(503 if number % 2 else 200)
            program.speak()
            assert handle.force_flush(10) == (number % 2 == 0)
        handle.shutdown()
    assert len(server.spans) == 6
    assert program.lost() == 6
    assert len(program.lines()) == 2


@both
def test_end_of_a_process_says_all_of_an_outage_in_one_line(tmp_path: Path, protocol: str) -> None:
    ran = run_program(
        """
        configure(endpoint=os.environ["WHERE"], protocol=os.environ["PROTOCOL"])
        for _ in range(20):
            synthesize()
        record()
        """,
        tmp_path,
        WHERE=f"http://127.0.0.1:{free_port()}",
        PROTOCOL=protocol,
        OTEL_EXPORTER_OTLP_TIMEOUT="0.7",
    )
    (line,) = ran.err.splitlines()
    assert "cannot be reached" in line
    assert "lost in all: 20 spans and 1 collection of metrics. Start the collector" in line


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_child_says_its_own_losses_alone(tmp_path: Path) -> None:
    ran = run_program(
        """
        handle = configure(endpoint=os.environ["WHERE"])
        for _ in range(2):
            synthesize()
        handle.force_flush(10)
        child = os.fork()
        for _ in range(3 if child == 0 else 4):
            synthesize()
        handle.shutdown(10)
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        """,
        tmp_path,
        WHERE=f"http://127.0.0.1:{free_port()}",
        OTEL_EXPORTER_OTLP_TIMEOUT="0.7",
        OTEL_METRICS_EXPORTER="none",
    )
    told = re.findall(r"lost (?:so far|in all): \d+ spans", ran.err)
    assert told[0] == "lost so far: 2 spans"
    assert sorted(told[1:]) == ["lost in all: 3 spans", "lost in all: 6 spans"]


# --- a collector that refuses ---------------------------------------------------------------------------------------


REFUSALS = [
    (Answer(400, "INVALID_ARGUMENT", "no such field"), "refused", "no such field", "see its own log"),
    (Answer(401, "UNAUTHENTICATED"), "not allowed", "", "OTEL_EXPORTER_OTLP_HEADERS"),
    (Answer(404, "UNIMPLEMENTED"), "path", "", "Correct endpoint=..."),
    (Answer(413, "RESOURCE_EXHAUSTED", "larger than max"), "too large", "", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"),
]


@both
@pytest.mark.parametrize(("answer", "kind", "reason", "fix"), REFUSALS, ids=lambda it: getattr(it, "code", ""))
def test_refusal_is_not_tried_again_and_said_once_with_its_fix(
    program: Program, protocol: str, answer: Answer, kind: str, reason: str, fix: str
) -> None:
    with otlp_server(protocol) as server:
        handle = program.configure(server.endpoint, protocol)
        server.answer = answer
        for count in (1, 2, 3):
            program.speak(count)
            assert not handle.force_flush(10)
        assert server.attempts.count("traces") == 3
        assert server.attempts.count("metrics") == 3
        trouble = handle.trouble("traces")
        assert trouble is not None
        assert trouble.kind == kind
        assert reason in trouble.reason
        assert not [record for record in program.caplog.records if record.name.startswith("opentelemetry.exporter")]
        (line,) = program.lines()
        assert fix in line or kind == "path"  # metrics are mostly told first
        assert fix in trouble.fix
        handle.shutdown()
    assert program.lost() == 6
    assert server.spans == []


def test_wrong_path_is_told_with_the_path(program: Program) -> None:
    with otlp_server("http/protobuf") as server:
        handle = program.configure(f"{server.endpoint}/otel", "http/protobuf")
        server.answer = Answer(404)
        program.speak()
        handle.force_flush(10)
        trouble = handle.trouble("traces")
    assert trouble is not None
    assert trouble.reason == "404 Not Found, for /otel/v1/traces"
    assert "/v1/traces is added to it" in trouble.fix


@both
def test_collector_of_traces_alone_is_told_once_and_gets_them_all(
    program: Program, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outages, "QUIET_SECONDS", 0.0)
    with otlp_server(protocol) as server:
        handle = program.configure(server.endpoint, protocol)
        server.answers["metrics"].extend([Answer(404, "UNIMPLEMENTED")] * 9)
        for _ in range(4):
            program.speak(2)
            handle.force_flush(10)
        assert handle.arrived("traces")
        assert not handle.arrived("metrics")
        assert not handle.shutdown()
    assert len(server.spans) == 8
    first, last = program.lines()
    assert "takes no metrics there" in first
    assert "OTEL_METRICS_EXPORTER=none" in first
    assert "lost in all: 5 collections of metrics" in last


@pytest.mark.parametrize("signal", ["traces", "metrics"])
def test_redirection_is_no_success(program: Program, signal: str) -> None:
    """The SDK does not follow one, and takes it for a success."""
    with otlp_server("http/protobuf") as server:
        handle = program.configure(server.endpoint, "http/protobuf")
        server.answers[signal].append(Answer(302, location="https://login.example/"))
        program.speak()
        assert not handle.force_flush(10)
        assert handle.arrived("traces") == (signal != "traces")
    (line,) = program.lines()
    assert "sends to another address (302 Found)" in line
    assert "login" in line


def test_web_page_is_no_success(program: Program) -> None:
    with otlp_server("http/protobuf") as server:
        handle = program.configure(server.endpoint, "http/protobuf")
        server.answer = Answer(page=True)
        program.speak()
        assert not handle.force_flush(10)
    (line,) = program.lines()
    assert "answers with a web page (200 OK)" in line


# --- a collector that asks to wait ----------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("answer", [(429, "RESOURCE_EXHAUSTED"), (503, "UNAVAILABLE")], ids=str)
def test_what_is_asked_to_wait_waits_and_arrives_once_without_a_word(
    program: Program, protocol: str, answer: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "20")
    with otlp_server(protocol) as server:
        handle = program.configure(server.endpoint, protocol)
        seconds = 1 if protocol != "grpc" else 0.5
        for signal in ("traces", "metrics"):
            server.answers[signal].append(Answer(*answer, message="later", retry_after=seconds))
        program.speak(3)
        began = time.monotonic()
        assert handle.force_flush(30)
        assert time.monotonic() - began >= 0.9 * seconds
        assert server.attempts.count("traces") == server.attempts.count("metrics") == 2
        assert handle.shutdown()
    assert server.spans == [as_sent(span) for span in program.spans()]
    assert program.lines() == []


@both
def test_what_is_to_wait_longer_than_the_time_there_is_is_lost(program: Program, protocol: str) -> None:
    with otlp_server(protocol) as server:
        handle = program.configure(server.endpoint, protocol)
        server.answer = Answer(429, "RESOURCE_EXHAUSTED", retry_after=0.9)
        program.speak(3)
        assert not handle.force_flush(10)
        assert server.attempts.count("traces") == 1
    (line,) = program.lines()
    assert "takes no more for now" in line
    assert program.lost() == 3 or "metrics" in line


# --- a collector that takes a part ----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [*PROTOCOLS, "json"])
def test_rejected_spans_are_a_loss_and_not_sent_again(program: Program, form: str) -> None:
    protocol = "http/protobuf" if form == "json" else form
    with otlp_server(protocol) as server:
        handle = program.configure(server.endpoint, protocol)
        refusal = Answer(rejected=2, message="too long an attribute", as_json=form == "json")
        program.speak(5)
        server.answers["traces"].append(refusal)
        assert not handle.force_flush(10)
        assert handle.arrived("metrics")
        program.speak()
        assert handle.force_flush(10)
        assert server.attempts.count("traces") == 2
        assert not handle.shutdown()
    assert len(server.spans) == 4
    assert program.lost() == 2
    (line,) = program.lines()
    assert "takes only a part (too long an attribute); lost so far: 2 spans." in line


@both
def test_rejected_data_points_are_a_loss_that_the_next_collection_makes_good(program: Program, protocol: str) -> None:
    with otlp_server(protocol) as server:
        handle = program.configure(server.endpoint, protocol)
        program.speak()
        server.answers["metrics"].append(Answer(rejected=1, message="out of order"))
        assert not handle.force_flush(10)
        assert not handle.arrived("metrics")
        program.speak()
        assert handle.force_flush(10)
        assert handle.shutdown()
    (line,) = program.lines()
    assert "takes only a part (out of order); lost so far: 1 collection of metrics." in line


# --- a collector that is slow ---------------------------------------------------------------------------------------


@both
def test_calls_do_not_wait_for_a_collector_that_hangs(
    program: Program, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "60")
    with otlp_server(protocol) as server:
        handle = program.configure(server.endpoint, protocol)
        server.hold.clear()
        program.speak()
        wait_for(lambda: server.held)
        program.speak(100)  # the one request is answered after them all
        assert server.attempts == ["traces"]
        assert not handle.force_flush(0.2)
        assert program.lines() == []  # nothing is lost yet
        server.hold.set()
        assert handle.force_flush(30)
        assert handle.shutdown()
    assert sorted(span["span"] for span in server.spans) == sorted(as_sent(span)["span"] for span in program.spans())
    assert program.calls == len(server.spans) == 101
    assert program.lines() == []


@both
def test_collector_that_swallows_is_told_at_the_end_with_all_that_it_has(
    program: Program, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "60")
    with black_hole() as port:
        handle = program.configure(f"http://127.0.0.1:{port}", protocol)
        program.speak(100)
        assert not handle.force_flush(0.2)
        assert not handle.shutdown(0.6)
        assert not handle.arrived("traces")
    (line,) = program.lines()
    assert "does not answer in time" in line
    assert "OTEL_EXPORTER_OTLP_TIMEOUT" in line
    assert program.lost() == 100


def test_queue_that_overflows_is_said_once_and_counted(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "16")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "8")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "60")
    with otlp_server("http/protobuf") as server:
        handle = program.configure(server.endpoint, "http/protobuf")
        for _ in range(3):
            server.hold.clear()
            held = server.held
            program.speak()
            wait_for(lambda held=held: server.held > held)
            program.speak(50)
            server.hold.set()
            assert not handle.force_flush(30)
        handle.shutdown()
    assert program.calls == 153
    assert len(server.spans) + program.lost() == 153
    assert program.lost() >= 3 * (51 - 24)
    first, *_ = lines = program.lines()
    assert "more slowly than they end" in first
    assert "OTEL_BSP_MAX_QUEUE_SIZE" in first
    assert len(lines) == 2


def test_queue_that_overflows_from_many_threads_is_counted_without_a_flush(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "16")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "8")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "60")

    def end_spans() -> None:
        for _ in range(100):
            trace.get_tracer("many").start_span("one").end()

    with otlp_server("http/protobuf") as server:
        handle = program.configure(server.endpoint, "http/protobuf")
        server.hold.clear()
        trace.get_tracer("many").start_span("one").end()
        wait_for(lambda: server.held)
        threads = [threading.Thread(target=end_spans) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        server.hold.set()
        wait_for(lambda: not handle.arrived("traces"))
        handle.shutdown()
    assert len(server.spans) + program.lost() == len(program.spans())
    assert program.lost() == 401 - 17


def test_spans_that_the_queue_had_no_room_for_in_an_outage_are_the_outages(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "16")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "8")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "60")
    with otlp_server("http/protobuf") as server:
        handle = program.configure(server.endpoint, "http/protobuf")
        server.hold.clear()
        server.answers["traces"].append(Answer(500))
        program.speak()
        wait_for(lambda: server.held)
        program.speak(50)
        server.hold.set()
        assert not handle.force_flush(10)
        handle.shutdown()
    first, last = program.lines()
    assert "is not ready (500 Internal Server Error); lost so far: 1 span." in first
    assert "is not ready (500 Internal Server Error); lost in all: 35 spans." in last
    assert len(server.spans) == 16


@both
def test_books_balance_whatever_the_collector_does(
    program: Program, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "64")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "16")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.3")
    chance = random.Random(7)
    answers = [Answer(), Answer(400, "INVALID_ARGUMENT"), Answer(503, "UNAVAILABLE"), Answer(rejected=1)]
    over = threading.Event()

    def end_spans() -> None:
        while not over.is_set():
            for _ in range(20):
                trace.get_tracer("many").start_span("one").end()
            time.sleep(0.002)

    with otlp_server(protocol) as server:
        handle = program.configure(server.endpoint, protocol)
        threads = [threading.Thread(target=end_spans) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(12):
                server.answer = chance.choice(answers)
                if chance.random() < 0.3:
                    server.hold.clear()
                attempts = len(server.attempts)
                wait_for(lambda attempts=attempts: len(server.attempts) > attempts + 1)
                server.hold.set()
                handle.force_flush(0.01)
        finally:
            over.set()
            for thread in threads:
                thread.join()
        handle.shutdown(2)
    sent, acknowledged = len(program.spans()), handle._outputs[0].tally._delivered
    assert acknowledged + program.lost() == sent
    assert 0 < acknowledged <= len(server.spans)  # what arrived while its answer did not counts as lost
    kinds = {line.partition(" (")[0].partition(";")[0] for line in program.lines()}
    assert len(program.lines()) <= 2 * len(kinds)


def test_flush_between_a_spans_end_and_the_queue_takes_it_for_no_loss(program: Program) -> None:
    with otlp_server("http/protobuf") as server:
        handle = program.configure(server.endpoint, "http/protobuf")
        output: Any = handle._outputs[0]
        batch = output.processor._batch_processor
        emit = batch.emit

        def flush_first(span: ReadableSpan) -> None:
            output.flush(10)
            emit(span)

        batch.emit = flush_first
        program.speak()
        assert handle.force_flush(10)
        assert handle.shutdown()
    assert len(server.spans) == 1


# --- what is on the way ---------------------------------------------------------------------------------------------


def test_compressed_spans_and_metrics_arrive_readable(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    with otlp_server("http/protobuf") as server:
        handle = program.configure(server.endpoint, "http/protobuf")
        program.speak(3)
        assert handle.force_flush(10)
    assert set(server.encodings) == {"gzip"}
    assert server.spans == [as_sent(span) for span in program.spans()]
    assert semconv.METRIC_INPUT_CHARACTERS in server.metrics


@both
def test_real_collector_reads_what_is_compressed(
    program: Program, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    with running_collector() as collector:
        handle = program.configure(collector.grpc if protocol == "grpc" else collector.http, protocol)
        program.speak(3)
        assert handle.force_flush(10)
        collector.wait(lambda it: len(it.spans) >= 3 and it.metrics)
    assert collector.spans == [as_sent(span) for span in program.spans()]


AUTHORITY = trustme.CA()


def _days(count: int) -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=count)


CERTIFICATES: dict[str, Callable[[], trustme.LeafCert]] = {
    "right": lambda: AUTHORITY.issue_cert("127.0.0.1"),
    "certificate unknown": lambda: trustme.CA().issue_cert("127.0.0.1"),
    "certificate of another host": lambda: AUTHORITY.issue_cert("elsewhere.example"),
    "certificate expired": lambda: AUTHORITY.issue_cert("127.0.0.1", not_before=_days(-2), not_after=_days(-1)),
}
TLS_FIXES = {
    "certificate unknown": "OTEL_EXPORTER_OTLP_CERTIFICATE",
    "certificate of another host": "as its certificate does",
    "certificate expired": "Renew",
}


@both
@pytest.mark.parametrize("certificate", CERTIFICATES)
def test_certificates(
    program: Program, protocol: str, certificate: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    AUTHORITY.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(tmp_path / "authority.pem"))
    with otlp_server(protocol, tls=CERTIFICATES[certificate]()) as server:
        handle = program.configure(server.endpoint, protocol)
        program.speak(2)
        assert handle.force_flush(10) == (certificate == "right")
        program.speak(2)
        assert handle.force_flush(10) == (certificate == "right")
        trouble = handle.trouble("traces")
        lines = program.lines()
    if certificate == "right":
        assert len(server.spans) == 4
        assert trouble is None
        assert lines == []
    else:
        assert server.spans == []
        assert trouble is not None
        assert trouble.kind == certificate
        assert len(lines) == 1
        assert TLS_FIXES[certificate] in lines[0]


@both
def test_tls_and_its_absence_are_told_apart(program: Program, protocol: str) -> None:
    with otlp_server(protocol) as server:
        handle = program.configure(server.endpoint.replace("http:", "https:"), protocol)
        program.speak()
        assert not handle.force_flush(10)
    (line,) = program.lines()
    assert "does not speak TLS" in line
    assert "http:// instead of https://" in line


def test_bundle_that_comes_before_the_certificate_is_named(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    AUTHORITY.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "bundle.pem"))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(tmp_path / "authority.pem"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "bundle.pem"))
    with otlp_server("http/protobuf", tls=CERTIFICATES["right"]()) as server:
        handle = program.configure(server.endpoint, "http/protobuf")
        program.speak()
        assert not handle.force_flush(10)
    (line,) = program.lines()
    assert "REQUESTS_CA_BUNDLE is set as well, and comes first" in line


@pytest.mark.parametrize(("server_speaks", "sent_by"), [("grpc", "http/protobuf"), ("http/protobuf", "grpc")])
def test_other_protocol_is_told(program: Program, server_speaks: str, sent_by: str) -> None:
    with otlp_server(server_speaks) as server:
        handle = program.configure(server.endpoint, sent_by)
        program.speak()
        assert not handle.force_flush(10)
    (line,) = program.lines()
    assert 'protocol="grpc"' in line


@both
def test_host_that_nobody_knows_is_told(program: Program, protocol: str) -> None:
    handle = program.configure("http://user:secret@no-such-host.invalid:4318", protocol)
    program.speak()
    assert not handle.force_flush(20)
    (line,) = program.lines()
    assert "http://no-such-host.invalid:4318 is a host that nobody knows" in line
    assert "secret" not in line


# --- what the SDK logs ----------------------------------------------------------------------------------------------


def test_each_failed_try_of_the_sdk_is_there_for_debugging(program: Program, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "opentelemetry")
    handle = program.configure(f"http://127.0.0.1:{free_port()}", "http/protobuf")
    program.speak()
    assert not handle.force_flush(10)
    of_sdk = [record for record in caplog.records if "Failed to export spans" in record.getMessage()]
    assert [record.levelname for record in of_sdk] == ["DEBUG"]
    assert len(program.lines()) == 1


def test_exporter_of_the_application_logs_as_ever(program: Program, caplog: pytest.LogCaptureFixture) -> None:
    handle = program.configure(f"http://127.0.0.1:{free_port()}", "http/protobuf")
    program.speak()
    assert not handle.force_flush(10)
    OTLPSpanExporter(f"http://127.0.0.1:{free_port()}").export(program.spans())
    assert [line for line in program.lines() if line.startswith("Failed to export spans batch")]


def test_log_that_fails_costs_no_span(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError("the log is full")

    broken = Broken()
    logger = logging.getLogger("ttstrace.telemetry")
    logger.addHandler(broken)
    try:
        with otlp_server("http/protobuf") as server:
            handle = program.configure(server.endpoint, "http/protobuf")
            server.answers["traces"].append(Answer(400))
            program.speak()
            assert not handle.force_flush(10)
            program.speak()
            assert handle.force_flush(10)
    finally:
        logger.removeHandler(broken)
    assert len(server.spans) == 1


@pytest.mark.parametrize(("protocol", "words"), [("http/protobuf", "Failed to encode"), ("grpc", "UnicodeEncodeError")])
def test_batch_that_cannot_be_encoded_is_told_once_in_the_exporters_own_words(
    program: Program, protocol: str, words: str
) -> None:
    with otlp_server(protocol) as server:
        handle = program.configure(server.endpoint, protocol)
        for _ in range(3):
            trace.get_tracer("app").start_span("\ud800").end()
            assert not handle.force_flush(10)
        program.speak()
        assert handle.force_flush(10)
    (line,) = program.lines()
    assert "was not sent everything" in line
    assert words in line
    assert [span["attributes"]["number"] for span in server.spans] == [1]


def test_losses_are_counted_from_many_threads() -> None:
    told = outages.Outages("here")
    threads = [
        threading.Thread(target=lambda: [told.lost("traces", 1, troubles.NO_ANSWER) for _ in range(2000)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told._open["timeout"].lost["traces"] == 8000
