"""The names of formats and rates, as SDKs spell them."""

from __future__ import annotations

import decimal
import fractions

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttstrace.audio import parse_format, sample_rate_of


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pcm", ("pcm_s16le", None, None)),
        ("pcm_24000", ("pcm_s16le", 24000, None)),
        ("pcm_8000", ("pcm_s16le", 8000, None)),
        ("pcm16", ("pcm_s16le", None, None)),
        ("pcm_16000", ("pcm_s16le", 16000, None)),
        ("pcm_24k", ("pcm_s16le", None, None)),
        ("opus-24000bps", ("opus", None, None)),
        ("f8", (None, None, None)),
        ("pcm-8k", ("pcm_s16le", None, None)),
        ("pcm_float", (None, None, None)),
        ("pcm_s16le", ("pcm_s16le", None, None)),
        ("pcm_s16be", ("pcm_s16be", None, None)),
        ("pcm_f32le", ("pcm_f32le", None, None)),
        ("f32", ("pcm_f32le", None, None)),
        ("float32", ("pcm_f32le", None, None)),
        ("float64", ("pcm_f64le", None, None)),
        ("int16", ("pcm_s16le", None, None)),
        ("s24le", ("pcm_s24le", None, None)),
        ("u8", ("pcm_u8", None, None)),
        ("PCM_S8", ("pcm_s8", None, None)),
        ("PCM_24", ("pcm_s24le", None, None)),
        ("PCM_32", ("pcm_s32le", None, None)),
        ("linear16", ("pcm_s16le", None, None)),
        ("LINEAR16", ("pcm_s16le", None, None)),
        ("ulaw_8000", ("pcm_mulaw", 8000, None)),
        ("g711_ulaw", ("pcm_mulaw", None, None)),
        ("pcm_mulaw", ("pcm_mulaw", None, None)),
        ("mu-law", ("pcm_mulaw", None, None)),
        ("MULAW", ("pcm_mulaw", None, None)),
        ("audio/basic", ("pcm_mulaw", 8000, None)),
        ("audio/x-mulaw", ("pcm_mulaw", None, None)),
        ("alaw", ("pcm_alaw", None, None)),
        ("alaw_8000", ("pcm_alaw", 8000, None)),
        ("raw-16khz-16bit-mono-pcm", ("pcm_s16le", 16000, 1)),
        ("Raw22050Hz16BitMonoPcm", ("pcm_s16le", 22050, 1)),
        ("raw-8khz-8bit-mono-mulaw", ("pcm_mulaw", 8000, 1)),
        ("riff-24khz-16bit-mono-pcm", ("wav", 24000, 1)),
        ("Riff44100Hz16BitMonoPcm", ("wav", 44100, 1)),
        ("audio-24khz-48kbitrate-mono-mp3", ("mp3", 24000, 1)),
        ("Audio24Khz48KBitRateMonoMp3", ("mp3", 24000, 1)),
        ("ogg-48khz-16bit-mono-opus", ("opus", 48000, 1)),
        ("PCM_22050HZ_MONO_16BIT", ("pcm_s16le", 22050, 1)),
        ("MP3_22050HZ_MONO_256KBPS", ("mp3", 22050, 1)),
        ("mp3_44100_128", ("mp3", 44100, None)),
        ("MP3_64_KBPS", ("mp3", None, None)),
        ("mp3", ("mp3", None, None)),
        ("audio/mpeg", ("mp3", None, None)),
        ("wav", ("wav", None, None)),
        ("audio/x-wav", ("wav", None, None)),
        ("wav_44.1khz", ("wav", 44100, None)),
        ("audio/L16;codec=pcm;rate=24000", ("pcm_s16le", 24000, None)),
        ("audio/l16; rate=22050; endianness=big-endian", ("pcm_s16be", 22050, None)),
        ("audio/pcm;rate=16000;channels=2", ("pcm_s16le", 16000, 2)),
        ("OGG_OPUS", ("opus", None, None)),
        ("ogg_vorbis", ("ogg", None, None)),
        ("flac", ("flac", None, None)),
        ("aac", ("aac", None, None)),
        ("audio/webm", ("webm", None, None)),
        ("m4a", ("mp4", None, None)),
        ("json", (None, None, None)),
        ("raw", (None, None, None)),
        ("", (None, None, None)),
        (None, (None, None, None)),
        (16, (None, None, None)),
        ("x" * 1_000_000, (None, None, None)),
    ],
)
def test_spellings(name: object, expected: tuple[object, ...]) -> None:
    assert tuple(parse_format(name)) == expected


@given(st.text(max_size=120))
def test_any_name_parses(name: str) -> None:
    assert parse_format(name).rate is None or 4000 <= parse_format(name).rate <= 384000


@pytest.mark.parametrize(
    "value", [24000, 24000.0, np.int64(24000), np.float32(24000), np.uint16(24000), fractions.Fraction(24000)]
)
def test_a_whole_number_is_a_rate(value: object) -> None:
    rate = sample_rate_of(value)
    assert rate == 24000
    assert type(rate) is int


@pytest.mark.parametrize(
    "value",
    [
        3999, 384001, 0, -24000, True, False, 24000.5, float("nan"), float("inf"), None, "24000", b"24000",
        10**400, np.bool_(True), np.array([24000]), decimal.Decimal(24000), 24000j, object(), [24000],
    ],
)  # fmt: skip
def test_anything_else_is_none(value: object) -> None:
    assert sample_rate_of(value) is None


def test_the_bounds_are_rates() -> None:
    assert (sample_rate_of(4000), sample_rate_of(384000)) == (4000, 384000)
