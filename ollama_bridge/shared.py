"""What outlives a configuration: a reload opens what the new one wants and hands on what it does not change."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from platformdirs import user_state_path

from ollama_bridge.allowances import Rates, rates_of
from ollama_bridge.learned import Learned
from ollama_bridge.ledger import ledger_path
from ollama_bridge.ledger.writer import Ledger
from ollama_bridge.lessons import learned_path
from ollama_bridge.metrics import Metrics
from ollama_bridge.policies.circuit_news import CircuitNews
from ollama_bridge.policies.circuits import Circuits
from ollama_bridge.policies.keyring import Keyrings
from ollama_bridge.policies.till import Till
from ollama_bridge.registry import Residency
from ollama_bridge.sqlitefile import Limits
from ollama_bridge.store.embedded import EmbeddedStore
from ollama_bridge.store.link import RedisLink
from ollama_bridge.store.remote import RemoteStore
from ollama_bridge.store.vaults import vault_at

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ollama_bridge.config import Config
    from ollama_bridge.store.shelf import Store
    from ollama_bridge.vault import Vault

_MEGABYTE: Final = 1024 * 1024
_DAY_S: Final = 86_400


class _Closable(Protocol):
    async def aclose(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """All of it.

    Args:
        residency: What was used and until when.
        metrics: Sums of all calls.
        circuits: Which targets are left alone.
        keyrings: Whose turn it is among the keys of a provider, and which rest.
        learned: Repairs that models turned out to need.
        link: To Redis, if there is one.
        store: What limits and budgets count in; None: nothing is limited, and nothing shared.
        till: What takes from it.
        news: Shares circuits with other instances; None: there are none.
        vault: What providers want back with later turns; None: it is not kept.
        answers: Kept answers; None: none are.
        ledger: A row of each call; None: it is not kept.
    """

    residency: Residency = field(default_factory=Residency)
    metrics: Metrics = field(default_factory=Metrics)
    circuits: Circuits = field(default_factory=Circuits)
    keyrings: Keyrings = field(default_factory=Keyrings)
    learned: Learned = field(default_factory=Learned)
    link: RedisLink | None = None
    store: Store | None = None
    till: Till | None = None
    news: CircuitNews | None = None
    vault: Vault | None = None
    answers: Vault | None = None
    ledger: Ledger | None = None

    async def warm(self) -> None:
        """Open what is slow to open, so that no client waits for it."""
        if self.news is not None:
            self.news.listen()
        if self.store is not None:
            await self.store.spent(())

    async def aclose(self, successor: Shared | None = None) -> None:
        """Close what `successor` has not taken over."""
        kept = [id(one) for one in successor._open()] if successor else []  # noqa: SLF001 - its own kind
        for one in self._open():
            if id(one) not in kept:
                await one.aclose()

    def _open(self) -> Iterator[_Closable]:
        # The link last: the others may have something to say over it.
        for one in (self.learned, self.vault, self.answers, self.ledger, self.news, self.store, self.link):
            if one is not None:
                yield one


def opened(config: Config, before: Shared | None, *, siblings: bool = False) -> Shared:
    """What `config` wants.

    Args:
        config: What the operator wants.
        before: From which is taken what has not changed.
        siblings: Whether other processes of this machine answer the same clients.
    """
    before = before or Shared(learned=Learned(learned_path()))
    link = _link(config.state, before.link)
    store = _store(config, link, before, siblings=siblings)
    circuits = before.circuits if config.breaker.failures else Circuits()
    return Shared(
        residency=before.residency,
        metrics=before.metrics,
        circuits=circuits,
        keyrings=before.keyrings,
        learned=before.learned,
        link=link,
        store=store,
        till=before.till if before.store is store else Till(store) if store else None,
        news=_news(circuits, store if link or siblings else None, before.news),
        vault=_vault(config, link, before.vault, siblings=siblings),
        answers=_answers(config, link, before.answers, siblings=siblings),
        ledger=_ledger(config, before.ledger),
    )


def _state(name: str) -> Path:
    return user_state_path("ollama-bridge") / name


def _link(url: str, before: RedisLink | None) -> RedisLink | None:
    if before is not None and before.url == url:
        return before
    return RedisLink(url) if url else None


def _store(config: Config, link: RedisLink | None, before: Shared, *, siblings: bool) -> Store | None:
    if not (link or siblings or _limits_something(config)):
        return None
    if before.store is not None and before.link is link:
        return before.store
    local = EmbeddedStore(_state("state.sqlite3"))
    return RemoteStore(link, local) if link else local


def _limits_something(config: Config) -> bool:
    limited = (*config.providers.values(), *config.models)
    return bool(
        config.limits
        or config.budgets
        or any(model.budget for model in config.models)
        or any(rates_of(each) != Rates() for each in limited)
    )


def _news(circuits: Circuits, store: Store | None, before: CircuitNews | None) -> CircuitNews | None:
    if store is None:
        return None
    if before is not None and before.store is store and before.circuits is circuits:
        return before
    return CircuitNews(circuits, store)


def _vault(config: Config, link: RedisLink | None, before: Vault | None, *, siblings: bool) -> Vault | None:
    wanted = config.reasoning
    if not wanted.keep:
        return None
    return vault_at(
        link or _state("reasoning.sqlite3"),
        Limits(wanted.max_mb * _MEGABYTE, wanted.max_days * _DAY_S),
        holds="the reasoning of earlier turns",
        prefix="reasoning",
        renewed=True,
        siblings=siblings,
        before=before,
    )


def _answers(config: Config, link: RedisLink | None, before: Vault | None, *, siblings: bool) -> Vault | None:
    wanted = config.cache
    if not wanted.enabled:
        return None
    places = {"memory": None, "disk": _state("cache.sqlite3"), "state": link}
    return vault_at(
        places[wanted.store],
        Limits(wanted.max_mb * _MEGABYTE, wanted.ttl_s),
        holds="answers",
        prefix="answer",
        renewed=False,
        siblings=siblings,
        before=before,
    )


def _ledger(config: Config, before: Ledger | None) -> Ledger | None:
    wanted = config.ledger
    if not wanted.keep:
        return None
    limits = Limits(wanted.max_mb * _MEGABYTE, wanted.max_days * _DAY_S)
    if before is not None and before.limits == limits:
        return before
    return Ledger(ledger_path(), limits)
