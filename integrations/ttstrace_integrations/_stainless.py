"""What the SDKs that Stainless generates have in common: openai, groq, together, cartesia.

A response came whole, or (`with_streaming_response`) is read by the program, through the HTTP response's stream
whichever of the many methods reads it. The streaming and the raw forms go through the same resource method.
"""

from typing import Any

from ttstrace.call import Call


def text_of(value: object) -> str | None:
    """A str; the SDKs' sentinels for what was not given are none."""
    return value if isinstance(value, str) else None


def _http_response(call: Call) -> Any:
    result = call.result
    return getattr(result, "http_response", None) or getattr(result, "response", None)


def is_encoded(response: Any) -> bool:
    """Whether a body is encoded in transport, by gzip or the like: what its stream gives is then not the audio yet."""
    return bool(response.headers.get("content-encoding", "identity") != "identity")


def _is_events(response: Any) -> bool:
    """Server-sent events, read as they are: the audio is somewhere in their text."""
    return bool(response.headers.get("content-type", "").startswith("text/event-stream"))


def _body(call: Call) -> tuple[Any, str] | None:
    response = _http_response(call)
    cls = type(call.result)
    if response is None or response.is_stream_consumed or hasattr(cls, "__next__") or hasattr(cls, "__anext__"):
        return None  # whole; or events, which end before the stream does
    return response, "stream"


def audio(call: Call) -> object:
    response = _http_response(call)
    if response is not None and _is_events(response):
        return None
    if call.chunk is not None:
        return None if response is not None and is_encoded(response) else call.chunk
    return call.result if response is None else response.content


def voice_of(voice: object) -> str | None:
    """A voice given by name, or as `{"id": ...}`."""
    return text_of(voice.get("id")) if isinstance(voice, dict) else text_of(voice)


DEFAULTS = {
    "remote": True,
    "producer": "push",
    "server": lambda call: str(call.instance._client.base_url),
    "body": _body,
    "audio": audio,
}
