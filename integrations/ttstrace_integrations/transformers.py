"""transformers: the text-to-speech pipeline, and the models that make speech when they are called directly."""

from ttstrace.call import Call
from ttstrace.instrumentor import Patch, TTSInstrumentor

_MUSIC = {"musicgen", "musicgen_melody", "stable_audio"}


def _spoken(text: object) -> object:
    """A text or a list of them; of a conversation, which roles are spoken is not known here."""
    return text if isinstance(text, str) or (isinstance(text, list) and isinstance(text[0], str)) else None


_PIPELINE = {
    "when": lambda call: getattr(call.instance.model.config, "model_type", None) not in _MUSIC,
    "text": lambda call: _spoken(call.arguments["text_inputs"]),
    "model": lambda call: call.instance.model.config._name_or_path or None,
    "weights": lambda call: call.instance.model,
    "device": lambda call: str(call.instance.device),
}
# These get tokens, not the text. SpeechT5 makes audio with a vocoder only.
_MODEL = {
    "text": lambda call: None,
    "model": lambda call: call.instance.config._name_or_path or None,
}
_SPEECHT5 = {
    **_MODEL,
    "when": lambda call: call.arguments["vocoder"] is not None,
    "sample_rate": lambda call: call.arguments["vocoder"].config.sampling_rate,
}


def _bark_rate(call: Call) -> object:
    return call.instance.generation_config.sample_rate


class TransformersInstrumentor(TTSInstrumentor):
    name = "transformers"
    package = "transformers"
    versions = ">=4.46,<6"
    defaults = {"provider": "transformers", "producer": "pull"}
    patches = (
        Patch("transformers.pipelines.text_to_audio:TextToAudioPipeline.__call__", **_PIPELINE),
        Patch(
            "transformers.models.vits.modeling_vits:VitsModel.forward",
            **_MODEL,
            sample_rate=lambda call: call.instance.config.sampling_rate,
        ),
        Patch("transformers.models.speecht5.modeling_speecht5:SpeechT5ForTextToSpeech.generate_speech", **_SPEECHT5),
        Patch("transformers.models.speecht5.modeling_speecht5:SpeechT5ForTextToSpeech.generate", **_SPEECHT5),
        Patch("transformers.models.bark.modeling_bark:BarkModel.generate", **_MODEL, sample_rate=_bark_rate),
    )
