"""supertonic: a neural voice on onnxruntime, for 31 languages; a float32 array at once."""

from ttstrace.instrumentor import Labelled, Patch, TTSInstrumentor
from ttstrace_integrations._onnx import device


class SupertonicInstrumentor(TTSInstrumentor):
    name = "supertonic"
    package = "supertonic"
    versions = ">=1.1,<2"
    defaults = {
        "provider": "supertonic",
        "model": lambda call: call.instance.model_name,
        "voice": lambda call: call.label(call.arguments["voice_style"]),
        "language": lambda call: call.arguments.get("lang"),
        "device": lambda call: device(call.instance.model.vocoder_ort),
        # The second of the two is a duration, which need not be the array's.
        "audio": lambda call: call.result[0],
    }
    patches = (
        Labelled("supertonic.pipeline:TTS.get_voice_style", by="voice_name"),
        # `__call__` goes through `synthesize`; the outermost is the synthesis.
        Patch("supertonic.pipeline:TTS.__call__"),
        Patch("supertonic.pipeline:TTS.synthesize"),
    )
