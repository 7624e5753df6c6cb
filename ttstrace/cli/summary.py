"""Many syntheses in one table, one row each, from the attributes of their spans."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ttstrace import semconv
from ttstrace.monitor.rtf import interpret_rtf

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

_MEBIBYTE = 2**20
_UNKNOWN = "-"
# From here on there is room for the grade in full, and for whole trace ids.
_ROOM_FOR_GRADES, _ROOM_FOR_IDS = 96, 120

_HEADERS = {
    "en": ("synthesis", "audio\ns", "took\ns", "RTF", "grade", "first\naudio s", "CPU\n%", "peak\nMB", "trace"),
    "ko": ("합성", "오디오\n초", "걸린\n시간 초", "RTF", "평가", "첫\n소리 초", "CPU\n%", "최대\nMB", "trace"),
}
_INTERRUPTED = {"en": "interrupted", "ko": "중단됨"}


@dataclass(frozen=True)
class Row:
    """One synthesis: what it is called, its span's attributes, and the trace that it is in."""

    what: str
    attributes: Mapping[str, Any]
    trace_id: str


def summary_table(rows: Iterable[Row], *, language: str, width: int) -> Table:
    """The table, no wider than ``width``; what a span does not say is ``-``."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1 if width >= _ROOM_FOR_GRADES else 0, 0, 0), pad_edge=False)
    for index, header in enumerate(_HEADERS[language]):
        text = index in (0, 4, 8)
        table.add_column(header, justify="left" if text else "right", no_wrap=index not in (0, 4), vertical="bottom")
    for row in rows:
        table.add_row(*_cells(row, language, width))
    return table


def _cells(row: Row, language: str, width: int) -> list[Any]:
    from rich.text import Text

    read = row.attributes.get
    rtf, cpu, peak = read(semconv.TTS_RTF), read(semconv.TTS_CPU_UTILIZATION), read(semconv.TTS_MEMORY_PEAK)
    speed = "" if rtf is None else "green" if rtf < 1 else "red"
    return [
        row.what,
        _figure(read(semconv.TTS_AUDIO_DURATION), 2),
        _figure(read(semconv.TTS_SYNTHESIS_DURATION), 3),
        Text(_figure(rtf, 4), speed),
        _grade(row, rtf, language, width),
        _figure(read(semconv.TTS_TIME_TO_FIRST_AUDIO), 2),
        _figure(None if cpu is None else cpu * 100, 0),
        _figure(None if peak is None else peak / _MEBIBYTE, 0),
        Text(row.trace_id if width >= _ROOM_FOR_IDS else row.trace_id[:8], "dim"),
    ]


def _grade(row: Row, rtf: float | None, language: str, width: int) -> Text:
    from rich.text import Text

    error = row.attributes.get(semconv.ERROR_TYPE)
    if error is not None:
        return Text(str(error), "red")
    if row.attributes.get(semconv.TTS_INTERRUPTED) is True:
        return Text(_INTERRUPTED[language], "yellow")
    if rtf is None:
        return Text(_UNKNOWN)
    words = interpret_rtf(rtf, language)
    return Text(words if width >= _ROOM_FOR_GRADES else words.partition(" (")[0])


def _figure(value: float | None, decimals: int) -> str:
    if value is None:
        return _UNKNOWN
    least = 10.0**-decimals
    return f"<{least:.{decimals}f}" if 0 < value < least / 2 else f"{value:.{decimals}f}"
