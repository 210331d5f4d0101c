"""A bounded store of bytes under hashed keys: in memory at once, in a depot a moment later, there after a restart.

What it holds can be done without: whatever goes wrong with the depot is said once, and memory serves on. Nothing
here ever stops the event loop, and nobody looks at the depot before something is asked of it.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, TypeAlias

from ollama_bridge.sqlitefile import Limits
from ollama_bridge.store.link import RedisLink

MEMORY_BYTES: Final = 16 * 1024 * 1024
"""What memory holds in front of a depot: the conversations of the last minutes."""

_TOUCH_S: Final = 3600.0  # how old the note of the last use may be: reading should not mean writing
_ENTRY_BYTES: Final = 200  # what an entry costs beside its value, roughly

Place: TypeAlias = Path | RedisLink
"""Where a depot is: an SQLite file of this machine, or Redis."""


@dataclass(slots=True)
class Entry:
    """`value` is empty where there is known to be none; `noted_s`: the last use, or the put, that the depot knows of."""

    value: bytes
    noted_s: float


@dataclass(frozen=True, slots=True)
class Write:
    """Set `value` under `keys`; empty: forget them; None: they were used."""

    keys: tuple[bytes, ...]
    value: bytes | None
    used_s: float


class Depot(Protocol):
    """Where a vault keeps what is to last. Nothing here raises: it does without, and says so once."""

    @property
    def place(self) -> Place:
        """Where it is."""
        ...

    @property
    def misses_last(self) -> bool:
        """Whether what is not in it now need not be looked for again, since hardly anybody else puts things there."""
        ...

    async def read(self, keys: list[bytes], oldest_s: float) -> dict[bytes, Entry] | None:
        """What there is under these keys, unless it was noted before `oldest_s`; None: it cannot tell in time."""
        ...

    def write(self, write: Write) -> None:
        """Do it soon, and in the order of the calls."""
        ...

    async def aclose(self) -> None:
        """Do what is still to be done, and close."""
        ...


class Vault:
    """Values under keys.

    Args:
        limits: How much to keep.
        depot: Where it is kept beside memory; None: nowhere.
        renewed: Whether age counts from the last use, else from when it was put.
        memory_bytes: How much of it to keep in memory; without a depot that is all of it.
        clock_s: Seconds since the epoch.
    """

    def __init__(
        self,
        limits: Limits,
        depot: Depot | None = None,
        *,
        renewed: bool = True,
        memory_bytes: int = MEMORY_BYTES,
        clock_s: Callable[[], float] = time.time,
    ) -> None:
        self.limits = limits
        self._renewed = renewed
        self._memory = _Memory(memory_bytes if depot is not None else limits.size_bytes)
        self._clock_s = clock_s
        self._depot = depot

    @property
    def most_bytes(self) -> int:
        """Of one value: what is a large part of the whole would throw everything else out."""
        return self.limits.size_bytes // 4

    @property
    def place(self) -> Place | None:
        """Where it is kept beside memory."""
        return self._depot.place if self._depot is not None else None

    def put(self, keys: Sequence[bytes], value: bytes) -> None:
        """Keep one value under several keys, unless it is too large; in the depot it is a moment later."""
        if keys and 0 < len(value) <= self.most_bytes:
            self._write(tuple(dict.fromkeys(keys)), value)

    def forget(self, keys: Sequence[bytes]) -> None:
        """Find these keys no more."""
        if keys:
            self._write(tuple(dict.fromkeys(keys)), b"")

    async def find(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The values of those keys that have one: from memory without waiting, the rest by one query."""
        now_s = self._clock_s()
        oldest_s = now_s - self.limits.age_s
        touched_s = now_s - _TOUCH_S if self._renewed else -math.inf
        found: dict[bytes, bytes] = {}
        missing: list[bytes] = []
        stale: list[bytes] = []
        for key in keys:
            entry = self._memory.get(key)
            if entry is None or (entry.value and entry.noted_s < oldest_s):
                missing.append(key)
            elif entry.value:
                found[key] = entry.value
                if entry.noted_s < touched_s:
                    entry.noted_s = now_s
                    stale.append(key)
        if missing and self._depot is not None:
            for key, entry in (await self._read(self._depot, missing, oldest_s)).items():
                found[key] = entry.value
                if entry.noted_s < touched_s:
                    entry.noted_s = now_s
                    stale.append(key)
        if stale:
            self._queue(Write(tuple(stale), None, now_s))
        return found

    async def aclose(self) -> None:
        """Write what is still to be written, and close the depot."""
        if self._depot is not None:
            await self._depot.aclose()

    def _write(self, keys: tuple[bytes, ...], value: bytes) -> None:
        now_s = self._clock_s()
        for key in keys:
            self._memory.put(key, Entry(value, now_s))
        self._queue(Write(keys, value, now_s))

    def _queue(self, write: Write) -> None:
        if self._depot is not None:
            self._depot.write(write)

    async def _read(self, depot: Depot, keys: list[bytes], oldest_s: float) -> dict[bytes, Entry]:
        found = await depot.read(keys, oldest_s)
        if found is None:
            return {}
        for key in keys:
            held = self._memory.get(key)
            if held is not None and held.noted_s >= oldest_s:
                continue  # somebody has put it, or forgotten it, meanwhile
            if entry := found.get(key):
                self._memory.put(key, entry)
            elif depot.misses_last and self._renewed:
                # What has to be made anew each time is soon there again.
                self._memory.put(key, Entry(b"", 0.0))
        return found


class _Memory:
    """The entries used last, of so many bytes."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()
        self._bytes = 0

    def get(self, key: bytes) -> Entry | None:
        """The entry, which thereby is the one used last."""
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        return entry

    def put(self, key: bytes, entry: Entry) -> None:
        """Add or replace one; those used longest ago make room."""
        if before := self._entries.pop(key, None):
            self._bytes -= len(before.value) + _ENTRY_BYTES
        self._entries[key] = entry
        self._bytes += len(entry.value) + _ENTRY_BYTES
        while self._bytes > self._most_bytes:
            _, gone = self._entries.popitem(last=False)
            self._bytes -= len(gone.value) + _ENTRY_BYTES
