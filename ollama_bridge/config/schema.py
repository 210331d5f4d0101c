"""What the operator wants, as frozen values: the schema of `config.yaml`.

`file` fills it from flags, environment and file, and says which line is at fault; `edit` changes the
file. A key that nothing reads yet is not accepted: a setting without effect is worse than an error.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, Self, TypeAlias
from urllib.parse import parse_qs, unquote, urlsplit

import orjson
from pydantic import BaseModel, Field, PositiveInt, PrivateAttr, model_validator
from pydantic_core import PydanticCustomError

from ollama_bridge.allowances import Budget, Rates
from ollama_bridge.backends import KINDS
from ollama_bridge.backends.vendors import VENDORS, vendor_kind
from ollama_bridge.catalog import Model, ModelConfig, complete
from ollama_bridge.config.fields import Key, LogLevel, StoreUrl
from ollama_bridge.config.nearest import near_provider, no_such_kind
from ollama_bridge.config.sections import (
    Breaker,
    Cache,
    Discovery,
    Ledger,
    Provider,
    Reasoning,
    Retry,
    Routing,
    Section,
    Server,
    Streaming,
)
from ollama_bridge.errors import ConfigError, InvalidRequest
from ollama_bridge.facts import Listed
from ollama_bridge.lineage import folded
from ollama_bridge.names import InvalidName, parse_name
from ollama_bridge.surfaces.ollama_options import read_options
from ollama_bridge.templates import wording

KeyPath: TypeAlias = tuple[str | int, ...]
"""Where a value stands: `("models", 0, "name")`."""

API_KEY_VARIABLES: Final[Mapping[str, tuple[str, ...]]] = {
    "anthropic": ("ANTHROPIC_API_KEY", "CLAUDE_API_KEY"),
    "openai": ("OPENAI_API_KEY",),
    "google": ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    **{kind: vendor.key_variables for kind, vendor in VENDORS.items() if vendor.key_variables},
}
"""Kind of provider to the environment variables that may hold its key, the first that is set counts."""

OTHER_VARIABLES: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "vertex": {
        "project": ("GOOGLE_CLOUD_PROJECT",),
        "location": ("GOOGLE_CLOUD_LOCATION",),
        "credentials": ("GOOGLE_APPLICATION_CREDENTIALS",),
    },
    **{kind: vendor.variables for kind, vendor in VENDORS.items() if vendor.variables},
}
"""Kind of provider to other keys of its entry, and the environment variables that fill those it leaves open."""

ENTRY_VARIABLES: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    kind: {"api_key": API_KEY_VARIABLES.get(kind, ()), **OTHER_VARIABLES.get(kind, {})}
    for kind in {**API_KEY_VARIABLES, **OTHER_VARIABLES}
}
"""Kind of provider to the keys of its entry that variables fill, and those."""

_OF_FEW: Final = frozenset(
    {"account", "gateway", "api_version", "project", "location", "credentials", "scope", "token_url"}
)
"""Keys of a provider's entry that are of use to few kinds."""

KEYLESS_KINDS: Final = frozenset(
    {"demo", "ollama", "vertex", *(kind for kind, vendor in VENDORS.items() if vendor.keyless)}
)
"""Kinds of providers that answer without a key."""

IMPLICIT_PROVIDERS: Final = frozenset({*API_KEY_VARIABLES, "demo"})
"""Providers that a model may name without an entry under `providers`; `ollama` is not one of them, since its
default address is our own."""

_CLASS: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*\Z")
"""A kind of one's own: `module:Class`."""

_OLLAMA_URL: Final = "http://127.0.0.1:11434"
"""Where a real Ollama listens if nobody says otherwise."""

_CLOUD_SUFFIXES: Final = (":cloud", "-cloud")


class Config(Section):
    """All of it. Two configurations that would do the same are equal, wherever their values came from.

    Args:
        models: What the operator wrote, then what the catalogue adds for each provider with a key.
        limits: Of each client key, and of each client address.
        budgets: Of all together, and of each client key.
        clients: Keys of which clients must bring one, by the name that the ledger gives to whoever brings it.
        state: Where limits, budgets, breaker, cache and kept reasoning live when several instances share them; empty:
            in the state folder of this machine.
        default_max_tokens: Most tokens of an answer, for models of which neither operator nor catalogue
            says it.
    """

    SECTIONS: ClassVar[Mapping[str, type[BaseModel]]] = {
        "server": Server,
        "streaming": Streaming,
        "reasoning": Reasoning,
        "retry": Retry,
        "breaker": Breaker,
        "limits": Rates,
        "budgets": Budget,
        "cache": Cache,
        "ledger": Ledger,
        "routing": Routing,
        "discovery": Discovery,
        "providers": Provider,
        "models": ModelConfig,
    }

    server: Server = Server()
    streaming: Streaming = Streaming()
    reasoning: Reasoning = Reasoning()
    retry: Retry = Retry()
    breaker: Breaker = Breaker()
    limits: dict[Literal["key", "address"], Rates] = Field(default_factory=dict)
    budgets: dict[Literal["all", "key"], Budget] = Field(default_factory=dict)
    cache: Cache = Cache()
    ledger: Ledger = Ledger()
    routing: Routing = Routing()
    discovery: Discovery = Discovery()
    clients: dict[str, Key] = Field(default_factory=dict)
    state: StoreUrl = ""
    providers: dict[str, Provider] = Field(default_factory=dict)
    models: tuple[ModelConfig, ...] = ()
    default_max_tokens: PositiveInt | None = None
    log_level: LogLevel = "info"
    _listed: dict[tuple[str, str], Listed] = PrivateAttr(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _providers_may_be_names_alone(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(providers := data.get("providers"), dict):
            entries = {name: {} if entry is None else entry for name, entry in providers.items()}
            return {**data, "providers": entries}
        return data

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        for path, message in self._faults():
            raise PydanticCustomError("config", "{message}", {"message": message, "path": path})
        return self

    def listed(self, model: ModelConfig) -> Listed | None:
        """What the provider's own list says of a model, whose backend is known (`lineage.folded`)."""
        return self._listed.get((model.backend, model.upstream))

    def offering(self, models: tuple[ModelConfig, ...], listed: Mapping[tuple[str, str], Listed]) -> "Config":
        """The same with these models, and with what their providers say of them, by provider and id."""
        config = self.model_copy(update={"models": models})
        config._listed = dict(listed)  # noqa: SLF001 - of its own kind
        return config

    @property
    def demands_keys(self) -> bool:
        """Whether a client must bring a key."""
        return bool(self.server.api_keys or self.clients)

    def check_served(self) -> None:
        """For those who are about to serve.

        Raises:
            ConfigError: Other machines could connect, no key is asked of them, and nobody said that it is meant; or a
                provider would be this bridge itself.
        """
        self._refuse_open_door()
        self._refuse_mirror()

    def _refuse_open_door(self) -> None:
        """See to it that nobody serves the network by accident."""
        if self.server.reaches_others and not (self.demands_keys or self.server.insecure):
            raise ConfigError(
                f"listening on '{self.server.host or 'every interface'}' lets other machines in, who would spend on "
                "your keys: demand a key of them (AUTH_TOKEN, server.api_keys, or clients), or say that you mean it "
                "(--insecure, or server.insecure: true)"
            )

    def completed(self) -> list[Model]:
        """All models, with what they inherit and what is known of them, in the order of the configuration.

        Raises:
            BrokenLineage: A parent does not exist, or is made from its own child.
        """
        kinds = {name: provider.facts_kind(name) for name, provider in self.providers.items()}
        return [
            complete(
                model,
                kind=kinds[model.backend],
                default_max_tokens=self.default_max_tokens,
                listed=self.listed(model),
            )
            for model in folded(self.models)
        ]

    def _refuse_mirror(self) -> None:
        """See to it that no provider is this bridge itself."""
        port = self.server.port
        own = {"127.0.0.1", "localhost", "::1", "0.0.0.0", self.server.host}  # noqa: S104 - nobody listens here
        for name, provider in self.providers.items():
            if (provider.kind or name) != "ollama":
                continue
            parts = urlsplit(provider.base_url or _OLLAMA_URL)
            if parts.hostname in own and parts.port == port:
                raise ConfigError(
                    f"provider '{name}' would be this bridge itself, which listens on port {port}: let the real Ollama "
                    f"listen elsewhere (OLLAMA_HOST=127.0.0.1:{port + 1} in its environment), and say so: "
                    f"`providers.{name}.base_url: http://127.0.0.1:{port + 1}`"
                )

    def secrets(self) -> tuple[str, ...]:
        """Every key and header value, for those who must never show one."""
        own = (*self.server.api_keys, *self.clients.values())
        theirs = (
            secret
            for provider in self.providers.values()
            for secret in (*provider.api_key, *provider.headers.values())
        )
        state = urlsplit(self.state)  # a Redis may also have its password behind the question mark
        passwords = (unquote(state.password or ""), *parse_qs(state.query).get("password", ()))
        return (
            *(secret.get_secret_value() for secret in (*own, *theirs)),
            *filter(None, passwords),
        )

    def _faults(self) -> Iterator[tuple[KeyPath, str]]:
        for name, provider in self.providers.items():
            kind = provider.kind or name
            if kind not in KINDS and not _CLASS.match(provider.kind):
                where: KeyPath = ("providers", name, "kind") if provider.kind else ("providers", name)
                yield where, no_such_kind(name, provider.kind)
            yield from _nowhere(name, kind, provider)
            yield from _useless(name, kind, provider)
        if self.cache.enabled and self.cache.store == "state" and not self.state:
            message = (
                "cache.store is 'state', and no Redis is named: set 'state' (or REDIS_ADDR), or choose 'disk'"
            )
            yield ("cache", "store"), message
        owners: dict[Key, str] = {}
        for client, key in self.clients.items():
            if (owner := owners.setdefault(key, client)) != client:
                yield ("clients", client), f"clients '{owner}' and '{client}' have the same key"
        taken: dict[str, str] = {}
        for index, model in enumerate(self.models):
            path = ("models", index)
            yield from _name_faults(model, path, taken)
            yield from _preset_faults(model, path)
            if model.from_:
                if model.backend:
                    message = (
                        f"model '{model.name}' has the backend of the one it is made from: leave this out"
                    )
                    yield (*path, "backend"), message
            elif not model.backend:
                yield (
                    (*path, "backend"),
                    f"models[{index}].backend is missing; or 'from', another model's name",
                )
            elif model.backend not in self.providers:
                known = sorted({*self.providers, *IMPLICIT_PROVIDERS})
                hint = near_provider(model.backend, known) or f"; known: {', '.join(known)}"
                message = f"model '{model.name}': no provider is called '{model.backend}'{hint}"
                yield (*path, "backend"), message


def suffice(kind: str, found: Mapping[str, str]) -> bool:
    """Whether variables alone make a provider of this kind.

    Half of an account is nobody's wish for one: the same variables serve the vendor's other tools.

    Args:
        kind: Of the provider.
        found: Keys of its entry, and what variables say of them.
    """
    if kind == "vertex":
        return "project" in found and "credentials" in found and Path(found["credentials"]).is_file()
    needs = VENDORS[kind].needs if kind in VENDORS else ()
    return "api_key" in found and ("base_url" in found or found.keys() >= {*needs})


def _nowhere(name: str, kind: str, provider: Provider) -> Iterator[tuple[KeyPath, str]]:
    """What an entry leaves out of its vendor's address."""
    if kind not in VENDORS or provider.base_url is not None:
        return
    vendor = VENDORS[kind]
    for part in vendor.needs:
        if not getattr(provider, part):
            ways = (part, *vendor.variables.get(part, ()), *vendor.variables.get("base_url", ()))
            hint = " or ".join((f"providers.{name}.{ways[0]}", *ways[1:]))
            yield ("providers", name), f"nobody knows where {vendor.title} is: set {hint}"


def _useless(name: str, kind: str, provider: Provider) -> Iterator[tuple[KeyPath, str]]:
    """What an entry sets that its kind never reads."""
    if kind not in KINDS:
        return
    of = vendor_kind(kind, provider.base_url) or kind
    takes = VENDORS[of].takes if of in VENDORS else OTHER_VARIABLES.get(of, {})
    for key in sorted(_OF_FEW):
        if getattr(provider, key) and key not in takes:
            known = [one for one, keys in OTHER_VARIABLES.items() if key in keys]
            message = f"providers.{name}.{key} is of no use to kind '{kind}', only to {', '.join(known)}"
            yield ("providers", name, key), message
    if kind == "vertex" and provider.api_key and provider.credentials:
        message = f"provider '{name}' has both an API key and a file of credentials: leave one of them out"
        yield ("providers", name, "api_key"), message


def _name_faults(model: ModelConfig, path: KeyPath, taken: dict[str, str]) -> Iterator[tuple[KeyPath, str]]:
    """What is wrong with the names of one model; `taken` remembers those of the models before it."""
    places = [(model.name, (*path, "name"))]
    if model.enabled:  # the registry lets a hidden model's aliases rest as well
        places += [(alias, (*path, "aliases", number)) for number, alias in enumerate(model.aliases)]
    for name, place in places:
        what = f"model name '{name}'" if name is model.name else f"alias '{name}' of model '{model.name}'"
        if name.strip().lower().endswith(_CLOUD_SUFFIXES):
            yield (
                place,
                f"{what} cannot end in ':cloud' or '-cloud': clients take such models for ollama.com's and ask to sign in",
            )
            continue
        try:
            key = parse_name(name).key
        except InvalidName:
            yield (
                place,
                f"{what} is not a name Ollama clients accept; letters, digits, '.', '_', '-', then ':tag' if you like",
            )
            continue
        if key in taken:
            yield place, f"{what} is taken by model '{taken[key]}'"
        taken[key] = model.name


def _preset_faults(model: ModelConfig, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    """What is wrong with what a model adds to conversations, in the words that a client would read."""
    try:
        if orjson.loads(orjson.dumps(model.parameters)) != model.parameters:
            yield (*path, "parameters"), f"model '{model.name}': a parameter is no number that JSON has"
        elif read_options(model.parameters) != model.parameters:
            yield (*path, "parameters"), f"model '{model.name}': a parameter is empty, or no whole number"
    except InvalidRequest as exc:
        yield (*path, "parameters"), f"model '{model.name}': {exc}"
    except TypeError:  # dates, and numbers beyond 64 bits
        yield (*path, "parameters"), f"model '{model.name}': a parameter is nothing that JSON has"
    try:
        wording(model.template)
    except InvalidRequest as exc:
        yield (*path, "template"), f"model '{model.name}': {exc}"
