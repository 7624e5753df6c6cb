"""What is found out about a call, what options say, and what bad options are told."""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from backends import RATE, tone
from conftest import Spans, set_tracer_provider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, SamplingResult

from ttstrace import stage, synthesis, traced_synthesis

TEXT = "Hello there"


def characters(spans: Spans, function: Callable[..., Any], *args: Any, **kwargs: Any) -> int | None:
    traced_synthesis(function)(*args, **kwargs)
    return spans.attributes().get("tts.input.characters")


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "count"),
    [
        (lambda text: None, (TEXT,), {}, 11),
        (lambda text: None, (), {"text": TEXT}, 11),
        (lambda voice, text="hey": None, ("ann", TEXT), {}, 11),
        (lambda ref_text, gen_text: None, ("the reference", TEXT), {}, 11),
        (lambda prompt, tts_text: None, ("in a low voice", TEXT), {}, 11),
        (lambda transcript, voice: None, (TEXT, "ann"), {}, 11),
        (lambda input, model: None, (TEXT, "tts-1"), {}, 11),
        (lambda texts: None, (["Hello ", "there"],), {}, 11),
        (lambda what, voice: None, (TEXT, "ann"), {}, 11),  # the only str that can be it
        (lambda what, voice, *, path: None, (TEXT, "ann"), {"path": "/tmp/x"}, 11),
        (lambda *words: None, (TEXT,), {}, None),
        (lambda **options: None, (), {"text": TEXT}, 11),
        (lambda one, two: None, (TEXT, "which?"), {}, None),  # a wrong text is worse than none
        (lambda voice, style: None, ("ann", "sad"), {}, None),
        (lambda ref_text, number: None, ("the reference", 3), {}, None),
        (lambda text: None, (3,), {}, None),
        (lambda text, prompt: None, (None, TEXT), {}, 11),
        (lambda text: None, ("",), {}, 0),
        (lambda text: None, ("한국어 👋🏽",), {}, 6),  # code points
    ],
)
def test_text_is_found(spans: Spans, function: Any, args: Any, kwargs: Any, count: int | None) -> None:
    assert characters(spans, function, *args, **kwargs) == count


def test_text_of_methods(spans: Spans) -> None:
    class Engine:
        @traced_synthesis
        def speak(self, text: str, voice: str = "ann") -> None: ...

        @traced_synthesis(text="what")
        def say(self, voice: str, what: str) -> None: ...

    Engine().speak(TEXT)
    Engine.speak(Engine(), text=TEXT)
    Engine().say("ann", TEXT)
    assert [span.attributes["tts.input.characters"] for span in spans.syntheses()] == [11, 11, 11]


def test_provider_is_the_owning_class_or_the_module(spans: Spans) -> None:
    class Acme:
        @traced_synthesis
        def speak(self, text: str) -> None: ...

    @traced_synthesis
    def speak(text: str) -> None: ...

    Acme().speak(TEXT)
    speak(TEXT)
    found = [span.attributes["gen_ai.provider.name"] for span in spans.syntheses()]
    assert found == ["Acme", "test_options"]


def rate(spans: Spans, function: Callable[..., Any], *args: Any, **options: Any) -> tuple[Any, Any]:
    traced_synthesis(**options)(function)(TEXT, *args)
    attributes = spans.attributes()
    return attributes.get("tts.audio.sample_rate"), attributes.get("tts.audio.duration")


def test_rate_of_the_result_wins(spans: Spans) -> None:
    assert rate(spans, lambda text, sample_rate: (tone(1), 12000), 48000, sample_rate=16000) == (12000, 2.0)


def test_rate_of_the_option(spans: Spans) -> None:
    assert rate(spans, lambda text, sample_rate: tone(1), 48000, sample_rate=12000) == (12000, 2.0)
    spans.clear()
    assert rate(spans, lambda text: tone(1), sample_rate=lambda call: len(call.result) // 2) == (12000, 2.0)


@pytest.mark.parametrize("name", ["sample_rate", "sampling_rate", "sr"])
def test_rate_of_an_argument(spans: Spans, name: str) -> None:
    namespace: dict[str, Any] = {"tone": tone}
    exec(f"def speak(text, {name}=8000): return tone(1)", namespace)
    assert rate(spans, namespace["speak"], 12000) == (12000, 2.0)


@pytest.mark.parametrize("name", ["output_sample_rate", "sample_rate", "sampling_rate", "sr"])
def test_rate_of_the_instance(spans: Spans, name: str) -> None:
    class Engine:
        @traced_synthesis
        def speak(self, text: str) -> np.ndarray:
            return tone(1)

    engine = Engine()
    if name == "output_sample_rate":
        engine.sample_rate = 8000  # type: ignore[attr-defined]
    setattr(engine, name, 12000)
    engine.speak(TEXT)
    assert spans.attributes()["tts.audio.sample_rate"] == 12000


@pytest.mark.parametrize("value", [True, 1, 3999, 384001, 22050.5, "24000", None, float("nan")])
def test_what_is_no_rate(spans: Spans, value: Any) -> None:
    class Engine:
        sample_rate = value

        @traced_synthesis
        def speak(self, text: str) -> np.ndarray:
            return tone(1)

    Engine().speak(TEXT)
    attributes = spans.attributes()
    assert "tts.audio.sample_rate" not in attributes
    assert "tts.audio.duration" not in attributes
    assert attributes["tts.audio.size"] == 96000


def test_options_that_are_callables(spans: Spans) -> None:
    class Engine:
        def __init__(self) -> None:
            self.weights = "/models/acme-3.onnx"

        @traced_synthesis(
            provider=lambda call: type(call.instance).__name__.lower(),
            model=lambda call: call.instance.weights,
            voice=lambda call: call.arguments["voice"],
            language=lambda call: call.result["language"],
            audio=lambda call: call.result["speech"],
            sample_rate=lambda call: call.result["rate"],
            attributes={"seed": lambda call: call.arguments["seed"], "app": "x"},
        )
        def speak(self, text: str, voice: str = "ann", seed: int = 7) -> dict[str, Any]:
            return {"speech": tone(0.5), "rate": RATE, "language": "ko_KR"}

    Engine().speak(TEXT)
    attributes = spans.attributes()
    assert spans.one().name == "text_to_speech acme-3"
    expected = {
        "gen_ai.provider.name": "engine",
        "gen_ai.request.model": "acme-3",
        "gen_ai.speech.voice": "ann",
        "tts.language": "ko-KR",
        "tts.audio.duration": 0.5,
        "seed": 7,
        "app": "x",
    }
    assert expected.items() <= attributes.items()


def test_options_of_chunks(spans: Spans) -> None:
    @traced_synthesis(audio=lambda call: call.chunk["pcm"], sample_rate=lambda call: call.chunk["rate"])
    def speak(text: str) -> Iterator[dict[str, Any]]:
        for _ in range(2):
            yield {"pcm": tone(0.25), "rate": RATE, "words": "..."}

    list(speak(TEXT))
    assert spans.attributes()["tts.audio.duration"] == 0.5


def test_a_body_whose_audio_an_option_picks_is_taken_whole(spans: Spans) -> None:
    class Response:
        content = bytes(32000)

        def read(self) -> bytes:
            raise AssertionError("read")

    @traced_synthesis(audio=lambda call: call.result.content, format="pcm_s16le", sample_rate=16000)
    def speak(text: str) -> Response:
        return Response()

    assert type(speak(TEXT)) is Response
    attributes = spans.attributes()
    assert attributes["tts.audio.duration"] == 1.0
    assert attributes["gen_ai.request.stream"] is False


def test_a_sampler_sees_who_and_what(spans: Spans) -> None:
    class Choosy(Sampler):
        seen: dict[str, Any] = {}

        def should_sample(self, *args: Any, attributes: Any = None, **kwargs: Any) -> SamplingResult:
            self.seen = dict(attributes or args[4])
            return SamplingResult(Decision.DROP)

        def get_description(self) -> str:
            return "choosy"

    sampler = Choosy()
    set_tracer_provider(TracerProvider(sampler=ParentBased(sampler)))
    traced_synthesis(provider="acme", model=lambda call: "m")(lambda text: None)(TEXT)
    assert sampler.seen == {
        "gen_ai.operation.name": "text_to_speech",
        "gen_ai.provider.name": "acme",
        "gen_ai.request.model": "m",
    }
    assert not spans.all()


def test_a_model_that_is_known_only_by_the_result_names_the_span(spans: Spans) -> None:
    @traced_synthesis(provider="acme", model=lambda call: call.result["model"])
    def speak(text: str) -> dict[str, str]:
        return {"model": "late"}

    speak(TEXT)
    assert spans.one().name == "text_to_speech late"
    assert spans.attributes()["gen_ai.request.model"] == "late"


def test_attributes_are_not_options(spans: Spans) -> None:
    traced_synthesis(
        provider="acme",
        attributes={"model": "x", "voice": lambda call: "/home/me/me.wav", "late": lambda call: call.result},
    )(lambda text: 7)(TEXT)
    attributes = spans.attributes()
    assert {"model": "x", "voice": "/home/me/me.wav", "late": 7}.items() <= attributes.items()
    assert "gen_ai.request.model" not in attributes
    assert "tts.voice.cloned" not in attributes


@pytest.mark.parametrize("partly", [False, True])
def test_a_callable_object_is_its_own_instance(spans: Spans, partly: bool) -> None:
    class Engine:
        def __init__(self, name: str) -> None:
            self.name = name
            self.sample_rate = 12000

        def __call__(self, text: str, speed: float = 1.0) -> np.ndarray:
            return tone(1)

    for name in ("ann", "bob"):
        engine = Engine(name)
        traced = traced_synthesis(voice=lambda call: call.instance.name)(
            functools.partial(engine, speed=2.0) if partly else engine
        )
        traced(TEXT)
        traced(TEXT)
    told = [
        (
            span.attributes["gen_ai.speech.voice"],
            span.attributes["tts.cold_start"],
            span.attributes["tts.audio.duration"],
        )
        for span in spans.syntheses()
    ]
    assert told == [("ann", True, 2.0), ("ann", False, 2.0), ("bob", True, 2.0), ("bob", False, 2.0)]
    assert {span.attributes["tts.input.characters"] for span in spans.syntheses()} == {len(TEXT)}


def test_an_option_that_fails_costs_its_figure_only(spans: Spans, no_faults_of_ours: list[BaseException]) -> None:
    @traced_synthesis(voice=lambda call: call.nope, sample_rate=RATE)
    def speak(text: str) -> np.ndarray:
        return tone(0.5)

    assert len(speak(TEXT)) == 12000
    attributes = spans.attributes()
    assert "gen_ai.speech.voice" not in attributes
    assert attributes["tts.audio.duration"] == 0.5
    assert {type(fault) for fault in no_faults_of_ours} == {AttributeError}
    no_faults_of_ours.clear()


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("hexgrad/Kokoro-82M", "hexgrad/Kokoro-82M"),
        ("tts-1.5", "tts-1.5"),
        ("/home/me/voices/en_US-joe-medium.onnx", "en_US-joe-medium"),
        ("voices\\joe.onnx", "joe"),
        ("C:/voices/joe.pt", "joe"),
        ("~/xtts_v2.1", "xtts_v2.1"),
        ("checkpoint.safetensors", "checkpoint"),
        (pathlib.Path("/home/me/model-v1.2"), "model-v1.2"),
        ("", None),
    ],
)
def test_model_names(spans: Spans, model: Any, name: str | None) -> None:
    traced_synthesis(model=model)(lambda text: None)(TEXT)
    assert spans.attributes().get("gen_ai.request.model") == name


@pytest.mark.parametrize("voice", ["/home/me/me.wav", "me.wav", pathlib.Path("me"), np.zeros(3), b"RIFF", "~/me"])
def test_a_reference_recording_is_a_cloned_voice_without_a_name(spans: Spans, voice: Any) -> None:
    traced_synthesis(voice=lambda call: voice)(lambda text: None)(TEXT)
    attributes = spans.attributes()
    assert "gen_ai.speech.voice" not in attributes
    assert attributes["tts.voice.cloned"] is True


def test_values_from_outside(spans: Spans) -> None:
    values = {
        "a.bool": np.bool_(True), "a.int": np.int16(3), "a.float": np.float32(0.5), "a.text": "x\udc80y",
        "a.nan": float("nan"), "a.object": object(), "a.none": None, "a.array": np.zeros(3), "a.list": ["x"],
        "a.huge": 2**70,
    }  # fmt: skip
    traced_synthesis(attributes=lambda call: values)(lambda text: None)(TEXT)
    found = {name: value for name, value in spans.attributes().items() if name.startswith("a.")}
    assert found == {"a.int": 3, "a.float": 0.5, "a.text": "x?y"}
    assert type(found["a.int"]) is int


def speak(text: str, voice: str = "ann") -> None: ...


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: traced_synthesis(modle="x"), TypeError, "no option 'modle'; did you mean 'model'"),
        (lambda: traced_synthesis(remote=True), TypeError, "no option 'remote'"),
        (lambda: traced_synthesis(text="txet")(speak), ValueError, "no parameter of that name; did you mean 'text'"),
        (lambda: traced_synthesis(text=3)(speak), TypeError, "name of the parameter"),
        (lambda: traced_synthesis(producer="pul"), ValueError, "'pull' or 'push'"),
        (lambda: traced_synthesis(sample_rate=24), ValueError, "from 4000 to 384000, not 24"),
        (lambda: traced_synthesis(format="wibble"), ValueError, "'wibble' is not known"),
        (lambda: traced_synthesis(format=3), TypeError, "such as 'pcm_s16le'"),
        (lambda: traced_synthesis(attributes=["x"]), TypeError, "mapping"),
        (lambda: traced_synthesis(attributes={"x": object()}), TypeError, "attribute 'x' must be bool, str, int"),
        (lambda: traced_synthesis(attributes={3: "x"}), TypeError, "names of attributes"),
        (lambda: traced_synthesis(voice=3), TypeError, "voice must be a str or a callable"),
        (lambda: traced_synthesis(model=3), TypeError, "model must be"),
        (lambda: traced_synthesis(3), TypeError, "only a callable can be traced, not int"),
        (lambda: traced_synthesis(dict), TypeError, "dict is a class: trace the method"),
        (lambda: synthesis(text=3), TypeError, "text must be a str, not int"),
        (lambda: synthesis(text="x", sample_rate=1), ValueError, "sample_rate"),
        (lambda: synthesis(modle="x"), TypeError, "modle"),
        (lambda: stage(""), ValueError, "must not be empty"),
        (lambda: stage(print), TypeError, r"write stage\('vocoder'\)"),
        (lambda: stage("x")(lambda: (yield)), TypeError, "cannot decorate a generator function"),
    ],
)
def test_bad_input_is_told_at_once(make: Callable[[], Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        make()


def test_device_is_where_the_parameters_are_after_the_call(spans: Spans) -> None:
    torch = pytest.importorskip("torch")

    class Model(torch.nn.Module):
        sample_rate = RATE

        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)

        @traced_synthesis
        def forward(self, text: str) -> Any:
            self.to("meta")
            return torch.zeros(24000)

    Model()(TEXT)
    attributes = spans.attributes()
    assert attributes["tts.device"] == "meta"
    assert attributes["tts.audio.duration"] == 1.0
