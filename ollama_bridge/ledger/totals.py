"""What the rows of a ledger add up to. Reads only, also while a daemon writes."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median_low
from typing import Final

from ollama_bridge.ledger.table import VERSION

GROUPS: Final = {
    "day": "date(time, 'unixepoch', 'localtime')",
    "model": "CASE model WHEN '' THEN asked ELSE model END",
    "client": "client",
    "provider": "provider",
}
"""What calls can be put together by. The model is the one that answered, or else the one that was asked for."""

_OUTCOMES: Final = ("answered", "refused", "limited", "failed", "left")
_SUMS: Final = {
    "calls": "count(*)",
    **{outcome: f"sum(outcome = '{outcome}')" for outcome in _OUTCOMES},
    "cached": "sum(cached <> '')",
    "estimated": "sum(is_estimated)",
    "unpriced": "sum(cost_nusd IS NULL)",
    "input_tokens": "sum(input_tokens)",
    "output_tokens": "sum(output_tokens)",
    "cached_read_tokens": "sum(cached_read_tokens)",
    "cached_write_tokens": "sum(cached_write_tokens)",
    "reasoning_tokens": "sum(reasoning_tokens)",
    "cost_nusd": "sum(cost_nusd)",
    "saved_nusd": "sum(saved_nusd)",
    "first_ms": "median(first_ms)",
    "total_ms": "median(total_ms)",
}
_BUSY_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Totals:
    """Of the calls of one group.

    Args:
        group: What they have in common, in the order that was asked for.
        calls: How many they are.
        answered, refused, limited, failed, left: How many of them ended so; see `record.Outcome`.
        cached: How many were answered without asking a provider.
        estimated: Of how many the provider did not tell all tokens, or nobody knows all prices.
        unpriced: Of how many nobody knows the price at all.
        input_tokens, output_tokens, cached_read_tokens, cached_write_tokens, reasoning_tokens: As in `events.Usage`.
        cost_nusd: Nano-dollars of those whose price is known; None: of none is it.
        saved_nusd: Nano-dollars that prompt caches saved.
        first_ms: Milliseconds until the first event, the median; None: there was none.
        total_ms: Milliseconds until the end, the median.
    """

    group: tuple[str, ...]
    calls: int
    answered: int
    refused: int
    limited: int
    failed: int
    left: int
    cached: int
    estimated: int
    unpriced: int
    input_tokens: int
    output_tokens: int
    cached_read_tokens: int
    cached_write_tokens: int
    reasoning_tokens: int
    cost_nusd: int | None
    saved_nusd: int
    first_ms: float | None
    total_ms: float


class UnreadableLedger(Exception):
    """Why the file cannot be read as a ledger."""


def totals(path: Path, by: Sequence[str], *, since_s: float, until_s: float) -> list[Totals]:
    """The calls that began in a span of time, added up.

    Args:
        path: Of the ledger; it exists.
        by: Keys of `GROUPS`; none: all together, which then is one group if there was a call.
        since_s: Seconds since the epoch, included.
        until_s: The same, excluded.

    Returns:
        The groups by day, if that is among `by`, then the most expensive first.

    Raises:
        UnreadableLedger: It is no ledger, or another version's, or somebody locks it.
    """
    names = [f"by_{name}" for name in by]
    groups = [f"{GROUPS[name]} AS by_{name}" for name in by]
    order = [*(["by_day"] if "day" in by else []), "sum(cost_nusd) DESC", "count(*) DESC", *names]
    query = (
        f"SELECT {', '.join([*groups, *_SUMS.values()])} FROM call WHERE time >= ? AND time < ? "  # noqa: S608 - ours
        f"{'GROUP BY ' + ', '.join(names) if by else 'HAVING count(*) > 0'} ORDER BY {', '.join(order)}"
    )
    with _reading(path) as connection:
        rows = connection.execute(query, (since_s, until_s))
        return [Totals(tuple(row[: len(by)]), *row[len(by) :]) for row in rows]


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        with closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_S)
        ) as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version != VERSION:
                raise UnreadableLedger(f"{path}: no ledger of this version of ollama-bridge")
            connection.create_aggregate("median", 1, _Median)  # type: ignore[arg-type]  # typeshed: whole numbers only
            yield connection
    except sqlite3.Error as exc:
        raise UnreadableLedger(f"{path}: {exc}") from exc


class _Median:
    """An aggregate for SQLite, which has none."""

    def __init__(self) -> None:
        self._values: list[float] = []

    def step(self, value: float | None, /) -> None:
        if value is not None:
            self._values.append(value)

    def finalize(self) -> float | None:
        return median_low(self._values) if self._values else None
