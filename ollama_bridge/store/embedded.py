"""The store in a file: shared by the workers of one machine, there after a restart.

Every take is one transaction, so several processes may take at once. SQLite has a thread of its own. A file that
cannot be used is said once and left as it is; this process then counts in memory, from what can still be read of it.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import structlog

from ollama_bridge import sqlitefile
from ollama_bridge.store.arithmetic import negative
from ollama_bridge.store.shelf import Granted, Purse, Rate, Refused

if TYPE_CHECKING:
    from ollama_bridge.store.tables import Settlement, Tables

log = structlog.get_logger(__name__)

Result = TypeVar("Result")

BUSY_S: Final = 5.0
"""Seconds to wait for other workers, who take a tenth of a millisecond each."""

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
        self._closed = False
        self._waiting: deque[Settlement] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")

    async def take(
        self, rates: Sequence[Rate], purses: Sequence[Purse], *, wanted: int = 0, least: int = 0
    ) -> Granted | Refused:
        """See `Store.take`."""
        taking = self._thread.submit(self._take, rates, purses, wanted, least)
        try:
            return await asyncio.wrap_future(taking)
        except asyncio.CancelledError:
            taking.add_done_callback(partial(self._give_back, rates, purses))
            raise

    def settle(self, granted: Granted, rates: Sequence[Rate], purses: Sequence[Purse], amount: int) -> None:
        """See `Store.settle`."""
        from ollama_bridge.store.tables import Settlement  # noqa: PLC0415 - `take` has loaded it, in the thread

        self._waiting.append(Settlement(granted, rates, purses, amount))
        if len(self._waiting) == 1:  # else somebody is on the way, who takes this along
            self._submit_flush()

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
            self._thread.submit(self._close)
        await asyncio.to_thread(self._thread.shutdown)

    async def _done(self, work: "Callable[[Tables], Result]") -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._worked, work)

    def _submit_flush(self) -> None:
        with suppress(RuntimeError):  # closed: what nobody has settled stays taken
            self._thread.submit(self._flush)

    def _give_back(
        self, rates: Sequence[Rate], purses: Sequence[Purse], taken: "Future[Granted | Refused]"
    ) -> None:
        """Whoever took this is gone."""
        from ollama_bridge.store.tables import Settlement  # noqa: PLC0415 - as above

        if taken.cancelled() or taken.exception() or not isinstance(granted := taken.result(), Granted):
            return
        self._waiting.append(Settlement(granted, negative(rates), purses, -granted.amount))
        self._submit_flush()

    # What follows runs in the store's thread.

    def _take(
        self, rates: Sequence[Rate], purses: Sequence[Purse], wanted: int, least: int
    ) -> Granted | Refused:
        from ollama_bridge.store.tables import NotEnough  # noqa: PLC0415 - a tenth of a second

        try:
            return self._worked(lambda tables: tables.take(rates, purses, wanted, least))
        except NotEnough as exc:
            return exc.refused

    def _flush(self) -> None:
        settlements: list[Settlement] = []
        while self._waiting:  # until there are none: who puts one behind others relies on us to see it
            settlements.append(self._waiting.popleft())
        if settlements:
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
                tables = self._opened()
                with sqlitefile.transaction(tables.connection):
                    return work(tables)
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
