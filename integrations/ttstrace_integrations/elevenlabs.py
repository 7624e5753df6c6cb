"""elevenlabs: generators of audio bytes, or of audio with timestamps, that send the request with the first pull."""

from ttstrace.call import Call
from ttstrace.instrumentor import Patch, TTSInstrumentor


def _server(call: Call) -> str:
    """Later versions of 2 keep one URL where the first keep an environment of them."""
    client = call.instance._raw_client._client_wrapper
    return str(client.get_base_url() if hasattr(client, "get_base_url") else client.get_environment().base)


class ElevenLabsInstrumentor(TTSInstrumentor):
    name = "elevenlabs"
    package = "elevenlabs"
    versions = ">=2,<3"
    defaults = {
        "provider": "elevenlabs",
        "remote": True,
        "producer": "push",
        "model": lambda call: call.arguments["model_id"],
        "voice": lambda call: call.arguments["voice_id"],
        "language": lambda call: call.arguments.get("language_code"),
        "format": lambda call: call.arguments["output_format"],
        "server": _server,
    }
    patches = (
        Patch("elevenlabs.text_to_speech.client:TextToSpeechClient.convert"),
        Patch("elevenlabs.text_to_speech.client:TextToSpeechClient.stream"),
        Patch("elevenlabs.text_to_speech.client:TextToSpeechClient.convert_with_timestamps"),
        Patch("elevenlabs.text_to_speech.client:TextToSpeechClient.stream_with_timestamps"),
        Patch("elevenlabs.text_to_speech.client:AsyncTextToSpeechClient.convert"),
        Patch("elevenlabs.text_to_speech.client:AsyncTextToSpeechClient.stream"),
        Patch("elevenlabs.text_to_speech.client:AsyncTextToSpeechClient.convert_with_timestamps"),
        Patch("elevenlabs.text_to_speech.client:AsyncTextToSpeechClient.stream_with_timestamps"),
        Patch("elevenlabs.realtime_tts:RealtimeTextToSpeechClient.convert_realtime"),
    )
