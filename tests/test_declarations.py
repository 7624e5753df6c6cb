"""Integrations are declarations: short, and with nothing in them that belongs to the engine."""

from __future__ import annotations

import ast
import statistics
from pathlib import Path

import pytest

import ttstrace_integrations

FOLDER = Path(ttstrace_integrations.__file__).parent
FILES = sorted(path for path in FOLDER.glob("*.py") if not path.name.startswith("_"))
OF_A_SPAN = {"add_event", "end", "record_exception", "set_attribute", "set_attributes", "set_status", "update_name"}


def lines_of(path: Path) -> int:
    """Neither blank nor comment."""
    return sum(bool(line.strip()) and not line.strip().startswith("#") for line in path.read_text().splitlines())


def test_how_many_and_how_long(capsys: pytest.CaptureFixture[str]) -> None:
    lengths = {path.stem: lines_of(path) for path in FILES}
    longest = max(lengths, key=lambda name: lengths[name])
    with capsys.disabled():
        print(
            f"\nintegrations: {len(lengths)}, median {statistics.median(lengths.values()):g} lines, "
            f"longest {lengths[longest]} ({longest})"
        )
    assert len(lengths) >= 40
    assert statistics.median(lengths.values()) <= 40
    assert lengths[longest] <= 150


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_nothing_but_declarations(path: Path) -> None:
    """The shared files as well."""
    for node in ast.walk(ast.parse(path.read_text())):
        assert not isinstance(node, (ast.Try, ast.With, ast.AsyncWith)), f"line {node.lineno}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            assert node.func.attr not in OF_A_SPAN, f"line {node.lineno}"
