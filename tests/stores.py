"""Stores to test: each kind with several connections to one state, and a clock that tests may put forward."""

import math
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import redis

from ollama_bridge.store.embedded import EmbeddedStore
from ollama_bridge.store.link import RedisLink
from ollama_bridge.store.remote import RemoteStore
from ollama_bridge.store.shelf import Store
from redis_server import RedisServer, redis_server

WAIT = """
for _, key in ipairs(redis.call('keys', 'ollama-bridge:*')) do
  local left_ms = redis.call('pttl', key)
  assert(left_ms ~= -1, key .. ' would be kept for ever')
  redis.call('pexpire', key, math.max(0, left_ms - ARGV[1]))
end
"""


class Clock:
    """Seconds since the epoch that pass only when told to; at first a minute, an hour and a day begin."""

    def __init__(self):
        self.now_s = (time.time() // 86_400 + 1) * 86_400

    def __call__(self):
        return self.now_s


class Embedded:
    """Stores over one file."""

    drift_s = 0.0

    def __init__(self, path: Path, clock: Clock) -> None:
        self.path = path
        self.clock = clock
        self._made: list[Store] = []

    def store(self) -> EmbeddedStore:
        self._made.append(EmbeddedStore(self.path, self.clock))
        return self._made[-1]

    def wait(self, seconds: float) -> None:
        self.clock.now_s += seconds

    async def told(self, store) -> None:
        """Whatever was settled is known to all."""
        await store.spent(())

    async def forget(self) -> None:
        """Begin anew with nothing."""
        await self.aclose()
        for file in self.path.parent.glob(f"{self.path.name}*"):
            file.unlink()

    async def aclose(self) -> None:
        while self._made:
            await self._made.pop().aclose()


class Remote:
    """Stores over one Redis, each with a link and a file of its own."""

    drift_s = 0.02  # between looking how long something is kept and keeping it for less, time passes

    def __init__(self, server: RedisServer, folder: Path, clock: Clock) -> None:
        self.server = server
        self.clock = clock
        self._folder = folder
        self._count = 0
        self._made: list[RemoteStore] = []
        self._client = redis.Redis.from_url(server.url)

    def store(self, **how: float) -> RemoteStore:
        self._count += 1
        local = EmbeddedStore(self._folder / f"local{self._count}.sqlite3", self.clock)
        # A busy machine is slow, and not away.
        link = RedisLink(self.server.url, **{"answer_s": 20.0, **how})
        self._made.append(RemoteStore(link, local, self.clock))
        return self._made[-1]

    def wait(self, seconds: float) -> None:
        """Its clock is its own: what it keeps has so much less time left instead."""
        self.clock.now_s += seconds
        self._client.eval(WAIT, 0, math.ceil(seconds * 1000))

    async def told(self, store: RemoteStore) -> None:
        if store._delivering is not None:
            await store._delivering

    async def forget(self) -> None:
        await self.aclose()
        self._client.flushall()

    async def aclose(self) -> None:
        while self._made:
            store = self._made.pop()
            await store.aclose()
            await store._link.aclose()

    def disconnect(self) -> None:
        self._client.close()


@asynccontextmanager
async def rig(kind: str, folder: Path, clock: Clock | None = None) -> AsyncIterator[Embedded | Remote]:
    """`embedded` or `remote`; skips the test when there is no Redis to be had."""
    clock = clock or Clock()
    async with AsyncExitStack() as stack:
        if kind == "embedded":
            made = Embedded(folder / "state" / "state.sqlite3", clock)
        else:
            made = Remote(await stack.enter_async_context(redis_server()), folder, clock)
            stack.callback(made.disconnect)
        stack.push_async_callback(made.aclose)
        yield made
