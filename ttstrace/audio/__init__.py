"""From whatever a backend returned to facts: duration, rate, channels, format, size, onset, underruns.

Audio is only looked at: nothing is decoded, changed, copied from a device or kept. What is unknown is None.
"""

from __future__ import annotations

from ttstrace.audio.carriers import AUDIO_ATTRIBUTES
from ttstrace.audio.formats import Format, parse_format
from ttstrace.audio.output import OUTPUT_ARGUMENTS, OutputFile, ReturnedFile
from ttstrace.audio.playback import Playback
from ttstrace.audio.rate import sample_rate_of
from ttstrace.audio.reader import AudioReader
from ttstrace.audio.whole import Whole, whole_array

__all__ = [
    "AUDIO_ATTRIBUTES",
    "OUTPUT_ARGUMENTS",
    "AudioReader",
    "Format",
    "OutputFile",
    "Playback",
    "ReturnedFile",
    "Whole",
    "parse_format",
    "sample_rate_of",
    "whole_array",
]
