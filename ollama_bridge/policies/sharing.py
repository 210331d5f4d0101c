"""One call, read by several: each comes when it likes, reads at its own speed, and leaves when it likes.

The call runs in a task of its own, which ends when it is over or when the last reader has left. What it said stays
until then, so a slow reader stops nobody; memory holds no more than the one answer.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Generic, TypeVar

from ollama_bridge.errors import BridgeError
from ollama_bridge.record import CallRecord

T = TypeVar("T")


class SharedCall(Generic[T]):
    """A call under way.

    It has a record of its own, because any of its readers may leave, and be told to the ledger, before it ends. What
    it comes to moves to the record of one reader: of those who are there when the answer is whole, or when the last
    one gives it up, the one who came first. So every attempt is charged once, to somebody who is still to be told.

    Args:
        ask: Makes the call, whose attempts and charges are noted on that record.
        record: Of the first reader.
        is_last: Whether nothing more is said after this.
        ended: Told once, from when on nobody may join: all that was said, or None if it came to no end.
    """

    def __init__(
        self,
        ask: Callable[[CallRecord], AsyncGenerator[Sequence[T], None]],
        record: CallRecord,
        *,
        is_last: Callable[[T], bool],
        ended: Callable[[Sequence[T] | None], None],
    ) -> None:
        self._ask = ask
        self._record = replace(record, attempts=0, charges=[], told=None)
        self._is_last = is_last
        self._ended: Callable[[Sequence[T] | None], None] | None = ended
        self._readers: dict[int, CallRecord] = {}
        self._said: list[T] = []
        self._news = asyncio.Event()
        self._failure: BaseException | None = None
        self._is_over = False
        self._task = asyncio.create_task(self._run())

    async def read(self, record: CallRecord) -> AsyncGenerator[Sequence[T], None]:
        """All that is said, from the beginning; who has found this call reads at once, or it may be given up.

        Raises:
            BridgeError: As `ask`, for every reader an error of its own.
        """
        record.cached = "shared" if self._readers else ""
        self._readers[id(record)] = record
        at = 0
        try:
            while True:
                if burst := self._said[at:]:
                    at += len(burst)
                    yield burst
                elif self._is_over:
                    break
                else:
                    await self._news.wait()
            if self._failure is not None:
                # Each time it is raised it remembers where. A bug may not be made anew so easily.
                failure = self._failure
                raise (failure.anew() if isinstance(failure, BridgeError) else failure) from failure
        finally:
            await self._leave(record)

    async def _leave(self, record: CallRecord) -> None:
        try:
            if len(self._readers) == 1 and not self._is_over:
                self._end(None)
                self._task.cancel()
                await asyncio.wait({self._task})  # what it took so far is known when it has been closed
            elif self._ended is not None:
                record.cached = "shared"  # others go on with it, and pay for it
        finally:
            del self._readers[id(record)]
            self._tell_who_answers(record)

    async def _run(self) -> None:
        try:
            async with aclosing(self._ask(self._record)) as reply:
                async for burst in reply:
                    self._said += burst
                    if self._is_last(burst[-1]):
                        self._end(self._said)
                        self._charge()  # before anybody knows that the answer is whole
                    self._wake()
        except BaseException as exc:
            self._failure = exc
            if not isinstance(exc, Exception):
                raise
        finally:
            self._end(None)
            self._charge()
            self._is_over = True
            self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news.clear()

    def _end(self, said: Sequence[T] | None) -> None:
        if self._ended is not None:
            ended, self._ended = self._ended, None
            ended(said)

    def _charge(self) -> None:
        own = self._record
        for reader in self._readers.values():
            self._tell_who_answers(reader)
        payer = next(iter(self._readers.values()), None)
        if payer is not None and (own.attempts or own.charges):
            payer.attempts += own.attempts
            payer.charges += own.charges
            payer.cached = ""
            own.attempts, own.charges = 0, []

    def _tell_who_answers(self, record: CallRecord) -> None:
        own = self._record
        record.model, record.provider, record.target = own.model, own.provider, own.target
