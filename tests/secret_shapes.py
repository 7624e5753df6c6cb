"""Shapes of calls beyond those of `fault_shapes`, exceptions of every kind that hold a text, and where else one may be.

A shape gets a backend and what decorates its function, as there. What a shape raises is its own concern.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import inspect
import io
import json
import linecache
import subprocess
import sys
import threading
import urllib.error
import urllib.parse
from collections import namedtuple
from collections.abc import AsyncIterator, Callable, Iterator
from email.message import Message
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from backends import RATE, schedule, tone
from fault_shapes import Backend, Decorate
from secret_texts import SECRET

from ttstrace import stage, synthesis, traced_synthesis

# --- shapes ------------------------------------------------------------------------------------------------------


def method(backend: Backend, decorate: Decorate) -> Any:
    class Engine:
        voice = SECRET

        @decorate
        def speak(self, text: str) -> bytes:
            return backend.whole

    return Engine().speak("hello")


def class_method(backend: Backend, decorate: Decorate) -> Any:
    class Engine:
        speak = classmethod(decorate(lambda cls, text: backend.whole))

    return Engine.speak("hello")


def callable_object(backend: Backend, decorate: Decorate) -> Any:
    class Engine:
        __name__ = "speak"

        def __call__(self, text: str) -> bytes:
            return backend.whole

        def __repr__(self) -> str:
            return SECRET

    return decorate(Engine())("hello")


def partial(backend: Backend, decorate: Decorate) -> Any:
    return decorate(functools.partial(lambda language, text: backend.whole, "en"))("hello")


def tuple_with_text(backend: Backend, decorate: Decorate) -> Any:
    return decorate(lambda text: (backend.array, RATE, SECRET))("hello")


def mapping_with_text(backend: Backend, decorate: Decorate) -> Any:
    keys = ("text", "path", "format", "content_type", "encoding", "alignment", "device", "status")
    return decorate(lambda text: {"audio": backend.array, **dict.fromkeys(keys, SECRET)})("hello")


def object_with_text(backend: Backend, decorate: Decorate) -> Any:
    fields = "audio text path format mime_type device sample_rate"
    return decorate(lambda text: namedtuple("Speech", fields)(backend.array, *[SECRET] * 5, RATE))("hello")


def text_as_result(backend: Backend, decorate: Decorate) -> Any:
    return decorate(lambda text: SECRET)("hello")


def batch(backend: Backend, decorate: Decorate) -> Any:
    return decorate(lambda text: [backend.array, backend.array])("hello")


def made_on_schedule(backend: Backend, decorate: Decorate) -> Any:
    @decorate
    def speak(text: str) -> Iterator[Any]:
        yield from schedule((0.0, 0.1), (0.0, 0.1), (0.0, 0.0))
        return SECRET

    return list(speak("hello"))


def tone_of_samples(backend: Backend, decorate: Decorate) -> Any:
    return decorate(lambda text: (RATE, tone(0.1)))("hello")


def events_with_text(backend: Backend, decorate: Decorate) -> Any:
    @decorate
    def speak(text: str) -> Iterator[Any]:
        yield {"type": "words", "text": SECRET}
        yield {"type": "audio", "audio": backend.pieces[0], "text": SECRET}
        yield SECRET
        yield SECRET.encode()
        yield json.dumps({"text": SECRET})

    return list(speak("hello"))


def sent_and_thrown(backend: Backend, decorate: Decorate) -> Any:
    @decorate
    def speak(text: str) -> Iterator[Any]:
        try:
            while True:
                yield backend.pieces[0]
        except KeyError:
            raise ValueError(SECRET) from None

    stream: Any = speak("hello")
    next(stream)
    stream.send(SECRET)
    return stream.throw(KeyError(SECRET))


def async_sent_and_thrown(backend: Backend, decorate: Decorate) -> Any:
    @decorate
    async def speak(text: str) -> AsyncIterator[Any]:
        while True:
            yield backend.pieces[0]

    async def listen() -> None:
        stream: Any = speak("hello")
        await stream.__anext__()
        await stream.asend(SECRET)
        await stream.athrow(KeyError(SECRET))

    return asyncio.run(listen())


def cancelled(backend: Backend, decorate: Decorate) -> Any:
    @decorate
    async def speak(text: str) -> bytes:
        await asyncio.sleep(60)
        return backend.whole

    async def listen() -> None:
        task = asyncio.ensure_future(speak("hello"))
        await asyncio.sleep(0)
        task.cancel(SECRET)
        await task

    return asyncio.run(listen())


def timed_out(backend: Backend, decorate: Decorate) -> Any:
    @decorate
    async def speak(text: str) -> bytes:
        await asyncio.sleep(60)
        return backend.whole

    return asyncio.run(asyncio.wait_for(speak("hello"), 0.001))


def failed_future(backend: Backend, decorate: Decorate) -> Any:
    promised: concurrent.futures.Future[bytes] = concurrent.futures.Future()
    decorate(lambda text: promised)("hello")
    try:
        raise KeyError(SECRET)
    except KeyError as error:
        promised.set_exception(error)
    return promised.result()


def failed_async_future(backend: Backend, decorate: Decorate) -> Any:
    async def listen() -> Any:
        promised: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        given = decorate(lambda text: promised)("hello")
        promised.set_exception(KeyError(SECRET))
        return await given

    return asyncio.run(listen())


def in_a_pool(backend: Backend, decorate: Decorate) -> Any:
    @decorate
    def speak(text: str) -> bytes:
        raise KeyError(SECRET)

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(speak, "hello").result()


def failing_body(backend: Backend, decorate: Decorate) -> Any:
    class Failing(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise ConnectionError(SECRET)

        def seekable(self) -> bool:
            raise OSError(SECRET)

        def __repr__(self) -> str:
            return SECRET

    return decorate(lambda text: Failing())("hello").read()


def failing_exit(backend: Backend, decorate: Decorate) -> Any:
    class Entered:
        def __enter__(self) -> Any:
            return self

        def __exit__(self, *error: object) -> None:
            raise OSError(SECRET)

        def __iter__(self) -> Any:
            return iter(backend.pieces)

        def __next__(self) -> bytes:
            raise KeyError(SECRET)

    with decorate(lambda text: Entered())("hello") as stream:
        return next(stream)


def with_a_callback(backend: Backend, decorate: Decorate) -> Any:
    def hear(chunk: bytes) -> None:
        raise KeyError(SECRET)

    @decorate
    def speak(text: str, callback: Any = hear) -> None:
        callback(backend.pieces[0])

    return speak("hello")


def nested_with_stages(backend: Backend, decorate: Decorate) -> Any:
    @stage("vocoder")
    def vocode(text: str) -> bytes:
        raise KeyError(text)

    @decorate
    def inner(text: str) -> bytes:
        with stage("words"):
            return vocode(SECRET)

    @decorate
    def speak(text: str) -> bytes:
        try:
            return inner(text)
        except KeyError as error:
            raise ValueError(SECRET) from error

    return speak("hello")


def async_stages(backend: Backend, decorate: Decorate) -> Any:
    @stage("vocoder")
    async def vocode(text: str) -> bytes:
        raise KeyError(text)

    @decorate
    async def speak(text: str) -> bytes:
        async with stage("words"):
            return await vocode(SECRET)

    return asyncio.run(speak("hello"))


def reported_by_hand(backend: Backend, decorate: Decorate) -> Any:
    class Anything:
        def __str__(self) -> str:
            return SECRET

    @decorate
    def speak(text: str) -> None:
        s: Any = synthesis.current()
        s.add_text(SECRET)
        s.add_text([SECRET])
        for odd in (SECRET, SECRET.encode(), {"text": SECRET}, Anything(), [SECRET]):
            s.chunk(odd)
        for odd in (Anything(), [SECRET], {"text": SECRET}, SECRET.encode(), Path("/srv") / SECRET):
            s.set_attribute("odd", odd)

    return speak("hello")


def by_hand_async(backend: Backend, decorate: Decorate) -> Any:
    async def speak() -> None:
        async with synthesis(SECRET, model=f"/srv/{SECRET}/v.onnx", voice=f"{SECRET}.wav") as s:
            s.add_text(SECRET)
            s.chunk(backend.whole)
            raise KeyError(SECRET)

    return asyncio.run(speak())


def by_hand_ended(backend: Backend, decorate: Decorate) -> Any:
    s = synthesis(SECRET, format="pcm_s16le", sample_rate=RATE).start()
    try:
        raise KeyError(SECRET)
    except KeyError as error:
        s.end(error)
        raise


def while_another_is_handled(backend: Backend, decorate: Decorate) -> Any:
    """The program falls back to this one in the midst of handling what another one raised."""
    try:
        raise KeyError(SECRET)
    except KeyError:
        return decorate(lambda text: backend.whole)("hello")


def dropped_with_a_stage(backend: Backend, decorate: Decorate) -> Any:
    """What was left behind is ended by the next call, in the midst of handling something."""

    @decorate
    def speak(text: str) -> Iterator[bytes]:
        with stage("words"):
            yield from backend.pieces

    stream = speak("hello")
    next(stream)
    try:
        raise KeyError(SECRET)
    except KeyError:
        del stream
        return decorate(lambda text: backend.whole)("hello")


SHAPES: tuple[Callable[[Backend, Decorate], Any], ...] = (
    method, class_method, callable_object, partial, tuple_with_text, mapping_with_text, object_with_text,
    text_as_result, batch, made_on_schedule, tone_of_samples, events_with_text, sent_and_thrown,
    async_sent_and_thrown, cancelled, timed_out, failed_future, failed_async_future, in_a_pool, failing_body,
    failing_exit, with_a_callback, nested_with_stages, async_stages, reported_by_hand, by_hand_async, by_hand_ended,
    while_another_is_handled, dropped_with_a_stage,
)  # fmt: skip


# --- how a text is given -----------------------------------------------------------------------------------------


async def _apart(text: str) -> AsyncIterator[str]:
    for at in range(0, len(text), 7):
        yield text[at : at + 7]


class TextOfItsOwn(str):
    """A str that says something else when it is asked."""

    __slots__ = ()

    def __str__(self) -> str:
        return SECRET[::-1]


TEXTS: dict[str, Callable[[str], Any]] = {
    "str": lambda text: text,
    "str of its own": TextOfItsOwn,
    "list": lambda text: [text, text],
    "iterator": lambda text: iter([text[:9], text[9:]]),
    "async iterator": _apart,
    "SSML": lambda text: f"<speak><prosody rate='slow'>{text}</prosody></speak>",
    "bytes": lambda text: text.encode(),
    "mapping": lambda text: {"text": text},
    "surrogates and NULs": lambda text: f"\udc80{text}\0",
}


# --- exceptions --------------------------------------------------------------------------------------------------


class BackendFailure(Exception):
    """A backend's own."""


class Held(Exception):
    """Keeps a text where nobody looks at first."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text


class Speechless(Exception):
    def __str__(self) -> str:
        raise RuntimeError(SECRET)


def _raise(error: BaseException) -> Any:
    raise error


def _with_notes() -> None:
    error = ValueError("no")
    error.__notes__ = [SECRET]  # type: ignore[attr-defined]
    raise error


def _with_cause() -> None:
    raise ValueError("no") from KeyError(SECRET)


def _with_context() -> None:
    try:
        raise KeyError(SECRET)
    except KeyError:
        raise ValueError("no")  # noqa: B904


def _with_locals() -> None:
    local = SECRET
    raise ValueError(len(local))


def _group() -> None:
    if sys.version_info >= (3, 11):
        raise ExceptionGroup(SECRET, [KeyError(SECRET), ExceptionGroup("no", [Held(SECRET)])])  # noqa: F821
    raise ValueError(SECRET)


def _executed(name: str, source: str) -> Callable[[], Any]:
    """Code whose file's name, or whose source, is the text: a template, a formula."""

    def run() -> Any:
        linecache.cache[name] = len(source), None, source.splitlines(True), name
        return eval(compile(source, name, "eval"))

    return run


def _lambda_of_source() -> Any:
    return _executed("<formula>", f"(lambda: 1 / len({SECRET[:0]!r}))()  # {SECRET}")()


def _class(name: str, module: Any = "acme") -> Callable[[], Any]:
    def fail() -> None:
        cls = type("Failure", (BackendFailure,), {"__module__": module})
        cls.__qualname__ = name
        raise cls("no")

    return fail


def _process() -> None:
    raise subprocess.CalledProcessError(1, ["speak", SECRET], SECRET, SECRET)


def _http() -> None:
    url = f"http://localhost/?q={urllib.parse.quote(SECRET)}"
    raise urllib.error.HTTPError(url, 400, SECRET, Message(), io.BytesIO(SECRET.encode()))


FAILURES: dict[str, Callable[[], Any]] = {
    "message": lambda: _raise(BackendFailure(SECRET)),
    "arguments": lambda: _raise(BackendFailure("no", {"text": [SECRET]}, SECRET.encode())),
    "attribute": lambda: _raise(Held(SECRET)),
    "notes": _with_notes,
    "cause": _with_cause,
    "context": _with_context,
    "local variable": _with_locals,
    "group": _group,
    "KeyError": lambda: {}[SECRET],  # type: ignore[index]
    "UnicodeEncodeError": lambda: SECRET.encode("ascii"),
    "UnicodeDecodeError": lambda: f"{SECRET}\xff".encode("latin-1", "replace").decode("ascii"),
    "lone surrogate": lambda: f"{SECRET}\udc80".encode(),
    "JSONDecodeError": lambda: json.loads(f"[{SECRET}"),
    "ValueError of int": lambda: int(SECRET),
    "AttributeError": lambda: getattr(SECRET, SECRET),
    "OSError": lambda: Path(f"/nowhere/{SECRET}/voice.onnx").read_bytes(),
    "SyntaxError": lambda: compile(SECRET, SECRET, "exec"),
    "CalledProcessError": _process,
    "HTTPError": _http,
    "speechless": lambda: _raise(Speechless()),
    "AssertionError": lambda: _raise(AssertionError(SECRET)),
    "StopIteration": lambda: _raise(StopIteration(SECRET)),
    "StopAsyncIteration": lambda: _raise(StopAsyncIteration(SECRET)),
    "SystemExit": lambda: _raise(SystemExit(SECRET)),
    "KeyboardInterrupt": lambda: _raise(KeyboardInterrupt(SECRET)),
    "GeneratorExit": lambda: _raise(GeneratorExit(SECRET)),
    "CancelledError": lambda: _raise(asyncio.CancelledError(SECRET)),
    "file's name": _executed(SECRET, "1 / 0"),
    "file's name in brackets": _executed(f"<{SECRET}>", "1 / 0"),
    "file's name of lines": _executed(f"{SECRET}\nfile.py", "1 / 0"),
    "source line": _lambda_of_source,
    "class's name": _class(SECRET),
    "class's name, in part": _class(f"Failure.{SECRET}"),
    "class's module": _class("Failure", SECRET),
    "class without a module": _class(SECRET, None),
    "class's name, unencodable": _class("Failure\udc80"),
}


def failing(function: Any, fail: Callable[[], Any]) -> Any:
    """The function, of the same kind, but that it fails when it is done."""
    if inspect.isasyncgenfunction(function):

        @functools.wraps(function)
        async def speak(*args: Any, **kwargs: Any) -> Any:
            async for each in function(*args, **kwargs):
                yield each
            fail()

    elif inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def speak(*args: Any, **kwargs: Any) -> Any:
            await function(*args, **kwargs)
            fail()

    elif inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def speak(*args: Any, **kwargs: Any) -> Any:
            yield from function(*args, **kwargs)
            fail()

    else:

        def speak(*args: Any, **kwargs: Any) -> Any:
            function(*args, **kwargs)
            fail()

        if hasattr(function, "__name__"):
            functools.update_wrapper(speak, function)
        else:
            speak.__wrapped__ = function  # type: ignore[attr-defined]
    return speak


# --- where else a text may be ------------------------------------------------------------------------------------


class Disclosing:
    """An object that tells the text by whatever it is asked."""

    name = id = path = text = device = SECRET

    def __str__(self) -> str:
        return SECRET

    __repr__ = __str__

    def __fspath__(self) -> str:
        return f"/srv/{SECRET}/voice"

    def __bool__(self) -> bool:
        raise KeyError(SECRET)


class Failing:
    """An object that fails at every look, and says the text."""

    def __getattribute__(self, name: str) -> Any:
        raise KeyError(SECRET)

    def __fspath__(self) -> str:
        raise KeyError(SECRET)

    def __str__(self) -> str:
        raise KeyError(SECRET)

    __repr__ = __bool__ = __iter__ = __len__ = __eq__ = __hash__ = __str__  # type: ignore[assignment]


class FailingNumber(float):
    def __float__(self) -> float:
        raise KeyError(SECRET)


ANSWERS: dict[str, Any] = {
    "an object": Disclosing(),
    "one that fails": Failing(),
    "a number that fails": FailingNumber(1),
    "a list": [SECRET],
    "a mapping": {"text": [SECRET], 1: SECRET, None: SECRET, "path": Path("/srv") / SECRET},
    "bytes": SECRET.encode(),
    "a path": PurePosixPath("/srv") / SECRET / "voice.onnx",
    "an exception": KeyError(SECRET),
    "an array": np.array([SECRET]),
}
"""What an option may answer, and what is then not to be told."""

FOLDER_THERE = f"checkpoints/{SECRET}/voice"
"""By its name alone it might be a model of a hub; the folder is there."""
_FOLDERS = (
    FOLDER_THERE,
    f"/srv/{SECRET}/voice.onnx", f"./{SECRET}/voice", f"../{SECRET}/voice.pt", f"~/{SECRET}/voice",
    f"C:\\{SECRET}\\voice.onnx", f"\\\\server\\{SECRET}\\voice.bin", f"models/{SECRET}/voice.safetensors",
    f"file:///srv/{SECRET}/voice", f"https://localhost/{SECRET}/voice.onnx", f"https://localhost/voice?key={SECRET}",
    f"https://localhost/voice.onnx#{SECRET}", f"https://{SECRET}", f"s3://{SECRET}/voice", f"hf://{SECRET}/voice",
    f"models/{SECRET}/voice.gguf", f"models/{SECRET}/voice.h5",
    f"models/{SECRET}/voice.tar.gz", f"models/{SECRET}/voice.model",
)  # fmt: skip
_FILES = (
    f"/srv/{SECRET}", f"/srv/{SECRET}.wav", f"{SECRET}.wav", f"{SECRET}.WAV", f"clips/{SECRET}.aiff",
    f"clips/{SECRET}.webm", f"clips/{SECRET}.mp4", f"{SECRET}.amr", f"{SECRET}.pcm", f"{SECRET}.caf",
    f"https://localhost/{SECRET}.wav?key=1", f"data:audio/wav;base64,{SECRET}", f"file:{SECRET}.wav",
    f"{SECRET}.aif", f"{SECRET}.wma", f"{SECRET}.pt", f"{SECRET}.npz", SECRET * 10, f"{SECRET}\n{SECRET}",
)  # fmt: skip
PATHS: tuple[tuple[str, Any], ...] = (
    *(("model", path) for path in _FOLDERS),
    *(("model", PurePosixPath(path)) for path in _FOLDERS[:4]),
    *(("voice", path) for path in _FOLDERS + _FILES),
    *(("voice", PurePosixPath(path)) for path in _FILES[:3]),
)
"""Options and paths that they say: of a model the last component alone is to be told, of a voice nothing."""

ARGUMENTS = (
    "ref_text", "ref_audio", "ref_audio_path", "prompt_text", "prompt_wav_path", "reference", "instructions",
    "instruct", "style", "style_prompt", "description", "voice", "speaker", "speaker_wav", "speaker_name", "emotion",
    "model", "model_path", "lang", "language", "format", "device", "provider", "user", "context", "sample_rate", "sr",
    "path", "file", "filename", "file_path", "output", "output_path", "output_file", "out_path", "out_file", "wav_file",
    "wav_path", "audio_path", "audio_fname", "savefile", "fp",
)  # fmt: skip
"""Parameters that a text may stand in as well; those that name a file are given one that is not there."""


def traced_with_arguments(**options: Any) -> Any:
    @traced_synthesis(**options)
    def speak(text: str, **others: Any) -> bytes:
        return b"\1\0" * 1200

    return speak


# --- what nobody catches -----------------------------------------------------------------------------------------


def _in_a_thread(decorate: Decorate) -> None:
    @decorate
    def speak(text: str) -> None:
        raise KeyError(text)

    thread = threading.Thread(target=speak, args=(SECRET,))
    thread.start()
    thread.join()


def _never_retrieved(decorate: Decorate) -> None:
    @decorate
    async def speak(text: str) -> None:
        raise KeyError(text)

    async def main() -> None:
        task: Any = asyncio.ensure_future(speak(SECRET))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        del task

    asyncio.run(main(), debug=True)


def _in_a_callback_of_the_loop(decorate: Decorate) -> None:
    @decorate
    def speak(text: str) -> None:
        raise KeyError(text)

    async def main() -> None:
        asyncio.get_running_loop().call_soon(speak, SECRET)
        await asyncio.sleep(0)

    asyncio.run(main())


def _in_a_finalizer(decorate: Decorate) -> None:
    @decorate
    def speak(text: str) -> Iterator[bytes]:
        try:
            yield b"\1\0"
        finally:
            raise KeyError(text)

    stream = speak(SECRET)
    next(stream)
    del stream


def _in_del(decorate: Decorate) -> None:
    @decorate
    def speak(text: str) -> None:
        raise KeyError(text)

    class Dropped:
        def __del__(self) -> None:
            speak(SECRET)

    Dropped()


def _never_awaited(decorate: Decorate) -> None:
    @decorate
    async def speak(text: str) -> None: ...

    speak(SECRET)


def _done_callback(decorate: Decorate) -> None:
    promised: concurrent.futures.Future[str] = concurrent.futures.Future()
    decorate(lambda text: promised)(SECRET)
    promised.add_done_callback(lambda future: {}[SECRET])  # type: ignore[index]
    promised.set_result(SECRET)


def _abandoned_async_generator(decorate: Decorate) -> None:
    @decorate
    async def speak(text: str) -> AsyncIterator[bytes]:
        try:
            yield b"\1\0"
        finally:
            raise KeyError(text)

    async def main() -> None:
        stream = speak(SECRET)
        await stream.__anext__()

    asyncio.run(main())


UNCAUGHT: tuple[Callable[[Decorate], None], ...] = (
    _in_a_thread, _never_retrieved, _in_a_callback_of_the_loop, _in_a_finalizer, _in_del, _never_awaited,
    _done_callback, _abandoned_async_generator,
)  # fmt: skip
"""Programs of which Python itself tells something: with ttstrace no more than without it."""
