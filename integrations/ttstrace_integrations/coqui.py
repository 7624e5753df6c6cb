"""coqui-tts, and TTS, from which it was forked: many kinds of models on torch; samples, a file, or XTTS' stream."""

from ttstrace.call import Call
from ttstrace.instrumentor import Patch, TTSInstrumentor


def _model(call: Call) -> object:
    """The name, or the file. With a voice converter that was loaded on the way, the name is the converter's."""
    name = call.instance.model_name
    return name if name and "voice_conversion_models" not in name else call.instance.synthesizer.tts_checkpoint


_API = {
    "model": _model,
    "voice": lambda call: call.arguments["speaker"],
    "language": lambda call: call.arguments["language"],
    "cloned": lambda call: True if call.arguments["speaker_wav"] else None,
    "weights": lambda call: call.instance.synthesizer.tts_model,
    "sample_rate": lambda call: call.instance.synthesizer.output_sample_rate,
}
# What is converted to another voice comes from the converter, which may be loaded by the call.
_CONVERTED = {**_API, "sample_rate": lambda call: call.instance.voice_converter.output_sample_rate}
_XTTS = {
    "model": lambda call: call.instance.config.model,
    "language": lambda call: call.arguments["language"],
    "sample_rate": lambda call: call.instance.args.output_sample_rate,
}


class CoquiInstrumentor(TTSInstrumentor):
    name = "coqui"
    package = "coqui-tts"
    versions = ">=0.22.1,<1"
    alternatives = {"TTS": ">=0.21,<1"}
    defaults = {"provider": "coqui", "producer": "pull"}
    patches = (
        # Each goes through those above it; the outermost is the synthesis.
        Patch("TTS.tts.models.xtts:Xtts.inference", **_XTTS),
        Patch("TTS.tts.models.xtts:Xtts.inference_stream", **_XTTS),
        Patch("TTS.api:TTS.tts", **_API),
        Patch("TTS.api:TTS.tts_to_file", **_API),
        Patch("TTS.api:TTS.tts_with_vc", **_CONVERTED),
        Patch("TTS.api:TTS.tts_with_vc_to_file", **_CONVERTED),
    )
