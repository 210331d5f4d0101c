"""The sections of `config.yaml`, one by one; `schema` puts them together."""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    model_validator,
)

from ollama_bridge.allowances import Rate
from ollama_bridge.backends import ProviderSettings
from ollama_bridge.backends.vendors import VENDORS
from ollama_bridge.catalog import facts_kind
from ollama_bridge.config.fields import ApiKeys, Host, HttpUrl, Milliseconds, Origins, UrlPart, reaches_others


class Section(BaseModel):
    """A part of the file. A known key without a value is a key that was left out."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _without_empty_keys(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {key: value for key, value in data.items() if value is not None or key not in cls.model_fields}


class Server(Section):
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

    host: Host = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 11434
    max_body_bytes: PositiveInt = 64 * 1024 * 1024
    drain_s: NonNegativeFloat = 10.0
    origins: Origins = ()
    api_keys: ApiKeys = ()
    insecure: bool = False

    @property
    def reaches_others(self) -> bool:
        """Whether other machines can connect."""
        return reaches_others(self.host)


class Streaming(Section):
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


class Reasoning(Section):
    """What providers want back with a later turn and no client can carry: signed thinking, encrypted reasoning.

    Args:
        keep: Whether it is kept, in memory and on disk.
        max_mb: Most of it on disk, in megabytes; what was used longest ago goes first.
        max_days: Days since its last use after which it is gone.
    """

    keep: bool = True
    max_mb: PositiveInt = 64
    max_days: PositiveFloat = 30.0


class Retry(Section):
    """How often a provider is asked again before its answer begins.

    Args:
        max_retries: After the first time; 0: never.
        initial_backoff_ms: Milliseconds before the second time.
        max_backoff_ms: Most milliseconds between two.
        backoff_factor: By which each wait is longer than the one before.
        jitter: Part of a wait by which it is made longer or shorter at random.
        deadline_s: Seconds for all of it; a provider that asks for a longer wait is not waited for.
    """

    max_retries: Annotated[int, Field(ge=0, le=20)] = 3
    initial_backoff_ms: NonNegativeInt = 1000
    max_backoff_ms: NonNegativeInt = 30_000
    backoff_factor: Annotated[float, Field(ge=1, le=100)] = 2.0
    jitter: Annotated[float, Field(ge=0, le=1)] = 0.1
    deadline_s: PositiveFloat = 60.0


class Breaker(Section):
    """When a model that fails is no longer asked for a while.

    Args:
        failures: In a row; 0: never.
        open_s: Seconds without asking it; then one request tries.
    """

    failures: NonNegativeInt = 5
    open_s: PositiveFloat = 60.0


class Cache(Section):
    """Answers that are given again to whoever asks the same.

    Args:
        enabled: Whether answers are kept.
        ttl_s: Seconds that an answer is good for.
        max_mb: Most of it, in megabytes, but for Redis, which has a bound of its own; what is oldest goes first.
        store: Where: `memory`, `disk` (there after a restart), or `state`: in the Redis that `state` names.
        any_temperature: Whether also answers to questions that do not ask for temperature 0.
        share: Whether the same question, asked twice at one moment with temperature 0, is asked of the provider once.
    """

    enabled: bool = False
    ttl_s: PositiveFloat = 300.0
    max_mb: PositiveInt = 64
    store: Literal["memory", "disk", "state"] = "memory"
    any_temperature: bool = False
    share: bool = True


class Ledger(Section):
    """A line for each call: who asked what of whom, tokens, cost, times; never what was said.

    Args:
        keep: Whether it is written.
        max_days: Days after which a line is gone.
        max_mb: Most of it on disk, in megabytes; the oldest lines go first.
    """

    keep: bool = True
    max_days: PositiveFloat = 400.0
    max_mb: PositiveInt = 256


class Routing(Section):
    """Models that stand for others: `small`, `big`, and `auto:<task>`.

    Args:
        auto: Whether `auto` and `auto:<task>` answer.
        listed: Whether clients see them in lists; they answer all the same.
    """

    auto: bool = True
    listed: bool = False


class Provider(Section):
    """One account at one provider.

    Args:
        kind: One of `backends.KINDS`, or a `module:Class` of one's own; empty: what the entry is called.
        api: For kind `openai`; None: each model's own.
        fim: Where gaps in code are filled: see `backends.fim`.
        base_url: As the SDK takes it: openai with `/v1`, anthropic and google without a version.
        api_key: One key, several (used in turn), or `none`.
        timeout_s: Seconds of silence, instead of both timeouts of `streaming`.
        connect_timeout_s: Seconds to reach the provider.
        proxy: Whether `HTTPS_PROXY` and its like are obeyed.
        headers: Added to every request; shown as masked as keys are.
        account: For vendors whose address holds it: see `backends.vendors`.
        requests_per_minute: In any minute, by all its models together; also per hour and day, and tokens per minute.
    """

    kind: str = ""
    api: Literal["chat", "responses"] | None = None
    fim: Literal["fim/completions", "completions", "none"] | None = None
    base_url: HttpUrl | None = None
    api_key: ApiKeys = ()
    timeout_s: PositiveFloat | None = None
    connect_timeout_s: PositiveFloat = 10.0
    proxy: bool = False
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    account: UrlPart = ""
    requests_per_minute: Rate | None = None
    requests_per_hour: Rate | None = None
    requests_per_day: Rate | None = None
    tokens_per_minute: Rate | None = None

    def address(self, name: str) -> str | None:
        """Where it answers; None: where its SDK says."""
        vendor = VENDORS.get(self.kind or name)
        if self.base_url is not None or vendor is None:
            return self.base_url
        return vendor.base_url.format_map({key: getattr(self, key) for key in vendor.needs})

    def settings(self, name: str) -> ProviderSettings:
        """What the backend's constructor is told; `name` is the provider's key in the configuration."""
        return ProviderSettings(
            name=name,
            kind=self.kind or name,
            api_keys=tuple(key.get_secret_value() for key in self.api_key),
            base_url=self.address(name),
            api=self.api,
            fim=self.fim,
            connect_timeout_s=self.connect_timeout_s,
            trust_env=self.proxy,
            headers={header: value.get_secret_value() for header, value in self.headers.items()},
            account=self.account,
        )

    def facts_kind(self, name: str) -> str:
        """Whose models it has, as `catalog.facts_kind` says."""
        return facts_kind(name, self.kind or name, self.base_url)
