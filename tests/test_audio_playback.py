"""Underruns by the arithmetic of measuring.md, on schedules whose stalls are known."""

from __future__ import annotations

import pytest

from ttstrace.audio import Playback


def test_in_time_there_is_no_underrun() -> None:
    playback = Playback()
    for index in range(10):
        assert playback.add(5.0 + index * 0.2, 0.2, None) is None
    assert (playback.chunks, playback.underruns, playback.silence, playback.longest) == (10, 0, 0.0, 0.0)


def test_a_late_chunk_is_an_underrun_from_where_it_ran_dry() -> None:
    playback = Playback()
    playback.add(10.0, 0.5, None)
    assert playback.add(11.0, 0.5, None) == (10.5, pytest.approx(0.5))
    assert playback.add(11.2, 0.5, None) is None
    assert playback.add(12.25, 0.5, None) == (pytest.approx(12.0), pytest.approx(0.25))
    assert playback.underruns == 2
    assert playback.silence == pytest.approx(0.75)
    assert playback.longest == pytest.approx(0.5)


def test_audio_that_came_early_is_kept_for_later() -> None:
    playback = Playback()
    for _ in range(5):
        playback.add(0.0, 1.0, None)
    assert playback.add(4.9, 1.0, None) is None
    assert playback.add(6.5, 1.0, None) == (pytest.approx(6.0), pytest.approx(0.5))


def test_a_stall_of_a_tenth_of_a_second_does_not_count() -> None:
    for start in (0.0, 0.5, 1.0, 12345.678, 1e6):
        playback = Playback()
        playback.add(start, 0.5, None)
        assert playback.add(start + 0.5 + 0.1, 0.5, None) is None
        assert playback.underruns == 0
    playback = Playback()
    playback.add(0.0, 0.5, None)
    assert playback.add(0.601, 0.5, None) == (0.5, pytest.approx(0.101))


def test_small_stalls_delay_what_follows() -> None:
    playback = Playback()
    playback.add(0.0, 0.5, None)
    playback.add(0.55, 0.5, None)
    assert playback.add(1.1, 0.5, None) is None  # due at 1.05, not at 1.0
    assert playback.add(1.75, 0.5, None) == (pytest.approx(1.6), pytest.approx(0.15))


def test_a_consumer_that_comes_late_is_not_the_streams_fault() -> None:
    playback = Playback()
    playback.add(0.0, 0.5, 0.0)
    assert playback.add(3.05, 0.5, 3.0) is None
    # What it waited from its own pull on is the stream's.
    assert playback.add(5.5, 0.5, 5.2) == (5.2, pytest.approx(0.3))
    # It asked in time: then it counts from when the audio ran out.
    assert playback.add(7.0, 0.5, 5.5) == (6.0, pytest.approx(1.0))


def test_a_pull_after_the_arrival_moves_playback_on() -> None:
    playback = Playback()
    playback.add(0.0, 0.5, 0.0)
    assert playback.add(1.0, 0.5, 2.0) is None
    assert playback.add(2.55, 0.5, None) is None  # played from 2.0 to 2.5


def test_one_chunk_cannot_stall() -> None:
    playback = Playback()
    assert playback.add(100.0, 0.0, 0.0) is None
    assert (playback.chunks, playback.underruns) == (1, 0)
