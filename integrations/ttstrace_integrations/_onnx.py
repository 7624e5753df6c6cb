"""What backends on onnxruntime have in common."""

from typing import Any

_DEVICES = {"CPUExecutionProvider": "cpu", "CUDAExecutionProvider": "cuda"}


def device(session: Any) -> str | None:
    """What an inference session tries first; another provider's device has no name here."""
    return _DEVICES.get(session.get_providers()[0])
