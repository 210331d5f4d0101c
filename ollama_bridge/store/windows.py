"""What the library `limits` counts, in a table of ours: one row a rate, with two windows in it.

Importing this takes a tenth of a second, and is for a thread.
"""

import math
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from typing import Final, TypeAlias, TypeVar

from limits import RateLimitItemPerSecond
from limits.storage import SlidingWindowCounterSupport, Storage

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS rate (
    key TEXT NOT NULL, window_s INTEGER NOT NULL, number INTEGER NOT NULL,
    previous INTEGER NOT NULL, current INTEGER NOT NULL, PRIMARY KEY (key, window_s)
) WITHOUT ROWID;
"""
"""`number`: windows of this length since the epoch; `current` was taken in it, `previous` in the one before."""

T = TypeVar("T")

_MOST_VALUES: Final = 64  # rows in a statement

_MOST_KNOWN: Final = 4096  # keys whose rows are remembered

Place: TypeAlias = tuple[str, int]
"""A key, and the length of its window in seconds."""

Row: TypeAlias = tuple[int, int, int]
"""The number of the window, and units in the one before and in this one."""


class Window(RateLimitItemPerSecond):
    """So many units a window; counted under its key alone, so that another limit does not start from zero."""

    def key_for(self, *identifiers: bytes | str | float) -> str:
        """The key as it is."""
        return str(identifiers[0])


class Windows(Storage, SlidingWindowCounterSupport):
    """Windows that begin at whole multiples of their length since the epoch.

    The transaction is its caller's, and so is the time: set `now_s` before anything else. What is counted between
    `read` and `write` is counted in memory, and what is read is remembered, until `forget`.
    """

    STORAGE_SCHEME = None

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__()
        self.now_s = 0.0
        self._connection = connection
        self._rows: dict[Place, Row] = {}
        self._known: set[str] = set()
        self._changed: dict[Place, Row] = {}

    @property
    def base_exceptions(self) -> type[Exception]:
        """What it raises when the disk fails."""
        return sqlite3.Error

    def read(self, keys: Collection[str]) -> None:
        """Look up all windows of those keys that are not known; what was counted and not written is forgotten."""
        self._changed = {}
        if missing := [key for key in keys if key not in self._known]:
            if len(self._known) > _MOST_KNOWN:
                self.forget()
                missing = list(keys)
            for some in parts(missing):
                found = self._connection.execute(_found(len(some)), some)
                self._rows.update(((key, window_s), (*row,)) for key, window_s, *row in found)
            self._known.update(missing)

    def forget(self) -> None:
        """Somebody else may have counted."""
        self._rows, self._changed = {}, {}
        self._known.clear()

    def write(self) -> None:
        """Write what was counted."""
        for changed in parts([(*place, *row) for place, row in self._changed.items()]):
            self._connection.execute(_kept(len(changed)), [value for row in changed for value in row])
        self._rows.update(self._changed)

    def changed(self) -> dict[Place, Row]:
        """What is counted and not written so far, for `restore`."""
        return self._changed.copy()

    def restore(self, changed: dict[Place, Row]) -> None:
        """Count no more than that."""
        self._changed = changed

    def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Take `amount`, if there is as much left."""
        number, previous, current, left_s = self._counts(key, expiry)
        if math.floor(previous * left_s / expiry + current) + amount > limit:
            return False
        self._changed[key, expiry] = number, previous, current + amount
        return True

    def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        """Both counts, each with the seconds until it is forgotten."""
        _, previous, current, left_s = self._counts(key, expiry)
        return previous, left_s, current, left_s + expiry

    def clear_sliding_window(self, key: str, expiry: int) -> None:
        """Forget one."""
        self.forget()
        self._connection.execute("DELETE FROM rate WHERE key = ? AND window_s = ?", (key, expiry))

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Take `amount`, however little is left."""
        number, previous, current, _ = self._counts(key, expiry)
        self._changed[key, expiry] = number, previous, current + amount
        return current + amount

    def give_back(self, key: str, expiry: int, amount: int, at_s: float) -> None:
        """Take `amount` off the window in which `at_s` was; nothing, if that does not count any more."""
        number, previous, current, _ = self._counts(key, expiry)
        match number - int(at_s // expiry):
            case 0:
                current = max(0, current - amount)
            case 1:
                previous = max(0, previous - amount)
        self._changed[key, expiry] = number, previous, current

    def get(self, key: str) -> int:
        """Units in the current windows of this key."""
        self.read((key,))
        return sum(self._counts(*place)[2] for place in self._rows if place[0] == key)

    def get_expiry(self, key: str) -> float:
        """When the last of its windows ends."""
        rows = self._connection.execute("SELECT (number + 1) * window_s FROM rate WHERE key = ?", (key,))
        return max((float(end_s) for (end_s,) in rows), default=self.now_s)

    def check(self) -> bool:
        """Whether the table is there."""
        return self._connection.execute("SELECT count(*) FROM rate").fetchone() is not None

    def reset(self) -> int:
        """Forget all."""
        self.forget()
        return self._connection.execute("DELETE FROM rate").rowcount

    def clear(self, key: str) -> None:
        """Forget all windows of a key."""
        self.forget()
        self._connection.execute("DELETE FROM rate WHERE key = ?", (key,))

    def prune(self) -> None:
        """Forget what counts no more."""
        self.forget()
        self._connection.execute("DELETE FROM rate WHERE (number + 2) * window_s <= ?", (self.now_s,))

    def _counts(self, key: str, expiry: int) -> tuple[int, int, int, float]:
        """Number of the window, units in the one before and in this one, seconds until it ends."""
        number, spent_s = divmod(self.now_s, expiry)
        row = self._changed.get((key, expiry)) or self._rows.get((key, expiry))
        if row is None:
            return int(number), 0, 0, expiry - spent_s
        found, previous, current = row
        match int(number) - found:
            case 0:
                return found, previous, current, expiry - spent_s
            case 1:
                return found + 1, current, 0, expiry - spent_s
            case -1:  # the clock was put back a little: nothing of that window has passed
                return found, previous, current, float(expiry)
        return int(number), 0, 0, expiry - spent_s


def parts(of: Sequence[T]) -> Iterator[Sequence[T]]:
    """The same, in pieces that one statement can hold: one with many values is done sooner than many with one."""
    return (of[at : at + _MOST_VALUES] for at in range(0, len(of), _MOST_VALUES))


@lru_cache(maxsize=_MOST_VALUES)
def _kept(count: int) -> str:
    marks = ",".join(["(?,?,?,?,?)"] * count)
    return f"INSERT OR REPLACE INTO rate (key, window_s, number, previous, current) VALUES {marks}"  # noqa: S608 - question marks


@lru_cache(maxsize=_MOST_VALUES)
def _found(count: int) -> str:
    marks = ",".join("?" * count)
    return f"SELECT key, window_s, number, previous, current FROM rate WHERE key IN ({marks})"  # noqa: S608 - question marks
