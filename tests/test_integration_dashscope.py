"""dashscope itself, against a local server that speaks the websocket protocol of its speech service."""

from __future__ import annotations

import gc
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from audio_samples import pcm16, tone, wav
from conftest import Spans, between
from opentelemetry.trace import SpanKind, StatusCode
from websockets.sync.server import ServerConnection, serve

import ttstrace

dashscope = pytest.importorskip("dashscope")

from dashscope.audio.tts_v2 import speech_synthesizer  # noqa: E402
from dashscope.audio.tts_v2.speech_synthesizer import AudioFormat, ResultCallback, SpeechSynthesizer  # noqa: E402
from dashscope.common.error import RequestFailure  # noqa: E402

RATE = 24_000
DELAY = 0.05  # seconds before each piece of audio
PIECES = 4
PCM = pcm16(tone(RATE))  # one second
PATIENCE = 30.0  # seconds


class Service:
    """Answers a task when it is finished: pieces of audio, or a failure."""

    def __init__(self) -> None:
        self.audio = wav(PCM)
        self.fails_after: int | None = None
        """The number of pieces after which the task fails."""
        self.refuses = False
        self.hangs_up = False
        """Closes the connection with the first text."""
        self.texts: list[str] = []
        self.parameters: dict[str, Any] = {}
        self.url = ""

    def __call__(self, socket: ServerConnection) -> None:
        def send(event: str, **payload: Any) -> None:
            header = {"task_id": task, "event": event, "attributes": {}}
            if event == "task-failed":
                header.update(error_code="Throttling", error_message="too much was said: hush hush")
            socket.send(json.dumps({"header": header, "payload": payload}))

        for message in socket:
            asked = json.loads(message)
            task, action = asked["header"]["task_id"], asked["header"]["action"]
            if action == "run-task":
                self.parameters = asked["payload"]["parameters"]
                send("task-failed" if self.refuses else "task-started")
            elif action == "continue-task":
                self.texts.append(asked["payload"]["input"]["text"])
                if self.hangs_up:
                    return
            elif action == "finish-task":
                size = len(self.audio) // PIECES + 1
                for at in range(0, len(self.audio), size):
                    if self.fails_after == at // size:
                        send("task-failed")
                        break
                    time.sleep(DELAY)
                    send("result-generated", output={}, usage={"characters": 3})
                    socket.send(self.audio[at : at + size])
                else:
                    send("task-finished", output={}, usage={"characters": sum(map(len, self.texts))})


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    with serve(service, "127.0.0.1", 0, close_timeout=0.5) as server:
        service.url = f"ws://127.0.0.1:{server.socket.getsockname()[1]}/api-ws/v1/inference"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield service
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def instrumented(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(dashscope, "api_key", "no")
    assert ttstrace.instrument("dashscope") == ["dashscope"]
    yield
    ttstrace.uninstrument()


class Callback(ResultCallback):  # type: ignore[misc]
    """Takes some seconds with each piece."""

    def __init__(self, hold: float = 0.0) -> None:
        self.hold = hold
        self.heard = b""
        self.errors: list[str] = []
        self.closed = threading.Event()

    def on_data(self, data: bytes) -> None:
        self.heard += data
        time.sleep(self.hold)

    def on_error(self, message: str) -> None:
        self.errors.append(message)

    def on_close(self) -> None:
        self.closed.set()


def _speaker(service: Service, format: Any = AudioFormat.WAV_24000HZ_MONO_16BIT, **options: Any) -> Any:
    return SpeechSynthesizer(model="cosyvoice-v3", voice="longanyang", format=format, url=service.url, **options)


def _wait_for_one(spans: Spans) -> None:
    """The receiver thread ends the span just after it has told the program."""
    deadline = time.monotonic() + PATIENCE
    while not spans.syntheses() and time.monotonic() < deadline:
        time.sleep(0.01)


def _attributes(spans: Spans, service: Service, **expected: Any) -> dict[str, Any]:
    _wait_for_one(spans)
    span = spans.one()
    assert span.kind is SpanKind.CLIENT
    assert span.status.status_code is StatusCode.UNSET
    attributes = dict(span.attributes or {})
    told = {
        "gen_ai.provider.name": "dashscope",
        "gen_ai.request.model": "cosyvoice-v3",
        "gen_ai.speech.voice": "longanyang",
        "server.address": "127.0.0.1",
        **{name.replace("__", "."): value for name, value in expected.items()},
    }
    assert {name: attributes.get(name) for name in told} == told
    assert "tts.interrupted" not in attributes
    return attributes


def test_whole(spans: Spans, service: Service) -> None:
    begun = time.perf_counter()
    assert _speaker(service, language_hints=["zh"]).call("你好。") == service.audio
    took = time.perf_counter() - begun
    assert service.texts == ["你好。"]
    attributes = _attributes(
        spans,
        service,
        gen_ai__request__stream=False,
        tts__language="zh",
        tts__input__characters=3,
        tts__usage__characters=3,
        tts__audio__format="wav",
        tts__audio__sample_rate=RATE,
        tts__audio__duration=1.0,
    )
    assert attributes["tts.synthesis.duration"] == between(PIECES * DELAY, took)
    assert "tts.stream.chunks" not in attributes


def test_raw_samples(spans: Spans, service: Service) -> None:
    service.audio = PCM
    _speaker(service, AudioFormat.PCM_24000HZ_MONO_16BIT).call("你好。")
    _attributes(spans, service, tts__audio__format="pcm_s16le", tts__audio__sample_rate=RATE, tts__audio__duration=1.0)


def test_of_what_the_service_chose_nothing_is_guessed(spans: Spans, service: Service) -> None:
    service.audio = bytes(5000)
    _speaker(service, AudioFormat.DEFAULT).call("你好。")
    attributes = _attributes(spans, service, tts__audio__size=5000)
    assert not {"tts.audio.duration", "tts.audio.format", "tts.rtf", "tts.language"} & attributes.keys()


def test_to_a_callback_after_the_call_returned(spans: Spans, service: Service) -> None:
    service.audio = PCM
    callback = Callback()
    speaker = _speaker(service, AudioFormat.PCM_24000HZ_MONO_16BIT, callback=callback)
    begun = time.perf_counter()
    assert speaker.call("你好。") is None
    assert not spans.syntheses()  # the audio is still to come
    assert callback.closed.wait(PATIENCE)
    took = time.perf_counter() - begun
    assert callback.heard == PCM
    attributes = _attributes(
        spans,
        service,
        gen_ai__request__stream=True,
        tts__input__characters=3,
        tts__usage__characters=3,
        tts__stream__chunks=PIECES,
        tts__audio__format="pcm_s16le",
        tts__audio__sample_rate=RATE,
        tts__audio__duration=1.0,
    )
    assert attributes["tts.synthesis.duration"] == between(PIECES * DELAY, took)
    assert attributes["gen_ai.response.time_to_first_chunk"] == between(DELAY, took)
    assert attributes["tts.rtf"] == attributes["tts.synthesis.duration"]


def test_a_callback_that_takes_its_time_holds(spans: Spans, service: Service) -> None:
    callback = Callback(hold=0.2)
    _speaker(service, callback=callback).call("你好。")
    assert callback.closed.wait(PATIENCE)
    attributes = _attributes(spans, service, tts__audio__duration=1.0)
    assert attributes["tts.stream.hold.duration"] >= PIECES * 0.2
    # Who sends goes on meanwhile: how long that took, nobody knows.
    assert not {"tts.synthesis.duration", "tts.rtf"} & attributes.keys()


def test_text_in_pieces(spans: Spans, service: Service) -> None:
    callback = Callback()
    speaker = _speaker(service, callback=callback)
    begun = time.perf_counter()
    for piece in ("床前", "明月光，", "疑是地上霜。"):
        speaker.streaming_call(piece)
        time.sleep(0.2)  # until there is more of it
    speaker.streaming_complete()
    took = time.perf_counter() - begun
    assert service.texts == ["床前", "明月光，", "疑是地上霜。"]
    assert callback.heard == service.audio
    attributes = _attributes(
        spans,
        service,
        gen_ai__request__stream=True,
        tts__input__characters=12,
        tts__usage__characters=12,
        tts__audio__duration=1.0,
    )
    assert attributes["tts.input.wait.duration"] == between(0.6, took)
    # The service may have worked on the pieces that it had.
    assert not {"tts.synthesis.duration", "tts.rtf"} & attributes.keys()


def test_the_application_is_the_parent(spans: Spans, service: Service) -> None:
    from opentelemetry import trace

    callback = Callback()
    with trace.get_tracer("app").start_as_current_span("app") as app:
        _speaker(service, callback=callback).call("你好。")
    assert callback.closed.wait(PATIENCE)
    _wait_for_one(spans)
    parent = spans.one().parent
    assert parent is not None
    assert parent.span_id == app.get_span_context().span_id


@pytest.mark.parametrize("calls_back", [False, True])
def test_a_task_that_fails(spans: Spans, service: Service, calls_back: bool) -> None:
    service.fails_after = 2
    callback = Callback() if calls_back else None
    if callback is None:
        with pytest.raises(RequestFailure):
            _speaker(service).call("你好。")
    else:
        _speaker(service, callback=callback).call("你好。")
        assert callback.closed.wait(PATIENCE)
        assert len(callback.errors) == 1
    _wait_for_one(spans)
    span = spans.one()
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "dashscope.common.error.RequestFailure"
    assert "tts.rtf" not in (span.attributes or {})
    assert "hush" not in span.to_json()


def test_a_task_that_is_refused(spans: Spans, service: Service) -> None:
    service.refuses = True
    with pytest.raises(RequestFailure):
        _speaker(service, callback=Callback()).call("你好。")
    _wait_for_one(spans)
    assert spans.one().status.status_code is StatusCode.ERROR


def test_one_that_is_cancelled(spans: Spans, service: Service) -> None:
    speaker = _speaker(service, callback=Callback())
    speaker.streaming_call("你好。")
    speaker.streaming_cancel()
    assert spans.attributes()["tts.interrupted"] is True
    assert spans.one().status.status_code is StatusCode.UNSET


def test_one_that_is_dropped_leaves_its_span(spans: Spans, service: Service) -> None:
    service.hangs_up = True
    speaker = _speaker(service, callback=Callback())
    speaker.streaming_call("你好。")
    speaker.thread.join(PATIENCE)  # it keeps the speaker
    assert not spans.syntheses()
    del speaker
    gc.collect()
    assert spans.attributes()["tts.interrupted"] is True


def test_originals_are_put_back() -> None:
    names = [
        "call",
        "streaming_call",
        "streaming_complete",
        "async_streaming_complete",
        "on_message",
        "streaming_cancel",
    ]
    owner = speech_synthesizer.SpeechSynthesizer
    patched = [vars(owner)[name] for name in names]
    ttstrace.uninstrument("dashscope")
    assert all(vars(owner)[name] is was.__wrapped__ for name, was in zip(names, patched, strict=True))
