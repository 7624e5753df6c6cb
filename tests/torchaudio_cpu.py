"""torchaudio beside torch's CPU build: PyPI has it for CUDA only."""

from __future__ import annotations

import sys
import types

import pytest


def leave_out_extension() -> None:
    """Have torchaudio imported without its compiled part, which cannot be loaded where there is no CUDA. Nothing that
    the tests run is in there."""
    torch = pytest.importorskip("torch")
    if torch.version.cuda is None and "torchaudio" not in sys.modules:
        name = "torchaudio._extension"
        extension = types.ModuleType(name)
        vars(extension).update(_IS_TORCHAUDIO_EXT_AVAILABLE=False, fail_if_no_align=lambda function: function)
        sys.modules[name] = extension
