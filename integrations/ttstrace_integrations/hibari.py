"""hibari-tts: a small neural voice on onnxruntime; a float32 array at once, or one array per sentence."""

from ttstrace.instrumentor import Patch, TTSInstrumentor


class HibariInstrumentor(TTSInstrumentor):
    name = "hibari"
    package = "hibari-tts"
    versions = ">=0.2,<1"
    defaults = {
        "provider": "hibari",
        "model": lambda call: call.instance.model_path,
        "voice": lambda call: call.instance.voice,
        "language": "en",
        "device": "cpu",
        "producer": "pull",
    }
    # `__call__` and `save` go through `stream`; the outermost is the synthesis.
    patches = (
        Patch("hibari.tts:Hibari.__call__"),
        Patch("hibari.tts:Hibari.stream"),
        Patch("hibari.tts:Hibari.save"),
    )
