"""The real-time factor and its grades, at and beside every border."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from ttstrace.monitor import calculate_rtf, interpret_rtf, rtf_grade


def test_rtf_is_seconds_taken_over_seconds_of_audio() -> None:
    assert calculate_rtf(1.5, 3.0) == 0.5
    assert calculate_rtf(0.44, 3.89) == pytest.approx(0.1131, abs=1e-4)
    assert calculate_rtf(0, 2) == 0.0
    assert calculate_rtf(np.float32(1.5), np.int64(3)) == 0.5
    assert type(calculate_rtf(Fraction(1, 2), 1)) is float


def test_without_audio_there_is_no_rtf() -> None:
    assert math.isnan(calculate_rtf(1.0, 0))
    assert math.isnan(calculate_rtf(0, 0.0))
    assert math.isnan(calculate_rtf(math.nan, 1.0))


@pytest.mark.parametrize("arguments", [(-1.0, 2.0), (1.0, -2.0)])
def test_negative_seconds_are_refused(arguments: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"must not be negative.*pass seconds"):
        calculate_rtf(*arguments)


@pytest.mark.parametrize("arguments", [("1.0", 2.0), (1.0, None), (True, 1.0), (1.0, 1j)])
def test_what_is_no_number_is_refused(arguments: tuple[object, object]) -> None:
    with pytest.raises(TypeError, match=r"must be a number.*pass float\("):
        calculate_rtf(*arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rtf", "grade", "english", "korean"),
    [
        (0.0, "very_fast", "🎉 very fast (goal met!)", "🎉 매우 빠름 (목표 달성!)"),
        (math.nextafter(0.5, 0), "very_fast", "🎉 very fast (goal met!)", "🎉 매우 빠름 (목표 달성!)"),
        (0.5, "faster_than_real_time", "✅ faster than real time", "✅ 실시간보다 빠름"),
        (math.nextafter(1, 0), "faster_than_real_time", "✅ faster than real time", "✅ 실시간보다 빠름"),
        (1, "real_time", "same as real time", "실시간과 동일"),
        (math.nextafter(1, 2), "slower_than_real_time", "⚠️ slower than real time", "⚠️ 실시간보다 느림"),
        (math.inf, "slower_than_real_time", "⚠️ slower than real time", "⚠️ 실시간보다 느림"),
    ],
)
def test_the_four_grades(rtf: float, grade: str, english: str, korean: str) -> None:
    assert rtf_grade(rtf) == grade
    assert interpret_rtf(rtf) == english
    assert interpret_rtf(rtf, language="ko") == korean


def test_nan_has_no_grade_and_is_said_to_be_nan() -> None:
    assert rtf_grade(math.nan) is None
    assert "nan" in interpret_rtf(math.nan)
    assert "nan" in interpret_rtf(math.nan, "ko")


def test_other_languages_are_refused_by_naming_the_two() -> None:
    with pytest.raises(ValueError, match="'en' or 'ko', not 'fr'"):
        interpret_rtf(0.5, "fr")


def test_a_negative_rtf_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        interpret_rtf(-0.1)
