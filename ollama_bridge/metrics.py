"""What calls come to, added up since the start: an observer of finished calls.

Keys hold names of the configuration and fixed words, nothing that a client or a provider wrote: so there are as many
sums as there are models.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from ollama_bridge.record import CallRecord

BUCKETS_S: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""Upper bounds of the histogram of a call's total time, in seconds."""

_KINDS: Final = (
    ("input", "input_tokens"),
    ("output", "output_tokens"),
    ("cached_read", "cached_read_tokens"),
    ("cached_write", "cached_write_tokens"),
    ("reasoning", "reasoning_tokens"),
)

Who: TypeAlias = tuple[str, str]
"""A provider and a model, as lists show it; of an attempt that another model made good, as its provider knows it."""

Plain: TypeAlias = Mapping[str, list[list[Any]]]
"""`Totals` in what JSON can hold: by attribute, a row for each key, its parts and then what belongs to it."""

_NUMBERS: Final = ("calls", "tokens", "cost_nusd", "cached")


def _counts() -> dict[tuple[str, str, str], int]:
    return defaultdict(int)


@dataclass(slots=True)
class Times:
    """How long calls took: how many in each bucket (the last holds all that took longer), and together."""

    buckets: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))
    total_s: float = 0.0


@dataclass(slots=True)
class Totals:
    """All of it.

    Args:
        calls: By provider, model and outcome.
        times: By who answered.
        tokens: By provider, model and kind: `input`, `output`, and the parts of these that were `cached_read`,
            `cached_write` and `reasoning`.
        cost_nusd: By whom it is billed.
        cached: Answers without a provider, by model and how.
    """

    calls: dict[tuple[str, str, str], int] = field(default_factory=_counts)
    times: dict[Who, Times] = field(default_factory=lambda: defaultdict(Times))
    tokens: dict[tuple[str, str, str], int] = field(default_factory=_counts)
    cost_nusd: dict[Who, int] = field(default_factory=lambda: defaultdict(int))
    cached: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))

    def plain(self) -> Plain:
        """See `Plain`."""
        rows = {name: [[*key, number] for key, number in getattr(self, name).items()] for name in _NUMBERS}
        rows["times"] = [[*who, [*times.buckets], times.total_s] for who, times in self.times.items()]
        return rows

    def add(self, other: Plain) -> None:
        """Have the sums of another process in these."""
        for name in _NUMBERS:
            numbers = getattr(self, name)
            for *key, number in other[name]:
                numbers[tuple(key)] += number
        for provider, model, buckets, total_s in other["times"]:
            times = self.times[provider, model]
            times.buckets = [a + b for a, b in zip(times.buckets, buckets, strict=True)]
            times.total_s += total_s


class Metrics:
    """Counts every call that it is told of; handed on by a reload."""

    def __init__(self) -> None:
        self.totals = Totals()
        self.elsewhere: Callable[[], Awaitable[Iterable[Plain]]] | None = None
        """Asks the other processes for theirs; None: there are none."""

    async def everywhere(self) -> Totals:
        """Those of all processes together; a copy."""
        together = Totals()
        for told in (*(await self.elsewhere() if self.elsewhere else ()), self.totals.plain()):
            together.add(told)
        return together

    def __call__(self, record: CallRecord) -> None:
        """Count one call that has ended."""
        totals = self.totals
        who = record.provider, record.model or record.asked
        took_s = record.total_ms / 1000
        totals.calls[*who, record.outcome] += 1
        times = totals.times[who]
        times.buckets[bisect_left(BUCKETS_S, took_s)] += 1
        times.total_s += took_s
        if record.cached:
            totals.cached[who[1], record.cached] += 1
        for charge in record.charges:
            is_the_last = (charge.provider, charge.target) == (record.provider, record.target)
            model = who[1] if is_the_last else charge.target
            for kind, attribute in _KINDS:
                if tokens := getattr(charge.usage, attribute):
                    totals.tokens[charge.provider, model, kind] += tokens
            totals.cost_nusd[charge.provider, model] += charge.cost_nusd or 0
