"""A long life under load: a million calls of every shape, and nothing of them is left.

Real providers of the SDK count every span and drop it. Each part runs once to warm up and once to be measured, and
then has to hold: every call gave its spans, each ended once and told the truth; the process has no more memory,
objects, descriptors or threads than before."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from dataclasses import asdict

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from soak_ledger import Faults, Ledger, Sink
from soak_measure import MB, Figures, Soak, resident
from soak_parts import PARTS, run_part
from soak_shapes import TRUTHS

_EPILOG = """parts, with the calls of each for a million:
{parts}

examples:
  python benchmarks/soak.py
      everything: ten minutes
  python benchmarks/soak.py --calls 20_000
      everything with fewer calls: less than a minute
  python benchmarks/soak.py --part shapes --calls 20_000 --tracemalloc
      which lines of code hold what leaks, several times slower
  python benchmarks/soak.py --part calls --seed 7 --json | jq '.parts[].resident'
      for programs: bytes, seconds, counts

bounds, each against the state after the part's own warm-up, with all garbage collected:
  spans      every call gave its spans, each ended once, with the figures that are known of it
  resident   less than 5 MB more, by /proc/self/statm; `highest` is the worst moment on the way, and no bound. What
             the allocator keeps of a burst counts, too; `curve` of --json shows whether it goes on rising
  objects    less than 1 more per 100 calls, and 500 (shapes: 100), by sys.getallocatedblocks()
  fds        no descriptor more, by /proc/self/fd; no thread more, by /proc/self/task

ends with 0 where all hold, 1 where one is broken, 2 where there is no /proc."""


def main() -> int:
    """0 where every bound holds."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_EPILOG.format(
            parts="\n".join(
                f"  {name:10} {part.full * len(part.runs):>9,}  {part.what}" for name, part in PARTS.items()
            )
        ),
    )
    parser.add_argument("--calls", type=number, default=1_000_000, metavar="N", help="how much of it (1,000,000)")
    parser.add_argument("--part", action="append", choices=PARTS, help="only this one; more than once for more")
    parser.add_argument("--seed", type=int, default=1, help="of everything that is random (1)")
    parser.add_argument("--tracemalloc", action="store_true", help="also tell which lines hold more than before")
    parser.add_argument("--json", action="store_true", help="for machines")
    options = parser.parse_args()
    if not os.path.exists("/proc/self/statm"):
        print("soak.py reads /proc: run it on Linux", file=sys.stderr)
        return 2
    ledger, sink, reader = Ledger(TRUTHS), Sink(), InMemoryMetricReader()
    provider = TracerProvider()
    provider.add_span_processor(ledger)
    provider.add_span_processor(SimpleSpanProcessor(sink))
    trace.set_tracer_provider(provider)
    metrics.set_meter_provider(MeterProvider([reader]))
    shown = sys.stderr.isatty()

    def tell(part: str, done: int, of: int) -> None:
        if shown:
            print(f"\r\x1b[K{part}: {done:,} of {of:,}, {resident() / MB:.1f} MB", end="", file=sys.stderr, flush=True)

    found = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, Faults(ledger):
        soak = Soak(ledger, sink, reader, folder, options.seed, tell)
        if not options.json:
            print(_HEAD)
        for name in options.part or PARTS:
            figures = run_part(soak, name, options.calls, options.tracemalloc)
            found.append(figures)
            if shown:
                print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            if not options.json:
                print(_row(figures), flush=True)
    broken = [f"{figures.part}: {bound}" for figures in found for bound in figures.broken]
    if options.json:
        figures_of_all = {
            "python": platform.python_version(),
            "seed": options.seed,
            "seconds": time.monotonic() - began,
            "resident": resident(),
            "parts": [asdict(figures) for figures in found],
            "broken": broken,
        }
        print(json.dumps(figures_of_all, indent=2))
    else:
        for figures in found:
            for line in figures.grew:
                print(f"held more after {figures.part}: {line}")
        for bound in broken:
            print(f"BROKEN {bound}")
        if broken and not options.tracemalloc:
            print("If something is held: the same with `--calls 20_000 --tracemalloc` tells where.")
        if not broken:
            print(f"every bound holds: {sum(figures.calls for figures in found):,} calls")
    return 1 if broken else 0


_HEAD = (
    f"{'part':10}{'calls':>10}{'spans':>10}{'lost':>6}{'twice':>6}{'wrong':>6}{'resident':>10}{'highest':>10}"
    f"{'objects':>9}{'fds':>5}{'threads':>8}{'forks':>6}{'us/call':>9}"
)


def _row(found: Figures) -> str:
    return (
        f"{found.part:10}{found.calls:>10,}{found.spans:>10,}{found.lost:>6,}{found.twice:>6,}{found.wrong:>6,}"
        f"{found.resident / MB:>+7.1f} MB{found.highest / MB:>+7.1f} MB{found.objects:>+9,}{found.descriptors:>+5}"
        f"{found.threads:>+8}{found.forks:>6}{found.seconds / max(1, found.calls) * 1e6:>9.0f}"
    )


def number(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


if __name__ == "__main__":
    sys.exit(main())
