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
    """What is left of a limit, looked at by one timer a reply: to set a timer at each event costs more than all else.

    Args:
        progress: Called too when it is set back: others further out count as well.
    """

    __slots__ = ("_due_s", "_limit_s", "_loop", "_others", "_progress", "_ran_out", "_task", "_timer")

    def __init__(self, progress: Callable[[], None]) -> None:
        self._progress = progress
        self._loop = asyncio.get_running_loop()
        self._limit_s = self._due_s = 0.0
        self._task: asyncio.Task[object] | None = None
        self._others = 0
        self._timer: asyncio.TimerHandle | None = None
        self._ran_out = False

    def start(self, limit_s: float) -> None:
        """The task that runs now begins to wait, and is cancelled when it has done so for `limit_s`."""
        self._task = task = asyncio.current_task()
        self._others = task.cancelling() if task is not None else 0
        self._due_s = self._loop.time() + limit_s
        if self._timer is None or limit_s < self._limit_s:
            self.close()
            self._timer = self._loop.call_at(self._due_s, self._look)
        self._limit_s = limit_s

    def stop(self) -> bool:
        """It waits no more; whether it was cancelled because of the limit, and for no other reason."""
        task, self._task = self._task, None
        if task is None or not self._ran_out:
            return False
        return task.uncancel() <= self._others

    def set_back(self) -> None:
        """There was progress."""
        self._progress()
        self._due_s = self._loop.time() + self._limit_s

    def close(self) -> None:
        """Nothing more is waited for."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if self._task is None:
            return  # the client reads what it has; the next wait sets a timer again
        if self._due_s > self._loop.time():
            self._timer = self._loop.call_at(self._due_s, self._look)
        else:
            self._ran_out = True
            self._task.cancel()


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
        clock, limit_s = _Clock(request.progress), self._first_s
        try:
            async with aclosing(self._inner.chat(replace(request, progress=clock.set_back))) as events:
                while True:
                    # The clock runs around anext() alone: a `yield` inside would time the client's reading and
                    # cancel the wrong task (PEP 789).
                    clock.start(limit_s)
                    try:
                        burst = await anext(events)
                    except StopAsyncIteration:
                        return
                    except asyncio.CancelledError as exc:
                        if clock.stop():
                            raise _silent(request, limit_s) from exc
                        raise
                    finally:
                        clock.stop()
                    yield burst
                    limit_s = self._idle_s
        finally:
            clock.close()


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
