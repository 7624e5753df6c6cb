"""google-cloud-texttospeech: a response whole, or a stream of responses, by gRPC or REST."""

from typing import Any

from ttstrace.call import Call
from ttstrace.instrumentor import Patch, TTSInstrumentor

_ENCODINGS = {"LINEAR16": "pcm_s16le", "PCM": "pcm_s16le", "MULAW": "ulaw", "ALAW": "alaw"}


def _field(message: Any, *names: str) -> Any:
    """A field of a field, of messages or of the dicts that stand for them; None where one is missing."""
    for name in names:
        message = message.get(name) if isinstance(message, dict) else getattr(message, name, None)
    return message


def _part(call: Call, name: str, in_stream: str) -> Any:
    """A part of what is asked for: of the request, which is given as one message, as a dict, or in parts; or of the
    first of a stream's requests."""
    if "requests" in call.arguments:
        return _field(call.first_piece, "streaming_config", in_stream)
    request = call.arguments["request"]
    return call.arguments[name] if request is None else _field(request, name)


def _voice(call: Call, name: str) -> Any:
    return _field(_part(call, "voice", "voice"), name) or None


def _config(call: Call, name: str) -> Any:
    return _field(_part(call, "audio_config", "streaming_audio_config"), name) or None


def _format(call: Call) -> str | None:
    encoding = _config(call, "audio_encoding")
    return _ENCODINGS.get(getattr(encoding, "name", encoding))


def _is_plain(call: Call) -> bool:
    """A stream that is not asked for anything else: samples without a header, as `StreamingSynthesizeResponse` says."""
    return not (_config(call, "audio_encoding") or _config(call, "sample_rate_hertz"))


def _text(given: Any) -> str | None:
    turns = _field(given, "multi_speaker_markup", "turns") or ()
    text = _field(given, "text") or _field(given, "ssml") or _field(given, "markup")
    return text or "".join(_field(turn, "text") for turn in turns) or None


_WHOLE = {
    "text": lambda call: _text(_part(call, "input", "input")),
    "input_type": lambda call: "ssml" if _field(_part(call, "input", "input"), "ssml") else "text",
    "audio": lambda call: call.result.audio_content,
    "format": _format,
    "sample_rate": lambda call: _config(call, "sample_rate_hertz"),
}
_STREAM = {
    "text": "requests",
    "piece": lambda call: _text(_field(call.piece, "input")),
    "input_type": "text",
    "audio": lambda call: call.chunk.audio_content,
    "format": lambda call: "pcm_s16le" if _is_plain(call) else _format(call),
    "sample_rate": lambda call: 24_000 if _is_plain(call) else _config(call, "sample_rate_hertz"),
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
        "model": lambda call: _voice(call, "model_name"),
        "voice": lambda call: _voice(call, "name"),
        "language": lambda call: _voice(call, "language_code"),
        "server": lambda call: call.instance.api_endpoint,
    }
    patches = tuple(
        Patch(client.format(version, method), **options)
        for version in ("texttospeech_v1", "texttospeech_v1beta1")
        for client in (_CLIENT, _ASYNC_CLIENT)
        for method, options in (("synthesize_speech", _WHOLE), ("streaming_synthesize", _STREAM))
    )
