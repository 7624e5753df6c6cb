"""Environment variables, asked for at every call."""

from __future__ import annotations

import os
from typing import Any, Final

# What the environment holds, as the platform keeps it: asking `os.environ` for what is not there costs ten times more.
_environment: Final = getattr(os.environ, "_data", os.environ)
_encoded: Final = getattr(os.environ, "encodekey", str)


def is_set(variable: str, _known: dict[str, Any] = {}) -> bool:  # noqa: B006 - remembers the encoded names
    """Whether an environment variable is there; cheap enough for every call."""
    key = _known.get(variable)
    if key is None:
        key = _known[variable] = _encoded(variable)
    return key in _environment
