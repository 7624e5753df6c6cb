"""What an integration can declare, on libraries that are made here."""

from __future__ import annotations

import copy
import gc
import importlib
import logging
import sys
import types
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Spans

import ttstrace
from ttstrace import instrumentor, lifecycle
from ttstrace.instrumentor import Constructed, Labelled, Patch, Returned, TTSInstrumentor


@pytest.fixture(autouse=True)
def come_off(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(instrumentor, "_warned", set())
    yield
    ttstrace.uninstrument()


Install = Callable[[str, str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Makes a distribution's metadata: what pip leaves behind of it."""

    def make(name: str, version: str) -> None:
        folder = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")

    monkeypatch.syspath_prepend(tmp_path)
    return make


# --- a backend that comes in several distributions ---------------------------------------------------------------


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    (tmp_path / "acme_of_two.py").write_text("def speak(text):\n    return b''\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("acme_of_two")
    del sys.modules["acme_of_two"]


class OfTwo(TTSInstrumentor):
    name = "of_two"
    package = "acme-of-two"
    versions = ">=2,<3"
    alternatives = {"acme-forked": ">=7,<8"}
    patches = (Patch("acme_of_two:speak", model="two"),)


@pytest.mark.parametrize(
    ("installed", "asked"),
    [
        ({"acme-of-two": "2.1"}, "acme-of-two >=2,<3"),
        ({"acme-forked": "7.1"}, "acme-forked >=7,<8"),
        ({"acme-forked": "9", "acme-of-two": "2.1"}, "acme-of-two >=2,<3"),
    ],
)
def test_any_of_its_distributions_will_do(
    spans: Spans, install: Install, acme: types.ModuleType, installed: dict[str, str], asked: str
) -> None:
    for name, version in installed.items():
        install(name, version)
    assert OfTwo().instrumentation_dependencies() == (asked,)
    assert OfTwo().installed_version() == installed[asked.split()[0]]
    OfTwo().instrument()
    acme.speak("Hello")
    assert spans.attributes()["gen_ai.request.model"] == "two"
    OfTwo().uninstrument()
    assert type(acme.speak) is types.FunctionType


def test_each_distribution_has_versions_of_its_own(
    install: Install, acme: types.ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    OfTwo().instrument()
    assert OfTwo().installed_version() is None
    assert OfTwo().instrumentation_dependencies() == ("acme-of-two >=2,<3",)
    assert caplog.records == []
    install("acme-forked", "2.1")
    OfTwo().instrument()
    assert [record.getMessage() for record in caplog.records] == [
        "acme-forked is not traced: version 2.1 is installed, known to work is >=7,<8"
    ]
    assert type(acme.speak) is types.FunctionType


# --- a backend that is in none -----------------------------------------------------------------------------------


class OfATree(TTSInstrumentor):
    name = "of_a_tree"
    source_tree = "acme_tree"
    patches = (Patch("acme_tree.voice:speak", model="tree"),)


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    """The folder of a source tree that is on nobody's path."""
    folder = tmp_path / "checkout"
    (folder / "acme_tree").mkdir(parents=True)
    (folder / "acme_tree" / "__init__.py").touch()
    (folder / "acme_tree" / "voice.py").write_text("def speak(text):\n    return b''\n")
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "acme_tree"]:
        del sys.modules[name]


def test_source_tree(spans: Spans, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = OfATree()
    assert backend.installed_version() is None
    assert backend.instrumentation_dependencies() == ()
    backend.instrument()
    assert not backend.is_instrumented_by_opentelemetry
    monkeypatch.syspath_prepend(tree)
    assert backend.installed_version() == ""
    backend.instrument()
    assert "acme_tree" not in sys.modules
    importlib.import_module("acme_tree.voice").speak("Hello")
    assert spans.attributes()["gen_ai.request.model"] == "tree"
    backend.uninstrument()


def test_source_tree_that_is_found_once_the_program_runs(
    spans: Spans, tree: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        OfATree().instrument(skip_dep_check=True)  # as opentelemetry-instrument does, before there is a program
    assert caplog.records == []
    monkeypatch.syspath_prepend(tree)
    importlib.import_module("acme_tree.voice").speak("Hello")
    assert spans.attributes()["gen_ai.request.model"] == "tree"
    OfATree().uninstrument()


# --- a method of what a callable returns -------------------------------------------------------------------------

LOADER = """
from backends import tone

def load(name, code):
    space = {"__name__": f"<of {name}>", "tone": tone}
    exec(code, space)
    return space["Voice"]()

def shared(name):
    return Shared()

class Base:
    def speak(self, text, voice):
        if not text:
            raise ValueError("nothing to say")
        return tone(0.5)

class Shared(Base):
    pass
"""
VOICE = """
class Voice:
    sample_rate = 24000
    def speak(self, text, voice):
        if not text:
            raise ValueError("nothing to say")
        return tone(0.5)
"""
MUTE = "class Voice:\n    def listen(self, audio):\n        return 'Hello'\n"


class OfALoader(TTSInstrumentor):
    name = "of_a_loader"
    package = "ttstrace"
    defaults = {"provider": "loaded"}
    patches = (
        Returned(
            "acme_loader:load",
            "speak",
            label=lambda call: call.arguments["name"],
            model=lambda call: call.label(call.instance),
            voice=lambda call: call.arguments["voice"],
        ),
        Returned("acme_loader:shared", "speak", sample_rate=24_000),
    )


@pytest.fixture
def loader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    (tmp_path / "acme_loader.py").write_text(LOADER)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("acme_loader")
    OfALoader().uninstrument()
    del sys.modules["acme_loader"]


def test_method_of_what_was_returned(spans: Spans, loader: types.ModuleType) -> None:
    OfALoader().instrument()
    first, second = loader.load("one", VOICE), loader.load(name="two", code=VOICE)
    assert vars(first) == {}  # the object is what it was
    for voice, model in ((first, "one"), (second, "two"), (first, "one")):
        spans.clear()
        audio = voice.speak("Hello", voice="ann")
        found = spans.attributes()
        assert found["gen_ai.provider.name"] == "loaded"
        assert found["gen_ai.request.model"] == model
        assert found["gen_ai.speech.voice"] == "ann"
        assert found["tts.input.characters"] == 5
        assert found["tts.audio.duration"] == len(audio) / 24_000
    spans.clear()
    with pytest.raises(ValueError, match="nothing to say"):
        first.speak("", "ann")
    assert spans.attributes()["error.type"] == "ValueError"


def test_copies_of_what_was_returned_are_traced_as_well(spans: Spans, loader: types.ModuleType) -> None:
    OfALoader().instrument()
    voice = copy.deepcopy(loader.load("one", VOICE))
    voice.speak("Hello", "ann")
    assert spans.attributes()["gen_ai.speech.voice"] == "ann"
    assert "gen_ai.request.model" not in spans.attributes()


def test_loaded_before_anybody_listens(loader: types.ModuleType, request: pytest.FixtureRequest) -> None:
    OfALoader().instrument()
    voice = loader.load("one", VOICE)
    spans = request.getfixturevalue("spans")
    voice.speak("Hello", "ann")
    assert spans.attributes()["gen_ai.request.model"] == "one"


class OfAMaker(TTSInstrumentor):
    name = "of_a_maker"
    package = "ttstrace"
    patches = (
        Constructed("acme_maker:Engine.__init__"),
        Labelled("acme_maker:Engine.voice", by="name"),
        Patch(
            "acme_maker:Engine.speak",
            model=lambda call: call.constructed["model"],
            voice=lambda call: call.label(call.arguments["voice"]),
        ),
    )


MAKER = """
class Voice:
    pass

class Engine:
    def __init__(self, model):
        pass

    def voice(self, name):
        return Voice()

    def speak(self, text, voice):
        return b""
"""


def test_made_and_looked_up_before_anybody_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    (tmp_path / "acme_maker.py").write_text(MAKER)
    monkeypatch.syspath_prepend(tmp_path)
    OfAMaker().instrument()
    engine = importlib.import_module("acme_maker").Engine("tiny")
    voice = engine.voice("ann")
    spans = request.getfixturevalue("spans")
    engine.speak("Hello", voice)
    found = spans.attributes()
    assert (found["gen_ai.request.model"], found["gen_ai.speech.voice"]) == ("tiny", "ann")
    OfAMaker().uninstrument()
    del sys.modules["acme_maker"]


def test_result_without_the_method_is_left_alone(spans: Spans, loader: types.ModuleType) -> None:
    OfALoader().instrument()
    mute = loader.load("mute", MUTE)
    assert mute.listen(b"") == "Hello"
    assert type(vars(type(mute))["listen"]) is types.FunctionType
    assert spans.all() == []


def test_class_that_is_returned_again_is_patched_once(spans: Spans, loader: types.ModuleType) -> None:
    OfALoader().instrument()
    base = vars(loader.Base)["speak"]
    loader.shared("one"), loader.shared("two").speak("Hello", "ann")
    assert spans.attributes()["tts.audio.duration"] == 0.5
    assert vars(loader.Shared)["speak"].__wrapped__ is vars(loader.Base)["speak"] is base
    OfALoader().uninstrument()
    assert "speak" not in vars(loader.Shared)


def test_originals_of_what_was_returned_are_put_back(spans: Spans, loader: types.ModuleType) -> None:
    load = loader.load
    untouched = type(loader.load("before", VOICE))
    original = vars(untouched)["speak"]
    OfALoader().instrument()
    voice = loader.load("one", VOICE)
    traced = vars(type(voice))["speak"]
    plain = traced.__wrapped__
    bound = voice.speak
    assert vars(untouched)["speak"] is original
    OfALoader().uninstrument()
    assert vars(type(voice))["speak"] is plain
    assert loader.load is load
    voice.speak("Hello", "ann")
    bound("Hello", "ann")
    assert spans.all() == []


def test_models_that_are_let_go_are_not_kept(spans: Spans, loader: types.ModuleType) -> None:
    OfALoader().instrument()
    voice = loader.load("one", VOICE)
    voice.speak("Hello", "ann")
    lifecycle.drain()
    seen = weakref.ref(type(voice))
    del voice
    gc.collect()
    assert seen() is None
