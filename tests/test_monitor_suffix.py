"""The suffix maximum against the whole sequence, kept."""

from __future__ import annotations

import sys

from hypothesis import given
from hypothesis import strategies as st

from ttstrace.monitor import SuffixMaximum


@given(st.lists(st.integers(0, 20)))
def test_every_suffix_has_its_own_maximum(values: list[int]) -> None:
    maxima = SuffixMaximum()
    positions = []
    for value in values:
        positions.append(maxima.position())
        assert maxima.push(value) == positions[-1]
        for position in positions:
            assert maxima.since(position) == max(values[position : len(positions)])
    assert maxima.since(maxima.position()) == 0


@given(st.lists(st.integers(0, 20)), st.lists(st.integers(0, 20), min_size=1))
def test_cleared_it_begins_again(before: list[int], after: list[int]) -> None:
    maxima = SuffixMaximum()
    for value in before:
        maxima.push(value)
    maxima.clear()
    assert maxima.position() == 0
    assert maxima.since(0) == 0
    for value in after:
        maxima.push(value)
    assert maxima.since(0) == max(after)


def test_no_more_is_kept_than_can_be_asked_for() -> None:
    maxima = SuffixMaximum()
    for index in range(100_000):
        maxima.push(index % 7)
    assert len(maxima._values) == len(maxima._positions) <= 7


def test_a_question_in_the_middle_of_a_push_is_answered() -> None:
    """As a signal handler would ask it: between any two lines of push."""
    maxima = SuffixMaximum()
    for value in (9, 5, 3, 3, 1):
        maxima.push(value)
    answers = []

    def ask(frame: object, event: str, argument: object) -> object:
        answers.append((maxima.since(0), maxima.since(1)))
        return ask

    sys.settrace(ask)
    try:
        maxima.push(4)
    finally:
        sys.settrace(None)
    assert len(answers) > 8
    assert set(answers) == {(9, 5)}
    assert [maxima.since(position) for position in range(7)] == [9, 5, 4, 4, 4, 4, 0]
