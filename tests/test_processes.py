"""Forks and pools of real processes: no span twice, and none lost but what ``docs/processes.md`` says."""

from __future__ import annotations

import os
import textwrap
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from collector import Collector, lines_of, running_collector, standin_collector
from process_programs import noted, run, sent, told

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with running_collector() as running:
        yield running


# --- forks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_forks_send_at_the_same_time_as_their_parent(collector: Collector, tmp_path: Path, protocol: str) -> None:
    ran = run(
        """
        from voice import *
        handle = ttstrace.configure(endpoint=os.environ["WHERE"], file="x.jsonl")
        speak(1)
        sent = [handle.force_flush(20)]  # from now on there are open connections for forks to inherit
        children = []
        for child in range(1, 5):
            if (pid := os.fork()) == 0:
                sent = []
                for number in range(20):
                    speak(1000 * child + number)
                    if number % 4 == 3:
                        sent.append(handle.force_flush(20))
                os._exit(not all(sent))
            children.append(pid)
        for number in range(2, 22):
            speak(number)
            if number % 4 == 3:
                sent.append(handle.force_flush(20))
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
        say(sent=sent, codes=codes, shut=handle.shutdown())
        """,
        tmp_path,
        WHERE=collector.address(protocol),
        PYTHONWARNINGS="ignore",  # that forks of a process with threads may hang; the SDK has threads
    )
    assert ran.err == ""
    assert ran.said == {"sent": [True] * 6, "codes": [0] * 4, "shut": True}
    assert len(noted(tmp_path)) == 101
    assert told(lines_of(tmp_path / "x.jsonl")) == noted(tmp_path)
    assert told(sent(collector, tmp_path, 101)) == noted(tmp_path)


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a_fork_in_the_midst_of_an_export(tmp_path: Path, protocol: str) -> None:
    """The parent's threads wait for answers, and hold locks meanwhile that the child must not wait for."""
    waiting: list[str] = []
    release = threading.Event()

    def before_answer(signal: str) -> None:
        if waiting.count(signal) == 0:
            waiting.append(signal)
            (tmp_path / f"{signal} waits").touch()
            release.wait(60)

    with standin_collector(before_answer) as collector, ExitStack() as last:
        last.callback(release.set)
        ran = run(
            """
            import threading
            from pathlib import Path
            from voice import *
            handle = ttstrace.configure(endpoint=os.environ["WHERE"], file="x.jsonl")
            speak(1)
            threading.Thread(target=handle.force_flush, args=(60,)).start()
            while not all(Path(f"{signal} waits").exists() for signal in ("traces", "metrics")):
                time.sleep(0.01)
            if os.fork() == 0:
                speak(2)
                os._exit(not handle.shutdown(20))
            say(code=os.waitstatus_to_exitcode(os.wait()[1]))
            os.kill(os.getpid(), 9)
            """,
            tmp_path,
            check=False,
            WHERE=collector.address(protocol),
        )
        if protocol == "grpc":
            # gRPC says itself that it cannot be relied upon in this child; the child knows, and does not hang.
            assert ran.said["code"] in (0, 1)
        else:
            assert ran.said == {"code": 0}, ran.err
        if ran.said["code"] == 0:
            assert told(collector.spans) == [2]
            assert "tts.client.rtf" in collector.metrics
        assert told(lines_of(tmp_path / "x.jsonl")) == [1, 2]


def test_a_fork_while_another_thread_holds_every_lock_of_the_sdk_s_metrics(tmp_path: Path) -> None:
    """A thread that records or collects holds some for microseconds: once in some hundred forks of a busy server."""
    ran = run(
        """
        import gc, threading
        from voice import *
        handle = configure(file="x.jsonl")
        by_hand = ttstrace.synthesis(text="...", sample_rate=8000, format="pcm_s16le").start()
        by_hand.chunk(bytes(2))
        speak(1)
        handle.force_flush()
        locks = [by_hand._feeding_lock]
        # What the SDK makes anew by itself is the locks of the provider and of its meters.
        for each in gc.get_objects():
            if str(type(each).__module__).startswith("opentelemetry.sdk.metrics"):
                values = [*gc.get_referents(each), *getattr(each, "__dict__", {}).values()]
                locks += {id(value): value for value in values if hasattr(value, "acquire")}.values()
        ready, done = threading.Event(), threading.Event()

        def hold():
            held = [lock for lock in locks if lock.acquire(blocking=False)]
            say(held=len(held))
            ready.set()
            done.wait()
            for lock in held:
                lock.release()

        thread = threading.Thread(target=hold)
        thread.start()
        assert ready.wait(60)
        if (child := os.fork()) == 0:
            by_hand.chunk(bytes(2))
            speak(2)
            os._exit(not handle.shutdown())
        end = time.monotonic() + 20
        while not (ended := os.waitpid(child, os.WNOHANG))[0] and time.monotonic() < end:
            time.sleep(0.01)
        if not ended[0]:
            os.kill(child, 9)
            ended = os.waitpid(child, 0)
        done.set()
        thread.join()
        by_hand.chunk(bytes(4))
        by_hand.end()
        note("done", 3)
        say(code=os.waitstatus_to_exitcode(ended[1]))
        """,
        tmp_path,
    )
    assert ran.said["held"] > 10
    assert ran.said["code"] == 0
    assert told(lines_of(tmp_path / "x.jsonl")) == noted(tmp_path) == [1, 2, 3]


def test_forks_with_syntheses_open(collector: Collector, tmp_path: Path) -> None:
    ran = run(
        """
        from voice import *
        handle = ttstrace.configure(endpoint=os.environ["WHERE"], file="x.jsonl")
        opened = stream("." * 2)
        next(opened)
        by_hand = ttstrace.synthesis(text="." * 3, sample_rate=8000, format="pcm_s16le").start()
        by_hand.chunk(bytes(2))
        pids = []
        # Each child ends in a way of its own, inside of what its parent has open.
        with ttstrace.synthesis(text="." * 4, sample_rate=8000, format="pcm_s16le") as block:
            with ttstrace.stage("vocoder"):
                for child in range(1, 5):
                    pids.append(os.fork())
                    if pids[-1] == 0:
                        assert len(list(opened)) == 1  # the program's own goes on as it would
                        by_hand.chunk(bytes(4))
                        by_hand.end()
                        block.chunk(bytes(8))
                        assert ttstrace.synthesis.current() is not block
                        speak(100 + child)
                        if child == 1:
                            handle.force_flush(20)
                            os._exit(0)
                        elif child == 2:
                            sys.exit()
                        elif child == 3:
                            raise LookupError("child 3")
                        else:
                            break
                if not pids[-1]:
                    speak(200)
            block.chunk(bytes(8))
        if pids[-1]:
            codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
            assert len(list(opened)) == 1
            by_hand.chunk(bytes(4))
            by_hand.end()
            for number in (2, 3, 4):
                note("done", number)
            say(codes=codes, sent=handle.shutdown())
        """,
        tmp_path,
        WHERE=collector.http,
    )
    assert ran.said == {"codes": [0, 0, 1, 0], "sent": True}
    assert ran.err.count("Traceback") == 1
    assert "LookupError: child 3" in ran.err
    assert noted(tmp_path) == [2, 3, 4, 101, 102, 103, 104, 200]
    spans = [span for span in lines_of(tmp_path / "x.jsonl") if span["name"] != "vocoder"]
    assert told(spans) == noted(tmp_path)
    assert not [span for span in spans if "tts.interrupted" in span["attributes"] or "error.type" in span["attributes"]]
    arrived = sent(collector, tmp_path, len(spans) + 1)
    assert told([span for span in arrived if span["name"] != "vocoder"]) == noted(tmp_path)


def test_workers_forked_inside_a_synthesis_have_spans_of_their_own(tmp_path: Path) -> None:
    """A pool starts its workers where it is first used: what is open there is the parent's, for good."""
    (tmp_path / "plain.py").write_text(
        textwrap.dedent(
            """
            from voice import note

            def synthesize(text):
                return bytes(2 * len(text))

            def within(text, work):
                work()
                return synthesize(text)

            def spoken(number):
                synthesize("." * number)
                note("done", number)
            """
        )
    )
    run(
        """
        import concurrent.futures, multiprocessing
        import plain, ttstrace

        ttstrace.configure(file="x.jsonl")
        ttstrace.instrument("plain:synthesize", "plain:within", sample_rate=8000, format="pcm_s16le")
        pool = concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context("fork"))
        plain.within(".", lambda: list(pool.map(plain.spoken, range(2, 10))))
        plain.note("done", 1)
        list(pool.map(plain.spoken, range(10, 20)))
        pool.shutdown()
        """,
        tmp_path,
    )
    spans = lines_of(tmp_path / "x.jsonl")
    assert told(spans) == noted(tmp_path) == list(range(1, 20))
    assert {span["attributes"]["tts.concurrency.max"] for span in spans} == {1}


# --- pools -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "protocol"),
    [("fork", "http/protobuf"), ("fork", "grpc"), ("forkserver", "grpc"), ("spawn", "http/protobuf")],
)
def test_pools(collector: Collector, tmp_path: Path, how: str, protocol: str) -> None:
    """Pools of each kind beside their parent's own calls: joined, worn out, and terminated with spans unsent."""
    run(
        """
        import concurrent.futures, multiprocessing
        from voice import *

        def start():
            # A forked worker inherits the set-up; any other makes its own.
            if os.environ["HOW"] != "fork":
                configure(endpoint=os.environ["WHERE"], file="x.jsonl")

        if __name__ == "__main__":
            handle = configure(endpoint=os.environ["WHERE"], file="x.jsonl")
            speak(1)
            assert handle.force_flush(20)
            context = multiprocessing.get_context(os.environ["HOW"])
            with concurrent.futures.ProcessPoolExecutor(2, context, start) as pool:
                list(pool.map(speak, range(100, 120)))
            pool = context.Pool(1, start, maxtasksperchild=3)
            pool.map(speak, range(200, 206), chunksize=1)
            pool.close()
            pool.join()
            # Leaving the block terminates the workers at once.
            with context.Pool(1, start) as pool:
                pool.map(speak, range(300, 310), chunksize=1)
            speak(2)
        """,
        tmp_path,
        HOW=how,
        WHERE=collector.address(protocol),
    )
    terminated = set(range(300, 310))
    expected = [1, 2, *range(100, 120), *range(200, 206), *sorted(terminated)]
    assert noted(tmp_path) == expected
    assert told(lines_of(tmp_path / "x.jsonl")) == expected
    arrived = told(sent(collector, tmp_path, len(expected) - len(terminated)))
    assert set(expected) - terminated <= set(arrived) <= set(expected)
