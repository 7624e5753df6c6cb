"""piper-tts: neural voices on onnxruntime; a generator of chunk objects, one per sentence, or a WAV file."""

from ttstrace.call import Call
from ttstrace.instrumentor import Patch, TTSInstrumentor

_DEVICES = {"CPUExecutionProvider": "cpu", "CUDAExecutionProvider": "cuda"}


def _device(call: Call) -> str | None:
    """What onnxruntime tries first; another provider's device has no name here."""
    return _DEVICES.get(call.instance.session.get_providers()[0])


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
        "device": _device,
        "producer": "pull",
    }
    # `synthesize_wav` goes through `synthesize`; the outermost is the synthesis.
    patches = (
        Patch("piper.voice:PiperVoice.synthesize"),
        Patch("piper.voice:PiperVoice.synthesize_wav"),
    )
