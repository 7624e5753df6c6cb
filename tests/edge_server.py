"""Microsoft Edge's speech service on this machine, for an edge-tts that nobody has touched: a websocket that speaks
its protocol."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web


class EdgeService:
    """What was asked, and how it is answered: every text alike."""

    def __init__(self, audio: bytes, pieces: int, delay: float) -> None:
        self.texts: list[str] = []
        """Each as SSML."""
        self.audio = audio
        self.pieces = pieces
        self.delay = delay
        """Seconds before each piece."""
        self.mute = False
        """Answer well, but without audio."""
        self.port = 0

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/?TrustedClientToken=x"

    async def handle(self, request: Any) -> Any:
        socket = web.WebSocketResponse(compress=True)
        await socket.prepare(request)
        await socket.receive_str()  # the configuration
        self.texts.append((await socket.receive_str()).partition("\r\n\r\n")[2])
        await socket.send_str("X-RequestId:1\r\nPath:turn.start\r\n\r\n{}")
        size = len(self.audio) // self.pieces + 1
        for at in range(0, 0 if self.mute else len(self.audio), size):
            await asyncio.sleep(self.delay)
            header = b"X-RequestId:1\r\nContent-Type:audio/mpeg\r\nPath:audio\r\n"
            await socket.send_bytes(len(header).to_bytes(2, "big") + header + self.audio[at : at + size])
            boundary = {"Offset": at, "Duration": 1, "text": {"Text": "x"}}
            told = json.dumps({"Metadata": [{"Type": "WordBoundary", "Data": boundary}]})
            await socket.send_str(f"X-RequestId:1\r\nPath:audio.metadata\r\n\r\n{told}")
        await socket.send_str("X-RequestId:1\r\nPath:turn.end\r\n\r\n{}")
        await socket.close()
        return socket


@contextmanager
def serving(service: EdgeService) -> Iterator[EdgeService]:
    """Serve on a free port of this machine."""
    loop = asyncio.new_event_loop()
    app = web.Application()
    app.router.add_get("/", service.handle)
    runner = web.AppRunner(app)
    loop.run_until_complete(runner.setup())
    loop.run_until_complete(web.TCPSite(runner, "127.0.0.1", 0).start())
    service.port = runner.addresses[0][1]
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield service
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
