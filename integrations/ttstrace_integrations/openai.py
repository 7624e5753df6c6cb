"""openai: speech by HTTP, whole or streamed, of OpenAI and of servers that speak its protocol."""

from ttstrace.call import Call
from ttstrace.instrumentor import Patch, TTSInstrumentor
from ttstrace_integrations._stainless import DEFAULTS, voice_of


def _format(call: Call) -> str | None:
    """Only raw samples need telling: 24 kHz, 16 bits, one channel."""
    return "pcm_24000" if call.arguments["response_format"] == "pcm" else None


class OpenAIInstrumentor(TTSInstrumentor):
    name = "openai"
    package = "openai"
    versions = ">=2,<4"
    defaults = {
        **DEFAULTS,
        "provider": "openai",
        "model": lambda call: call.arguments["model"],
        "voice": lambda call: voice_of(call.arguments["voice"]),
        "text": "input",
        "format": _format,
    }
    patches = (
        Patch("openai.resources.audio.speech:Speech.create"),
        Patch("openai.resources.audio.speech:AsyncSpeech.create"),
    )
