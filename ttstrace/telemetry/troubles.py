"""Why a collector does not take what it is sent, and what to do: read from its answer or from the network's error.

Definitions: https://opentelemetry.io/docs/specs/otlp/ (answers, partial success, retries).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Literal

from opentelemetry.environment_variables import OTEL_METRICS_EXPORTER
from opentelemetry.sdk.environment_variables import (
    OTEL_BSP_MAX_EXPORT_BATCH_SIZE,
    OTEL_BSP_MAX_QUEUE_SIZE,
    OTEL_EXPORTER_OTLP_CERTIFICATE,
    OTEL_EXPORTER_OTLP_ENDPOINT,
    OTEL_EXPORTER_OTLP_HEADERS,
    OTEL_EXPORTER_OTLP_TIMEOUT,
    OTEL_TRACES_SAMPLER,
)

Signal = Literal["traces", "metrics"]

# A collector's own words, which may be a whole page.
_LONGEST_REASON = 200
_WHERE = f"endpoint=... or {OTEL_EXPORTER_OTLP_ENDPOINT}"


NOT_TAKEN_THERE = "path"
"""The kind of a collector that has no such signal, or not at this path."""


@dataclass(frozen=True)
class Trouble:
    """Why something did not arrive.

    Attributes:
        kind: a name for it; two troubles of one kind are put right in the same way.
        state: what the collector does, as the predicate of a sentence: "cannot be reached".
        reason: the words of the network or of the collector; "" where there are none.
        fix: what to do, as sentences.
    """

    kind: str
    state: str
    reason: str
    fix: str

    def __str__(self) -> str:
        return f"{self.state} ({self.reason})" if self.reason else self.state


# What stands before the host in a URL may be a password.
_USER = re.compile(r"[^\s/@]+@")


def without_user(text: str) -> str:
    """A text that may hold an address, without the user and password of it."""
    return _USER.sub("", text)


def _words(text: str) -> str:
    text = without_user(" ".join(text.split()))
    return text if len(text) <= _LONGEST_REASON else text[: _LONGEST_REASON - 3] + "..."


NO_ANSWER = Trouble(
    "timeout",
    "does not answer in time",
    "",
    f"See whether it is overloaded, and whether the endpoint is a collector's; {OTEL_EXPORTER_OTLP_TIMEOUT}, "
    "in seconds, lets it take longer.",
)
TOO_SLOW = Trouble(
    "too slow",
    "takes spans more slowly than they end, so that the queue of them overflows",
    "",
    f"{OTEL_BSP_MAX_QUEUE_SIZE} makes room for a rush, {OTEL_TRACES_SAMPLER} records fewer.",
)
_UNREACHABLE = ("unreachable", "cannot be reached", f"Start the collector, or correct {_WHERE}.")
_TOO_LARGE = ("too large", "does not take so much at once", f"Make {OTEL_BSP_MAX_EXPORT_BATCH_SIZE} smaller.")
_TOO_MUCH = (
    "too much",
    "takes no more for now",
    f"Raise its limits, or record fewer spans with {OTEL_TRACES_SAMPLER}.",
)
_NOT_READY = ("not ready", "is not ready", "See its own log; what was lost until it is ready is not sent again.")
_NOT_ALLOWED = ("not allowed", "does not let this program in", f"Put its key into {OTEL_EXPORTER_OTLP_HEADERS}.")
_REFUSED = ("refused", "refuses what it is sent", "Such data is not sent again: see its own log for what it expects.")

_MORE = 'The loggers "opentelemetry" and "ttstrace" have more at the level DEBUG.'

# What is wrong between here and there can only be told by the words of OpenSSL and of the system. The first that
# fits holds: the more telling ones come before.
_CONNECTIONS: tuple[tuple[tuple[str, ...], str, str, str], ...] = (
    (
        ("certificate has expired",),
        "certificate expired",
        "has a certificate that has expired",
        "Renew the collector's certificate.",
    ),
    (
        ("Hostname mismatch", "Hostname Verification Check failed", "IP address mismatch", "doesn't match"),
        "certificate of another host",
        "has a certificate for another name",
        f"Name it by {_WHERE} as its certificate does, or have one issued for this name.",
    ),
    (
        ("WRONG_VERSION_NUMBER", "record layer failure"),
        "no TLS",
        "does not speak TLS",
        f"Begin {_WHERE} with http:// instead of https://.",
    ),
    (
        ("CERTIFICATE_VERIFY_FAILED",),
        "certificate unknown",
        "has a certificate that nobody known has signed",
        f"Have {OTEL_EXPORTER_OTLP_CERTIFICATE} name the file of the authority's certificate.",
    ),
    (
        ("http1.x server", "Failed parsing HTTP/2", "BadStatusLine"),
        "protocol",
        "speaks another protocol",
        'Port 4317 usually takes protocol="grpc", port 4318 "http/protobuf" (OTEL_EXPORTER_OTLP_PROTOCOL).',
    ),
    (
        ("NameResolutionError", "DNS resolution", "errors resolving", "Name or service not known", "getaddrinfo"),
        "unknown host",
        "is a host that nobody knows",
        f"Correct {_WHERE}.",
    ),
    (("timed out", "Deadline Exceeded"), NO_ANSWER.kind, NO_ANSWER.state, NO_ANSWER.fix),
    (
        ("Connection reset", "Socket closed", "Connection aborted", "Broken pipe", "Stream removed", "GOAWAY"),
        _UNREACHABLE[0],  # a collector that dies does this first
        "breaks the connection off",
        "See whether it is running; where it speaks TLS, the endpoint begins with https://.",
    ),
)

_GRPC_PREFIX = re.compile(r".*last error: \w+: \S+ (?:Failed to connect to remote host: )?")


def _connection(text: str, reason: str) -> Trouble | None:
    for signs, kind, state, fix in _CONNECTIONS:
        if any(sign in text for sign in signs):
            return Trouble(kind, state, _words(reason), fix)
    return None


def of_request(error: BaseException) -> Trouble:
    """Of a request over HTTP that got no answer."""
    # The innermost error has the system's own words, and those around it repeat the address many times over.
    reason, cause = "", error
    for _ in range(20):  # they may form a circle
        if isinstance(cause, OSError) and cause.strerror:
            reason = cause.strerror
        within = cause.__cause__ or cause.__context__
        if within is None:
            break
        cause = within
    trouble = _connection(f"{error!r} {error}", reason)
    if trouble is None:
        return Trouble(_UNREACHABLE[0], _UNREACHABLE[1], _words(reason or str(error)), _UNREACHABLE[2])
    bundle = next((name for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE") if os.environ.get(name)), None)
    if trouble.kind == "certificate unknown" and bundle is not None:
        fix = f"{trouble.fix} {bundle} is set as well, and comes first: unset it, or add the authority to its file."
        return Trouble(trouble.kind, trouble.state, trouble.reason, fix)
    return trouble


def of_status(status: int, words: str, message: str, signal: Signal, path: str) -> Trouble:
    """Of an answer over HTTP that it was not taken.

    Args:
        status: its code; that of a success where a web page came with it.
        words: what the code means.
        message: what else the collector said, "" where nothing.
        signal: what was sent.
        path: where to.
    """
    reason = _words(f"{status} {words}" + (f": {message}" if message else ""))
    if status < 400:
        state = "answers with a web page" if status < 300 else "sends to another address"
        fix = f"Correct {_WHERE}: something else is there, such as a login that stands before the collector."
        return Trouble("no collector", state, reason, fix)
    if status in (404, 405, 501):
        fix = f"it is a base URL, and /v1/{signal} is added to it."
        return _path(signal, f"{reason}, for {path}", fix)
    kind, state, fix = {
        401: _NOT_ALLOWED, 403: _NOT_ALLOWED, 413: _TOO_LARGE, 429: _TOO_MUCH,
    }.get(status, _NOT_READY if status >= 500 else _REFUSED)  # fmt: skip
    return Trouble(kind, state, reason, fix)


def of_call(code: str, details: str, signal: Signal) -> Trouble:
    """Of a call over gRPC that failed.

    Args:
        code: its status, by name.
        details: the words that came with it.
        signal: what was sent.
    """
    reason = f"{code}: {details}"
    # What gRPC itself says of a connection, as against a collector's own words, holds these.
    own = ("last error:", "DNS resolution", "errors resolving", "Socket closed", "recvmsg", "sendmsg", "Stream removed")
    if code == "UNAVAILABLE" and any(sign in details for sign in own):
        reason = _words(_GRPC_PREFIX.sub("", details))
        return _connection(details, reason) or Trouble(_UNREACHABLE[0], _UNREACHABLE[1], reason, _UNREACHABLE[2])
    if code in ("DEADLINE_EXCEEDED", "CANCELLED"):  # cancelled: by our own end, which waited as long as it may
        return NO_ANSWER
    if code in ("UNIMPLEMENTED", "NOT_FOUND"):
        return _path(signal, _words(reason), f"what answers there knows no {signal}.")
    kind, state, fix = {
        "UNAVAILABLE": _NOT_READY, "ABORTED": _NOT_READY, "UNAUTHENTICATED": _NOT_ALLOWED,
        "PERMISSION_DENIED": _NOT_ALLOWED,
        "RESOURCE_EXHAUSTED": _TOO_LARGE if "larger than max" in details else _TOO_MUCH,
    }.get(code, _REFUSED)  # fmt: skip
    return Trouble(kind, state, _words(reason), fix)


def of_rejection(message: str) -> Trouble:
    """Of an answer that a part was not taken."""
    return Trouble("rejected", "takes only a part", _words(message), _REFUSED[2])


def of_log(template: str, message: str) -> Trouble:
    """Of a failure of which nothing is known but what the exporter logged: its format, and the whole message."""
    return Trouble(template or "unknown", "was not sent everything", _words(message), _MORE)


def of_exception(error: BaseException) -> Trouble:
    """Of an exporter that raised. Only the type is told: a message may hold the text."""
    return of_log(type(error).__name__, type(error).__name__)


def _path(signal: Signal, reason: str, why: str) -> Trouble:
    fix = f"Correct {_WHERE}: {why}"
    if signal == "metrics":
        fix += (
            f" Where the collector is for traces alone, as Jaeger is, leave endpoint=... out, and set "
            f"{OTEL_EXPORTER_OTLP_ENDPOINT} and {OTEL_METRICS_EXPORTER}=none."
        )
    return Trouble(NOT_TAKEN_THERE, f"takes no {signal} there", reason, fix)
