"""cartesia: speech by HTTP, whole, streamed, or as server-sent events."""

from typing import Any

from ttstrace.call import Call
from ttstrace.instrumentor import Patch, TTSInstrumentor
from ttstrace_integrations._stainless import DEFAULTS, text_of, voice_of


def _output(call: Call) -> Any:
    return call.arguments["output_format"]


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
    )
