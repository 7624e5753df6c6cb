"""qwen-tts: named, cloned and designed voices on torch; a list of arrays, one per text, and their rate."""

from ttstrace.call import Call
from ttstrace.instrumentor import Patch, TTSInstrumentor

_LANGUAGES = {
    "chinese": "zh", "english": "en", "french": "fr", "german": "de", "italian": "it", "japanese": "ja",
    "korean": "ko", "portuguese": "pt", "russian": "ru", "spanish": "es",
}  # fmt: skip


def _one(call: Call, argument: str) -> str | None:
    """What holds for all texts of a batch; of several there is none to tell."""
    value = call.arguments.get(argument)
    return value if isinstance(value, str) else None


class QwenTTSInstrumentor(TTSInstrumentor):
    name = "qwen_tts"
    package = "qwen-tts"
    versions = ">=0.0.2,<1"
    defaults = {
        "provider": "qwen",
        "model": lambda call: call.instance.model.config._name_or_path or None,
        "text": "text",
        "input_type": "text",
        "voice": lambda call: _one(call, "speaker"),
        "language": lambda call: _LANGUAGES.get((_one(call, "language") or "").lower()),
        "weights": lambda call: call.instance.model,
    }
    patches = (
        Patch("qwen_tts.inference.qwen3_tts_model:Qwen3TTSModel.generate_custom_voice"),
        Patch("qwen_tts.inference.qwen3_tts_model:Qwen3TTSModel.generate_voice_design"),
        Patch("qwen_tts.inference.qwen3_tts_model:Qwen3TTSModel.generate_voice_clone", cloned=True),
    )
