"""Silence, bounded: the only owner of that clock, so that the SDKs' own read timeouts are off.

It counts time without *progress*, not without bytes: a provider that only sends keep-alive comments is
silent, one that streams the arguments of a long tool call is not, though no event comes of it yet.
"""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace

from ollama_bridge.chat import Backend, ChatRequest, Embedder, Embeddings, EmbedRequest, Reply
from ollama_bridge.errors import UpstreamSilent


class _Clock:
    """The timeout that is running now, if any, and how to set it back."""

    def __init__(self, limit_s: float, progress: Callable[[], None]) -> None:
        self.limit_s = limit_s
        self._progress = progress  # others further out count too
        self.running: asyncio.Timeout | None = None

    def set_back(self) -> None:
        self._progress()
        if self.running is not None:
            self.running.reschedule(asyncio.get_running_loop().time() + self.limit_s)


class Timeout:
    """Gives up on a provider that makes no progress.

    Args:
        inner: Who is timed.
        first_s: Most seconds until the first event; connecting and reading the prompt happen in it.
        idle_s: Most seconds without progress after that.

    Raises:
        UpstreamSilent: A limit is reached.
    """

    def __init__(self, inner: Backend, *, first_s: float, idle_s: float) -> None:
        self._inner = inner
        self._first_s = first_s
        self._idle_s = idle_s

    async def chat(self, request: ChatRequest) -> Reply:
        """Pass everything on, as long as it keeps coming."""
        clock = _Clock(self._first_s, request.progress)
        async with aclosing(self._inner.chat(replace(request, progress=clock.set_back))) as events:
            while True:
                try:
                    # The clock runs around anext() alone: inside asyncio.timeout() a `yield` would time the
                    # client's reading and cancel the wrong task (PEP 789).
                    async with asyncio.timeout(clock.limit_s) as clock.running:
                        burst = await anext(events)
                    clock.running = None
                except StopAsyncIteration:
                    return
                except TimeoutError as exc:
                    raise _silent(request, clock.limit_s) from exc
                yield burst
                clock.limit_s = self._idle_s


class EmbedTimeout:
    """Gives up on a provider that does not embed in time.

    Args:
        inner: Who is timed.
        within_s: Most seconds for all of a request's texts.

    Raises:
        UpstreamSilent: The limit is reached.
    """

    def __init__(self, inner: Embedder, *, within_s: float) -> None:
        self._inner = inner
        self._within_s = within_s

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Pass everything on."""
        try:
            async with asyncio.timeout(self._within_s):
                return await self._inner.embed(request)
        except TimeoutError as exc:
            raise _silent(request, self._within_s) from exc


def _silent(request: ChatRequest | EmbedRequest, limit_s: float) -> UpstreamSilent:
    return UpstreamSilent(
        f"silent for {limit_s:g} s; `timeout_s` of the provider sets how long to wait",
        provider=request.target.provider,
        model=request.target.model,
    )
