"""What every store of shared state can do: take from limits and budgets at once, and keep small values for a while.

Amounts are whole numbers: requests, tokens, or nano-dollars. Keys are text of printable ASCII without secrets.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

MOST: Final = 2**53
"""Units in one amount: so many a Lua script counts exactly, and SQLite's 64 bits hold the sum of a thousand."""


@dataclass(frozen=True, slots=True)
class Rate:
    """So many units in any `window_s` seconds (a sliding window counter).

    Args:
        key: What is limited, such as `model/claude:latest/requests`.
        limit: Most units in a window.
        window_s: 60, 3600 or 86400.
        cost: Units to take.
    """

    key: str
    limit: int
    window_s: int
    cost: int = 1


@dataclass(frozen=True, slots=True)
class Purse:
    """So many nano-dollars until a calendar window ends.

    Args:
        key: Whose budget and of which window, such as `all/day/2026-11-21`.
        limit: Most nano-dollars in it.
        until_s: When it ends, in seconds since the epoch.
    """

    key: str
    limit: int
    until_s: float


@dataclass(frozen=True, slots=True)
class Granted:
    """All rates are taken, and `amount` nano-dollars out of every purse.

    Args:
        amount: Between `least` and `wanted`: what the emptiest purse still held.
        spent: What is spent of each purse now, reservations included, in the order of the purses.
        at_s: When, by the store's clock: what is given back later goes back to where it came from.
        remote: Whether the state that instances share knows of it, or only this machine's.
    """

    amount: int
    spent: tuple[int, ...] = ()
    at_s: float = 0.0
    remote: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing was taken.

    Args:
        by: The first of the rates, then of the purses, that does not hold enough.
        left: Units, or nano-dollars, that it still has.
        retry_after_s: Seconds until it has enough, if nobody else takes of it; None: it never will, because the
            limit is lower than what is wanted of it.
    """

    by: Rate | Purse
    left: int
    retry_after_s: float | None


class Store(Protocol):
    """Shared state. Nothing here raises because of the disk or the network: it degrades, and says so once."""

    async def take(
        self, rates: Sequence[Rate], purses: Sequence[Purse], *, wanted: int = 0, least: int = 0
    ) -> Granted | Refused:
        """Take from all of them or from none, whoever else does the same at this moment.

        What is taken counts as spent at once: a process that is killed before it settles has spent all of it. Who
        stops waiting for this has taken nothing.

        Args:
            rates: Each gives its `cost`.
            purses: Each gives the same amount.
            wanted: Nano-dollars to reserve.
            least: Nano-dollars without which nothing is taken; 0: an empty purse refuses nothing.
        """
        ...

    def settle(self, granted: Granted, rates: Sequence[Rate], purses: Sequence[Purse], amount: int) -> None:
        """Correct what was taken: a moment later, whoever is cancelled meanwhile.

        In this machine's own state that is before whatever this process takes next. Nothing falls below zero, and
        nothing is given back to a window that began after it was taken from. More than was reserved counts even where
        it is beyond a limit: it is spent.

        Args:
            granted: What `take` said.
            rates: Their `cost` is the difference to what was taken, and may be negative.
            purses: From each of them.
            amount: Nano-dollars: the difference to what was reserved, and may be negative.
        """
        ...

    async def spent(self, purses: Sequence[Purse]) -> tuple[int, ...]:
        """Nano-dollars spent and reserved, of each."""
        ...

    async def get(self, key: str) -> bytes | None:
        """A small value that somebody put and that has not expired."""
        ...

    async def put(self, key: str, value: bytes, *, ttl_s: float) -> None:
        """Keep a small value under a key, instead of what is there; not at all when `ttl_s` is 0."""
        ...

    async def claim(self, key: str, *, ttl_s: float) -> bool:
        """Whether nothing is kept under this key; if so, it is taken (by an empty value) for so long."""
        ...

    async def aclose(self) -> None:
        """Write what is still to be written, and close."""
        ...
