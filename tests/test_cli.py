"""The command line around its commands: arguments, help, exit statuses, and what is loaded for them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import ttstrace
from ttstrace import cli
from ttstrace.cli import arguments, demo


def ttstrace_command(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ttstrace", *words],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_script_is_installed_beside_the_interpreter() -> None:
    script = Path(sys.executable).with_name("ttstrace")
    done = subprocess.run([str(script), "--version"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, f"ttstrace {ttstrace.__version__}\n")


@pytest.mark.parametrize(
    ("words", "example"),
    [
        (("--help",), "ttstrace demo --language ko"),
        *(((command, "--help"), f"ttstrace {command} ") for command in arguments._COMMANDS),
    ],
)
def test_help_teaches_by_example(words: tuple[str, ...], example: str) -> None:
    done = ttstrace_command(*words, COLUMNS="80", NO_COLOR="1")
    assert done.returncode == 0
    assert done.stderr == ""
    assert "examples:" in done.stdout
    assert example in done.stdout.partition("examples:")[2]
    assert [line for line in done.stdout.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["dmeo"], "ttstrace: there is no command 'dmeo'; did you mean demo?\nTry: ttstrace --help\n"),
        (["zzz"], "ttstrace: there is no command 'zzz'\nTry: ttstrace --help\n"),
        (["--verson"], "ttstrace: there is no option --verson; did you mean --version?\nTry: ttstrace --help\n"),
        (
            ["demo", "--endpont=http://localhost:4318"],
            "ttstrace demo: there is no option --endpont; did you mean --endpoint?\nTry: ttstrace demo --help\n",
        ),
        (["demo", "x"], "ttstrace demo: there is no place for the argument 'x'\nTry: ttstrace demo --help\n"),
        (["demo", "--lang", "ko"], "ttstrace demo: there is no option --lang; did you mean --language?\n"),
        (["demo", "--language", "fr"], "ttstrace demo: argument --language: invalid choice: 'fr'"),
        (["demo", "--endpoint", "nonsense"], "ttstrace demo: The endpoint 'nonsense' is neither a URL nor host:port"),
        (["demo", "--endpoint", "ftp://x"], "ttstrace demo: The endpoint 'ftp://x' is not an http:// or https:// URL"),
        (["demo", "--endpoint", ""], "ttstrace demo: The endpoint '' is neither a URL nor host:port"),
        (["demo", "--protocol", "grpc"], "ttstrace demo: --protocol goes with --endpoint"),
        (["demo", "--file", ""], "ttstrace demo: file is empty"),
    ],
)
def test_wrong_call_is_told_the_right_one(
    words: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(words) == 2
    out, err = capsys.readouterr()
    assert err.startswith(said)
    assert out == ""
    assert list(tmp_path.iterdir()) == []


def test_no_command_at_all_gets_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "examples:" in err


def fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def run(_: object) -> int:
        raise error

    monkeypatch.setattr(demo, "run", run)


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (KeyboardInterrupt(), 130, "ttstrace: interrupted\n"),
        (cli.Failure("no room: make some"), 1, "ttstrace: no room: make some\n"),
        (ZeroDivisionError("oh"), 1, "ttstrace: unexpected ZeroDivisionError: oh\nSet TTSTRACE_DEBUG=1"),
        (BrokenPipeError(), 1, ""),
    ],
)
def test_end_of_a_command_is_its_exit_status(
    error: BaseException,
    status: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(cli, "_drop_output", lambda: None)
    monkeypatch.delenv(cli.DEBUG_VARIABLE, raising=False)
    fail_with(monkeypatch, error)
    assert cli.main(["demo"]) == status
    err = capsys.readouterr().err
    assert err.startswith(said)
    assert bool(err) == bool(said)
    assert "Traceback" not in err


def test_debug_variable_shows_where_a_fault_comes_from(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(cli.DEBUG_VARIABLE, "1")
    fail_with(monkeypatch, ZeroDivisionError("oh"))
    assert cli.main(["demo"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_reader_that_leaves_early_is_no_complaint() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "ttstrace", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        said = running.stderr.read().decode()
    assert said == ""


@pytest.mark.parametrize(
    "program", ["import ttstrace.cli", "from ttstrace.cli.arguments import parse; parse(['demo'])"]
)
def test_command_line_is_light_to_load(program: str) -> None:
    heavy = "opentelemetry.sdk", "opentelemetry.instrumentation", "rich", "hibari", "numpy", "onnxruntime", "requests"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\nimport sys\nprint([m for m in {heavy!r} if m in sys.modules])"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == "[]\n"


def test_every_command_says_what_it_is_for() -> None:
    for command in arguments._COMMANDS.values():
        assert command.SUMMARY
        assert command.DESCRIPTION
        assert "examples:" in command.EPILOG
