"""together: speech by HTTP, whole, streamed, or as server-sent events."""

from ttstrace.call import Call
from ttstrace.instrumentor import Patch, TTSInstrumentor
from ttstrace_integrations._stainless import DEFAULTS, audio, text_of


def _format(call: Call) -> str | None:
    """Only raw samples need telling; server-sent events carry nothing else."""
    raw = call.arguments["response_format"] == "raw" or call.arguments["stream"] is True
    return (text_of(call.arguments["response_encoding"]) or "pcm_s16le") if raw else None


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
        "sample_rate": lambda call: call.arguments["sample_rate"],
    }
    patches = (
        Patch("together.resources.audio.speech:SpeechResource.create"),
        Patch("together.resources.audio.speech:AsyncSpeechResource.create"),
    )
