"""Where limits and budgets are taken from, and given back to: one for all policies of a gateway."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

import structlog

from ollama_bridge.policies.limits import TOKENS, TOKENS_S, Account, Drawer, Limits, owner, usd
from ollama_bridge.record import CallRecord
from ollama_bridge.store.shelf import MOST, Granted, Rate, Refused, Store

log = structlog.get_logger(__name__)

_MOST_REMEMBERED: Final = 1024
_OF_PROVIDERS: Final = ("model/", "provider/")
"""How keys of limits begin that are not the client's own."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What one attempt has reserved.

    Args:
        rates: Requests and tokens.
        drawers: Each gave `granted.amount` nano-dollars.
        others: What calls under way in this process held of each before.
    """

    granted: Granted
    rates: tuple[Rate, ...]
    drawers: tuple[Drawer, ...] = ()
    others: tuple[int, ...] = ()


@dataclass(slots=True)
class Promise:
    """What a client's own limits are to give for a call: taken with the first that is taken for it, as one.

    Args:
        limits: Of the client.
        taken: None: it has not been.
    """

    limits: Sequence[Limits]
    taken: Taken | None = None


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
        self._promises: dict[int, Promise] = {}
        self._under_way: Counter[str] = Counter()
        """Nano-dollars of each purse that calls of this process have reserved and not settled."""

    @contextmanager
    def promised(self, record: CallRecord, limits: Sequence[Limits]) -> Iterator[Promise]:
        """While inside, whatever is taken for the call of that record first takes this, too."""
        promise = self._promises[id(record)] = Promise(limits)
        try:
            yield promise
        finally:
            del self._promises[id(record)]

    def promise(self, record: CallRecord) -> Promise | None:
        """What is still to be taken for that call."""
        promise = self._promises.get(id(record))
        return promise if promise is not None and promise.taken is None else None

    async def take(
        self,
        limits: Sequence[Limits],
        tokens: int,
        accounts: Sequence[Account] = (),
        *,
        wanted: int = 0,
        least: int = 0,
        promise: Promise | None = None,
    ) -> Taken:
        """Reserve a request.

        Args:
            limits: That it falls under.
            tokens: That it is likely to take.
            accounts: That it is paid from.
            wanted: Nano-dollars that it costs at most.
            least: Nano-dollars without which it is not worth asking.
            promise: To be taken as well.

        Raises:
            RateLimited: One of them does not hold enough.
        """
        now_s = self._clock_s()
        rates = _rates(limits, tokens)
        first = _rates(promise.limits, tokens) if promise is not None else ()
        drawers = self.drawers(accounts, now_s) if wanted else ()
        purses = [drawer.purse for drawer in drawers]
        answer = await self.store.take((*first, *rates), purses, wanted=wanted, least=least)
        if isinstance(answer, Granted):
            if promise is not None:
                promise.taken = Taken(answer, first)
            others = tuple(self._under_way[purse.key] for purse in purses)
            self._under_way.update(dict.fromkeys((purse.key for purse in purses), answer.amount))
            return Taken(answer, rates, drawers, others)
        if isinstance(answer.by, Rate):
            if promise is not None:
                limits = (*promise.limits, *limits)
            raise owner(limits, answer.by).refusal(answer.by, answer.retry_after_s, now_s)
        drawer = next(one for one in drawers if one.purse.key == answer.by.key)
        raise await self._empty(drawer, answer, least, now_s)

    async def redeem(self, promise: Promise, tokens: int) -> None:
        """Take it by itself, for a call that is likely to take so many tokens.

        Raises:
            RateLimited: As `take`.
        """
        await self.take((), tokens, promise=promise)

    def settle(self, taken: Taken, *, tokens: int, nusd: int = 0, was_asked: bool = True) -> None:
        """Give back what was not needed, or take what was needed more.

        Args:
            taken: What was reserved.
            tokens: What it came to.
            nusd: Nano-dollars that it came to.
            was_asked: Whether a provider heard of it: else its limits and the model's have a request more.
        """
        # What a provider says may be any number. One that no store holds would take all that is settled with it along.
        tokens, nusd = (max(0, min(amount, MOST)) for amount in (tokens, nusd))
        # Requests stay taken; a window's tokens, and money, are what they came to in the end.
        rates = [
            Rate(rate.key, rate.limit, rate.window_s, tokens - rate.cost)
            for rate in taken.rates
            if rate.window_s == TOKENS_S and rate.key.endswith(TOKENS)
        ]
        if not was_asked:
            spared = [rate for rate in taken.rates if rate.key.startswith(_OF_PROVIDERS)]
            rates += [replace(rate, cost=-rate.cost) for rate in spared if not rate.key.endswith(TOKENS)]
        granted = taken.granted
        purses = [drawer.purse for drawer in taken.drawers]
        if rates or purses:
            self.store.settle(granted, rates, purses, nusd - granted.amount)
        for purse in purses:
            self._done(purse.key, granted.amount)
        for drawer, spent, others in zip(taken.drawers, granted.spent, taken.others, strict=False):
            all_spent = max(spent - granted.amount - others, 0) + nusd
            if all_spent >= drawer.account.budget.warn_at * drawer.purse.limit:
                self._notice("budget nearly used up", drawer, spent_usd=usd(all_spent))

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

    async def _empty(self, drawer: Drawer, refused: Refused, least: int, now_s: float) -> Exception:
        limit, key = drawer.purse.limit, drawer.purse.key
        held = self._under_way[key]
        (spent,) = await self.store.spent([drawer.purse])
        held = max(held, self._under_way[key])  # what was settled meanwhile may still be in `spent`
        is_held = least <= limit - spent + held
        if least > limit:
            self._notice("a call costs more than a budget holds", drawer, costs_usd=usd(least))
        elif not is_held:
            self._notice("budget used up", drawer, spent_usd=usd(max(spent - held, 0)))
        return drawer.refusal(refused, least, now_s, is_held=is_held)

    def _done(self, key: str, amount: int) -> None:
        self._under_way[key] -= amount
        if not self._under_way[key]:
            del self._under_way[key]

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


def _rates(limits: Sequence[Limits], tokens: int) -> tuple[Rate, ...]:
    return tuple(rate for each in limits for rate in each.taking(tokens))
