"""fish-audio-sdk: audio whole, as a stream, or by a websocket while the text arrives."""

from ttstrace.call import Call
from ttstrace.instrumentor import Patch, TTSInstrumentor


def _format(call: Call) -> str:
    return str(call.arguments.get("format") or call.arguments["config"].format)


_RESOURCE = "fishaudio.resources.tts:{0}.{1}"
# Everything that reads a stream goes through the iterator inside it.
_STREAM = {"body": lambda call: (call.result, "_iter")}

# The text comes as str, or in events; one that says to flush holds none.
_WEBSOCKET = {"text": "text_stream", "piece": lambda call: getattr(call.piece, "text", call.piece)}


class FishAudioInstrumentor(TTSInstrumentor):
    name = "fish_audio"
    package = "fish-audio-sdk"
    versions = ">=1,<2"
    defaults = {
        "provider": "fish_audio",
        "remote": True,
        "producer": "push",
        "model": lambda call: call.arguments["model"],
        "voice": lambda call: call.arguments["reference_id"] or call.arguments["config"].reference_id,
        "cloned": lambda call: bool(call.arguments["references"] or call.arguments["config"].references) or None,
        "format": lambda call: "pcm_s16le" if _format(call) == "pcm" else None,
        "sample_rate": lambda call: call.arguments["config"].sample_rate or 44_100,
        "server": lambda call: call.instance._client.base_url,
    }
    patches = tuple(
        Patch(_RESOURCE.format(client, method), **options)
        for client in ("TTSClient", "AsyncTTSClient")
        for method, options in (
            ("convert", {}),
            ("stream", _STREAM),
            ("stream_websocket", _WEBSOCKET),
        )
    )
