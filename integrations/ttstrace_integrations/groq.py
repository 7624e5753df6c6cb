"""groq: speech by HTTP, whole or streamed."""

from ttstrace.instrumentor import Patch, TTSInstrumentor
from ttstrace_integrations._stainless import DEFAULTS, voice_of


class GroqInstrumentor(TTSInstrumentor):
    name = "groq"
    package = "groq"
    versions = ">=1,<2"
    defaults = {
        **DEFAULTS,
        "provider": "groq",
        "model": lambda call: call.arguments["model"],
        "voice": lambda call: voice_of(call.arguments["voice"]),
        "text": "input",
    }
    patches = (
        Patch("groq.resources.audio.speech:Speech.create"),
        Patch("groq.resources.audio.speech:AsyncSpeech.create"),
    )
