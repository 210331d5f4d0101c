"""What providers said when they were last asked for their models: a file in the cache folder.

One file for all; each provider's part stands under a key made of its name, kind and address, so that another address
is another provider. Of those it holds no secret. Who finds it missing, torn or of another version goes on without it.

    {"version": 1, "providers": {"groq 3f0c…": {"asked": 1763726400.0, "models": {"llama-3.3-70b": {"context": 131072}}}}}
"""

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import urlsplit

import orjson
from pydantic import ValidationError

from ollama_bridge.allowances import Price
from ollama_bridge.catalog import undated
from ollama_bridge.chat import Capability, Effort
from ollama_bridge.facts import Listed
from ollama_bridge.wholefile import locked, replace

VERSION: Final = 1
_WITHIN_S: Final = 10.0
_FORGOTTEN_S: Final = 60 * 86_400.0
"""Seconds after which the list of a provider that nobody asks any more is gone."""
_DOOMSDAY_S: Final = 253_402_300_800.0  # the year 10000, which no calendar of ours has
_MOST_FORMER: Final = 500
_MOST_BYTES: Final = 64 * 1024 * 1024

Entry = Mapping[str, Any]
"""What is kept of a `Listed`: only what was said."""


@dataclass(frozen=True, slots=True)
class Shelf:
    """What one provider said.

    Args:
        models: By the id; those alone that can be served.
        asked_s: When, in seconds since the epoch; 0: it never did.
        absent: Whether it said that it publishes no list.
        failures: How often in a row it was asked in vain since.
        failed_s: When that was last.
        error: Why.
        former: Ids of those that it once said and says no more, the latest first: a name in the configuration that is
            among them is no slip of the pen.
    """

    models: Mapping[str, Entry] = field(default_factory=dict)
    asked_s: float = 0.0
    absent: bool = False
    failures: int = 0
    failed_s: float = 0.0
    error: str = ""
    former: tuple[str, ...] = ()
    _twins: dict[str, str] = field(default_factory=dict, compare=False, repr=False)

    def listed(self, model_id: str) -> Listed | None:
        """What it said of a model, by its id, or by the id of the same model without its date."""
        entry = self.models.get(model_id)
        if entry is None:
            if not self._twins and self.models:
                self._twins.update({undated(one): one for one in self.models})
            entry = self.models.get(self._twins.get(model_id, ""))
        return None if entry is None else from_entry(model_id, entry)

    def after(self, before: "Shelf") -> "Shelf":
        """The same, which also knows what it said earlier and says no more."""
        said = (*before.models, *before.former)
        return dataclasses.replace(
            self, former=tuple(one for one in said if one not in self.models)[:_MOST_FORMER]
        )

    @property
    def day(self) -> str:
        """On which it said so; empty: never."""
        return day_of(self.asked_s) if self.asked_s else ""


def day_of(at_s: float) -> str:
    """The day in UTC, `2026-11-21`, of so many seconds since the epoch."""
    return datetime.fromtimestamp(at_s, UTC).date().isoformat()


NOTHING: Final = Shelf()


@dataclass(frozen=True, slots=True)
class Lists:
    """All of the file.

    Args:
        shelves: By `key`.
        fault: Why it could not be used; empty: it could, or there is none.
    """

    shelves: Mapping[str, Shelf] = field(default_factory=dict)
    fault: str = ""

    def of(self, name: str, kind: str, address: str | None) -> Shelf:
        """What a provider said; `NOTHING` if it was never asked."""
        return self.shelves.get(key(name, kind, address), NOTHING) if self.shelves else NOTHING


NO_LISTS: Final = Lists()


def default_path() -> Path:
    """Where the file is; it need not exist."""
    import platformdirs  # noqa: PLC0415 - start-up time is counted in milliseconds

    return platformdirs.user_cache_path("ollama-bridge") / "models.json"


def key(name: str, kind: str, address: str | None) -> str:
    """Under which a provider's list stands.

    Args:
        name: Its key in the configuration.
        kind: Its kind.
        address: Where it answers; None: where its SDK says. A password in it is left out.
    """
    parts = urlsplit(address or "")
    where = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    return f"{name} {hashlib.sha256(f'{kind} {where}'.encode()).hexdigest()[:16]}"


def read(path: Path) -> Lists:
    """What the file holds; never fails."""
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return Lists()
    except (OSError, ValueError) as exc:
        return Lists(fault=f"{path}: cannot be read: {getattr(exc, 'strerror', None) or exc}")
    try:
        found = orjson.loads(text)
        if found["version"] != VERSION:
            return Lists(fault=f"{path}: is of another version")
        return Lists({name: _shelf(told) for name, told in found["providers"].items()})
    except (AttributeError, KeyError, TypeError, ValueError):
        return Lists(fault=f"{path}: holds no lists of models")


def write(path: Path, shelves: Mapping[str, Shelf], *, now_s: float) -> None:
    """Put these in the place of those under the same keys; the others stay.

    Raises:
        OSError: It cannot be written, or somebody else is at it (`TimeoutError`). Then it is as it was.
    """
    with locked(path, within_s=_WITHIN_S):
        known = {
            name: shelf
            for name, shelf in read(path).shelves.items()
            if now_s - max(shelf.asked_s, shelf.failed_s) < _FORGOTTEN_S
        }
        told = {name: _told(shelf) for name, shelf in {**known, **shelves}.items()}
        replace(path, orjson.dumps({"version": VERSION, "providers": told}))


def to_entries(models: Iterable[Listed]) -> dict[str, Entry]:
    """What is kept of them, by the id."""
    return {model.id: _entry(model) for model in models}


def from_entry(model_id: str, entry: Entry) -> Listed:
    """What `to_entries` kept; a field that is not as it wrote it is one that was not said."""
    try:
        accepts, thinking, efforts = entry.get("accepts"), entry.get("thinking"), entry.get("efforts")
        price = entry.get("price")
        return Listed(
            model_id,
            display_name=str(entry.get("name", "")),
            kind=entry.get("kind", ""),
            context_length=entry.get("context"),
            max_output_tokens=entry.get("output"),
            able=cast("Mapping[Capability, bool]", entry.get("able") or {}),
            accepts=None if accepts is None else frozenset(accepts),
            thinking=None if thinking is None else frozenset(thinking),
            efforts=None if efforts is None else cast("tuple[Effort, ...]", tuple(efforts)),
            schema=entry.get("schema"),
            price=None if price is None else Price.model_validate(price),
            retires=entry.get("retires", ""),
            gone=bool(entry.get("gone")),
            minor=bool(entry.get("minor")),
            window=entry.get("window"),
        )
    except (TypeError, ValidationError):
        return Listed(model_id)


def _entry(model: Listed) -> Entry:
    said: dict[str, Any] = {
        "name": model.display_name,
        "kind": model.kind,
        "context": model.context_length,
        "output": model.max_output_tokens,
        "able": dict(model.able),
        "accepts": None if model.accepts is None else sorted(model.accepts),
        "thinking": None if model.thinking is None else sorted(model.thinking),
        "efforts": None if model.efforts is None else list(model.efforts),
        "schema": model.schema,
        "price": model.price and model.price.model_dump(mode="json", exclude_none=True),
        "retires": model.retires,
        "gone": model.gone or None,
        "minor": model.minor or None,
        "window": model.window,
    }
    return {name: value for name, value in said.items() if value not in (None, "", {})}


def _told(shelf: Shelf) -> Mapping[str, Any]:
    said = {
        "asked": shelf.asked_s,
        "absent": shelf.absent,
        "failures": shelf.failures,
        "failed": shelf.failed_s,
        "error": shelf.error,
        "models": shelf.models,
        "former": shelf.former,
    }
    return {name: value for name, value in said.items() if value}


def _shelf(told: Mapping[str, Any]) -> Shelf:
    models, former = told.get("models", {}), told.get("former", [])
    asked_s, failed_s = float(told.get("asked", 0)), float(told.get("failed", 0))
    if any(type(entry) is not dict for entry in models.values()) or any(
        type(one) is not str for one in former
    ):
        raise TypeError
    if not (0 <= asked_s < _DOOMSDAY_S and 0 <= failed_s < _DOOMSDAY_S):
        raise ValueError
    return Shelf(
        models,
        asked_s,
        bool(told.get("absent")),
        int(told.get("failures", 0)),
        failed_s,
        str(told.get("error", "")),
        tuple(former),
    )
