"""What a provider sends, taken as it arrives: one read is one burst, and after the last comes the end of the body."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import suppress
from typing import Any

from ollama_bridge.events import Event, Finish


def read_all(
    feed: Callable[[Any], Iterable[Event]], payloads: Iterable[Any]
) -> tuple[list[Event], Exception | None]:
    """The events of `payloads`, up to `Finish`, and the exception that `feed` or `payloads` ended them with, if any.

    To be raised when the events are out: what was said in the same read as an error is part of the answer.
    """
    said: list[Event] = []
    try:
        for payload in payloads:
            said.extend(feed(payload))
            if said and said[-1].__class__ is Finish:
                break
    except Exception as exc:  # noqa: BLE001 - the caller raises it
        return said, exc
    return said, None


async def exhaust(reply: AsyncGenerator[object, None], *, within_s: float) -> None:
    """Read to the end, for at most so many seconds; what it raises is raised."""
    with suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            async for _ in reply:
                pass
