"""kittentts: a small neural voice on onnxruntime; a float32 array at once."""

from ttstrace.instrumentor import Patch, TTSInstrumentor
from ttstrace_integrations._onnx import device


class KittenTTSInstrumentor(TTSInstrumentor):
    name = "kittentts"
    package = "kittentts"
    versions = ">=0.1,<1"
    defaults = {
        "provider": "kittentts",
        "model": lambda call: getattr(call.instance._session, "_model_path", None),
        "voice": lambda call: call.arguments["voice"],
        "language": lambda call: call.instance._phonemizer.language,
        "device": lambda call: device(call.instance._session),
        "sample_rate": 24_000,  # no object has it: it is what the library's documentation writes its files with
    }
    patches = (Patch("kittentts:KittenTTS.generate"),)
