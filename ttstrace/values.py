"""Values from outside, made fit for telemetry: encodable, typed, and without what is private."""

from __future__ import annotations

import json
import numbers
import os
import re
from collections.abc import Mapping
from math import isfinite
from pathlib import PurePath
from typing import Any, Final, get_args
from urllib.parse import urlsplit

from ttstrace import semconv
from ttstrace.audio import parse_format, sample_rate_of
from ttstrace.environment import is_set
from ttstrace.timeline import Producer

Attributes = dict[str, Any]

_CAPTURE_CONTENT: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_SPAN_LIMIT: Final = "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT"
_LIMIT: Final = "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"
_LONGEST_TEXT: Final = 65_536  # characters


def encodable(text: str) -> str:
    """The text with lone surrogates replaced: a single one makes a whole OTLP batch unsendable."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def clean(value: object) -> bool | str | int | float | None:
    """A value from outside as an attribute: bool, str, int or finite float; None for anything else.

    Never `str()` of an object, which may hold the text, a path or a tensor to copy from a device.
    """
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return encodable(str(value))
    if isinstance(value, numbers.Integral):
        number = int(value)
        return number if -(2**63) <= number < 2**63 else None
    if isinstance(value, numbers.Real):
        try:
            real = float(value)
        except OverflowError:  # a Fraction beyond all floats
            return None
        return real if isfinite(real) else None
    return None


_URL: Final = r"[A-Za-z][A-Za-z0-9+.-]+://|data:"
_PATH_START: Final = re.compile(rf"~|\.{{0,2}}[/\\]|[A-Za-z]:[/\\]|{_URL}")
_FILE_SUFFIX: Final = re.compile(
    r"\.(onnx|ort|pth?|pkl|bin|model|safetensors|ckpt|h5|gguf|ggml|tflite|nemo|engine|npz|npy|json|ya?ml|zip|tar|t?gz"
    r"|wave?|mp[234]|flac|og[ag]|opus|spx|m4[ab]|aac|aif[fc]?|au|snd|caf|webm|mk[av]|wma|amr|3gpp?|pcm|raw)$",
    re.IGNORECASE,
)
_LONGEST_VOICE: Final = 256


def is_path(value: object) -> bool:
    """Whether a name is a file's path or URL. `org/name` is not, unless there is one: so model hubs name models."""
    if isinstance(value, str):
        told = _PATH_START.match(value) or _FILE_SUFFIX.search(value) or "\\" in value
        return bool(told) or ("/" in value and os.path.exists(value))
    return isinstance(value, os.PathLike)


def clean_model(value: object) -> str | None:
    """A model's name; of a file's path the last component without its suffix, for paths are private."""
    if not is_path(value):
        return encodable(str(value)) or None if isinstance(value, str) else None
    path = os.fsdecode(value)  # type: ignore[arg-type]
    if re.match(_URL, path):
        path = re.split("[?#]", path)[0].partition("://")[2].partition("/")[2]
    name = PurePath(path.replace("\\", "/")).name
    stem, dot, suffix = name.rpartition(".")
    return encodable(stem if dot and stem and suffix.isalpha() else name) or None


def _set_voice(attributes: Attributes, value: object) -> None:
    """A voice by name or id. Anything else (a path, an array) is reference audio: cloned, and without a name. A str
    that is no name either (of several lines, or as long as a description) says nothing."""
    if isinstance(value, str) and not is_path(value):
        if len(value) <= _LONGEST_VOICE and "\n" not in value:
            attributes[semconv.GEN_AI_SPEECH_VOICE] = encodable(value)
    elif isinstance(value, numbers.Integral) and not isinstance(value, bool):
        attributes[semconv.GEN_AI_SPEECH_VOICE] = str(int(value))
    elif value is not None:
        attributes[semconv.TTS_VOICE_CLONED] = True


def capture_content() -> bool:
    """Whether the text may be recorded: only where the user switched it on for spans."""
    return is_set(_CAPTURE_CONTENT) and os.environ.get(_CAPTURE_CONTENT, "").strip().upper() in (
        "SPAN_ONLY",
        "SPAN_AND_EVENT",
    )


def text_limit(span: object) -> int:
    """The longest that the text may be on a span, JSON and all: what the span's limits or, where they cannot be seen,
    the variables say; else 65,536 characters, more than any service takes at once: a collector that refuses one long
    span (by gRPC, of 4 MiB) loses the others that were sent with it."""
    limit = getattr(getattr(span, "_limits", None), "max_span_attribute_length", None)
    if limit is None:
        said = os.environ.get(_SPAN_LIMIT) or os.environ.get(_LIMIT, "")
        limit = int(said) if said.isdigit() else None
    return limit if isinstance(limit, int) else _LONGEST_TEXT


def cut(text: str) -> str:
    """A message, which may hold the text, cut to what is told of a text at most."""
    return text[:_LONGEST_TEXT]


def input_messages(text: str, limit: int = _LONGEST_TEXT) -> str | None:
    """The text as GenAI messages, cut to the span's length limit before it is made JSON, so that it stays JSON.

    None where the limit leaves no room for messages.
    """

    def message(content: str) -> str:
        parts = [{"type": "text", "content": content}]
        return json.dumps([{"role": "user", "parts": parts}], ensure_ascii=False)

    text = encodable(text[:limit])  # as JSON it is longer, if anything
    whole = message(text)
    if len(whole) <= limit:
        return whole
    short, long = -1, len(text) - 1
    while short < long:  # escaping makes the length of the JSON a monotonic, but not a linear function
        middle = (short + long + 1) // 2
        if len(message(text[:middle])) <= limit:
            short = middle
        else:
            long = middle - 1
    return message(text[:short]) if short >= 0 else None


def check_options(
    *,
    sample_rate: object = None,
    format: object = None,
    producer: object = None,
    attributes: object = None,
) -> None:
    """Refuse what no synthesis can mean; callables are asked later and not checked here.

    Raises:
        TypeError, ValueError: with what was given and what would do.
    """
    if sample_rate is not None and not callable(sample_rate) and sample_rate_of(sample_rate) is None:
        raise ValueError(f"sample_rate must be a whole number of Hz from 4000 to 384000, not {sample_rate!r}")
    if isinstance(format, str):
        if parse_format(format).name is None:
            raise ValueError(f"format {format!r} is not known; raw 16-bit audio, for example, is 'pcm_s16le'")
    elif format is not None and not callable(format):
        raise TypeError(f"format must be a name such as 'pcm_s16le', not {type(format).__name__}")
    if producer is not None and producer not in get_args(Producer):
        raise ValueError(f"producer must be 'pull' or 'push', not {producer!r}")
    if attributes is not None and not callable(attributes):
        if not isinstance(attributes, Mapping):
            raise TypeError(f"attributes must be a mapping of names to values, not {type(attributes).__name__}")
        for name, value in attributes.items():
            if not isinstance(name, str) or not name:
                raise TypeError(f"names of attributes must be non-empty str, not {name!r}")
            if not callable(value) and clean(value) is None:
                raise TypeError(
                    f"attribute {name!r} must be bool, str, int or finite float, not {type(value).__name__}"
                )


def add_known(attributes: Attributes, name: str, value: object) -> None:
    """Add what an option says, by the option's name; what says nothing or cannot be told adds nothing.

    Args:
        attributes: where to.
        name: the option: provider, model, voice, language, device, attributes, ...
        value: what it says.
    """
    if value is None:
        return
    if name == "voice":
        _set_voice(attributes, value)
    elif name == "server":
        _set_server(attributes, value)
    elif name == "attributes":
        if isinstance(value, Mapping):
            for key, each in value.items():
                cleaned = clean(each) if isinstance(key, str) and key else None
                if cleaned is not None:
                    attributes[encodable(key)] = cleaned
    else:
        if name == "model":
            value = clean_model(value)
        elif name == "language" and isinstance(value, str):
            value = value.replace("_", "-")
        cleaned = clean(value)
        if cleaned is not None and cleaned != "":
            attributes[_OPTIONS[name]] = cleaned


_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}


def _set_server(attributes: Attributes, url: object) -> None:
    """Host and port of a URL, or of host:port; what else it holds (a key, a path) is nobody's concern."""
    if isinstance(url, str):
        parts = urlsplit(url if "://" in url else f"//{url}")
        port = parts.port or _PORTS.get(parts.scheme)
        if parts.hostname:
            attributes[semconv.SERVER_ADDRESS] = encodable(parts.hostname)
            if port is not None:
                attributes[semconv.SERVER_PORT] = port


_OPTIONS: Final = {
    "provider": semconv.GEN_AI_PROVIDER_NAME,
    "model": semconv.GEN_AI_REQUEST_MODEL,
    "language": semconv.TTS_LANGUAGE,
    "device": semconv.TTS_DEVICE,
    "input_type": semconv.TTS_INPUT_TYPE,
    "usage_characters": semconv.TTS_USAGE_CHARACTERS,
    "cloned": semconv.TTS_VOICE_CLONED,
}
