"""Stacks policies over backends; the only file that knows their order.

Read top to bottom, that is inside out. Inside the registry stands what guards one provider, outside of it
what concerns the client.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Final

from platformdirs import user_state_path

from ollama_bridge.backends import ProviderSettings, fim
from ollama_bridge.backends.lazy import LazyProvider
from ollama_bridge.catalog import COMPATIBLE, Model, ModelConfig, complete, facts_kind
from ollama_bridge.chat import Backend, ChatRequest, Counter, Embedder, Embeddings, EmbedRequest, Reply
from ollama_bridge.config import Config, Reasoning
from ollama_bridge.lineage import folded
from ollama_bridge.policies.complete import Complete
from ollama_bridge.policies.counting import Counting
from ollama_bridge.policies.infill import FillByChat
from ollama_bridge.policies.pace import Pace, Pacing
from ollama_bridge.policies.recall import Recall
from ollama_bridge.policies.timeout import EmbedTimeout, Timeout
from ollama_bridge.registry import ModelRegistry, Residency
from ollama_bridge.vault import Limits, Vault

_NEVER_SEAL: Final = frozenset({COMPATIBLE, "ollama", "demo"})
"""Kinds of providers, as far as facts go, whose replies hold nothing that they want back."""

COUNT_WITHIN_S: Final = 3.0
"""Seconds for a provider to count a prompt's tokens before they are estimated."""


def guard(
    backend: Backend,
    vault: Vault | None,
    *,
    fills: Callable[[str], bool],
    silence_s: tuple[float, float],
) -> Backend:
    """What stands before one provider; `fills` says of which models it fills gaps by itself."""
    backend = FillByChat(backend, fills)  # all others are asked for what a provider can do
    backend = Complete(backend)  # no Finish, no answer
    if vault is not None:
        backend = Recall(backend, vault)  # inside the timeout: a slow disk and a second try count as silence
    first_s, idle_s = silence_s
    return Timeout(backend, first_s=first_s, idle_s=idle_s)


class Gateway:
    """One configuration, ready to answer. A reload makes a new one; the old one lives as long as it is used.

    Args:
        providers: By their key in the configuration; a reload hands on those that have not changed.
        backends: The same, guarded.
        embedders: The same, guarded.
        counters: The same, guarded.
        models: What is offered.
        pacing: How answers are delivered, where a model does not say otherwise.
        heartbeat_s: Seconds of silence after which a streamed answer shows that it lives; 0: never.
        residency: What was used and until when; handed on by a reload.
        vault: What providers want back with later turns; handed on by a reload that does not change its limits.
        default_max_tokens: For models added later, of which nobody knows the limit.
    """

    def __init__(
        self,
        providers: Mapping[str, LazyProvider],
        backends: Mapping[str, Backend],
        embedders: Mapping[str, Embedder],
        counters: Mapping[str, Counter],
        models: Sequence[Model],
        *,
        pacing: Pacing,
        heartbeat_s: float,
        residency: Residency,
        vault: Vault | None,
        default_max_tokens: int | None,
    ) -> None:
        self.providers = dict(providers)
        self.residency = residency
        self.vault = vault
        self.heartbeat_s = heartbeat_s
        self.registry = ModelRegistry(
            backends,
            models,
            embedders=embedders,
            counters=counters,
            kinds={name: _facts_kind(provider.settings) for name, provider in providers.items()},
            default_max_tokens=default_max_tokens,
        )
        self._pacing = pacing
        self._users = 0
        self._unused = asyncio.Event()
        self._unused.set()

        gateway: Backend = self.registry
        self._outermost: Backend = Pace(gateway, self._pacing_of)

    def chat(self, request: ChatRequest) -> Reply:
        """Answer through all policies."""
        return self._outermost.chat(request)

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Embed, within the provider's timeout."""
        return await self.registry.embed(request)

    async def count(self, request: ChatRequest) -> int:
        """Tokens of the prompt, as the provider counts them or else estimated; soon, whatever the provider does."""
        return await self.registry.count(request)

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
        """Load every provider's SDK, one after the other, so that no client waits for it."""
        for provider in self.providers.values():
            await provider.warm()

    async def retire(self, successor: "Gateway | None" = None) -> None:
        """Once the last answer is out, close what `successor` has not taken over."""
        await self._unused.wait()
        keep = {id(provider) for provider in successor.providers.values()} if successor else set()
        for provider in self.providers.values():
            if id(provider) not in keep:
                await provider.aclose()
        if self.vault is not None and (successor is None or successor.vault is not self.vault):
            await self.vault.aclose()

    def _pacing_of(self, name: str) -> Pacing:
        config = self.registry.resolve(name).config
        return Pacing(
            self._pacing.chunk_size if config.chunk_size is None else config.chunk_size,
            self._pacing.delay_s if config.delay_ms is None else config.delay_ms / 1000,
        )


def assemble(config: Config, before: Gateway | None = None, *, shared: bool = False) -> Gateway:
    """Make the gateway that `config` describes.

    Args:
        config: What the operator wants.
        before: The gateway so far: providers that have not changed are taken over with their connections.
        shared: Whether other processes answer the same clients.

    Raises:
        ConfigError: The models contradict each other.
    """
    settings = {name: provider.settings(name) for name, provider in config.providers.items()}
    known = before.providers if before else {}
    providers = {
        name: known[name] if name in known and known[name].settings == wanted else LazyProvider(wanted)
        for name, wanted in settings.items()
    }
    silence_s = {name: _silence_s(config, name) for name in providers}
    vault = _vault(config.reasoning, before.vault if before else None, shared=shared)
    return Gateway(
        providers,
        {
            name: guard(
                provider,
                vault if _may_seal(settings[name]) else None,
                fills=partial(fim.fills, settings[name]),
                silence_s=silence_s[name],
            )
            for name, provider in providers.items()
        },
        {name: EmbedTimeout(provider, within_s=silence_s[name][0]) for name, provider in providers.items()},
        {name: Counting(provider, within_s=COUNT_WITHIN_S) for name, provider in providers.items()},
        [_completed(model, settings, config.default_max_tokens) for model in folded(config.models)],
        pacing=Pacing(config.streaming.chunk_size, config.streaming.delay_ms / 1000),
        heartbeat_s=config.streaming.heartbeat_s,
        residency=before.residency if before else Residency(),
        vault=vault,
        default_max_tokens=config.default_max_tokens,
    )


def _may_seal(settings: ProviderSettings) -> bool:
    """Whether the provider may want something back; else nobody need look for it in every turn of a history."""
    if settings.api is not None:
        return settings.api == "responses"
    return _facts_kind(settings) not in _NEVER_SEAL


def _silence_s(config: Config, provider: str) -> tuple[float, float]:
    """Most seconds until a provider's first event, and between two of them."""
    own_s = config.providers[provider].timeout_s
    return own_s or config.streaming.first_event_timeout_s, own_s or config.streaming.idle_timeout_s


def _completed(
    model: ModelConfig, settings: Mapping[str, ProviderSettings], default_max_tokens: int | None
) -> Model:
    return complete(model, kind=_facts_kind(settings[model.backend]), default_max_tokens=default_max_tokens)


def _vault(reasoning: Reasoning, before: Vault | None, *, shared: bool) -> Vault | None:
    if not reasoning.keep:
        return None
    limits = Limits(reasoning.max_mb * 1024 * 1024, reasoning.max_days * 86_400)
    if before is not None and before.limits == limits:
        return before
    return Vault(user_state_path("ollama-bridge") / "reasoning.sqlite3", limits, shared=shared)


def _facts_kind(settings: ProviderSettings) -> str:
    return facts_kind(settings.name, settings.kind, settings.base_url)
