"""omnivoice: one voice model for many languages on torch; a list of arrays, one per text."""

from ttstrace.call import Call
from ttstrace.instrumentor import Labelled, Patch, TTSInstrumentor


def _language(call: Call) -> str | None:
    """The code of ISO 639, where it is one; languages can be given by name as well, and one for each text."""
    language = call.arguments["language"]
    return language if isinstance(language, str) and len(language) <= 3 and language.islower() else None


def _cloned(call: Call) -> bool | None:
    given = call.arguments["ref_audio"], call.arguments["voice_clone_prompt"]
    return True if any(each is not None for each in given) else None


class OmniVoiceInstrumentor(TTSInstrumentor):
    name = "omnivoice"
    package = "omnivoice"
    versions = ">=0.1,<1"
    defaults = {
        "provider": "omnivoice",
        "model": lambda call: call.label(call.instance),
        "text": "text",
        "input_type": "text",
        "language": _language,
        "cloned": _cloned,
    }
    patches = (
        Labelled("omnivoice.models.omnivoice:OmniVoice.from_pretrained", by="pretrained_model_name_or_path"),
        Patch("omnivoice.models.omnivoice:OmniVoice.generate"),
    )
