"""A SQLite file of our own in the state folder: how it is opened, and how something is done to it whole or not at all.

All of this may wait for a disk, and belongs into a thread.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import sqlite3

SHRINKING: Final = ("auto_vacuum = FULL",)
"""Pragmas of a file with a bound: a page that becomes free goes back to the file system."""

_JOURNAL_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is kept in a file.

    Args:
        size_bytes: On disk, all in all; what is oldest, or was used longest ago, goes first.
        age_s: Seconds after which it is gone.
    """

    size_bytes: int
    age_s: float


def opened(
    path: Path, schema: str, *, version: int = 0, busy_s: float = 0.0, pragmas: Sequence[str] = ()
) -> "sqlite3.Connection":
    """Open it; it and its folder are made when missing, readable by nobody else.

    Args:
        path: Of the file.
        schema: Statements that may find what they create.
        version: Of the schema, which then only an empty file is given, and a file that has another one is refused;
            0: any file has it added.
        busy_s: Seconds to wait for others who write.
        pragmas: To set before anything is written.

    Raises:
        OSError: The file cannot be made, or not be written.
        sqlite3.Error: It is no database, or not this one; nothing was changed in it. Or somebody else is busy with it.
    """
    import sqlite3  # noqa: PLC0415 - a daemon that is asked nothing does not load it

    folder = path.parent
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_mode & 0o077:
        folder.chmod(0o700)
    # SQLite gives the files beside it the same mode.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600))
    connection = sqlite3.connect(path, timeout=busy_s, isolation_level=None, check_same_thread=False)
    try:
        is_new = not version or _is_new(connection, version)
        for pragma in (*pragmas, "journal_mode = WAL", "synchronous = NORMAL"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        connection.execute(f"PRAGMA journal_size_limit = {_JOURNAL_BYTES}").fetchall()
        connection.execute("PRAGMA foreign_keys = ON")
        if is_new:
            connection.executescript(f"BEGIN IMMEDIATE; {schema}; PRAGMA user_version = {version}; COMMIT;")
    except BaseException:
        connection.close()
        raise
    return connection


def live_bytes(connection: "sqlite3.Connection") -> int:
    """How large a shrinking file will be, once what is under way is done."""
    pages, free, size = (
        int(connection.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size


@contextmanager
def transaction(connection: "sqlite3.Connection") -> "Iterator[sqlite3.Connection]":
    """All of it or, after an exception, nothing; nobody else writes meanwhile."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def is_busy(exc: Exception) -> bool:
    """Whether it failed only because somebody else is at it."""
    import sqlite3  # noqa: PLC0415 - as above

    code = getattr(exc, "sqlite_errorcode", 0) & 0xFF
    return code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def _is_new(connection: "sqlite3.Connection", version: int) -> bool:
    import sqlite3  # noqa: PLC0415 - as above

    connection.execute("BEGIN")  # both at one moment: another daemon may be making it
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    connection.execute("COMMIT")
    if found == version:
        return False
    if found or tables:
        raise sqlite3.DatabaseError(f"made by another program, or another version of this one ({found})")
    return True
