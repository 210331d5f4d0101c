"""A bounded store of bytes under hashed keys: in memory at once, on disk a moment later, there after a restart.

What it holds can be done without: whatever goes wrong with the disk is said once, and memory serves on.
SQLite has a thread of its own, so nothing here ever stops the event loop, and opening the file waits until
something is asked of it.
"""

import asyncio
import os
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import structlog

if TYPE_CHECKING:
    import sqlite3

log = structlog.get_logger(__name__)

Result = TypeVar("Result")

MEMORY_BYTES: Final = 16 * 1024 * 1024
"""What memory holds in front of the disk: the conversations of the last minutes."""

LOOKUP_S: Final = 0.5
"""Seconds that a disk may take to answer; an answer is not held up for longer."""

_BUSY_S: Final = 2.0  # another daemon writes to the same file for milliseconds at most
_TRIES: Final = 5  # switching a new file to WAL does not wait for the other daemon that does the same
_AGAIN_S: Final = 0.05
_MOST_KEYS: Final = 500  # in one statement
_TOUCH_S: Final = 3600.0  # how old the note of the last use may be: reading should not mean writing
_ENTRY_BYTES: Final = 200  # what an entry costs beside its value, roughly
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS vault (id INTEGER PRIMARY KEY, value BLOB NOT NULL, used REAL NOT NULL);
CREATE TABLE IF NOT EXISTS vault_key (
    key BLOB PRIMARY KEY, id INTEGER NOT NULL REFERENCES vault (id) ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS vault_used ON vault (used);
CREATE INDEX IF NOT EXISTS vault_key_id ON vault_key (id);
"""


_FIND: Final = "SELECT key, vault.id, value, used FROM vault_key JOIN vault ON vault.id = vault_key.id"


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is kept.

    Args:
        size_bytes: On disk, all in all; what was used longest ago goes first.
        age_s: Seconds since the last use after which it is gone.
    """

    size_bytes: int
    age_s: float


@dataclass(slots=True)
class _Entry:
    """`value` is empty where the disk is known to have nothing; `noted_s`: the use that the disk knows of."""

    value: bytes
    noted_s: float


@dataclass(frozen=True, slots=True)
class _Write:
    """Set `value` under `keys`; empty: forget them; None: they were used."""

    keys: tuple[bytes, ...]
    value: bytes | None
    used_s: float


class Vault:
    """Values under keys.

    Several daemons may share one file. What one has looked for in vain it does not look for again, though another
    may have put it there meanwhile; unless it is told that there are others.

    Args:
        path: Of the SQLite file; it and its folder are made when they are first needed, readable by nobody else.
        limits: How much to keep.
        memory_bytes: How much of it to keep in memory.
        shared: Whether other processes answer the same clients.
        clock_s: Seconds since the epoch.
    """

    def __init__(
        self,
        path: Path,
        limits: Limits,
        *,
        memory_bytes: int = MEMORY_BYTES,
        shared: bool = False,
        clock_s: Callable[[], float] = time.time,
    ) -> None:
        self.path = path
        self.limits = limits
        self._memory = _Memory(memory_bytes)
        self._shared = shared
        self._clock_s = clock_s
        self._disk = _Disk(path, limits)
        self._uses_disk = True
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="vault")
        self._waiting: deque[_Write] = deque()

    def put(self, keys: Sequence[bytes], value: bytes) -> None:
        """Keep one value under several keys; found from now on, and on disk a moment later.

        A value that is too large a part of what the vault may hold is not kept.
        """
        if keys and value and len(value) <= self.limits.size_bytes // 4:
            self._write(tuple(dict.fromkeys(keys)), value)

    def forget(self, keys: Sequence[bytes]) -> None:
        """Find these keys no more."""
        if keys:
            self._write(tuple(dict.fromkeys(keys)), b"")

    async def find(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The values of those keys that have one: from memory, the rest by one query."""
        now_s = self._clock_s()
        oldest_s = now_s - self.limits.age_s
        found: dict[bytes, bytes] = {}
        missing: list[bytes] = []
        stale: list[bytes] = []
        for key in keys:
            entry = self._memory.get(key)
            if entry is None or (entry.value and entry.noted_s < oldest_s):
                missing.append(key)
            elif entry.value:
                found[key] = entry.value
                if entry.noted_s < now_s - _TOUCH_S:
                    entry.noted_s = now_s
                    stale.append(key)
        if missing and self._uses_disk:
            for key, entry in (await self._read(missing, oldest_s)).items():
                found[key] = entry.value
                if entry.noted_s < now_s - _TOUCH_S:
                    entry.noted_s = now_s
                    stale.append(key)
        if stale:
            self._queue(_Write(tuple(stale), None, now_s))
        return found

    async def aclose(self) -> None:
        """Write what is still to be written, and close the file."""
        self._uses_disk = False
        self._thread.submit(self._close)
        await asyncio.to_thread(self._thread.shutdown)

    def _write(self, keys: tuple[bytes, ...], value: bytes) -> None:
        now_s = self._clock_s()
        for key in keys:
            self._memory.put(key, _Entry(value, now_s))
        self._queue(_Write(keys, value, now_s))

    def _queue(self, write: _Write) -> None:
        if not self._uses_disk:
            return
        self._waiting.append(write)
        if len(self._waiting) == 1:  # else somebody is on the way, who takes this along
            self._thread.submit(self._flush)

    async def _read(self, keys: list[bytes], oldest_s: float) -> dict[bytes, _Entry]:
        reading = asyncio.get_running_loop().run_in_executor(self._thread, self._fetch, keys, oldest_s)
        try:
            async with asyncio.timeout(LOOKUP_S):
                found = await reading
        except TimeoutError:
            return {}
        for key in found if self._shared else keys:
            # What somebody has put meanwhile is newer.
            if self._memory.get(key) is None:
                self._memory.put(key, found.get(key) or _Entry(b"", 0.0))
        return found

    # What follows runs in the vault's thread.

    def _fetch(self, keys: list[bytes], oldest_s: float) -> dict[bytes, _Entry]:
        return self._tried(lambda: self._disk.read(keys, oldest_s)) or {}

    def _flush(self) -> None:
        writes: list[_Write] = []
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
                code = getattr(exc, "sqlite_errorcode", 0) & 0xFF
                if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED} and attempt < _TRIES:
                    time.sleep(_AGAIN_S)
                    continue
                if self._uses_disk:
                    log.warning(
                        "the reasoning of earlier turns is kept in memory only",
                        file=str(self.path),
                        error=str(exc),
                    )
                self._uses_disk = False
                break
        return None


class _Memory:
    """The entries used last, of so many bytes."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._bytes = 0

    def get(self, key: bytes) -> _Entry | None:
        """The entry, which thereby is the one used last."""
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        return entry

    def put(self, key: bytes, entry: _Entry) -> None:
        """Add or replace one; those used longest ago make room."""
        if before := self._entries.pop(key, None):
            self._bytes -= len(before.value) + _ENTRY_BYTES
        self._entries[key] = entry
        self._bytes += len(entry.value) + _ENTRY_BYTES
        while self._bytes > self._most_bytes:
            _, gone = self._entries.popitem(last=False)
            self._bytes -= len(gone.value) + _ENTRY_BYTES


class _Disk:
    """The file. Raises what SQLite and the file system raise; of use in one thread only."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self._path = path
        self._limits = limits
        self._connection: sqlite3.Connection | None = None

    def read(self, keys: list[bytes], oldest_s: float) -> dict[bytes, _Entry]:
        """What there is under these keys, unless it was last used before `oldest_s`."""
        connection = self._opened()
        found: dict[bytes, _Entry] = {}
        same: dict[int, bytes] = {}  # the value that several keys share is one object
        for some in _some(keys):
            query = f"{_FIND} WHERE key IN ({_marks(some)}) AND used >= ?"
            for key, number, value, used_s in connection.execute(query, (*some, oldest_s)):
                found[key] = _Entry(same.setdefault(number, value), used_s)
        return found

    def write(self, writes: list[_Write], now_s: float) -> None:
        """All of it or, after an exception, nothing; then as much is deleted as the limits say."""
        with self._transaction() as connection:
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
        import sqlite3  # noqa: PLC0415 - as above

        folder = self._path.parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_mode & 0o077:
            folder.chmod(0o700)
        # SQLite gives the files beside it the same mode.
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600))
        connection = sqlite3.connect(
            self._path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
        )
        try:
            # A page that becomes free goes back to the file system, or the bound would be no bound.
            for pragma in ("auto_vacuum = FULL", "journal_mode = WAL", "synchronous = NORMAL"):
                connection.execute(f"PRAGMA {pragma}").fetchall()
            connection.execute(f"PRAGMA journal_size_limit = {1024 * 1024}").fetchall()
            connection.execute("PRAGMA foreign_keys = ON")
            connection.executescript(_SCHEMA)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    @contextmanager
    def _transaction(self) -> "Iterator[sqlite3.Connection]":
        connection = self._opened()
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _prune(self, connection: "sqlite3.Connection", now_s: float) -> None:
        connection.execute("DELETE FROM vault WHERE used < ?", (now_s - self._limits.age_s,))
        while self._live_bytes(connection) > self._limits.size_bytes:
            oldest = "SELECT id FROM vault ORDER BY used, id LIMIT 1"
            if not connection.execute(f"DELETE FROM vault WHERE id = ({oldest})").rowcount:  # noqa: S608
                break

    @staticmethod
    def _live_bytes(connection: "sqlite3.Connection") -> int:
        pages, free, size = (
            int(connection.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * size


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
