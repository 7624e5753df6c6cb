"""The names that SDKs give to audio formats."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

from ttstrace.audio.rate import sample_rate_of


class Format(NamedTuple):
    """What the name of a format says; None where it does not say."""

    name: str | None
    """Canonical: a container or codec (`wav`, `mp3`, `opus`, ...) or a sample layout (`pcm_s16le`, ...)."""
    rate: int | None
    """Sample rate in Hz."""
    channels: int | None

    def filled_by(self, other: Format) -> Format:
        """This, and what `other` says where this one says nothing."""
        return Format(self.name or other.name, self.rate or other.rate, self.channels or other.channels)


UNKNOWN: Final = Format(None, None, None)

_LONGEST_NAME: Final = 100

# "Riff24Khz16BitMonoPcm", "riff-24khz-16bit-mono-pcm" and "RIFF_24KHZ_16BIT_MONO_PCM" give the same words.
_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_KILOHERTZ: Final = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,3})?)[ _-]?khz", re.IGNORECASE)

# A container is looked for before a sample layout: in "riff-24khz-16bit-mono-pcm" both are named, and the
# bytes begin with the container.
_CONTAINERS: Final = (
    ("wav", re.compile("_(?:wav|wave|riff)_")),
    ("mp3", re.compile("_(?:mp_3|mpeg|mpga)_")),
    ("flac", re.compile("_flac_")),
    ("webm", re.compile("_webm_")),
    ("opus", re.compile("_opus_")),
    ("ogg", re.compile("_(?:ogg|vorbis)_")),
    ("aac", re.compile("_(?:aac|adts)_")),
    ("mp4", re.compile("_(?:m_4_a|mp_4)_")),
    ("aiff", re.compile("_(?:aiff|aif|aifc)_")),
    ("amr", re.compile("_amr_")),
)
_MU_LAW: Final = re.compile("_(?:mulaw|ulaw|mu_law|u_law|pcmu|basic)_")
_A_LAW: Final = re.compile("_(?:alaw|a_law|pcma)_")
_SAMPLE: Final = re.compile("_(s|i|int|signed|u|uint|unsigned|f|float)_(8|16|24|32|64)_")
_LINEAR: Final = re.compile("_(?:pcm|lpcm|linear|l_16)_")
_BITS: Final = re.compile("_(8|16|24|32)_bits?_|_(?:pcm|lpcm|linear)_(8|16|24|32)_(?!k_)")  # pcm-16k is a rate
_BIG_ENDIAN: Final = re.compile("_(?:be|big)_")
_CHANNELS: Final = re.compile("_channels_([1-8])_|_([1-8])_ch(?:annels?)?_")


def parse_format(name: object) -> Format:
    """Format, rate and channels from a name as SDKs, codecs and media types spell it.

    Known are the spellings of OpenAI (`pcm`), ElevenLabs (`pcm_24000`, `mp3_44100_128`, `ulaw_8000`), Google
    (`LINEAR16`), Azure (`raw-16khz-16bit-mono-pcm`), Cartesia and ffmpeg (`pcm_f32le`), DashScope
    (`PCM_22050HZ_MONO_16BIT`), soundfile (`PCM_24`), numpy (`int16`), media types (`audio/L16;rate=24000`).
    PCM of which nothing more is said is signed 16-bit little-endian, as every service that says only "pcm"
    sends it. A name that is not understood gives None for everything it does not say; nothing raises.
    """
    if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME:
        return UNKNOWN
    return _parse(str(name))


@lru_cache(maxsize=256)
def _parse(name: str) -> Format:
    words = [word.lower() for word in _WORD.findall(name)]
    text = f"_{'_'.join(words)}_"
    rate = _rate(name, words)
    if rate is None and "_basic_" in text:
        rate = 8000  # audio/basic is mu-law at 8 kHz by definition (RFC 2046)
    return Format(_name(text), rate, _channels(text))


def _name(text: str) -> str | None:
    for container, pattern in _CONTAINERS:
        if pattern.search(text):
            return container
    if _MU_LAW.search(text):
        return "pcm_mulaw"
    if _A_LAW.search(text):
        return "pcm_alaw"
    # RFC 2586 has audio/L16 big-endian, yet the services that use the name (Gemini, Watson) send it
    # little-endian unless asked for the other.
    order = "be" if _BIG_ENDIAN.search(text) else "le"
    if sample := _SAMPLE.search(text):
        kind = {"i": "s", "u": "u", "f": "f", "s": "s"}[sample[1][0]]
        bits = int(sample[2])
        if kind == "f" and bits < 16:
            return None
    elif _LINEAR.search(text) and "_float_" not in text:  # of which nobody says how many bits
        said = _BITS.search(text)
        bits = int(said[1] or said[2]) if said else 16
        kind = "u" if bits == 8 else "s"
    else:
        return None
    return f"pcm_{kind}{bits}" if bits == 8 else f"pcm_{kind}{bits}{order}"


def _rate(name: str, words: list[str]) -> int | None:
    if kilohertz := _KILOHERTZ.search(name):
        return sample_rate_of(round(float(kilohertz[1]) * 1000))
    for word, following in zip(words, [*words, ""][1:], strict=True):
        if len(word) <= 6 and word.isdigit() and not following.startswith(("b", "kb")):
            rate = sample_rate_of(int(word))
            if rate is not None:
                return rate
    return None


def _channels(text: str) -> int | None:
    if "_mono_" in text:
        return 1
    if "_stereo_" in text:
        return 2
    said = _CHANNELS.search(text)
    return int(said[1] or said[2]) if said else None
