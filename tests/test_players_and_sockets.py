"""Audio that goes to a player or comes through a websocket: a real process that plays at real time, a real server.

What something takes is bounded by what the test timed itself: at least the work, at most what passed less the waiting.
"""

from __future__ import annotations

import asyncio
import fcntl
import queue
import shutil
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import numpy as np
import pytest
from backends import RATE, tone, work
from conftest import Spans
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.sync.client import connect as connect_in_thread

from ttstrace import stage, synthesis, traced_synthesis

pytestmark = pytest.mark.keeps_time

CLOSE = 0.002  # seconds: between the test's reading of the clock and the engine's


class Timed:
    """Seconds spent in some part of a program."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - begun


def pcm(seconds: float) -> bytes:
    return bytes((tone(seconds) * 32767).astype("<i2"))


# --- players -----------------------------------------------------------------------------------------------------


@contextmanager
def playing() -> Iterator[Any]:
    """The pipe to a process that takes raw audio as fast as it sounds, and no faster."""
    if shutil.which("ffmpeg") is None or not hasattr(fcntl, "F_SETPIPE_SZ"):
        pytest.skip("the player is ffmpeg, behind a pipe as small as Linux makes one")
    command = ["ffmpeg", "-v", "error", "-re", "-f", "s16le", "-ar", str(RATE), "-i", "pipe:0", "-f", "null", "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, bufsize=0) as process:
        assert process.stdin is not None
        fcntl.fcntl(process.stdin, fcntl.F_SETPIPE_SZ, 4096)
        yield process.stdin
        process.stdin.close()


class StandInOutputStream:
    """A stand-in for `sounddevice.OutputStream`: a card with a short buffer; `write` waits until there is room."""

    def __init__(self, rate: int = RATE, latency: float = 0.05) -> None:
        self._rate = rate
        self._latency = latency
        self._until = 0.0

    def write(self, samples: np.ndarray) -> bool:
        now = time.perf_counter()
        ran_dry = self._until and now > self._until
        self._until = max(self._until, now) + len(samples) / self._rate
        time.sleep(max(0.0, self._until - self._latency - now))
        return bool(ran_dry)


def test_a_player_that_is_a_process(spans: Spans) -> None:
    """The naive reading is the time the call took: as long as the audio, because the player takes no more."""
    made, played = Timed(), Timed()

    @traced_synthesis(callback="player", format="pcm_s16le", sample_rate=RATE, producer="pull")
    def speak(text: str, player: Callable[[bytes], Any]) -> None:
        for _ in range(8):
            with made():
                work(0.02)
            player(pcm(0.4))

    with playing() as pipe:

        def write(audio: bytes) -> None:
            with played():
                pipe.write(audio)

        begun = time.perf_counter()
        speak("hello", write)
        elapsed = time.perf_counter() - begun
    attributes = spans.attributes()
    assert attributes["tts.audio.duration"] == pytest.approx(3.2)
    assert elapsed > 0.4  # it was played: all but what a player takes ahead
    assert made.seconds - CLOSE <= attributes["tts.synthesis.duration"] <= elapsed - played.seconds + CLOSE
    assert played.seconds - CLOSE <= attributes["tts.stream.hold.duration"] <= elapsed - made.seconds + CLOSE
    assert attributes["tts.stream.chunks"] == 8


@pytest.mark.parametrize("marked", [True, False])
def test_a_standin_sound_card_inside_the_call(spans: Spans, marked: bool) -> None:
    """The function plays by itself and returns None: what it plays it reports, and marks as no synthesis."""
    made, played, card = Timed(), Timed(), StandInOutputStream()

    @traced_synthesis(sample_rate=RATE, producer="pull")
    def speak(text: str) -> None:
        for _ in range(6):
            with made():
                work(0.02)
            audio = tone(0.1)
            synthesis.current().chunk(audio)
            if marked:
                with stage("playback", synthesis=False), played():
                    card.write(audio)
            else:
                with played():
                    card.write(audio)

    begun = time.perf_counter()
    speak("hello")
    elapsed = time.perf_counter() - begun
    attributes = spans.attributes()
    assert attributes["tts.audio.duration"] == pytest.approx(0.6)
    assert attributes["tts.stream.chunks"] == 6
    assert played.seconds > 0.3
    if marked:
        assert made.seconds - CLOSE <= attributes["tts.synthesis.duration"] <= elapsed - played.seconds + CLOSE
        assert attributes["tts.stage.duration.playback"] >= played.seconds - CLOSE
    else:  # nobody said so: the call's time is all there is
        assert attributes["tts.synthesis.duration"] >= made.seconds + played.seconds - CLOSE


def test_a_standin_sound_card_in_a_thread_of_its_own(spans: Spans) -> None:
    """A player between the stream and the card: a thread pulls ahead, and stops while its buffer is full."""
    made, waited = Timed(), Timed()

    @traced_synthesis(sample_rate=RATE, producer="pull")
    def speak(text: str) -> Iterator[np.ndarray]:
        for _ in range(8):
            with made():
                work(0.02)
            yield tone(0.1)

    buffer: queue.Queue[Any] = queue.Queue(2)
    elapsed = [0.0]

    def fill() -> None:
        begun = time.perf_counter()
        for chunk in speak("hello"):
            with waited():
                buffer.put(chunk)
        elapsed[0] = time.perf_counter() - begun
        buffer.put(None)

    card, filler = StandInOutputStream(), threading.Thread(target=fill)
    filler.start()
    while (chunk := buffer.get()) is not None:
        card.write(chunk)
    filler.join(30)
    attributes = spans.attributes()
    assert waited.seconds > 0.1
    assert made.seconds - CLOSE <= attributes["tts.synthesis.duration"] <= elapsed[0] - waited.seconds + CLOSE
    assert attributes["tts.stream.underruns"] == 0  # the player was late, not the stream
    assert attributes["tts.stream.chunks"] == 8


# --- websockets --------------------------------------------------------------------------------------------------

GAPS = (0.15, 0.02, 0.02, 0.3)
"""Seconds before each message; each holds 0.1 s of audio."""


class Service:
    """A voice behind a websocket: it is sent text, and sends raw audio piece by piece, then says that it is done."""

    def __init__(self) -> None:
        self.sent: list[float] = []
        """When each piece was sent."""
        self.heard: list[str] = []

    async def __call__(self, socket: Any) -> None:
        async for text in socket:
            self.heard.append(text)
            for gap in GAPS:
                await asyncio.sleep(gap)
                self.sent.append(time.perf_counter())
                await socket.send(pcm(0.1))
            await socket.send("done")


@asynccontextmanager
async def served(service: Service) -> AsyncIterator[str]:
    async with serve(service, "127.0.0.1", 0) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"


def check(spans: Spans, service: Service, begun: float, got: list[float]) -> None:
    """Each figure lies between the server's sending and the client's having it."""
    attributes = spans.attributes()
    assert attributes["tts.stream.chunks"] == 4
    assert attributes["tts.audio.duration"] == pytest.approx(0.4)
    assert attributes["tts.input.characters"] == 5
    # It was begun a little after `begun`; the first piece was sent no earlier than its gap after the text came.
    first = attributes["gen_ai.response.time_to_first_chunk"]
    assert GAPS[0] - CLOSE <= first <= got[0] - begun + CLOSE
    assert sum(GAPS) - CLOSE <= attributes["tts.synthesis.duration"] <= got[-1] - begun + CLOSE
    # 0.3 s of audio were there when the last pause began; where sending was late, the pause was longer.
    longest = got[3] - got[0] - 0.3
    assert attributes["tts.stream.underruns"] >= (1 if service.sent[3] - service.sent[0] > 0.5 else 0)
    assert attributes["tts.stream.underrun.max"] <= max(longest, got[1] - got[0] - 0.1) + CLOSE


def test_a_websocket_by_hand(spans: Spans) -> None:
    """Another task receives than the one that asked, and whole messages are no audio."""
    service, got = Service(), list[float]()

    async def main() -> float:
        async with served(service) as uri, connect(uri) as socket:

            async def receive(s: synthesis) -> None:
                async for message in socket:
                    if isinstance(message, str):
                        return
                    s.chunk(message)
                    got.append(time.perf_counter())

            begun = time.perf_counter()
            async with synthesis("hello", format="pcm_s16le", sample_rate=RATE, producer="push") as s:
                receiver = asyncio.create_task(receive(s))
                await socket.send("hello")
                await receiver
            return begun

    begun = asyncio.run(main())
    check(spans, service, begun, got)


def test_a_websocket_in_an_async_generator(spans: Spans) -> None:
    service, got = Service(), list[float]()

    @traced_synthesis(format="pcm_s16le", sample_rate=RATE)
    async def speak(text: str, uri: str) -> AsyncIterator[bytes]:
        async with connect(uri) as socket:
            await socket.send(text)
            async for message in socket:
                if isinstance(message, str):
                    return
                yield message

    async def main() -> float:
        async with served(service) as uri:
            begun = time.perf_counter()
            async for _ in speak("hello", uri):
                got.append(time.perf_counter())
            return begun

    begun = asyncio.run(main())
    check(spans, service, begun, got)


def test_a_websocket_in_a_thread_that_feeds_a_queue(spans: Spans) -> None:
    """A generator that waits for a queue works nowhere: whoever takes it for one that computes says that its pauses are
    the consumer's."""
    service, got = Service(), list[float]()
    uri: queue.Queue[str] = queue.Queue()
    over = threading.Event()

    def serve() -> None:
        async def main() -> None:
            async with served(service) as address:
                uri.put(address)
                while not over.is_set():
                    await asyncio.sleep(0.01)

        asyncio.run(main())

    @traced_synthesis(format="pcm_s16le", sample_rate=RATE)
    def speak(text: str, socket: Any) -> Iterator[bytes]:
        pieces: queue.Queue[bytes | str] = queue.Queue()

        def receive() -> None:
            for message in socket:
                pieces.put(message)

        threading.Thread(target=receive).start()
        socket.send(text)
        while isinstance(piece := pieces.get(), bytes):
            yield piece

    server = threading.Thread(target=serve)
    server.start()
    try:
        with connect_in_thread(uri.get(timeout=30)) as socket:
            begun = time.perf_counter()
            for _ in speak("hello", socket):
                got.append(time.perf_counter())
    finally:
        over.set()
        server.join(30)
    check(spans, service, begun, got)
