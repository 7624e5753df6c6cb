"""Amazon Polly through botocore (boto3) and aiobotocore: a response whose audio is read from a lazy stream."""

from typing import Any

from ttstrace.call import Call
from ttstrace.instrumentor import Made, Patch, TTSInstrumentor

_PCM_RATE = 16_000  # where the request names none; what is encoded says it itself


def _asked(call: Call) -> Any:
    """The request: of the method itself its arguments, of what all methods go through one of them."""
    return call.arguments.get("api_params", call.arguments)


def _is_raw(call: Call) -> bool:
    return bool(_asked(call).get("OutputFormat") == "pcm")


def _is_synthesis(call: Call) -> bool:
    """What all methods go through makes the calls of every service."""
    operation = call.arguments.get("operation_name", "SynthesizeSpeech")
    if operation != "SynthesizeSpeech" or _asked(call).get("OutputFormat") == "json":
        return False
    return bool(call.instance.meta.service_model.service_name == "polly")


def _body(call: Call) -> tuple[Any, str] | None:
    """Everything that reads the body goes through the stream: botocore's inside its own, aiobotocore's as it is."""
    if not isinstance(call.result, dict):
        return None  # aiobotocore's is yet to be awaited
    stream = call.result["AudioStream"]
    return (call.result, "AudioStream") if hasattr(stream, "__aiter__") else (stream, "_raw_stream")


class PollyInstrumentor(TTSInstrumentor):
    name = "polly"
    package = "botocore"
    versions = ">=1.31,<2"
    defaults = {
        "provider": "aws.polly",
        "remote": True,
        "producer": "push",
        "when": _is_synthesis,
        "text": lambda call: _asked(call).get("Text"),
        "input_type": lambda call: _asked(call).get("TextType", "text"),
        "model": lambda call: _asked(call).get("Engine"),
        "voice": lambda call: _asked(call).get("VoiceId"),
        "language": lambda call: _asked(call).get("LanguageCode"),
        "format": lambda call: "pcm_s16le" if _is_raw(call) else None,
        "sample_rate": lambda call: int(_asked(call).get("SampleRate", _PCM_RATE)) if _is_raw(call) else None,
        "usage_characters": lambda call: call.result.get("RequestCharacters"),
        "body": _body,
        "server": lambda call: call.instance.meta.endpoint_url,
    }
    patches = (
        # The method goes through `_make_api_call`, and is the synthesis. What is called on a client that was there
        # before has only the latter, outside or inside of what others may have put there.
        Made("botocore.client:ClientCreator._create_api_method", "botocore.client.Polly.synthesize_speech"),
        Patch("botocore.client:BaseClient._make_api_call"),
        Patch("aiobotocore.client:AioBaseClient._make_api_call"),
    )
