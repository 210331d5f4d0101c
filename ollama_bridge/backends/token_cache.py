"""Short-lived tokens of a provider's own sign-in: fetched once however many wait, and anew before they run out."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import structlog

from ollama_bridge.errors import UpstreamError

log = structlog.get_logger(__name__)

_AHEAD: Final = 1 / 6
"""Part of a token's life before whose end it is renewed while it still serves: of 30 minutes the last 5."""
_MOST_AHEAD_S: Final = 300.0
_UNSURE: Final = 1 / 60
"""Part of a token's life at whose end it is not trusted any more: a request takes time to arrive."""
_AGAIN_S: Final = 15.0
"""Seconds until it is tried again to renew a token that still serves."""


@dataclass(frozen=True, slots=True)
class Token:
    """What a token server gave: the token, and for how many seconds from the moment at which it was asked for."""

    value: str = field(repr=False)
    good_for_s: float


@dataclass(slots=True)
class _Held:
    value: str = field(repr=False)
    good_for_s: float
    renew_after_s: float
    since_s: float
    since_wall_s: float


class Tokens:
    """The tokens of one provider, one for each of its keys.

    Args:
        provider: Its key in the configuration, for the log.
        fetch: Gets a token for the key of that number. It runs in a task of its own and has to end by itself: nobody
            cancels it before `aclose`.
        clock_s: Monotonic seconds.
        wall_s: Seconds since the epoch. A token is as old as the clock says that counted more: the monotonic one
            stands still while a laptop sleeps, the other may be set back.
    """

    def __init__(
        self,
        provider: str,
        fetch: Callable[[int], Awaitable[Token]],
        *,
        clock_s: Callable[[], float] = time.monotonic,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self._provider = provider
        self._fetch = fetch
        self._clock_s = clock_s
        self._wall_s = wall_s
        self._held: dict[int, _Held] = {}
        self._fetching: dict[int, asyncio.Task[str]] = {}

    async def get(self, key: int) -> str:
        """A token that is good now. Whoever waits for one and leaves takes it from nobody.

        Raises:
            UpstreamError: There is none to be had; all who waited learn it, and the next one asks again.
        """
        held = self._held.get(key)
        if held is not None and (age_s := self._age_s(held)) < held.good_for_s:
            if age_s >= held.renew_after_s:
                self._renewal(key)
            return held.value
        try:
            return await asyncio.shield(self._renewal(key))
        except UpstreamError as exc:
            raise exc.anew() from exc.__cause__

    def forget(self, key: int, value: str) -> None:
        """The provider does not take this token any more; one that came since stays."""
        held = self._held.get(key)
        if held is not None and held.value == value:
            del self._held[key]

    def values(self) -> Iterator[str]:
        """All that are held, for those who must never show one."""
        return (held.value for held in self._held.values())

    async def aclose(self) -> None:
        """Fetch no more."""
        tasks = [*self._fetching.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _age_s(self, held: _Held) -> float:
        return max(self._clock_s() - held.since_s, self._wall_s() - held.since_wall_s)

    def _renewal(self, key: int) -> asyncio.Task[str]:
        task = self._fetching.get(key)
        if task is None or task.done():
            task = asyncio.create_task(self._renewed(key), name=f"sign in at {self._provider}")
            self._fetching[key] = task
            task.add_done_callback(lambda ended: self._told(key, ended))
        return task

    async def _renewed(self, key: int) -> str:
        since_s, since_wall_s = self._clock_s(), self._wall_s()
        token = await self._fetch(key)
        good_for_s = token.good_for_s * (1 - _UNSURE)
        ahead_s = min(token.good_for_s * _AHEAD, _MOST_AHEAD_S)
        self._held[key] = _Held(token.value, good_for_s, token.good_for_s - ahead_s, since_s, since_wall_s)
        return token.value

    def _told(self, key: int, task: asyncio.Task[str]) -> None:
        if self._fetching.get(key) is task:
            del self._fetching[key]
        if task.cancelled() or (failure := task.exception()) is None:
            return
        held = self._held.get(key)
        if held is not None:  # nobody may have waited for it, and so nobody else would tell
            held.renew_after_s = self._age_s(held) + _AGAIN_S
            reason = failure.summary if isinstance(failure, UpstreamError) else type(failure).__name__
            log.warning("sign-in not renewed", provider=self._provider, reason=reason)
