"""litellm: speech of many services behind one function, which goes through their SDKs or by HTTP of its own."""

import sys
from typing import Any

from ttstrace.call import Call
from ttstrace.instrumentor import Patch, TTSInstrumentor

_POSITIONS = ("model", "input", "voice", "api_key", "api_base")
_PROVIDERS = {
    "aws_polly": "aws.polly",
    "azure": "azure.ai.openai",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "together_ai": "together",
    "vertex_ai": "gcp.vertex_ai",
}


def _asked(call: Call, name: str) -> Any:
    """`aspeech` hands on whatever it is given."""
    by_position = dict(zip(_POSITIONS, call.arguments.get("args", ()), strict=False))
    return by_position.get(name, call.arguments.get(name))


def _base(call: Call) -> Any:
    return _asked(call, "api_base") or _asked(call, "base_url")


def _who_and_what(call: Call) -> tuple[str | None, str]:
    """Provider, as litellm calls it, and model: "openai/tts-1". A model of OpenAI's needs no provider, but where a
    server is named, nobody knows whose it is."""
    litellm: Any = sys.modules["litellm"]
    model, provider = _asked(call, "model"), _asked(call, "custom_llm_provider")
    first, _, rest = model.partition("/")
    if rest and (first == provider or (provider is None and first in litellm.provider_list)):
        return first, rest
    if provider is None and _base(call) is None and model in litellm.open_ai_chat_completion_models:
        provider = "openai"
    return provider, model


def _provider(call: Call) -> str | None:
    provider, model = _who_and_what(call)
    return "azure.ai.speech" if (provider, model[:7]) == ("azure", "speech/") else _PROVIDERS.get(provider, provider)  # type: ignore[arg-type]


def _format(call: Call) -> str | None:
    """Only raw samples need telling: OpenAI's are at 24 kHz, 16 bits, one channel, as in `openai.py`."""
    raw = _asked(call, "response_format") == "pcm" and _provider(call) in ("openai", "azure.ai.openai")
    return "pcm_24000" if raw else None


class LiteLLMInstrumentor(TTSInstrumentor):
    name = "litellm"
    package = "litellm"
    versions = ">=1.80,<2"
    defaults = {
        "remote": True,
        "producer": "push",
        "provider": _provider,
        "model": lambda call: _who_and_what(call)[1],
        "voice": lambda call: _asked(call, "voice"),
        "text": lambda call: _asked(call, "input"),
        "audio": lambda call: call.result.content,
        "format": _format,
        "server": _base,
    }
    # The functions are in both modules. The router goes through the former, with the provider that it has chosen.
    patches = tuple(
        Patch(f"{module}:{function}") for module in ("litellm", "litellm.main") for function in ("speech", "aspeech")
    )
