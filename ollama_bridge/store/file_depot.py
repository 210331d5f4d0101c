"""A vault's depot on this machine: an SQLite file, in a thread of its own.

Several daemons may share one file. What one has looked for in vain it does not look for again, though another may
have put it there meanwhile.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import structlog

from ollama_bridge import sqlitefile
from ollama_bridge.sqlitefile import Limits
from ollama_bridge.store.lane import Lane
from ollama_bridge.vault import Entry, Write

if TYPE_CHECKING:
    import sqlite3

log = structlog.get_logger(__name__)

Result = TypeVar("Result")

LOOKUP_S: Final = 0.5
"""Seconds that a disk may take to answer; an answer is not held up for longer."""

_BUSY_S: Final = 2.0  # another daemon writes to the same file for milliseconds at most
_TRIES: Final = 5  # switching a new file to WAL does not wait for the other daemon that does the same
_AGAIN_S: Final = 0.05
_MOST_KEYS: Final = 500  # in one statement
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS vault (id INTEGER PRIMARY KEY, value BLOB NOT NULL, used REAL NOT NULL);
CREATE TABLE IF NOT EXISTS vault_key (
    key BLOB PRIMARY KEY, id INTEGER NOT NULL REFERENCES vault (id) ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS vault_used ON vault (used);
CREATE INDEX IF NOT EXISTS vault_key_id ON vault_key (id);
"""
_FIND: Final = "SELECT key, vault.id, value, used FROM vault_key JOIN vault ON vault.id = vault_key.id"


class FileDepot:
    """An SQLite file.

    Args:
        path: It and its folder are made when they are first needed, readable by nobody else.
        limits: How much to keep.
        holds: What is kept, for the warning that it no longer is: `the reasoning of earlier turns`.
        clock_s: Seconds since the epoch.
    """

    def __init__(
        self,
        path: Path,
        limits: Limits,
        *,
        holds: str,
        siblings: bool = False,
        clock_s: Callable[[], float] = time.time,
    ) -> None:
        self.place = path
        self.misses_last = not siblings
        self._holds = holds
        self._clock_s = clock_s
        self._disk = _Disk(path, limits)
        self._is_of_use = True
        self._lane = Lane("vault")
        self._waiting: deque[Write] = deque()

    async def read(self, keys: list[bytes], oldest_s: float) -> dict[bytes, Entry] | None:
        """As `Depot` says; it comes behind all that waits to be written."""
        if not self._is_of_use:
            return None
        try:
            async with asyncio.timeout(LOOKUP_S):
                return await self._lane.do(lambda: self._fetch(keys, oldest_s))
        except TimeoutError:
            return None

    def write(self, write: Write) -> None:
        """As `Depot` says."""
        if not self._is_of_use:
            return
        self._waiting.append(write)
        if len(self._waiting) == 1:  # else somebody is on the way, who takes this along
            self._lane.put(self._flush)

    async def aclose(self) -> None:
        """As `Depot` says."""
        self._is_of_use = False
        self._lane.put(self._close)
        await self._lane.end()

    # What follows runs in the depot's thread.

    def _fetch(self, keys: list[bytes], oldest_s: float) -> dict[bytes, Entry] | None:
        return self._tried(lambda: self._disk.read(keys, oldest_s))

    def _flush(self) -> None:
        writes: list[Write] = []
        while self._waiting:  # until there are none: who puts one behind others relies on us to see it
            writes.append(self._waiting.popleft())
        if writes:
            self._tried(lambda: self._disk.write(writes, self._clock_s()))

    def _close(self) -> None:
        self._flush()
        with suppress(Exception):  # a file that could not be used need not close either
            self._disk.close()

    def _tried(self, work: Callable[[], Result]) -> Result | None:
        """What `work` returns; None when the disk is of no use, which is said the first time."""
        import sqlite3  # noqa: PLC0415 - a daemon that is asked nothing does not load it

        for attempt in range(1, _TRIES + 1):
            try:
                return work()
            except (sqlite3.Error, OSError) as exc:
                if sqlitefile.is_busy(exc) and attempt < _TRIES:
                    time.sleep(_AGAIN_S)
                    continue
                if self._is_of_use:
                    log.warning("kept in memory only", what=self._holds, file=str(self.place), error=str(exc))
                self._is_of_use = False
                break
        return None


class _Disk:
    """The file. Raises what SQLite and the file system raise; of use in one thread only."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self._path = path
        self._limits = limits
        self._connection: sqlite3.Connection | None = None

    def read(self, keys: list[bytes], oldest_s: float) -> dict[bytes, Entry]:
        """What there is under these keys, unless it was last used before `oldest_s`."""
        connection = self._opened()
        found: dict[bytes, Entry] = {}
        same: dict[int, bytes] = {}  # the value that several keys share is one object
        for some in _some(keys):
            query = f"{_FIND} WHERE key IN ({_marks(some)}) AND used >= ?"
            for key, number, value, used_s in connection.execute(query, (*some, oldest_s)):
                found[key] = Entry(same.setdefault(number, value), used_s)
        return found

    def write(self, writes: list[Write], now_s: float) -> None:
        """All of it or, after an exception, nothing; then as much is deleted as the limits say."""
        with sqlitefile.transaction(self._opened()) as connection:
            for write in writes:
                for some in _some(write.keys):
                    if write.value is None:
                        _touch(connection, some, write.used_s)
                    else:
                        _remove(connection, some)
                if write.value:
                    added = connection.execute(
                        "INSERT INTO vault (value, used) VALUES (?, ?)", (write.value, write.used_s)
                    )
                    connection.executemany(
                        "INSERT INTO vault_key (key, id) VALUES (?, ?)",
                        [(key, added.lastrowid) for key in write.keys],
                    )
            self._prune(connection, now_s)

    def close(self) -> None:
        """Close the file, if it was ever opened."""
        if self._connection is not None:
            self._connection.close()

    def _opened(self) -> "sqlite3.Connection":
        if self._connection is not None:
            return self._connection
        # A page that becomes free goes back to the file system, or the bound would be no bound.
        self._connection = sqlitefile.opened(
            self._path, _SCHEMA, busy_s=_BUSY_S, pragmas=sqlitefile.SHRINKING
        )
        return self._connection

    def _prune(self, connection: "sqlite3.Connection", now_s: float) -> None:
        connection.execute("DELETE FROM vault WHERE used < ?", (now_s - self._limits.age_s,))
        while sqlitefile.live_bytes(connection) > self._limits.size_bytes:
            oldest = "SELECT id FROM vault ORDER BY used, id LIMIT 1"
            if not connection.execute(f"DELETE FROM vault WHERE id = ({oldest})").rowcount:  # noqa: S608
                break


def _touch(connection: "sqlite3.Connection", keys: Sequence[bytes], used_s: float) -> None:
    found = f"SELECT id FROM vault_key WHERE key IN ({_marks(keys)})"  # noqa: S608 - question marks only
    connection.execute(f"UPDATE vault SET used = max(used, ?) WHERE id IN ({found})", (used_s, *keys))  # noqa: S608


def _remove(connection: "sqlite3.Connection", keys: Sequence[bytes]) -> None:
    """Delete keys, and the values that no key leads to any more."""
    rows = connection.execute(f"DELETE FROM vault_key WHERE key IN ({_marks(keys)}) RETURNING id", keys)  # noqa: S608
    for number in {row[0] for row in rows.fetchall()}:
        connection.execute(
            "DELETE FROM vault WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM vault_key WHERE id = ?1)",
            (number,),
        )


def _some(keys: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    for at in range(0, len(keys), _MOST_KEYS):
        yield keys[at : at + _MOST_KEYS]


def _marks(keys: Sequence[bytes]) -> str:
    return ",".join("?" * len(keys))
