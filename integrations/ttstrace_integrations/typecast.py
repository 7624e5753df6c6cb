"""typecast-python: a response whole, with timestamps, composed of several texts; or a generator of audio bytes."""

from typing import Any

from ttstrace.call import Call
from ttstrace.instrumentor import Patch, TTSInstrumentor


def _only(call: Call, name: str) -> Any:
    """What all texts of a composition have in common."""
    said = {each.get(name) for each in call.arguments["segments"] if each.get("type") == "tts"}
    return next(iter(said)) if len(said) == 1 else None


_TIMESTAMPED: dict[str, Any] = {"audio": lambda call: call.result.audio_bytes}
_COMPOSED: dict[str, Any] = {
    "text": lambda call: "".join(each.get("text", "") for each in call.arguments["segments"]),
    "model": lambda call: getattr(_only(call, "model"), "value", None),
    "voice": lambda call: _only(call, "voice_id"),
    "language": lambda call: _only(call, "language"),
}


class TypecastInstrumentor(TTSInstrumentor):
    name = "typecast"
    package = "typecast-python"
    versions = ">=0.5,<1"
    defaults = {
        "provider": "typecast",
        "remote": True,
        "producer": "push",
        "text": lambda call: call.arguments["request"].text,
        "model": lambda call: str(call.arguments["request"].model.value),
        "voice": lambda call: call.arguments["request"].voice_id,
        "language": lambda call: call.arguments["request"].language,
        "server": lambda call: call.instance.host,
    }
    patches = (
        Patch("typecast.client:Typecast.text_to_speech"),
        Patch("typecast.client:Typecast.text_to_speech_stream"),
        Patch("typecast.client:Typecast.text_to_speech_with_timestamps", **_TIMESTAMPED),
        Patch("typecast.client:Typecast.compose_text_to_speech", **_COMPOSED),
        Patch("typecast.async_client:AsyncTypecast.text_to_speech"),
        Patch("typecast.async_client:AsyncTypecast.text_to_speech_stream"),
        Patch("typecast.async_client:AsyncTypecast.text_to_speech_with_timestamps", **_TIMESTAMPED),
    )
