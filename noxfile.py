"""Environments of their own for what cannot be installed beside the rest, or is too large for everybody.

Each file of `tests/environments/` is one: `nox -s NAME`, or `nox` for all of them; what follows `--`
goes to pytest. Its keys:

- `why`: it is needed.
- `python`: which (`"3.11"` if left out).
- `torch`: whether torch comes first (by pip: the CPU build, where there is one).
- `install`: requirements, over what the tests themselves need.
- `without_dependencies`: requirements whose own requirements are left out: installed last.
- `tests`: what runs there.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import nox

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # nox brings it there

TORCH = "torch==2.13.0"

nox.options.default_venv_backend = "virtualenv"
nox.options.error_on_missing_interpreters = False
nox.options.reuse_existing_virtualenvs = True


def _environment(path: Path) -> None:
    with path.open("rb") as file:
        declared: dict[str, Any] = tomllib.load(file)

    @nox.session(name=path.stem, python=declared.get("python", "3.11"), tags=["environments"])
    def run(session: nox.Session) -> None:
        if declared.get("torch"):
            session.install("-q", TORCH)
        # uv takes seconds where pip takes minutes; torch, which is there by now, it leaves alone.
        uv = ("uv", "pip", "install", "-q", "--python", f"{session.virtualenv.bin}/python")
        session.run(*uv, "-e", ".[test]", *declared.get("install", ()), external=True)
        for requirement in declared.get("without_dependencies", ()):
            session.run(*uv, "--no-deps", requirement, external=True)
        session.run("python", "-m", "pytest", "-n", "2", *session.posargs, *declared["tests"])

    run.__doc__ = declared["why"]


for _path in sorted(Path(__file__).parent.glob("tests/environments/*.toml")):
    _environment(_path)
