"""pyttsx3: the system's own voices. Texts are queued; `runAndWait` speaks them, or writes them to files."""

from ttstrace.call import Call
from ttstrace.instrumentor import Patch, Remembered, TTSInstrumentor

_Utterance = tuple[str, str | None]  # the text, and the file it goes to; None: the loudspeaker


def _utterances(call: Call) -> list[_Utterance]:
    """What this run of the loop speaks."""
    remembered = call.remembered  # also where the driver is asked instead: what is read is not kept any longer
    if call.instance.driver_name == "espeak":
        return _espeak_utterance(call)
    given = [(str(each["text"] or ""), each.get("filename")) for each in remembered]
    return [(text, file) for text, file in given if text.strip()]


def _espeak_utterance(call: Call) -> list[_Utterance]:
    """espeak's driver keeps one text and one file: each that is queued replaces the one before, and both stay for
    the next run, so that what was once saved to a file goes to that file for good."""
    proxy = call.instance.proxy
    text, file = proxy._driver._text_to_say, proxy._driver._save_file
    for command, arguments, _ in proxy._queue:
        if command.__name__ == "say":
            (text,) = arguments
        elif command.__name__ == "save_to_file":
            text, file = arguments
    return [(str(text), file)] if text else []


def _file(call: Call) -> str | None:
    spoken = _utterances(call)
    return spoken[0][1] if len(spoken) == 1 else None


def _is_not_timed(call: Call) -> bool:
    """What is played takes playback's time. And espeak works in a thread of its own, for which the first run of an
    engine's loop does not wait."""
    played = any(file is None for _, file in _utterances(call))
    return played or getattr(call.instance.proxy._driver, "_speaking", False) is True


class Pyttsx3Instrumentor(TTSInstrumentor):
    name = "pyttsx3"
    package = "pyttsx3"
    versions = ">=2.99,<3"
    defaults = {
        "provider": "pyttsx3",
        "when": lambda call: bool(_utterances(call)),
        "model": lambda call: call.instance.driver_name,
        # A voice that was set is queued as well: it holds once the loop has run.
        "voice": lambda call: call.instance.getProperty("voice") if call.returned else None,
        "device": "cpu",
        "text": lambda call: "".join(text for text, _ in _utterances(call)),
        "output": _file,
        "plays": _is_not_timed,
    }
    patches = (
        Remembered("pyttsx3.engine:Engine.say"),
        Remembered("pyttsx3.engine:Engine.save_to_file"),
        Patch("pyttsx3.engine:Engine.runAndWait"),
    )
