"""styletts2: a voice after a recording; an array at once, and a file if one is asked for."""

from ttstrace.call import Call
from ttstrace.instrumentor import Constructed, Patch, TTSInstrumentor


def _cloned(call: Call) -> bool | None:
    """Without a recording, or a style that was computed of one, it speaks as the library's own example."""
    given = call.arguments["target_voice_path"] or call.arguments["ref_s"] is not None
    return True if given else None


class StyleTTS2Instrumentor(TTSInstrumentor):
    name = "styletts2"
    package = "styletts2"
    versions = ">=0.1.6,<1"
    defaults = {
        "provider": "styletts2",
        "model": lambda call: call.constructed.get("model_checkpoint_path"),
        "cloned": _cloned,
        "device": lambda call: call.instance.device,
        # What is asked for by `output_sample_rate` goes into the file's header only.
        "sample_rate": lambda call: call.instance.config["preprocess_params"]["sr"],
    }
    patches = (
        Constructed("styletts2.tts:StyleTTS2.__init__"),
        # A long text goes through both; the outermost is the synthesis.
        Patch("styletts2.tts:StyleTTS2.inference"),
        Patch("styletts2.tts:StyleTTS2.long_inference"),
    )
