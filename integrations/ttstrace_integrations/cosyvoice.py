"""CosyVoice, run from its source tree: generators of tensors, one for each text that it splits off, or each block."""

from ttstrace.call import Call
from ttstrace.instrumentor import Patch, TTSInstrumentor


def _recording(call: Call) -> object:
    """What is given to be imitated, which another name is used for since the third version."""
    given = call.arguments.get("prompt_wav", call.arguments.get("prompt_speech_16k"))
    return None if isinstance(given, str) and not given else given


class CosyVoiceInstrumentor(TTSInstrumentor):
    name = "cosyvoice"
    source_tree = "cosyvoice"
    defaults = {
        "provider": "cosyvoice",
        # Where it streams, the language model runs ahead in a thread of its own.
        "producer": lambda call: "push" if call.arguments["stream"] else "pull",
        "text": "tts_text",
        "model": lambda call: call.instance.model_dir,
        # Somebody who was enrolled.
        "voice": lambda call: call.arguments.get("spk_id") or call.arguments.get("zero_shot_spk_id") or None,
        "cloned": lambda call: None if _recording(call) is None else True,
        "weights": lambda call: call.instance.model,
        "device": lambda call: str(call.instance.model.device),
    }
    patches = (
        Patch("cosyvoice.cli.cosyvoice:CosyVoice.inference_sft"),
        Patch("cosyvoice.cli.cosyvoice:CosyVoice.inference_zero_shot"),
        Patch("cosyvoice.cli.cosyvoice:CosyVoice.inference_cross_lingual"),
        Patch("cosyvoice.cli.cosyvoice:CosyVoice.inference_instruct"),
        Patch("cosyvoice.cli.cosyvoice:CosyVoice2.inference_instruct2"),
    )
