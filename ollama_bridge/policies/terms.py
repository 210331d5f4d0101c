"""On which terms each model is asked: what it costs, and how much of it may be had."""

import asyncio
import functools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from operator import attrgetter
from types import MappingProxyType
from typing import Final, Literal

from ollama_bridge import prices
from ollama_bridge.allowances import Budget, Rates, rates_of
from ollama_bridge.catalog import Model, ModelConfig
from ollama_bridge.lineage import key_of
from ollama_bridge.policies.limits import Account, Limits, stated
from ollama_bridge.prices import Quote

_USUAL: Final = (3000, 1000)
"""Tokens of a question and of its answer, by which prices are compared."""


@dataclass(frozen=True, slots=True)
class Terms:
    """On which terms a model is asked.

    Args:
        quote: What it costs.
        limits: Its own and its provider's.
        accounts: Of all calls together, and of the model.
        of_key: That of a client key, if each has one.
        max_request_length: Most characters of a question.
    """

    quote: Quote
    limits: tuple[Limits, ...] = ()
    accounts: tuple[Account, ...] = ()
    of_key: Callable[[str], Account] | None = None
    max_request_length: int | None = None


@dataclass(frozen=True, slots=True)
class Seller:
    """A provider, as far as money and limits go.

    Args:
        kind: Whose models it has, as `catalog.facts_kind` says.
        base_url: Where it is, if the operator said so.
        allowed: How often all of its models together may be asked.
    """

    kind: str
    base_url: str | None = None
    allowed: Rates | None = None


class Book:
    """The terms of all models.

    Args:
        models: What exists, enabled or not.
        sellers: By the provider's key in the configuration.
        find: Finds a model that was added later.
        budgets: Of all calls together, and of each client key.
    """

    def __init__(
        self,
        models: Iterable[Model],
        sellers: Mapping[str, Seller],
        *,
        find: Callable[[str], Model],
        budgets: Mapping[Literal["all", "key"], Budget] = MappingProxyType({}),
    ) -> None:
        self._models = {key_of(model.name): model for model in models}
        self._sellers = sellers
        self._find = find
        of_all = budgets.get("all")
        self._accounts = (Account("all", "of all clients together", of_all),) if of_all else ()
        of_key = budgets.get("key")
        # One and the same object for each key: what is made of it is remembered.
        self._of_key = (
            functools.lru_cache(maxsize=1024)(functools.partial(account_of_key, of_key)) if of_key else None
        )
        self._terms: dict[str, Terms] = {}

    async def of(self, name: str) -> Terms:
        """Those of the model of that name, as lists show it; looked up once, in a thread if need be."""
        if name not in self._terms:
            model = self._models.get(key_of(name)) or self._find(name)
            self._terms[name] = self._made(model, await self._quote(model))
        return self._terms[name]

    def price(self, model: Model) -> Decimal | None:
        """What a usual question and its answer cost, to compare models by; None: nobody knows, or not yet."""
        its = self._terms.get(model.name)
        quote = (
            its.quote if its else prices.told(self._sellers[model.target.provider].kind, model.config.price)
        )
        tariff = quote(time.time()) if quote else None
        return None if tariff is None else Decimal(tariff.most_nusd(*_USUAL))

    async def unpayable(self, models: Sequence[Model], now_s: float) -> list[str]:
        """Names of those that fall under a budget and that nobody knows the price of."""
        terms = [await self.of(model.name) for model in models]
        return [
            model.name
            for model, its in zip(models, terms, strict=True)
            if (its.accounts or its.of_key) and its.quote(now_s) is None
        ]

    async def _quote(self, model: Model) -> Quote:
        seller = self._sellers[model.target.provider]
        told = prices.told(seller.kind, model.config.price)
        if told is not None:
            return told
        return await asyncio.to_thread(prices.look_up, seller.kind, seller.base_url, model.target.model)

    def _made(self, model: Model, quote: Quote) -> Terms:
        config, provider = model.config, model.target.provider
        accounts = self._accounts
        if config.budget is not None:
            name = self._owner(model, attrgetter("budget"))
            accounts = (
                *accounts,
                Account(f"model/{name}", f"of model '{name}'", config.budget, elsewhere=True),
            )
        owner = self._owner(model, rates_of)
        of_model = Limits.of(f"model/{owner}", f"model '{owner}'", rates_of(config), elsewhere=True)
        seller = self._sellers[provider]
        of_seller = Limits.of(
            f"provider/{provider}", f"provider '{provider}'", seller.allowed, elsewhere=True
        )
        return Terms(quote, stated(of_model, of_seller), accounts, self._of_key, config.max_request_length)

    def _owner(self, model: Model, limits: Callable[[ModelConfig], object]) -> str:
        """The model whose limits these are: what is made from a limited one must not be a way around its limits."""
        owner = model
        for ancestor in self._line(model):
            if limits(ancestor.config) != limits(owner.config):
                break
            owner = ancestor
        return owner.name

    def _line(self, model: Model) -> Iterator[Model]:
        at: Model | None = model
        while at is not None and at.config.from_:
            at = self._models.get(key_of(at.config.from_))
            if at is not None:
                yield at


def account_of_key(budget: Budget, key: str) -> Account:
    """The account of a client key, if each has `budget`; of those who bring none, one for all."""
    whose = "of this client key" if key else "of clients without a key"
    return Account(f"key/{key or '-'}", whose, budget)
