"""What is done to the embedded store's tables, inside a transaction of its caller and in its thread."""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from limits.strategies import SlidingWindowCounterRateLimiter

from ollama_bridge.sqlitefile import transaction
from ollama_bridge.store import windows
from ollama_bridge.store.arithmetic import Counts, empty, refused
from ollama_bridge.store.shelf import Granted, Purse, Rate, Refused
from ollama_bridge.store.windows import Window, Windows

VERSION: Final = 1
"""Of the tables; a file of another one is left alone."""

SCHEMA: Final = f"""
{windows.SCHEMA}
CREATE TABLE IF NOT EXISTS purse (
    key TEXT PRIMARY KEY, spent INTEGER NOT NULL, until_s REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS shelf (
    key TEXT PRIMARY KEY, value BLOB NOT NULL, until_s REAL NOT NULL
) WITHOUT ROWID;
"""

_PRUNE_S: Final = 60.0
_GRACE_S: Final = 86_400.0  # a clock that errs by less makes nobody forget what was spent

_SPENT: Final = "SELECT spent FROM purse WHERE key = ?"
_SPEND: Final = """
INSERT INTO purse (key, spent, until_s) VALUES (?1, max(0, ?2), ?3)
ON CONFLICT (key) DO UPDATE SET spent = max(0, spent + ?2)
"""
_GET: Final = "SELECT value FROM shelf WHERE key = ? AND until_s > ?"
_PUT: Final = "INSERT OR REPLACE INTO shelf (key, value, until_s) VALUES (?, ?, ?)"
_CLAIM: Final = """
INSERT INTO shelf (key, value, until_s) VALUES (?1, x'', ?2)
ON CONFLICT (key) DO UPDATE SET value = x'', until_s = ?2 WHERE until_s <= ?3
"""


class NotEnough(Exception):
    """Nothing may be taken: roll back, and say so."""

    def __init__(self, refused: Refused) -> None:
        super().__init__()
        self.refused = refused


@dataclass(frozen=True, slots=True)
class Settlement:
    """What `Store.settle` was told."""

    granted: Granted
    rates: Sequence[Rate]
    purses: Sequence[Purse]
    amount: int


class Tables:
    """The tables of one connection."""

    def __init__(self, connection: sqlite3.Connection, clock_s: Callable[[], float]) -> None:
        self.connection = connection
        self._clock_s = clock_s
        self._windows = Windows(connection)
        self._limiter = SlidingWindowCounterRateLimiter(self._windows)
        self._prune_at_s = 0.0

    def take(self, rates: Sequence[Rate], purses: Sequence[Purse], wanted: int, least: int) -> Granted:
        """See `Store.take`.

        Raises:
            NotEnough: One of them does not hold enough, and what was taken of others has to be rolled back.
        """
        now_s = self._begun()
        for rate in rates:
            if not self._limiter.hit(Window(rate.limit, rate.window_s), rate.key, cost=rate.cost):
                raise NotEnough(refused(rate, self._counts(rate)))
        spent = self.spent(purses)
        amount = wanted
        for purse, gone in zip(purses, spent, strict=True):
            left = max(0, purse.limit - gone)
            if left < min(least, wanted):
                raise NotEnough(empty(purse, left, least, now_s))
            amount = min(amount, left)
        for purse in purses:
            self._spend(purse, amount)
        return Granted(amount, tuple(gone + amount for gone in spent), now_s)

    def settle(self, settlements: Iterable[Settlement]) -> None:
        """See `Store.settle`."""
        self._begun()
        for one in settlements:
            for rate in one.rates:
                if rate.cost < 0:
                    self._windows.give_back(rate.key, rate.window_s, -rate.cost, one.granted.at_s)
                elif rate.cost:
                    self._windows.incr(rate.key, rate.window_s, rate.cost)
            for purse in one.purses:
                self._spend(purse, one.amount)

    def spent(self, purses: Sequence[Purse]) -> tuple[int, ...]:
        """See `Store.spent`."""
        rows = (self.connection.execute(_SPENT, (purse.key,)).fetchone() for purse in purses)
        return tuple(row[0] if row else 0 for row in rows)

    def get(self, key: str) -> bytes | None:
        """See `Store.get`."""
        row = self.connection.execute(_GET, (key, self._clock_s())).fetchone()
        return row[0] if row else None

    def put(self, key: str, value: bytes, ttl_s: float) -> None:
        """See `Store.put`."""
        self.connection.execute(_PUT, (key, value, self._begun() + ttl_s))

    def claim(self, key: str, ttl_s: float) -> bool:
        """See `Store.claim`."""
        now_s = self._begun()
        return self.connection.execute(_CLAIM, (key, now_s + ttl_s, now_s)).rowcount > 0

    def copy_from(self, other: sqlite3.Connection) -> None:
        """Take over what another file says, all of it or nothing; for tables that are empty so far."""
        with transaction(self.connection):
            for table in ("rate", "purse", "shelf"):
                rows = other.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608 - three words
                if rows:
                    marks = ",".join("?" * len(rows[0]))
                    self.connection.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)  # noqa: S608 - question marks

    def _begun(self) -> float:
        """The time of this transaction; now and then what nobody needs any more is deleted."""
        now_s = self._windows.now_s = self._clock_s()
        if not self._prune_at_s - _PRUNE_S <= now_s < self._prune_at_s:
            self._prune_at_s = now_s + _PRUNE_S
            self._windows.prune()
            self.connection.execute("DELETE FROM purse WHERE until_s <= ?", (now_s - _GRACE_S,))
            self.connection.execute("DELETE FROM shelf WHERE until_s <= ?", (now_s,))
        return now_s

    def _counts(self, rate: Rate) -> Counts:
        previous, previous_s, current, forgotten_s = self._windows.get_sliding_window(rate.key, rate.window_s)
        return Counts(previous, previous_s, current, forgotten_s - rate.window_s)

    def _spend(self, purse: Purse, amount: int) -> None:
        if amount:
            self.connection.execute(_SPEND, (purse.key, amount, purse.until_s))
