"""What measuring costs, as ratios of one run: `python benchmarks/overhead.py`.

Every row compares two ways of doing the same, in short alternating blocks in a process of their own, a few such
processes one after the other, and takes the fastest block of each way: that holds to a few percent on a machine that
does other things as well (`spread` is by how much the ratio depends on any one of the processes). The bars and aims are
those of the design; none is asserted, unless `--check` asks for it. `docs/cost.md` says how to read it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from environments import PEERS, Unavailable, default_cache, environment_of

HERE = Path(__file__).resolve().parent
# Processes, and rounds in each. Where memory lies and how names hash make one process faster than the next.
FULL, QUICK = (4, 150), (1, 2)
TEN_THOUSAND = "10,000 others open"


class Cost(NamedTuple):
    """Seconds of one way, by its scenario; less those of another way, per so many."""

    scenario: str
    way: str
    less: str | None = None
    per: str | None = None
    """What the scenario says there are so many of."""


class Row(NamedTuple):
    """One comparison, and what the design asks of its ratio: at most this."""

    name: str
    what: str
    against: str
    ours: Cost
    theirs: Cost
    bar: float | None = None
    aim: float | None = None


class Part(NamedTuple):
    """Something that a call is made of."""

    what: str
    often: str
    cost: Cost


class Setting(NamedTuple):
    """A way to have less measured, or more."""

    what: str
    scenario: str
    way: str = "call"


ROWS = (
    Row(
        "call",
        "a decorated call, all measured, span recorded",
        "a span by hand: the same kernel reads, the same attributes",
        Cost("spans", "call"),
        Cost("spans", "by hand"),
        1.10,
        1.00,
    ),
    Row(
        "call-no-reads",
        "the same",
        "the span by hand without the reads",
        Cost("spans", "call"),
        Cost("spans", "by hand, no reads"),
        aim=1.35,
    ),
    Row(
        "call-no-with",
        "the same",
        "the span by hand with the reads, made current by hand instead of by `with`",
        Cost("spans", "call"),
        Cost("spans", "by hand, no with"),
    ),
    Row(
        "floor",
        "the least that such a call must do, in one flat function",
        "the span by hand with the reads",
        Cost("spans", "least"),
        Cost("spans", "by hand"),
    ),
    Row("above-floor", "the decorated call", "that least", Cost("spans", "call"), Cost("spans", "least")),
    Row(
        "metrics",
        "a decorated call, with a MeterProvider",
        "the span by hand with the reads, and the same records by hand",
        Cost("with_metrics", "call"),
        Cost("with_metrics", "by hand"),
        1.10,
    ),
    Row(
        "no-sdk",
        "a decorated call with no SDK configured",
        "the function in a no-op `start_as_current_span`",
        Cost("without_sdk", "call"),
        Cost("without_sdk", "no-op span"),
        0.75,
    ),
    *(
        Row(
            name,
            "a decorated call, all measured",
            f"`{peer.decorator}`, with its default settings",
            Cost(name, "call"),
            Cost(name, "peer"),
            0.50,
        )
        for name, peer in PEERS.items()
    ),
    *(
        row
        for name, peer in PEERS.items()
        for row in (
            Row(
                f"{name}-least",
                "the same",
                f"`{peer.decorator}`, recording neither arguments nor result",
                Cost(name, "call"),
                Cost(name, "peer, least"),
            ),
            Row(
                f"{name}-no-audio",
                "a decorated call that returns nothing",
                f"`{peer.decorator}` on the same",
                Cost(name, "call, no audio"),
                Cost(name, "peer, no audio"),
            ),
        )
    ),
    Row(
        "chunk",
        "one chunk of a stream",
        "one bare span",
        Cost("streams", "traced chunk", "plain chunk"),
        Cost("streams", "bare span"),
        0.10,
        0.08,
    ),
    Row(
        "crowd",
        f"a decorated call with {TEN_THOUSAND}",
        "with none",
        Cost("crowd", "call, 10,000 open"),
        Cost("crowd", "call"),
        2.0,
    ),
    Row(
        "import",
        "`import ttstrace`",
        "importing `opentelemetry.trace`, `wrapt` and `psutil`",
        Cost("imports", "ttstrace"),
        Cost("imports", "built on"),
        1.3,
    ),
)

PARTS = (
    Part("the SDK's span: started, made current, ended", "once", Cost("parts", "bare span")),
    Part("of that, the `with`", "never: the engine does without", Cost("parts", "bare span", "span, not current")),
    Part("all attributes of a plain call", "once", Cost("parts", "span with attributes", "bare span")),
    Part("each of them", "", Cost("parts", "span with attributes", "bare span", "attributes")),
    Part(
        "wrapt's wrapper, so that the function stays what it is", "once", Cost("parts", "function, wrapped", "function")
    ),
    Part("a context of its own, and back", "once", Cost("parts", "context", "nothing")),
    Part("kernel: reset of the mark", "once", Cost("parts", "reset", "nothing")),
    Part("kernel: getrusage", "at both ends", Cost("parts", "getrusage", "nothing")),
    Part("kernel: getrusage of children", "at both ends", Cost("parts", "children", "nothing")),
    Part("kernel: statm", "at both ends", Cost("parts", "statm", "nothing")),
    Part("kernel: process time", "never: getrusage says it", Cost("parts", "process time", "nothing")),
    Part("facts of an array, with their attributes", "once", Cost("parts", "call", "call without audio")),
    Part("facts of 1 s of WAV, with their attributes", "instead", Cost("parts", "call, WAV", "call without audio")),
    Part("a chunk of a stream: an array", "each", Cost("streams", "traced chunk", "plain chunk")),
    Part("a chunk of a stream: bytes", "each", Cost("streams", "traced bytes", "plain bytes")),
    Part(
        "a silent chunk at the start",
        "each, for the first 3 s at most",
        Cost("streams", "traced silent chunk", "plain silent chunk"),
    ),
    Part("an event", "one a stream, one an underrun", Cost("parts", "span with events", "bare span", "events")),
    Part("a histogram's record, in a span", "4 a plain call", Cost("with_metrics", "histogram", "nothing")),
    Part("a counter's, in a span", "1, and 2 outside of it", Cost("with_metrics", "counter", "nothing")),
    Part("a GPU's figures", "once", Cost("gpu", "call, GPU", "call")),
    Part("the engine, above the least there is", "once", Cost("spans", "call", "least")),
)

SETTINGS = (
    Setting("a TracerProvider, every span sampled", "spans"),
    Setting("and a MeterProvider", "with_metrics"),
    Setting("`TTSTRACE_MEMORY_RESET=0`", "no_reset"),
    Setting("a span that is not sampled, no MeterProvider", "unsampled"),
    Setting("a span that is not sampled, and a MeterProvider", "unsampled", "call, metrics"),
    Setting("no SDK configured", "without_sdk"),
    Setting("a GPU in use, every span sampled", "gpu", "call, GPU"),
)

ENVIRONMENT = {"no_reset": {"TTSTRACE_MEMORY_RESET": "0"}}
# What would change what is measured, or whom it is sent to.
CLEARED = ("OTEL_", "TTSTRACE_", "LOGFIRE_", "LANGFUSE_", "OPENINFERENCE_")


class Absent(NamedTuple):
    """Not measured, and why."""

    why: str


class Outcome:
    """What a scenario found, in each of its processes."""

    def __init__(self, processes: list[dict[str, Any]]) -> None:
        self.about: dict[str, Any] = processes[0]["about"]
        self._fastest: list[dict[str, float]] = [
            {way: min(times) for way, times in each["times"].items()} for each in processes
        ]

    def seconds(self, cost: Cost, without: int | None = None) -> float:
        """What one takes, by the fastest block; `without` one of several processes."""
        chosen = [fastest for process, fastest in enumerate(self._fastest) if process != without]
        found = min(fastest[cost.way] for fastest in chosen)
        if cost.less is not None:
            found -= min(fastest[cost.less] for fastest in chosen)
        return found / int(self.about[cost.per]) if cost.per else found

    def spread(self, ours: Cost, theirs: Cost) -> float:
        """By how much the ratio depends on any one of the processes."""
        count = len(self._fastest)
        left_out = [None, *(range(count) if count > 1 else ())]
        ratios = [self.seconds(ours, process) / self.seconds(theirs, process) for process in left_out]
        return max(ratios) - min(ratios)


class Run:
    """The scenarios, each run once, when first asked for."""

    def __init__(self, processes: int, rounds: int, peers: bool, cache: Path, progress: Callable[[str], None]) -> None:
        self.processes = processes
        self.rounds = rounds
        self.peers = peers
        self.cache = cache
        self.progress = progress
        self.outcomes: dict[str, Outcome | Absent] = {}

    def outcome(self, scenario: str) -> Outcome | Absent:
        """What the scenario of this name found."""
        if scenario not in self.outcomes:
            self.progress(scenario)
            self.outcomes[scenario] = self._ran(scenario)
        return self.outcomes[scenario]

    def _ran(self, scenario: str) -> Outcome | Absent:
        python, script = sys.executable, "scenarios.py"
        environment = {key: value for key, value in os.environ.items() if not key.startswith(CLEARED)}
        environment |= ENVIRONMENT.get(scenario, {})
        if scenario in PEERS:
            if not self.peers:
                return Absent("peers were left out")
            try:
                python, script = str(environment_of(scenario, self.cache)), "peers.py"
            except Unavailable as error:
                return Absent(str(error))
            environment.pop("PYTHONPATH", None)
        found = []
        for _ in range(self.processes):
            done = subprocess.run(
                [python, str(HERE / script), scenario, str(self.rounds)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                env=environment,
            )
            if done.returncode:
                return Absent((done.stderr.strip() or f"exit {done.returncode}").splitlines()[-1])
            found.append(json.loads(done.stdout))
        about = found[0]["about"]
        return Absent(about["absent"]) if "absent" in about else Outcome(found)


def compared(run: Run, row: Row) -> dict[str, Any]:
    """A row, measured."""
    told: dict[str, Any] = {"row": row.name, "what": row.what, "against": row.against, "bar": row.bar, "aim": row.aim}
    outcome = run.outcome(row.ours.scenario)
    if isinstance(outcome, Absent):
        return {**told, "absent": outcome.why}
    ours, theirs = outcome.seconds(row.ours), outcome.seconds(row.theirs)
    return {
        **told,
        "seconds": ours,
        "against_seconds": theirs,
        "ratio": ours / theirs,
        "spread": outcome.spread(row.ours, row.theirs),
        "met": None if row.bar is None else ours / theirs <= row.bar,
        "verdict": verdict(ours / theirs, row.bar, row.aim),
    }


def verdict(ratio: float, bar: float | None, aim: float | None) -> str:
    """Whether a ratio is at most what it should be, and by how much it is not."""
    if bar is not None and ratio > bar:
        return f"missed by {ratio - bar:.3f}"
    said = [] if bar is None else ["met"]
    if aim is not None:
        said.append(f"aim missed by {ratio - aim:.3f}" if ratio > aim else "aim met")
    return ", ".join(said) or "reported"


def costs(run: Run, part: Part) -> dict[str, Any]:
    """A part of a call, measured."""
    told = {"what": part.what, "often": part.often}
    outcome = run.outcome(part.cost.scenario)
    if isinstance(outcome, Absent):
        return {**told, "absent": outcome.why}
    return {**told, **in_bare_spans(outcome, part.cost)}


def in_bare_spans(outcome: Outcome, cost: Cost) -> dict[str, float]:
    """What one takes, also in bare spans of the same scenario."""
    seconds = outcome.seconds(cost)
    return {"seconds": seconds, "bare_spans": seconds / outcome.seconds(Cost(cost.scenario, "bare span"))}


def set_to(run: Run, setting: Setting) -> dict[str, Any]:
    """A call under a setting, in bare spans of the same process."""
    outcome = run.outcome(setting.scenario)
    if isinstance(outcome, Absent):
        return {"setting": setting.what, "absent": outcome.why}
    return {"setting": setting.what, **in_bare_spans(outcome, Cost(setting.scenario, setting.way))}


def machine(run: Run) -> str:
    """What it ran on."""
    versions = {"opentelemetry-sdk": version("opentelemetry-sdk"), "wrapt": version("wrapt")}
    for name, peer in PEERS.items():
        outcome = run.outcomes.get(name)
        if isinstance(outcome, Outcome):
            versions[peer.package] = outcome.about["version"]
    packages = ", ".join(f"{package} {number}" for package, number in versions.items())
    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, {packages}; ttstrace {version('ttstrace')}"
    )


# --- what is printed --------------------------------------------------------------------------------------------------


def microseconds(seconds: float, places: int = 1) -> str:
    return f"{seconds * 1e6:,.{places}f}"


Table = tuple[list[str], list[list[str]]]


def table_of_rows(rows: list[dict[str, Any]]) -> Table:
    body = []
    for row in rows:
        asked = [f"{row['bar']:.2f}x"] if row["bar"] else []
        asked += [f"(aim {row['aim']:.2f}x)"] if row["aim"] else []
        if "absent" in row:
            figures = ["", " ".join(asked), f"not measured: {row['absent']}", "", "", ""]
        else:
            figures = [f"{row['ratio']:.3f}x", " ".join(asked), row["verdict"]]
            figures += [microseconds(row["seconds"]), microseconds(row["against_seconds"]), f"{row['spread']:.2f}"]
        body.append([row["row"], *figures, f"{row['what']} / {row['against']}"])
    return ["row", "ratio", "at most", "verdict", "µs", "against µs", "spread", "what / against what"], body


def table_of_parts(parts: list[dict[str, Any]]) -> Table:
    body = []
    for part in parts:
        if "absent" in part:
            body.append([part["what"], part["often"], f"not measured: {part['absent']}", ""])
        else:
            figures = [microseconds(part["seconds"], 2), f"{part['bare_spans']:.2f}"]
            body.append([part["what"], part["often"], *figures])
    return ["part", "how often", "µs", "bare spans"], body


def table_of_settings(settings: list[dict[str, Any]]) -> Table:
    body = []
    for setting in settings:
        if "absent" in setting:
            body.append([setting["setting"], f"not measured: {setting['absent']}", ""])
        else:
            body.append([setting["setting"], microseconds(setting["seconds"]), f"{setting['bare_spans']:.2f}"])
    return ["with", "µs a call", "bare spans"], body


def markdown(table: Table) -> str:
    head, body = table
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def aligned(table: Table) -> str:
    lines = [table[0], *table[1]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def main() -> int:
    names = [row.name for row in ROWS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--json", action="store_true", help="for machines; seconds")
    shown.add_argument("--markdown", action="store_true", help="as docs/cost.md has it")
    parser.add_argument("--rows", help=f"only these, separated by commas: {', '.join([*names, 'parts', 'settings'])}")
    parser.add_argument("--quick", action="store_true", help="see that it works; the figures say nothing")
    parser.add_argument("--no-peers", action="store_true", help="leave out what needs packages from a registry")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="where the peers' environments are kept")
    parser.add_argument("--check", action="store_true", help="exit with 1 where a bar is missed or not measured")
    options = parser.parse_args()
    chosen = options.rows.split(",") if options.rows else [*names, "parts", "settings"]
    unknown = [name for name in chosen if name not in (*names, "parts", "settings")]
    if unknown:
        parser.error(f"no row is named {', '.join(unknown)}; there are {', '.join([*names, 'parts', 'settings'])}")

    on_terminal = sys.stderr.isatty()

    def progress(doing: str) -> None:
        if on_terminal:
            print(f"\r\x1b[K{doing} ..." if doing else "\r\x1b[K", end="", file=sys.stderr, flush=True)

    run = Run(*(QUICK if options.quick else FULL), not options.no_peers, options.cache.expanduser().resolve(), progress)
    rows = [compared(run, row) for row in ROWS if row.name in chosen]
    parts = [costs(run, part) for part in PARTS] if "parts" in chosen else []
    settings = [set_to(run, setting) for setting in SETTINGS] if "settings" in chosen else []
    on = machine(run) + (" (quick: the figures say nothing)" if options.quick else "")
    progress("")

    if options.json:
        json.dump({"machine": on, "rows": rows, "parts": parts, "settings": settings}, sys.stdout, indent=2)
        print()
    else:
        drawn = markdown if options.markdown else aligned
        tables = []
        for told, table in ((rows, table_of_rows), (parts, table_of_parts), (settings, table_of_settings)):
            if told:
                tables.append(drawn(table(told)))
        print(on, *tables, sep="\n\n")
    if not options.check:
        return 0
    asked = [row for row in rows if row["bar"] is not None and (run.peers or row["row"] not in PEERS)]
    return 0 if all(row.get("met") for row in asked) else 1


if __name__ == "__main__":
    sys.exit(main())
