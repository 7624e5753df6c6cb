"""google-cloud-texttospeech: a response whole, or a stream of responses, by gRPC or REST."""

from typing import Any

from ttstrace.call import Call
from ttstrace.instrumentor import Patch, TTSInstrumentor

_ENCODINGS = {"LINEAR16": "pcm_s16le", "PCM": "pcm_s16le", "MULAW": "ulaw", "ALAW": "alaw"}


def _part(call: Call, name: str) -> Any:
    """A part of the request, which is given as one message, as a dict, or in parts; parts are messages or dicts."""
    request = call.arguments["request"]
    part = call.arguments[name] if request is None else _field(request, name)
    return {} if part is None else part


def _field(message: Any, name: str) -> Any:
    return message.get(name) if isinstance(message, dict) else getattr(message, name, None)


def _text(call: Call) -> Any:
    given = _part(call, "input")
    return _field(given, "text") or _field(given, "ssml") or _field(given, "markup")


def _encoding(call: Call) -> str | None:
    encoding = _field(_part(call, "audio_config"), "audio_encoding")
    return _ENCODINGS.get(getattr(encoding, "name", encoding))


_WHOLE = {
    "text": _text,
    "input_type": lambda call: "ssml" if _field(_part(call, "input"), "ssml") else "text",
    "model": lambda call: _field(_part(call, "voice"), "model_name") or None,
    "voice": lambda call: _field(_part(call, "voice"), "name") or None,
    "language": lambda call: _field(_part(call, "voice"), "language_code") or None,
    "audio": lambda call: call.result.audio_content,
    "format": _encoding,
    "sample_rate": lambda call: _field(_part(call, "audio_config"), "sample_rate_hertz"),
}
_STREAM = {
    # The text is inside requests, and so is what raw audio is asked for: neither is seen here.
    "text": lambda call: None,
    "audio": lambda call: call.chunk.audio_content,
}
_CLIENT = "google.cloud.{0}.services.text_to_speech.client:TextToSpeechClient.{1}"
_ASYNC_CLIENT = "google.cloud.{0}.services.text_to_speech.async_client:TextToSpeechAsyncClient.{1}"


class GoogleCloudInstrumentor(TTSInstrumentor):
    name = "google_cloud"
    package = "google-cloud-texttospeech"
    versions = ">=2.20,<3"
    defaults = {
        "provider": "gcp.texttospeech",
        "remote": True,
        "producer": "push",
        "server": lambda call: call.instance.api_endpoint,
    }
    patches = tuple(
        Patch(client.format(version, method), **options)
        for version in ("texttospeech_v1", "texttospeech_v1beta1")
        for client in (_CLIENT, _ASYNC_CLIENT)
        for method, options in (("synthesize_speech", _WHOLE), ("streaming_synthesize", _STREAM))
    )
