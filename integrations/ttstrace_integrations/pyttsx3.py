"""pyttsx3: the system's own voices. Texts are queued; `runAndWait` speaks them, or writes the last to a file."""

from ttstrace.call import Call
from ttstrace.instrumentor import Patch, Remembered, TTSInstrumentor


def _spoken(call: Call) -> str:
    """espeak's driver keeps one text: each that is queued replaces the one before."""
    queued = [each["text"] for each in call.remembered]
    return "".join(queued[-1:] if call.instance.driver_name == "espeak" else queued)


def _file(call: Call) -> object:
    queued = call.remembered
    return queued[-1].get("filename") if queued else None


class Pyttsx3Instrumentor(TTSInstrumentor):
    name = "pyttsx3"
    package = "pyttsx3"
    versions = ">=2.90,<3"
    defaults = {
        "provider": "pyttsx3",
        "when": lambda call: bool(call.remembered),
        "model": lambda call: call.instance.driver_name,
        "voice": lambda call: call.instance.getProperty("voice"),
        "device": "cpu",
        "text": _spoken,
        "output": _file,
        "plays": lambda call: _file(call) is None,
    }
    patches = (
        Remembered("pyttsx3.engine:Engine.say"),
        Remembered("pyttsx3.engine:Engine.save_to_file"),
        Patch("pyttsx3.engine:Engine.runAndWait"),
    )
