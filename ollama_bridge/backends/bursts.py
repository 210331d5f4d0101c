"""What a provider sends, taken as it arrives: one read is one burst, and after the last comes the end of the body."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol

from ollama_bridge.events import Event, Finish, Usage
from ollama_bridge.record import CallRecord


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


class Counts(Protocol):
    """Knows what the provider has told of a reply's tokens."""

    def usage(self) -> Usage | None:
        """So far; None: nothing yet."""
        ...


class Reader(Protocol):
    """Turns a provider's payloads into events; sans I/O.

    Args:
        moved: Whether the last payload was more than a sign of life, though perhaps no event came of it.
    """

    moved: bool

    def feed(self, payload: Any, /) -> Iterable[Event]:
        """The events that one payload amounts to."""
        ...

    def close(self) -> Iterable[Event]:
        """What is left to say when the stream has ended."""
        ...


@contextmanager
def told(record: CallRecord, reader: Counts) -> Iterator[None]:
    """Note what the provider told, however the reply ends: one that is broken off may be billed all the same."""
    try:
        yield
    finally:
        with suppress(AttributeError, TypeError):  # numbers that are none
            record.told = reader.usage()


async def bursts(
    reader: Reader, reads: AsyncIterable[Iterable[Any]], progress: Callable[[], None]
) -> AsyncGenerator[list[Event], None]:
    """One burst for each of `reads` that says something, and the rest at the end.

    `progress` is called for each other that is no mere sign of life.
    """
    async for payloads in reads:
        said, failure = read_all(reader.feed, payloads)
        if said:
            yield said
        elif reader.moved:
            progress()
        if failure is not None:
            raise failure
    if last := list(reader.close()):
        yield last


async def exhaust(reply: AsyncGenerator[object, None], *, within_s: float) -> None:
    """Read to the end, for at most so many seconds; what it raises is raised."""
    with suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            async for _ in reply:
                pass
