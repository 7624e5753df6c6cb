"""Integrations on real SDKs, beside OpenTelemetry's instrumentation of the clients that they use, and of servers above.

However a synthesis sends its requests, and whoever was put on first: each request is a child of it, and there once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gtts
import hibari
import pytest
import urllib3
from beside import traceparent
from conftest import Spans
from google_tts import in_place_of_google, mp3
from instrumented import instrumented_clients, is_child, needed, of_clients, served
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind
from speech_server import SpeechServer, serving
from test_integrations_http import DOORS, TEXT, Door, _run

import ttstrace
from ttstrace import semconv

_OPENAI: dict[str, Any] = {"input": TEXT, "model": "gpt-4o-mini-tts", "voice": "coral"}


def _openai(url: str) -> bytes:
    import openai

    return bytes(openai.OpenAI(base_url=url, api_key="no", max_retries=0).audio.speech.create(**_OPENAI).read())


def _openai_stream(url: str) -> Iterator[bytes]:
    import openai

    speech = openai.OpenAI(base_url=url, api_key="no", max_retries=0).audio.speech.with_streaming_response
    with speech.create(**_OPENAI) as response:
        yield from response.iter_bytes()


async def _openai_pieces(url: str) -> AsyncIterator[bytes]:
    import openai

    async with (
        openai.AsyncOpenAI(base_url=url, api_key="no", max_retries=0) as client,
        client.audio.speech.with_streaming_response.create(**_OPENAI) as response,
    ):
        async for piece in response.iter_bytes():
            yield piece


WAYS = [
    *DOORS,
    Door("openai", "create", "openai", "", _openai, False),
    Door("openai", "streaming", "openai", "", _openai_stream, True),
    Door("openai", "async", "openai", "", lambda url: _run(_openai_pieces(url)), True),
]
# Which client sends their requests.
CLIENTS = {
    "cartesia": "httpx", "deepgram": "httpx", "elevenlabs": "httpx", "fish_audio": "httpx", "groq": "httpx",
    "together": "httpx", "openai": "httpx2", "google_genai": "httpx2", "google_genai-async": "aiohttp",
    "google_cloud": "requests", "typecast": "requests", "typecast-async": "aiohttp", "polly": "botocore",
    "polly-async": "aiobotocore",
}  # fmt: skip


def client_of(way: Door) -> str | None:
    """Which client sends its requests."""
    return (CLIENTS.get(f"{way.backend}-async") if "async" in way.name else None) or CLIENTS.get(way.backend)


# These give a generator of the SDK's own, which sends its request with the first pull.
LAZY = {
    "elevenlabs-convert", "elevenlabs-stream", "elevenlabs-async_convert", "elevenlabs-async_stream", "deepgram-v1",
    "deepgram-v2", "deepgram-async_v1", "deepgram-async_v2", "typecast-stream",
}  # fmt: skip


@pytest.fixture(autouse=True)
def come_off() -> Iterator[None]:
    yield
    ttstrace.uninstrument()


@contextmanager
def integration(backend: str) -> Iterator[None]:
    assert ttstrace.instrument(backend) == [backend]
    yield
    ttstrace.uninstrument(backend)


@contextmanager
def both(backend: str, ours_first: bool) -> Iterator[None]:
    """With ours and theirs, put on in either order, and taken off in the reverse one."""
    first, second = instrumented_clients(), integration(backend)
    if ours_first:
        first, second = second, first
    with first, second:
        yield


def check_nested(spans: Spans, requests: int, above: Any) -> list[ReadableSpan]:
    """One synthesis, below the span that is given, and the requests below that, each once; gives these."""
    synthesis = spans.one()
    assert is_child(synthesis, above)
    sent = of_clients(spans)
    assert [is_child(span, synthesis) for span in sent] == [True] * requests
    assert len(spans.all()) == 2 + requests
    return sent


def named(spans: list[ReadableSpan]) -> list[tuple[str, SpanKind]]:
    return [(span.name, span.kind) for span in spans]


@dataclass
class Asked:
    """What came of one call of an SDK."""

    caller: trace.Span
    audio: bytes
    traceparents: list[str | None]


def ask(spans: Spans, way: Door, service: SpeechServer) -> Asked:
    """Have an SDK synthesize inside a span, and take the audio when that has ended, if it comes lazily."""
    spans.clear()
    service.requests.clear()
    service.traceparents.clear()
    with trace.get_tracer("caller").start_as_current_span("caller") as caller:
        answer = way.speak(service.url)
        if isinstance(answer, bytes):
            return Asked(caller, answer, service.traceparents[:])
        # A generator of the test's own calls the SDK when it is first pulled.
        first = [next(answer)] if way.id not in LAZY else []
        assert way.id not in LAZY or service.requests == []
    return Asked(caller, b"".join([*first, *answer]), service.traceparents[:])


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.id)
def test_request_is_below_the_synthesis(spans: Spans, way: Door) -> None:
    """With whatever of theirs is here, and whoever is put on first."""
    pytest.importorskip(way.module)
    client = client_of(way)
    if client is not None:
        needed(client)
    service = SpeechServer()
    half = len(way.audio) // 2
    service.pieces = way.pieces([way.audio[:half], way.audio[half:]])
    service.headers, service.content_type = way.headers, way.content_type
    with serving(service):
        with instrumented_clients():
            assert ask(spans, way, service).audio == way.audio
        alone = named(of_clients(spans))
        if client is None and not alone:
            pytest.skip(f"no instrumentation of what {way.id} sends its requests by")
        assert len(alone) == 1
        for ours_first in (False, True):
            with both(way.backend, ours_first):
                asked = ask(spans, way, service)
            assert asked.audio == way.audio
            sent = check_nested(spans, 1, asked.caller)
            assert named(sent) == alone
            if way.backend != "polly":  # Amazon's own header is what tells its services
                assert asked.traceparents == [traceparent(span) for span in sent]


@pytest.mark.parametrize("ours_first", [False, True], ids=["theirs first", "ours first"])
@pytest.mark.parametrize("door", ["stream", "save", "stream_sync"])
def test_edge_tts(spans: Spans, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, door: str, ours_first: bool) -> None:
    """A websocket by aiohttp: one request, also where a thread of the library's own asks."""
    edge_tts = pytest.importorskip("edge_tts")
    needed("aiohttp")
    from edge_server import EdgeService
    from edge_server import serving as serving_edge

    audio, file = mp3(0.5), tmp_path / "speech.mp3"
    with serving_edge(EdgeService(audio, 2, 0.0)) as service, both("edge_tts", ours_first):
        monkeypatch.setattr("edge_tts.communicate.WSS_URL", service.url)
        monkeypatch.setattr("edge_tts.communicate._SSL_CTX", None)
        with trace.get_tracer("caller").start_as_current_span("caller") as caller:
            speech = edge_tts.Communicate(TEXT, "ko-KR-SunHiNeural")
            if door == "save":
                asyncio.run(speech.save(str(file)))
            else:
                chunks = speech.stream_sync() if door == "stream_sync" else _run(speech.stream())
                file.write_bytes(b"".join(chunk["data"] for chunk in chunks if chunk["type"] == "audio"))
        check_nested(spans, 1, caller)
    assert file.read_bytes() == audio


# --- gRPC --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ours_first", [False, True], ids=["theirs first", "ours first"])
@pytest.mark.parametrize("door", ["whole", "stream", "whole_async", "stream_async"])
def test_google_cloud_by_grpc(spans: Spans, door: str, ours_first: bool) -> None:
    pytest.importorskip("google.cloud.texttospeech_v1")
    needed("grpc.aio" if door.endswith("async") else "grpc")
    import google_cloud_server as server

    def whole(address: str) -> bytes:
        return bytes(server.client(address).synthesize_speech(**server.ASKED).audio_content)

    def stream(address: str) -> bytes:
        answers = server.client(address).streaming_synthesize(iter(server.requests()))
        return b"".join(each.audio_content for each in answers)

    async def whole_async(address: str) -> bytes:
        return bytes((await server.async_client(address).synthesize_speech(**server.ASKED)).audio_content)

    async def stream_async(address: str) -> bytes:
        async def requests() -> AsyncIterator[Any]:
            for each in server.requests():
                yield each

        answers = await server.async_client(address).streaming_synthesize(requests())
        return b"".join([each.audio_content async for each in answers])

    doors: dict[str, Callable[[str], Any]] = {
        "whole": whole, "stream": stream,
        "whole_async": lambda address: asyncio.run(whole_async(address)),
        "stream_async": lambda address: asyncio.run(stream_async(address)),
    }  # fmt: skip
    with server.serving(pieces=2, delay=0.0) as service, both("google_cloud", ours_first):
        with trace.get_tracer("caller").start_as_current_span("caller") as caller:
            assert doors[door](service.address) == server.SAMPLES
        end = time.monotonic() + 20  # theirs ends in a thread of gRPC's own
        while not of_clients(spans) and time.monotonic() < end:
            time.sleep(0.01)
        sent = check_nested(spans, 1, caller)
    assert service.traceparents == [traceparent(span) for span in sent]


# --- a service above ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("route", ["openai", "openai_async", "elevenlabs", "groq_async", "gtts", "polly", "hibari"])
@pytest.mark.parametrize("ours_first", [False, True], ids=["theirs first", "ours first"])
def test_fastapi_above(spans: Spans, monkeypatch: pytest.MonkeyPatch, route: str, ours_first: bool) -> None:
    """A request, a synthesis and the requests below that are one line of descent, whichever thread does which part."""
    fastapi = pytest.importorskip("fastapi")
    above = pytest.importorskip("opentelemetry.instrumentation.fastapi").FastAPIInstrumentor()
    asks = {
        "openai": "openai-streaming", "openai_async": "openai-async", "elevenlabs": "elevenlabs-stream",
        "groq_async": "groq-async", "polly": "polly-chunks",
    }  # fmt: skip
    service = SpeechServer()
    ways = {way.id: way for way in WAYS}
    way = ways.get(asks.get(route, ""))
    if way is not None:
        pytest.importorskip(way.module)
        needed(client_of(way))
        service.pieces = [way.audio]
    app = fastapi.FastAPI()
    streaming = fastapi.responses.StreamingResponse
    voice = hibari.Hibari()
    pieces: list[bytes] = []

    @app.get("/openai")
    @app.get("/elevenlabs")
    @app.get("/polly")
    def by_threads() -> Any:  # of a pool, which pull
        assert way is not None
        return streaming(way.speak(service.url))

    @app.get("/openai_async")
    async def openai_async() -> Any:
        return streaming(_openai_pieces(service.url))

    @app.get("/groq_async")
    async def groq_async() -> Any:
        import groq

        async with groq.AsyncGroq(base_url=service.url, api_key="no", max_retries=0) as client:
            said = await client.audio.speech.create(input=TEXT, model="orpheus", voice="troy", response_format="wav")
            return fastapi.Response(await said.read())

    @app.get("/gtts")
    def by_gtts() -> Any:
        return streaming(gtts.gTTS(TEXT, lang_check=False).stream())

    @app.get("/hibari")
    def by_hibari() -> Any:
        def spoken() -> Iterator[bytes]:
            for piece in voice.stream(TEXT):
                pieces.append(piece.tobytes())
                yield pieces[-1]

        return streaming(spoken())

    with ExitStack() as stack:
        google = stack.enter_context(in_place_of_google(monkeypatch))
        stack.enter_context(serving(service))
        above.instrument_app(app)
        stack.callback(above.uninstrument_app, app)
        url = stack.enter_context(served(app))
        stack.enter_context(both(route.removesuffix("_async"), ours_first))
        answer = urllib3.PoolManager().request("GET", f"{url}/{route}")
    sent = service.requests + google.requests
    assert answer.status == 200
    assert answer.data == (b"".join(google.sent or pieces) if way is None else way.audio)
    assert len(sent) == (route != "hibari")
    synthesis = spans.one()
    (request,) = [span for span in spans.all() if span.kind is SpanKind.SERVER]
    below = [span for span in of_clients(spans) if is_child(span, synthesis)]
    assert is_child(synthesis, request)
    assert len(below) == len(sent)
    assert spans.attributes()[semconv.TTS_INPUT_CHARACTERS] == len(TEXT)
    # All that is left is the test's own request, where that is instrumented, and what FastAPI's says of its sending.
    assert {span.kind for span in spans.all() if span not in (synthesis, request, *below)} <= {
        SpanKind.INTERNAL,
        SpanKind.CLIENT,
    }
    assert len(of_clients(spans)) - len(below) <= 1
