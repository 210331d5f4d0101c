"""Writes a row for each call, a moment after it.

Calls are answered without it as well: whatever goes wrong with the disk is said once, rows are lost, and later it is
tried again. SQLite has a thread of its own, so nothing here ever stops the event loop. Several daemons may write to
one file.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from ollama_bridge import sqlitefile
from ollama_bridge.ledger.table import INSERT, SCHEMA, VERSION, Row, row_of
from ollama_bridge.record import CallRecord
from ollama_bridge.sqlitefile import Limits
from ollama_bridge.store.lane import Lane

if TYPE_CHECKING:
    import sqlite3

log = structlog.get_logger(__name__)

BATCH_S: Final = 0.5
"""Seconds that rows wait for others to be written with: what a killed daemon loses."""

PAUSE_S: Final = 60.0
"""Seconds without trying, once the file could not be written."""

MOST_WAITING: Final = 20_000
"""Rows that wait for a slow disk; more are lost."""

_BUSY_S: Final = 2.0  # another daemon writes to the same file for milliseconds at most
_CLOSE_S: Final = 3.0  # at the end, to find the file not busy; before, its rows go with the next batch
_AGAIN_S: Final = 0.05
_PRUNED_ROWS: Final = 500  # at a time: a tenth of a megabyte, so that the next batches find room
_DELETE_OLDEST: Final = "DELETE FROM call WHERE id IN (SELECT id FROM call ORDER BY time, id LIMIT ?)"


class Ledger:
    """An observer of calls (`policies.meter.Observer`) that keeps a row of each.

    Args:
        path: Of the SQLite file; it and its folder are made when they are first needed, readable by nobody else.
        limits: How much to keep; the oldest rows go first, by the time of the call.
        clock_s: Seconds since the epoch.
        monotonic_s: Monotonic seconds.
    """

    def __init__(
        self,
        path: Path,
        limits: Limits,
        *,
        clock_s: Callable[[], float] = time.time,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path
        self.limits = limits
        self._clock_s = clock_s
        self._monotonic_s = monotonic_s
        self._waiting: deque[Row] = deque()
        self._lost = 0
        self._pause_until_s = 0.0
        self._lane = Lane("ledger")
        self._closing = threading.Event()
        self._connection: sqlite3.Connection | None = None

    def __call__(self, record: CallRecord) -> None:
        """Keep what the call came to; it is on disk a moment later."""
        if len(self._waiting) >= MOST_WAITING:
            self._lose(1, "the disk is too slow")
            return
        self._waiting.append(row_of(record))
        if len(self._waiting) == 1:  # else somebody is on the way, who takes this along
            self._lane.put(self._flush)

    async def aclose(self) -> None:
        """Write what is still to be written, and close the file; nothing is kept afterwards."""
        self._closing.set()
        self._lane.put(self._close)
        await self._lane.end()

    def _lose(self, count: int, fault: str) -> None:
        if not self._lost:
            log.warning(
                "the ledger cannot be written; calls are missing in it", file=str(self.path), error=fault
            )
        self._lost += count

    # What follows runs in the ledger's thread.

    def _flush(self) -> None:
        self._closing.wait(BATCH_S)
        rows: list[Row] = []
        while self._waiting:  # until there are none: who puts one behind others relies on us to see it
            rows.append(self._waiting.popleft())
        if not rows:
            return
        if self._monotonic_s() < self._pause_until_s:
            self._lose(len(rows), "")
            return
        try:
            self._write(rows)
        except Exception as exc:  # noqa: BLE001 - whatever it is, it is no reason to stop counting
            if sqlitefile.is_busy(exc):
                self._waiting.extendleft(reversed(rows))
                if not self._closing.is_set():
                    self._lane.put(self._flush)
                return
            self._lose(len(rows), str(exc))
            self._pause_until_s = self._monotonic_s() + PAUSE_S
            self._disconnect()  # the file may be another one by then
        else:
            if self._lost:
                log.info("the ledger is written again", lost=self._lost)
            self._lost = 0

    def _close(self) -> None:
        until_s = self._monotonic_s() + _CLOSE_S
        self._flush()
        while self._waiting and self._monotonic_s() < until_s:
            time.sleep(_AGAIN_S)
            self._flush()
        if self._waiting:
            self._lose(len(self._waiting), "another program is busy with the file")
        self._disconnect()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):  # a file that could not be used need not close either
                connection.close()

    def _write(self, rows: Sequence[Row]) -> None:
        """All of it or, after an exception, nothing; then as much is deleted as the limits say."""
        if self._connection is None:
            self._connection = sqlitefile.opened(
                self.path, SCHEMA, version=VERSION, busy_s=_BUSY_S, pragmas=sqlitefile.SHRINKING
            )
        with sqlitefile.transaction(self._connection) as connection:
            connection.executemany(INSERT, rows)
            connection.execute("DELETE FROM call WHERE time < ?", (self._clock_s() - self.limits.age_s,))
            while sqlitefile.live_bytes(connection) > self.limits.size_bytes:
                if not connection.execute(_DELETE_OLDEST, (_PRUNED_ROWS,)).rowcount:
                    break
