"""What the bridge costs above a bare relay, in one interleaved run.

    $ python tests/benchmarks/run.py                          # all of it, about five minutes
    $ python tests/benchmarks/run.py --quick                  # does it run at all; figures mean little
    $ python tests/benchmarks/run.py --only burst,first --wire anthropic --rounds 9
    $ python tests/benchmarks/run.py --json > before.json     # one object a figure, every round in it

Three processes serve: fake providers (`upstreams.py`), the floor (`relay.py`, a bare aiohttp byte relay)
and `ollama-bridge serve` as a user starts it, every default on. Relay and bridge cause the same request to the
same upstream and get the same reply; the relay's client reads the provider's events, the bridge's client
NDJSON lines, and either is counted, so that nobody is fast by leaving out. In each round the
targets are measured in turn, and a figure is the median of the rounds: read the *ratio*, the rest moves with
the machine. `ratio` also shows the smallest and the largest of the rounds.

    burst   16 clients, each reply 200 words that the upstream sends in one write: CPU of the target (its own,
            by the system's clock for that process) a word, and replies a second
    fresh   the same, each stream over a connection of its own
    first   one client: milliseconds from the request to the first byte of the reply's body (p10 is what
            the machine's other work disturbs least)
    paced   20 clients, 50 words a second each: CPU a word, when each word is a wake-up
    once    64 clients that do not stream (the bridge may stream from its provider all the same)
    start   seconds from the spawn to the first `GET /` 200, and the slowest `GET /` of the seconds
            after it, while the SDKs load
    cli     seconds that `--version` and `models` take
    rss     resident memory with one provider in use

Goals: `issue` is what the figures' issue asks for, `house` what `performance.md` wants in the end. Met or
missed, the exit code says only whether everything ran. The harness wants two CPUs and Linux's clocks; it
listens and connects on loopback alone.
"""

import argparse
import asyncio
import json
import signal
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final, Literal

import figures
import stage
from figures import QUICK, SAMPLES, WIRES, Sample, Size, Target
from stage import Child, Stage

KINDS: Final = (*SAMPLES, "start", "cli", "rss")


@dataclass(frozen=True)
class Goal:
    """What a figure should reach: as a multiple of the relay's, above the relay's, or as it is."""

    by: Literal["issue", "house"]
    of: Literal["ratio", "above", "plain"]
    limit: float
    at_least: bool = False

    def verdict(self, ours: float, floor: float | None) -> str:
        """The goal in words, and whether it is met."""
        if self.of == "plain" or floor is None:
            value, unit = ours, ""
        elif self.of == "ratio":
            value, unit = ours / floor, "x"
        else:
            value, unit = ours - floor, " above"
        met = value >= self.limit if self.at_least else value <= self.limit
        return (
            f"{'>=' if self.at_least else '<='} {self.limit:g}{unit} ({self.by}) {'met' if met else 'MISSED'}"
        )


GOALS: Final[Mapping[tuple[str, str], Sequence[Goal]]] = {
    ("burst: CPU µs a word", "anthropic"): (Goal("issue", "ratio", 4), Goal("house", "ratio", 3)),
    ("burst: CPU µs a word", "chat"): (Goal("issue", "ratio", 4), Goal("house", "ratio", 3)),
    ("burst: CPU µs a word", "responses"): (Goal("issue", "ratio", 4), Goal("house", "ratio", 3)),
    ("burst: CPU µs a word", "google"): (Goal("house", "ratio", 3),),
    ("fresh: CPU µs a word", "anthropic"): (Goal("issue", "ratio", 4), Goal("house", "ratio", 3)),
    ("fresh: CPU µs a word", "chat"): (Goal("issue", "ratio", 4), Goal("house", "ratio", 3)),
    ("fresh: CPU µs a word", "responses"): (Goal("issue", "ratio", 4), Goal("house", "ratio", 3)),
    ("first token: ms p50, one user", ""): (Goal("issue", "above", 2), Goal("house", "above", 1.5)),
    ("paced: CPU µs a word", ""): (Goal("house", "ratio", 1.6),),
    ("once: requests a second, 64 users", ""): (Goal("house", "ratio", 0.5, at_least=True),),
    ("start: s to the first GET /", ""): (Goal("issue", "plain", 0.6),),
    ("cli: s for --version", ""): (Goal("issue", "plain", 0.3), Goal("house", "plain", 0.25)),
    ("cli: s for models", ""): (Goal("issue", "plain", 0.3), Goal("house", "plain", 0.25)),
    ("rss: MB, one provider in use", ""): (Goal("house", "plain", 90),),
}
"""By figure and wire; an empty wire: of every wire."""


@dataclass(frozen=True)
class Row:
    """One figure of one wire (empty: of none in particular), with every round of both targets."""

    figure: str
    wire: str
    bridge: tuple[float, ...]
    relay: tuple[float, ...] = ()

    def cells(self) -> tuple[str, ...]:
        """As the table shows it."""
        floor = statistics.median(self.relay) if self.relay else None
        if not self.bridge:
            return (self.figure, self.wire, "", _number(floor), "", "")
        ours = statistics.median(self.bridge)
        goals = GOALS.get((self.figure, self.wire)) or GOALS.get((self.figure, ""), ())
        verdicts = ", ".join(goal.verdict(ours, floor) for goal in goals)
        if not floor:
            return (self.figure, self.wire, _number(ours), "", "", verdicts)
        each = [a / b for a, b in zip(self.bridge, self.relay, strict=True)]
        ratio = f"{ours / floor:.2f} ({min(each):.2f} to {max(each):.2f})"
        return (self.figure, self.wire, _number(ours), _number(floor), ratio, verdicts)


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _rows(wire: str, bridge: Sequence[Sample], relay: Sequence[Sample]) -> Iterator[Row]:
    for figure in relay[0]:
        ours = tuple(sample[figure] for sample in bridge)
        yield Row(figure, wire, ours, tuple(sample[figure] for sample in relay))


def under_load(
    of: Stage, ours: Child | None, kinds: Sequence[str], wires: Sequence[str], size: Size
) -> Iterator[Row]:
    """The figures of `SAMPLES`, the targets in turn in each round; without `ours` the relay's alone."""
    for kind in kinds:
        for wire in wires:
            targets = [Target("relay", of.relay, wire)]
            if ours is not None:
                targets.append(Target("bridge", ours, wire))
            found: dict[str, list[Sample]] = {"bridge": [], "relay": []}
            for _ in range(size.rounds):
                for target in targets:
                    found[target.name].append(asyncio.run(SAMPLES[kind](target, of.upstream, size)))
            yield from _rows(wire, found["bridge"], found["relay"])


def at_rest(of: Stage, kinds: Sequence[str], wires: Sequence[str], size: Size) -> Iterator[Row]:
    """The figures that need processes of their own."""
    if "start" in kinds:
        pairs = [figures.starts(of, size, tuple(wires)) for _ in range(size.rounds)]
        yield from _rows("", [ours for ours, _ in pairs], [floor for _, floor in pairs])
    if "cli" in kinds:
        stage.write_config(of.folder, of.upstream_url, tuple(wires))
        for command in ("--version", "models"):
            took_s = tuple(figures.command_s(of, command) for _ in range(size.rounds))
            yield Row(f"cli: s for {command}", "", took_s)
    if "rss" in kinds:
        for wire in wires:
            ours, floor = figures.resident(of, size, wire)
            yield Row("rss: MB, one provider in use", wire, (ours,), (floor,))


def measure(arguments: argparse.Namespace, folder: Path) -> Iterator[Row]:
    """Everything that was asked for, one row after the other."""
    size = QUICK if arguments.quick else Size()
    size = replace(size, rounds=arguments.rounds or size.rounds)
    loaded = [kind for kind in arguments.only if kind in SAMPLES]
    with ExitStack() as stack:
        of = stack.enter_context(stage.staged(folder))
        if loaded:
            ours = None
            if not arguments.floor:
                ours = stack.enter_context(stage.bridge(folder, of.upstream_url, tuple(arguments.wire)))
                stage.wait_for(ours, folder)
            yield from under_load(of, ours, loaded, arguments.wire, size)
    if not arguments.floor and set(arguments.only) - set(loaded):
        # The loaded daemon has ended: nothing shares the CPU with what starts now.
        with stage.staged(folder) as of:
            yield from at_rest(of, arguments.only, arguments.wire, size)


def print_table(rows: Sequence[Row]) -> None:
    """Columns as wide as they need to be."""
    heads = ("figure", "wire", "bridge", "relay", "ratio (rounds)", "goals")
    table = [heads, *(row.cells() for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for cells in table:
        texts = [
            cell.rjust(width) if 2 <= at <= 4 else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        print("  ".join(texts).rstrip())


def _names(known: Sequence[str], text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(known):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: not one of {', '.join(known)}")
    return [name for name in known if name in names]


def main() -> None:
    """Read the arguments, measure, print."""
    parser = argparse.ArgumentParser(description="What the bridge costs above a bare relay.")
    parser.add_argument("--quick", action="store_true", help="one tiny round: does it run at all")
    parser.add_argument(
        "--only", type=lambda text: _names(KINDS, text), default=list(KINDS), help=", ".join(KINDS)
    )
    parser.add_argument(
        "--wire", type=lambda text: _names(list(WIRES), text), default=list(WIRES), help=", ".join(WIRES)
    )
    parser.add_argument("--rounds", type=int, help="rounds of each figure")
    parser.add_argument("--floor", action="store_true", help="the relay alone: checks harness and machine")
    parser.add_argument("--json", action="store_true", help="one object a figure, with every round")
    arguments = parser.parse_args()
    # As an exception, so that every child is ended on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        rows = []
        for row in measure(arguments, Path(folder)):
            print(f"… {row.figure} {row.wire}", file=sys.stderr)
            rows.append(row)
    if arguments.json:
        print("\n".join(json.dumps(asdict(row), ensure_ascii=False) for row in rows))
    else:
        print_table(rows)


if __name__ == "__main__":
    main()
