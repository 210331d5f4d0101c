"""The store in Redis or Valkey, shared by instances; while it is away, this machine's own store answers.

What this machine spends meanwhile is added up and handed in when Redis is back, and it spends no more than what was
left when it last heard of it. A Redis that comes back empty is told again what this instance has seen of each purse.
"""

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from itertools import islice
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ollama_bridge.store.arithmetic import Counts, empty, negative, refused
from ollama_bridge.store.link import PREFIX, LinkDown, RedisLink
from ollama_bridge.store.shelf import Granted, Purse, Rate, Refused, Store

if TYPE_CHECKING:
    import redis
    from redis.commands.core import Script

T = TypeVar("T")

_REMEMBER_MS: Final = 3600 * 1000  # how long an operation may still be undone, or be sent again
_BATCH: Final = 64  # settlements that are sent without looking up
_SEEN: Final = 256  # purses of which it is remembered what is spent, before old ones are looked for


@dataclass(frozen=True, slots=True)
class _Due:
    """Something that Redis has yet to be told.

    Args:
        rates: Their `cost` is the difference.
        amount: Nano-dollars to add; None: undo the take called `name`.
        at_s: When the rates were taken.
        here: Whether it was spent from the local store, and has to leave it then.
        name: Of the operation; what has one name is done once.
    """

    rates: Sequence[Rate]
    purses: Sequence[Purse]
    amount: int | None
    at_s: float
    here: bool = False
    name: str = field(default_factory=partial(secrets.token_hex, 8))


class RemoteStore:
    """A `Store` in Redis.

    Args:
        link: The connection; closed by whoever made it.
        local: Answers while the link is down; closed with this.
        clock_s: Seconds since the epoch.
    """

    def __init__(self, link: RedisLink, local: Store, clock_s: Callable[[], float] = time.time) -> None:
        self._link = link
        self._local = local
        self._clock_s = clock_s
        self._dues: deque[_Due] = deque()
        self._owed: dict[str, tuple[Purse, int]] = {}
        self._seen: dict[str, tuple[Purse, int]] = {}
        self._most_seen = _SEEN
        self._scripts: ModuleType | None = None
        self._known: dict[str, Script] = {}
        self._delivering: asyncio.Task[None] | None = None

    async def take(
        self, rates: Sequence[Rate], purses: Sequence[Purse], *, wanted: int = 0, least: int = 0
    ) -> Granted | Refused:
        """See `Store.take`."""
        undo = _Due(negative(rates), purses, None, self._clock_s())
        remember = [_REMEMBER_MS, len(rates), len(purses), wanted, min(least, wanted)]
        arguments = [value for rate in rates for value in (rate.limit, rate.window_s, rate.cost)]
        arguments += [value for purse in purses for value in (purse.limit, *self._life(purse))]
        await self._prepare()
        try:
            reply = await self._link.run(partial(self._take, _keys(undo), [*remember, *arguments]))
        except asyncio.CancelledError:
            self._tell(undo)
            raise
        except LinkDown as exc:
            if exc.asked:
                self._tell(undo)
            return await self._take_here(rates, purses, wanted, least)
        match reply:
            case [b"granted", amount, spent]:
                self._saw(purses, spent)
                return Granted(int(amount), tuple(map(int, spent)), self._clock_s(), remote=True)
            case [b"rate", number, counts]:
                return refused(rates[number], _counts(rates[number], counts))
            case [b"purse", number, left]:
                return empty(purses[number], int(left), least, self._clock_s())
        return await self._take_here(rates, purses, wanted, least)

    def settle(self, granted: Granted, rates: Sequence[Rate], purses: Sequence[Purse], amount: int) -> None:
        """See `Store.settle`."""
        if granted.remote:
            self._tell(_Due(rates, purses, amount, granted.at_s))
        else:
            self._local.settle(granted, rates, purses, amount)
            self._owe(purses, amount)

    async def spent(self, purses: Sequence[Purse]) -> tuple[int, ...]:
        """See `Store.spent`."""
        await self._prepare()
        keys = [_purse_key(purse) for purse in purses]
        try:
            values = await self._link.run(partial(_values, [*keys, f"{PREFIX}probe"]))  # without purses, too
        except LinkDown:
            here = await self._local.spent(purses)
            return tuple(self._seen_of(purse) + own for purse, own in zip(purses, here, strict=True))
        return tuple(
            self._seen_of(purse) if value is None else int(value)
            for purse, value in zip(purses, values[:-1], strict=True)
        )

    async def get(self, key: str) -> bytes | None:
        """See `Store.get`."""
        return await self._or_here(lambda client: client.get(_kept_key(key)), lambda: self._local.get(key))

    async def put(self, key: str, value: bytes, *, ttl_s: float) -> None:
        """See `Store.put`."""
        name, ttl_ms = _kept_key(key), int(ttl_s * 1000)
        await self._or_here(
            lambda client: client.set(name, value, px=ttl_ms) if ttl_ms > 0 else client.delete(name),
            lambda: self._local.put(key, value, ttl_s=ttl_s),
        )

    async def claim(self, key: str, *, ttl_s: float) -> bool:
        """See `Store.claim`."""
        ttl_ms = max(1, int(ttl_s * 1000))
        return await self._or_here(
            lambda client: bool(client.set(_kept_key(key), b"", px=ttl_ms, nx=True)),
            lambda: self._local.claim(key, ttl_s=ttl_s),
        )

    async def aclose(self) -> None:
        """Tell Redis what it has yet to be told, if it can be reached at once, and close the local store."""
        if self._delivering is not None:
            self._delivering.cancel()
            await asyncio.wait({self._delivering})
        with suppress(LinkDown):
            await self._deliver()
        await self._local.aclose()

    async def _prepare(self) -> None:
        """Load, once, what is not to be loaded on the time of an answer."""
        if self._scripts is None:
            self._scripts = await asyncio.to_thread(import_module, "ollama_bridge.store.scripts")

    async def _or_here(
        self, work: "Callable[[redis.Redis], Any]", here: "Callable[[], Coroutine[Any, Any, T]]"
    ) -> T:
        try:
            done: T = await self._link.run(work)
        except LinkDown:
            return await here()
        return done

    async def _take_here(
        self, rates: Sequence[Rate], purses: Sequence[Purse], wanted: int, least: int
    ) -> Granted | Refused:
        """Of what was left when Redis was last heard of."""
        seen = [self._seen_of(purse) for purse in purses]
        rest = [
            replace(purse, limit=max(0, purse.limit - gone)) for purse, gone in zip(purses, seen, strict=True)
        ]
        answer = await self._local.take(rates, rest, wanted=wanted, least=least)
        if isinstance(answer, Granted):
            self._owe(purses, answer.amount)
            spent = tuple(gone + own for gone, own in zip(seen, answer.spent, strict=True))
            return replace(answer, spent=spent)
        if isinstance(answer.by, Purse):
            return empty(purses[rest.index(answer.by)], answer.left, least, self._clock_s())
        return answer

    def _owe(self, purses: Sequence[Purse], amount: int) -> None:
        for purse in purses:
            self._owed[purse.key] = (purse, self._owed.get(purse.key, (purse, 0))[1] + amount)
        self._wake()

    def _tell(self, due: _Due) -> None:
        self._dues.append(due)
        self._wake()

    def _wake(self) -> None:
        if self._delivering is None or self._delivering.done():
            self._delivering = asyncio.create_task(self._keep_delivering())

    async def _keep_delivering(self) -> None:
        while self._dues or self._owed:
            await self._link.up()
            with suppress(LinkDown):  # then it goes on when it is up again
                await self._deliver()

    async def _deliver(self) -> None:
        """Tell Redis all that it has yet to be told.

        Raises:
            LinkDown: It was not told all of it.
        """
        await self._prepare()
        now_s = self._clock_s()
        for purse, amount in self._owed.values():
            if amount and purse.until_s > now_s:
                self._dues.append(_Due((), (purse,), amount, now_s, here=True))
        self._owed.clear()
        while some := list(islice(self._dues, _BATCH)):
            told = await self._link.run(partial(self._settle, [self._written(due) for due in some]))
            for due, spent in zip(some, told, strict=True):
                self._dues.popleft()
                self._saw(due.purses, spent)
                if due.here and due.amount and due.amount > 0:
                    self._local.settle(Granted(0), (), due.purses, -due.amount)

    def _written(self, due: _Due) -> tuple[list[str], list[str | int]]:
        """Keys and arguments of the script."""
        age_ms = max(0, int((self._clock_s() - due.at_s) * 1000))
        amount = "undo" if due.amount is None else due.amount
        arguments = [_REMEMBER_MS, len(due.rates), len(due.purses), amount]
        arguments += [value for rate in due.rates for value in (rate.window_s, rate.cost, age_ms)]
        arguments += [value for purse in due.purses for value in self._life(purse)]
        return _keys(due), arguments

    def _life(self, purse: Purse) -> tuple[int, int]:
        """Milliseconds until it ends, and what this instance knows to be spent of it."""
        return max(1000, int((purse.until_s - self._clock_s()) * 1000)), self._seen_of(purse)

    def _seen_of(self, purse: Purse) -> int:
        return self._seen[purse.key][1] if purse.key in self._seen else 0

    def _saw(self, purses: Sequence[Purse], spent: Sequence[bytes]) -> None:
        for purse, value in zip(purses, spent, strict=True):
            self._seen[purse.key] = (purse, int(value))
        if len(self._seen) > self._most_seen:
            now_s = self._clock_s()
            self._seen = {key: (purse, n) for key, (purse, n) in self._seen.items() if purse.until_s > now_s}
            self._most_seen = max(_SEEN, 2 * len(self._seen))

    # What follows runs in one of the link's threads.

    def _take(self, keys: list[str], arguments: list[str | int], client: "redis.Redis") -> Any:
        return self._script(client, "TAKE")(keys, arguments)

    def _settle(
        self, dues: "Sequence[tuple[list[str], list[str | int]]]", client: "redis.Redis"
    ) -> list[list[bytes]]:
        script = self._script(client, "SETTLE")
        return [script(keys, arguments) for keys, arguments in dues]

    def _script(self, client: "redis.Redis", name: str) -> "Script":
        if name not in self._known:
            self._known[name] = client.register_script(getattr(self._scripts, name))
        return self._known[name]


def _values(keys: list[str], client: "redis.Redis") -> list[Any]:
    found: list[Any] = client.mget(keys)
    return found


def _keys(due: _Due) -> list[str]:
    """Of the operation, of both windows of each rate, and of the purses."""
    keys = [f"{PREFIX}operation:{due.name}"]
    for rate in due.rates:
        window = f"{PREFIX}rate:{rate.key}/{rate.window_s}"
        keys += [f"{window}/before", window]
    return keys + [_purse_key(purse) for purse in due.purses]


def _purse_key(purse: Purse) -> str:
    return f"{PREFIX}purse:{purse.key}"


def _kept_key(key: str) -> str:
    return f"{PREFIX}kept:{key}"


def _counts(rate: Rate, found: Sequence[bytes | int | None]) -> Counts:
    previous, previous_ms, current, current_ms = (int(value or 0) for value in found)
    return Counts(previous, max(0, previous_ms) / 1000, current, max(0.0, current_ms / 1000 - rate.window_s))
