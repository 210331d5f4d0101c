"""A backend above the seam: says what the test scripts, and remembers what it was asked."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from ollama_bridge.chat import ChatRequest, Embeddings, EmbedRequest, Reply
from ollama_bridge.events import Event

SILENCE = object()
"""In a script: wait here for ever (until cancelled)."""


class ScriptedBackend:
    """Each script answers one request: events are yielded, exceptions raised, `SILENCE` waits."""

    def __init__(self, *scripts: Sequence[Event | Exception | object]) -> None:
        self._scripts = deque(scripts)
        self.asked: list[ChatRequest] = []
        self.closed = 0
        self.was_asked = asyncio.Event()

    async def chat(self, request: ChatRequest) -> Reply:
        self.asked.append(request)
        self.was_asked.set()
        script = self._scripts.popleft() if len(self._scripts) > 1 else self._scripts[0]
        try:
            for item in script:
                if isinstance(item, Exception):
                    raise item
                if item is SILENCE:
                    await asyncio.Event().wait()
                yield (item,)
        finally:
            self.closed += 1


class ScriptedAnswerer(ScriptedBackend):
    """The same for embeddings too: a script of one thing is raised, or is the answer."""

    async def embed(self, request: EmbedRequest) -> Embeddings:
        self.asked.append(request)
        (item,) = self._scripts.popleft() if len(self._scripts) > 1 else self._scripts[0]
        if isinstance(item, Exception):
            raise item
        return item


class Hours:
    """A clock that stands still, but for those who wait by it."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.waits: list[float] = []

    def clock_s(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.waits.append(round(seconds, 6))
        self.now_s += seconds


async def collect(reply: Reply) -> list[Event]:
    """All events of a reply, closed afterwards."""
    try:
        return [event async for burst in reply for event in burst]
    finally:
        await reply.aclose()


async def until(condition: Callable[[], object]) -> None:
    """Let everybody else go on until it holds."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.001)
