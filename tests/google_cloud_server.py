"""Google Cloud's speech service over gRPC on this machine, for a google-cloud-texttospeech that nobody has touched."""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from audio_samples import pcm16, tone
from google.cloud import texttospeech_v1 as texttospeech

SAMPLES = pcm16(tone(24_000))
VOICE = {"name": "en-US-Chirp3-HD-Kore", "language_code": "en-US", "model_name": "chirp"}
ASKED = {
    "input": {"text": "Hello there."},
    "voice": {"name": "en-US-Chirp3-HD-Kore", "language_code": "en-US"},
    "audio_config": {"audio_encoding": "PCM", "sample_rate_hertz": 24_000},
}


@dataclass
class GoogleCloudService:
    address: str = ""
    traceparents: list[str | None] = field(default_factory=list)
    """Of each request."""
    received: list[Any] = field(default_factory=list)
    """What streams sent, as it came."""


@contextmanager
def serving(pieces: int, delay: float) -> Iterator[GoogleCloudService]:
    """Answer every text with one second, whole or in so many responses, with so many seconds before each, once all the
    text is there; where that begins with `now: `, with one response for each piece as it comes."""
    service = GoogleCloudService()

    def note(context: Any) -> None:
        service.traceparents.append(dict(context.invocation_metadata()).get("traceparent"))

    def whole(request: bytes, context: Any) -> bytes:
        note(context)
        text = texttospeech.SynthesizeSpeechRequest.deserialize(request).input.text
        if text == "refused":
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"quota, for {text}")
        time.sleep(pieces * delay)
        return bytes(texttospeech.SynthesizeSpeechResponse.serialize({"audio_content": SAMPLES}))

    def stream(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        note(context)
        size = len(SAMPLES) // pieces
        received = service.received
        for each in requests:
            request = texttospeech.StreamingSynthesizeRequest.deserialize(each)
            received.append(request)
            if request.input.text == "refused":
                context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "quota, for refused")
            if request.input.text.startswith("now: "):
                yield bytes(texttospeech.StreamingSynthesizeResponse.serialize({"audio_content": SAMPLES[:size]}))
        if len(received) > 1 and received[1].input.text.startswith("now: "):
            return
        for at in range(0, len(SAMPLES), size):
            time.sleep(delay)
            answer = {"audio_content": SAMPLES[at : at + size]}
            yield bytes(texttospeech.StreamingSynthesizeResponse.serialize(answer))

    methods = {
        "SynthesizeSpeech": grpc.unary_unary_rpc_method_handler(whole),
        "StreamingSynthesize": grpc.stream_stream_rpc_method_handler(stream),
    }
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool)
        name = "google.cloud.texttospeech.v1.TextToSpeech"
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(name, methods)])
        service.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        try:
            yield service
        finally:
            server.stop(None)


def client(address: str) -> Any:
    from google.cloud.texttospeech_v1.services.text_to_speech.transports import TextToSpeechGrpcTransport

    transport = TextToSpeechGrpcTransport(channel=grpc.insecure_channel(address), credentials=None, host=address)
    return texttospeech.TextToSpeechClient(transport=transport)


def async_client(address: str) -> Any:
    from google.cloud.texttospeech_v1.services.text_to_speech.transports import TextToSpeechGrpcAsyncIOTransport

    transport = TextToSpeechGrpcAsyncIOTransport(channel=grpc.aio.insecure_channel(address), host=address)
    return texttospeech.TextToSpeechAsyncClient(transport=transport)


def requests(audio: dict[str, Any] | None = None) -> list[Any]:
    """Of a stream: what is wanted, then the text in two pieces."""
    configuration: dict[str, Any] = {"voice": VOICE}
    if audio is not None:
        configuration["streaming_audio_config"] = audio
    texts = [{"input": {"text": text}} for text in ("Hello ", "there.")]
    return [texttospeech.StreamingSynthesizeRequest(each) for each in [{"streaming_config": configuration}, *texts]]
