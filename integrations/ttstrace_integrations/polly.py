"""Amazon Polly through botocore (boto3) and aiobotocore: a response whose audio is read from a lazy stream."""

from typing import Any

from ttstrace.call import Call
from ttstrace.instrumentor import Patch, TTSInstrumentor

_PCM_RATE = 16_000  # where the request names none; what is encoded says it itself


def _asked(call: Call) -> Any:
    return call.arguments["api_params"]


def _is_raw(call: Call) -> bool:
    return bool(_asked(call).get("OutputFormat") == "pcm")


def _is_synthesis(call: Call) -> bool:
    """The method makes the calls of every service."""
    if call.arguments["operation_name"] != "SynthesizeSpeech" or _asked(call).get("OutputFormat") == "json":
        return False
    return bool(call.instance.meta.service_model.service_name == "polly")


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
        "server": lambda call: call.instance.meta.endpoint_url,
    }
    patches = (
        # Everything that reads the body goes through the stream inside it.
        Patch(
            "botocore.client:BaseClient._make_api_call", body=lambda call: (call.result["AudioStream"], "_raw_stream")
        ),
        Patch("aiobotocore.client:AioBaseClient._make_api_call", body=lambda call: (call.result, "AudioStream")),
    )
