"""together: speech by HTTP, whole, streamed, or as server-sent events."""

from ttstrace.call import Call
from ttstrace.instrumentor import Patch, TTSInstrumentor
from ttstrace_integrations._stainless import DEFAULTS, audio, text_of


def _format(call: Call) -> str | None:
    """Only raw samples need telling; server-sent events carry nothing else. Cartesia's models heed what is asked."""
    if call.arguments["response_format"] != "raw" and call.arguments["stream"] is not True:
        return None
    heeds = call.arguments["model"].startswith("cartesia/")
    return text_of(call.arguments["response_encoding"]) if heeds else "pcm_s16le"


def _rate(call: Call) -> object:
    """Orpheus and Kokoro always speak at 24 kHz, whatever is asked for."""
    fixed = call.arguments["model"].startswith(("canopylabs/", "hexgrad/"))
    return 24_000 if fixed else call.arguments["sample_rate"]


def _audio(call: Call) -> object:
    return {"audio": call.chunk.b64} if hasattr(call.chunk, "b64") else audio(call)


class TogetherInstrumentor(TTSInstrumentor):
    name = "together"
    package = "together"
    versions = ">=2,<4"
    defaults = {
        **DEFAULTS,
        "provider": "together",
        "model": lambda call: call.arguments["model"],
        "voice": lambda call: call.arguments["voice"],
        "language": lambda call: text_of(call.arguments["language"]),
        "text": "input",
        "audio": _audio,
        "format": _format,
        "sample_rate": _rate,
    }
    patches = (
        Patch("together.resources.audio.speech:SpeechResource.create"),
        Patch("together.resources.audio.speech:AsyncSpeechResource.create"),
    )
