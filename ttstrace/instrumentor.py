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
import importlib.metadata
import importlib.util
import logging
import os
import sys
import weakref
from collections.abc import Callable, Collection, Mapping
from types import ModuleType
from typing import Any, ClassVar, Final

import wrapt
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]
from packaging.requirements import Requirement

from ttstrace.call import option_mapping, remember
from ttstrace.decorator import Traced, trace
from ttstrace.lifecycle import idle

_log = logging.getLogger("ttstrace")

_TARGETS_VARIABLE: Final = "TTSTRACE_TARGETS"
_GROUP: Final = "opentelemetry_instrumentor"
_PREFIX: Final = "ttstrace_"
_ABSENT: Final = object()


class Patch:
    """One callable to be traced.

    Args:
        path: `package.module:Class.method` or `package.module:function`.
        options: what is known of it: see `ttstrace.call.Options`. They go before the integration's `defaults`.
    """

    def __init__(self, path: str, **options: Any) -> None:
        self.module, self.owner, self.attribute = parse_path(path)
        self.path = path
        self.options = options
        option_mapping(options, path)

    def wrap(self, original: Any, defaults: Mapping[str, Any]) -> Any:
        options = option_mapping({**defaults, **self.options}, self.path)
        return trace(original, options, name=self.path.replace(":", "."), patched=True)


class Remembered(Patch):
    """A callable that synthesizes nothing yet, but says what will be synthesized: a queue, a lookup of a voice.

    Its arguments are kept for the object it was called on; the call that synthesizes has them as `call.remembered`.
    """

    def wrap(self, original: Any, defaults: Mapping[str, Any]) -> Any:
        traced = trace(original, option_mapping({}, self.path), patched=True)
        target = traced._self_target

        def call(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
            result = wrapped(*args, **kwargs)
            try:
                if target.enabled and not idle():
                    remember(instance, target.bind(instance, args, kwargs))
            except Exception:  # an object that cannot be weakly referenced remembers nothing
                _log.debug("cannot remember what %s was given", self.path)
            return result

        wrapper = Traced.__new__(Traced)
        wrapt.FunctionWrapper.__init__(wrapper, original, call)
        wrapper._self_target = target
        return wrapper


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

    __slots__ = ("_attribute", "_before", "_owner", "_wrapper")

    def __init__(self, owner: Any, attribute: str, wrap: Callable[[Any], Any]) -> None:
        self._owner = owner
        self._attribute = attribute
        # What the owner itself holds, not what lookup gives: a classmethod stays one, an inherited method is no entry.
        self._before = vars(owner).get(attribute, _ABSENT)
        original = self._before
        if original is _ABSENT:
            original = getattr(owner, attribute)
        self._wrapper = wrap(original)
        setattr(owner, attribute, self._wrapper)

    def remove(self) -> None:
        # Disabled in any case: where somebody else has patched over it, theirs stays, and calls pass through ours.
        self._wrapper._self_target.enabled = False
        if vars(self._owner).get(self._attribute) is self._wrapper:
            if self._before is _ABSENT:
                delattr(self._owner, self._attribute)
            else:
                setattr(self._owner, self._attribute, self._before)


class Patches:
    """Patches that go on when their modules are imported, now or later, and come off together."""

    def __init__(self) -> None:
        self._applied: list[_Applied] = []
        self._active = False

    def apply(self, patches: Collection[Patch], defaults: Mapping[str, Any]) -> None:
        """Put on.

        Raises:
            AttributeError: a module that is imported already has no such callable.
        """
        self._active = True
        for patch in patches:
            if patch.module in sys.modules:
                self._put_on(sys.modules[patch.module], patch, defaults)
            else:
                # A hook cannot be taken back: it looks whether it is still wanted.
                wrapt.register_post_import_hook(self._when_imported(patch, defaults), patch.module)

    def remove(self) -> None:
        """Take off; what is imported later is not patched."""
        self._active = False
        applied, self._applied = self._applied, []
        for each in reversed(applied):
            each.remove()

    def _when_imported(self, patch: Patch, defaults: Mapping[str, Any]) -> Callable[[ModuleType], None]:
        wanted = weakref.ref(self)

        def imported(module: ModuleType) -> None:
            patches = wanted()
            if patches is not None and patches._active:
                try:
                    patches._put_on(module, patch, defaults)
                except Exception as error:
                    _log.warning("%s is not traced: %s", patch.path, error)

        return imported

    def _put_on(self, module: ModuleType, patch: Patch, defaults: Mapping[str, Any]) -> None:
        owner: Any = module
        for name in patch.owner.split(".") if patch.owner else ():
            owner = getattr(owner, name)
        if not callable(getattr(owner, patch.attribute)):
            raise TypeError(f"{patch.path} is not callable")
        self._applied.append(_Applied(owner, patch.attribute, lambda original: patch.wrap(original, defaults)))


# --- integrations ------------------------------------------------------------------------------------------------


class TTSInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """Base of all integrations: a subclass declares, this class does."""

    name: ClassVar[str]
    """What `instrument()` knows it by."""
    package: ClassVar[str]
    """The distribution to install."""
    versions: ClassVar[str] = ""
    """Which versions of it are known to work, as a PEP 440 specifier."""
    defaults: ClassVar[Mapping[str, Any]] = {}
    """Options of all its patches."""
    patches: ClassVar[tuple[Patch, ...]] = ()

    def instrumentation_dependencies(self) -> Collection[str]:
        return (f"{self.package} {self.versions}".strip(),)

    def installed_version(self) -> str | None:
        """The version of the package that is installed; None where it is not."""
        try:
            return importlib.metadata.version(self.package)
        except importlib.metadata.PackageNotFoundError:
            return None

    def instrument(self, **options: Any) -> None:
        """Patch, if the package is there in a version that is known to work.

        `opentelemetry-instrument` checks the dependencies of the whole distribution only, and skips this check by
        `skip_dep_check`: it is made here all the same. A second call does nothing.
        """
        options.pop("skip_dep_check", None)
        if self.is_instrumented_by_opentelemetry:
            _log.debug("%s is traced already", self.name)
            return
        version = self.installed_version()
        if version is None:
            _log.debug("%s is not traced: %s is not installed", self.name, self.package)
            return
        if not Requirement(f"{self.package} {self.versions}").specifier.contains(version, prereleases=True):
            _log.warning(
                "%s is not traced: version %s is installed, known to work is %s", self.package, version, self.versions
            )
            return
        super().instrument(skip_dep_check=True, **options)

    def _instrument(self, **options: Any) -> None:
        applied = _patches[type(self)] = Patches()
        try:
            applied.apply(self.patches, {**self.defaults, **options})
        except Exception as error:
            applied.remove()
            _log.warning("%s is not traced: %s", self.name, error)
            raise

    def _uninstrument(self, **options: Any) -> None:
        applied = _patches.pop(type(self), None)
        if applied is not None:
            applied.remove()


# By class, not on the instance: BaseInstrumentor is a singleton whose `__init__` runs again with every call of it.
_patches: dict[type[TTSInstrumentor], Patches] = {}


class TargetsInstrumentor(TTSInstrumentor):
    """The callables that the variable `TTSTRACE_TARGETS` names, separated by commas."""

    name = "targets"
    package = "ttstrace"

    def _instrument(self, **options: Any) -> None:
        for path in os.environ.get(_TARGETS_VARIABLE, "").split(","):
            if path.strip():
                try:
                    _instrument_path(path.strip(), options)
                except Exception as error:
                    _log.warning("%s: %s", _TARGETS_VARIABLE, error)

    def _uninstrument(self, **options: Any) -> None:
        for path in list(_paths):
            _paths.pop(path).remove()


_paths: dict[str, Patches] = {}


def _instrument_path(path: str, options: Mapping[str, Any]) -> None:
    patch = Patch(path, **options)
    if path in _paths:
        return
    package = patch.module.partition(".")[0]
    if package not in sys.modules and importlib.util.find_spec(package) is None:
        raise ModuleNotFoundError(f"{path}: there is no module {package!r} here; is it installed, and spelled right?")
    applied = Patches()
    try:
        applied.apply((patch,), {})
    except AttributeError as error:
        raise AttributeError(f"{path}: {error}") from None
    _paths[path] = applied


def _integrations() -> dict[str, Any]:
    """The installed integrations by name, as entry points: nothing is imported before it is wanted."""
    found = importlib.metadata.entry_points(group=_GROUP)
    return {each.name.removeprefix(_PREFIX): each for each in found if each.name.startswith(_PREFIX)}


def instrument(*names: str, **options: Any) -> list[str]:
    """Trace TTS libraries without touching the code that uses them.

    Args:
        names: backends (`"gtts"`, `"piper"`, ...), and callables as `package.module:Class.method`. None: every known
            backend that is installed, and what `TTSTRACE_TARGETS` names.
        options: for callables named by path: the options of :func:`ttstrace.traced_synthesis`.

    Returns:
        The names that are traced now.

    Raises:
        ValueError: a name that is not known, with the nearest that are; a path of another form.
        ModuleNotFoundError: a backend that was named is not installed, with the `pip install` line.
        AttributeError: a path's module has no such callable.
        TypeError: an unknown option.
    """
    known = _integrations()
    paths = [name for name in names if ":" in name]
    backends = [name for name in names if ":" not in name]
    if options and not paths:
        raise TypeError(f"options ({', '.join(options)}) go with a callable's path: package.module:Class.method")
    for name in backends:  # everything is checked before anything is patched
        if name not in known:
            near = difflib.get_close_matches(name, known, 3, 0.4) or sorted(set(known) - {"targets"})
            raise ValueError(
                f"there is no integration {name!r}; did you mean {' or '.join(map(repr, near))}? "
                "Any callable can be traced by its path: package.module:Class.method"
            )
        if known[name].load()().installed_version() is None:
            raise ModuleNotFoundError(f"{name} is not installed: pip install {known[name].load().package}")
    for path in paths:
        Patch(path, **options)
    traced = []
    for name in backends or ([] if paths else sorted(known)):
        instrumentor = known[name].load()()
        try:
            instrumentor.instrument()
        except Exception:  # said in the log already; another backend's patches are none the worse for it
            if backends:
                raise
        if instrumentor.is_instrumented_by_opentelemetry and name != "targets":
            traced.append(name)
    for path in paths:
        _instrument_path(path, options)
    return traced + (paths if names else sorted(_paths))


def uninstrument(*names: str) -> None:
    """Put every original back; of the named backends and paths, or of all."""
    known = _integrations()
    for name in names or (*known, *list(_paths)):
        if ":" in name:
            applied = _paths.pop(name, None)
            if applied is not None:
                applied.remove()
        elif name in known:
            instrumentor = known[name].load()()
            if instrumentor.is_instrumented_by_opentelemetry:
                instrumentor.uninstrument()
        else:
            near = difflib.get_close_matches(name, known, 3, 0.4)
            raise ValueError(f"there is no integration {name!r}; did you mean {' or '.join(map(repr, near or known))}?")
