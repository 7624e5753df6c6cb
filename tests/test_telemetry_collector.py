"""What arrives at a collector, and whether the handle says truly that it did."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from collector import Collector, every_broken_collector, lines_of, refusing, run_program, running_collector

from ttstrace import semconv
from ttstrace.telemetry.delivery import Tally


@pytest.fixture
def collector() -> Iterator[Collector]:
    with running_collector() as running:
        yield running


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_collector_gets_what_was_recorded(collector: Collector, tmp_path: Path, protocol: str) -> None:
    ran = run_program(
        """
        handle = configure("voice-service", endpoint=os.environ["WHERE"])
        seen = in_memory()
        with trace.get_tracer("app").start_as_current_span("request"):
            synthesize(voice="안녕")
            synthesize()
        record()
        flushed = handle.force_flush(10)
        say(spans=[plain(span) for span in seen.get_finished_spans()], flushed=flushed,
        shut=handle.shutdown(),
            endpoint=handle.endpoint, file=handle.file, repr=repr(handle))
        """,
        tmp_path,
        WHERE=collector.grpc if protocol == "grpc" else collector.http,
    )
    collector.wait(lambda it: len(it.spans) >= 3 and len(it.metrics) >= 2)
    assert ran.err == ""
    assert ran.said["flushed"] is True
    assert ran.said["shut"] is True
    by_id = sorted(collector.spans, key=lambda span: str(span["span"]))
    assert by_id == sorted(ran.said["spans"], key=lambda span: str(span["span"]))
    assert by_id[0]["resource"]["service.name"] == "voice-service"
    (point,) = collector.metrics[semconv.METRIC_RTF].histogram.data_points
    assert (point.count, point.sum) == (1, 0.113)
    (characters,) = collector.metrics[semconv.METRIC_INPUT_CHARACTERS].sum.data_points
    assert characters.as_int == 42
    assert ran.said["endpoint"] == (collector.grpc if protocol == "grpc" else collector.http)
    assert ran.said["file"] is None
    assert ran.said["endpoint"] in ran.said["repr"]
    assert not list(tmp_path.glob("*.jsonl"))


def test_exit_sends_what_is_left(collector: Collector, tmp_path: Path) -> None:
    ran = run_program(
        """
        configure(endpoint=os.environ["WHERE"])
        for _ in range(700):
            synthesize()
        record()
        """,
        tmp_path,
        WHERE=collector.http,
    )
    collector.wait(lambda it: len(it.spans) == 700 and it.metrics)
    assert ran.err == ""


def test_endpoint_and_file_both_get_everything(collector: Collector, tmp_path: Path) -> None:
    run_program(
        """
        with configure(endpoint=os.environ["WHERE"], file="both.jsonl"):
            synthesize()
            record()
        """,
        tmp_path,
        WHERE=collector.http,
    )
    collector.wait(lambda it: it.spans and it.metrics)
    assert lines_of(tmp_path / "both.jsonl") == collector.spans
    assert semconv.METRIC_RTF in (tmp_path / "both.metrics.jsonl").read_text()


@pytest.mark.parametrize("how", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_workers_of_a_pool_send_what_they_recorded(
    collector: Collector, tmp_path: Path, how: str, protocol: str
) -> None:
    ran = run_program(
        """
        import concurrent.futures, multiprocessing

        def work(number):
            synthesize(number=number)
            return os.getpid()

        def start():
            # A forked worker inherits the set-up; any other makes its own.
            if os.environ["HOW"] != "fork":
                configure(endpoint=os.environ["WHERE"])

        if __name__ == "__main__":
            handle = configure(endpoint=os.environ["WHERE"])
            synthesize(number=-1)
            context = multiprocessing.get_context(os.environ["HOW"])
            with concurrent.futures.ProcessPoolExecutor(2, mp_context=context, initializer=start) as pool:
                list(pool.map(work, range(8)))
            say(sent=handle.shutdown())
        """,
        tmp_path,
        WHERE=collector.grpc if protocol == "grpc" else collector.http,
        HOW=how,
    )
    collector.wait(lambda it: len(it.spans) >= 9)
    assert ran.said["sent"] is True
    assert sorted(span["attributes"]["number"] for span in collector.spans) == list(range(-1, 8))


@pytest.mark.keeps_time
def test_broken_collector_delays_no_call_and_exit_by_five_seconds_at_most(tmp_path: Path) -> None:
    source = """
        import atexit

        atexit.register(lambda: say(over=time.time()))  # after what is registered later
        configure(endpoint=os.environ["WHERE"], protocol=os.environ["PROTOCOL"])
        times = []
        for _ in range(3000):
            began = time.perf_counter()
            synthesize()
            times.append(time.perf_counter() - began)
        record()
        say(worst=max(times), end=time.time())
        """
    for case, ran in every_broken_collector(tmp_path, source).items():
        assert ran.said["worst"] < 0.5, case
        assert ran.said["over"] - ran.said["end"] < 5.3, case
        assert "Traceback" not in ran.err, case


@pytest.mark.keeps_time
def test_handle_says_in_time_that_nothing_was_sent(tmp_path: Path) -> None:
    source = """
        handle = configure(endpoint=os.environ["WHERE"], protocol=os.environ["PROTOCOL"])
        synthesize()
        record()

        def timed(call):
            began = time.monotonic()
            return [call(), time.monotonic() - began]

        say(flush=timed(lambda: handle.force_flush(1)), shut=timed(lambda: handle.shutdown(1)),
            again=timed(handle.shutdown), flush_again=timed(handle.force_flush))
        """
    for case, ran in every_broken_collector(tmp_path, source).items():
        for answer, seconds in ran.said.values():
            assert answer is False, case
            assert seconds < 1.7, case


@pytest.fixture
def port() -> Iterator[int]:
    """Of a collector that is down."""
    with refusing() as port:
        yield port


def test_collector_that_comes_back_is_believed_again(tmp_path: Path, port: int) -> None:
    ran = run_program(
        """
        import http.server, threading
        handle = configure(endpoint=os.environ["WHERE"])
        synthesize()
        record()
        down = handle.force_flush(10)
        asked_again = handle.force_flush(10)

        class Up(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(200)
                self.end_headers()
            def log_message(self, *arguments): pass

        port = int(os.environ["WHERE"].rpartition(":")[2])
        server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Up)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        synthesize()
        say(down=down, asked_again=asked_again, up=handle.force_flush(10), ever=handle.shutdown())
        """,
        tmp_path,
        WHERE=f"http://127.0.0.1:{port}",
        OTEL_EXPORTER_OTLP_TIMEOUT="1",
    )
    assert ran.said == {"down": False, "asked_again": False, "up": True, "ever": False}


@pytest.mark.parametrize(("temporality", "ever"), [("cumulative", True), ("delta", False)])
def test_lost_metrics_are_made_good_where_they_are_cumulative(
    tmp_path: Path, port: int, temporality: str, ever: bool
) -> None:
    ran = run_program(
        """
        import http.server, threading
        handle = configure(endpoint=os.environ["WHERE"])
        record()
        down = handle.force_flush(10)

        class Up(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(200)
                self.end_headers()
            def log_message(self, *arguments): pass

        port = int(os.environ["WHERE"].rpartition(":")[2])
        server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Up)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        record()
        say(down=down, up=handle.force_flush(10), ever=handle.shutdown())
        """,
        tmp_path,
        WHERE=f"http://127.0.0.1:{port}",
        OTEL_EXPORTER_OTLP_TIMEOUT="1",
        OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=temporality,
    )
    assert ran.said == {"down": False, "up": True, "ever": ever}


def test_forked_child_answers_for_its_own_spans(collector: Collector, tmp_path: Path) -> None:
    ran = run_program(
        """
        handle = configure(endpoint=os.environ["WHERE"])
        synthesize(number=1)
        child = os.fork()
        if child == 0:
            synthesize(number=2)
            os._exit(handle.force_flush(10) is not True)
        say(child=os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), sent=handle.shutdown())
        """,
        tmp_path,
        WHERE=collector.http,
    )
    assert ran.said == {"child": 0, "sent": True}
    collector.wait(lambda it: len(it.spans) >= 2)
    assert sorted(span["attributes"]["number"] for span in collector.spans) == [1, 2]


def test_application_that_shuts_its_providers_down_first(collector: Collector, tmp_path: Path) -> None:
    ran = run_program(
        """
        handle = configure(endpoint=os.environ["WHERE"])
        synthesize()
        record()
        trace.get_tracer_provider().shutdown()
        metrics.get_meter_provider().shutdown()
        say(sent=handle.shutdown())
        """,
        tmp_path,
        WHERE=collector.http,
    )
    assert ran.said == {"sent": True}
    assert ran.err == ""
    collector.wait(lambda it: it.spans and it.metrics)


def test_queue_that_overflows_is_a_loss(tmp_path: Path) -> None:
    with running_collector() as collector:
        ran = run_program(
            """
            handle = configure(endpoint=os.environ["WHERE"])
            sys.setswitchinterval(10)
            for _ in range(200):
                synthesize()
            say(sent=handle.force_flush())
            """,
            tmp_path,
            WHERE=collector.http,
            OTEL_BSP_MAX_QUEUE_SIZE="20",
            OTEL_BSP_MAX_EXPORT_BATCH_SIZE="20",
        )
        assert (len(collector.spans) == 200) is ran.said["sent"]
    assert ran.said["sent"] is False


def test_tally_counts_from_many_threads() -> None:
    tally = Tally()
    threads = [threading.Thread(target=lambda: [tally.accept() for _ in range(5000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tally.deliver(19999)
    tally.close_books(tally.accepted())
    assert tally.accepted() == 20000
    assert tally.accepted() == 20000
    assert not tally.all_arrived()
    assert not tally.arrived_since()
    tally.accept()
    tally.deliver(1)
    assert tally.arrived_since()
    assert not tally.all_arrived()
    tally.reset()
    assert tally.all_arrived()
