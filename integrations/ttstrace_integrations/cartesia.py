"""cartesia: speech by HTTP, whole, streamed, or as server-sent events, and by a websocket."""

from typing import Any

from ttstrace.call import Call
from ttstrace.instrumentor import Patch, TTSInstrumentor
from ttstrace_integrations._stainless import DEFAULTS, text_of, voice_of


def _output(call: Call) -> Any:
    return call.arguments["output_format"]


def _of_event(call: Call) -> bytes | None:
    """Not all of them hold audio: there are timestamps between. Read as they came, they are text."""
    return None if isinstance(call.chunk, bytes) else getattr(call.chunk, "audio", None) or b""


_EVENTS: dict[str, Any] = {"audio": _of_event}
_WEBSOCKET: dict[str, Any] = {
    "audio": lambda call: (call.result if call.chunk is None else call.chunk).audio or b"",
    "server": lambda call: str(call.instance._manager._prepare_url()),
}


class CartesiaInstrumentor(TTSInstrumentor):
    name = "cartesia"
    package = "cartesia"
    versions = ">=3,<5"
    defaults = {
        **DEFAULTS,
        "provider": "cartesia",
        "model": lambda call: call.arguments["model_id"],
        "voice": lambda call: voice_of(call.arguments["voice"]),
        "language": lambda call: text_of(call.arguments.get("language")),
        "text": "transcript",
        "sample_rate": lambda call: _output(call).get("sample_rate"),
        "format": lambda call: _output(call).get("encoding"),
    }
    patches = (
        Patch("cartesia.resources.tts:TTSResource.generate"),
        Patch("cartesia.resources.tts:AsyncTTSResource.generate"),
        Patch("cartesia.resources.tts:TTSResource.generate_sse", **_EVENTS),
        Patch("cartesia.resources.tts:AsyncTTSResource.generate_sse", **_EVENTS),
        Patch("cartesia.resources.tts:TTSResource.sse", **_EVENTS),
        Patch("cartesia.resources.tts:AsyncTTSResource.sse", **_EVENTS),
        Patch("cartesia.lib._tts:BackcompatTTSResourceConnection.send", **_WEBSOCKET),
        Patch("cartesia.lib._tts:AsyncBackcompatTTSResourceConnection.send", **_WEBSOCKET),
    )
