"""Advance an awaitable as far as it goes without waiting.

A burst from a provider arrives as one read of many events: the next event is then ready at once. Who
knows that can skip work that only matters when something really waits: arming a timeout, or flushing
what was written so far.  The event loop offers no such question, a coroutine does: its first `send`
either returns a value or says what it waits for.
"""

from collections.abc import Awaitable, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Step(Generic[T]):
    """One awaitable, started.

    If `ready`, `value` holds its result and nothing waits. Otherwise `await step` finishes it, and must:
    an abandoned step leaves an async generator "already running".  An exception that the first step
    raises comes out of the constructor.
    """

    __slots__ = ("_coroutine", "_waits_on", "ready", "value")

    def __init__(self, awaitable: Awaitable[T]) -> None:
        self._coroutine = awaitable.__await__()
        try:
            self._waits_on = next(self._coroutine)
            self.ready = False
        except StopIteration as done:
            self.value: T = done.value
            self.ready = True

    def __await__(self) -> Generator[Any, Any, T]:
        """Wait for the rest."""
        waits_on = self._waits_on
        try:
            while True:
                try:
                    sent = yield waits_on
                except BaseException as exc:  # noqa: BLE001 - whatever is thrown in belongs to the inner coroutine
                    waits_on = self._throw(exc)
                else:
                    waits_on = self._coroutine.send(sent)
        except StopIteration as done:
            self.value = done.value
            self.ready = True
            return self.value

    async def fail(self, exc: BaseException) -> T:
        """Throw `exc` into the unfinished awaitable and wait while it cleans up; usually raises `exc`."""
        try:
            self._waits_on = self._throw(exc)
        except StopIteration as done:
            result: T = done.value
            return result
        return await self

    def _throw(self, exc: BaseException) -> Any:
        return self._coroutine.throw(exc)
