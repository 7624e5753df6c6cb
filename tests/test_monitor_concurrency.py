"""Concurrency against a count kept for each token."""

from __future__ import annotations

import gc
import os
import random
import signal
import sys
import threading
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ttstrace.monitor.concurrency as module
from ttstrace.monitor import Concurrency


@given(st.lists(st.tuples(st.sampled_from(["enter", "leave", "observe"]), st.integers(0, 99)), max_size=60))
def test_every_token_knows_the_most_that_were_open_with_it(steps: list[tuple[str, int]]) -> None:
    concurrency = Concurrency()
    entered: list[list[int]] = []
    observed: list[list[int]] = []
    for step, which in steps:
        if step == "observe":
            observed.append([concurrency.observe(), len(entered)])
        elif step == "enter":
            entered.append([concurrency.enter(), 0])
        elif entered:
            token, most = entered.pop(which % len(entered))
            assert concurrency.leave(token) == most
        for expected in [*entered, *observed]:
            expected[1] = max(expected[1], len(entered))
        for token, most in observed:
            assert concurrency.seen(token) == most


def test_ten_thousand_at_once_and_then_one() -> None:
    concurrency = Concurrency()
    tokens = [concurrency.enter() for _ in range(10_000)]
    random.Random(0).shuffle(tokens)
    assert {concurrency.leave(token) for token in tokens} == {10_000}
    for _ in range(20_000):
        assert concurrency.leave(concurrency.enter()) == 1
    assert len(concurrency._counts._values) <= 10_000


def test_what_comes_in_the_middle_of_a_change_is_counted() -> None:
    """Once at each line of each method, as a signal handler would; one of two that come in stays."""
    moments = 0
    for moment in range(200):
        concurrency = Concurrency()
        around = concurrency.enter()
        came: list[int] = []
        lines = 0

        def interrupt(frame: object, event: str, argument: object) -> object:
            nonlocal lines
            if lines == moment:  # noqa: B023
                sys.settrace(None)
                stays = concurrency.enter()  # noqa: B023
                came.extend((stays, concurrency.leave(concurrency.enter())))  # noqa: B023
                return None
            lines += 1
            return interrupt

        sys.settrace(interrupt)
        token = concurrency.enter()
        observer = concurrency.observe()
        most = concurrency.leave(token)
        sys.settrace(None)
        if not came:
            break
        moments += 1
        stays, nested = came
        assert 3 <= nested <= 4
        assert 2 <= most <= 4
        assert concurrency.seen(observer) >= 2
        assert concurrency.leave(stays) >= 2
        assert concurrency.leave(around) in (3, 4)
        assert concurrency.leave(concurrency.enter()) == 1
        assert concurrency._open == []
    assert moments > 20


@pytest.mark.skipif(sys.platform == "win32", reason="needs an interval timer")
def test_real_signals_and_threads_come_in_anywhere() -> None:
    concurrency = Concurrency()
    handled = []
    running: list[None] = []
    depths = [0]

    def handler(number: int, frame: object) -> None:
        running.append(None)
        depths.append(len(running))
        handled.append(concurrency.leave(concurrency.enter()))
        running.pop()

    def work() -> None:
        for _ in range(30_000):
            concurrency.leave(concurrency.enter())

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
    try:
        thread = threading.Thread(target=work)
        thread.start()
        work()
        thread.join(60)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(handled) > 10
    # The two threads and every handler, as a handler may be interrupted by the next.
    assert 1 <= min(handled) <= max(handled) <= 2 + max(depths)
    assert concurrency.leave(concurrency.enter()) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_in_a_forked_child_the_count_begins_again() -> None:
    concurrency = Concurrency()
    inherited = [concurrency.enter() for _ in range(3)]
    observer = concurrency.observe()
    child = os.fork()
    if child == 0:
        found = []
        try:
            own = concurrency.enter()
            found = [
                concurrency.leave(inherited[0]),
                concurrency.seen(observer),
                concurrency.leave(own),
                concurrency.leave(concurrency.enter()),
            ]
        finally:
            os._exit(0 if found == [0, 0, 1, 1] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert [concurrency.leave(token) for token in inherited] == [3, 3, 3]


def test_a_counter_nobody_has_is_let_go() -> None:
    counter = Concurrency()
    gone = weakref.ref(counter)
    assert counter in module._all
    del counter
    gc.collect()
    assert gone() is None
