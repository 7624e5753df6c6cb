"""kokoro-onnx: a neural voice on onnxruntime; a float32 array at once, or one array per batch of phonemes."""

from ttstrace.call import Call
from ttstrace.instrumentor import Patch, TTSInstrumentor
from ttstrace_integrations._onnx import device


def _voice(call: Call) -> object:
    """A name; a style of the program's own has none."""
    voice = call.arguments["voice"]
    return voice if isinstance(voice, str) else None


class KokoroOnnxInstrumentor(TTSInstrumentor):
    name = "kokoro_onnx"
    package = "kokoro-onnx"
    versions = ">=0.4,<1"
    defaults = {
        "provider": "kokoro",
        "model": lambda call: call.instance.config.model_path,
        "voice": _voice,
        "language": lambda call: call.arguments["lang"],
        "input_type": lambda call: "phonemes" if call.arguments.get("is_phonemes") else "text",
        "device": lambda call: device(call.instance.sess),
    }
    patches = (
        # `create` goes through `create_timed`; the outermost is the synthesis.
        Patch("kokoro_onnx:Kokoro.create"),
        Patch("kokoro_onnx:Kokoro.create_timed", since="0.6"),
        # A task of its own is a batch ahead.
        Patch("kokoro_onnx:Kokoro.create_stream", producer="push"),
    )
