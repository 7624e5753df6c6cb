"""voxcpm: a tokenizer-free voice on torch; an array at once, or a generator of arrays."""

import os

from ttstrace.call import Call
from ttstrace.instrumentor import Labelled, Patch, TTSInstrumentor


def _given(call: Call, position: int, name: str) -> object:
    """One of the arguments, which are handed through unnamed."""
    args = call.arguments.get("args", ())
    return args[position] if len(args) > position else call.arguments.get(name)


def _cloned(call: Call) -> bool | None:
    # Before 2.0, what stands fourth is a number.
    paths = _given(call, 1, "prompt_wav_path"), _given(call, 3, "reference_wav_path")
    return True if any(isinstance(path, (str, os.PathLike)) for path in paths) else None


class VoxCPMInstrumentor(TTSInstrumentor):
    name = "voxcpm"
    package = "voxcpm"
    versions = ">=1.0.4,<3"
    defaults = {
        "provider": "voxcpm",
        "model": lambda call: call.label(call.instance),
        "text": lambda call: _given(call, 0, "text"),
        "input_type": "text",
        "cloned": _cloned,
        "sample_rate": lambda call: call.instance.tts_model.sample_rate,
        "device": lambda call: str(call.instance.tts_model.device),
        "weights": lambda call: call.instance.tts_model,
        "producer": "pull",
    }
    patches = (
        Labelled("voxcpm.core:VoxCPM.from_pretrained", by="hf_model_id"),
        Patch("voxcpm.core:VoxCPM.generate"),
        Patch("voxcpm.core:VoxCPM.generate_streaming"),
    )
