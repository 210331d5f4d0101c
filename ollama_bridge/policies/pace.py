"""Re-chunking and pacing: how an answer is delivered, never what it says.

The seed's promise (`STREAMING_CHUNK_SIZE` words a line, `STREAMING_DELAY_MS` between lines) for clients
that render better in even steps. A word keeps its white space, so the lines joined are the answer to the
byte; a cut never falls inside a grapheme (an emoji with its modifiers, a letter with its accents).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass

from ollama_bridge.chat import Answerer, ChatRequest, Embeddings, EmbedRequest, Reply, singly
from ollama_bridge.events import TextDelta, ThinkingDelta


@dataclass(frozen=True, slots=True)
class Pacing:
    """How to deliver: `chunk_size` words a line (0: as it arrives), `delay_s` seconds between lines."""

    chunk_size: int = 0
    delay_s: float = 0.0

    def __bool__(self) -> bool:
        """Whether it changes anything."""
        return self.chunk_size > 0 or self.delay_s > 0


class Pace:
    """Delivers streamed replies in even steps; everything else passes untouched and at no cost.

    Tool calls and the end are never delayed by more than the text before them.

    Args:
        inner: Whose replies are paced.
        pacing: How to deliver the answers of the model of that name.
        clock_s: Monotonic seconds.
        sleep: Waits for so many seconds; cancelled when the client leaves.
    """

    def __init__(
        self,
        inner: Answerer,
        pacing: Callable[[str], Pacing],
        *,
        clock_s: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._inner = inner
        self._pacing = pacing
        self._clock_s = clock_s
        self._sleep = sleep

    def chat(self, request: ChatRequest) -> Reply:
        """Pace a streamed reply if its model is to be paced."""
        if request.stream and (pacing := self._pacing(request.model)):
            return self._paced(request, pacing)
        return self._inner.chat(request)

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Pass it on: there is nothing to pace."""
        return await self._inner.embed(request)

    async def _paced(self, request: ChatRequest, pacing: Pacing) -> Reply:
        from ollama_bridge.policies.words import Words  # noqa: PLC0415 - loads `regex`, which few will need

        due_s = self._clock_s()
        words = Words(pacing.chunk_size)
        async with aclosing(singly(self._inner.chat(request))) as events:
            async for event in events:
                for ready in words.feed(event):
                    if isinstance(ready, TextDelta | ThinkingDelta):
                        if (wait_s := due_s - self._clock_s()) > 0:
                            await self._sleep(wait_s)
                        due_s = self._clock_s() + pacing.delay_s
                    yield (ready,)
