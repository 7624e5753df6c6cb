"""piper-tts: neural voices on onnxruntime; a generator of chunk objects, one per sentence, or a WAV file."""

from ttstrace.instrumentor import Patch, TTSInstrumentor
from ttstrace_integrations._onnx import device


class PiperInstrumentor(TTSInstrumentor):
    name = "piper"
    package = "piper-tts"
    versions = ">=1.3,<2"
    defaults = {
        "provider": "piper",
        # A model that was loaded from memory has no path.
        "model": lambda call: getattr(call.instance.session, "_model_path", None),
        "voice": lambda call: getattr(call.arguments.get("syn_config"), "speaker_id", None),
        "language": lambda call: call.instance.config.espeak_voice,
        "device": lambda call: device(call.instance.session),
        "producer": "pull",
    }
    # `synthesize_wav` goes through `synthesize`; the outermost is the synthesis.
    patches = (
        Patch("piper.voice:PiperVoice.synthesize"),
        Patch("piper.voice:PiperVoice.synthesize_wav"),
    )
