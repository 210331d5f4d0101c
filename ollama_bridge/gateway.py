"""Stacks policies over backends; the only file that knows their order.

Read top to bottom, that is inside out. Inside the registry stands what guards one provider, outside of it
what concerns the client.
"""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Final

import structlog

from ollama_bridge.allowances import rates_of
from ollama_bridge.backends import fim
from ollama_bridge.backends.lazy import LazyProvider
from ollama_bridge.backends.vendors import vendor_of
from ollama_bridge.catalog import COMPATIBLE, Model
from ollama_bridge.chat import (
    Answerer,
    Backend,
    ChatRequest,
    Counter,
    Embedder,
    Embeddings,
    EmbedRequest,
    Reply,
)
from ollama_bridge.config import Config, Provider
from ollama_bridge.errors import ModelNotFound
from ollama_bridge.live import KIND, Live
from ollama_bridge.policies.billing import Billing
from ollama_bridge.policies.breaker import Breaker
from ollama_bridge.policies.cache import Cache, Caching, Who
from ollama_bridge.policies.circuits import Tolerance
from ollama_bridge.policies.client_limits import ClientLimits
from ollama_bridge.policies.complete import Complete
from ollama_bridge.policies.counting import Counting
from ollama_bridge.policies.infill import FillByChat
from ollama_bridge.policies.keyring import Resting
from ollama_bridge.policies.keys import KeyedCounter, KeyPool
from ollama_bridge.policies.meter import Meter
from ollama_bridge.policies.pace import Pace, Pacing
from ollama_bridge.policies.recall import Recall
from ollama_bridge.policies.repair import Repairing
from ollama_bridge.policies.retry import Backoff, Retry
from ollama_bridge.policies.stand_ins import StandIns
from ollama_bridge.policies.terms import Book, Seller
from ollama_bridge.policies.timeout import EmbedTimeout, Timeout
from ollama_bridge.policies.turnstile import Turnstile
from ollama_bridge.registry import ModelRegistry
from ollama_bridge.roster import Roster
from ollama_bridge.shared import Shared, opened
from ollama_bridge.surfaces.status import KeysStatus, ModelStatus, ProviderStatus

_NEVER_SEAL: Final = frozenset({COMPATIBLE, "ollama", "demo"})
"""Kinds of providers, as far as facts go, whose replies hold nothing that they want back."""

COUNT_WITHIN_S: Final = 3.0
"""Seconds for a provider to count a prompt's tokens before they are estimated."""

log = structlog.get_logger(__name__)


class Both:
    """One provider's chat and its embeddings, each with guards of its own, as one: for the policies around both."""

    def __init__(self, backend: Backend, embedder: Embedder) -> None:
        self.chat = backend.chat
        self.embed = embedder.embed


def guard(config: Config, provider: LazyProvider, shared: Shared, book: Book) -> Answerer:
    """What stands before one provider."""
    settings = provider.settings
    first_s, idle_s = _silence_s(config, settings.name)

    # Who cannot fill gaps in code is asked for what it can do.
    backend: Backend = FillByChat(provider, partial(fim.fills, settings))
    backend = Complete(backend)  # no Finish, no answer
    # Inside of all that counts attempts, and of the timeout: a refusal and the call after it are one.
    backend = mended = Repairing(Both(backend, provider), shared.learned)
    if shared.vault is not None and _may_seal(settings.name, config.providers[settings.name]):
        # Inside the timeout: a slow disk and a second try are silence.
        backend = Recall(backend, shared.vault)
    backend = Timeout(backend, first_s=first_s, idle_s=idle_s)
    answerer: Answerer = Both(backend, EmbedTimeout(mended, within_s=first_s))
    if settings.at_once or settings.spacing_s:
        # To wait for one's turn is nobody's silence.
        answerer = Turnstile(answerer, shared.gates.of(settings))
    if len(settings.api_keys) > 1:
        answerer = KeyPool(answerer, shared.keyrings.of(settings))  # another key is no other attempt
    if config.breaker.failures:
        tolerance = Tolerance(config.breaker.failures, config.breaker.open_s)
        answerer = Breaker(answerer, shared.circuits, tolerance, shared.news)
    answerer = Billing(answerer, book.of, shared.till)  # each attempt may be billed
    if config.retry.max_retries:
        answerer = Retry(answerer, _backoff(config), blocks=shared.circuits.blocks)
    return answerer


def _counter(provider: LazyProvider, shared: Shared) -> Counter:
    counter: Counter = provider
    if len(provider.settings.api_keys) > 1:
        counter = KeyedCounter(counter, shared.keyrings.of(provider.settings))
    return Counting(counter, within_s=COUNT_WITHIN_S)


class Gateway:
    """One configuration, ready to answer. A reload makes a new one; the old one lives as long as it is used.

    Args:
        config: What the operator wants.
        models: All of it has, completed.
        providers: By their key in the configuration; a reload hands on those that have not changed.
        shared: What outlives a configuration.
        live: Real Ollamas among the providers.

    Raises:
        ConfigError: The models contradict each other.
    """

    def __init__(
        self,
        config: Config,
        models: Sequence[Model],
        providers: Mapping[str, LazyProvider],
        shared: Shared,
        live: Live,
    ) -> None:
        self.providers = dict(providers)
        self.shared = shared
        self.live = live
        self.heartbeat_s = config.streaming.heartbeat_s
        self._pacing = Pacing(config.streaming.chunk_size, config.streaming.delay_ms / 1000)
        self._users = 0
        self._unused = asyncio.Event()
        self._unused.set()

        shared.circuits.keep(model.target for model in models)
        self._book = _book(config, models, self)
        answerers = {
            name: guard(config, provider, shared, self._book) for name, provider in providers.items()
        }
        self.registry = ModelRegistry(  # and fallbacks: from a name to those who may answer
            answerers,
            models,
            embedders=answerers,
            counters={name: _counter(provider, shared) for name, provider in providers.items()},
            kinds={name: config.providers[name].facts_kind(name) for name in providers},
            default_max_tokens=config.default_max_tokens,
            beside=live.beside,
            stand_ins=StandIns(
                auto=config.routing.auto,
                listed=config.routing.listed,
                price_of=self._book.price,
                blocks=lambda model: shared.circuits.blocks(model.target),
            ),
        )
        answerer: Answerer = self.registry
        caching = Caching(
            shared.answers, share=config.cache.share, any_temperature=config.cache.any_temperature
        )
        self._cache = Cache(answerer, caching, self._who) if caching else None
        answerer = self._cache or answerer
        if config.limits and shared.till is not None:
            by_key, by_address = config.limits.get("key"), config.limits.get("address")
            cached = self._cache.concerns if self._cache else lambda _: False
            answerer = ClientLimits(
                answerer, shared.till, by_key=by_key, by_address=by_address, at_once=cached
            )
        answerer = Pace(answerer, self._pacing_of)  # a kept answer comes as a live one does
        self._outermost = Meter(answerer, [*([shared.ledger] if shared.ledger else []), shared.metrics])
        live.on_change(self.registry.renew)

    def chat(self, request: ChatRequest) -> Reply:
        """Answer through all policies."""
        return self._outermost.chat(request)

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Embed through all policies."""
        return await self._outermost.embed(request)

    async def count(self, request: ChatRequest) -> int:
        """Tokens of the prompt, as the provider counts them or else estimated; soon, whatever the provider does."""
        return await self.registry.count(request)

    async def refreshed(self) -> ModelRegistry:
        """The registry, whose lists are those of now as far as nobody has to wait long for them."""
        await self.live.fresh()
        return self.registry

    async def find(self, name: str) -> Model:
        """The model that answers to `name`, be it that a real Ollama has it since just now.

        Raises:
            ModelNotFound: There is none.
        """
        try:
            return self.registry.resolve(name)
        except ModelNotFound:
            await self.live.look()
        return self.registry.resolve(name)

    def status(self, resting: Resting | None = None) -> tuple[ProviderStatus, ...]:
        """How each provider is, and each of the models that are enabled.

        Args:
            resting: Keys that rest; None: as far as this process knows.
        """
        of_provider: dict[str, list[ModelStatus]] = {name: [] for name in self.providers}
        for model in self.registry.enabled():
            circuit = self.shared.circuits.of(model.target.provider, model.target.model)
            of_provider[model.target.provider].append(
                ModelStatus(
                    model.name,
                    model.target.model,
                    circuit.state,
                    circuit.failures,
                    circuit.last,
                    circuit.since_s,
                    circuit.left_s,
                )
            )
        if resting is None:
            resting = self.shared.keyrings.resting()
        return tuple(
            ProviderStatus(
                name,
                self.providers[name].settings.kind,
                tuple(models),
                _keys(len(self.providers[name].settings.api_keys), resting.get(name, ())),
            )
            for name, models in of_provider.items()
        )

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """While inside, `retire` waits."""
        self._users += 1
        self._unused.clear()
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                self._unused.set()

    async def warm(self) -> None:
        """Load every provider's SDK, one after the other, and all else that is slow, so that no client waits for it."""
        await self.refreshed()
        for provider in self.providers.values():
            await provider.warm()
        await self.shared.warm()
        if absent := self.registry.absent():
            log.warning(
                "nobody answers to these fallbacks now: see `ollama-bridge config check`", names=absent
            )
        if unpayable := await self._book.unpayable(self.registry.models(), time.time()):
            log.warning(
                "nobody knows what these models cost, and so no budget pays for them: set models[].price",
                models=unpayable,
            )

    async def retire(self, successor: "Gateway | None" = None) -> None:
        """Once the last answer is out, close what `successor` has not taken over."""
        await self._unused.wait()
        keep = {id(provider) for provider in successor.providers.values()} if successor else set()
        for name, provider in self.providers.items():
            if id(provider) not in keep:
                if name in self.live.rosters:
                    await self.live.rosters[name].aclose()
                await provider.aclose()
        await self.shared.aclose(successor.shared if successor else None)

    def resolve(self, name: str) -> Model:
        """The model that answers to `name`; see `ModelRegistry.resolve`."""
        return self.registry.resolve(name)

    def _who(self, name: str) -> Who:
        model = self.resolve(name)
        target = model.target
        settings = self.providers[target.provider].settings
        # The same name of a model, asked elsewhere or in another way, is another model.
        details = (settings.kind, settings.base_url, settings.api, settings.fim, settings.headers)
        may_be_native = settings.kind == KIND or (bool(self.live.rosters) and self.registry.stands_in(model))
        return Who(target, details, is_native=may_be_native)

    def _pacing_of(self, name: str) -> Pacing:
        config = self.resolve(name).config
        return Pacing(
            self._pacing.chunk_size if config.chunk_size is None else config.chunk_size,
            self._pacing.delay_s if config.delay_ms is None else config.delay_ms / 1000,
        )


def assemble(
    config: Config,
    before: Gateway | None = None,
    *,
    siblings: bool = False,
    models: Sequence[Model] | None = None,
) -> Gateway:
    """Make the gateway that `config` describes.

    Args:
        config: What the operator wants.
        before: The gateway so far: what has not changed is taken over, with its connections.
        siblings: Whether other processes answer the same clients.
        models: What `config.completed()` gives, from whoever has it already: with thousands it takes a while.

    Raises:
        ConfigError: The models contradict each other.
    """
    known = before.providers if before else {}
    settings = {name: provider.settings(name) for name, provider in config.providers.items()}
    providers = {
        name: known[name] if name in known and known[name].settings == wanted else LazyProvider(wanted)
        for name, wanted in settings.items()
    }
    rosters = {
        name: before.live.rosters[name] if before and known.get(name) is provider else Roster(provider)
        for name, provider in providers.items()
        if provider.settings.kind == KIND
    }
    shared = opened(config, before.shared if before else None, siblings=siblings)
    live = Live(rosters, config.default_max_tokens)
    return Gateway(config, config.completed() if models is None else models, providers, shared, live)


def _book(config: Config, models: Sequence[Model], gateway: Gateway) -> Book:
    sellers = {
        name: Seller(provider.facts_kind(name), provider.address(name), rates_of(provider))
        for name, provider in config.providers.items()
    }
    return Book(models, sellers, find=gateway.resolve, budgets=config.budgets)


def _backoff(config: Config) -> Backoff:
    retry = config.retry
    return Backoff(
        retry.max_retries,
        retry.initial_backoff_ms / 1000,
        retry.max_backoff_ms / 1000,
        retry.backoff_factor,
        retry.jitter,
        retry.deadline_s,
    )


def _may_seal(name: str, provider: Provider) -> bool:
    """Whether the provider may want something back; else nobody need look for it in every turn of a history."""
    if provider.api == "chat":
        vendor = vendor_of(provider.kind or name, provider.base_url)
        return vendor is not None and vendor.dialect.echo is not None
    if provider.api is not None:
        return True
    return provider.facts_kind(name) not in _NEVER_SEAL


def _silence_s(config: Config, provider: str) -> tuple[float, float]:
    """Most seconds until a provider's first event, and between two of them."""
    own_s = config.providers[provider].timeout_s
    return own_s or config.streaming.first_event_timeout_s, own_s or config.streaming.idle_timeout_s


def _keys(number: int, resting: Sequence[tuple[int, str, float]]) -> KeysStatus | None:
    return KeysStatus(number, resting) if number > 1 else None
