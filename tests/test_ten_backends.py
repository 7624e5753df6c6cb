"""Without a line of code: a program that uses ten libraries in one process gives a correct trace of every synthesis."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from audio_samples import pcm16, tone, wav
from collector import Plain, clean_environment, lines_of, running_collector
from conftest import between
from google_tts import GoogleTTS, mp3, seconds_of
from google_tts import serving as serving_google
from speech_server import SpeechServer, serving

from ttstrace import semconv

for _module in ("kokoro_onnx", "onnx", "espeakng", "openai", "elevenlabs", "boto3", "edge_tts", "piper"):
    pytest.importorskip(_module)
pytest.importorskip("google.cloud.texttospeech_v1")

import edge_server  # noqa: E402 - these need what was looked for
import onnx_voices  # noqa: E402

pytestmark = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")

PROGRAM = Path(__file__).with_name("ten_backends.py")
PIECES = 4
DELAY = 0.03  # seconds before each piece that a service sends
WAV = wav(pcm16(tone(24_000)))
PCM = pcm16(tone(16_000))
MP3 = mp3(1.0)


@dataclass
class Truth:
    """What a backend's syntheses are, whatever the program says of them."""

    provider: str
    function: str
    remote: bool = True
    streamed: bool = True
    rate: int = 24_000
    size: int | None = None
    seconds: float = 1.0
    """Of what a service sends; the program says what a voice here made."""
    least: float = PIECES * DELAY
    """Seconds that a service takes; the program says of a voice here."""
    cold: bool = False
    """Whether the first synthesis is told from the others."""
    more: tuple[tuple[str, Any], ...] = ()


def _local(provider: str, function: str, streamed: bool = True, rate: int = 24_000) -> Truth:
    return Truth(provider, function, False, streamed, rate, cold=True)


_POLLY_TOLD = (("gen_ai.speech.voice", "Seoyeon"), ("tts.audio.format", "pcm_s16le"))
TRUTHS = {
    "hibari": _local("hibari", "hibari.tts.Hibari.stream"),
    "piper": _local("piper", "piper.voice.PiperVoice.synthesize", rate=22_050),
    "kokoro_onnx": _local("kokoro", "kokoro_onnx.Kokoro.create_stream"),
    "espeakng": _local("espeak-ng", "espeakng.ESpeakNG.synth_wav", False, 22_050),
    "gtts": Truth("gtts", "gtts.tts.gTTS.write_to_fp", streamed=False),
    "openai": Truth("openai", "openai.resources.audio.speech.Speech.create", size=len(WAV)),
    "elevenlabs": Truth(
        "elevenlabs", "elevenlabs.text_to_speech.client.TextToSpeechClient.stream", size=len(WAV)
    ),
    "polly": Truth(
        "aws.polly", "botocore.client.Polly.synthesize_speech", rate=16_000, size=len(PCM), more=_POLLY_TOLD
    ),
    "google_cloud": Truth(
        "gcp.texttospeech",
        "google.cloud.texttospeech_v1.services.text_to_speech.client.TextToSpeechClient.synthesize_speech",
        streamed=False,
        size=len(WAV),
    ),
    "edge_tts": Truth("edge", "edge_tts.communicate.Communicate.stream", size=len(MP3), seconds=seconds_of(MP3)),
}  # fmt: skip


def _cut(audio: bytes) -> list[bytes]:
    size = len(audio) // PIECES + 1
    return [audio[at : at + size] for at in range(0, len(audio), size)]


class Services:
    """Everything that the program asks, on this machine."""

    def __init__(self, folder: Path) -> None:
        self._stack = ExitStack()
        self.google = GoogleTTS()
        self.google.delay = PIECES * DELAY
        answer = json.dumps({"audioContent": base64.b64encode(WAV).decode()}).encode()
        bodies = {
            "openai": _cut(WAV), "elevenlabs": _cut(WAV), "polly": _cut(PCM), "google_cloud": _cut(answer),
        }  # fmt: skip
        self.asked: dict[str, SpeechServer] = {}
        for name, pieces in bodies.items():
            service = self.asked[name] = SpeechServer()
            service.pieces, service.delay = pieces, DELAY
            self._stack.enter_context(serving(service))
        self.edge = self._stack.enter_context(edge_server.serving(edge_server.EdgeService(MP3, PIECES, DELAY)))
        self.proxy = self._stack.enter_context(serving_google(self.google))
        self.given = {
            **{name: service.url for name, service in self.asked.items()},
            "edge_tts": self.edge.url,
            "kokoro": onnx_voices.kokoro(folder),
        }

    def close(self) -> None:
        self._stack.close()

    def forget(self) -> None:
        for service in self.asked.values():
            service.requests.clear()
        self.edge.texts.clear()
        self.google.sent.clear()

    def requests(self) -> dict[str, int]:
        asked = {name: len(service.requests) for name, service in self.asked.items()}
        return {**asked, "edge_tts": len(self.edge.texts), "gtts": len(self.google.sent)}


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    services = Services(tmp_path_factory.mktemp("voices"))
    yield services
    services.close()


def run(services: Services, *command: str, **variables: str) -> dict[str, list[dict[str, Any]]]:
    """What the program says. Nothing goes to its standard error: not a word of ours, nor of anybody else."""
    services.forget()
    inherited = {name: value for name, value in clean_environment().items() if not name.lower().endswith("_proxy")}
    asks = {"HTTPS_PROXY": services.proxy, "TEN_BACKENDS": json.dumps(services.given)}
    done = subprocess.run(command, env={**inherited, **asks, **variables}, capture_output=True, text=True, timeout=150)
    assert (done.returncode, done.stderr) == (0, "")
    said: dict[str, list[dict[str, Any]]] = json.loads(done.stdout.splitlines()[-1])
    assert set(said) == set(TRUTHS)
    assert services.requests() == dict.fromkeys(("edge_tts", "gtts", *services.asked), 2)  # each was asked once a time
    return said


def check(services: Services, said: dict[str, list[dict[str, Any]]], spans: list[Plain]) -> None:
    syntheses = [span for span in spans if semconv.GEN_AI_OPERATION_NAME in span["attributes"]]
    assert len(syntheses) == 2 * len(TRUTHS)
    assert len({span["trace"] for span in syntheses}) == 2 * len(TRUTHS)
    for name, truth in TRUTHS.items():
        found = [span for span in syntheses if span["attributes"][semconv.GEN_AI_PROVIDER_NAME] == truth.provider]
        for at, (heard, span) in enumerate(zip(said[name], found, strict=True)):
            attributes = span["attributes"]
            if name == "gtts":
                sent = services.google.sent[at]
                size, seconds = len(sent), seconds_of(sent)
            elif truth.remote:
                size, seconds = truth.size, truth.seconds
            else:
                size, seconds = None, heard["samples"] / heard["rate"]
                assert heard["rate"] == truth.rate
                assert seconds > 0.3
            assert heard.get("size") == size
            expected = {
                "code.function.name": truth.function,
                "gen_ai.operation.name": "text_to_speech",
                "gen_ai.request.stream": truth.streamed,
                "tts.input.characters": heard["characters"],
                "tts.audio.sample_rate": truth.rate,
                "tts.audio.duration": pytest.approx(seconds, abs=1e-9),
                "tts.cold_start": at == 0 if truth.cold else None,
                "tts.interrupted": None,
                "error.type": None,
                **dict(truth.more),
            }
            assert {key: attributes.get(key) for key in expected} == expected, name
            inner = truth.least if truth.remote else heard["inner"]
            assert inner > 0
            took = attributes["tts.synthesis.duration"]
            assert took == between(inner, heard["outer"]), name
            assert attributes["tts.rtf"] == pytest.approx(took / attributes["tts.audio.duration"])
            assert span["kind"] == (3 if truth.remote else 1)  # CLIENT, INTERNAL
            assert span["status"] == 0
            assert span["parent"] == heard.get("parent", "")
            assert span["trace"] == heard.get("trace", span["trace"])


QUIET = {"OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}


def test_opentelemetry_instrument(services: Services) -> None:
    """To a real collector; whatever other instrumentation is installed here is on as well."""
    instrument = str(Path(sysconfig.get_path("scripts"), "opentelemetry-instrument"))
    with running_collector() as collector:
        said = run(
            services,
            *(instrument, sys.executable, str(PROGRAM)),
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.http,
            OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
            PATH=f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}",
            # OpenInference's and traceloop's, where they are installed, read a streamed response before the program.
            OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="openai",
            **QUIET,
        )
        # The program's own spans and the syntheses, at least: the last of them all is a request of the program.
        ended = {turn["parent"] for _, turn in said.values()}
        collector.wait(lambda found: ended <= {span["span"] for span in found.spans}, 60)
        check(services, said, sorted(collector.spans, key=lambda span: span["start"]))


def test_instrument(services: Services, tmp_path: Path) -> None:
    """By two lines before the program, into a trace file."""
    file = tmp_path / "trace.jsonl"
    wrapper = tmp_path / "wrapper.py"
    wrapper.write_text(
        f"import runpy, ttstrace\n"
        f"ttstrace.configure(file={str(file)!r}); ttstrace.instrument()\n"
        f"runpy.run_path({str(PROGRAM)!r}, run_name='__main__')\n"
    )
    said = run(services, sys.executable, str(wrapper), **QUIET)
    check(services, said, sorted(lines_of(file), key=lambda span: span["start"]))
