"""Together with OpenTelemetry's instrumentation of HTTP clients and servers, and with who patches the same callables.

Wherever a figure could be theirs or ours, the service's own record of the request's headers is the truth."""

from __future__ import annotations

import asyncio
import functools
import io
import itertools
import json
import textwrap
import threading
import unittest.mock
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import beside
import gtts
import gtts.tts
import pytest
import wrapt
from beside import CHUNKS, RATE, Service, program, serving_audio, traceparent
from conftest import Metrics, Spans, set_tracer_provider
from google_tts import GoogleTTS, in_place_of_google, mp3
from instrumented import instrumented_clients, instrumentor, is_child, needed, of_clients, served
from opentelemetry import baggage, context, trace
from opentelemetry.instrumentation.utils import suppress_instrumentation, unwrap
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler, SamplingResult
from opentelemetry.trace import SpanKind

import ttstrace
from ttstrace import semconv

ENGINES = {
    "Requests": "requests", "Httpx": "httpx", "AsyncHttpx": "httpx", "Urllib3": "urllib3", "Urllib": "urllib",
    "Aiohttp": "aiohttp",
}  # fmt: skip
TEXT = "The first sentence says something that is long enough for two. " * 2  # more than 100 characters: two requests


@pytest.fixture(autouse=True)
def come_off() -> Iterator[None]:
    yield
    ttstrace.uninstrument()


@pytest.fixture
def service() -> Iterator[Service]:
    with serving_audio() as found:
        yield found


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch) -> Iterator[GoogleTTS]:
    with in_place_of_google(monkeypatch) as found:
        yield found


def consume(stream: Any) -> list[bytes]:
    if hasattr(stream, "__aiter__"):

        async def collected() -> list[bytes]:
            return [chunk async for chunk in stream]

        return asyncio.run(collected())
    return list(stream)


def speak(engine: Any, text: str) -> bytes:
    audio = engine.speak(text)
    return bytes(asyncio.run(audio) if hasattr(audio, "__await__") else audio)


# --- HTTP clients below ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ENGINES)
def test_request_nests_under_its_synthesis(spans: Spans, service: Service, name: str) -> None:
    """The request is a child of the synthesis, is there once, and the service is told of the request's own span."""
    needed(ENGINES[name])
    engine = getattr(beside, name)(service.url)
    with instrumented_clients():
        speak(engine, "Hello")
        without = [(span.name, span.kind) for span in of_clients(spans)]
        assert len(without) == 1
        spans.clear()
        ttstrace.instrument(f"beside:{name}.speak", sample_rate=RATE, format="pcm_s16le")
        with trace.get_tracer("test").start_as_current_span("request") as request:
            audio = speak(engine, "Hello")
    assert audio == beside.CHUNK * CHUNKS
    synthesis = spans.one()
    (http,) = of_clients(spans)
    assert [(http.name, http.kind)] == without
    assert is_child(http, synthesis)
    assert is_child(synthesis, request)
    assert service.headers[-1]["traceparent"] == traceparent(http)
    assert spans.attributes()[semconv.TTS_AUDIO_DURATION] == len(audio) / 2 / RATE
    assert len(spans.all()) == 3


@pytest.mark.parametrize("name", ENGINES)
def test_stream_that_is_pulled_later(spans: Spans, service: Service, name: str) -> None:
    """Asked for inside a span, pulled when that has ended, inside another: the first is the parent."""
    needed(ENGINES[name])
    tracer = trace.get_tracer("test")
    ttstrace.instrument(f"beside:{name}.stream", sample_rate=RATE, format="pcm_s16le")
    with instrumented_clients():
        with tracer.start_as_current_span("asked") as asked:
            stream = getattr(beside, name)(service.url).stream("Hello")
        assert of_clients(spans) == []
        with tracer.start_as_current_span("consumed") as consumed:
            chunks = consume(stream)
            assert trace.get_current_span() is consumed
    assert b"".join(chunks) == beside.CHUNK * CHUNKS
    synthesis = spans.one()
    (http,) = of_clients(spans)
    assert is_child(http, synthesis)
    assert is_child(synthesis, asked)
    assert service.headers[-1]["traceparent"] == traceparent(http)
    assert spans.attributes()[semconv.TTS_STREAM_CHUNKS] == len(chunks)


@pytest.mark.parametrize("name", ["Requests", "Httpx", "Urllib3", "Urllib"])
def test_stream_that_other_threads_pull(spans: Spans, service: Service, name: str) -> None:
    """Each pull in another thread, which has a span of its own: that one stays what it was."""
    needed(ENGINES[name])
    tracer = trace.get_tracer("test")
    ttstrace.instrument(f"beside:{name}.stream", sample_rate=RATE, format="pcm_s16le")
    done = object()

    def pull(stream: Iterator[bytes]) -> object:
        with tracer.start_as_current_span("worker") as worker:
            chunk = next(stream, done)
            with tracer.start_as_current_span("use") as use:
                assert is_child(use, worker)  # type: ignore[arg-type]
            return chunk

    with instrumented_clients(), tracer.start_as_current_span("asked") as asked:
        stream = getattr(beside, name)(service.url).stream("Hello")
        while True:
            with ThreadPoolExecutor(1) as pool:
                if pool.submit(pull, stream).result() is done:
                    break
    synthesis = spans.one()
    (http,) = of_clients(spans)
    assert is_child(http, synthesis)
    assert is_child(synthesis, asked)
    assert {is_child(span, synthesis) for span in spans.all() if span is not http} == {False}


@pytest.mark.parametrize("ours_first", [True, False])
def test_gtts(spans: Spans, google: GoogleTTS, tmp_path: Path, ours_first: bool) -> None:
    """Two requests by requests on top of urllib3, both instrumented: two spans below one, and our server stays ours."""
    needed("requests")
    with ExitStack() as stack:
        if ours_first:
            ttstrace.instrument("gtts")
        stack.enter_context(instrumented_clients())
        if not ours_first:
            ttstrace.instrument("gtts")
        gtts.gTTS(TEXT).save(str(tmp_path / "speech.mp3"))
    synthesis = spans.one()
    http = of_clients(spans)
    assert [span.name for span in http] == ["POST", "POST"]
    assert all(is_child(span, synthesis) for span in http)
    assert [each["traceparent"] for each in google.headers] == [traceparent(span) for span in http]
    assert {span.context.trace_id for span in spans.all()} == {synthesis.context.trace_id}
    assert len(spans.all()) == 3
    found = spans.attributes()
    assert (found[semconv.SERVER_ADDRESS], found[semconv.SERVER_PORT]) == ("translate.google.com", 443)


def test_gtts_stream_that_threads_pull(spans: Spans, google: GoogleTTS) -> None:
    needed("requests")
    ttstrace.instrument("gtts")
    with instrumented_clients(), trace.get_tracer("test").start_as_current_span("asked") as asked:
        pieces = gtts.gTTS(TEXT).stream()
        got: list[bytes] = []
        for _ in range(2):
            thread = threading.Thread(target=lambda: got.append(next(pieces)))
            thread.start()
            thread.join()
        assert next(pieces, None) is None
    assert got == google.sent
    synthesis = spans.one()
    assert is_child(synthesis, asked)
    http = of_clients(spans)
    assert [is_child(span, synthesis) for span in http] == [True, True]
    assert [each["traceparent"] for each in google.headers] == [traceparent(span) for span in http]


def test_error_of_the_client(spans: Spans, google: GoogleTTS) -> None:
    """Each span says it once, and none the text."""
    needed("requests")
    ttstrace.instrument("gtts")
    google.statuses = [500]
    with instrumented_clients(), pytest.raises(gtts.gTTSError):
        gtts.gTTS("A secret").write_to_fp(io.BytesIO())
    synthesis, (http,) = spans.one(), of_clients(spans)
    assert [event.name for event in synthesis.events] == ["exception"]
    assert spans.attributes()[semconv.ERROR_TYPE] == "gtts.tts.gTTSError"
    assert is_child(http, synthesis)
    assert "secret" not in synthesis.to_json() + http.to_json()


def test_suppressed_instrumentation(spans: Spans, service: Service) -> None:
    needed("requests")
    ttstrace.instrument("beside:Requests.speak")
    with instrumented_clients(), suppress_instrumentation():
        assert beside.Requests(service.url).speak("Hello") == beside.CHUNK * CHUNKS
    assert spans.all() == []
    assert "traceparent" not in service.headers[-1]


def test_baggage_goes_down_to_the_service(spans: Spans, service: Service) -> None:
    """Baggage, and whatever else is in the caller's context, is there below, and is the caller's again after."""
    needed("requests")
    seen = []

    @ttstrace.traced_synthesis
    def synthesize(text: str) -> bytes:
        seen.append(context.get_value("mine"))
        return beside.Requests(service.url).speak(text)

    @ttstrace.traced_synthesis
    def stream(text: str) -> Iterator[bytes]:
        seen.append(context.get_value("mine"))
        yield beside.Requests(service.url).speak(text)

    outside = baggage.set_baggage("tenant", "blue", context.set_value("mine", 7))
    with instrumented_clients():
        token = context.attach(outside)
        synthesize("Hello")
        pieces = stream("Hello")
        assert context.get_current() == outside
        context.detach(token)
        list(pieces)
    assert seen == [7, 7]
    assert [each["baggage"] for each in service.headers] == ["tenant=blue", "tenant=blue"]
    assert baggage.get_all() == {}


def by_httpx(url: str) -> Any:
    return pytest.importorskip("httpx").post(url, content="Hello", trust_env=False)


def by_urllib3(url: str) -> Any:
    return pytest.importorskip("urllib3").PoolManager().request("POST", url, body="Hello")


def by_requests(url: str) -> Any:
    import requests

    session = requests.Session()
    session.trust_env = False
    return session.post(url, data="Hello")


@pytest.mark.parametrize(("client", "whole"), [(by_httpx, "content"), (by_urllib3, "data"), (by_requests, "content")])
def test_response_whose_bytes_are_taken_at_once(spans: Spans, service: Service, client: Any, whole: str) -> None:
    """An engine hands on its client's response, and the program takes the bytes without reading or pulling."""

    @ttstrace.traced_synthesis(sample_rate=RATE, format="pcm_s16le")
    def synthesize(text: str) -> Any:
        return client(service.url)

    response = synthesize("Hello")
    for _ in range(2):
        assert getattr(response, whole) == beside.CHUNK * CHUNKS
    found = spans.attributes()
    assert semconv.TTS_INTERRUPTED not in found
    if client is not by_requests:  # that one cannot be read: only the option `audio` knows where its bytes are
        assert found[semconv.TTS_AUDIO_DURATION] == pytest.approx(CHUNKS * 0.1)


# --- sampling by others ------------------------------------------------------------------------------------------


class WithoutHTTP(Sampler):
    """Samples what is no request."""

    def should_sample(
        self,
        parent_context: Any,
        trace_id: int,
        name: str,
        kind: Any = None,
        attributes: Any = None,
        *more: Any,
        **others: Any,
    ) -> SamplingResult:
        sampler = ALWAYS_OFF if name == "POST" else ALWAYS_ON
        return sampler.should_sample(parent_context, trace_id, name, kind, attributes)

    def get_description(self) -> str:
        return "WithoutHTTP"


@pytest.mark.parametrize("sampler", [ALWAYS_OFF, ParentBased(ALWAYS_OFF)])
def test_trace_that_is_not_sampled_stays_one(service: Service, recorded: Metrics, sampler: Sampler) -> None:
    """Nothing is exported; the service is told so, in the trace of the caller, and the metrics are there."""
    needed("requests")
    exporter = Spans()
    provider = TracerProvider(sampler)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    set_tracer_provider(provider)
    try:
        ttstrace.instrument("beside:Requests.speak")
        with instrumented_clients("requests"), trace.get_tracer("test").start_as_current_span("request") as request:
            beside.Requests(service.url).speak("Hello")
        assert exporter.all() == []
        _, trace_id, _, flags = service.headers[-1]["traceparent"].split("-")
        assert int(trace_id, 16) == request.get_span_context().trace_id
        assert not int(flags, 16) & 1
        (point,) = recorded.points(semconv.METRIC_OPERATION_DURATION)
        assert point.count == 1
    finally:
        set_tracer_provider(None)


def test_requests_that_are_not_sampled(service: Service) -> None:
    needed("requests")
    exporter = Spans()
    provider = TracerProvider(WithoutHTTP())
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    set_tracer_provider(provider)
    try:
        ttstrace.instrument("beside:Requests.speak")
        with instrumented_clients("requests"):
            beside.Requests(service.url).speak("Hello")
        synthesis = exporter.one()
        assert len(exporter.all()) == 1
        assert int(service.headers[-1]["traceparent"].split("-")[1], 16) == synthesis.context.trace_id
    finally:
        set_tracer_provider(None)


# --- a service above ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("route", ["whole", "stream", "async_whole", "async_stream"])
def test_fastapi_above_and_http_below(spans: Spans, service: Service, route: str) -> None:
    """Request, synthesis and the request below are one line of descent, whichever thread or task does which part."""
    fastapi = pytest.importorskip("fastapi")
    httpx = pytest.importorskip("httpx")
    above = pytest.importorskip("opentelemetry.instrumentation.fastapi").FastAPIInstrumentor()
    needed("requests")
    needed("httpx")
    app = fastapi.FastAPI()

    @app.get("/whole")
    def whole() -> Any:
        return fastapi.Response(beside.Requests(service.url).speak("Hello"))

    @app.get("/stream")
    def stream() -> Any:  # pulled by threads of a pool
        return fastapi.responses.StreamingResponse(beside.Requests(service.url).stream("Hello"))

    @app.get("/async_whole")
    async def async_whole() -> Any:
        return fastapi.Response(await beside.AsyncHttpx(service.url).speak("Hello"))

    @app.get("/async_stream")
    async def async_stream() -> Any:
        return fastapi.responses.StreamingResponse(beside.AsyncHttpx(service.url).stream("Hello"))

    for engine in ("Requests", "AsyncHttpx"):
        for method in ("speak", "stream"):
            ttstrace.instrument(f"beside:{engine}.{method}", sample_rate=RATE, format="pcm_s16le")
    above.instrument_app(app)
    try:
        with served(app) as url, httpx.Client(trust_env=False) as client, instrumented_clients("requests", "httpx"):
            answer = client.get(f"{url}/{route}", headers={"traceparent": f"00-{7:032x}-{9:016x}-01"})
        assert answer.content == beside.CHUNK * CHUNKS
    finally:
        above.uninstrument_app(app)
    synthesis = spans.one()
    (request,) = [span for span in spans.all() if span.kind is SpanKind.SERVER]
    http = [span for span in of_clients(spans) if is_child(span, synthesis)]
    assert is_child(synthesis, request)
    assert len(http) == 1
    assert service.headers[-1]["traceparent"] == traceparent(http[0])
    assert spans.attributes()[semconv.TTS_AUDIO_DURATION] == pytest.approx(CHUNKS * 0.1)


def test_without_code(service: Service, tmp_path: Path) -> None:
    """`opentelemetry-instrument` puts on ours and theirs, in whatever order it finds them."""
    needed("requests")
    script = f"""
    import beside
    assert beside.Requests({service.url!r}).speak("Hello") == beside.CHUNK * beside.CHUNKS
    print("true")
    """
    (tmp_path / "service.py").write_text(textwrap.dedent(script))
    file = tmp_path / "trace.jsonl"
    auto = f"""
    import sys
    from opentelemetry.instrumentation.auto_instrumentation import run
    sys.argv[1:] = [sys.executable, {str(tmp_path / "service.py")!r}]
    run()
    """
    assert program(
        auto,
        OTEL_TRACES_EXPORTER="ttstrace_file",
        OTEL_METRICS_EXPORTER="none",
        OTEL_LOGS_EXPORTER="none",
        TTSTRACE_FILE=str(file),
        TTSTRACE_TARGETS="beside:Requests.speak",
    )
    http, synthesis = [
        span
        for line in file.read_text().splitlines()
        for resource in json.loads(line)["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]
    assert (http["name"], synthesis["name"]) == ("POST", "text_to_speech beside.Requests.speak")
    assert (http["traceId"], http["parentSpanId"]) == (synthesis["traceId"], synthesis["spanId"])
    assert "parentSpanId" not in synthesis


# --- on and off in any order -------------------------------------------------------------------------------------


def test_on_and_off_in_any_order_with_the_clients_instrumentation(spans: Spans, service: Service) -> None:
    """Ours and two of theirs, each twice: whoever is on traces, and what is off has left nothing."""
    import requests
    import urllib3.connectionpool

    needed("requests")
    urllib3_too = instrumentor("urllib3") is not None
    path = "beside:Requests.speak"
    parties: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "ours": (lambda: ttstrace.instrument("gtts", path), lambda: ttstrace.uninstrument("gtts", path)),
        "requests": (needed("requests").instrument, needed("requests").uninstrument),
    }
    if urllib3_too:
        parties["urllib3"] = (needed("urllib3").instrument, needed("urllib3").uninstrument)
    owners = (gtts.tts.gTTS, beside.Requests, requests.Session, urllib3.connectionpool.HTTPConnectionPool)
    before = [dict(vars(owner)) for owner in owners]
    for on, off in itertools.product(itertools.permutations(parties), repeat=2):
        for party in (*on, *on):
            parties[party][0]()
        still = set(on)
        for party in (None, *off):
            if party is not None:
                parties[party][1]()
                parties[party][1]()
                still.discard(party)
            spans.clear()
            assert beside.Requests(service.url).speak("Hello") == beside.CHUNK * CHUNKS
            assert len(spans.syntheses()) == ("ours" in still), (on, off, still)
            assert len(of_clients(spans)) == bool(still - {"ours"}), (on, off, still)
        after = [dict(vars(owner)) for owner in owners]
        for old, new in zip(before, after, strict=True):
            assert list(old) == list(new)
            assert all(old[name] is new[name] for name in old), (on, off)


class Voice:
    """A library whose callables are of every kind."""

    def whole(self, text: str) -> bytes:
        return beside.CHUNK

    def generated(self, text: str) -> Iterator[bytes]:
        yield beside.CHUNK

    async def generated_async(self, text: str) -> AsyncIterator[bytes]:
        yield beside.CHUNK

    async def awaited(self, text: str) -> bytes:
        return beside.CHUNK

    @classmethod
    def of_class(cls, text: str) -> bytes:
        return beside.CHUNK

    @staticmethod
    def static(text: str) -> bytes:
        return beside.CHUNK


class Derived(Voice):
    pass


class Theirs:
    """Somebody else's patch on a callable: counts its calls."""

    def __init__(self, owner: Any, attribute: str) -> None:
        self.owner, self.attribute = owner, attribute
        self.calls = 0

    def wrapper(self, original: Any) -> Any:
        @functools.wraps(original)
        def theirs(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            return original(*args, **kwargs)

        static = isinstance(vars(self.owner).get(self.attribute), (staticmethod, classmethod))
        return staticmethod(theirs) if static else theirs


class ByWrapt(Theirs):
    """As OpenTelemetry's instrumentations, and ddtrace's."""

    def on(self) -> None:
        def theirs(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
            self.calls += 1
            return wrapped(*args, **kwargs)

        wrapt.wrap_function_wrapper(self.owner, self.attribute, theirs)

    def off(self) -> None:
        unwrap(self.owner, self.attribute)


class ByAssignment(Theirs):
    """What the class gives is kept, and put back."""

    def on(self) -> None:
        self.kept = getattr(self.owner, self.attribute)
        setattr(self.owner, self.attribute, self.wrapper(self.kept))

    def off(self) -> None:
        setattr(self.owner, self.attribute, self.kept)


class ByMock(Theirs):
    def on(self) -> None:
        new = self.wrapper(getattr(self.owner, self.attribute))
        self.patch = unittest.mock.patch.object(self.owner, self.attribute, new)
        self.patch.start()

    def off(self) -> None:
        self.patch.stop()


KINDS = [ByWrapt, ByAssignment, ByMock]


def call(owner: Any, attribute: str) -> Any:
    """What a call gives in the end; its exception where a patch that was put back wrongly lets it fail."""
    try:
        result = getattr(owner(), attribute)("Hello")
        if hasattr(result, "__await__"):
            return asyncio.run(result)
        return list(result) if hasattr(result, "__next__") else result
    except TypeError as error:
        return type(error)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("attribute", ["whole", "generated", "awaited", "of_class", "static", "inherited"])
def test_same_callable_in_any_order(spans: Spans, kind: type[Any], attribute: str) -> None:
    """In the end the callable is what their patch alone would have left: the original, if they put that back."""
    owner, attribute = (Derived, "whole") if attribute == "inherited" else (Voice, attribute)
    path = f"{__name__}:{owner.__name__}.{attribute}"
    original = vars(owner).get(attribute)
    right = call(owner, attribute)

    def put_back() -> None:
        if original is not None:
            setattr(owner, attribute, original)
        elif attribute in vars(owner):
            delattr(owner, attribute)

    try:
        alone = kind(owner, attribute)
        alone.on()
        alone.off()
        left, left_works = vars(owner).get(attribute), call(owner, attribute) == right
        put_back()
        for on, off in itertools.product((("ours", "theirs"), ("theirs", "ours")), repeat=2):
            if kind is ByWrapt and (on, off[0]) == (("theirs", "ours"), "theirs"):
                continue  # see below
            theirs = kind(owner, attribute)
            state = {"ours": False, "theirs": False}
            for step, party in (*((True, each) for each in on), *((False, each) for each in off)):
                if party == "theirs":
                    (theirs.on if step else theirs.off)()
                elif step:
                    assert ttstrace.instrument(path) == ttstrace.instrument(path) == [path]
                else:
                    ttstrace.uninstrument(path)
                    ttstrace.uninstrument(path)
                state[party] = step
                if not step and not left_works:
                    continue  # what they put back of a static method fails without us as well
                # Put back by assignment where it was put on first, theirs goes and ours with it.
                gone = kind is not ByWrapt and not step and party == "theirs" == on[0]
                spans.clear()
                theirs.calls = 0
                assert call(owner, attribute) == right, (on, off, step, party)
                assert len(spans.syntheses()) == (state["ours"] and not gone), (on, off, step, party)
                assert theirs.calls == state["theirs"], (on, off, step, party)
            ttstrace.uninstrument()  # theirs is off by now
            last = vars(owner).get(attribute)
            assert last is original or type(last) is type(left), (on, off, last)
            put_back()
    finally:
        ttstrace.uninstrument()
        put_back()


@pytest.mark.parametrize("attribute", ["generated", "generated_async"])
def test_span_that_theirs_starts_around_a_generator(spans: Spans, attribute: str) -> None:
    """Theirs is put on a generator function by wrapt, as if it were one as well, and starts a span at the call."""
    original = vars(Voice)[attribute]

    def theirs(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        trace.get_tracer("theirs").start_span("theirs").end()
        return wrapped(*args, **kwargs)

    wrapt.wrap_function_wrapper(Voice, attribute, theirs)
    try:
        ttstrace.instrument(f"{__name__}:Voice.{attribute}", sample_rate=RATE, format="pcm_s16le")
        with trace.get_tracer("test").start_as_current_span("asked") as asked:
            stream = getattr(Voice(), attribute)("Hello")
        assert consume(stream) == [beside.CHUNK]
        synthesis = spans.one()
        assert is_child(synthesis, asked)
        (inside,) = [span for span in spans.all() if span.name == "theirs"]
        assert is_child(inside, synthesis)
        found = spans.attributes()
        assert (found[semconv.TTS_STREAM_CHUNKS], found[semconv.TTS_AUDIO_DURATION]) == (1, 0.1)
        ttstrace.uninstrument()
    finally:
        setattr(Voice, attribute, original)


def test_their_unwrap_takes_off_what_is_outermost(spans: Spans) -> None:
    """OpenTelemetry's `unwrap` takes off whatever wrapper is outermost: of two that are put on by wrapt, the one that
    was put on last is to come off first. Otherwise theirs stays on, and ours is off; calls are none the worse."""
    original = vars(Voice)["whole"]
    path = f"{__name__}:Voice.whole"
    theirs = ByWrapt(Voice, "whole")
    try:
        theirs.on()
        ttstrace.instrument(path)
        theirs.off()
        assert call(Voice, "whole") == beside.CHUNK
        assert (theirs.calls, spans.syntheses()) == (1, [])
        ttstrace.uninstrument(path)
        assert call(Voice, "whole") == beside.CHUNK
        theirs.off()
        assert vars(Voice)["whole"] is original
    finally:
        Voice.whole = original  # type: ignore[method-assign]


@pytest.mark.parametrize("kind", [ByAssignment, ByMock])
def test_integration_path_and_theirs_in_any_order(spans: Spans, tmp_path: Path, kind: type[Any]) -> None:
    """gTTS.save, by the integration, by its path and by somebody else: never two spans, and the original in the end."""

    class Canned(gtts.gTTS):  # type: ignore[misc]
        """Asks no service."""

        def stream(self) -> Iterator[bytes]:
            yield piece

    piece = mp3(0.5)
    names = {"integration": "gtts", "path": "gtts.tts:gTTS.save"}
    original = dict(vars(gtts.tts.gTTS))
    file = tmp_path / "speech.mp3"
    for on, off in itertools.product(itertools.permutations(("integration", "path", "theirs")), repeat=2):
        theirs = kind(gtts.tts.gTTS, "save")
        for party in on:
            if party == "theirs":
                theirs.on()
            else:
                ttstrace.instrument(names[party])
        spans.clear()
        Canned("Hello").save(str(file))
        assert (len(spans.syntheses()), theirs.calls) == (1, 1), (on, off)
        for party in off:
            if party == "theirs":
                theirs.off()
            else:
                ttstrace.uninstrument(names[party])
            spans.clear()
            file.unlink()
            Canned("Hello").save(str(file))
            assert file.read_bytes() == piece
            assert len(spans.syntheses()) <= 1, (on, off)
        assert spans.syntheses() == []
        ttstrace.uninstrument()
        last = dict(vars(gtts.tts.gTTS))
        assert all(last[name] is original[name] for name in original), (on, off, party)


def test_original_comes_back_when_theirs_is_off() -> None:
    original = vars(Voice)["whole"]
    path = f"{__name__}:Voice.whole"
    ttstrace.instrument(path, voice="ann")
    with unittest.mock.patch.object(Voice, "whole", return_value=b"") as theirs:
        ttstrace.uninstrument(path)
        assert vars(Voice)["whole"] is theirs
    assert vars(Voice)["whole"] is not original  # nobody has told us that theirs is off
    ttstrace.uninstrument()
    assert vars(Voice)["whole"] is original


def test_what_was_put_on_before_is_forgotten(spans: Spans) -> None:
    """Put on again while a patch of ours still waits for theirs to come off: what that one knew is not taken over."""
    path = f"{__name__}:Voice.whole"
    ttstrace.instrument(path, voice="ann")
    with unittest.mock.patch.object(Voice, "whole", return_value=b""):
        ttstrace.uninstrument(path)
    ttstrace.instrument(path)
    Voice().whole("Hello")
    assert semconv.GEN_AI_SPEECH_VOICE not in spans.attributes()
