"""f5-tts: a voice cloned from a recording, on torch; samples, rate and spectrogram at once."""

from ttstrace.instrumentor import Constructed, Patch, TTSInstrumentor


class F5TTSInstrumentor(TTSInstrumentor):
    name = "f5_tts"
    package = "f5-tts"
    versions = ">=1,<2"
    defaults = {
        "provider": "f5-tts",
        # Weights of the program's own are named by their file.
        "model": lambda call: call.constructed.get("ckpt_file") or call.constructed.get("model"),
        "text": "gen_text",
        "input_type": "text",
        "device": lambda call: str(call.instance.device),
        "cloned": True,
    }
    patches = (Constructed("f5_tts.api:F5TTS.__init__"), Patch("f5_tts.api:F5TTS.infer"))
