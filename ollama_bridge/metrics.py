"""What calls come to, added up since the start: an observer of finished calls.

Keys hold names of the configuration and fixed words, nothing that a client or a provider wrote: so there are as many
sums as there are models.
"""

import copy
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
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

    def rows(self) -> dict[str, list[list[Any]]]:
        """The same as JSON can hold it: of each sum its key and its value."""
        return {
            each.name: [[*key, value] for key, value in getattr(self, each.name).items()]
            for each in fields(self)
        }

    @classmethod
    def of(cls, rows: Mapping[str, Iterable[Iterable[Any]]]) -> "Totals":
        """What `rows` became of, after its way through JSON."""
        found = {name: {tuple(key): value for *key, value in some} for name, some in rows.items()}
        found["times"] = {who: Times(**took) for who, took in found["times"].items()}
        return cls(**found)


class Metrics:
    """Counts every call that it is told of; handed on by a reload."""

    def __init__(self) -> None:
        self.totals = Totals()
        self.worker = ""
        """Which of several processes this is; empty: the only one."""
        self.elsewhere: Callable[[], Awaitable[Iterable[tuple[str, Mapping[str, Any]]]]] | None = None
        """Asks the other processes for who they are and their `rows`; None: there are none."""

    async def everybodys(self) -> dict[str, Totals]:
        """The sums of each process as they are now: together they would go down when one is started again."""
        others = await self.elsewhere() if self.elsewhere else ()
        return {
            **{worker: Totals.of(rows) for worker, rows in others},
            self.worker: copy.deepcopy(self.totals),
        }

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
