"""What an integration is declared with, and how its callables are patched and put back.

An integration is one class of declarations::

    class AcmeInstrumentor(TTSInstrumentor):
        name = "acme"
        package = "acme-tts"
        versions = ">=2,<4"
        defaults = {"provider": "acme", "remote": True}
        patches = (Patch("acme.client:Client.speak", model=lambda call: call.arguments["model"]),)
"""

from __future__ import annotations

import difflib
import functools
import importlib.metadata
import importlib.util
import inspect
import logging
import os
import sys
import threading
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping
from time import perf_counter
from types import ModuleType
from typing import Any, ClassVar, Final

import wrapt
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from ttstrace.api import attach, get_current
from ttstrace.call import (
    Call,
    Target,
    Telling,
    carry_context,
    option_mapping,
    remember,
    remember_construction,
    remember_label,
    remember_preparation,
    told,
)
from ttstrace.decorator import Traced, trace
from ttstrace.faults import is_fault, report
from ttstrace.providers import idle
from ttstrace.streams import Reader, open_reader, reader_of

_log = logging.getLogger("ttstrace")

_TARGETS_VARIABLE: Final = "TTSTRACE_TARGETS"
_CONFIG_FILE_VARIABLE: Final = "OTEL_CONFIG_FILE"
_DISABLED_VARIABLE: Final = "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"
_GROUP: Final = "opentelemetry_instrumentor"
_PREFIX: Final = "ttstrace_"
_ABSENT: Final = object()


class Patch:
    """One callable to be traced.

    Args:
        path: `package.module:Class.method` or `package.module:function`.
        options: what is known of it: see `ttstrace.call.Options`. They go before the integration's `defaults`.
            And `since`: the first version of the package that has it, where older ones are known to work without.
    """

    def __init__(self, path: str, **options: Any) -> None:
        self.module, self.owner, self.attribute = parse_path(path)
        self.path = path
        self.since: str | None = options.pop("since", None)
        self.options = options
        option_mapping(options, path)

    def wrap(self, original: Any, defaults: Mapping[str, Any]) -> Any:
        options = {**defaults, **self.options}
        if type(original) is Traced:
            # Traced already, by its integration or by the decorator: one span, with what either knows of it.
            known = vars(original._self_target.options)
            options = {**known, **options}
            original = original.__wrapped__
        return trace(original, option_mapping(options, self.path), name=self.path.replace(":", "."), patched=True)


class Remembered(Patch):
    """A callable that synthesizes nothing yet, but says what will be synthesized: a queue, a lookup of a voice.

    Its arguments are kept for the object it was called on; the call that synthesizes has them as `call.remembered`.
    """

    def wrap(self, original: Any, defaults: Mapping[str, Any]) -> Any:
        target = Target(original, option_mapping({}, self.path), patched=True)
        return _Noticed(original, target, after=lambda _, *call: remember(call[0], target.bind(*call)))


class Constructed(Patch):
    """A constructor whose arguments say what the object's own attributes do not: `Class.__init__`.

    They are kept as long as the object is there; its calls have them as `call.constructed`.
    """

    def wrap(self, original: Any, defaults: Mapping[str, Any]) -> Any:
        target = Target(original, option_mapping({}, self.path), patched=True)
        return _Noticed(
            original, target, after=lambda _, *call: remember_construction(call[0], target.bind(*call)), always=True
        )


class Labelled(Patch):
    """A lookup whose result carries no name, such as that of a voice: `call.label(result)` is the name that was asked
    for.

    Args:
        path: the callable that looks up.
        by: its parameter that holds the name.
    """

    def __init__(self, path: str, by: str) -> None:
        super().__init__(path)
        self._by = by

    def wrap(self, original: Any, defaults: Mapping[str, Any]) -> Any:
        target = Target(original, option_mapping({}, self.path), patched=True)

        def found(result: Any, *call: Any) -> None:
            remember_label(result, target.bind(*call).get(self._by))

        return _Noticed(original, target, after=found, always=True)


class Returned(Patch):
    """A callable whose result is of a class that is known only then, as that of a model that brings its own code: from
    the first such result on, a method of the class is traced.

    Args:
        path: the callable.
        method: the name of the method; a result without one is left alone.
        label: gets the `Call` of the callable; the method's calls have what it says as `call.label(call.instance)`.
        options: what is known of the method: see `ttstrace.call.Options`.
    """

    def __init__(
        self, path: str, method: str, *, label: Callable[[Call], object] | None = None, **options: Any
    ) -> None:
        super().__init__(path, **options)
        self._method = method
        self._label = label

    def wrap(self, original: Any, defaults: Mapping[str, Any]) -> Any:
        target = Target(original, option_mapping({}, self.path), patched=True)
        options = option_mapping({**defaults, **self.options}, self.path)
        found: weakref.WeakSet[_Applied] = weakref.WeakSet()  # each is kept by its class: none of them is kept by us

        def returned(result: Any, *call: Any) -> None:
            owner = type(result)
            with _lock:
                method = inspect.getattr_static(owner, self._method, None)
                if method is None:
                    return
                if type(method) is not Traced:
                    found.add(_Applied(owner, self._method, lambda original: trace(original, options, patched=True)))
            if self._label is not None:
                remember_label(result, self._label(Call(target, *call)))

        noticed = _Noticed(original, target, after=returned, always=True)
        noticed._self_found = found
        return noticed


class Prepared(Patch):
    """A callable that makes no audio yet, but what another one makes audio of, such as a spectrogram of a text.

    The call that is given what it returned, or the first of a tuple of that, has its text and its time by the option
    `prepared`.

    Args:
        path: the callable.
        of: its parameter that holds the text, or what an earlier such callable returned.
    """

    def __init__(self, path: str, of: str) -> None:
        super().__init__(path)
        self._of = of

    def wrap(self, original: Any, defaults: Mapping[str, Any]) -> Any:
        target = Target(original, option_mapping({}, self.path), patched=True)

        def made(result: Any, seconds: float, *call: Any) -> None:
            remember_preparation(result, target.bind(*call).get(self._of), seconds)

        return _Noticed(original, target, timed=made)


class Carried(Patch):
    """A callable that has another one synthesize in a thread of the library's own, where no context is.

    The synthesis that starts there, on the same object, belongs to the span that is current here.
    """

    def wrap(self, original: Any, defaults: Mapping[str, Any]) -> Any:
        target = Target(original, option_mapping({}, self.path), patched=True)
        return _Noticed(original, target, before=lambda *call: carry_context(call[0]))


class Opened(Patch):
    """The constructor of what reads the audio that a result announced, where that `continues`.

    Args:
        path: `package.module:Class.__init__`.
        of: its parameter that holds the result.
    """

    def __init__(self, path: str, of: str) -> None:
        super().__init__(path)
        self._of = of

    def wrap(self, original: Any, defaults: Mapping[str, Any]) -> Any:
        target = Target(original, option_mapping({}, self.path), patched=True)

        def opened(_: Any, *call: Any) -> None:
            open_reader(call[0], target.bind(*call).get(self._of))

        return _Noticed(original, target, after=opened)


class Pulled(Patch):
    """A method of what was `Opened` that reads the next piece into a buffer and returns its bytes; 0 is the end.

    Args:
        path: the method.
        into: its parameter that holds the buffer.
        end: how far from the begin of the audio the object has come, in bytes: it may go back and read again.
    """

    def __init__(self, path: str, into: str, end: Callable[[Any], int]) -> None:
        super().__init__(path)
        self._into = into
        self._end = end

    def wrap(self, original: Any, defaults: Mapping[str, Any]) -> Any:
        def pull(reader: Reader, target: Target, wrapped: Any, *call: Any) -> Any:
            return reader.read(call[0], target.argument(self._into, *call), self._end, wrapped, *call[1:])

        return _around_reader(original, self.path, pull)


class Saved(Patch):
    """A method of what was `Opened` that writes all of the audio to a file, and returns when it is there.

    Args:
        path: the method.
        to: its parameter that holds the file's path.
    """

    def __init__(self, path: str, to: str) -> None:
        super().__init__(path)
        self._to = to

    def wrap(self, original: Any, defaults: Mapping[str, Any]) -> Any:
        def save(reader: Reader, target: Target, wrapped: Any, *call: Any) -> Any:
            return reader.save(call[0], target.argument(self._to, *call), wrapped, *call[1:])

        return _around_reader(original, self.path, save)


def _around_reader(original: Any, path: str, read: Callable[..., Any]) -> Any:
    target = Target(original, option_mapping({}, path), patched=True)

    def around(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        __tracebackhide__ = True
        reader = reader_of(instance) if target.enabled else None
        return wrapped(*args, **kwargs) if reader is None else read(reader, target, wrapped, instance, args, kwargs)

    return _Around(original, target, around)


class Told(Patch):
    """A callable of the library's own that is given what a synthesis on the same object makes, one that a callable with
    the option `told` began: its audio, pieces of its text, its end.

    Args:
        path: the callable. Time inside it is the program's: that of its callbacks.
        audio: from a call of it, the chunk of audio; None where it is given none.
        text: from a call of it, a piece of the text.
        ends: after a call of it, whether that was the synthesis's end; the exception, where it failed.
        interrupts: a call of it ends the synthesis before its audio does.
    """

    def __init__(
        self,
        path: str,
        *,
        audio: Callable[[Call], Any] | None = None,
        text: Callable[[Call], Any] | None = None,
        ends: Callable[[Call], bool | BaseException] | None = None,
        interrupts: bool = False,
    ) -> None:
        super().__init__(path)
        self._telling = Telling(audio, text, ends, interrupts)

    def wrap(self, original: Any, defaults: Mapping[str, Any]) -> Any:
        target = Target(original, option_mapping({}, self.path), patched=True)

        def call(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
            __tracebackhide__ = True
            synthesis = told(instance) if target.enabled else None
            if synthesis is None:
                return wrapped(*args, **kwargs)
            return synthesis.tell(self._telling, Call(target, instance, args, kwargs), wrapped, args, kwargs)

        return _Around(original, target, call)


class Joined(Patch):
    """A callable that the library calls first in a thread of its own, where it works for a synthesis on the same
    object: the thread goes on as part of that (see `Told`)."""

    def wrap(self, original: Any, defaults: Mapping[str, Any]) -> Any:
        target = Target(original, option_mapping({}, self.path), patched=True)

        def join(instance: Any, args: Any, kwargs: Any) -> None:
            synthesis = told(instance)
            context = None if synthesis is None else synthesis.context
            if context is not None and not get_current():
                attach(context)

        return _Noticed(original, target, before=join)


class Made(Patch):
    """A factory of the callables to be traced, for SDKs that make their clients' methods at run time.

    What is put on a callable that all methods share is inside or outside of what others put there, as it happens; the
    method itself is outside of it all. Methods that were made before are not traced by this.

    Args:
        path: the factory.
        name: the callable that it makes, as `package.module.Class.method`: of what the factory makes, that which has
            the last part as its name is traced.
        options: what is known of it: see `ttstrace.call.Options`.
    """

    def __init__(self, path: str, name: str, **options: Any) -> None:
        super().__init__(path, **options)
        self._name = name

    def wrap(self, original: Any, defaults: Mapping[str, Any]) -> Any:
        target = Target(original, option_mapping({}, self.path), patched=True)
        given = {**defaults, **self.options}
        wanted = given.get("when") or (lambda _: True)
        # What was made stays with who has it, and does nothing once the factory's patch is off.
        options = option_mapping({**given, "when": lambda call: target.enabled and wanted(call)}, self.path)

        def change(made: Any) -> Any:
            is_meant = getattr(made, "__name__", None) == self._name.rpartition(".")[2]
            return trace(made, options, name=self._name, patched=True) if is_meant else made

        return _Noticed(original, target, change=change)


class _Around(Traced):
    """The callable itself, with something around its call that is no synthesis of its own."""

    def __init__(self, function: Any, target: Target, around: Callable[..., Any]) -> None:
        wrapt.FunctionWrapper.__init__(self, function, around)
        self._self_target = target


class _Noticed(_Around):
    """The callable itself, with a call that is noticed, but no synthesis."""

    _self_found: weakref.WeakSet[_Applied]
    """Patches of what it returned; they come off with it."""

    def __init__(
        self,
        function: Any,
        target: Target,
        before: Callable[[Any, Any, Any], object] | None = None,
        after: Callable[[Any, Any, Any, Any], object] | None = None,
        always: bool = False,
        timed: Callable[[Any, float, Any, Any, Any], object] | None = None,
        change: Callable[[Any], Any] | None = None,
    ) -> None:
        """
        Args:
            function: the original.
            target: what is known of it.
            before: gets instance, positional and named arguments, before the call.
            after: gets the result as well, first, after it.
            always: also while nobody listens: what is made then may well be used when somebody does.
            timed: gets the result and the seconds that the call took, first, after it.
            change: gets the result, and gives what is handed out in its place.
        """

        def notice(take: Callable[..., object] | None, *call: Any) -> None:
            __tracebackhide__ = True
            try:
                if take is not None and target.enabled and (always or not idle()):
                    take(*call)
            except BaseException as error:
                if not is_fault(error):
                    raise
                # Most often an object that cannot be weakly referenced.
                _log.debug("cannot keep what %s was called with", target.function)

        def changed(result: Any) -> Any:
            try:
                # Also while nobody listens: what is made now may be called when somebody does.
                return change(result) if change is not None and target.enabled else result
            except BaseException as error:
                report(error)
                return result

        def call(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
            __tracebackhide__ = True
            notice(before, instance, args, kwargs)
            begun = perf_counter()
            result = wrapped(*args, **kwargs)
            seconds = perf_counter() - begun
            notice(after, result, instance, args, kwargs)
            notice(timed, result, seconds, instance, args, kwargs)
            return changed(result)

        super().__init__(function, target, call)


def parse_path(path: str) -> tuple[str, str, str]:
    """`package.module:Class.method` as module, owner (`""`: the module itself) and attribute.

    Raises:
        ValueError: the path is of another form.
    """
    module, colon, qualified = path.partition(":")
    owner, _, attribute = qualified.rpartition(".")
    parts = [*module.split("."), *(owner.split(".") if owner else ()), attribute]
    if not colon or not all(part.isidentifier() for part in parts):
        raise ValueError(f"{path!r} names no callable; write package.module:function or package.module:Class.method")
    return module, owner, attribute


# --- patching ----------------------------------------------------------------------------------------------------


class _Applied:
    """One patch in place, and what stood there before."""

    __slots__ = ("__weakref__", "_attribute", "_before", "_owner", "_removed", "_wrapper")

    def __init__(self, owner: Any, attribute: str, wrap: Callable[[Any], Any]) -> None:
        self._owner = owner
        self._attribute = attribute
        self._removed = False
        # What the owner itself holds, not what lookup gives: a classmethod stays one, an inherited method is no entry.
        self._before = vars(owner).get(attribute, _ABSENT)
        original = self._before
        if original is _ABSENT:
            original = inspect.getattr_static(owner, attribute, None) or getattr(owner, attribute)
        # What a module took over by `from ... import` from one that was patched already is put back as it was there.
        elsewhere = getattr(self._before, "_self_applied", None) if isinstance(self._before, Traced) else None
        if elsewhere is not None and elsewhere._owner is not owner and elsewhere._before is not _ABSENT:
            self._before = elsewhere._before
        self._wrapper = wrap(original)
        self._wrapper._self_applied = self
        setattr(owner, attribute, self._wrapper)

    def remove(self) -> None:
        # Disabled in any case: where somebody else has patched over it, theirs stays, and calls pass through ours.
        self._wrapper._self_target.enabled = False
        self._removed = True
        for each in tuple(getattr(self._wrapper, "_self_found", ())):
            each.remove()
        if not self._put_back():
            _covered.append(self)

    def _put_back(self) -> bool:
        held = vars(self._owner).get(self._attribute)
        # Who took it from the class and put that back has put back what the class gives: ours, bound to nothing.
        if held is not self._wrapper and getattr(held, "_self_parent", None) is not self._wrapper:
            return False
        before = self._before
        # A patch of ours below, which could not be taken off while this one was over it, goes with it.
        while isinstance(before, Traced) and (below := getattr(before, "_self_applied", None)) and below._removed:
            before = below._before
        if before is _ABSENT:
            delattr(self._owner, self._attribute)
        else:
            setattr(self._owner, self._attribute, before)
        return True


_covered: list[_Applied] = []
"""Patches to be taken off, as soon as nobody else's is over them."""


def _uncover() -> None:
    _covered[:] = [each for each in _covered if not each._put_back()]


class Patches:
    """Patches that go on when their modules are imported, now or later, and come off together."""

    def __init__(self) -> None:
        self._applied: list[_Applied] = []
        self._active = True

    def apply(self, patches: Iterable[Patch], defaults: Mapping[str, Any]) -> None:
        """Put on.

        Raises:
            AttributeError: a module that is imported already has no such callable.
            TypeError: what it has is no function.
        """
        for patch in patches:
            module = sys.modules.get(patch.module)
            if module is not None:
                self._put_on(module, patch, defaults)
            else:
                wrapt.register_post_import_hook(self._late(patch, defaults), patch.module)

    def remove(self) -> None:
        """Take off; what is imported later is not patched."""
        self._active = False
        applied, self._applied = self._applied, []
        for each in reversed(applied):
            each.remove()

    def _late(self, patch: Patch, defaults: Mapping[str, Any]) -> Callable[[ModuleType], None]:
        def imported(module: ModuleType) -> None:
            if self._active:  # a hook cannot be taken back: it looks whether it is still wanted
                try:
                    self._put_on(module, patch, defaults)
                except Exception as error:
                    _log.warning("%s is not traced: %s", patch.path, error)

        return imported

    def _put_on(self, module: ModuleType, patch: Patch, defaults: Mapping[str, Any]) -> None:
        owner: Any = module
        for name in patch.owner.split(".") if patch.owner else ():
            owner = getattr(owner, name)
        _uncover()
        if not callable(getattr(owner, patch.attribute)):
            raise TypeError(f"{patch.path} is not callable")
        self._applied.append(_Applied(owner, patch.attribute, lambda original: patch.wrap(original, defaults)))


# --- integrations ------------------------------------------------------------------------------------------------

_lock = threading.RLock()
# By class, not on the instance: BaseInstrumentor is a singleton whose `__init__` runs again with every call of it.
_patches: dict[type[TTSInstrumentor], Patches] = {}
_warned: set[type[TTSInstrumentor]] = set()
_paths: dict[str, Patches] = {}
_target_paths: list[str] = []


class TTSInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """Base of all integrations: a subclass declares, this class does."""

    name: ClassVar[str]
    """What `instrument()` knows it by; its entry point is `ttstrace_` and this."""
    package: ClassVar[str] = ""
    """The distribution to install; empty where there is none."""
    versions: ClassVar[str] = ""
    """Which versions of it are known to work, as a PEP 440 specifier."""
    alternatives: ClassVar[Mapping[str, str]] = {}
    """Other distributions that bring the same modules, and which versions of each are known to work. Looked for in
    this order, after `package`."""
    source_tree: ClassVar[str] = ""
    """The package to look for, of a backend that is run from its source tree: that is in no distribution."""
    defaults: ClassVar[Mapping[str, Any]] = {}
    """Options of all its patches."""
    patches: ClassVar[tuple[Patch, ...]] = ()
    _automatic = False

    def instrumentation_dependencies(self) -> Collection[str]:
        package, _ = self._installed() or (self.package, None)
        return (f"{package} {self._distributions()[package]}".strip(),) if package else ()

    def installed_version(self) -> str | None:
        """The version that is installed; empty where it is not known, as a source tree's; None where nothing is."""
        found = self._installed()
        if found is not None:
            return found[1]
        return "" if self.source_tree and _is_importable(self.source_tree) else None

    def _distributions(self) -> dict[str, str]:
        return {**({self.package: self.versions} if self.package else {}), **self.alternatives}

    def _installed(self) -> tuple[str, str] | None:
        """The first of its distributions that is installed, and the version."""
        for package in self._distributions():
            try:
                return package, importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError:
                continue
        return None

    def instrument(self, **options: Any) -> None:
        """Patch, if the package is there in a version that is known to work.

        `opentelemetry-instrument` checks the dependencies of the whole distribution only, and skips this check by
        `skip_dep_check`: it is made here all the same. A second call does nothing.

        Args:
            options: over the `defaults`; `enabled=False` leaves the package alone.

        Raises:
            AttributeError, TypeError: the package has no such callable, or an option is unknown. Not from
                `opentelemetry-instrument`, which would leave out everybody's instrumentation that comes after.
        """
        automatic = options.pop("skip_dep_check", False)
        options.pop("raise_exception_on_conflict", None)
        with _lock:
            if self.is_instrumented_by_opentelemetry:
                _log.debug("%s is traced already", self.name)
                return
            try:
                enabled = options.pop("enabled", True) and not (automatic and _disabled_by_file(_PREFIX + self.name))
                self._automatic = automatic
                if enabled and self._is_supported(automatic):
                    super().instrument(skip_dep_check=True, **options)
            except Exception as error:
                if not automatic:
                    raise
                _log.warning("%s is not traced: %s", self.name, error)

    def _is_supported(self, automatic: bool) -> bool:
        found = self._installed()
        if found is None:
            # Before a program starts, its own folder is not on the path: the tree may be there once it does.
            if self.source_tree and (automatic or _is_importable(self.source_tree)):
                return True
            _log.debug("%s is not traced: it is not installed", self.name)
            return False
        package, version = found
        versions = self._distributions()[package]
        if SpecifierSet(versions).contains(version, prereleases=True):
            return True
        if type(self) not in _warned:
            _warned.add(type(self))
            _log.warning("%s is not traced: version %s is installed, known to work is %s", package, version, versions)
        return False

    def _instrument(self, **options: Any) -> None:
        option_mapping(options, self.name)
        applied = Patches()
        try:
            version = Version(self.installed_version() or "0")
            patches = [each for each in self.patches if each.since is None or version >= Version(each.since)]
            applied.apply(patches, {**self.defaults, **options})
        except BaseException:
            applied.remove()
            raise
        _patches[type(self)] = applied

    def _uninstrument(self, **options: Any) -> None:
        with _lock:
            applied = _patches.pop(type(self), None)
            if applied is not None:
                applied.remove()


class TargetsInstrumentor(TTSInstrumentor):
    """The callables that the variable `TTSTRACE_TARGETS` names, separated by commas."""

    name = "targets"
    package = "ttstrace"

    def _instrument(self, **options: Any) -> None:
        super()._instrument(**options)
        for each in os.environ.get(_TARGETS_VARIABLE, "").split(","):
            path = each.strip()
            if path and path not in _paths:
                try:
                    # Before the program begins, its own folder is not where modules are looked for yet.
                    patch = Patch(path, **options) if self._automatic else _checked(path, options)
                    _instrument_path(path, patch)
                    _target_paths.append(path)
                except Exception as error:
                    _log.warning("%s: %s", _TARGETS_VARIABLE, error)

    def _uninstrument(self, **options: Any) -> None:
        super()._uninstrument(**options)
        while _target_paths:
            _uninstrument_path(_target_paths.pop())


def _is_disabled(entry_point: str) -> bool:
    """Whether whoever runs the program wants it left out, by the variable that `opentelemetry-instrument` reads, or by
    the file."""
    listed = [each.strip() for each in os.environ.get(_DISABLED_VARIABLE, "").split(",")]
    return entry_point in listed or "*" in listed or _disabled_by_file(entry_point)


def _disabled_by_file(entry_point: str) -> bool:
    """Whether the file of the declarative configuration says `enabled: false`, which `opentelemetry-instrument`, as
    it comes by after the file was applied, does not look at."""
    path = os.environ.get(_CONFIG_FILE_VARIABLE, "")
    return path != "" and entry_point in _disabled_in(path)


@functools.lru_cache(maxsize=1)
def _disabled_in(path: str) -> frozenset[str]:
    try:
        from opentelemetry.configuration import load_config_file

        configured: Any = load_config_file(path).instrumentation_development
        python = configured.python.items()
        return frozenset(name for name, options in python if options and options.get("enabled") is False)
    except Exception:  # no such section; what else is wrong with the file, others have said
        return frozenset()


def _is_importable(package: str) -> bool:
    return package in sys.modules or importlib.util.find_spec(package) is not None


def _checked(path: str, options: Mapping[str, Any]) -> Patch:
    patch = Patch(path, **options)
    package = patch.module.partition(".")[0]
    if not _is_importable(package):
        raise ModuleNotFoundError(f"{path}: there is no module {package!r} here; is it installed, and spelled right?")
    return patch


def _integrations() -> dict[str, Any]:
    """The installed integrations by name, as entry points: nothing is imported before it is wanted."""
    found = importlib.metadata.entry_points(group=_GROUP)
    return {each.name.removeprefix(_PREFIX): each for each in found if each.name.startswith(_PREFIX)}


def _unknown(name: str, known: Collection[str]) -> ValueError:
    backends = sorted(set(known) - {TargetsInstrumentor.name})
    near = difflib.get_close_matches(name.lower(), backends, 3, 0.4) or backends
    return ValueError(
        f"there is no integration {name!r}; did you mean {' or '.join(map(repr, near))}? "
        "Any callable can be traced by its path: package.module:Class.method"
    )


def instrument(*names: str, **options: Any) -> list[str]:
    """Trace TTS libraries without touching the code that uses them.

    Args:
        names: backends (`"gtts"`, `"piper"`, ...), and callables as `package.module:Class.method`. None: every known
            backend that is installed, and what `TTSTRACE_TARGETS` names; without those that
            `OTEL_PYTHON_DISABLED_INSTRUMENTATIONS` (as `ttstrace_gtts`) or `enabled: false` in `OTEL_CONFIG_FILE`
            leaves out.
        options: for callables named by path: the options of :func:`ttstrace.traced_synthesis`.

    Returns:
        The names that are traced now.

    Raises:
        ValueError: a name that is not known, with the nearest that are; a path of another form.
        ModuleNotFoundError: a backend that was named is not installed, with the `pip install` line.
        AttributeError: a path's module has no such callable.
        TypeError: an unknown option, or a path to something that is no function. Whatever is raised, nothing is
            patched.
    """
    known = _integrations()
    names = tuple(dict.fromkeys(names))
    if options and not any(":" in name for name in names):
        raise TypeError(f"options ({', '.join(options)}) go with a callable's path: package.module:Class.method")
    if not names:
        return _instrument_all(known)
    wanted: dict[str, Any] = {}
    for name in names:  # everything is checked before anything is patched
        if ":" in name:
            wanted[name] = _checked(name, options)
        elif name not in known:
            raise _unknown(name, known)
        else:
            wanted[name] = instrumentor = known[name].load()()
            if instrumentor.installed_version() is None:
                package = instrumentor.package
                fix = f"pip install {package}" if package else "its source tree belongs on sys.path"
                raise ModuleNotFoundError(f"{name} is not installed: {fix}")
    traced: list[str] = []
    fresh: list[str] = []
    with _lock:
        try:
            for name, each in wanted.items():
                if isinstance(each, Patch):
                    if name not in _paths:
                        _instrument_path(name, each)
                        fresh.append(name)
                elif not each.is_instrumented_by_opentelemetry:
                    each.instrument()
                    if not each.is_instrumented_by_opentelemetry:
                        continue  # said in the log: a version that is not known to work
                    fresh.append(name)
                traced.append(name)
        except BaseException:
            if fresh:
                uninstrument(*fresh)
            raise
    return traced


def _instrument_all(known: Mapping[str, Any]) -> list[str]:
    traced = []
    for name in sorted(known):
        if _is_disabled(_PREFIX + name):
            _log.debug("%s is not traced: it is disabled", name)
            continue
        try:
            instrumentor = known[name].load()()
            instrumentor.instrument()
        except Exception as error:  # another backend's patches are none the worse for it
            _log.warning("%s is not traced: %s", name, error)
            continue
        if instrumentor.is_instrumented_by_opentelemetry and name != TargetsInstrumentor.name:
            traced.append(name)
    return traced + sorted(_paths)


def _instrument_path(path: str, patch: Patch) -> None:
    applied = Patches()
    try:
        applied.apply([patch], {})
    except AttributeError as error:
        raise AttributeError(f"{path}: {error}") from None
    _paths[path] = applied


def _uninstrument_path(path: str) -> None:
    if (applied := _paths.pop(path, None)) is not None:
        applied.remove()


def uninstrument(*names: str) -> None:
    """Put every original back; of the named backends and paths, or of all.

    Where somebody else has patched over ttstrace, theirs stays, and what is below it does nothing; called again when
    theirs is off, this puts the original back.

    Raises:
        ValueError: a name that is not known, with the nearest that are.
    """
    known = _integrations() if names else {}
    for name in names:
        if ":" not in name and name not in known:
            raise _unknown(name, known)
    with _lock:
        for path in names or tuple(_paths):
            _uninstrument_path(path)
        for instrumentor in tuple(_patches):
            if not names or instrumentor.name in names:
                instrumentor().uninstrument()
        _uncover()
