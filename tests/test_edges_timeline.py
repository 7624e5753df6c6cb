"""The figures of schedules worked out by hand: whole seconds from 100."""

from __future__ import annotations

from typing import Any

import pytest

from ttstrace.timeline import Figures, Timeline


class Reader:
    """What a timeline asks of the reader of the audio."""

    def __init__(self, onset: float | None = None, onset_chunk: int | None = None) -> None:
        self.onset = onset
        self.onset_chunk = onset_chunk
        self.readable = True


def schedule(*chunks: tuple[float, float], end: float, hold: float, reader: Any) -> Timeline:
    """Chunks of half a second by arrival and the hold before them."""
    timeline = Timeline(100.0)
    found, reader.onset = reader.onset, None
    for arrived, held in chunks:
        timeline.hold = held
        timeline.chunk(None, arrived, 0.5, reader)
    reader.onset = found
    timeline.end, timeline.hold = end, hold
    return timeline


def test_pull() -> None:
    reader = Reader(0.75, 1)
    timeline = schedule((103, 2), (106, 4), end=108, hold=5, reader=reader)
    assert timeline.settle("pull", reader) == Figures(3.0, 1.0, 2.0, 106)


def test_pull_whose_onset_is_heard_after_it_came() -> None:
    reader = Reader(3.5, 1)
    timeline = schedule((103, 2), (106, 4), end=108, hold=5, reader=reader)
    assert timeline.settle("pull", reader) == Figures(3.0, 1.0, 4.5, 106.5)


def test_pull_without_onset_or_chunks() -> None:
    reader = Reader()
    timeline = schedule((103, 2), end=108, hold=5, reader=reader)
    assert timeline.settle("pull", reader) == Figures(3.0, 1.0, None, 103)
    assert Timeline(100.0).settle("pull", reader) == Figures(0.0, None, None, None)


def test_push_with_hold_is_unknown() -> None:
    reader = Reader(0.75, 1)
    timeline = schedule((103, 2), (106, 4), end=108, hold=5, reader=reader)
    assert timeline.settle("push", reader) == Figures(None, None, None, 106)


def test_push_ends_with_its_last_audio_whatever_is_held_after() -> None:
    reader = Reader(0.75, 1)
    timeline = schedule((103, 0), (106, 0), end=130, hold=20, reader=reader)
    assert timeline.settle("push", reader) == Figures(6.0, 3.0, 6.0, 106)


def test_push_whose_onset_is_heard_after_it_came() -> None:
    reader = Reader(4.0, 1)
    timeline = schedule((103, 0), (106, 0), end=106, hold=0, reader=reader)
    assert timeline.settle("push", reader) == Figures(6.0, 3.0, 7.0, 107.0)


def test_push_whose_onset_came_late_by_the_consumer() -> None:
    reader = Reader(0.75, 1)
    timeline = schedule((103, 0), (106, 1), end=106, hold=1, reader=reader)
    assert timeline.settle("push", reader) == Figures(None, 3.0, None, 106)
    reader = Reader(0.75, 0)
    timeline = schedule((103, 0), (106, 1), end=106, hold=1, reader=reader)
    assert timeline.settle("push", reader) == Figures(None, 3.0, 3.75, 103.75)


@pytest.mark.parametrize(("hold", "known"), [(0.6, True), (0.61, False)])
def test_push_of_a_tenth_of_hold_is_still_known(hold: float, known: bool) -> None:
    reader = Reader()
    timeline = schedule((101, 0), (106, hold), end=106, hold=hold, reader=reader)
    assert timeline.settle("push", reader) == Figures(6.0 if known else None, 1.0, None, 101)


def test_push_without_audio() -> None:
    timeline = Timeline(100.0)
    timeline.end = 104.0
    assert timeline.settle("push", Reader()) == Figures(4.0, None, None, None)
    timeline.hold = 1.0
    assert timeline.settle("push", Reader()) == Figures(None, None, None, None)


def test_text_in_pieces_and_pull() -> None:
    reader = Reader(0.25, 0)
    timeline = Timeline(100.0)
    timeline.piece(100, 101)
    reader.onset = None
    timeline.chunk(102, 103, 0.5, reader)
    timeline.piece(103, 104)
    reader.onset = 0.25
    timeline.end = 106.0
    assert timeline.settle("pull", reader) == Figures(4.0, 2.0, 2.25, 103.25)


@pytest.mark.parametrize(("later", "known"), [(0.4, True), (0.6, False)])
def test_text_in_pieces_and_push(later: float, known: bool) -> None:
    reader = Reader()
    timeline = Timeline(100.0)
    timeline.piece(100, 101)
    timeline.piece(103, 103 + later)
    timeline.chunk(None, 106, 0.5, reader)
    timeline.end = 107.0
    assert timeline.settle("push", reader) == Figures(5.0 if known else None, 5.0, None, 106)


def test_chunks_without_audio_do_not_count() -> None:
    reader, timeline = Reader(), Timeline(100.0)
    timeline.chunk(None, 101, 0.0, reader)
    assert (timeline.chunks, timeline.first, timeline.arrival, timeline.playback) == (0, None, None, None)
    timeline.chunk(None, 102, 0.5, reader)
    assert (timeline.chunks, timeline.first, timeline.arrival, timeline.playback) == (1, 102, 102, None)
    timeline.chunk(None, 103, 0.5, reader)
    assert timeline.playback is not None
    assert timeline.underruns == [(102.5, 0.5)]
    timeline.chunk(None, 103, None, reader)
    assert timeline.playback is None


def test_underruns_beyond_32_are_counted_but_not_listed() -> None:
    reader, timeline = Reader(), Timeline(0.0)
    for number in range(41):
        timeline.chunk(None, float(number), 0.5, reader)
    assert timeline.playback is not None
    assert timeline.playback.underruns == 40
    assert timeline.underruns == [(number + 0.5, 0.5) for number in range(32)]


@pytest.mark.parametrize(
    ("pull", "waited"), [(None, False), ((0.004, 0.0), False), ((0.01, 0.002), True), ((0.01, 0.003), False)]
)
def test_who_waited(pull: Any, waited: bool) -> None:
    timeline = Timeline(0.0)
    timeline.first_pull = pull
    assert timeline.waited() is waited


@pytest.mark.parametrize(
    ("asked", "stalls"), [(None, [(100.5, 1.5)]), (100.25, [(100.5, 1.5)]), (101.75, [(101.75, 0.25)])]
)
def test_a_stall_is_what_the_stream_not_the_consumer_was_late(asked: float | None, stalls: list[Any]) -> None:
    """Half a second that came at 100 is played by 100.5; the next comes at 102, asked for sooner, later, or never."""
    timeline, reader = Timeline(100.0), Reader()
    timeline.chunk(100.0, 100.0, 0.5, reader)
    timeline.chunk(asked, 102.0, 0.5, reader)
    assert timeline.underruns == stalls
