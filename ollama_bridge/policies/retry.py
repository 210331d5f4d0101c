"""Asking again, as long as the client has seen nothing: the one owner of that, so that the SDKs' own retries are off.

Whether it is worth it an error says itself (`UpstreamError.retryable`); how long to wait, the provider says, or else
a back-off that grows.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass

import structlog

from ollama_bridge.chat import Answerer, ChatRequest, Embeddings, EmbedRequest, Reply, Target
from ollama_bridge.errors import CircuitOpen, UpstreamError

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Backoff:
    """How often, and how far apart.

    Args:
        max_retries: After the first time.
        initial_s: Seconds before the second time.
        max_s: Most seconds between two, where the provider does not ask for more.
        factor: By which each wait is longer than the one before.
        jitter: Part of a wait, 0 to 1, by which it is made longer or shorter at random, so that those who failed
            together do not come back together.
        deadline_s: Seconds from the first time on, after which it is not tried again.
    """

    max_retries: int = 3
    initial_s: float = 1.0
    max_s: float = 30.0
    factor: float = 2.0
    jitter: float = 0.1
    deadline_s: float = 60.0

    def wait_s(self, failed: int, asked_s: float | None, draw: float) -> float:
        """Seconds before the next time.

        Args:
            failed: Times so far, 1 or more.
            asked_s: Seconds that the provider asked for: the least.
            draw: Random, from 0 to 1.
        """
        wait_s: float = min(self.initial_s * self.factor ** (failed - 1), self.max_s)
        wait_s = min(wait_s * (1 + self.jitter * (2 * draw - 1)), self.max_s)
        return wait_s if asked_s is None else max(wait_s, asked_s * (1 + self.jitter * draw))


class Retry:
    """Asks `inner` again when it failed before its answer began.

    Args:
        inner: Who is asked.
        backoff: How often, and how far apart.
        blocks: What `inner` would say at once to a request to that target; None: it would ask.
        clock_s: Monotonic seconds.
        sleep: Waits for so many seconds; cancelled when the client leaves.
        draw: Random, from 0 to 1.

    Raises:
        UpstreamError: The last one; at once when it is not `retryable`, when an event was passed on, when the wait
            does not fit into what is left of the time, or when nobody would be asked after it, so that another model
            may answer sooner.
    """

    def __init__(
        self,
        inner: Answerer,
        backoff: Backoff,
        *,
        blocks: Callable[[Target], CircuitOpen | None] = lambda _: None,
        clock_s: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._inner = inner
        self._backoff = backoff
        self._blocks = blocks
        self._clock_s = clock_s
        self._sleep = sleep
        self._draw = draw

    async def chat(self, request: ChatRequest) -> Reply:
        """Pass on the first reply that begins."""
        began_s = self._clock_s()
        failed = 0
        while True:
            has_begun = False
            try:
                async with aclosing(self._inner.chat(request)) as reply:
                    async for burst in reply:
                        has_begun = True
                        yield burst
            except UpstreamError as exc:
                failed += 1
                if has_begun or (wait_s := self._wait_s(exc, request.target, failed, began_s)) is None:
                    raise
            else:
                return
            await self._sleep(wait_s)

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Hand back the first answer that is one."""
        began_s = self._clock_s()
        failed = 0
        while True:
            try:
                return await self._inner.embed(request)
            except UpstreamError as exc:
                failed += 1
                if (wait_s := self._wait_s(exc, request.target, failed, began_s)) is None:
                    raise
            await self._sleep(wait_s)

    def _wait_s(self, exc: UpstreamError, target: Target, failed: int, began_s: float) -> float | None:
        """Seconds to wait; None: it is not tried again."""
        if not exc.retryable or failed > self._backoff.max_retries:
            return None
        wait_s = self._backoff.wait_s(failed, exc.retry_after_s, self._draw())
        if self._clock_s() - began_s + wait_s > self._backoff.deadline_s:
            return None
        blocked = self._blocks(target)
        if blocked is not None and wait_s < (blocked.retry_after_s or 0.0):
            return None
        log.info(
            "provider asked again",
            provider=exc.provider,
            model=exc.model,
            reason=exc.summary,
            retry=failed,
            wait_s=round(wait_s, 3),
        )
        return wait_s
