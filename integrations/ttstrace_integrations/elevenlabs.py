"""elevenlabs: generators of audio bytes, or of audio with timestamps, that send the request with the first pull."""

from ttstrace.instrumentor import Patch, TTSInstrumentor


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
        "server": lambda call: call.instance._raw_client._client_wrapper.get_base_url(),
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
