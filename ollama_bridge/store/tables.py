"""What is done to the embedded store's tables, inside a transaction of its caller and in its thread."""

import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Final, TypeVar

from limits.strategies import SlidingWindowCounterRateLimiter

from ollama_bridge.sqlitefile import transaction
from ollama_bridge.store import windows
from ollama_bridge.store.arithmetic import Counts, Settlement, empty, refused
from ollama_bridge.store.shelf import Granted, Purse, Rate, Refused
from ollama_bridge.store.windows import Window, Windows, parts

Result = TypeVar("Result")

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

_MOST_REMEMBERED: Final = 4096  # purses

_GET: Final = "SELECT value FROM shelf WHERE key = ? AND until_s > ?"
_PUT: Final = "INSERT OR REPLACE INTO shelf (key, value, until_s) VALUES (?, ?, ?)"
_CLAIM: Final = """
INSERT INTO shelf (key, value, until_s) VALUES (?1, x'', ?2)
ON CONFLICT (key) DO UPDATE SET value = x'', until_s = ?2 WHERE until_s <= ?3
"""


class Tables:
    """The tables of one connection."""

    def __init__(self, connection: sqlite3.Connection, clock_s: Callable[[], float]) -> None:
        self.connection = connection
        self._clock_s = clock_s
        self._windows = Windows(connection)
        self._limiter = SlidingWindowCounterRateLimiter(self._windows)
        self._window = lru_cache(maxsize=1024)(Window)
        self._prune_at_s = 0.0
        self._spent_of: dict[str, int] = {}
        self._seen = -1

    def whole(self, work: "Callable[[Tables], Result]") -> Result:
        """What `work` returns, done whole or not at all."""
        try:
            with transaction(self.connection):
                return work(self)
        except BaseException:
            self._forget()  # what is remembered of it is not so
            raise

    def take(
        self,
        rates: Sequence[Rate],
        purses: Sequence[Purse],
        wanted: int,
        least: int,
        settlements: Sequence[Settlement] = (),
    ) -> Granted | Refused:
        """See `Store.take`; before it `settlements` are made, whatever comes of it."""
        # A statement costs more than all that is computed here: there are two, or four, however much is taken.
        self._begun()
        spent = self._read(rates, purses, settlements)
        kept = self._settled(settlements, spent)
        settled = self._windows.changed()
        answer = self._taken(rates, purses, spent, wanted, least)
        if isinstance(answer, Refused):
            self._windows.restore(settled)
        elif answer.amount:
            kept |= {purse.key: purse for purse in purses}
            for purse, gone in zip(purses, answer.spent, strict=True):
                spent[purse.key] = gone
        self._write([*kept.values()], spent)
        return answer

    def settle(self, settlements: Sequence[Settlement]) -> None:
        """See `Store.settle`."""
        self._begun()
        spent = self._read((), (), settlements)
        self._write([*self._settled(settlements, spent).values()], spent)

    def spent(self, purses: Sequence[Purse]) -> tuple[int, ...]:
        """See `Store.spent`."""
        self._begun()
        known = self._spent({purse.key for purse in purses})
        return tuple(known[purse.key] for purse in purses)

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
        # Each worker mostly meets its own numbers again, and SQLite says whether anybody else wrote meanwhile.
        (seen,) = self.connection.execute("PRAGMA data_version").fetchone()
        if seen != self._seen:
            self._forget()
            self._seen = seen
        now_s = self._windows.now_s = self._clock_s()
        if not self._prune_at_s - _PRUNE_S <= now_s < self._prune_at_s:
            self._prune_at_s = now_s + _PRUNE_S
            self._forget()
            self._windows.prune()
            self.connection.execute("DELETE FROM purse WHERE until_s <= ?", (now_s - _GRACE_S,))
            self.connection.execute("DELETE FROM shelf WHERE until_s <= ?", (now_s,))
        return now_s

    def _forget(self) -> None:
        self._windows.forget()
        self._spent_of.clear()

    def _read(
        self, rates: Sequence[Rate], purses: Sequence[Purse], settlements: Sequence[Settlement]
    ) -> dict[str, int]:
        """Read all that these are about; what is spent of each purse."""
        self._windows.read({rate.key for rate in chain(rates, *(one.rates for one in settlements))})
        return self._spent({purse.key for purse in chain(purses, *(one.purses for one in settlements))})

    def _write(self, purses: Sequence[Purse], spent: Mapping[str, int]) -> None:
        self._windows.write()
        for some in parts(purses):
            values = [value for one in some for value in (one.key, spent[one.key], one.until_s)]
            self.connection.execute(_kept(len(some)), values)
        self._spent_of.update(spent)

    def _settled(self, settlements: Iterable[Settlement], spent: dict[str, int]) -> dict[str, Purse]:
        """Make them; the purses that are to be written."""
        kept: dict[str, Purse] = {}
        for one in settlements:
            for rate in one.rates:
                if rate.cost < 0:
                    self._windows.give_back(rate.key, rate.window_s, -rate.cost, one.granted.at_s)
                elif rate.cost:
                    self._windows.incr(rate.key, rate.window_s, rate.cost)
            if one.amount:
                for purse in one.purses:
                    kept[purse.key] = purse
                    spent[purse.key] = max(0, spent[purse.key] + one.amount)
        return kept

    def _taken(
        self,
        rates: Sequence[Rate],
        purses: Sequence[Purse],
        spent: Mapping[str, int],
        wanted: int,
        least: int,
    ) -> Granted | Refused:
        """Take from the windows, and say how much there is in the purses."""
        for rate in rates:
            if not self._limiter.hit(self._window(rate.limit, rate.window_s), rate.key, cost=rate.cost):
                return refused(rate, self._counts(rate))
        amount, needed, now_s = wanted, min(least, wanted), self._windows.now_s
        for purse in purses:
            left = max(0, purse.limit - spent[purse.key])
            if left < needed:
                return empty(purse, left, least, now_s)
            amount = min(amount, left)
        return Granted(amount, tuple(spent[purse.key] + amount for purse in purses), now_s)

    def _spent(self, keys: Collection[str]) -> dict[str, int]:
        if missing := [key for key in keys if key not in self._spent_of]:
            if len(self._spent_of) > _MOST_REMEMBERED:
                self._spent_of.clear()
                missing = list(keys)
            self._spent_of.update(dict.fromkeys(missing, 0))
            for some in parts(missing):
                self._spent_of.update(self.connection.execute(_found(len(some)), some))
        return {key: self._spent_of[key] for key in keys}

    def _counts(self, rate: Rate) -> Counts:
        previous, previous_s, current, forgotten_s = self._windows.get_sliding_window(rate.key, rate.window_s)
        return Counts(previous, previous_s, current, forgotten_s - rate.window_s)


@lru_cache(maxsize=64)
def _kept(count: int) -> str:
    marks = ",".join(["(?,?,?)"] * count)
    return f"INSERT OR REPLACE INTO purse (key, spent, until_s) VALUES {marks}"  # noqa: S608 - question marks


@lru_cache(maxsize=64)
def _found(count: int) -> str:
    return f"SELECT key, spent FROM purse WHERE key IN ({','.join('?' * count)})"  # noqa: S608 - question marks
