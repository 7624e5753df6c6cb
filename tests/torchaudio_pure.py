"""torchaudio where its compiled part cannot be loaded: PyPI's wants CUDA. The speech models need none of it."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest


def import_torchaudio() -> Any:
    """torchaudio; without its compiled part as it comes itself where that file is missing.

    Skips the module that asks where torchaudio is not installed.
    """
    pytest.importorskip("torch")
    try:
        return pytest.importorskip("torchaudio", exc_type=ModuleNotFoundError)
    except OSError:
        for name in [each for each in sys.modules if each.partition(".")[0] == "torchaudio"]:
            del sys.modules[name]

    def missing(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("torchaudio is without its compiled part here")

    extension: Any = ModuleType("torchaudio._extension")
    extension._IS_TORCHAUDIO_EXT_AVAILABLE = extension._IS_ALIGN_AVAILABLE = False
    extension._load_lib = lambda name: False
    extension.fail_if_no_align = lambda function: missing
    sys.modules["torchaudio._extension"] = extension
    return pytest.importorskip("torchaudio")
