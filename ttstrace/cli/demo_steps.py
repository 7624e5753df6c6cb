"""What the demo synthesizes: hibari as a program would use it, and an application's own function around it.

hibari speaks English only, and so do the sentences.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ttstrace.decorator import traced_synthesis
from ttstrace.stages import stage

PLAYER_SECONDS = 0.05
"""How long the demo's player keeps the stream waiting after each sentence.

A real one would wait until its buffer runs low, which is most of the playback; this one only takes long enough
for the hold to be seen in the span.
"""

_HELLO = "Hello there."
_SENTENCE = "Your table for two is booked for half past seven."
_LONG_SENTENCE = (
    "The night train to the coast leaves from platform nine at a quarter to eleven, stops twice on its way "
    "through the mountains, and reaches the harbour in time for the first ferry of the morning."
)
_PARAGRAPH = (
    "Good morning, and welcome aboard. We expect a smooth crossing today, with light winds from the west. "
    "Breakfast is served on the upper deck until ten. Please keep your ticket with you until we land."
)
_ANNOUNCEMENT = "Dr. Lee to gate 7, please: your bag is on cart 12 & ready."


@dataclass(frozen=True)
class Step:
    """One call of the demo.

    Args:
        key: its name, in every language.
        text: what is to be spoken; None where that is the error.
        run: makes the call.
    """

    key: str
    text: str | None
    run: Callable[[], object]


def steps(voice: Any) -> list[Step]:
    """The calls in their order; ``voice`` is a loaded ``hibari.Hibari``."""
    announce = _announcer(voice)
    return [
        Step("cold", _HELLO, lambda: voice(_HELLO)),
        Step("short", _HELLO, lambda: voice(_HELLO)),
        Step("sentence", _SENTENCE, lambda: voice(_SENTENCE)),
        Step("long", _LONG_SENTENCE, lambda: voice(_LONG_SENTENCE)),
        Step("stream", _PARAGRAPH, lambda: _play(voice.stream(_PARAGRAPH))),
        Step("application", _ANNOUNCEMENT, lambda: announce(_ANNOUNCEMENT)),
        Step("error", None, lambda: voice(None)),
    ]


def _play(sentences: Iterable[Any]) -> None:
    """Take each sentence as soon as it is there, without a sound and without waiting for its end."""
    buffered = []
    for sentence in sentences:
        buffered.append(sentence)
        time.sleep(PLAYER_SECONDS)


def _announcer(voice: Any) -> Callable[[str], Any]:
    @traced_synthesis(provider="demo-station", model="announcer", language="en", sample_rate=24_000)
    def announce(text: str) -> Any:
        with stage("text normalization"):
            text = _spell_out(text)
        with stage("speech"):
            audio = voice(text)
        with stage("loudness"):
            return audio * (0.9 / max(float(abs(audio).max()), 1e-9))

    return announce


_SPELLED_OUT = {"Dr.": "Doctor", "&": "and", "7": "seven", "12": "twelve"}


def _spell_out(text: str) -> str:
    return re.sub(r"Dr\.|&|\d+", lambda found: _SPELLED_OUT.get(found.group(), found.group()), text)
