"""chatterbox-tts: three models on torch; a tensor of one channel, on the CPU."""

from ttstrace.instrumentor import Patch, TTSInstrumentor


class ChatterboxInstrumentor(TTSInstrumentor):
    name = "chatterbox"
    package = "chatterbox-tts"
    versions = ">=0.1,<1"
    defaults = {
        "provider": "chatterbox",
        # Weights come from a folder of the cache or of the program's own: the class says which model they are of.
        "model": lambda call: type(call.instance).__name__,
        "input_type": "text",
        "device": lambda call: str(call.instance.device),
        # Without one, the voice is the built-in one or that of an earlier call.
        "cloned": lambda call: True if call.arguments["audio_prompt_path"] else None,
    }
    patches = (
        Patch("chatterbox.tts:ChatterboxTTS.generate"),
        Patch("chatterbox.tts_turbo:ChatterboxTurboTTS.generate"),
        Patch(
            "chatterbox.mtl_tts:ChatterboxMultilingualTTS.generate",
            language=lambda call: call.arguments["language_id"],
        ),
    )
