"""The parts of the soak: each makes so many calls in a way of its own, and knows what they are to give."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import itertools
import json
import os
import random
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from soak_ledger import Attributes, Ledger, Truth, doubts
from soak_measure import PATIENCE, Figures, Soak
from soak_shapes import CHUNK, RATE, SHAPES, TEXT, Forever, Host

from ttstrace import endings, stage, synthesis, traced_synthesis
from ttstrace.telemetry.trace_file import MetricFileExporter, SpanFileExporter


def calls(soak: Soak, count: int) -> None:
    """Calls of every shape in random order; now and then, the process forks with streams open."""
    names = tuple(SHAPES)
    between = max(250, count // 100)
    with soak.host() as host:
        for done in range(count):
            host.call(soak.random.choice(names), soak.number())
            if done % between == between // 2:
                fork(soak, host)
            if done % 1000 == 0:
                soak.step(done, count)


@traced_synthesis(model="kept", sample_rate=RATE, producer="pull")
def _kept(text: str) -> Iterator[np.ndarray]:
    for _ in range(3):
        yield CHUNK


def fork(soak: Soak, host: Host) -> None:
    """A child that inherits open streams: it gets all of their audio, and its calls are whole; so are the parent's."""
    ledger = soak.ledger
    ledger.checks["kept"] = lambda attributes: doubts(attributes, Truth(0.15, 3, len(TEXT), open=3), 1)
    kept = [_kept(TEXT) for _ in range(3)]
    for stream in kept:
        next(stream)
    pid = os.fork()
    if not pid:
        status = 2
        try:
            status = 0 if _child(soak, kept) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    deadline = time.monotonic() + PATIENCE
    while not (done := os.waitpid(pid, os.WNOHANG))[0]:
        if time.monotonic() > deadline:
            os.kill(pid, 9)
            done = os.waitpid(pid, 0)
            break
        time.sleep(0.001)
    if done[1]:
        ledger.complain(f"a forked child ended with {os.waitstatus_to_exitcode(done[1])} (-9: it hung)")
    soak.forks += 1
    for stream in kept:
        host.calls += 1
        host.made["kept"] += 1
        if len(list(stream)) != 2:
            ledger.complain("a stream lost chunks by a fork")


def _child(soak: Soak, kept: list[Iterator[np.ndarray]]) -> bool:
    ledger = soak.ledger
    before, wrong, twice, opened = ledger.ended.copy(), ledger.wrong, ledger.twice, ledger.open
    with soak.host() as host:  # another loop: the parent's is one with the parent's
        if [len(list(stream)) for stream in kept] != [2] * 3:
            return False
        for shape in SHAPES:
            host.call(shape, soak.number())
        endings.drain()
        gc.collect()
        endings.drain()
    good = ledger.ended - before == +host.made and ledger.open == opened
    if not good or ledger.wrong > wrong or ledger.twice > twice:
        print(f"in a forked child: {ledger.complaints[-3:]}, ended {ledger.ended - before}", file=sys.stderr)
        return False
    return True


def shape_by_itself(shape: str) -> Callable[[Soak, int], None]:
    """Calls of one shape: says which one leaks."""

    def run(soak: Soak, count: int) -> None:
        with soak.host() as host:
            for done in range(count):
                host.call(shape, soak.number())
                if done % 1000 == 0:
                    soak.step(done, count)

    return run


def files(soak: Soak, count: int) -> None:
    """Calls of every shape into a trace file, which is read back and cut to nothing now and then; at the end it is
    removed, and calls go on."""
    names = tuple(SHAPES)
    path = os.path.join(soak.folder, "soak.jsonl")
    ledger, wrote = soak.ledger, 0
    soak.sink.file = SpanFileExporter(path)
    recorded = MetricFileExporter(os.path.join(soak.folder, "soak.metrics.jsonl"))
    try:
        with soak.host() as host:
            ended = ledger.ended.total()
            for done in range(1, count + 1):
                host.call(soak.random.choice(names), soak.number())
                if done % 2000 == 0 or done == count:
                    endings.drain()
                    wrote = ledger.ended.total() - ended
                    _read_back(soak, path, wrote)
                    ended += wrote
                    data = soak.reader.get_metrics_data()
                    if data is not None:
                        recorded.export(data)
                    os.truncate(recorded.path, 0)
                    soak.step(done, count)
            os.unlink(path)
            for shape in SHAPES:
                host.call(shape, soak.number())
            endings.drain()
    finally:
        soak.sink.file = None
        os.unlink(recorded.path)


def _read_back(soak: Soak, path: str, spans: int) -> None:
    identities = [
        span["spanId"]
        for line in Path(path).read_text().splitlines()
        for each in json.loads(line)["resourceSpans"]
        for scope in each["scopeSpans"]
        for span in scope["spans"]
    ]
    if len(identities) != spans or len(set(identities)) != spans:
        soak.ledger.complain(f"the file has {len(identities)} spans, {len(set(identities))} different, not {spans}")
    os.truncate(path, 0)


@traced_synthesis(
    model="known", sample_rate=RATE, producer="pull", attributes=lambda call: {"number": call.arguments["number"]}
)
def _known(text: str, number: int, chunks: int) -> Iterator[np.ndarray]:
    for _ in range(chunks):
        yield CHUNK


def _against(expected: dict[int, Truth], ledger: Ledger) -> Callable[[Attributes], str | None]:
    """Checks each synthesis by its number; its truth is then taken off."""

    def check(attributes: Attributes) -> str | None:
        number = int(attributes["number"])
        truth = expected.pop(number, None)
        return f"number {number} ended again" if truth is None else doubts(attributes, truth, ledger.most_open)

    return check


class _Stream:
    """One of many that are open."""

    def __init__(self, number: int, chunks: int, opening: int) -> None:
        self.number = number
        self.opening = opening
        """At which of all openings it was opened."""
        self.chunks = chunks
        self.pulled = 0
        self._stream: Any = _known(TEXT, number, chunks)

    def pull(self) -> None:
        if self.pulled < self.chunks:
            next(self._stream)
            self.pulled += 1

    def end(self, how: str) -> bool:
        """Whether it gave what it was to give."""
        stream, self._stream = self._stream, None
        if how == "drained":
            return len(list(stream)) == self.chunks - self.pulled
        if how == "closed":
            stream.close()
        return True


def open_at_once(soak: Soak, count: int) -> None:
    """10,000 streams open at once, again and again, opened, pulled and ended in random order: chunks, seconds and
    `concurrency.max` of each are what that order says."""
    many = min(count, 10_000)
    for _ in range(count // many):
        _crowd(soak, many)


def _crowd(soak: Soak, count: int) -> None:
    chance, ledger = soak.random, soak.ledger
    expected: dict[int, Truth] = {}
    ledger.checks["known"] = _against(expected, ledger)
    opened: list[_Stream] = []
    together = np.zeros(count * 8, np.int64)  # how many were open after each opening
    openings = ended = 0

    def end_one() -> None:
        nonlocal ended
        index = chance.randrange(len(opened))
        opened[index], opened[-1] = opened[-1], opened[index]
        one, how = opened.pop(), chance.choice(("drained", "drained", "closed", "dropped"))
        most = int(together[one.opening : openings].max())
        pulled = one.chunks if how == "drained" else one.pulled
        truth = Truth(0.05 * pulled, pulled, len(TEXT), interrupted=how != "drained", collected=how == "dropped")
        expected[one.number] = truth._replace(open=most)
        if not one.end(how):
            ledger.complain("a stream lost chunks")
        endings.drain()  # what was dropped counts as open until then
        ended += 1

    with soak.host() as host:
        while len(opened) < count:
            if not opened or chance.random() < 0.8:
                opened.append(_Stream(soak.number(), chance.randint(1, 6), openings))
                opened[-1].pull()
                together[openings] = len(opened)
                openings += 1
                host.calls += 1
                host.made["known"] += 1
            else:
                end_one()
            if openings % 1000 == 0:
                soak.step(len(opened), 2 * count)
        for index in chance.sample(range(count), count // 2):
            opened[index].pull()
        while opened:
            end_one()
            if ended % 1000 == 0:
                soak.step(2 * count - len(opened), 2 * count)
    if expected:
        ledger.complain(f"{len(expected)} streams have no span")


def threads(soak: Soak, count: int) -> None:
    """Calls of every shape on 64 threads at once."""
    many = 64
    names = tuple(SHAPES)
    ready = threading.Barrier(many)
    errors: list[BaseException] = []
    made = itertools.count(1)

    def work(host: Host, chance: random.Random) -> None:
        try:
            with host:
                ready.wait(PATIENCE)
                for _ in range(max(1, count // many)):
                    host.call(chance.choice(names), soak.number())
                    done = next(made)
                    if done % 1000 == 0:
                        soak.step(done, count)
        except BaseException as error:
            errors.append(error)

    soak.ledger.most_open = 2 * many  # streams that overlap are two in one thread
    try:
        workers = [
            threading.Thread(target=work, args=(soak.host(), random.Random(soak.random.random()))) for _ in range(many)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        endings.drain()
    finally:
        soak.ledger.most_open = 1
    if errors:
        raise errors[0]


class _Gate:
    """Opens when so many have come."""

    def __init__(self, many: int) -> None:
        self._missing = many
        self._open = asyncio.Event()

    async def wait(self) -> None:
        self._missing -= 1
        if not self._missing:
            self._open.set()
        await self._open.wait()


@traced_synthesis(model="tasks", sample_rate=RATE, attributes=lambda call: {"number": call.arguments["number"]})
async def _stream_of_task(text: str, gate: _Gate, number: int, chunks: int) -> AsyncIterator[np.ndarray]:
    yield CHUNK
    await gate.wait()
    for _ in range(chunks - 1):
        await asyncio.sleep(0)
        yield CHUNK


@traced_synthesis(model="tasks", sample_rate=RATE, attributes=lambda call: {"number": call.arguments["number"]})
async def _call_of_task(text: str, gate: _Gate, number: int, fails: bool) -> np.ndarray:
    await gate.wait()
    if fails:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)
    return CHUNK


async def _task(gate: _Gate, number: int, chunks: int) -> Truth:
    """One synthesis, open together with those of all the other tasks; its truth."""
    kind = number % 5
    characters = len(TEXT)
    if kind == 0:
        assert len([chunk async for chunk in _stream_of_task(TEXT, gate, number, chunks)]) == chunks
        return Truth(0.05 * chunks, chunks, characters)
    if kind == 1:
        await _call_of_task(TEXT, gate, number, False)
        return Truth(0.05, None, characters)
    if kind == 2:
        with suppress(asyncio.CancelledError):
            await _call_of_task(TEXT, gate, number, True)
        return Truth(None, None, characters, interrupted=True)
    if kind == 3:
        stream = _stream_of_task(TEXT, gate, number, 3)
        await stream.__anext__()
        await stream.__anext__()
        await stream.aclose()  # type: ignore[attr-defined]
        return Truth(0.1, 2, characters, interrupted=True)
    async with synthesis(model="tasks", text=TEXT, sample_rate=RATE, attributes={"number": number}) as s:
        async with stage("vocoder"):
            await gate.wait()
        for _ in range(chunks):
            s.chunk(CHUNK)
    return Truth(0.05 * chunks, chunks, characters)


def tasks(soak: Soak, count: int) -> None:
    """A thousand tasks of asyncio, again and again, each with a synthesis that is open together with all others."""
    many = min(1000, count)
    found: dict[int, Attributes] = {}
    ledger = soak.ledger

    def check(attributes: Attributes) -> str | None:
        number = int(attributes["number"])
        again = number in found
        found[number] = attributes
        return f"task {number} has two spans" if again else None

    ledger.checks["tasks"] = check

    async def rounds() -> None:
        for done in range(0, count, many):
            gate = _Gate(many)
            numbers = [soak.number() for _ in range(many)]
            truths = await asyncio.gather(*(_task(gate, number, 1 + number % 7) for number in numbers))
            host.calls += many
            host.made["tasks"] += many
            host.made["vocoder"] += sum(number % 5 == 4 for number in numbers)
            endings.drain()
            for number, truth in zip(numbers, truths, strict=True):
                why = doubts(found.pop(number, {}), truth._replace(open=many), 1)
                if why is not None:
                    ledger.complain(f"task {number}: {why}")
            soak.step(done, count)

    with soak.host() as host:
        host.run(rounds())


# --- the garbage collector ---


class _Holder:
    """What a program keeps its stream in."""

    kept: Any = None


def _number_of(call: Any) -> dict[str, int]:
    return {"number": call.arguments["number"]}


@traced_synthesis(model="cycle", sample_rate=RATE, attributes=_number_of)
def _generator(text: str, number: int, holder: _Holder) -> Iterator[np.ndarray]:
    while True:
        yield CHUNK


@traced_synthesis(model="cycle", sample_rate=RATE, attributes=_number_of)
def _staged_generator(text: str, number: int, holder: _Holder) -> Iterator[np.ndarray]:
    with stage("vocoder"):
        while True:
            yield CHUNK


@traced_synthesis(model="cycle", sample_rate=RATE, attributes=_number_of)
async def _agenerator(text: str, number: int, holder: _Holder) -> AsyncIterator[np.ndarray]:
    while True:
        yield CHUNK


@traced_synthesis(model="cycle", sample_rate=RATE, attributes=_number_of)
async def _coroutine(text: str, number: int, holder: _Holder) -> np.ndarray:
    await Forever()
    return CHUNK


class _Endless:
    def __iter__(self) -> _Endless:
        return self

    def __next__(self) -> np.ndarray:
        return CHUNK


@traced_synthesis(model="cycle", sample_rate=RATE, attributes=_number_of)
def _body(text: str, number: int) -> Any:
    return _Endless()


def _by_hand(number: int, holder: _Holder) -> Iterator[None]:
    with synthesis(model="cycle", text=TEXT, sample_rate=RATE, attributes={"number": number}) as s:
        while True:
            s.chunk(CHUNK)
            yield


_KINDS = ("generator", "staged generator", "async generator", "coroutine", "body", "by hand in a generator", "by hand")


def _abandon(kind: str, number: int, chunks: int) -> None:
    """One synthesis that gave so many chunks, and that nothing but a reference cycle holds."""
    holder = _Holder()
    context = contextvars.copy_context()  # as a task has: what is made current inside must not stay so here
    if kind == "async generator":
        holder.kept = agenerator = _agenerator(TEXT, number, holder)
        for _ in range(chunks):
            with suppress(StopIteration):
                agenerator.__anext__().send(None)  # type: ignore[attr-defined]
    elif kind == "coroutine":
        holder.kept = _coroutine(TEXT, number, holder)
        context.run(holder.kept.send, None)
    elif kind == "by hand":
        holder.kept = synthesis(model="cycle", text=TEXT, sample_rate=RATE, attributes={"number": number}).start()
        for _ in range(chunks):
            holder.kept.chunk(CHUNK)
        holder.itself = holder  # type: ignore[attr-defined]
    else:
        if kind == "body":
            stream = _body(TEXT, number)
            stream.kept = stream
        elif kind == "by hand in a generator":
            holder.kept = stream = _by_hand(number, holder)
        else:
            begin = _generator if kind == "generator" else _staged_generator
            holder.kept = stream = begin(TEXT, number, holder)
        for _ in range(chunks):
            context.run(next, stream)


def collected(soak: Soak, count: int) -> None:
    """So many syntheses abandoned in reference cycles, while the garbage collector comes by at random and another
    thread makes calls: each gives one span, interrupted, with what it gave until then."""
    chance, ledger = soak.random, soak.ledger
    expected: dict[int, Truth] = {}
    ledger.checks["cycle"] = _against(expected, ledger)
    stop = threading.Event()
    errors: list[BaseException] = []

    def call(host: Host) -> None:
        try:
            with host:
                while not stop.is_set():
                    host.call("array", 0)
                    host.call("generator", 0)
                    time.sleep(0.001)
        except BaseException as error:
            errors.append(error)

    thresholds = gc.get_threshold()
    neighbour = threading.Thread(target=call, args=(soak.host(),))
    ledger.most_open = count + 2
    try:
        neighbour.start()
        with soak.host() as host:
            for done in range(count):
                if done % 20 == 0:
                    gc.set_threshold(round(10 ** chance.uniform(0, 3.5)), chance.randint(1, 20), chance.randint(1, 20))
                number, kind, chunks = soak.number(), chance.choice(_KINDS), chance.randint(1, 3)
                truth = Truth(0.05 * chunks, chunks, len(TEXT), None, True, True, None, None)
                expected[number] = truth._replace(seconds=None, chunks=None) if kind == "coroutine" else truth
                _abandon(kind, number, chunks)
                host.calls += 1
                host.made["cycle"] += 1
                host.made["vocoder"] += kind == "staged generator"
                if done % 1000 == 0:
                    soak.step(done, count)
    finally:
        gc.set_threshold(*thresholds)
        stop.set()
        neighbour.join()
        gc.collect()
        endings.drain()
        ledger.most_open = 1
    if errors:
        raise errors[0]
    if expected:
        ledger.complain(f"{len(expected)} of {count} syntheses in cycles have no span")


# --- all of them ---------------------------------------------------------------------------------------------------


class Part(NamedTuple):
    runs: dict[str, Callable[[Soak, int], None]]
    warm: int
    """Calls before it is measured, for a million calls."""
    full: int
    least: int
    """Calls of either, however few are asked for."""
    what: str
    noise: int = 500
    """Objects that it may hold besides: a rare event (an underrun, on a busy machine) adds a series to the metrics."""


PARTS = {
    "calls": Part({"calls": calls}, 50_000, 1_000_000, 1000, "calls of every shape in random order, with 100 forks"),
    "shapes": Part(
        {name: shape_by_itself(name) for name in SHAPES},
        1000,
        1000,
        150,
        "each shape by itself: says which one leaks",
        100,
    ),
    "file": Part({"file": files}, 20_000, 100_000, 300, "into a trace file that is read back, cut off and removed"),
    "open": Part({"open": open_at_once}, 40_000, 10_000, 50, "streams that are all open at once"),
    "threads": Part({"threads": threads}, 50_000, 100_000, 320, "calls of every shape on 64 threads"),
    "tasks": Part({"tasks": tasks}, 10_000, 20_000, 50, "1,000 tasks of asyncio at once"),
    "collected": Part({"collected": collected}, 10_000, 10_000, 100, "in reference cycles, under a random collector"),
}


def together(part: str, found: list[Figures]) -> Figures:
    """Figures of several parts as one: sums, and of what is held the most."""
    if len(found) == 1:
        return found[0]
    one = Figures(part)
    for name in ("calls", "spans", "lost", "twice", "wrong", "forks", "seconds"):
        setattr(one, name, sum(getattr(each, name) for each in found))
    for name in ("resident", "objects", "descriptors", "threads", "highest"):
        setattr(one, name, max(getattr(each, name) for each in found))
    for each in found:
        one.broken += [f"{each.part}: {broken}" for broken in each.broken]
        one.grew += each.grew
    return one


def run_part(soak: Soak, name: str, count: int, trace: bool = False) -> Figures:
    """One of `PARTS`, as many of its calls as go with `count` calls altogether."""
    part = PARTS[name]
    warm, full = (max(part.least, calls * count // 1_000_000) for calls in (part.warm, part.full))
    return together(
        name, [soak.measure(each, run, warm, full, noise=part.noise, trace=trace) for each, run in part.runs.items()]
    )
