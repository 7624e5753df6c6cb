"""One call of a traced callable: its arguments bound, and what they and its result say of the synthesis."""

from __future__ import annotations

import asyncio
import difflib
import functools
import inspect
import os
import re
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from time import perf_counter
from typing import Any, Final

from opentelemetry.context import Context

from ttstrace import semconv
from ttstrace.api import get_current
from ttstrace.audio import OUTPUT_ARGUMENTS, OutputFile, parse_format, sample_rate_of
from ttstrace.callbacks import Listener, listen
from ttstrace.faults import is_fault, report
from ttstrace.lifecycle import Operation, Synthesis, is_cold
from ttstrace.promises import Promises
from ttstrace.pulls import Guard
from ttstrace.streams import count_pieces
from ttstrace.timeline import Producer, Timeline
from ttstrace.values import Attributes, add_known, check_options, clean

_TEXT_ARGUMENTS: Final = (
    "text", "texts", "gen_text", "tts_text", "input_text", "transcript", "sentence", "sentences", "ssml", "prompt",
    "script", "utterance", "content", "message", "input",
)  # fmt: skip
_NEVER_TEXT: Final = frozenset(
    {"voice", "speaker", "lang", "language", "model", "style", "format", "path", "file", "id"}
)
_RATE_ARGUMENTS: Final = ("sample_rate", "sampling_rate", "sr")
_RATE_ATTRIBUTES: Final = ("output_sample_rate", "sample_rate", "sampling_rate", "sr")

_DEVICE: Final = re.compile(r"[a-z]+(:\d+)?")

_MISSING: Final = object()


class Call:
    """One call, as callables given for options see it."""

    __slots__ = (
        "_args", "_arguments", "_kwargs", "_remembered", "_target", "chunk", "deferred", "first_piece", "instance",
        "piece", "result", "returned",
    )  # fmt: skip

    def __init__(self, target: Target, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._target = target
        self._args = args
        self._kwargs = kwargs
        self._arguments: dict[str, Any] | None = None
        self._remembered: list[dict[str, Any]] | None = None
        self.instance = instance
        """The object whose method is called; the class, for a class method; None for a function."""
        self.result: Any = None
        """What the call returned; None before it did."""
        self.chunk: Any = None
        """The current chunk of a stream; None elsewhere."""
        self.piece: Any = None
        """The current item of a text that arrives in pieces, where the option `piece` looks into them; else None."""
        self.first_piece: Any = None
        """The first of them, which may say what is asked for; None before it came."""
        self.deferred = False
        """The audio is still to come, behind the result."""
        self.returned = False
        """The backend is done. What was not known before (None) is asked for once more then."""

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments by parameter name, defaults filled in."""
        arguments = self._arguments
        if arguments is None:
            arguments = self._arguments = self._target.bind(self.instance, self._args, self._kwargs)
        return arguments

    @property
    def constructed(self) -> dict[str, Any]:
        """The arguments that this instance was made with; empty where that was not seen. See
        `ttstrace.instrumentor.Constructed`."""
        return _constructed.get(self.instance, {})

    def label(self, value: object) -> object | None:
        """The name by which a value was looked up; None where that was not seen. See
        `ttstrace.instrumentor.Labelled`."""
        found = _labels.get(id(_anchor(value)))
        return None if found is None else found[1]

    @property
    def remembered(self) -> list[dict[str, Any]]:
        """The arguments of what was queued on this instance since its last synthesis, oldest first; see
        `ttstrace.instrumentor.Remembered`."""
        given = self._remembered
        if given is None:
            given = self._remembered = _remembered.pop(self.instance, [])
        return given


_constructed: weakref.WeakKeyDictionary[Any, dict[str, Any]] = weakref.WeakKeyDictionary()
# By identity: arrays and tensors are equal element by element.
_labels: dict[int, tuple[weakref.ref[Any], object]] = {}
_remembered: weakref.WeakKeyDictionary[Any, list[dict[str, Any]]] = weakref.WeakKeyDictionary()
_REMEMBERED_MAX: Final = 10_000


def remember_construction(instance: Any, arguments: dict[str, Any]) -> None:
    """Keep what an instance was made with.

    Raises:
        TypeError: the instance cannot be referenced weakly.
    """
    _constructed[instance] = arguments


def remember_label(found: Any, label: object) -> None:
    """Keep by what name something was looked up. Of what is no name (reference audio), only that there was some.

    Raises:
        TypeError: what was found cannot be referenced weakly.
    """
    anchor = _anchor(found)
    key = id(anchor)

    def forget(gone: weakref.ref[Any]) -> None:
        held = _labels.get(key)
        if held is not None and held[0] is gone:
            del _labels[key]

    _labels[key] = weakref.ref(anchor, forget), label if isinstance(label, (str, int, os.PathLike)) else _NO_NAME


_NO_NAME: Final = object()


def _anchor(value: Any) -> Any:
    """What stands for a mapping, which cannot be referenced weakly: the first of its values, and so on."""
    while isinstance(value, Mapping) and value:
        value = next(iter(value.values()))
    return value


def remember(instance: Any, arguments: dict[str, Any]) -> None:
    """Keep what a queueing call was given, for the call that synthesizes it.

    Raises:
        TypeError: the instance cannot be referenced weakly.
    """
    given = _remembered.setdefault(instance, [])
    if len(given) < _REMEMBERED_MAX:
        given.append(arguments)


_contexts: weakref.WeakKeyDictionary[Any, Context] = weakref.WeakKeyDictionary()


def carry_context(instance: Any) -> None:
    """Keep the caller's context for the next synthesis of this instance that starts without one, in a thread of the
    library's own.

    Raises:
        TypeError: the instance cannot be referenced weakly.
    """
    _contexts[instance] = get_current()


def carried_context(instance: Any) -> Context | None:
    """The context that was kept for this instance: it is given once."""
    if not _contexts:
        return None
    try:
        return _contexts.pop(instance, None)
    except TypeError:
        return None


@dataclass(frozen=True)
class _Preparation:
    """What an earlier step made something of, and how long it took, the steps before it included."""

    text: Any
    seconds: float | None


_UNSEEN: Final = (None, _Preparation(None, None))
_prepared: dict[int, tuple[Any, _Preparation]] = {}  # by identity: tensors are not compared as a whole


def remember_preparation(made: Any, of: Any, seconds: float) -> None:
    """Keep what was made for the call that makes audio of it.

    Args:
        made: such as a spectrogram; the first, of a tuple.
        of: the text, or what an earlier step made.
        seconds: how long that took.

    Raises:
        TypeError: what was made cannot be referenced weakly.
    """
    if isinstance(made, tuple):
        made = made[0]
    before = _prepared.get(id(of), (None, _Preparation(of if is_text(of) else None, 0.0)))[1]
    # A card is still at work on it: who waits for that later, waits for both.
    known = before.seconds is not None and Promises.find() is None
    key = id(made)
    total = before.seconds + seconds if known else None  # type: ignore[operator]
    _prepared[key] = weakref.ref(made, lambda _: _prepared.pop(key, None)), _Preparation(before.text, total)


Option = Any  # a literal, or a callable that gets the Call


@dataclass(frozen=True, repr=False)
class Options:
    """What is known of a callable's syntheses. Unless said otherwise: a literal, or a callable that gets the `Call`.

    The first group is what `traced_synthesis` takes; the second is for declarations of backends.
    """

    provider: Option = None
    model: Option = None
    voice: Option = None
    language: Option = None
    text: str | Callable[[Call], Any] | None = None
    sample_rate: Option = None
    audio: Option = None
    format: Option = None
    device: Option = None
    producer: Producer | Callable[[Call], Producer | None] | None = None
    """Who works between the pulls; a callable is asked before the backend is called."""
    attributes: Option = None
    callback: str | None = None
    """The name of the parameter that holds a callable which is given each chunk."""

    when: Callable[[Call], bool] | None = None
    """Whether a call is a synthesis at all (callable only)."""
    piece: Callable[[Call], Any] | None = None
    """The text in an item (`.piece`) of the iterator that `text` names, where the items are no str but hold some; None
    where one holds none (callable only). What an option cannot answer before the first item (`.first_piece`) came, it
    is asked again then."""
    remote: bool = False
    """A service elsewhere does the work (literal)."""
    plays: Option = False
    """The backend plays the sound itself, or returns before it is done: the call's time is not the synthesis's."""
    told: Callable[[Call], bool] | None = None
    """The audio comes to another callable of the object (see `ttstrace.instrumentor.Told`); answers whether it is still
    to come when the call has returned. Further calls are then of the same synthesis, and their text is its text
    (callable only)."""
    output: Option = None
    """Where the audio is written, if not to an argument that is named as such."""
    body: Callable[[Call], tuple[Any, str] | None] | None = None
    """Where audio still comes from that is yet to be read, behind the result that is handed out (callable only): the
    object and the name of its attribute, or the mapping and its key, that everybody reads it through, such as an HTTP
    response's stream. It is measured there, and the result stays the same object. None: the result came whole."""
    wait: str | None = None
    """The method of the result by which the program waits for what the call is still at work on elsewhere, and which
    returns that: of an SDK's futures of its own kind (literal)."""
    continues: Callable[[Call], Any] | None = None
    """Whether audio is still to come that is read elsewhere, by what is made with the result (callable only): see
    `ttstrace.instrumentor.Opened`."""
    failed: Callable[[Call], BaseException | None] | None = None
    """What a result says that failed, where the backend does not raise (callable only): a
    `ttstrace.exceptions.Failure`; a `CancelledError` where the program itself put an end to it."""
    duration: Option = None
    """Seconds that the backend says it took, where those of the call tell nothing of it: the result is fetched later,
    or played. None, or negative: not known."""
    weights: Option = None
    """The object that holds the loaded model, if that is not the instance."""
    prepared: Callable[[Call], Any] | None = None
    """What audio is made of here, where an earlier call made that of the text, such as a spectrogram (callable only):
    its text and its time are the synthesis's; where it was not seen (see `ttstrace.instrumentor.Prepared`), the text
    and the synthesis's duration are unknown."""
    server: Option = None
    """URL of the service, or host:port; host and port are recorded."""
    input_type: Option = None
    usage_characters: Option = None
    cloned: Option = None

    def __post_init__(self) -> None:
        producer = None if callable(self.producer) else self.producer
        check_options(sample_rate=self.sample_rate, format=self.format, producer=producer, attributes=self.attributes)
        for name in ("provider", "voice", "language", "device"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str) and not callable(value):
                raise TypeError(f"{name} must be a str or a callable that gets the call, not {type(value).__name__}")
        if self.model is not None and not isinstance(self.model, (str, os.PathLike)) and not callable(self.model):
            raise TypeError(f"model must be a str or a callable that gets the call, not {type(self.model).__name__}")


OPTION_NAMES: Final = tuple(field.name for field in fields(Options))
# Options that are told as attributes; those that a call can answer only by what it returned are asked again then.
_TOLD: Final = (
    "provider", "model", "voice", "language", "server", "input_type", "usage_characters",
    "cloned", "attributes",
)  # fmt: skip


class Target(Operation):
    """A callable to be traced: its signature read once, its options sorted by when they can be answered."""

    __slots__ = (
        "_asked",
        "_bound_first",
        "_defaults",
        "_keywords",
        "_output_names",
        "_parameters",
        "_positions",
        "_rate_names",
        "_text_names",
        "_var_keyword",
        "enabled",
        "fixed_format",
        "itself",
        "options",
        "synthesis",
    )

    def __init__(self, function: Any, options: Options, *, name: str | None = None, patched: bool = False) -> None:
        plain = function.__func__ if isinstance(function, (classmethod, staticmethod)) else function
        qualified = name or _qualified_name(plain)
        told: Attributes = {}
        asked: list[tuple[str, Callable[[Call], Any]]] = []
        for option in _TOLD:
            value = getattr(options, option)
            if option == "provider" and value is None:
                value = _owner(qualified, plain)
            if callable(value):
                asked.append((option, value))
            elif option == "attributes" and value is not None:
                literal = {key: each for key, each in value.items() if not callable(each)}
                add_known(told, option, literal)
                asked.extend((option, _one_attribute(key, each)) for key, each in value.items() if callable(each))
            else:
                add_known(told, option, value)
        if isinstance(options.device, str):
            add_known(told, "device", options.device)
        producer = None if callable(options.producer) else options.producer
        super().__init__(qualified, remote=options.remote, producer=producer, patched=patched, attributes=told)
        self.options = options
        self.itself = _itself(function)
        self.enabled = True
        self._asked = tuple(asked)
        self.asks = bool(asked)
        self.picks = options.audio is not None
        self.wait = options.wait
        self.continues = options.continues is not None
        self.defers = self.continues or options.body is not None or options.wait is not None
        self.fails = options.failed is not None
        self.says_duration = options.duration is not None
        self.plays = callable(options.plays) or bool(options.plays) or options.callback is not None
        self.stays = options.told is not None
        self.synthesis = CallSynthesis if options.callback is None else CallbackSynthesis
        if options.told is not None:
            self.synthesis = ToldSynthesis
        """What a call of it is."""
        self.tells = any(callable(getattr(options, option)) for option in OPTION_NAMES) or bool(asked)
        self.fixed_format: tuple[int | None, str | None] | None = None
        """Rate and format, where the options say them once and for all."""
        if options.sample_rate is not None and not callable(options.sample_rate) and not callable(options.format):
            self.fixed_format = (sample_rate_of(options.sample_rate), options.format)
        self._read_signature(function, plain)

    def _read_signature(self, function: Any, plain: Any) -> None:
        try:
            parameters = list(inspect.signature(plain).parameters.values())
        except (TypeError, ValueError):  # a builtin without a signature
            kinds = inspect.Parameter
            parameters = [kinds("args", kinds.VAR_POSITIONAL), kinds("kwargs", kinds.VAR_KEYWORD)]
        # A plain function or a classmethod that is called through an instance gets it as its first argument, which
        # is not among those that the wrapper sees.
        self._bound_first = inspect.isfunction(plain) and not isinstance(function, staticmethod)
        kinds = inspect.Parameter
        positional = (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)
        self._parameters = parameters
        self._positions = {p.name: i for i, p in enumerate(p for p in parameters if p.kind in positional)}
        self._defaults = {p.name: p.default for p in parameters if p.default is not kinds.empty}
        self._keywords = frozenset(p.name for p in parameters if p.kind is kinds.KEYWORD_ONLY)
        self._var_keyword = next((p.name for p in parameters if p.kind is kinds.VAR_KEYWORD), None)

        def known(names: tuple[str, ...]) -> tuple[str, ...]:
            if self._var_keyword is not None:
                return names
            return tuple(name for name in names if name in self._positions or name in self._keywords)

        self._text_names = known(_TEXT_ARGUMENTS)
        self._rate_names = known(_RATE_ARGUMENTS)
        self._output_names = known(OUTPUT_ARGUMENTS)
        self.writes = bool(self._output_names) or self.options.output is not None
        text, callback = self.options.text, self.options.callback
        if text is not None and not isinstance(text, str) and not callable(text):
            raise TypeError(f"text must be the name of the parameter that holds the text, not {type(text).__name__}")
        if callback is not None and not isinstance(callback, str):
            raise TypeError(
                f"callback must be the name of the parameter that holds the callback, not {type(callback).__name__}"
            )
        for option, name in (("text", text), ("callback", callback)):
            if isinstance(name, str) and not known((name,)):
                names = [p.name for p in parameters]
                near = difflib.get_close_matches(name, names, 1)
                hint = f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(names) or 'no parameters'}"
                raise ValueError(f"{option}={name!r}: {self.function} has no parameter of that name{hint}")
        if isinstance(text, str):
            self._text_names = (text,)

    def argument(self, name: str, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """One argument by name, without binding the others; a sentinel where it has none."""
        if name in kwargs:
            return kwargs[name]
        position = self._positions.get(name)
        if position is not None:
            if instance is not None and self._bound_first:
                position -= 1
            if 0 <= position < len(args):
                return args[position]
        return self._defaults.get(name, _MISSING)

    def replaced(
        self, name: str, value: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments with another value for one of them; see `argument`."""
        position = self._positions.get(name)
        if name not in kwargs and position is not None:
            if instance is not None and self._bound_first:
                position -= 1
            if 0 <= position < len(args):
                return (*args[:position], value, *args[position + 1 :]), kwargs
            if any(p.name == name and p.kind is inspect.Parameter.POSITIONAL_ONLY for p in self._parameters):
                return args, kwargs  # left at its default, and no other way to say it
        return args, {**kwargs, name: value}

    def warm(self, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Note a call that is not measured: the model's next synthesis is no cold start."""
        if not self.remote:
            model = next(each for each in (instance, self.itself, self) if each is not None)
            if self.options.weights is not None:
                model = CallSynthesis(self, instance, args, kwargs).weights()
            if model is not None:
                is_cold(model)

    def bind(self, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """All arguments by name, defaults filled in; what fits no parameter is left out."""
        kinds = inspect.Parameter
        bound: dict[str, Any] = {}
        parameters = self._parameters[1:] if instance is not None and self._bound_first else self._parameters
        given = iter(args)
        for parameter in parameters:
            name = parameter.name
            if parameter.kind is kinds.VAR_POSITIONAL:
                bound[name] = tuple(given)
            elif parameter.kind is kinds.VAR_KEYWORD:
                bound.update((key, value) for key, value in kwargs.items() if key not in bound)
            else:
                value = next(given, _MISSING) if parameter.kind is not kinds.KEYWORD_ONLY else _MISSING
                value = kwargs.get(name, value)
                if value is _MISSING and parameter.default is not kinds.empty:
                    value = parameter.default
                if value is not _MISSING:
                    bound[name] = value
        return bound


class CallSynthesis(Synthesis):
    """The synthesis of one call: what its arguments and its result say, asked when it can be known."""

    __slots__ = ("_args", "_call", "_instance", "_kwargs", "_open", "_target", "_works")

    def __init__(self, target: Target, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super().__init__(target)
        self._target = target
        self._instance = target.itself if instance is None else instance
        self._args = args
        self._kwargs = kwargs
        self._call: Call | None = None
        self._open: tuple[tuple[str, Callable[[Call], Any]], ...] = ()
        self._works: Producer | None = None

    @property
    def call(self) -> Call:
        """The call as options see it; most calls have no option that asks."""
        call = self._call
        if call is None:
            call = self._call = Call(self._target, self._instance, self._args, self._kwargs)
        return call

    def _ask(self, option: Any) -> Any:
        """An option's value: a callable's answer, None where it fails."""
        if not callable(option):
            return option
        try:
            return option(self.call)
        except BaseException as error:
            report(error)
            return None

    def _try(self, option: Any) -> Any:
        """An option's value; None where it needs what has not come: the result, a chunk, a piece of the text."""
        if not callable(option):
            return option
        try:
            return option(self.call)
        except BaseException as error:
            if not is_fault(error):
                raise
            return None

    # --- before the backend runs ---

    def is_synthesis(self) -> bool:
        """Whether this call synthesizes anything."""
        when = self._target.options.when
        return when is None or bool(self._ask(when))

    def take_arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Count the text among the arguments, and return those to call with: as given, but for a text that arrives in
        pieces, which is counted on its way."""
        text = self._find_text()
        if isinstance(text, str):
            self.take_text(text)
        elif isinstance(text, (list, tuple)):
            if self._target.options.piece is not None:
                for each in filter(None, map(self.text_in, text)):
                    self.take_text(each)
            elif text and all(isinstance(each, str) for each in text):
                for each in text:
                    self.take_text(each)
                self.texts = len(text)
        elif hasattr(text, "__next__") or hasattr(text, "__aiter__"):
            if self._target.options.piece is not None:
                self.call.piece = None  # made here: a thread of the library's own may be who takes the pieces
            counted = count_pieces(self, text)
            args = tuple(counted if each is text else each for each in self._args)
            return args, {name: counted if each is text else each for name, each in self._kwargs.items()}
        return self._args, self._kwargs

    def _find_text(self) -> Any:
        """The text by DESIGN section 3: a named argument, else the only str that can be one, else None."""
        target = self._target
        if target.options.prepared is not None:
            made = self._ask(target.options.prepared)
            preparation = _prepared.get(id(made), _UNSEEN)[1]
            self.prepared = preparation.seconds
            return preparation.text
        option = target.options.text
        if option is not None and not isinstance(option, str):
            return self._ask(option)
        for name in target._text_names:
            value = target.argument(name, self._instance, self._args, self._kwargs)
            if type(value) is str or (value is not _MISSING and is_text(value)):
                return value
            if target.options.piece is not None and isinstance(value, (list, tuple)):
                return value
        if option is not None:
            return None
        found = None
        for name, value in _named_strings(self.call):
            if name not in _NEVER_TEXT and not name.startswith("ref_"):
                if found is not None:
                    return None  # a wrong text is worse than none
                found = value
        return found

    def weights(self) -> object | None:
        target = self._target
        if target.options.weights is not None:
            return self._ask(target.options.weights)  # type: ignore[no-any-return]
        return target if self._instance is None else self._instance

    def describe_request(self, attributes: Attributes) -> None:
        if callable(self._target.options.producer):
            self._works = self._ask(self._target.options.producer)
        self._open = self._target._asked
        self._ask_open(attributes)

    def _ask_open(self, attributes: Attributes) -> None:
        """Ask what is not known yet; what still is not, is asked again when there is more to go by."""
        still_open: list[tuple[str, Callable[[Call], Any]]] = []
        for name, option in self._open:
            value = self._try(option)
            if value is None:
                still_open.append((name, option))
            else:
                _add(attributes, name, value)
        self._open = tuple(still_open)

    def text_in(self, piece: object) -> str | None:
        option = self._target.options.piece
        if option is None:
            return super().text_in(piece)
        call = self.call
        call.piece = piece
        if call.first_piece is None:
            call.first_piece = piece
            self._ask_open(self._attributes)
        text = self._ask(option)
        return text if isinstance(text, str) else None

    def find_output(self) -> OutputFile | None:
        target = self._target
        if target.options.output is not None:
            value = self._ask(target.options.output)
            return None if value is None else OutputFile(value)
        # The first of them may be an input: which of them changes is known only after the call.
        given = [target.argument(name, self._instance, self._args, self._kwargs) for name in target._output_names]
        given = [value for value in given if value is not _MISSING and value is not None]
        return OutputFile(*given) if given else None

    # --- when there is audio ---

    def declared_format(self, audio: object) -> tuple[int | None, str | None]:
        target = self._target
        if target.fixed_format is not None:
            return target.fixed_format
        options = target.options
        if callable(options.sample_rate) or callable(options.format):
            self._show(audio)
        ask = self._try if audio is None else self._ask
        rate = sample_rate_of(ask(options.sample_rate))
        format = ask(options.format)
        if not isinstance(format, str):
            format = None
        if rate is None and (format is None or parse_format(format).rate is None):
            rate = self._found_rate()
        return rate, format

    def _show(self, audio: object) -> None:
        """Let options see a chunk; a whole result they have already."""
        call = self.call
        if call.result is None or call.deferred:
            call.chunk = audio

    def _found_rate(self) -> int | None:
        target, instance = self._target, self._instance
        for name in target._rate_names:
            rate = sample_rate_of(target.argument(name, instance, self._args, self._kwargs))
            if rate is not None:
                return rate
        if instance is not None:
            for name in _RATE_ATTRIBUTES:
                try:
                    rate = sample_rate_of(getattr(instance, name, None))
                except Exception:  # a property of the host's that fails is no concern of ours
                    continue
                if rate is not None:
                    return rate
        return None

    def find_body(self, result: object) -> tuple[Any, str] | None:
        call = self.call
        call.result = result
        found: tuple[Any, str] | None = self._ask(self._target.options.body)
        if found is None:
            call.result = None  # until it is known to be whole
        else:
            call.deferred = True
        return found

    def is_continued(self, result: object) -> bool:
        call = self.call
        call.result = result
        call.deferred = bool(self._ask(self._target.options.continues))
        call.result = None  # nobody may ever look at it again: then it must not be kept here
        return call.deferred

    def pick_audio(self, value: object) -> object:
        self._show(value)
        return self._ask(self._target.options.audio)

    # --- when the backend is done ---

    def show_result(self, result: object) -> None:
        self.call.result = result

    def show_rest(self, rest: object) -> None:
        self.call.result = rest

    def failure(self, result: object) -> BaseException | None:
        if result is not None:
            self.call.result = result
        failure = self._ask(self._target.options.failed)
        return failure if isinstance(failure, BaseException) else None

    def describe_result(self, attributes: Attributes, result: object) -> None:
        target = self._target
        device = target.options.device
        looks_for_device = device is None and not target.remote and "torch" in sys.modules
        if not (target.tells or looks_for_device):
            return
        call = self.call
        call.returned = True
        if result is not None:
            call.result = result
        for name, option in self._open:
            _add(attributes, name, self._ask(option))
        if looks_for_device:
            _add(attributes, "device", _found_device(call))
        elif callable(device):
            _add(attributes, "device", self._ask(device))
        said = clean(self._ask(target.options.duration))
        if isinstance(said, (int, float)) and said >= 0:
            self.duration_said = float(said)

    def find_producer(self, timeline: Timeline) -> Producer:
        return self._works or super().find_producer(timeline)

    def is_played(self) -> bool:
        return bool(self._ask(self._target.options.plays))

    def let_go(self) -> None:
        super().let_go()
        self._args, self._kwargs = (), {}
        self._instance = self._call = None


class CallbackSynthesis(CallSynthesis):
    """The synthesis of one call that may be given a callback for its chunks."""

    __slots__ = ("_heard",)

    def __init__(self, target: Target, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super().__init__(target, instance, args, kwargs)
        self._heard = False

    def take_arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        args, kwargs = super().take_arguments()
        name = self._target.options.callback
        callback = self._target.argument(name, self._instance, args, kwargs)  # type: ignore[arg-type]
        # C takes a function pointer for the memory it is: nothing can stand in for one.
        native = sys.modules.get("_ctypes")
        if not callable(callback) or (native is not None and isinstance(callback, native.CFuncPtr)):
            return args, kwargs
        heard = listen(self, callback, super().take_chunk)
        heard_args, heard_kwargs = self._target.replaced(name, heard, self._instance, args, kwargs)  # type: ignore[arg-type]
        self._heard = heard_args is not args or heard_kwargs is not kwargs  # else there is no way to give it
        return heard_args, heard_kwargs

    def take_chunk(self, asked: float | None, arrived: float, chunk: object) -> None:
        """What comes another way while a callback is given the audio would count it twice."""
        if not self._heard:
            super().take_chunk(asked, arrived, chunk)

    def is_played(self) -> bool:
        # A call that returned before its callback was given anything says nothing of the synthesis's time.
        unheard = self._heard and self.reader is None and semconv.TTS_AUDIO_DURATION not in self._attributes
        return unheard or super().is_played()


class ToldSynthesis(CallSynthesis):
    """The synthesis of one call, or several, whose audio another callable of the object is given."""

    __slots__ = ("_listener", "_returned")

    def __init__(self, target: Target, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super().__init__(target, instance, args, kwargs)
        self._listener = Listener(self, self.take_chunk)
        self._returned: float | None = None

    def begin(self, context: Context) -> Context | None:
        began = super().begin(context)
        if began is not None:
            _told[self._instance] = _Left(self)
        return began

    def is_open(self, result: object) -> bool:
        if self.ended:
            return True
        self.call.result = result
        is_open = bool(self._ask(self._target.options.told))
        if is_open:
            # The object, which its owner may drop, is kept alive by nothing of this.
            self._instance = self.call.instance = weakref.proxy(self._instance)
            self._returned = perf_counter()
        return is_open

    def go_on(self, target: Target, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A further call: until then, the text was waited for."""
        called = perf_counter()
        with self._feeding():
            returned, start = self._returned, self.start_time
            if returned is not None and start is not None:
                timeline = self.follow()
                if timeline.first_piece is None:
                    timeline.piece(start, start)
                timeline.piece(returned, called)
                self._returned = called
        text = CallSynthesis(target, instance, args, kwargs)._find_text()
        if isinstance(text, str):
            self.add_text(text)

    def tell(self, told: Telling, call: Call, wrapped: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Make the call of that other callable, and account for what it is given."""
        __tracebackhide__ = True
        if told.interrupts:
            self._close(asyncio.CancelledError())
        text = _answer(told.text, call)
        if isinstance(text, str):
            self.add_text(text)
        try:
            if told.audio is None:
                return wrapped(*args, **kwargs)
            return self._listener.around(_answer(told.audio, call), wrapped, args, kwargs)
        finally:
            ended = _answer(told.ends, call)
            if ended:
                self._close(ended if isinstance(ended, BaseException) else None)

    def _close(self, error: BaseException | None) -> None:
        try:
            if error is None:
                self.finish()
            else:
                self.fail(error)
        except BaseException as fault:
            self.give_up()
            report(fault)


class _Left(Guard):
    """Ends a synthesis whose object is dropped before its audio came."""

    def last_seen(self) -> float:
        return self.synthesis.last_seen()


@dataclass(frozen=True)
class Telling:
    """What the calls of another callable say of a synthesis; see `ttstrace.instrumentor.Told`."""

    audio: Callable[[Call], Any] | None
    text: Callable[[Call], Any] | None
    ends: Callable[[Call], Any] | None
    interrupts: bool


_told: weakref.WeakKeyDictionary[Any, _Left] = weakref.WeakKeyDictionary()


def told(instance: Any) -> ToldSynthesis | None:
    """The synthesis on this object whose audio is told of by other calls, while it is open."""
    left = _told.get(instance) if _told else None
    found = None if left is None else left.synthesis
    return found if isinstance(found, ToldSynthesis) and not found.ended else None


def _answer(option: Callable[[Call], Any] | None, call: Call) -> Any:
    try:
        return None if option is None else option(call)
    except BaseException as error:
        report(error)
        return None


def _add(attributes: Attributes, name: str, answer: object) -> None:
    """Add what an option answered, where that can be read: a path or a mapping of the program's may fail at it."""
    try:
        add_known(attributes, name, answer)
    except BaseException as error:
        report(error)


def is_text(value: object) -> bool:
    """Whether a value can be the text: a str, a list of str, an iterator or async iterable that is no file."""
    if isinstance(value, str):
        return True
    if isinstance(value, list):
        return bool(value) and all(isinstance(each, str) for each in value)
    return (hasattr(value, "__next__") or hasattr(value, "__aiter__")) and not hasattr(value, "read")


def _named_strings(call: Call) -> Iterator[tuple[str, str]]:
    return ((name, value) for name, value in call.arguments.items() if isinstance(value, str))


def _found_device(call: Call) -> str | None:
    """Where the model's parameters are; else where the result is, unless that is the CPU, where results are copied."""
    for holder in (call.instance, getattr(call.instance, "model", None)):
        parameters = getattr(holder, "parameters", None)
        if callable(parameters):
            try:
                return _device_name(next(iter(parameters())).device)
            except Exception:  # no torch module after all
                continue
    name = _device_name(getattr(call.chunk if call.result is None else call.result, "device", None))
    return None if name == "cpu" else name


def _device_name(device: object) -> str | None:
    """A device as torch and numpy name them; None for anything else that goes by that name."""
    kind = getattr(device, "type", None)  # of torch's own, which a str is made of
    name = str(device) if isinstance(kind, str) and kind.isidentifier() else device
    return name if isinstance(name, str) and _DEVICE.fullmatch(name) else None


def _qualified_name(function: Any) -> str:
    """Module and qualified name; of a callable object its class's, of a partial its function's."""
    while isinstance(function, functools.partial):
        function = function.func
    if not hasattr(function, "__qualname__"):
        function = type(function)
    module = getattr(function, "__module__", None)
    return f"{module}.{function.__qualname__}" if module else str(function.__qualname__)


def _owner(qualified: str, function: Any) -> str:
    """Who synthesizes, where nobody says: the owning class, else the module."""
    while isinstance(function, functools.partial):
        function = function.func
    if not hasattr(function, "__qualname__"):
        return type(function).__name__
    owner = function.__qualname__.rpartition(".")[0].rpartition(".")[2]
    if owner and owner != "<locals>":
        return str(owner)
    return getattr(function, "__module__", None) or qualified


def _one_attribute(name: str, option: Callable[[Call], Any]) -> Callable[[Call], Any]:
    """A callable for one attribute as one for all: what it cannot answer yet is asked again, alone."""

    def attributes(call: Call) -> dict[str, Any] | None:
        answer = option(call)
        return None if answer is None else {name: answer}

    return attributes


def _itself(function: Any) -> Any:
    """The object whose method a callable really is, where calling it does not tell: a callable object, also inside a
    partial; None for functions."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isroutine(function) or isinstance(function, (classmethod, staticmethod)):
        return getattr(function, "__self__", None) if inspect.ismethod(function) else None
    return function


def option_mapping(options: Mapping[str, Any], where: str) -> Options:
    """Options by name.

    Raises:
        TypeError: an unknown name, with the nearest known one.
    """
    for name in options:
        if name not in OPTION_NAMES:
            near = difflib.get_close_matches(name, OPTION_NAMES, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(OPTION_NAMES)}"
            raise TypeError(f"{where}: unknown option {name!r}{hint}")
    return Options(**options)
