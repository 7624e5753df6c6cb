"""silero: models that bring their own code; tensors at once. From PyPI, from torch.hub, or from a file of one's own."""

from ttstrace.call import Call
from ttstrace.instrumentor import Patch, Returned, TTSInstrumentor


def _device(call: Call) -> str | None:
    device = getattr(call.instance, "device", None)
    return None if device is None else str(device)


# The first models have one function for all of them.
_FUNCTION = {
    "device": lambda call: str(call.arguments["device"]),
    "weights": lambda call: call.arguments["model"],
}


class SileroInstrumentor(TTSInstrumentor):
    name = "silero"
    package = "silero"
    versions = ">=0.1,<1"
    alternatives = {"torch": ">=1.12,<3"}  # all that torch.hub and a model's file need
    defaults = {"provider": "silero"}
    patches = (
        # However a model came here, this has unpacked it.
        Returned(
            "torch.package.package_importer:PackageImporter.load_pickle",
            "apply_tts",
            label=lambda call: call.instance.filename,
            model=lambda call: call.label(call.instance),
            voice=lambda call: call.arguments.get("speaker"),
            device=_device,
            # Of either, one is given.
            text=lambda call: next(filter(None, map(call.arguments.get, ("text", "ssml_text", "texts"))), None),
            input_type=lambda call: "ssml" if call.arguments.get("ssml_text") else "text",
        ),
        Patch("silero.tts_utils:apply_tts", **_FUNCTION),
        Patch("src.silero.tts_utils:apply_tts", **_FUNCTION),  # where torch.hub has it
    )
