"""Programs that synthesize, one for every shape of result: the same with ttstrace and without it.

A program gets a backend and what decorates its function, and gives back what it saw, object by object.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import contextvars
import io
import operator
import pickle
import wave
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from opentelemetry.context import get_current
from standin_cuda import StandIn, standin_cuda

from ttstrace import stage, synthesis
from ttstrace.exceptions import Failure
from ttstrace.instrumentor import Opened, Pulled, Saved
from ttstrace.monitor.gpu import window as gpu_window

Decorate = Callable[[Any], Any]


class BackendError(Exception):
    """What a backend itself may raise."""


class Backend:
    """What it says and how often it was asked: half a second of audio, in one piece or in two."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.calls = 0
        self.whole = b"\1\0" * 12_000
        self.array = np.full(12_000, 0.1, dtype=np.float32)
        self.pieces = [b"\1\0" * 6_000, b"\2\0" * 6_000]
        self.error = BackendError("no")
        self.cuda: StandIn | None = None


class Body:
    """A response body: read, iterated or entered."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._left = iter([*pieces, b""])

    def read(self, size: int = -1) -> bytes:
        return next(self._left)

    def close(self) -> None: ...


class Entered:
    """A body that is entered first."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._left = iter(pieces)

    def __enter__(self) -> Entered:
        return self

    def __exit__(self, *error: object) -> None: ...

    def __iter__(self) -> Entered:
        return self

    def __next__(self) -> bytes:
        return next(self._left)


def value(backend: Backend, decorate: Decorate) -> list[Any]:
    @decorate
    def speak(text: str) -> bytes:
        backend.calls += 1
        return backend.whole

    return [speak("hello")]


def array(backend: Backend, decorate: Decorate) -> list[Any]:
    @decorate
    def speak(text: str) -> Any:
        backend.calls += 1
        return backend.array

    return [speak("hello")]


def generator(backend: Backend, decorate: Decorate) -> list[Any]:
    @decorate
    def speak(text: str) -> Iterator[bytes]:
        backend.calls += 1
        yield from backend.pieces

    return list(speak("hello"))


def returned_iterator(backend: Backend, decorate: Decorate) -> list[Any]:
    @decorate
    def speak(text: str) -> Iterator[bytes]:
        backend.calls += 1
        return iter(backend.pieces)

    return list(speak("hello"))


def broken_generator(backend: Backend, decorate: Decorate) -> list[Any]:
    @decorate
    def speak(text: str) -> Iterator[bytes]:
        backend.calls += 1
        yield backend.pieces[0]
        raise backend.error

    seen: list[Any] = []
    try:
        seen.extend(iter(speak("hello")))
    except BackendError as error:
        seen.append(error)
    return seen


def closed_generator(backend: Backend, decorate: Decorate) -> list[Any]:
    @decorate
    def speak(text: str) -> Iterator[bytes]:
        backend.calls += 1
        yield from backend.pieces

    stream: Any = speak("hello")
    seen = [next(stream)]
    stream.close()
    return seen


def async_generator(backend: Backend, decorate: Decorate) -> list[Any]:
    @decorate
    async def speak(text: str) -> AsyncIterator[bytes]:
        backend.calls += 1
        for piece in backend.pieces:
            yield piece

    async def listen() -> list[Any]:
        return [piece async for piece in speak("hello")]

    return run(listen())


def coroutine(backend: Backend, decorate: Decorate) -> list[Any]:
    @decorate
    async def speak(text: str) -> bytes:
        backend.calls += 1
        return backend.whole

    async def listen() -> list[Any]:
        return [await speak("hello")]

    return run(listen())


def awaitable(backend: Backend, decorate: Decorate) -> list[Any]:
    async def later() -> bytes:
        return backend.whole

    @decorate
    def speak(text: str) -> Any:
        backend.calls += 1
        return later()

    async def listen() -> list[Any]:
        return [await speak("hello")]

    return run(listen())


class AsyncBody:
    """A response body that is read by awaiting."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._left = iter([*pieces, b""])

    async def read(self, size: int = -1) -> bytes:
        return next(self._left)

    async def aclose(self) -> None: ...


def async_body(backend: Backend, decorate: Decorate) -> list[Any]:
    @decorate
    def speak(text: str) -> AsyncBody:
        backend.calls += 1
        return AsyncBody(backend.pieces)

    async def listen() -> list[Any]:
        stream = speak("hello")
        seen = []
        while piece := await stream.read(4096):
            seen.append(piece)
        await stream.aclose()
        return seen

    return run(listen())  # type: ignore[no-any-return]


def dropped_generator(backend: Backend, decorate: Decorate) -> list[Any]:
    @decorate
    def speak(text: str) -> Iterator[bytes]:
        backend.calls += 1
        yield from backend.pieces

    stream = speak("hello")
    seen = [next(stream)]
    del stream
    return seen


def staged(backend: Backend, decorate: Decorate) -> list[Any]:
    traced = decorate(staged) is not staged

    left: list[bool] = []

    @decorate
    def speak(text: str) -> bytes:
        inside = get_current()
        with stage("vocoder") if traced else contextlib.nullcontext():
            backend.calls += 1
        left.append(get_current() is inside)
        with stage("playback", synthesis=False) if traced else contextlib.nullcontext():
            return backend.whole

    return [speak("hello"), *left]


class Hostile:
    """A result that fails at every look."""

    def __getattr__(self, name: str) -> Any:
        raise BackendError(name)

    def __len__(self) -> int:
        raise BackendError("len")


def hostile(backend: Backend, decorate: Decorate) -> list[Any]:
    given = Hostile()

    @decorate
    def speak(text: str) -> Hostile:
        backend.calls += 1
        return given

    return [speak("hello") is given]


def body(backend: Backend, decorate: Decorate) -> list[Any]:
    @decorate
    def speak(text: str) -> Body:
        backend.calls += 1
        return Body(backend.pieces)

    stream = speak("hello")
    seen = []
    while piece := stream.read(4096):
        seen.append(piece)
    stream.close()
    return seen


def context_manager(backend: Backend, decorate: Decorate) -> list[Any]:
    @decorate
    def speak(text: str) -> Entered:
        backend.calls += 1
        return Entered(backend.pieces)

    with speak("hello") as stream:
        return list(stream)


def future(backend: Backend, decorate: Decorate) -> list[Any]:
    promised: concurrent.futures.Future[bytes] = concurrent.futures.Future()

    @decorate
    def speak(text: str) -> Any:
        backend.calls += 1
        return promised

    given = speak("hello")
    promised.set_result(backend.whole)
    return [given is promised, given.result()]


def output_file(backend: Backend, decorate: Decorate) -> list[Any]:
    @decorate
    def speak(text: str, path: str) -> None:
        backend.calls += 1
        with wave.open(path, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(24_000)
            file.writeframes(backend.whole)

    answer = speak("hello", str(backend.path))
    return [answer, backend.path.read_bytes().endswith(backend.whole)]


def exception(backend: Backend, decorate: Decorate) -> list[Any]:
    @decorate
    def speak(text: str) -> bytes:
        backend.calls += 1
        raise backend.error

    try:
        return [speak("hello")]
    except BackendError as error:
        return [error, error.__cause__, error.__context__]


def nested(backend: Backend, decorate: Decorate) -> list[Any]:
    @decorate
    def inner(text: str) -> bytes:
        backend.calls += 1
        return backend.whole

    @decorate
    def outer(text: str) -> bytes:
        return inner(text)  # type: ignore[no-any-return]

    return [outer("hello")]


def pieces_of_text(backend: Backend, decorate: Decorate) -> list[Any]:
    heard = []

    @decorate
    def speak(text: Iterator[str]) -> bytes:
        backend.calls += 1
        heard.extend(text)
        return backend.whole

    return [speak(iter(["hel", "lo"])), *heard]


def pickled_stream(backend: Backend, decorate: Decorate) -> list[Any]:
    @decorate
    def speak(text: str) -> Iterator[bytes]:
        backend.calls += 1
        return iter(backend.pieces)

    stream = speak("hello")
    return [list(pickle.loads(pickle.dumps(stream))) == backend.pieces, *stream]


def file_like(backend: Backend, decorate: Decorate) -> list[Any]:
    @decorate
    def speak(text: str, fp: io.BytesIO) -> int:
        backend.calls += 1
        return fp.write(backend.whole) and 7

    file = io.BytesIO(b"before")
    file.seek(0, io.SEEK_END)
    return [speak("hello", file), file.tell() == 6 + len(backend.whole), file.getvalue() == b"before" + backend.whole]


def returned_path(backend: Backend, decorate: Decorate) -> list[Any]:
    @decorate
    def speak(text: str) -> Path:
        backend.calls += 1
        backend.path.write_bytes(backend.whole)
        return backend.path

    return [speak("hello")]


def callback(backend: Backend, decorate: Decorate) -> list[Any]:
    heard: list[Any] = []

    def listen(audio: bytes) -> str:
        heard.append(audio)
        return "go on"

    @decorate
    def speak(text: str, on_audio: Callable[[bytes], str]) -> list[str]:
        backend.calls += 1
        return [on_audio(piece) for piece in backend.pieces]

    return [*speak("hello", listen), *heard]


def async_callback(backend: Backend, decorate: Decorate) -> list[Any]:
    heard: list[Any] = []

    async def listen(audio: bytes) -> str:
        heard.append(audio)
        return "go on"

    @decorate
    async def speak(text: str, on_audio: Callable[[bytes], Awaitable[str]]) -> list[str]:
        backend.calls += 1
        return [await on_audio(piece) for piece in backend.pieces]

    return [*run(speak("hello", listen)), *heard]


def failing_callback(backend: Backend, decorate: Decorate) -> list[Any]:
    def listen(audio: bytes) -> None:
        raise backend.error

    @decorate
    def speak(text: str, on_audio: Callable[[bytes], None]) -> None:
        backend.calls += 1
        on_audio(backend.whole)

    try:
        return [speak("hello", listen)]
    except BackendError as error:
        return [error]


OPTIONS_OF: dict[Callable[..., Any], dict[str, Any]] = {
    shape: {"callback": "on_audio"} for shape in (callback, async_callback, failing_callback)
}
"""What a shape declares beside what all do."""


class Turn:
    """Waits for its turn, which the program gives by hand."""

    def __await__(self) -> Iterator[None]:
        yield


class SharedByTasks:
    def __init__(self, pieces: list[bytes]) -> None:
        self._left = list(pieces)

    def __aiter__(self) -> SharedByTasks:
        return self

    async def __anext__(self) -> bytes:
        if not self._left:
            raise StopAsyncIteration
        piece = self._left.pop(0)
        await Turn()
        return piece


def shared_by_tasks(backend: Backend, decorate: Decorate) -> list[Any]:
    @decorate
    def speak(text: str) -> SharedByTasks:
        backend.calls += 1
        return SharedByTasks(backend.pieces)

    stream = speak("hello")
    seen: list[Any] = []
    tasks = [(contextvars.copy_context(), stream.__anext__()) for _ in range(3)]
    try:
        for context, task in tasks[:2]:
            context.run(task.send, None)  # both are inside
        for context, task in tasks:
            try:
                context.run(task.send, None)
            except StopIteration as answered:
                seen.append(answered.value)
            except StopAsyncIteration:
                seen.append("end")
    finally:
        for context, task in tasks:
            context.run(task.close)
    return seen


def forsaken_stream(backend: Backend, decorate: Decorate) -> list[Any]:
    @decorate
    def speak(text: str) -> SharedByTasks:
        backend.calls += 1
        return SharedByTasks(backend.pieces)

    stream = speak("hello")
    context, task = contextvars.copy_context(), stream.__anext__()
    context.run(task.send, None)
    context.run(task.close)
    return ["closed"]


def forsaken_coroutine(backend: Backend, decorate: Decorate) -> list[Any]:
    @decorate
    async def speak(text: str) -> bytes:
        backend.calls += 1
        await Turn()
        return backend.whole

    context, task = contextvars.copy_context(), speak("hello")
    context.run(task.send, None)
    context.run(task.close)
    return ["closed"]


class Shared:
    """While it is pulled, or read, somebody else comes and does the same."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._left = list(pieces)
        self.meanwhile: Callable[[], None] = lambda: None

    def __iter__(self) -> Shared:
        return self

    def __next__(self) -> bytes:
        if not self._left:
            raise StopIteration
        piece = self._left.pop(0)
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        return piece


class SharedBody:
    def __init__(self, pieces: list[bytes]) -> None:
        self._shared = Shared(pieces)

    def read(self, size: int = -1) -> bytes:
        return next(self._shared, b"")


def shared_stream(backend: Backend, decorate: Decorate) -> list[Any]:
    body, seen = Shared(backend.pieces), list[Any]()

    @decorate
    def speak(text: str) -> Shared:
        backend.calls += 1
        return body

    stream = speak("hello")
    body.meanwhile = lambda: seen.append(next(stream))
    seen.extend(stream)
    return seen


def shared_body(backend: Backend, decorate: Decorate) -> list[Any]:
    body, seen = SharedBody(backend.pieces), list[Any]()

    @decorate
    def speak(text: str) -> SharedBody:
        backend.calls += 1
        return body

    stream = speak("hello")
    body._shared.meanwhile = lambda: seen.append(stream.read(4096))
    while piece := stream.read(4096):
        seen.append(piece)
    return seen


HOOKS: dict[str, Callable[[Any], Any]] = {}
"""What the stand-in's functions are broken with, by name."""


@contextlib.contextmanager
def card() -> Iterator[StandIn]:
    """A card that the process uses, by the stand-in for torch.cuda, met for the first time."""
    before = gpu_window._meter, gpu_window._before_cuda
    gpu_window._meter, gpu_window._before_cuda = None, gpu_window.GpuWindow(None)
    try:
        with standin_cuda() as cuda:
            cuda.allocate(1000)
            for name, hook in HOOKS.items():
                owner, _, function = f"module.cuda.{name}".rpartition(".")
                broken = operator.attrgetter(owner)(cuda)
                setattr(broken, function, hook(getattr(broken, function)))
            yield cuda
    finally:
        gpu_window._meter, gpu_window._before_cuda = before


def promised(backend: Backend, decorate: Decorate) -> list[Any]:
    cuda: Any = backend.cuda
    tensor = cuda.tensor(1, 12_000)

    @decorate
    def speak(text: str) -> Any:
        backend.calls += 1
        cuda.launch(0.0005)
        return tensor

    return [speak("hello") is tensor]


def promised_stream(backend: Backend, decorate: Decorate) -> list[Any]:
    cuda: Any = backend.cuda
    tensors = [cuda.tensor(6_000), cuda.tensor(6_000)]

    @decorate
    def speak(text: str) -> Iterator[Any]:
        backend.calls += 1
        for tensor in tensors:
            cuda.launch(0.0002)
            yield tensor

    return [each is tensor for each, tensor in zip(speak("hello"), tensors, strict=True)]


class Waited:
    """A future of an SDK's own kind."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def fetch(self) -> Any:
        if isinstance(self._answer, BackendError):
            raise self._answer
        return self._answer


def waited(backend: Backend, decorate: Decorate) -> list[Any]:
    @decorate
    def speak(text: str) -> Any:
        backend.calls += 1
        return Waited(backend.whole)

    given = speak("hello")
    return [given.fetch(), given.fetch()]


def failing_wait(backend: Backend, decorate: Decorate) -> list[Any]:
    @decorate
    def speak(text: str) -> Any:
        backend.calls += 1
        return Waited(backend.error)

    try:
        return [speak("hello").fetch()]
    except BackendError as error:
        return [error, error.__cause__, error.__context__]


def forsaken_wait(backend: Backend, decorate: Decorate) -> list[Any]:
    @decorate
    def speak(text: str) -> Any:
        backend.calls += 1
        return Waited(backend.whole)

    speak("hello")
    return []


def said_failure(backend: Backend, decorate: Decorate) -> list[Any]:
    @decorate
    def speak(text: str) -> bytes:
        backend.calls += 1
        return backend.whole

    return [speak("hello")]


class Announced:
    """A result of which the audio is read elsewhere."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces


class Elsewhere:
    """There."""

    def __init__(self, result: Announced) -> None:
        self._left = iter([*result.pieces, b""])
        self.at = 0

    def save(self, path: Path) -> None:
        path.write_bytes(b"".join(self._left))

    def fill(self, buffer: bytearray) -> int:
        piece = next(self._left)
        buffer[: len(piece)] = piece
        self.at += len(piece)
        return len(piece)


class TracedElsewhere(Elsewhere):
    __init__ = Opened("fault_shapes:Elsewhere.__init__", of="result").wrap(Elsewhere.__init__, {})
    fill = Pulled("fault_shapes:Elsewhere.fill", into="buffer", end=lambda it: it.at).wrap(Elsewhere.fill, {})
    save = Saved("fault_shapes:Elsewhere.save", to="path").wrap(Elsewhere.save, {})


def read_elsewhere(backend: Backend, decorate: Decorate) -> list[Any]:
    traced = decorate(read_elsewhere) is not read_elsewhere

    @decorate
    def speak(text: str) -> Any:
        backend.calls += 1
        return Waited(Announced(backend.pieces))

    stream = (TracedElsewhere if traced else Elsewhere)(speak("hello").fetch())
    buffer = bytearray(len(backend.pieces[0]))
    seen: list[Any] = []
    while filled := stream.fill(buffer):
        seen.append(buffer[:filled] == backend.pieces[len(seen)])
    return seen


def saved_elsewhere(backend: Backend, decorate: Decorate) -> list[Any]:
    traced = decorate(saved_elsewhere) is not saved_elsewhere

    @decorate
    def speak(text: str) -> Any:
        backend.calls += 1
        return Announced(backend.pieces)

    stream = (TracedElsewhere if traced else Elsewhere)(speak("hello"))
    return [stream.save(backend.path), backend.path.read_bytes() == b"".join(backend.pieces)]


DECLARED = (waited, failing_wait, forsaken_wait, said_failure, read_elsewhere, saved_elsewhere)
"""With options that only declarations of backends have."""
OPTIONS_OF |= {
    waited: {"wait": "fetch", "duration": lambda call: 0.001},
    failing_wait: {"wait": "fetch"},
    forsaken_wait: {"wait": "fetch"},
    said_failure: {"failed": lambda call: Failure("NoMore")},
    saved_elsewhere: {"continues": lambda call: True},
    read_elsewhere: {"wait": "fetch", "continues": lambda call: True, "failed": lambda call: None},
}

ON_A_CARD = frozenset({promised, promised_stream})


class _NoSynthesis(contextlib.nullcontext[None]):
    def chunk(self, audio: object) -> None: ...
    def set_attribute(self, name: str, value: object) -> None: ...
    def add_text(self, text: str) -> None: ...


def by_hand(backend: Backend, decorate: Decorate) -> list[Any]:
    traced = decorate(by_hand) is not by_hand
    by: Any = synthesis("hello", sample_rate=24_000, format="pcm_s16le") if traced else _NoSynthesis()
    seen = []
    with by as s:
        s = s or by
        backend.calls += 1
        for piece in backend.pieces:
            s.chunk(piece)
            seen.append(piece)
        s.add_text("more")
        s.set_attribute("x", 1)
    return seen


def run(coroutine: Any) -> Any:
    """Run a coroutine of which nothing is waited for: no event loop is needed, and none has a thread or a log."""
    try:
        coroutine.send(None)
    except StopIteration as stopped:
        return stopped.value
    raise AssertionError("it waits for something")


SHAPES: tuple[Callable[[Backend, Decorate], list[Any]], ...] = (
    value, array, generator, returned_iterator, broken_generator, closed_generator, async_generator, coroutine,
    awaitable, body, async_body, dropped_generator, staged, hostile, context_manager, future, output_file, exception,
    nested, pieces_of_text, by_hand, pickled_stream, file_like, returned_path, callback, async_callback,
    failing_callback, forsaken_stream, forsaken_coroutine, shared_by_tasks, shared_stream, shared_body,
    promised, promised_stream,
)  # fmt: skip
