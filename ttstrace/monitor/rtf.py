"""The real-time factor, and the four grades it is read by."""

from __future__ import annotations

import math
from numbers import Real

_WORDS = {
    "en": {
        "very_fast": "🎉 very fast (goal met!)",
        "faster_than_real_time": "✅ faster than real time",
        "real_time": "same as real time",
        "slower_than_real_time": "⚠️ slower than real time",
        None: "undefined (no audio: RTF is nan)",
    },
    "ko": {
        "very_fast": "🎉 매우 빠름 (목표 달성!)",
        "faster_than_real_time": "✅ 실시간보다 빠름",
        "real_time": "실시간과 동일",
        "slower_than_real_time": "⚠️ 실시간보다 느림",
        None: "정의되지 않음 (오디오 없음: RTF가 nan)",
    },
}


def calculate_rtf(inference_time: float, audio_duration: float) -> float:
    """Real-time factor: seconds the synthesis took / seconds of audio it made.

    Below 1 is faster than real time. Some benchmarks print the inverse, RTFx, under this name.

    Returns:
        The ratio; nan where ``audio_duration`` is 0, as there is no ratio then.

    Raises:
        TypeError: one of them is not a number.
        ValueError: one of them is negative.
    """
    _check("inference_time", inference_time)
    _check("audio_duration", audio_duration)
    return float(inference_time) / float(audio_duration) if audio_duration else math.nan


def rtf_grade(rtf: float) -> str | None:
    """The grade of a real-time factor, by a name that can be searched for.

    Returns:
        ``very_fast`` (< 0.5), ``faster_than_real_time`` (< 1), ``real_time`` (= 1) or
        ``slower_than_real_time`` (> 1); None for nan.
    """
    if rtf < 0.5:
        return "very_fast"
    if rtf < 1.0:
        return "faster_than_real_time"
    if rtf == 1.0:
        return "real_time"
    if rtf > 1.0:
        return "slower_than_real_time"
    return None


def interpret_rtf(rtf: float, language: str = "en") -> str:
    """The grade of a real-time factor in words, for people.

    Args:
        rtf: what :func:`calculate_rtf` gave; nan is said to be undefined.
        language: ``en`` or ``ko``.

    Raises:
        TypeError: ``rtf`` is not a number.
        ValueError: ``rtf`` is negative, or ``language`` is neither of the two.
    """
    _check("rtf", rtf)
    words = _WORDS.get(language)
    if words is None:
        raise ValueError(f"language must be 'en' or 'ko', not {language!r}")
    return words[rtf_grade(rtf)]


def _check(name: str, value: object) -> None:
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}: pass float({name})")
    if value < 0:
        raise ValueError(f"{name} must not be negative, but is {value!r}: pass seconds (or a ratio) from 0 up")
