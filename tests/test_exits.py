"""Ends of real processes: what has a span then, and how long a collector that is no good keeps them."""

from __future__ import annotations

import itertools
import os
import textwrap
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from collector import Collector, Ran, black_hole, free_port, lines_of, running_collector, standin_collector, trickle
from process_programs import noted, run, sent, told

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="signals and ends as POSIX has them")


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with running_collector() as running:
        yield running


HANGING = """
import signal, threading
from pathlib import Path
from voice import *

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


# --- how long it waits -------------------------------------------------------------------------------------------

WAITING = """
import atexit, concurrent.futures, multiprocessing, multiprocessing.util, threading
from voice import *

def tell(what):
    with open("waits", "a") as waits:
        waits.write(f"{what} {time.monotonic()}\\n")

def start():
    return configure(endpoint=os.environ["WHERE"], protocol=os.environ["PROTOCOL"], file="x.jsonl")

def start_worker():
    # Of equal priority, what is registered last is run first.
    multiprocessing.util.Finalize(None, tell, ("worker",), exitpriority=0)
    start()
    multiprocessing.util.Finalize(None, tell, ("worker",), exitpriority=0)

if __name__ == "__main__":
    if os.environ["HOW"] == "in a worker":
        with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), start_worker) as pool:
            list(pool.map(speak, range(1, 700)))
    else:
        atexit.register(tell, "main")  # exit hooks, too, are run last in, first out
        handle = start()
        for number in range(1, 700):
            speak(number)
        if os.environ["HOW"] == "in a thread":
            threading.Thread(target=handle.shutdown, args=(60,), daemon=True).start()
            time.sleep(0.1)
        atexit.register(tell, "main")
    say(end=time.time())
"""
KINDS = ("down", "refusing", "slow", "swallowing")
# The collector, the protocol, and who waits for it.
BROKEN = [
    *itertools.product(KINDS, ["http/protobuf", "grpc"], ["in the main process"]),
    ("trickling", "http/protobuf", "in the main process"),
    ("swallowing", "http/protobuf", "in a worker"),
    ("slow", "grpc", "in a worker"),
    ("swallowing", "http/protobuf", "in a thread"),
]


def refuse(_: str) -> None:
    raise ConnectionError


@pytest.fixture(scope="module")
def waited(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str, str], tuple[Path, Ran]]:
    """The same program against each kind of collector that is no good, all at once."""
    with ExitStack() as last:
        refusing = last.enter_context(standin_collector(refuse))
        slow = last.enter_context(standin_collector(lambda _: time.sleep(3)))
        hole = f"http://127.0.0.1:{last.enter_context(black_hole())}"
        trickling = f"http://127.0.0.1:{last.enter_context(trickle())}"
        folders = {case: tmp_path_factory.mktemp("wait") for case in BROKEN}

        def wait(case: tuple[str, str, str]) -> tuple[Path, Ran]:
            kind, protocol, how = case
            address = {
                "down": f"http://127.0.0.1:{free_port()}",
                "refusing": refusing.address(protocol),
                "slow": slow.address(protocol),
                "trickling": trickling,
            }.get(kind, hole)
            return folders[case], run(WAITING, folders[case], WHERE=address, PROTOCOL=protocol, HOW=how)

        with ThreadPoolExecutor(len(BROKEN)) as pool:
            return dict(zip(BROKEN, pool.map(wait, BROKEN), strict=True))


@pytest.mark.parametrize("case", BROKEN, ids=" ".join)
def test_exit_waits_five_seconds_at_most(
    waited: dict[tuple[str, str, str], tuple[Path, Ran]], case: tuple[str, str, str]
) -> None:
    folder, ran = waited[case]
    assert "Traceback" not in ran.err
    assert told(lines_of(folder / "x.jsonl")) == noted(folder) == [*range(1, 700)]
    # The seconds above what is promised are a busy machine's; to wait for each signal in turn takes twice the time.
    began, ended = (float(line.split()[1]) for line in (folder / "waits").read_text().splitlines())
    assert ended - began < 5 + 2
    assert ran.ended - ran.said["end"] < 5 + 5
