"""dashscope: CosyVoice by a websocket: bytes whole, or to a callback that was given to the constructor."""

from typing import Any

from ttstrace.call import Call
from ttstrace.instrumentor import Patch, Told, TTSInstrumentor


def _audio(call: Call) -> object:
    message = call.arguments["message"]
    return message if isinstance(message, bytes) and call.instance.async_call else None


def _ends(call: Call) -> bool | BaseException:
    """Without a callback, it is the call that ends it."""
    failure: BaseException | None = call.instance._receiver_error
    return failure or bool(call.instance.async_call and call.instance.complete_event.is_set())


def _usage(call: Call) -> Any:
    """The last message, which tells it, is before the end that of the synthesis before."""
    told = call.instance.last_response if call.returned else None
    return told["payload"].get("usage", {}).get("characters") if told else None


def _is_raw(call: Call) -> bool:
    return bool(call.instance.aformat == "pcm")


_SPEAKER = "dashscope.audio.tts_v2.speech_synthesizer:SpeechSynthesizer"


class DashScopeInstrumentor(TTSInstrumentor):
    name = "dashscope"
    package = "dashscope"
    versions = ">=1.27,<3"
    defaults = {
        "provider": "dashscope",
        "remote": True,
        "producer": "push",
        "model": lambda call: call.instance.model,
        "voice": lambda call: call.instance.voice,
        "language": lambda call: (call.instance.request.language_hints or [None])[0],
        "format": lambda call: "pcm_s16le" if _is_raw(call) else None,
        "sample_rate": lambda call: call.instance.sample_rate if _is_raw(call) else None,
        "usage_characters": _usage,
        "server": lambda call: call.instance.url,
        "told": lambda call: call.instance.async_call,
    }
    patches = (
        Patch(f"{_SPEAKER}.call"),
        Patch(f"{_SPEAKER}.streaming_call"),
        # These begin nothing: they say that there is no more text.
        Patch(f"{_SPEAKER}.streaming_complete", when=lambda call: False),
        Patch(f"{_SPEAKER}.async_streaming_complete", when=lambda call: False),
        Told(f"{_SPEAKER}.on_message", audio=_audio, ends=_ends),
        Told(f"{_SPEAKER}.streaming_cancel", interrupts=True),
    )
