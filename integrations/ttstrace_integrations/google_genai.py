"""google-genai: Gemini's speech, whole or streamed, where a request asks for audio."""

from typing import Any

from ttstrace.call import Call
from ttstrace.instrumentor import Patch, TTSInstrumentor


def _field(message: Any, *names: str) -> Any:
    """A field of a field, of messages or of the dicts that stand for them."""
    for name in names:
        message = message.get(name) if isinstance(message, dict) else getattr(message, name, None)
    return message


def _asks_for_audio(call: Call) -> bool:
    modalities = _field(call.arguments["config"], "response_modalities") or ()
    return any(str(getattr(each, "value", each)).upper() == "AUDIO" for each in modalities)


def _text(call: Call) -> Any:
    """A text or a list of them; what else may be among the contents is not said to be spoken."""
    contents = call.arguments["contents"]
    return contents if isinstance(contents, (str, list)) else None


def _pieces(call: Call) -> list[Any]:
    response = call.result if call.chunk is None else call.chunk
    parts = [part for each in response.candidates or () for part in _field(each, "content", "parts") or ()]
    return [part.inline_data for part in parts if part.inline_data is not None and part.inline_data.data]


class GoogleGenAIInstrumentor(TTSInstrumentor):
    name = "google_genai"
    package = "google-genai"
    versions = ">=1,<4"
    defaults = {
        "provider": "gcp.gemini",
        "remote": True,
        "producer": "push",
        "when": _asks_for_audio,
        "text": _text,
        "model": lambda call: call.arguments["model"],
        "voice": lambda call: _field(
            call.arguments["config"], "speech_config", "voice_config", "prebuilt_voice_config", "voice_name"
        ),
        "language": lambda call: _field(call.arguments["config"], "speech_config", "language_code"),
        "audio": lambda call: b"".join(each.data for each in _pieces(call)),
        "format": lambda call: next((each.mime_type for each in _pieces(call)), None),
        "server": lambda call: call.instance._api_client._http_options.base_url,
    }
    patches = (
        Patch("google.genai.models:Models.generate_content"),
        Patch("google.genai.models:Models.generate_content_stream"),
        Patch("google.genai.models:AsyncModels.generate_content"),
        Patch("google.genai.models:AsyncModels.generate_content_stream"),
    )
