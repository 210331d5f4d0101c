"""The connection to Redis or Valkey: off the event loop, bounded in time, and left alone while it fails."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlsplit

import structlog

if TYPE_CHECKING:
    import redis

T = TypeVar("T")

log = structlog.get_logger(__name__)

ANSWER_S: Final = 0.5
"""Seconds that it may take to connect, and again to answer: nobody's answer waits longer for shared state."""

PAUSE_S: Final = 2.0
"""Seconds between two tries to reach it, once it failed; who asks meanwhile does not wait at all."""

PREFIX: Final = "ollama-bridge:"
"""Of all our keys in it."""

_THREADS: Final = 4

_PROBE: Final = "return redis.call('set', KEYS[1], '', 'PX', 1000)"
"""All that is wanted of it: to run a script, and to keep something."""


class LinkDown(Exception):
    """It cannot be reached now; who asked goes on without it.

    Args:
        reason: What went wrong; empty: it was down already.
        asked: Whether it may have been asked nevertheless, and done it.
    """

    def __init__(self, reason: str = "", *, asked: bool = False) -> None:
        super().__init__(reason)
        self.asked = asked


class RedisLink:
    """One pool of connections for everything that lives in Redis.

    Args:
        url: `redis://`, `rediss://` or `unix://`, with password and database number if need be.
        answer_s: See `ANSWER_S`.
        pause_s: See `PAUSE_S`.
    """

    def __init__(self, url: str, *, answer_s: float = ANSWER_S, pause_s: float = PAUSE_S) -> None:
        self.url = url
        self._answer_s = answer_s
        self._pause_s = pause_s
        self._client: redis.Redis | None = None
        self._up = asyncio.Event()
        self._up.set()
        self._probing: asyncio.Task[None] | None = None
        self._connecting = threading.Lock()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="redis")

    async def run(self, work: "Callable[[redis.Redis], T]") -> T:
        """What `work` returns, run in a thread.

        Raises:
            LinkDown: It cannot be reached, or was not a moment ago.
        """
        if not self._up.is_set():
            raise LinkDown
        try:
            return await self._bounded(work)
        except LinkDown as exc:
            if self._up.is_set() and str(exc):
                self._went_down(str(exc))
            raise

    async def up(self) -> None:
        """Return when it answers."""
        await self._up.wait()

    async def aclose(self) -> None:
        """Let what is under way end, and close all connections; from now on it is down."""
        self._up.clear()
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.wait({self._probing})
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)
        if self._client is not None:
            self._client.close()

    async def _bounded(self, work: "Callable[[redis.Redis], T]", *, probes: bool = False) -> T:
        if self._client is None:
            await asyncio.to_thread(_load)  # once, and not on the time of an answer
        try:
            # Twice: to connect, and to answer. Names are looked up without any bound of their own.
            async with asyncio.timeout(2 * self._answer_s):
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(self._threads, self._run, work, probes)
        except TimeoutError:
            raise LinkDown("no answer in time", asked=True) from None

    def _went_down(self, reason: str) -> None:
        self._up.clear()
        log.warning("Redis does not answer; this instance counts alone", at=self._address(), error=reason)
        self._probing = asyncio.create_task(self._probe())

    async def _probe(self) -> None:
        while not self._up.is_set():
            await asyncio.sleep(self._pause_s)
            with suppress(LinkDown):
                await self._bounded(lambda client: client.eval(_PROBE, 1, f"{PREFIX}probe"), probes=True)
                self._up.set()
        log.info("Redis answers again", at=self._address())

    def _address(self) -> str:
        """Without the password."""
        parts = urlsplit(self.url)
        return parts.netloc.rpartition("@")[2] or parts.path

    # What follows runs in one of the threads.

    def _run(self, work: "Callable[[redis.Redis], T]", probes: bool) -> T:
        import redis  # noqa: PLC0415 - only who has one loads it

        if not probes and not self._up.is_set():
            raise LinkDown  # it went down while this waited for a thread
        try:
            with self._connecting:
                if self._client is None:
                    self._client = self._connected()
            return work(self._client)
        except (redis.RedisError, OSError) as exc:
            raise LinkDown(str(exc) or type(exc).__name__, asked=True) from exc

    def _connected(self) -> "redis.Redis":
        import redis  # noqa: PLC0415 - as above
        from redis.backoff import NoBackoff  # noqa: PLC0415 - as above
        from redis.retry import Retry  # noqa: PLC0415 - as above

        try:
            client = redis.Redis.from_url(
                self.url,
                socket_timeout=self._answer_s,
                socket_connect_timeout=self._answer_s,
                # A connection may have been closed while nobody used it; what answers late is not asked again.
                retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
                protocol=2,
            )
            client.ping()
        except (ValueError, TypeError) as exc:  # the address has a port, or an option, that there is not
            raise LinkDown(str(exc)) from exc
        return client


def _load() -> None:
    import redis  # noqa: F401, PLC0415 - a tenth of a second
