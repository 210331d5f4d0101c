"""What is told about providers: whether they are asked, since when not, and what failed last. Sans I/O.

Nothing in it that a provider wrote, and no key.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeAlias

from ollama_bridge.surfaces import gojson
from ollama_bridge.surfaces.ollama_models import rfc3339

State: TypeAlias = Literal["closed", "half-open", "open"]

_CLOUD: Final = {"disabled": True, "source": "config"}
"""All of a real server's /api/status: the command line then offers nothing of ollama.com's, and asks for no account."""

_WORST_LAST: Final[tuple[State, ...]] = ("closed", "half-open", "open")


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One model's.

    Args:
        name: As lists show it.
        upstream: As its provider knows it.
        state: Of its circuit.
        failures: In a row.
        last_error: The last of them; empty: there was none.
        since_s: When its circuit was opened, in seconds since the epoch; only if it is not closed.
        retry_in_s: Seconds until it is tried again; only if it is not closed.
    """

    name: str
    upstream: str
    state: State = "closed"
    failures: int = 0
    last_error: str = ""
    since_s: float = 0.0
    retry_in_s: float = 0.0


@dataclass(frozen=True, slots=True)
class KeysStatus:
    """That of several keys of one provider.

    Args:
        number: How many there are.
        resting: Those that rest, counted from 0; for which model, as the provider knows it, or empty for all of them;
            and how many seconds more.
    """

    number: int
    resting: Sequence[tuple[int, str, float]] = ()


@dataclass(frozen=True, slots=True)
class ProviderStatus:
    """One provider's.

    Args:
        name: Key in the configuration.
        kind: What it speaks.
        models: Its enabled ones.
        keys: None: it has one at most, which never rests.
    """

    name: str
    kind: str
    models: tuple[ModelStatus, ...]
    keys: KeysStatus | None = None

    @property
    def state(self) -> State:
        """That of its worst model."""
        return max((model.state for model in self.models), key=_WORST_LAST.index, default="closed")


def status_body(providers: Sequence[ProviderStatus]) -> bytes:
    """The body of /api/status."""
    return gojson.dump({"cloud": _CLOUD, "providers": list(map(_provider, providers))})


def providers_body(providers: Sequence[ProviderStatus]) -> bytes:
    """The body of /v1/providers/status."""
    return gojson.dump({"providers": list(map(_provider, providers))})


def health_body(providers: Sequence[ProviderStatus]) -> bytes:
    """The body of /health: for everybody, and so without names."""
    is_whole = all(provider.state == "closed" for provider in providers)
    return gojson.dump({"status": "ok" if is_whole else "degraded"})


def _provider(provider: ProviderStatus) -> dict[str, Any]:
    return {
        "provider": provider.name,
        "kind": provider.kind,
        "state": provider.state,
        **({"keys": _keys(provider.keys)} if provider.keys else {}),
        "models": list(map(_model, provider.models)),
    }


def _keys(keys: KeysStatus) -> dict[str, Any]:
    resting = [
        {"key": key, **({"backend_model": model} if model else {}), "for_s": round(for_s, 1)}
        for key, model, for_s in keys.resting
    ]
    return {"usable": keys.number - len({key for key, _, _ in keys.resting}), "resting": resting}


def _model(model: ModelStatus) -> dict[str, Any]:
    told: dict[str, Any] = {
        "model": model.name,
        "backend_model": model.upstream,
        "state": model.state,
        "failures": model.failures,
    }
    if model.last_error:
        told["last_error"] = model.last_error
    if model.state != "closed":
        told["since"] = rfc3339(datetime.fromtimestamp(model.since_s, UTC))
        told["retry_in_s"] = round(model.retry_in_s, 1)
    return told
