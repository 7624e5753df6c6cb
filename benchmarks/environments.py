"""An environment for each peer, in a folder that is kept: made with uv where there is one, else with venv and pip."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

TREE = Path(__file__).resolve().parent.parent


class Peer(NamedTuple):
    """Whom ttstrace is compared with."""

    package: str
    version: str
    decorator: str
    """As its users write it."""


PEERS = {
    "logfire": Peer("logfire", "5.2.0", "@logfire.instrument()"),
    "openinference": Peer("openinference-instrumentation", "0.1.72", "@tracer.chain"),
    "langfuse": Peer("langfuse", "5.0.4", "@observe"),
}


class Unavailable(Exception):
    """An environment could not be made; says why."""


def default_cache() -> Path:
    """Where the environments are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ttstrace" / "benchmarks"


def environment_of(name: str, cache: Path) -> Path:
    """The Python of a peer's environment: ttstrace from this working tree, the peer, numpy. Made where there is none.

    Args:
        name: one of `PEERS`.
        cache: the folder that the environments are in.

    Raises:
        Unavailable: it cannot be made; the message is one line.
    """
    peer = PEERS[name]
    requirements = ["-e", str(TREE), "numpy", f"{peer.package}=={peer.version}"]
    made_of = [*requirements, sys.version, sys.executable, (TREE / "pyproject.toml").read_text(encoding="utf-8")]
    folder = cache / f"{name}-{hashlib.sha256(repr(made_of).encode()).hexdigest()[:12]}"
    python = folder / "bin" / "python"
    finished = folder / "finished"
    if finished.exists():
        return python
    commands = [
        [sys.executable, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", "-q", *requirements],
    ]
    if _runs("uv", "--version"):
        commands = [
            ["uv", "venv", "-q", "-p", sys.executable, str(folder)],
            ["uv", "pip", "install", "-q", "-p", str(python), *requirements],
        ]
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    for command in commands:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode:
            shutil.rmtree(folder, ignore_errors=True)
            why = (done.stderr.strip() or done.stdout.strip() or f"exit {done.returncode}").splitlines()[-1].strip()
            raise Unavailable(f"{peer.package} {peer.version} cannot be installed: {why}")
    finished.touch()
    return python


def _runs(*command: str) -> bool:
    """Whether a command is there, and no empty stand-in."""
    try:
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True).returncode == 0
    except OSError:
        return False
