"""What the operator wants, as frozen values: the schema of `config.yaml`.

`file` fills it from flags, environment and file, and says which line is at fault; `edit` changes the
file. A key that nothing reads yet is not accepted: a setting without effect is worse than an error.
"""

import re
from collections.abc import Iterator, Mapping
from ipaddress import IPv6Address, ip_address
from typing import Annotated, Any, ClassVar, Final, Literal, Self, TypeAlias
from urllib.parse import urlsplit

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    model_validator,
)
from pydantic_core import PydanticCustomError

from ollama_bridge.backends import BACKENDS, ProviderSettings
from ollama_bridge.catalog import ModelConfig
from ollama_bridge.errors import ConfigError, InvalidRequest
from ollama_bridge.names import InvalidName, parse_name
from ollama_bridge.surfaces.ollama_options import read_options
from ollama_bridge.templates import wording

KeyPath: TypeAlias = tuple[str | int, ...]
"""Where a value stands: `("models", 0, "name")`."""

LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]

API_KEY_VARIABLES: Final[Mapping[str, tuple[str, ...]]] = {
    "anthropic": ("ANTHROPIC_API_KEY", "CLAUDE_API_KEY"),
    "openai": ("OPENAI_API_KEY",),
    "google": ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
}
"""Kind of provider to the environment variables that may hold its key, the first that is set counts."""

KEYLESS_KINDS: Final = frozenset({"demo", "ollama"})
"""Kinds of providers that answer without a key."""

IMPLICIT_PROVIDERS: Final = frozenset({*API_KEY_VARIABLES, "demo"})
"""Providers that a model may name without an entry under `providers`; `ollama` is not one of them, since its
default address is our own."""

_CLASS: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*\Z")
"""A kind of one's own: `module:Class`."""

_ORIGIN_SCHEMES: Final = (
    "http://",
    "https://",
    "chrome-extension://",
    "safari-extension://",
    "moz-extension://",
    "ms-browser-extension://",
)

_CLOUD_SUFFIXES: Final = (":cloud", "-cloud")


def _key_list(value: object) -> object:
    if isinstance(value, SecretStr):
        return (value,)
    if isinstance(value, str):
        return () if value.strip().lower() in {"", "none"} else (value,)
    return value


def _usable_key(key: SecretStr) -> SecretStr:
    text = key.get_secret_value().strip()
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise PydanticCustomError("config", "an API key is printable ASCII without spaces; this one is not")
    return SecretStr(text)


def _http_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not url.isprintable() or " " in url:
        raise PydanticCustomError("config", "must be an http:// or https:// address")
    return url


def _bare_host(host: str) -> str:
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if (":" in host and not _is_ipv6(host)) or any(sign in host for sign in "/[] \t\n\r\0"):
        raise PydanticCustomError(
            "config", "must be a name or an address alone; the port is a key of its own"
        )
    return host


def _is_ipv6(host: str) -> bool:
    try:
        IPv6Address(host)
    except ValueError:
        return False
    return True


def _lower(value: object) -> object:
    if not isinstance(value, str):
        return value
    level = value.strip().lower()
    return "warning" if level == "warn" else level


def _origin_list(value: object) -> object:
    if isinstance(value, str):
        return tuple(entry for entry in (part.strip() for part in value.split(",")) if entry)
    return value


def _usable_origin(origin: str) -> str:
    """As gin-contrib/cors judges it; the real server does not start with one it refuses."""
    text = origin.strip().lower()
    if text.count("*") > 1:
        raise PydanticCustomError("config", "may hold one '*' only")
    if "*" not in text and not text.startswith(_ORIGIN_SCHEMES):
        raise PydanticCustomError(
            "config", "must begin with http://, https:// or a browser extension's scheme, or hold a '*'"
        )
    return text


def _reaches_others(host: str) -> bool:
    """Whether other machines can connect to what listens there."""
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"


ApiKeys: TypeAlias = Annotated[
    tuple[Annotated[SecretStr, AfterValidator(_usable_key)], ...], BeforeValidator(_key_list)
]
Milliseconds: TypeAlias = Annotated[int, Field(ge=0, le=60_000)]


class _Section(BaseModel):
    """A part of the file. A known key without a value is a key that was left out."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _without_empty_keys(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {key: value for key, value in data.items() if value is not None or key not in cls.model_fields}


class Server(_Section):
    """Where clients find us.

    Args:
        host: Name or address to listen on; empty: all interfaces, IPv4 and IPv6.
        port: 0 lets the system choose one.
        max_body_bytes: Larger request bodies are refused. No provider takes more than 50 MB.
        drain_s: Seconds that running answers have to end when the daemon stops.
        origins: Web pages that may ask, beside those of this machine; one `*` an entry; `*` alone: all.
        api_keys: Keys of which clients must bring one; none: nobody needs one.
        insecure: Whether other machines may connect without a key.
    """

    host: Annotated[str, AfterValidator(_bare_host)] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 11434
    max_body_bytes: PositiveInt = 64 * 1024 * 1024
    drain_s: NonNegativeFloat = 10.0
    origins: Annotated[
        tuple[Annotated[str, AfterValidator(_usable_origin)], ...], BeforeValidator(_origin_list)
    ] = ()
    api_keys: ApiKeys = ()
    insecure: bool = False

    @property
    def reaches_others(self) -> bool:
        """Whether other machines can connect."""
        return _reaches_others(self.host)

    def refuse_open_door(self) -> None:
        """See to it that nobody serves the network by accident; for those who are about to serve.

        Raises:
            ConfigError: Other machines could connect, no key is asked of them, and nobody said that it is meant.
        """
        if self.reaches_others and not (self.api_keys or self.insecure):
            raise ConfigError(
                f"listening on '{self.host or 'every interface'}' lets other machines in, who would spend on your "
                "keys: demand a key of them (AUTH_TOKEN, or server.api_keys), or say that you mean it "
                "(--insecure, or server.insecure: true)"
            )


class Streaming(_Section):
    """How answers are delivered, and how long silence lasts before it is a failure.

    Args:
        chunk_size: Words a line; 0: as it arrives.
        delay_ms: Milliseconds between lines, at most a minute.
        heartbeat_s: Seconds of silence after which a streamed answer shows an empty line, so that clients keep
            waiting; 0: never.
        first_event_timeout_s: Seconds a model may think before it says anything.
        idle_timeout_s: Seconds of silence within an answer.
    """

    chunk_size: NonNegativeInt = 0
    delay_ms: Milliseconds = 0
    heartbeat_s: NonNegativeFloat = 15.0
    first_event_timeout_s: PositiveFloat = 300.0
    idle_timeout_s: PositiveFloat = 300.0


class Reasoning(_Section):
    """What providers want back with a later turn and no client can carry: signed thinking, encrypted reasoning.

    Args:
        keep: Whether it is kept, in memory and on disk.
        max_mb: Most of it on disk, in megabytes; what was used longest ago goes first.
        max_days: Days since its last use after which it is gone.
    """

    keep: bool = True
    max_mb: PositiveInt = 64
    max_days: PositiveFloat = 30.0


class Provider(_Section):
    """One account at one provider.

    Args:
        kind: A key of `backends.BACKENDS`, or a `module:Class` of one's own; empty: what the entry is called.
        api: For kind `openai`; None: each model's own.
        fim: Where gaps in code are filled: see `backends.fim`.
        base_url: As the SDK takes it: openai with `/v1`, anthropic and google without a version.
        api_key: One key, several (used in turn), or `none`.
        timeout_s: Seconds of silence, instead of both timeouts of `streaming`.
        connect_timeout_s: Seconds to reach the provider.
        proxy: Whether `HTTPS_PROXY` and its like are obeyed.
        headers: Added to every request; shown as masked as keys are.
    """

    kind: str = ""
    api: Literal["chat", "responses"] | None = None
    fim: Literal["fim/completions", "completions", "none"] | None = None
    base_url: Annotated[str, AfterValidator(_http_url)] | None = None
    api_key: ApiKeys = ()
    timeout_s: PositiveFloat | None = None
    connect_timeout_s: PositiveFloat = 10.0
    proxy: bool = False
    headers: dict[str, SecretStr] = Field(default_factory=dict)

    def settings(self, name: str) -> ProviderSettings:
        """What the backend's constructor is told; `name` is the provider's key in the configuration."""
        return ProviderSettings(
            name=name,
            kind=self.kind or name,
            api_keys=tuple(key.get_secret_value() for key in self.api_key),
            base_url=self.base_url,
            api=self.api,
            fim=self.fim,
            connect_timeout_s=self.connect_timeout_s,
            trust_env=self.proxy,
            headers={header: value.get_secret_value() for header, value in self.headers.items()},
        )


class Config(_Section):
    """All of it. Two configurations that would do the same are equal, wherever their values came from.

    Args:
        models: What the operator wrote, then what the catalogue adds for each provider with a key.
        default_max_tokens: Most tokens of an answer, for models of which neither operator nor catalogue
            says it.
    """

    SECTIONS: ClassVar[Mapping[str, type[BaseModel]]] = {
        "server": Server,
        "streaming": Streaming,
        "reasoning": Reasoning,
        "providers": Provider,
        "models": ModelConfig,
    }

    server: Server = Server()
    streaming: Streaming = Streaming()
    reasoning: Reasoning = Reasoning()
    providers: dict[str, Provider] = Field(default_factory=dict)
    models: tuple[ModelConfig, ...] = ()
    default_max_tokens: PositiveInt | None = None
    log_level: Annotated[LogLevel, BeforeValidator(_lower)] = "info"

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

    def secrets(self) -> tuple[str, ...]:
        """Every key and header value, for those who must never show one."""
        return tuple(key.get_secret_value() for key in self.server.api_keys) + tuple(
            secret.get_secret_value()
            for provider in self.providers.values()
            for secret in (*provider.api_key, *provider.headers.values())
        )

    def _faults(self) -> Iterator[tuple[KeyPath, str]]:
        for name, provider in self.providers.items():
            if (provider.kind or name) not in BACKENDS and not _CLASS.match(provider.kind):
                where: KeyPath = ("providers", name, "kind") if provider.kind else ("providers", name)
                yield where, f"provider '{name}' needs a kind: {', '.join(BACKENDS)}, or module:Class"
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
                known = ", ".join(sorted({*self.providers, *IMPLICIT_PROVIDERS}))
                yield (
                    (*path, "backend"),
                    f"model '{model.name}': no provider is called '{model.backend}'; known: {known}",
                )


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
