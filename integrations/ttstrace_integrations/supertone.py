"""supertone: a response whose audio is yet to be read, or came whole with its phonemes."""

from typing import Any

from ttstrace.call import Call
from ttstrace.instrumentor import Patch, TTSInstrumentor
from ttstrace_integrations._stainless import is_encoded


def _body(call: Call) -> tuple[Any, str] | None:
    response = call.result.result
    return (response, "stream") if hasattr(response, "is_stream_consumed") else None


def _audio(call: Call) -> object:
    if call.chunk is None:
        return call.result.result
    return None if is_encoded(call.result.result) else call.chunk


class SupertoneInstrumentor(TTSInstrumentor):
    name = "supertone"
    package = "supertone"
    versions = ">=0.1,<1"
    defaults = {
        "provider": "supertone",
        "remote": True,
        "producer": "push",
        "text": "text",
        "model": lambda call: call.arguments["model"],
        "voice": lambda call: call.arguments["voice_id"],
        "language": lambda call: call.arguments["language"],
        "server": lambda call: call.arguments["server_url"] or call.instance._get_url(None, None),
        "body": _body,
        "audio": _audio,
    }
    # Longer texts the library sends in several requests: each is a synthesis.
    patches = (
        Patch("supertone.text_to_speech:TextToSpeech.create_speech"),
        Patch("supertone.text_to_speech:TextToSpeech.create_speech_async"),
        Patch("supertone.text_to_speech:TextToSpeech.stream_speech"),
        Patch("supertone.text_to_speech:TextToSpeech.stream_speech_async"),
    )
