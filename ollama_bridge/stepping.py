"""Advance an awaitable as far as it goes without waiting; finish one within a time.

A burst from a provider arrives as one read of many events: the next event is then ready at once. Who
knows that can skip work that only matters when something really waits: arming a timeout, or flushing
what was written so far.  The event loop offers no such question, a coroutine does: its first `send`
either returns a value or says what it waits for.
"""

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Generator
from contextlib import suppress
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Waiting(Generic[T]):
    """An awaitable that was started and waits; `await` it, or `fail` it, but do not abandon it: an abandoned one
    leaves an async generator "already running".
    """  # noqa: D205

    __slots__ = ("_coroutine", "_waits_on")

    def __init__(self, coroutine: Coroutine[Any, Any, T], waits_on: Any) -> None:
        self._coroutine = coroutine
        self._waits_on = waits_on

    def __await__(self) -> Generator[Any, Any, T]:
        """Wait for the rest."""
        waits_on = self._waits_on
        try:
            while True:
                try:
                    sent = yield waits_on
                except BaseException as exc:  # noqa: BLE001 - whatever is thrown in belongs to the inner coroutine
                    waits_on = self._coroutine.throw(exc)
                else:
                    waits_on = self._coroutine.send(sent)
        except StopIteration as done:
            result: T = done.value
            return result

    async def fail(self, exc: BaseException) -> T:
        """Throw `exc` into the awaitable and wait while it cleans up; usually raises `exc`."""
        try:
            self._waits_on = self._coroutine.throw(exc)
        except StopIteration as done:
            result: T = done.value
            return result
        return await self


def start(coroutine: Coroutine[Any, Any, T]) -> T | Waiting[T]:
    """Run `coroutine` (or `anext(generator)`) up to where it waits: its result, or what is left to await.

    Raises what the coroutine raises.
    """
    try:
        waits_on = coroutine.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    return Waiting(coroutine, waits_on)


async def exhaust(generator: AsyncGenerator[object, None], *, within_s: float) -> None:
    """Read to the end, for at most so many seconds once it waits; what it raises is raised."""
    with suppress(StopAsyncIteration):
        while not isinstance(step := start(anext(generator)), Waiting):
            pass
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await step
                async for _ in generator:
                    pass
