"""pocket-tts: a small voice on torch for the CPU; a tensor at once, or a generator of tensors."""

from ttstrace.instrumentor import Labelled, Patch, TTSInstrumentor


class PocketTTSInstrumentor(TTSInstrumentor):
    name = "pocket_tts"
    package = "pocket-tts"
    versions = ">=1,<5"
    defaults = {
        "provider": "pocket-tts",
        # The configuration's path, by which models are told apart; before 2.0 there was one.
        "model": lambda call: getattr(call.instance, "origin", None),
        "voice": lambda call: call.label(call.arguments["model_state"]),
        "text": "text_to_generate",
        "input_type": "text",
        "device": lambda call: str(call.instance.device),
        # Threads of its own are ahead of the consumer.
        "producer": "push",
    }
    patches = (
        Labelled("pocket_tts.models.tts_model:TTSModel.get_state_for_audio_prompt", by="audio_conditioning"),
        # The first goes through the second; the outermost is the synthesis.
        Patch("pocket_tts.models.tts_model:TTSModel.generate_audio"),
        Patch("pocket_tts.models.tts_model:TTSModel.generate_audio_stream"),
    )
