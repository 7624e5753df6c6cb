"""The six lines that say how one synthesis went, as the guide of the PerformanceMonitor prints them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ttstrace import semconv
from ttstrace.monitor.rtf import interpret_rtf

_MEBIBYTE = 2**20
_UNKNOWN = "-"

_LINES = {
    "en": (
        ("Inference time: ", "{:.2f} s"),
        ("Audio length: ", "{:.2f} s"),
        ("RTF: ", "{:.4f}"),
        ("Peak memory: ", "{:.2f} MB"),
        ("CPU usage: ", "{:.2f}%"),
        ("Grade: ", "{}"),
    ),
    "ko": (
        ("추론 시간: ", "{:.2f}초"),
        ("오디오 길이: ", "{:.2f}초"),
        ("RTF: ", "{:.4f}"),
        ("Peak Memory: ", "{:.2f} MB"),
        ("CPU 사용률: ", "{:.2f}%"),
        ("평가: ", "{}"),
    ),
}


def guide_lines(attributes: Mapping[str, Any], language: str = "en") -> list[str]:
    """The six lines from a span's attributes; what it does not say is ``-``.

    Seconds, memory in MB of 2^20 bytes, CPU in per cent of one core.

    Args:
        attributes: of a span of a synthesis.
        language: ``en`` or ``ko``.
    """
    peak, cpu, rtf = (
        attributes.get(name) for name in (semconv.TTS_MEMORY_PEAK, semconv.TTS_CPU_UTILIZATION, semconv.TTS_RTF)
    )
    figures = (
        attributes.get(semconv.TTS_SYNTHESIS_DURATION),
        attributes.get(semconv.TTS_AUDIO_DURATION),
        rtf,
        None if peak is None else peak / _MEBIBYTE,
        None if cpu is None else cpu * 100,
        interpret_rtf(math.nan if rtf is None else rtf, language),
    )
    return [
        label + (_UNKNOWN if figure is None else form.format(figure))
        for (label, form), figure in zip(_LINES[language], figures, strict=True)
    ]
