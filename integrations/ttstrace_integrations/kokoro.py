"""kokoro: a neural voice on torch; a generator of results, one per part of the text."""

from typing import Any

from ttstrace.call import Call
from ttstrace.instrumentor import Patch, TTSInstrumentor

_LANGUAGES = {
    "a": "en-US", "b": "en-GB", "e": "es", "f": "fr-FR", "h": "hi", "i": "it", "j": "ja", "p": "pt-BR", "z": "zh",
}  # fmt: skip


def _model(call: Call) -> Any:
    """What speaks; without one, a pipeline only makes phonemes."""
    return call.arguments["model"] or call.instance.model


def _voice(call: Call) -> object:
    """A name, or several that are mixed; a file's or a tensor's is none."""
    voice = call.arguments["voice"]
    return voice if isinstance(voice, str) and ".pt" not in voice else None


def _phonemes(call: Call) -> str | None:
    """Those that are given as they are; tokens hold text as well, of which the words may be missing."""
    tokens = call.arguments["tokens"]
    return tokens if isinstance(tokens, str) else None


class KokoroInstrumentor(TTSInstrumentor):
    name = "kokoro"
    package = "kokoro"
    versions = ">=0.8,<1"
    defaults = {
        "provider": "kokoro",
        "when": _model,
        "model": lambda call: _model(call).repo_id,
        "voice": _voice,
        "language": lambda call: _LANGUAGES.get(call.instance.lang_code),
        "device": lambda call: str(_model(call).device),
        "weights": _model,
        # The vocoder's own, which no object tells.
        "sample_rate": 24_000,
        "producer": "pull",
    }
    patches = (
        Patch("kokoro.pipeline:KPipeline.__call__", input_type="text"),
        Patch(
            "kokoro.pipeline:KPipeline.generate_from_tokens",
            text=_phonemes,
            input_type=lambda call: "phonemes" if _phonemes(call) is not None else None,
        ),
    )
