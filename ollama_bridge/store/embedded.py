"""The store in a file: shared by the workers of one machine, there after a restart.

Every take is one transaction, so several processes may take at once. SQLite has a thread of its own. A file that
cannot be used is said once and left as it is; this process then counts in memory, from what can still be read of it.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import structlog

from ollama_bridge import sqlitefile
from ollama_bridge.store.arithmetic import Settlement, negative
from ollama_bridge.store.lane import Errand, Lane
from ollama_bridge.store.shelf import Granted, Purse, Rate, Refused

if TYPE_CHECKING:
    from ollama_bridge.store.tables import Tables

log = structlog.get_logger(__name__)

Result = TypeVar("Result")

BUSY_S: Final = 5.0
"""Seconds to wait for other workers, who take a tenth of a millisecond each."""

SETTLE_S: Final = 0.005
"""Seconds that a settlement waits for a take to go along with: two transactions cost nearly twice as much as one."""

_AGAIN_S: Final = 0.002  # at most, until the next look whether they are done


class EmbeddedStore:
    """A `Store` in one SQLite file.

    Args:
        path: Of the file; it and its folder are made when they are first needed, readable by nobody else.
        clock_s: Seconds since the epoch.
    """

    def __init__(self, path: Path, clock_s: Callable[[], float] = time.time) -> None:
        self.path = path
        self._clock_s = clock_s
        self._tables: Tables | None = None
        self._in_memory = False
        self._waiting: deque[Settlement] = deque()
        self._flushing: asyncio.TimerHandle | None = None
        self._lane = Lane("store")
        self._closed = False

    async def take(
        self, rates: Sequence[Rate], purses: Sequence[Purse], *, wanted: int = 0, least: int = 0
    ) -> Granted | Refused:
        """See `Store.take`."""
        taking = Errand(lambda: self._take(rates, purses, wanted, least))
        self._lane.put(taking)
        try:
            return await taking.done()
        except asyncio.CancelledError:
            with suppress(RuntimeError):  # closed: what nobody gives back stays taken
                self._lane.put(lambda: self._give_back(rates, purses, taking.result))
            raise

    def settle(self, granted: Granted, rates: Sequence[Rate], purses: Sequence[Purse], amount: int) -> None:
        """See `Store.settle`."""
        self._waiting.append(Settlement(granted, rates, purses, amount))
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_later(SETTLE_S, self._submit_flush)

    async def spent(self, purses: Sequence[Purse]) -> tuple[int, ...]:
        """See `Store.spent`."""
        return await self._done(lambda tables: tables.spent(purses))

    async def get(self, key: str) -> bytes | None:
        """See `Store.get`."""
        return await self._done(lambda tables: tables.get(key))

    async def put(self, key: str, value: bytes, *, ttl_s: float) -> None:
        """See `Store.put`."""
        await self._done(lambda tables: tables.put(key, value, ttl_s))

    async def claim(self, key: str, *, ttl_s: float) -> bool:
        """See `Store.claim`."""
        return await self._done(lambda tables: tables.claim(key, ttl_s))

    async def aclose(self) -> None:
        """Write what is still to be written, and close the file."""
        if not self._closed:
            self._closed = True
            if self._flushing is not None:
                self._flushing.cancel()
            self._lane.put(self._close)
        await self._lane.end()

    async def _done(self, work: "Callable[[Tables], Result]") -> Result:
        def after_what_waits() -> Result:
            self._flush()
            return self._worked(work)

        return await self._lane.do(after_what_waits)

    def _submit_flush(self) -> None:
        self._flushing = None
        if self._waiting:
            with suppress(RuntimeError):  # closed: what nobody has settled stays taken
                self._lane.put(self._flush)

    # What follows runs in the store's thread.

    def _take(
        self, rates: Sequence[Rate], purses: Sequence[Purse], wanted: int, least: int
    ) -> Granted | Refused:
        settlements = self._settlements()
        return self._worked(lambda tables: tables.take(rates, purses, wanted, least, settlements))

    def _give_back(
        self, rates: Sequence[Rate], purses: Sequence[Purse], taken: Granted | Refused | None
    ) -> None:
        """Whoever took this is gone."""
        if isinstance(taken, Granted):
            self._waiting.append(Settlement(taken, negative(rates), purses, -taken.amount))
            self._flush()

    def _settlements(self) -> list[Settlement]:
        settlements: list[Settlement] = []
        while self._waiting:
            settlements.append(self._waiting.popleft())
        return settlements

    def _flush(self) -> None:
        if settlements := self._settlements():
            self._worked(lambda tables: tables.settle(settlements))

    def _close(self) -> None:
        self._flush()
        if self._tables is not None:
            with suppress(Exception):  # a file that could not be used need not close either
                self._tables.connection.close()

    def _worked(self, work: "Callable[[Tables], Result]") -> Result:
        """What `work` returns, done whole or not at all; if not in the file, then in memory."""
        import sqlite3  # noqa: PLC0415 - a daemon that is asked nothing does not load it

        until_s = time.monotonic() + BUSY_S
        while True:
            try:
                return self._opened().whole(work)
            except (sqlite3.Error, OSError) as exc:
                if sqlitefile.is_busy(exc) and time.monotonic() < until_s:
                    time.sleep(random.uniform(0, _AGAIN_S))  # noqa: S311 - so that two do not meet again and again
                elif self._in_memory:
                    raise
                else:
                    self._go_to_memory(exc)

    def _opened(self) -> "Tables":
        import sqlite3  # noqa: PLC0415 - as above

        from ollama_bridge.store import tables  # noqa: PLC0415 - a tenth of a second

        if self._tables is None:
            connection = sqlitefile.opened(self.path, tables.SCHEMA, version=tables.VERSION)
            # The file is small, and what is wrong with it is better said before something is counted by it.
            if (said := connection.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
                connection.close()
                raise sqlite3.DatabaseError(said)
            self._tables = tables.Tables(connection, self._clock_s)
        return self._tables

    def _go_to_memory(self, why: Exception) -> None:
        import sqlite3  # noqa: PLC0415 - as above

        from ollama_bridge.store import tables  # noqa: PLC0415 - as above

        memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        memory.executescript(tables.SCHEMA)
        before, self._tables = self._tables, tables.Tables(memory, self._clock_s)
        self._in_memory = True
        log.warning(
            "limits and budgets are counted in memory, by this process alone",
            file=str(self.path),
            error=str(why),
            known="what the file says so far" if self._copied(before) else "nothing from before",
            remedy="make the file and its folder writable, or move it away, and start again",
        )

    def _copied(self, before: "Tables | None") -> bool:
        """Whether what was counted so far could be read."""
        import sqlite3  # noqa: PLC0415 - as above

        if self._tables is None:
            return False
        if before is not None:
            with suppress(sqlite3.Error), closing(before.connection):
                self._tables.copy_from(before.connection)
                return True
        # The second way reads a file beside which SQLite may not make those that it needs to read it with others.
        for how in ("mode=ro", "mode=ro&immutable=1"):
            with suppress(sqlite3.Error, OSError):
                address = f"{self.path.absolute().as_uri()}?{how}"
                with closing(sqlite3.connect(address, uri=True)) as connection:
                    self._tables.copy_from(connection)
                    return True
        return False
