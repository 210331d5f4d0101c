"""Where limits and budgets are taken from, and given back to: one for all policies of a gateway."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from ollama_bridge.policies.limits import Account, Drawer, Limits, owner, usd
from ollama_bridge.store.arithmetic import negative
from ollama_bridge.store.shelf import Granted, Rate, Refused, Store

log = structlog.get_logger(__name__)

_MOST_REMEMBERED: Final = 1024


@dataclass(frozen=True, slots=True)
class Taken:
    """What one attempt has reserved.

    Args:
        rates: Requests and tokens.
        drawers: Each gave `granted.amount` nano-dollars.
    """

    granted: Granted
    rates: tuple[Rate, ...]
    drawers: tuple[Drawer, ...]


class Till:
    """Takes from limits and budgets, says no in words, and warns before it has to.

    Args:
        store: What is left of them.
        clock_s: Seconds since the epoch.
    """

    def __init__(self, store: Store, *, clock_s: Callable[[], float] = time.time) -> None:
        self.store = store
        self._clock_s = clock_s
        self._hour = 0
        self._drawers: dict[str, tuple[Account, tuple[Drawer, ...]]] = {}  # of that hour
        self._noticed: dict[tuple[str, str], float] = {}

    async def take(
        self,
        limits: Sequence[Limits],
        tokens: int,
        accounts: Sequence[Account] = (),
        *,
        wanted: int = 0,
        least: int = 0,
    ) -> Taken:
        """Reserve a request.

        Args:
            limits: That it falls under.
            tokens: That it is likely to take.
            accounts: That it is paid from.
            wanted: Nano-dollars that it costs at most.
            least: Nano-dollars without which it is not worth asking.

        Raises:
            RateLimited: One of them does not hold enough.
        """
        now_s = self._clock_s()
        rates = tuple(rate for each in limits for rate in each.taking(tokens))
        drawers = self.drawers(accounts, now_s) if wanted else ()
        purses = [drawer.purse for drawer in drawers]
        answer = await self.store.take(rates, purses, wanted=wanted, least=least)
        if isinstance(answer, Granted):
            return Taken(answer, rates, drawers)
        if isinstance(answer.by, Rate):
            raise owner(limits, answer.by).refusal(answer.by, answer.retry_after_s, now_s)
        raise self._empty(drawers, answer, least, now_s)

    def settle(self, taken: Taken, *, tokens: int, nusd: int = 0) -> None:
        """Give back what was not needed, or take what was needed more."""
        # Requests stay taken; a window's tokens, and money, are what they came to in the end.
        rates = [
            Rate(rate.key, rate.limit, rate.window_s, tokens - rate.cost)
            for rate in taken.rates
            if rate.key.endswith("/tokens/60")
        ]
        granted = taken.granted
        purses = [drawer.purse for drawer in taken.drawers]
        if rates or purses:
            self.store.settle(granted, rates, purses, nusd - granted.amount)
        for drawer, spent in zip(taken.drawers, granted.spent, strict=False):
            left_over = spent - granted.amount + nusd
            if left_over >= drawer.account.budget.warn_at * drawer.purse.limit:
                self._notice("budget nearly used up", drawer, spent_usd=usd(left_over))

    def give_back(self, taken: Taken) -> None:
        """All of it, the request too: it was not made."""
        granted = taken.granted
        purses = [drawer.purse for drawer in taken.drawers]
        if taken.rates or purses:
            self.store.settle(granted, negative(taken.rates), purses, -granted.amount)

    def drawers(self, accounts: Sequence[Account], now_s: float) -> tuple[Drawer, ...]:
        """What all of these hold their money in at this time."""
        hour = int(now_s // 3600)
        if hour != self._hour or len(self._drawers) >= _MOST_REMEMBERED:
            self._hour = hour
            self._drawers.clear()
        found: list[Drawer] = []
        for account in accounts:
            known = self._drawers.get(account.key)
            if known is None or known[0] is not account:
                known = self._drawers[account.key] = (account, account.drawers(hour))
            found += known[1]
        return tuple(found)

    def _empty(self, drawers: Sequence[Drawer], refused: Refused, least: int, now_s: float) -> Exception:
        drawer = next(one for one in drawers if one.purse.key == refused.by.key)
        self._notice("budget used up", drawer)
        return drawer.refusal(refused, least, now_s)

    def _notice(self, what: str, drawer: Drawer, **more: str) -> None:
        """Log it, once for each purse."""
        purse = drawer.purse
        if (what, purse.key) in self._noticed:
            return
        if len(self._noticed) >= _MOST_REMEMBERED:
            now_s = self._clock_s()
            self._noticed = {one: until_s for one, until_s in self._noticed.items() if until_s > now_s}
        self._noticed[what, purse.key] = purse.until_s
        log.warning(what, budget=purse.key, limit_usd=usd(purse.limit), **more)
