"""A vault's depot in Redis: what one instance has put, another finds.

While Redis is away each instance has what it holds in memory; what it puts then is not written later.
"""

import asyncio
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from ollama_bridge.store.link import PREFIX, LinkDown, RedisLink
from ollama_bridge.vault import Entry, Write

if TYPE_CHECKING:
    import redis

_NOTED: Final = struct.Struct(">d")
"""In front of each value: when it was put, in seconds since the epoch."""


class RedisDepot:
    """Entries that Redis itself lets expire; `maxmemory` of the server is their bound.

    Args:
        link: The connection; whoever made it closes it.
        age_s: Seconds to keep them.
        renewed: Whether those count from the last use, else from when it was put.
        prefix: Of their names in Redis, behind that of all of ours.
    """

    misses_last: Final = False

    def __init__(self, link: RedisLink, age_s: float, *, renewed: bool, prefix: str) -> None:
        self.place = link
        self._age_ms = max(1, round(age_s * 1000))
        self._renewed = renewed
        self._prefix = f"{PREFIX}{prefix}:".encode()
        self._waiting: list[Write] = []
        self._writing: asyncio.Task[None] | None = None

    async def read(self, keys: list[bytes], oldest_s: float) -> dict[bytes, Entry] | None:
        """As `Depot` says, in one round trip; how long it may take is the link's business."""
        names = self._names(keys)
        try:
            # Without `decode_responses` the client returns bytes, whatever its types say.
            values = await self.place.run(lambda client: cast("list[bytes | None]", client.mget(names)))
        except LinkDown:
            return None
        found = {
            key: Entry(value[_NOTED.size :], *_NOTED.unpack_from(value))
            for key, value in zip(keys, values, strict=True)
            if value is not None and len(value) > _NOTED.size
        }
        if self._renewed:  # then Redis alone knows of the last use
            return found
        return {key: entry for key, entry in found.items() if entry.noted_s >= oldest_s}

    def write(self, write: Write) -> None:
        """As `Depot` says."""
        self._waiting.append(write)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self._flush())

    async def aclose(self) -> None:
        """As `Depot` says; the link stays."""
        if self._writing is not None:
            await self._writing

    async def _flush(self) -> None:
        while self._waiting:
            writes, self._waiting = self._waiting, []
            try:
                await self.place.run(lambda client: self._send(client, writes))  # noqa: B023 - awaited here
            except LinkDown:
                continue

    def _send(self, client: "redis.Redis", writes: Sequence[Write]) -> None:
        # Not a transaction: each entry stands for itself, and nobody is to wait for all of them.
        pipeline: Any = client.pipeline(transaction=False)
        for write in writes:
            names = self._names(write.keys)
            if write.value:
                value = _NOTED.pack(write.used_s) + write.value
                for name in names:
                    pipeline.set(name, value, px=self._age_ms)
            elif write.value is None:
                for name in names:
                    pipeline.pexpire(name, self._age_ms)
            else:
                pipeline.unlink(*names)
        pipeline.execute()

    def _names(self, keys: Sequence[bytes]) -> list[bytes]:
        return [self._prefix + key.hex().encode() for key in keys]
