"""Azure's Speech SDK itself, its native library included, against a local websocket that speaks the service's
protocol."""

from __future__ import annotations

import asyncio
import gc
import socketserver
import struct
import threading
import time
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from azure_server import SpeechService, serving
from backends import tone
from conftest import Spans, between
from google_tts import mp3, seconds_of
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

import ttstrace

sdk = pytest.importorskip("azure.cognitiveservices.speech")

TEXT = "안녕하세요 & <반갑습니다>."
VOICE = "ko-KR-SunHiNeural"
SSML = f"""<speak version="1.0" xmlns="http://www.w3.org/2001/10/synthesis" xml:lang="ko-KR">
<voice rate="1" name='{VOICE}'>안녕 &amp; 하세요</voice></speak>"""
RATE = 16_000  # the SDK's own
PIECES = 4
SECONDS = 0.25  # of audio, in each piece
DELAY = 0.08  # seconds before each piece
MILLISECOND = 0.001  # the SDK takes its times in whole ones
Speak = Callable[[Any, str], Any]


def pcm(seconds: float, rate: int = RATE) -> bytes:
    return (tone(seconds, rate) * 32767).astype("<i2").tobytes()


@pytest.fixture
def service() -> Iterator[SpeechService]:
    with serving(SpeechService()) as service:
        service.pieces = [pcm(SECONDS)] * PIECES
        service.delay = DELAY
        yield service


@pytest.fixture(autouse=True)
def instrumented() -> Iterator[None]:
    assert ttstrace.instrument("azure") == ["azure"]
    yield
    ttstrace.uninstrument()


def configuration(service: SpeechService) -> Any:
    return sdk.SpeechConfig(endpoint=f"{service.host}/tts?token=private", subscription="private")


def synthesizer(service: SpeechService, configured: Any = None, output: Any = None) -> Any:
    return sdk.SpeechSynthesizer(configured or configuration(service), audio_config=output)


def facts(span: ReadableSpan, *names: str) -> dict[str, Any]:
    return {name: (span.attributes or {}).get(name) for name in names}


def length(span: ReadableSpan) -> float:
    """Seconds."""
    return ((span.end_time or 0) - (span.start_time or 0)) / 1e9


def took(service: SpeechService, outer: float, nth: int = 0) -> between:
    """From the request's arrival to the last piece of audio, and what the caller saw of it."""
    request = service.requests[nth]
    return between(request.sent[-1] - request.received - MILLISECOND, outer + MILLISECOND)


def _text(speech: Any, text: str) -> Any:
    return speech.speak_text(text)


def _text_async(speech: Any, text: str) -> Any:
    return speech.speak_text_async(text).get()


def _started(speech: Any, text: str) -> Any:
    return speech.start_speaking_text(text)


def _started_async(speech: Any, text: str) -> Any:
    return speech.start_speaking_text_async(text).get()


# --- whole results -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("speak", [_text, _text_async])
def test_one_span_of_a_result(spans: Spans, service: SpeechService, speak: Speak) -> None:
    configured = configuration(service)
    configured.speech_synthesis_voice_name = VOICE
    configured.speech_synthesis_language = "ko-KR"
    speech = synthesizer(service, configured)
    with trace.get_tracer("caller").start_as_current_span("caller") as caller:
        begun = time.perf_counter()
        result = speak(speech, TEXT)
        outer = time.perf_counter() - begun
    assert type(result) is sdk.SpeechSynthesisResult
    assert result.reason is sdk.ResultReason.SynthesizingAudioCompleted
    assert result.audio_data[-len(pcm(1)) :] == pcm(SECONDS) * PIECES
    assert result.audio_duration.total_seconds() == PIECES * SECONDS
    assert len(service.requests) == 1
    span = spans.one()
    assert span.parent is not None
    assert span.parent.span_id == caller.get_span_context().span_id
    assert span.kind is SpanKind.CLIENT
    assert span.status.status_code is StatusCode.UNSET
    attributes = dict(span.attributes or {})
    figures = {name for name in attributes if name.startswith(("tts.cpu", "tts.memory"))}
    assert {name: value for name, value in attributes.items() if name not in figures} == {
        "gen_ai.operation.name": "text_to_speech",
        "gen_ai.provider.name": "azure.ai.speech",
        "gen_ai.speech.voice": VOICE,
        "gen_ai.output.type": "speech",
        "gen_ai.request.stream": False,
        "code.function.name": "azure.cognitiveservices.speech.speech.SpeechSynthesizer.speak_text_async",
        "server.address": "127.0.0.1",
        "server.port": service.port,
        "tts.language": "ko-KR",
        "tts.input.type": "text",
        "tts.input.characters": len(TEXT),
        "tts.audio.duration": PIECES * SECONDS,
        "tts.audio.sample_rate": RATE,
        "tts.audio.channels": 1,
        "tts.audio.format": "wav",
        "tts.audio.size": len(result.audio_data),
        "tts.synthesis.duration": took(service, outer),
        "tts.rtf": attributes["tts.synthesis.duration"] / (PIECES * SECONDS),
        "tts.rtf.grade": "very_fast" if attributes["tts.rtf"] < 0.5 else attributes["tts.rtf.grade"],
        "tts.concurrency.max": 1,
    }
    assert length(span) == between(PIECES * DELAY, outer)


@pytest.mark.parametrize(
    ("ssml", "voice", "language"),
    [
        (SSML, VOICE, "ko-KR"),
        (SSML.replace("</voice>", "</voice><voice name='en-US-AvaNeural'>hi</voice>"), None, "ko-KR"),
        ("<speak version='1.0'>hi</speak>", None, None),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_what_ssml_says(
    spans: Spans, service: SpeechService, streamed: bool, ssml: str, voice: str | None, language: str | None
) -> None:
    configured = configuration(service)
    configured.speech_synthesis_voice_name = "en-US-GuyNeural"  # of which the SDK makes no use here
    speech = synthesizer(service, configured)
    service.delay = 0.0
    if streamed:
        read_all(sdk.AudioDataStream(speech.start_speaking_ssml(ssml)))
    else:
        speech.speak_ssml(ssml)
    assert service.requests[0].ssml == ssml
    names = ("tts.input.type", "gen_ai.speech.voice", "tts.language", "tts.input.characters", "tts.audio.duration")
    assert facts(spans.one(), *names) == dict(zip(names, ("ssml", voice, language, len(ssml), 1.0), strict=True))


def _mulaw(seconds: float) -> bytes:
    return bytes(range(256)) * round(seconds * 8000 / 256)


@pytest.mark.parametrize(
    ("format", "pieces", "expected"),
    [
        (None, [pcm(1.0)], (1.0, 16_000, "wav", "pcm_s16le")),
        ("Riff24Khz16BitMonoPcm", [pcm(0.5, 24_000)] * 2, (1.0, 24_000, "wav", "pcm_s16le")),
        ("Raw48Khz16BitMonoPcm", [pcm(0.5, 48_000)] * 2, (1.0, 48_000, "pcm_s16le", "pcm_s16le")),
        ("Riff8Khz8BitMonoMULaw", [_mulaw(1.024)], (1.024, 8_000, "wav", "pcm_mulaw")),
        ("Audio24Khz48KBitRateMonoMp3", [mp3(1.0)], (seconds_of(mp3(1.0)), 24_000, "mp3", "mp3")),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_formats(
    spans: Spans, service: SpeechService, streamed: bool, format: str | None, pieces: list[bytes], expected: Any
) -> None:
    seconds, rate, whole, in_pieces = expected
    configured = configuration(service)
    if format is not None:
        configured.set_speech_synthesis_output_format(sdk.SpeechSynthesisOutputFormat[format])
    speech = synthesizer(service, configured)
    service.pieces, service.delay = pieces, 0.0
    if streamed:
        assert read_all(sdk.AudioDataStream(speech.start_speaking_text(TEXT))) == b"".join(pieces)
    else:
        assert speech.speak_text(TEXT).audio_data.endswith(b"".join(pieces))
    if format is None:  # what nobody asked for
        assert service.requests[0].format == "raw-16khz-16bit-mono-pcm"
    attributes = spans.attributes()
    assert attributes["tts.audio.duration"] == pytest.approx(seconds, abs=1e-9)
    assert attributes["tts.audio.sample_rate"] == rate
    assert attributes["tts.audio.format"] == (in_pieces if streamed else whole)


def test_no_audio(spans: Spans, service: SpeechService) -> None:
    service.pieces = []
    assert synthesizer(service).speak_text(TEXT).audio_data == b""
    attributes = spans.attributes()
    assert attributes["tts.audio.duration"] == 0.0
    assert "tts.rtf" not in attributes
    assert "tts.synthesis.duration" in attributes


def test_a_host_of_which_the_sdk_makes_the_url(spans: Spans, service: SpeechService) -> None:
    synthesizer(service, sdk.SpeechConfig(host=service.host, subscription="private")).speak_text(TEXT)
    assert service.requests[0].path.startswith("/cognitiveservices/")
    assert facts(spans.one(), "server.address", "server.port") == {
        "server.address": "127.0.0.1",
        "server.port": service.port,
    }


def test_a_region(spans: Spans) -> None:
    """Which host that is, the SDK knows. A proxy that lets nobody through stands in for the way there."""
    asked: list[bytes] = []

    class Proxy(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            asked.append(self.request.recv(4096))
            self.request.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Proxy) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            configured = sdk.SpeechConfig(region="koreacentral", subscription="private")
            configured.set_proxy("127.0.0.1", proxy.server_address[1])
            sdk.SpeechSynthesizer(configured, audio_config=None).speak_text(TEXT)
        finally:
            proxy.shutdown()
            thread.join()
    span = spans.one()
    address, port = (span.attributes or {})["server.address"], (span.attributes or {})["server.port"]
    assert address == "koreacentral.tts.speech.microsoft.com"
    assert asked[0].startswith(f"CONNECT {address}:{port} ".encode())
    assert failed(span)[0] == "ConnectionFailure"


def test_written_to_a_file(spans: Spans, service: SpeechService, tmp_path: Path) -> None:
    output = sdk.audio.AudioOutputConfig(filename=str(tmp_path / "speech.wav"))
    speech = synthesizer(service, output=output)
    speech.speak_text(TEXT)
    del speech
    gc.collect()
    with wave.open(str(tmp_path / "speech.wav")) as file:
        assert file.getnframes() / file.getframerate() == PIECES * SECONDS
    assert spans.attributes()["tts.audio.duration"] == PIECES * SECONDS


# --- futures -----------------------------------------------------------------------------------------------------


def test_got_long_after_it_was_done(spans: Spans, service: SpeechService) -> None:
    """The duration is the service's; the span is there until the program has its result."""
    speech = synthesizer(service)
    done = threading.Event()
    heard: list[Any] = []
    speech.synthesizing.connect(lambda event: heard.append(event.result.audio_data))
    speech.synthesis_completed.connect(lambda event: done.set())
    begun = time.perf_counter()
    future = speech.speak_text_async(TEXT)
    called = time.perf_counter()
    assert isinstance(future, sdk.ResultFuture)
    assert done.wait(60)
    outer = time.perf_counter() - begun
    time.sleep(5 * DELAY)
    assert spans.syntheses() == []
    held = time.perf_counter() - called
    result = future.get()
    whole = time.perf_counter() - begun
    assert future.get() is result
    header = len(result.audio_data) - len(pcm(1))
    assert b"".join(each[header:] for each in heard) == pcm(SECONDS) * PIECES  # by the program's own handlers
    span = spans.one()
    assert facts(span, "tts.synthesis.duration", "tts.audio.duration", "tts.interrupted") == {
        "tts.synthesis.duration": took(service, outer),
        "tts.audio.duration": PIECES * SECONDS,
        "tts.interrupted": None,
    }
    assert length(span) == between(held, whole)


def test_queued_on_one_synthesizer(spans: Spans, service: SpeechService) -> None:
    """The SDK synthesizes one after the other: how long one waited for the other is not the service's time."""
    speech = synthesizer(service)
    begun = time.perf_counter()
    futures = [speech.speak_text_async("one"), speech.speak_text_async("three")]
    for future in futures:
        future.get()
    outer = time.perf_counter() - begun
    first, second = spans.syntheses()
    assert first.attributes["tts.synthesis.duration"] == took(service, outer - PIECES * DELAY, 0)
    assert second.attributes["tts.synthesis.duration"] == took(service, outer - PIECES * DELAY, 1)
    assert [span.attributes["tts.input.characters"] for span in (first, second)] == [3, 5]


def test_got_in_a_thread_in_another_context(spans: Spans, service: SpeechService) -> None:
    tracer = trace.get_tracer("caller")
    got: list[Any] = []
    with tracer.start_as_current_span("caller") as caller:
        future = synthesizer(service).speak_text_async(TEXT)

    def get() -> None:
        with tracer.start_as_current_span("getter") as getter:
            got.append(future.get())
            assert trace.get_current_span() is getter

    threads = [threading.Thread(target=get) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [result.audio_duration.total_seconds() for result in got] == [1.0] * 3
    span = spans.one()
    assert span.parent is not None
    assert span.parent.span_id == caller.get_span_context().span_id
    assert span.attributes["tts.audio.duration"] == 1.0


def test_got_by_an_event_loop(spans: Spans, service: SpeechService) -> None:
    async def main() -> Any:
        speech = synthesizer(service)
        loop = asyncio.get_running_loop()
        futures = [loop.run_in_executor(None, speech.speak_text_async(text).get) for text in ("one", "two")]
        return [(await future).audio_duration.total_seconds() for future in futures]

    assert asyncio.run(main()) == [1.0, 1.0]
    assert [span.attributes["tts.audio.duration"] for span in spans.syntheses()] == [1.0, 1.0]


@pytest.mark.parametrize("kept", [False, True])
def test_never_got(spans: Spans, service: SpeechService, kept: bool) -> None:
    """What became of it, nobody saw: that is neither known nor an interruption."""
    speech = synthesizer(service)
    done = threading.Event()
    speech.synthesis_completed.connect(lambda event: done.set())
    future = speech.speak_text_async(TEXT)
    if not kept:
        del future
    assert done.wait(60)
    if kept:
        assert spans.syntheses() == []
        del future
    gc.collect()
    span = spans.one()
    assert span.status.status_code is StatusCode.UNSET
    assert facts(span, "tts.input.characters", "gen_ai.provider.name") == {
        "tts.input.characters": len(TEXT),
        "gen_ai.provider.name": "azure.ai.speech",
    }
    unknown = {"tts.synthesis.duration", "tts.rtf", "tts.audio.duration", "tts.interrupted", "gen_ai.request.stream"}
    assert unknown.isdisjoint(span.attributes or {})


def test_text_that_is_streamed_to_the_service(spans: Spans, service: SpeechService) -> None:
    """The program's own time is in there: nobody knows how much."""
    request = sdk.SpeechSynthesisRequest(input_type=sdk.SpeechSynthesisRequestInputType.TextStream)
    future = synthesizer(service).speak_async(request)
    for piece in ("one ", "two"):
        request.input_stream.write(piece)
    request.input_stream.close()
    assert future.get().audio_duration.total_seconds() == 1.0
    assert service.requests[0].pieces == ["one ", "two"]
    attributes = spans.attributes()
    assert attributes["tts.audio.duration"] == 1.0
    assert {"tts.synthesis.duration", "tts.rtf", "tts.input.characters"}.isdisjoint(attributes)


# --- failures ----------------------------------------------------------------------------------------------------


def _refused(status: int) -> Callable[[SpeechService, Any], None]:
    def refuse(service: SpeechService, configured: Any) -> None:
        service.status = status

    return refuse


def _cut(service: SpeechService, configured: Any) -> None:
    service.cut_after = 2


def _nothing_arrives(service: SpeechService, configured: Any) -> None:
    service.silent = True
    configured.set_property_by_name("SpeechSynthesis_FirstChunkTimeoutMs", "500")


FAILURES = [
    (_refused(401), "AuthenticationFailure"),
    (_refused(429), "TooManyRequests"),
    (_refused(503), "ServiceUnavailable"),
    (_cut, "ConnectionFailure"),
    (_nothing_arrives, "ServiceTimeout"),
]
TRIED_AGAIN = {"TooManyRequests", "ServiceUnavailable"}  # by the SDK itself


def failed(span: ReadableSpan) -> tuple[Any, ...]:
    """Error type, and what is told of the exception."""
    assert span.status.status_code is StatusCode.ERROR
    (event,) = [event for event in span.events if event.name == "exception"]
    told = dict(event.attributes or {})
    assert told.pop("exception.type") == (span.attributes or {})["error.type"]
    return (span.attributes or {})["error.type"], span.status.description, told


@pytest.mark.parametrize(("break_it", "error"), FAILURES)
def test_a_result_that_says_a_failure(
    spans: Spans, service: SpeechService, break_it: Callable[[SpeechService, Any], None], error: str
) -> None:
    configured = configuration(service)
    break_it(service, configured)
    begun = time.perf_counter()
    result = synthesizer(service, configured).speak_text(TEXT)
    outer = time.perf_counter() - begun
    assert result.reason is sdk.ResultReason.Canceled
    assert result.cancellation_details.error_code.name == error
    span = spans.one()
    assert failed(span) == (error, None, {})
    assert "private" not in span.to_json()
    attributes = dict(span.attributes or {})
    assert attributes["server.port"] == service.port
    assert attributes["tts.synthesis.duration"] == between(0.0, outer + MILLISECOND)
    assert {"tts.rtf", "tts.interrupted"}.isdisjoint(attributes)
    assert service.handshakes == (2 if error in TRIED_AGAIN else 1)


def test_the_message_only_with_the_content(
    spans: Spans, service: SpeechService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "SPAN_ONLY")
    service.status = 429
    details = synthesizer(service).speak_text(TEXT).cancellation_details.error_details
    assert "429" in details
    assert failed(spans.one()) == ("TooManyRequests", details, {"exception.message": details})


def test_nobody_listens_there(spans: Spans) -> None:
    with serving(SpeechService()) as gone:
        pass
    assert synthesizer(gone).speak_text(TEXT).reason is sdk.ResultReason.Canceled
    assert failed(spans.one())[0] == "ConnectionFailure"


@pytest.mark.parametrize("streamed", [False, True])
def test_stopped_by_the_program(spans: Spans, service: SpeechService, streamed: bool) -> None:
    """That is an interruption, not an error."""
    speech = synthesizer(service)
    heard = threading.Event()
    speech.synthesizing.connect(lambda event: heard.set())
    service.go.clear()
    if streamed:
        stream = sdk.AudioDataStream(speech.start_speaking_text(TEXT))
    else:
        future = speech.speak_text_async(TEXT)
    assert heard.wait(60)
    speech.stop_speaking()
    if streamed:
        read_all(stream)
    else:
        assert future.get().reason is sdk.ResultReason.Canceled
    span = spans.one()
    assert span.status.status_code is StatusCode.UNSET
    assert facts(span, "tts.interrupted", "error.type") == {"tts.interrupted": True, "error.type": None}


def test_what_the_sdk_raises(spans: Spans, service: SpeechService) -> None:
    with pytest.raises(AttributeError):
        synthesizer(service).speak_text(7)
    assert spans.attributes()["error.type"] == "AttributeError"


# --- audio that is read from a stream ----------------------------------------------------------------------------


def read_all(stream: Any, size: int = 3000) -> bytes:
    heard = bytearray()  # copies: the SDK writes into what Python holds to be constant
    buffer = struct.pack(f"{size}x")
    while filled := stream.read_data(buffer):
        heard += buffer[:filled]
    return bytes(heard)


@pytest.mark.keeps_time
@pytest.mark.parametrize("start", [_started, _started_async])
def test_one_span_of_a_stream(spans: Spans, service: SpeechService, start: Speak) -> None:
    speech = synthesizer(service)
    size = len(service.pieces[0])
    with trace.get_tracer("caller").start_as_current_span("caller") as caller:
        begun = time.perf_counter()
        result = start(speech, TEXT)
    assert type(result) is sdk.SpeechSynthesisResult
    stream = sdk.AudioDataStream(result)
    assert type(stream) is sdk.AudioDataStream
    buffer = struct.pack(f"{size}x")
    assert stream.read_data(buffer) == size
    first = time.perf_counter() - begun
    assert buffer == service.pieces[0]
    assert read_all(stream, size) == pcm(SECONDS) * (PIECES - 1)
    outer = time.perf_counter() - begun
    assert stream.read_data(buffer) == 0
    assert stream.status is sdk.StreamStatus.AllData
    assert len(service.requests) == 1
    request = service.requests[0]
    span = spans.one()
    assert span.parent is not None
    assert span.parent.span_id == caller.get_span_context().span_id
    expected = {
        "gen_ai.request.stream": True,
        "gen_ai.response.time_to_first_chunk": between(request.sent[0] - request.received, first),
        "tts.time_to_first_audio": between(request.sent[0] - request.received, first),
        "tts.stream.chunks": PIECES,
        "tts.audio.duration": PIECES * SECONDS,
        "tts.audio.size": len(pcm(1)),
        "tts.audio.sample_rate": RATE,
        "tts.input.characters": len(TEXT),
        "tts.synthesis.duration": took(service, outer),
        "tts.interrupted": None,
        "error.type": None,
    }
    assert facts(span, *expected) == expected
    assert "tts.first_audio" in [event.name for event in span.events]


def test_a_slow_reader(spans: Spans, service: SpeechService) -> None:
    """The SDK gathers meanwhile: its own time is known, and the reader's is hold."""
    speech = synthesizer(service)
    done = threading.Event()
    speech.synthesis_completed.connect(lambda event: done.set())
    begun = time.perf_counter()
    future = speech.start_speaking_text_async(TEXT)
    called = time.perf_counter()
    assert done.wait(60)
    outer = time.perf_counter() - begun
    asked = time.perf_counter()
    result = future.get()
    got = time.perf_counter()
    time.sleep(DELAY)
    opening = time.perf_counter()
    stream = sdk.AudioDataStream(result)
    assert read_all(stream) == pcm(SECONDS) * PIECES
    held = asked - called + opening - got
    attributes = spans.attributes()
    assert attributes["tts.synthesis.duration"] == took(service, outer)
    assert attributes["tts.stream.hold.duration"] == between(held - 0.001, time.perf_counter() - begun)
    assert "gen_ai.response.time_to_first_chunk" not in attributes  # nobody was there when it came
    assert attributes["tts.audio.duration"] == PIECES * SECONDS


def test_read_twice(spans: Spans, service: SpeechService) -> None:
    stream = sdk.AudioDataStream(synthesizer(service).start_speaking_text(TEXT))
    buffer = struct.pack("4000x")
    assert stream.read_data(buffer) == 4000
    assert stream.read_data(audio_buffer=buffer, pos=2000) == 4000  # half of it once more
    stream.position = 0
    assert stream.read_data(buffer) == 4000  # all of it once more
    assert read_all(stream) == (pcm(SECONDS) * PIECES)[4000:]
    attributes = spans.attributes()
    assert attributes["tts.audio.duration"] == PIECES * SECONDS
    assert attributes["tts.audio.size"] == len(pcm(1))


def test_two_streams_of_one_result(spans: Spans, service: SpeechService) -> None:
    result = synthesizer(service).start_speaking_text(TEXT)
    streams = [sdk.AudioDataStream(result), sdk.AudioDataStream(result)]
    assert [read_all(stream) for stream in streams] == [pcm(SECONDS) * PIECES] * 2
    assert spans.attributes()["tts.audio.duration"] == PIECES * SECONDS


def test_a_stream_of_a_whole_result(spans: Spans, service: SpeechService) -> None:
    result = synthesizer(service).speak_text(TEXT)
    assert read_all(sdk.AudioDataStream(result)) == pcm(SECONDS) * PIECES
    assert spans.attributes()["tts.audio.duration"] == PIECES * SECONDS


@pytest.mark.parametrize(("break_it", "error"), FAILURES)
def test_a_stream_that_says_a_failure(
    spans: Spans, service: SpeechService, break_it: Callable[[SpeechService, Any], None], error: str
) -> None:
    configured = configuration(service)
    break_it(service, configured)
    stream = sdk.AudioDataStream(synthesizer(service, configured).start_speaking_text(TEXT))
    heard = read_all(stream)
    assert len(heard) == (len(pcm(2 * SECONDS)) if break_it is _cut else 0)
    assert stream.status is sdk.StreamStatus.Canceled
    span = spans.one()
    assert failed(span) == (error, None, {})
    assert "private" not in span.to_json()
    assert service.handshakes == (2 if error in TRIED_AGAIN else 1)


def test_a_stream_that_is_dropped_half_way(spans: Spans, service: SpeechService) -> None:
    service.go.clear()
    stream = sdk.AudioDataStream(synthesizer(service).start_speaking_text(TEXT))
    buffer = struct.pack("4000x")
    assert stream.read_data(buffer) == 4000
    del stream
    gc.collect()
    service.go.set()
    span = spans.one()
    assert facts(span, "tts.interrupted", "tts.audio.size", "tts.synthesis.duration", "error.type") == {
        "tts.interrupted": True,
        "tts.audio.size": 4000,
        "tts.synthesis.duration": None,
        "error.type": None,
    }


@pytest.mark.parametrize("reads", [False, True])
def test_a_stream_that_is_saved(spans: Spans, service: SpeechService, reads: bool, tmp_path: Path) -> None:
    begun = time.perf_counter()
    stream = sdk.AudioDataStream(synthesizer(service).start_speaking_text(TEXT))
    if reads:
        stream.read_data(struct.pack("4000x"))
    stream.save_to_wav_file(str(tmp_path / "speech.wav"))
    outer = time.perf_counter() - begun
    with wave.open(str(tmp_path / "speech.wav")) as file:
        assert file.getnframes() / file.getframerate() == PIECES * SECONDS
    expected = {
        "gen_ai.request.stream": reads,
        "tts.audio.duration": PIECES * SECONDS,
        "tts.audio.sample_rate": RATE,
        "tts.audio.format": "wav",
        "tts.audio.size": (tmp_path / "speech.wav").stat().st_size,
        "tts.synthesis.duration": took(service, outer),
        "tts.interrupted": None,
    }
    assert facts(spans.one(), *expected) == expected


@pytest.mark.parametrize("opened", [False, True])
def test_never_read(spans: Spans, service: SpeechService, opened: bool) -> None:
    """The audio may have gone to a loudspeaker: nobody saw."""
    result = synthesizer(service).start_speaking_text(TEXT)
    if opened:
        sdk.AudioDataStream(result)
    del result
    gc.collect()
    unknown = {"tts.synthesis.duration", "tts.rtf", "tts.audio.duration", "tts.interrupted", "gen_ai.request.stream"}
    assert unknown.isdisjoint(spans.attributes())


# --- on and off --------------------------------------------------------------------------------------------------

OWNERS = (sdk.SpeechSynthesizer, sdk.AudioDataStream, sdk.ResultFuture, sdk.SpeechSynthesisResult)


def test_originals_are_put_back(service: SpeechService) -> None:
    ttstrace.uninstrument()
    before = [dict(vars(owner)) for owner in OWNERS]
    ttstrace.instrument("azure")
    assert vars(sdk.SpeechSynthesizer)["speak_text_async"] is not before[0]["speak_text_async"]
    assert vars(sdk.AudioDataStream)["read_data"] is not before[1]["read_data"]
    ttstrace.uninstrument("azure")
    for owner, held in zip(OWNERS, before, strict=True):
        assert list(vars(owner)) == list(held)
        assert all(vars(owner)[name] is held[name] for name in held)


def test_what_is_open_outlives_them(spans: Spans, service: SpeechService) -> None:
    speech = synthesizer(service)
    future = speech.speak_text_async(TEXT)
    stream = sdk.AudioDataStream(speech.start_speaking_text(TEXT))
    ttstrace.uninstrument()
    assert future.get().audio_duration.total_seconds() == 1.0
    assert read_all(stream) == pcm(SECONDS) * PIECES
    assert speech.speak_text(TEXT).audio_duration.total_seconds() == 1.0
    assert spans.attributes()["tts.audio.duration"] == 1.0
