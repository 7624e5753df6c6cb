"""Azure's Speech SDK: futures of its own kind, results that say a failure, and audio that is read from a stream."""

import asyncio
import re
import sys
from typing import Any

from ttstrace.call import Call
from ttstrace.exceptions import Failure
from ttstrace.instrumentor import Opened, Patch, Pulled, Saved, TTSInstrumentor

_FORMAT = "riff-16khz-16bit-mono-pcm"  # what the SDK has where the program sets none
_SSML_VOICE = re.compile(r"""<voice\b[^>]*?\sname\s*=\s*["']([^"']+)["']""")
_SSML_LANGUAGE = re.compile(r"""<speak\b[^>]*?\sxml:lang\s*=\s*["']([^"']+)["']""")


def _property(holder: Any, name: str) -> str | None:
    """What a synthesizer, a result or a stream says of itself."""
    known = sys.modules["azure.cognitiveservices.speech"].PropertyId
    return holder.properties.get_property(known[name]) or None


def _setting(call: Call, name: str) -> str | None:
    return _property(call.instance, f"SpeechServiceConnection_{name}")


def _server(call: Call) -> str | None:
    """The URL is there once the SDK has connected; before, only where the program gave one."""
    return _setting(call, "Url") or _setting(call, "Endpoint") or _setting(call, "Host")


def _format(call: Call) -> str:
    """What is streamed has no header; a whole result has one, and says itself what it is."""
    return (_setting(call, "SynthOutputFormat") or _FORMAT).replace("riff", "raw")


def _seconds(call: Call) -> float | None:
    """From the request to the last audio, whenever the program asks and however long it is played: the SDK knows."""
    milliseconds = _property(call.result, "SpeechServiceResponse_SynthesisFinishLatencyMs")
    return None if milliseconds is None else int(milliseconds) / 1000


def _only(pattern: re.Pattern[str], call: Call) -> str | None:
    found = set(pattern.findall(call.arguments["ssml"]))
    return found.pop() if len(found) == 1 else None


def _failure(call: Call) -> BaseException | None:
    details = call.result.cancellation_details
    if details is None:
        return None
    if details.reason.name == "CancelledByUser":
        return asyncio.CancelledError()
    return Failure(details.error_code.name, details.error_details)


_SSML = {
    "input_type": "ssml",
    "voice": lambda call: _only(_SSML_VOICE, call),
    "language": lambda call: _only(_SSML_LANGUAGE, call),
}
_STARTS = {"continues": lambda call: call.result.reason.name == "SynthesizingAudioStarted"}
_SYNTHESIZER = "azure.cognitiveservices.speech.speech:SpeechSynthesizer."
_STREAM = "azure.cognitiveservices.speech.speech:AudioDataStream."


class AzureInstrumentor(TTSInstrumentor):
    name = "azure"
    package = "azure-cognitiveservices-speech"
    versions = ">=1.37,<2"
    defaults = {
        "provider": "azure.ai.speech",
        "remote": True,
        "producer": "push",
        "wait": "get",
        "failed": _failure,
        "duration": _seconds,
        "input_type": "text",
        "voice": lambda call: _setting(call, "SynthVoice"),
        "language": lambda call: _setting(call, "SynthLanguage"),
        "format": _format,
        "server": _server,
    }
    patches = (
        # The blocking forms go through these.
        Patch(_SYNTHESIZER + "speak_text_async"),
        Patch(_SYNTHESIZER + "speak_ssml_async", **_SSML),
        Patch(_SYNTHESIZER + "speak_async", duration=lambda call: None),  # waits for text that is yet to be written
        Patch(_SYNTHESIZER + "start_speaking_text_async", **_STARTS),
        Patch(_SYNTHESIZER + "start_speaking_ssml_async", **_STARTS, **_SSML),
        Opened(_STREAM + "__init__", of="result"),
        Pulled(_STREAM + "read_data", into="audio_buffer", end=lambda stream: stream.position),
        Saved(_STREAM + "save_to_wav_file", to="file_name"),
    )
