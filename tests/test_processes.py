"""Forks, pools and ends of real processes: no span twice, and none lost but what ``docs/processes.md`` says."""

from __future__ import annotations

import os
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from collector import Collector, Plain, Ran, lines_of, run_program, running_collector, standin_collector
from process_programs import noted, told, write_voice

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with running_collector() as running:
        yield running


def run(source: str, folder: Path, check: bool = True, **variables: str) -> Ran:
    """Run a program beside a voice that keeps a ledger, as a service that is named as its folder."""
    write_voice(folder)
    return run_program(source, folder, check=check, OTEL_SERVICE_NAME=folder.name, **variables)


def sent(collector: Collector, folder: Path, at_least: int) -> list[Plain]:
    """The spans that the programs of a folder have sent to the collector, once so many are there."""

    def found() -> list[Plain]:
        return [span for span in list(collector.spans) if span["resource"]["service.name"] == folder.name]

    collector.wait(lambda _: len(found()) >= at_least, 20)
    return found()


def where(collector: Collector, protocol: str) -> str:
    return collector.grpc if protocol == "grpc" else collector.http


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
        WHERE=where(collector, protocol),
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
            WHERE=where(collector, protocol),
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
        WHERE=where(collector, protocol),
    )
    terminated = set(range(300, 310))
    expected = [1, 2, *range(100, 120), *range(200, 206), *sorted(terminated)]
    assert noted(tmp_path) == expected
    assert told(lines_of(tmp_path / "x.jsonl")) == expected
    arrived = told(sent(collector, tmp_path, len(expected) - len(terminated)))
    assert set(expected) - terminated <= set(arrived) <= set(expected)


# --- ends --------------------------------------------------------------------------------------------------------

HANGING = """
import signal, threading
from pathlib import Path
from voice import *

@ttstrace.traced_synthesis(model="voice", sample_rate=8000, format="pcm_s16le")
def hang(text):
    note("hangs", len(text))
    while True:
        time.sleep(0.01)

def wait_until_it_hangs():
    while "hangs" not in Path("ledger").read_text():
        time.sleep(0.01)

def interrupt(number):
    # Once the main thread hangs in a synthesis, send this process a signal.
    threading.Thread(target=lambda: (wait_until_it_hangs(), os.kill(os.getpid(), number)), daemon=True).start()

configure(endpoint=os.environ["WHERE"], file="x.jsonl")
record()
for number in (1, 2, 3):
    speak(number)
"""


@dataclass(frozen=True)
class End:
    """How a program ends, and what is known of it then."""

    last: str
    """What it does last; where that leaves a synthesis open, it is one of nine characters."""
    code: int = 0
    interrupted: bool = False
    """That synthesis has a span, and it says that it was interrupted."""
    error: str | None = None
    """That synthesis has a span, and it says this error."""
    orderly: bool = True
    """Python gets to say goodbye: a collector has everything."""
    tracebacks: int = 0


ENDS = {
    "the last line": End(""),
    "sys.exit": End("sys.exit(3)", 3),
    "sys.exit in a synthesis": End("with ttstrace.synthesis('.' * 9): sys.exit(4)", 4, error="SystemExit"),
    "an exception": End("raise LookupError", 1, tracebacks=1),
    "an exception in a synthesis": End(
        "with ttstrace.synthesis('.' * 9): raise LookupError", 1, error="LookupError", tracebacks=1
    ),
    "an exception in an exit hook": End("import atexit; atexit.register(lambda: 1 / 0)", tracebacks=1),
    "a synthesis in an exit hook": End("import atexit; atexit.register(synthesize, '.' * 9)", error=""),
    "a stream held": End("held = stream('.' * 9); next(held)", interrupted=True),
    "a stream dropped": End("next(stream('.' * 9))", interrupted=True),
    "a synthesis by hand": End("held = ttstrace.synthesis('.' * 9).start()", interrupted=True),
    "a synthesis in a daemon thread": End(
        "threading.Thread(target=hang, args=('.' * 9,), daemon=True).start(); wait_until_it_hangs()",
        interrupted=True,
    ),
    "a task cancelled": End(
        """
        import asyncio

        async def main():
            async def body():
                async with ttstrace.synthesis("." * 9):
                    await asyncio.sleep(60)
            task = asyncio.create_task(body())
            await asyncio.sleep(0)

        asyncio.run(main())
        """,
        interrupted=True,
    ),
    "os._exit": End("os._exit(5)", 5, orderly=False),
    "os._exit in a synthesis": End("with ttstrace.synthesis('.' * 9): os._exit(6)", 6, orderly=False),
    "SIGTERM": End("os.kill(os.getpid(), 15); time.sleep(60)", -15, orderly=False),
    "SIGTERM in a synthesis": End("interrupt(15); hang('.' * 9)", -15, orderly=False),
    "SIGTERM taken": End(
        "signal.signal(15, lambda *_: sys.exit(7)); interrupt(15); hang('.' * 9)", 7, error="SystemExit"
    ),
    "SIGINT": End("os.kill(os.getpid(), 2); time.sleep(60)", -2, tracebacks=1),
    "SIGINT in a synthesis": End("interrupt(2); hang('.' * 9)", -2, error="KeyboardInterrupt", tracebacks=1),
    "SIGKILL in a synthesis": End("interrupt(9); hang('.' * 9)", -9, orderly=False),
}


@pytest.fixture(scope="module")
def ended(collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Ran]]:
    """Each program's folder, and how it ended; several run at once."""
    folders = {name: tmp_path_factory.mktemp("end") for name in ENDS}

    def end(name: str) -> Ran:
        source = HANGING + textwrap.dedent(ENDS[name].last)
        return run(source, folders[name], check=False, WHERE=collector.http)

    with ThreadPoolExecutor(4) as pool:
        return {name: (folders[name], ran) for name, ran in zip(ENDS, pool.map(end, ENDS), strict=True)}


@pytest.mark.parametrize("name", ENDS)
def test_ends(collector: Collector, ended: dict[str, tuple[Path, Ran]], name: str) -> None:
    end, (folder, ran) = ENDS[name], ended[name]
    assert ran.code == end.code, ran.err
    assert ran.err.count("Traceback") == end.tracebacks, ran.err
    if not end.tracebacks:
        assert ran.err == ""
    told_of_open = [9] if end.interrupted or end.error is not None else []
    spans = lines_of(folder / "x.jsonl")
    assert told(spans) == [*noted(folder), *told_of_open] == [1, 2, 3, *told_of_open]
    for span in spans:
        if span["attributes"]["tts.input.characters"] == 9:
            assert span["attributes"].get("error.type", "") == (end.error or "")
            assert ("tts.interrupted" in span["attributes"]) is end.interrupted
    if end.orderly:
        arrived = sent(collector, folder, len(spans))
        assert sorted(span["span"] for span in arrived) == sorted(span["span"] for span in spans)
        assert (folder / "x.metrics.jsonl").read_text().count("tts.client.rtf") >= 1
    else:
        assert set(told(sent(collector, folder, 0))) <= {1, 2, 3}


def test_hooks_that_run_after_ours_are_heard_by_nobody(tmp_path: Path) -> None:
    """Exit hooks run last in, first out: those of before ``configure()`` find everything shut down."""
    ran = run(
        "import atexit; from voice import *; atexit.register(speak, 9); configure(file='x.jsonl'); speak(1)", tmp_path
    )
    assert ran.err == ""
    assert noted(tmp_path) == [1, 9]
    assert told(lines_of(tmp_path / "x.jsonl")) == [1]
