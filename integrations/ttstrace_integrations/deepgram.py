"""deepgram-sdk: generators of audio bytes that send the request with the first pull."""

from ttstrace.instrumentor import Patch, TTSInstrumentor

_ENCODINGS = {"linear16": "pcm_s16le", "mulaw": "ulaw", "alaw": "alaw"}


class DeepgramInstrumentor(TTSInstrumentor):
    name = "deepgram"
    package = "deepgram-sdk"
    versions = ">=5,<8"
    defaults = {
        "provider": "deepgram",
        "remote": True,
        "producer": "push",
        "model": lambda call: call.arguments["model"],
        "format": lambda call: _ENCODINGS.get(call.arguments["encoding"]),
        "sample_rate": lambda call: call.arguments["sample_rate"],
        "server": lambda call: call.instance._raw_client._client_wrapper.get_environment().base,
    }
    patches = (
        Patch("deepgram.speak.v1.audio.client:AudioClient.generate"),
        Patch("deepgram.speak.v1.audio.client:AsyncAudioClient.generate"),
        Patch("deepgram.speak.v2.audio.client:AudioClient.generate"),
        Patch("deepgram.speak.v2.audio.client:AsyncAudioClient.generate"),
    )
