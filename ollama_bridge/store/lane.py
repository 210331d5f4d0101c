"""A thread of its own for what may wait for a disk: one thing after the other, in the order of the calls.

From the event loop there and back takes a third of what an executor takes, which makes a future with a lock, and then
another one.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Generic, TypeVar

import structlog

T = TypeVar("T")

log = structlog.get_logger(__name__)


class Errand(Generic[T]):
    """Something to be done in a lane.

    Args:
        work: What.
    """

    __slots__ = ("_done", "_loop", "_work", "failure", "is_dropped", "result")

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[None] = self._loop.create_future()
        self.is_dropped = False
        """Whether it need not be done any more, if it was not begun."""
        self.result: T | None = None
        self.failure: BaseException | None = None

    def __call__(self) -> None:
        """Do it: in the lane's thread."""
        if self.is_dropped:
            return
        try:
            self.result = self._work()
        except BaseException as exc:  # noqa: BLE001 - it is raised where it is waited for
            self.failure = exc
        with suppress(RuntimeError):  # the loop was closed: nobody waits
            self._loop.call_soon_threadsafe(self._tell)

    async def done(self) -> T:
        """What comes of it."""
        try:
            await self._done
        except asyncio.CancelledError:
            self.is_dropped = True
            raise
        if self.failure is not None:
            raise self.failure
        return self.result  # type: ignore[return-value]  # it is done, and so there is one

    def _tell(self) -> None:
        if not self._done.done():
            self._done.set_result(None)


class Lane:
    """The thread, which begins with the first thing to do.

    Args:
        name: Of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._has_ended = False

    def put(self, job: Callable[[], object]) -> None:
        """Do it; if it raises, that is logged.

        Raises:
            RuntimeError: The lane has ended.
        """
        if self._has_ended:
            raise RuntimeError("it is closed")
        if self._thread is None:
            # A daemon: who forgets to end it must not keep the process from ending.
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        self._jobs.put(job)

    async def do(self, work: Callable[[], T]) -> T:
        """Do it, and hand back what comes of it; who is cancelled does not learn whether it was done.

        Raises:
            RuntimeError: The lane has ended.
        """
        errand = Errand(work)
        self.put(errand)
        return await errand.done()

    async def end(self) -> None:
        """Do what is still to be done; nothing is taken any more."""
        if not self._has_ended:
            self._has_ended = True
            self._jobs.put(None)
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except Exception:  # a bug, and what comes behind it is to be done all the same
                log.exception("something beside the event loop failed", lane=self._name)
            del job  # it may hold a whole answer, and the next may be long in coming
