"""Which models exist, what they answer to, and who answers for them."""

import collections
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

from ollama_bridge.catalog import SNAPSHOTS, Model, ModelConfig, complete, renamed
from ollama_bridge.chat import (
    Backend,
    ChatRequest,
    Counter,
    Embedder,
    Embeddings,
    EmbedRequest,
    Reply,
)
from ollama_bridge.discovered import other_name
from ollama_bridge.errors import ConfigError, ModelNotFound
from ollama_bridge.lineage import folded, key_of
from ollama_bridge.names import InvalidName, parse_name
from ollama_bridge.policies.fallback import Fallback
from ollama_bridge.policies.resume import Resume
from ollama_bridge.policies.stand_ins import StandIns
from ollama_bridge.presets import primed

DEFAULT_KEEP_ALIVE_S: Final = 300.0
FOREVER: Final = timedelta(microseconds=(2**63 - 1) // 1000)
"""Go's longest duration, 292 years: what Ollama adds to now for a model that is kept forever."""


class ModelRegistry:
    """Finds the model a client means and passes its request on to who answers.

    Every change builds a new index and then swaps it in: a reader never sees half of one, and `models()` is the
    same object until something changed, so that what is made from it can be kept.

    Args:
        backends: Who answers, by the provider's key in the configuration.
        models: What exists, enabled or not, in the order lists show them.
        embedders: Who embeds, by the same keys.
        counters: Who counts tokens, by the same keys.
        kinds: The kind of each provider; needed for models that are added later. Default: its key.
        default_max_tokens: For models that are added later.
        stand_ins: Models that stand for others; None: there are none. A configured one of the same name wins.
        beside: Adds to these what else there is now; asked whenever a new index is built.

    Raises:
        ConfigError: Two models have one name, two enabled ones answer to one, or a provider is missing.
    """

    def __init__(
        self,
        backends: Mapping[str, Backend],
        models: Iterable[Model] = (),
        *,
        embedders: Mapping[str, Embedder] | None = None,
        counters: Mapping[str, Counter] | None = None,
        kinds: Mapping[str, str] | None = None,
        default_max_tokens: int | None = None,
        stand_ins: StandIns | None = None,
        beside: Callable[[Iterable[Model]], Iterable[Model]] = tuple,
    ) -> None:
        self._stand_ins = stand_ins
        self._beside = beside
        self._backends = dict(backends)
        self._embedders = dict(embedders or {})
        self._counters = dict(counters or {})
        self._kinds = dict(kinds or {})
        self._default_max_tokens = default_max_tokens
        self._index = self._indexed(tuple(models))
        self._fallback = Fallback(self._backends, self._embedders, self._find)
        self._resume = Resume(self._fallback)

    def chat(self, request: ChatRequest) -> Reply:
        """Let the model that `request` names answer, or else one of its fallbacks.

        Raises:
            ModelNotFound: No enabled model answers to that name.
        """
        asked = self.resolve(request.model)
        candidates = self._candidates(asked, request)
        if asked.name in self._index.stand_ins:  # the request has nothing yet of what the chosen one adds
            request = primed(request, candidates[0].preset, begins=False)
        return self._resume.chat(request, candidates, asked.name)

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Let the provider of the model that `request` names embed, or another one that has the same model.

        Raises:
            ModelNotFound: No enabled model answers to that name.
            InvalidRequest: Its provider has no embeddings.
        """
        candidates = self.route(request.model, request)
        return await self._fallback.embed(
            request, candidates, lambda model: replace(request, target=model.target)
        )

    async def count(self, request: ChatRequest) -> int:
        """Let the provider of the model that `request` names count the tokens of its prompt.

        Raises:
            ModelNotFound: No enabled model answers to that name.
        """
        target = self.resolve(request.model).target
        return await self._counters[target.provider].count(replace(request, target=target))

    def route(self, name: str, request: ChatRequest | EmbedRequest) -> Sequence[Model]:
        """Who may answer `request`, in order: the model called `name`, then its own fallbacks that are enabled.

        Raises:
            ModelNotFound: No enabled model answers to that name.
            BridgeError: It stands for others, and none of them can answer this now.
        """
        return self._candidates(self.resolve(name), request)

    def _candidates(self, asked: Model, request: ChatRequest | EmbedRequest) -> Sequence[Model]:
        if self._stand_ins and asked.name in self._index.stand_ins and isinstance(request, ChatRequest):
            return self._stand_ins.choose(asked.name, self._index.eligible, request)
        others = map(self._find, asked.config.fallbacks)  # inherited ones may be the model itself
        return asked, *(model for model in others if model is not None and model is not asked)

    def resolve(self, name: str) -> Model:
        """The enabled model that answers to `name`: its name or an alias, with or without tag, in any case.

        Raises:
            ModelNotFound: There is none; it holds the name as the client sent it.
        """
        model = self._find(name)
        if model is None:
            raise ModelNotFound(name)
        return model

    def configured(self, name: str) -> Model | None:
        """The model of the configuration that has this name, enabled or not, or answers to it as an alias."""
        found = self._find(name)
        if found is not None and found.is_own:
            return found
        return self._named(name)

    def _named(self, name: str) -> Model | None:
        key = key_of(name)
        return next((model for model in self._index.own if key_of(model.name) == key), None)

    def _find(self, name: str) -> Model | None:
        return self._index.answering.get(key_of(name))

    def stands_in(self, model: Model) -> bool:
        """Whether it is one that stands for others."""
        return model.name in self._index.stand_ins

    def absent(self) -> list[str]:
        """Fallbacks that nobody is called, hidden or not."""
        known = {*self._index.answering, *(parse_name(model.name).key for model in self._index.all)}
        named = {name for model in self._index.enabled for name in model.config.fallbacks}
        return sorted(name for name in named if key_of(name) not in known)

    def enabled(self) -> tuple[Model, ...]:
        """The models that answer by themselves and are listed, in the order they were given."""
        return self._index.enabled

    def models(self) -> tuple[Model, ...]:
        """The models as lists show them: the last modified first, then in the order they were given."""
        return self._index.listed

    def renew(self) -> None:
        """Take over what there is now beside the models that were given."""
        self._index = self._indexed(self._index.own)

    def _indexed(self, own: tuple[Model, ...]) -> "_Index":
        return _Index.of(own, self._beside(own), self._backends, self._stand_ins)

    def add_model(self, config: ModelConfig) -> Model:
        """Offer one more model, until the process ends; the configuration file is not touched.

        Raises:
            ConfigError: Its name or an alias is taken, its name is invalid, or its provider or parent is missing.
        """
        *_, config = folded([*(model.config for model in self._index.own), config])
        kind = self._kinds.get(config.backend, config.backend)
        model = _completed(config, kind, self._default_max_tokens)
        self._index = self._indexed((*self._index.own, model))
        return next(one for one in self._index.all if one.name == model.name)

    def enable_model(self, name: str) -> Model:
        """Let clients see a model again, by its name.

        Raises:
            ModelNotFound: No such model, enabled or not.
            ConfigError: Another model answers to one of its names by now.
        """
        return self._switch(name, enabled=True)

    def disable_model(self, name: str) -> Model:
        """Hide a model from clients, by its name: it is not listed and not found.

        Raises:
            ModelNotFound: No such model, enabled or not.
        """
        return self._switch(name, enabled=False)

    def _switch(self, name: str, *, enabled: bool) -> Model:
        found = self._named(name)
        if found is None:
            raise ModelNotFound(name)
        switched = replace(found, config=found.config.model_copy(update={"enabled": enabled}))
        self._index = self._indexed(tuple(switched if model is found else model for model in self._index.own))
        return switched


@dataclass(frozen=True, slots=True)
class _Index:
    """What is known of all models.

    Args:
        own: As given, and changed since.
        all: These and what there is beside them, told apart.
        enabled: Of these, in the same order, those that lists show.
        eligible: Of these, who may be chosen for one that stands for others: of what nobody configured, only where
            there is nothing else.
        stand_ins: Names of those that stand for others.
        listed: In the order of lists.
        answering: By every name.
    """

    own: tuple[Model, ...]
    all: tuple[Model, ...]
    enabled: tuple[Model, ...]
    eligible: tuple[Model, ...]
    stand_ins: frozenset[str]
    listed: tuple[Model, ...]
    answering: Mapping[str, Model]

    @classmethod
    def of(
        cls,
        own: tuple[Model, ...],
        models: Iterable[Model],
        backends: Mapping[str, Backend],
        choice: StandIns | None,
    ) -> "_Index":
        given = tuple(models)
        for model in given:
            if model.target.provider not in backends:
                raise ConfigError(f"model '{model.name}': there is no provider '{model.target.provider}'")
        names = _claim((model.name, model) for model in given)
        every = _tell_apart(given)
        able = tuple(model for model in every if model.config.enabled)
        enabled = tuple(model for model in able if model.resident is None or model.resident.is_listed)
        eligible = tuple(model for model in enabled if model.is_own)
        answering = _claim((name, model) for model in able for name in (model.name, *model.config.aliases))
        for name, model_id in SNAPSHOTS.items():
            same = next((model for model in able if model.target.model == model_id), None)
            if same is not None:
                answering.setdefault(parse_name(name).key, same)  # what has that very name goes first
        for model in enabled:
            # Also by the one of `model` and `provider/model` that lists do not show, unless it is another's.
            if (key := key_of(other_name(model.config))) and key not in names:
                answering.setdefault(key, model)
        stand_ins = tuple(
            model
            for model in (choice.among(eligible or enabled) if choice else ())
            if not {parse_name(model.name).key} & {*answering, *names}  # also of a model that is hidden
        )
        answering |= {parse_name(model.name).key: model for model in stand_ins}
        shown = sorted(enabled, key=lambda m: m.modified_at, reverse=True)
        listed = (*shown, *(stand_ins if choice and choice.listed else ()))
        chosen_for = frozenset(model.name for model in stand_ins)
        return cls(own, every, enabled, eligible or enabled, chosen_for, listed, answering)


def _claim(claims: Iterable[tuple[str, Model]]) -> dict[str, Model]:
    owners: dict[str, Model] = {}
    for name, model in claims:
        try:
            owner = owners.setdefault(parse_name(name).key, model)
        except InvalidName as exc:
            raise ConfigError(f"model '{model.name}': '{name}': {exc}") from exc
        if owner is not model:
            raise ConfigError(f"models '{owner.name}' and '{model.name}' both answer to '{name}'")
    return owners


def _tell_apart(models: tuple[Model, ...]) -> tuple[Model, ...]:
    """Give models of one display name their own: VS Code shows nothing else, and mixes equal ones up."""
    while True:
        seen = collections.Counter(model.display_name for model in models)
        if len(seen) == len(models):
            return models
        models = tuple(
            renamed(model, f"{model.display_name} ({model.name.removesuffix(':latest')})")
            if seen[model.display_name] > 1
            else model
            for model in models
        )


def _completed(config: ModelConfig, kind: str, default_max_tokens: int | None) -> Model:
    try:
        return complete(config, kind=kind, default_max_tokens=default_max_tokens)
    except InvalidName as exc:
        raise ConfigError(f"model '{config.name}': {exc}") from exc


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that `/api/ps` shows, and until when. `name` is as lists show it."""

    name: str
    expires_at: datetime


Uses: TypeAlias = Mapping[str, tuple[str, str]]
"""A model's name to when it was last used and until when it is kept, both as ISO 8601 with a zone: JSON holds it."""


class Residency:
    """Which models were used, and until when a client wants them kept: what `/api/ps` tells.

    Nothing is loaded here, but clients look for their model there, and preload it by an empty request. Several
    processes that answer for one another tell what they know when they are asked: to note a use costs nothing.

    Args:
        now: The wall clock, with a zone.
    """

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self._uses: dict[str, tuple[datetime, datetime]] = {}
        self.elsewhere: Callable[[], Awaitable[Iterable[Uses]]] | None = None
        """Asks the other processes for their `uses`; None: there are none."""

    def touch(self, model_name: str, keep_alive_s: float | None = None) -> None:
        """Note a use.

        Args:
            model_name: As lists show it.
            keep_alive_s: Seconds to keep it from now; None: `DEFAULT_KEEP_ALIVE_S`; 0: gone at once; negative:
                forever.
        """
        seconds = DEFAULT_KEEP_ALIVE_S if keep_alive_s is None else keep_alive_s
        # Written so that NaN and what no date can hold are forever too.
        kept = timedelta(seconds=seconds) if 0 <= seconds < FOREVER.total_seconds() else FOREVER
        now = self._now()
        self._uses[model_name] = (now, now + kept)

    def uses(self) -> Uses:
        """All that is known, also of what is kept no longer: a model that was stopped is stopped everywhere."""
        return {name: (used.isoformat(), until.isoformat()) for name, (used, until) in self._uses.items()}

    async def loaded(self) -> tuple[Loaded, ...]:
        """What is still kept, the longest first."""
        latest = dict(self._uses)
        for uses in await self.elsewhere() if self.elsewhere else ():
            for name, (used, until) in uses.items():
                use = datetime.fromisoformat(used), datetime.fromisoformat(until)
                latest[name] = max(latest.get(name, use), use)
        now = self._now()
        kept = (Loaded(name, until) for name, (_, until) in latest.items() if until > now)
        return tuple(sorted(kept, key=lambda one: one.expires_at, reverse=True))
