"""So many requests at a time, and no faster than this: for providers that take no more, and machines of one's own.

Who waits is not told that the provider is silent: the timeout stands further in. Nor is a failure made of it.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Final

from ollama_bridge.backends import ProviderSettings
from ollama_bridge.chat import Answerer, ChatRequest, Embeddings, EmbedRequest, Reply
from ollama_bridge.errors import RateLimited

MOST_WAITING: Final = 100
"""With a second between two that is more than most clients wait; others would only learn it later."""


class Gate:
    """Lets requests with one key through, in the order in which they came.

    Args:
        at_once: Most of them at a time; 0: any number.
        spacing_s: Least seconds between the beginnings of two.
        clock_s: Monotonic seconds.
        sleep: Waits for so many seconds; cancelled when the client leaves.
    """

    def __init__(
        self,
        at_once: int,
        spacing_s: float,
        *,
        clock_s: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.waiting = 0
        """Requests that are not through yet."""
        self._places = asyncio.Semaphore(at_once) if at_once else None
        self._spacing_s = spacing_s
        self._clock_s = clock_s
        self._sleep = sleep
        self._door = asyncio.Lock()  # opens to whoever came first; who leaves the queue keeps nobody waiting
        self._next_s = clock_s()

    @asynccontextmanager
    async def passed(self) -> AsyncIterator[None]:
        """While inside, one of the places is taken."""
        self.waiting += 1
        try:
            await self._enter()
        finally:
            self.waiting -= 1
        try:
            yield
        finally:
            if self._places is not None:
                self._places.release()

    async def _enter(self) -> None:
        async with self._door:
            if self._places is not None:
                await self._places.acquire()
            try:
                while (wait_s := self._next_s - self._clock_s()) > 0:
                    await self._sleep(wait_s)
            except BaseException:
                if self._places is not None:
                    self._places.release()
                raise
            self._next_s = self._clock_s() + self._spacing_s


class Gates:
    """Those of all providers, one for each key; handed on by a reload."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[object, tuple[Gate, ...]]] = {}

    def of(self, settings: ProviderSettings) -> tuple[Gate, ...]:
        """The gates of a provider: new ones only if its keys or what they let through has changed."""
        wanted = (settings.api_keys, settings.at_once, settings.spacing_s)
        known = self._known.get(settings.name)
        if known is None or known[0] != wanted:
            gates = tuple(
                Gate(settings.at_once, settings.spacing_s) for _ in range(max(len(settings.api_keys), 1))
            )
            known = self._known[settings.name] = wanted, gates
        return known[1]


class Turnstile:
    """Has each request wait for its turn.

    Args:
        inner: Who is asked then, with the key that `request.key` names.
        gates: One for each of its keys.

    Raises:
        RateLimited: 429, at once: so many wait already that nobody would wait for this one. Another model may answer.
    """

    def __init__(self, inner: Answerer, gates: tuple[Gate, ...]) -> None:
        self._inner = inner
        self._gates = gates

    async def chat(self, request: ChatRequest) -> Reply:
        """Pass the reply on; the next one's turn comes when it has ended, or when its client has left."""
        async with self._gate(request).passed(), aclosing(self._inner.chat(request)) as reply:
            async for burst in reply:
                yield burst

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Hand the vectors back."""
        async with self._gate(request).passed():
            return await self._inner.embed(request)

    def _gate(self, request: ChatRequest | EmbedRequest) -> Gate:
        gate = self._gates[request.key]
        if gate.waiting >= MOST_WAITING:
            provider = request.target.provider
            raise RateLimited(
                f"{gate.waiting} requests wait for {provider} already, which is asked no faster: "
                f"see providers.{provider}.at_once and spacing_s",
                elsewhere=True,
            )
        return gate
