"""typecast-python: a response whole, or a generator of audio bytes."""

from ttstrace.instrumentor import Patch, TTSInstrumentor


class TypecastInstrumentor(TTSInstrumentor):
    name = "typecast"
    package = "typecast-python"
    versions = ">=0.5,<1"
    defaults = {
        "provider": "typecast",
        "remote": True,
        "producer": "push",
        "text": lambda call: call.arguments["request"].text,
        "model": lambda call: str(call.arguments["request"].model.value),
        "voice": lambda call: call.arguments["request"].voice_id,
        "language": lambda call: call.arguments["request"].language,
        "server": lambda call: call.instance.host,
    }
    patches = (
        Patch("typecast.client:Typecast.text_to_speech"),
        Patch("typecast.client:Typecast.text_to_speech_stream"),
        Patch("typecast.async_client:AsyncTypecast.text_to_speech"),
        Patch("typecast.async_client:AsyncTypecast.text_to_speech_stream"),
    )
