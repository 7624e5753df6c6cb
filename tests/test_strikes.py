"""A signal strikes between any two instructions of ttstrace: what its handler raises comes out, nothing is left open.

Generated: each program of `fault_shapes` runs once to find where the interpreter would look for signals (as a function
begins, when a call into C or through C returns, when a loop jumps back), then once for each such point, where a
tracing function raises. What struck while one stack of ours is not struck again with the same stack in another program.
"""

from __future__ import annotations

import dis
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest
from fault_shapes import DECLARED, SHAPES, Backend, hostile
from fault_truth import Telemetry, fit_for_work, healthy, observed

import ttstrace

pytestmark = pytest.mark.skipif(
    sys.version_info[:2] != (3, 11) or sys.gettrace() is not None,
    reason="where signals are looked for is known of CPython 3.11's instructions, and nobody else may be tracing",
)

PACKAGE = str(Path(ttstrace.__file__).parent)
AUDIO = str(Path(PACKAGE, "audio"))  # it holds nothing open; that it is struck, the matrix of faults says often enough
Stack = tuple[tuple[CodeType, int], ...]


@pytest.fixture(autouse=True)
def no_faults_of_ours() -> None:
    """Here faults are what is looked for: `report` is the real one."""


@pytest.fixture(scope="module")
def telemetry() -> Iterator[Telemetry]:
    with Telemetry() as made:
        healthy("warm")
        gc.collect()
        yield made


class _Code:
    """The instructions of a function: their names, and which handler an exception goes to."""

    def __init__(self, code: CodeType) -> None:
        bytecode: Any = dis.Bytecode(code)
        self.names = {each.offset: each.opname for each in bytecode}
        self._handlers = bytecode.exception_entries

    def handler(self, offset: int) -> int | None:
        return next((each.target for each in reversed(self._handlers) if each.start <= offset < each.end), None)


_codes: dict[CodeType, _Code] = {}


class Strike:
    """Raises at the point with this number; where there is none, notes them all."""

    def __init__(self, at: int | None = None) -> None:
        self.raised: BaseException | None = None
        self.where = ""
        self.points: list[Stack] = []
        self._at = at
        self._seen = 0
        self._last: dict[FrameType, int] = {}
        self._called_python: set[FrameType] = set()

    @contextmanager
    def broken(self, options: dict[str, Any]) -> Iterator[None]:
        sys.settrace(self._enter)
        try:
            yield
        finally:
            self.stop()

    def stop(self) -> BaseException | None:
        sys.settrace(None)
        self._last.clear()
        self._called_python.clear()
        return self.raised

    def _enter(self, frame: FrameType, event: str, arg: object) -> Any:
        # One Python function called by another returns without a look for signals; a class's `__init__` is called by C.
        if frame.f_back is not None and frame.f_code.co_name != "__init__":
            self._called_python.add(frame.f_back)
        if not frame.f_code.co_filename.startswith(PACKAGE) or frame.f_code.co_filename.startswith(AUDIO):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._step

    def _step(self, frame: FrameType, event: str, arg: object) -> Any:
        if event != "opcode":
            self._last.pop(frame, None)
            return self._step
        code = _codes.get(frame.f_code) or _codes.setdefault(frame.f_code, _Code(frame.f_code))
        offset, before = frame.f_lasti, self._last.get(frame)
        self._last[frame] = offset
        called_python = frame in self._called_python
        self._called_python.discard(frame)
        if code.names[offset] == "RESUME":
            # Whoever leaves or finalizes has nobody to leave it to when it is struck before it began.
            looks = frame.f_code.co_name not in ("__exit__", "__aexit__", "__del__")
        elif before is None:
            looks = False
        else:
            name = code.names[before]
            looks = name in ("CALL_FUNCTION_EX", "JUMP_BACKWARD") or (name == "CALL" and not called_python)
            # The exception belongs to the instruction before: here it can be raised where both go to one handler.
            looks = looks and code.handler(before) == code.handler(offset)
        if looks:
            self._point(frame)
        return self._step

    def _point(self, frame: FrameType) -> None:
        stack, names = [], []
        each: FrameType | None = frame
        while each is not None:
            if each.f_code.co_filename.startswith(PACKAGE):
                stack.append((each.f_code, each.f_lasti))
                names.append(each.f_code.co_name)
            each = each.f_back
        if "trace" in names or "__del__" in names:  # decorating; finalizing, out of which nothing can come
            return
        if self._at is None:
            self.points.append(tuple(stack))
        elif self._seen == self._at:
            self.where = " < ".join(f"{Path(code.co_filename).name}:{code.co_name}+{at}" for code, at in stack)
            self.where = f"line {frame.f_lineno}: {self.where}"
            sys.settrace(None)
            self.raised = KeyboardInterrupt("strike")
            raise self.raised
        self._seen += 1


class Tally:
    """Of this process: there may be several, which share the shapes."""

    struck: set[Stack] = set()
    shapes = 0


STRUCK = [shape for shape in (*SHAPES, *DECLARED) if shape is not hostile]


@pytest.mark.parametrize("shape", STRUCK)
def test_a_strike_anywhere(telemetry: Telemetry, tmp_path: Path, shape: Any) -> None:
    backend = Backend(tmp_path / "out.wav")
    for _ in range(2):  # the first run loads what is looked for no more
        clean = Strike()
        assert not observed(telemetry, shape, backend, clean.broken, clean.stop).wrong
    found = []
    Tally.shapes += 1
    for number, stack in enumerate(clean.points):
        if stack in Tally.struck:
            continue
        Tally.struck.add(stack)
        strike = Strike(number)
        after = observed(telemetry, shape, backend, strike.broken, strike.stop)
        if strike.raised is None:  # something was done once, and is not done again
            continue
        wrong = [each for each in after.wrong if "never awaited" not in each]
        if after.escaped is not strike.raised:
            wrong.append(f"what struck does not come out: {after.escaped!r}")
        if after.calls > 1:
            wrong.append(f"the backend is called {after.calls} times")
        if after.logged:
            wrong.append(f"logs {after.logged}")
        found += [f"{each}: {strike.where}" for each in wrong + fit_for_work(telemetry)]
    assert not found, "\n".join(found)


def test_there_was_much_to_strike(request: pytest.FixtureRequest) -> None:
    if not Tally.shapes or len(request.session.items) < len(STRUCK):
        pytest.skip("not all of it was run")
    with request.getfixturevalue("capsys").disabled():
        print(f"\nstrikes: {len(Tally.struck)}")
    assert len(Tally.struck) > 1000 * Tally.shapes / len(STRUCK)
