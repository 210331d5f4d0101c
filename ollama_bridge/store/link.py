"""The connection to Redis or Valkey: off the event loop, bounded in time, and given up for a while when it fails."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeVar

import structlog

if TYPE_CHECKING:
    import redis

T = TypeVar("T")

log = structlog.get_logger(__name__)

ANSWER_S: Final = 0.5
"""Seconds that it may take to connect or to answer: nobody's answer waits longer for shared state."""

PAUSE_S: Final = 2.0
"""Seconds without asking it, once it failed."""

_THREADS: Final = 4


class LinkDown(Exception):
    """It cannot be reached now; who asked goes on without it."""


class RedisLink:
    """One pool of connections for everything that lives in Redis.

    Args:
        url: `redis://`, `rediss://` or `unix://`, with password and database number if need be.
        clock_s: Monotonic seconds.
    """

    def __init__(self, url: str, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self.url = url
        self._clock_s = clock_s
        self._client: redis.Redis | None = None
        self._down_until_s = 0.0
        self._is_up = True
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="redis")

    async def run(self, work: Callable[["redis.Redis"], T]) -> T:
        """What `work` returns, run in a thread.

        Raises:
            LinkDown: It cannot be reached, or was not a moment ago.
        """
        if self._clock_s() < self._down_until_s:
            raise LinkDown
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._run, work)

    async def aclose(self) -> None:
        """Let what is under way end, and close all connections."""
        await asyncio.to_thread(self._threads.shutdown)
        if self._client is not None:
            self._client.close()

    def _run(self, work: Callable[["redis.Redis"], T]) -> T:
        import redis  # noqa: PLC0415 - only who has one loads it

        try:
            if self._client is None:
                self._client = redis.Redis.from_url(
                    self.url, socket_timeout=ANSWER_S, socket_connect_timeout=ANSWER_S
                )
            done = work(self._client)
        except (redis.RedisError, OSError) as exc:
            self._down_until_s = self._clock_s() + PAUSE_S
            if self._is_up:
                self._is_up = False
                log.warning("Redis does not answer; this instance counts alone", error=type(exc).__name__)
            raise LinkDown from exc
        if not self._is_up:
            self._is_up = True
            log.info("Redis answers again")
        return done
