"""No `Finish`, no answer: a reply that merely stops is an error, never shown as whole.

A connection that ends cleanly in the middle of an answer ends the streams of all three SDKs without a
word (`spec/providers.md` §3.2), so every backend yields `Finish` only when the provider said so.
"""

from contextlib import aclosing, suppress
from typing import Final

from ollama_bridge.backends.bursts import exhaust
from ollama_bridge.chat import Backend, ChatRequest, Reply
from ollama_bridge.errors import UpstreamBroken
from ollama_bridge.events import Finish

LINGER_S: Final = 0.25
"""Seconds a provider gets, after `Finish`, to end its body: only then can its connection be used again."""


class Complete:
    """Turns a reply without an end into `UpstreamBroken`, and nothing may follow the end."""

    def __init__(self, inner: Backend) -> None:
        self._inner = inner

    async def chat(self, request: ChatRequest) -> Reply:
        """Pass everything on up to and including `Finish`."""
        async with aclosing(self._inner.chat(request)) as events:
            async for burst in events:
                yield burst
                if type(burst[-1]) is Finish:
                    # The answer is whole; how its connection ends is of no interest.
                    with suppress(Exception):
                        await exhaust(events, within_s=LINGER_S)
                    return
        raise UpstreamBroken(
            "the connection ended before the answer was complete; ask again",
            provider=request.target.provider,
            model=request.target.model,
        )
