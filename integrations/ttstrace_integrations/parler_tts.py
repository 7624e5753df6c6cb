"""parler-tts: a voice that is described in words; a tensor for a batch of prompts, all of which are tokens by then."""

from ttstrace.call import Call
from ttstrace.instrumentor import Patch, TTSInstrumentor


def _audio(call: Call) -> object:
    """Of several prompts, the shorter ones' audio is padded: how long they are, only the whole output tells."""
    made = call.result
    if hasattr(made, "sequences"):
        return [each[:length] for each, length in zip(made.sequences, made["audios_length"], strict=True)]
    return made if len(made) == 1 else None


class ParlerTTSInstrumentor(TTSInstrumentor):
    name = "parler_tts"
    package = "parler-tts"
    versions = ">=0.2.2,<1"
    defaults = {
        "provider": "parler-tts",
        "model": lambda call: call.instance.config._name_or_path or None,
        "text": lambda call: None,
        "sample_rate": lambda call: call.instance.config.sampling_rate,
        "audio": _audio,
    }
    patches = (Patch("parler_tts.modeling_parler_tts:ParlerTTSForConditionalGeneration.generate"),)
