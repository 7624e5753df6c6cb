"""melotts: VITS with a BERT for several languages; an array at once, or a file."""

from ttstrace.call import Call
from ttstrace.instrumentor import Patch, TTSInstrumentor


def _voice(call: Call) -> object:
    """The speaker's name, by which programs find the number that is given."""
    number = call.arguments["speaker_id"]
    names = [name for name, each in call.instance.hps.data.spk2id.items() if each == number]
    return names[0] if len(names) == 1 else number


class MeloTTSInstrumentor(TTSInstrumentor):
    name = "melotts"
    package = "melotts"
    versions = ">=0.1,<1"
    defaults = {
        "provider": "melotts",
        "voice": _voice,
        "language": lambda call: call.instance.language,
        "sample_rate": lambda call: call.instance.hps.data.sampling_rate,
        "device": lambda call: call.instance.device,
    }
    patches = (Patch("melo.api:TTS.tts_to_file"),)
