"""py-espeak-ng: the espeak-ng program, run for each text; WAV bytes at once, or spoken."""

from ttstrace.instrumentor import Patch, TTSInstrumentor


class EspeakNGInstrumentor(TTSInstrumentor):
    name = "espeakng"
    package = "py-espeak-ng"
    versions = ">=0.1,<1"
    defaults = {
        "provider": "espeak-ng",
        "text": "txt",
        "voice": lambda call: call.instance.voice,
        "device": "cpu",
    }
    patches = (
        Patch(
            "espeakng:ESpeakNG.synth_wav",
            input_type=lambda call: "phonemes" if call.arguments["fmt"] == "xs" else "text",
        ),
        # It plays, and returns at once unless it is asked to wait.
        Patch("espeakng:ESpeakNG.say", plays=True, audio=lambda call: None),
    )
