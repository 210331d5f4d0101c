"""The models of real Ollamas among all others: under which names they are there, and who has which."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from ollama_bridge.catalog import CATALOGUE_DATE, Model, ModelConfig, complete
from ollama_bridge.lineage import key_of
from ollama_bridge.native import Resident
from ollama_bridge.roster import Known, Roster
from ollama_bridge.surfaces.ollama_models import moment

KIND: Final = "ollama"
"""Of providers that are an Ollama themselves."""


class Live:
    """All real Ollamas behind us.

    Args:
        rosters: What each of them has, by the provider's key in the configuration.
        default_max_tokens: As `catalog.complete` takes it.
    """

    def __init__(self, rosters: Mapping[str, Roster], default_max_tokens: int | None = None) -> None:
        self.rosters = dict(rosters)
        self._default_max_tokens = default_max_tokens

    def on_change(self, changed: Callable[[], None]) -> None:
        """Have `changed` called whenever one of them has something else."""
        for roster in self.rosters.values():
            roster.changed = changed

    def beside(self, own: Iterable[Model]) -> list[Model]:
        """These, and behind them what real Ollamas have besides; see `beside`."""
        return beside(own, self.rosters, self._default_max_tokens)

    async def fresh(self) -> None:
        """See to it that all lists are, as far as nobody has to wait long for them."""
        await asyncio.gather(*(roster.fresh() for roster in self.rosters.values()))

    async def look(self) -> None:
        """As `fresh`, for who misses something in them."""
        await asyncio.gather(*(roster.look() for roster in self.rosters.values()))

    def home(self, model: Model) -> Roster | None:
        """Who has the model; None: no real Ollama."""
        return self.rosters.get(model.target.provider)

    def keeper(self, name: str = "") -> tuple[Roster, str] | None:
        """Who is to get a model of that name, and what it is called there; None: there is no real Ollama that could.

        `ollama/llama3` names the provider; else it is the first that is not ollama.com itself.
        """
        keepers = [roster for roster in self.rosters.values() if not roster.is_cloud]
        before, slash, rest = name.partition("/")
        if slash:
            for roster in keepers:
                if roster.prefix == before.lower():
                    return roster, rest
        return (keepers[0], name) if keepers else None

    async def running(self, models: Iterable[Model]) -> list[tuple[Model, Mapping[str, Any]]]:
        """Those of these models that real Ollamas have loaded, with what those say of it, in their order."""
        rosters = list(self.rosters.values())
        lists = await asyncio.gather(*(roster.running() for roster in rosters))
        named: dict[tuple[str, str], list[Model]] = {}
        for model in models:
            named.setdefault((model.target.provider, key_of(model.target.model)), []).append(model)
        return [
            (model, row)
            for roster, rows in zip(rosters, lists, strict=True)
            for row in rows
            for model in named.get((roster.name, key_of(row["name"])), ())
        ]


def beside(
    own: Iterable[Model], rosters: Mapping[str, Roster], default_max_tokens: int | None
) -> list[Model]:
    """All models that there are: those of the configuration, and behind them what real Ollamas have besides.

    A real Ollama's model keeps its name. Where somebody else's has that, the provider's goes in front:
    `ollama/llama3:latest`; and where the configuration has one of this name and this provider, it is that one.

    Args:
        own: Those of the configuration, enabled or not.
        rosters: By the provider's key in it.
        default_max_tokens: As `catalog.complete` takes it.
    """
    found: list[Model] = []
    taken: dict[str, Model] = {}
    for model in own:
        roster = rosters.get(model.target.provider)
        found.append(model if roster is None else _resident(model, roster, default_max_tokens))
        names = (model.name, *(model.config.aliases if model.config.enabled else ()))
        taken |= {key_of(name): model for name in names}
    for provider, roster in rosters.items():
        for entry in roster.entries:
            name = entry["name"]
            holder = taken.get(key_of(name))
            if holder is not None:
                target = holder.target
                if target.provider == provider and key_of(target.model) == key_of(name):
                    continue
                name = f"{roster.prefix}/{name}"
            key = key_of(name)
            if key and key not in taken:
                found.append(taken.setdefault(key, _live(name, provider, roster, entry, default_max_tokens)))
    return found


def _live(
    name: str, provider: str, roster: Roster, entry: Mapping[str, Any], default_max_tokens: int | None
) -> Model:
    config = ModelConfig(name=name, backend=provider, backend_model=entry["name"])
    resident = Resident(entry, is_own=False, is_listed=not roster.is_down)
    return _completed(config, resident, roster.known(entry), default_max_tokens)


def _resident(model: Model, roster: Roster, default_max_tokens: int | None) -> Model:
    """A model of the configuration, with what its Ollama says of it where that says nothing."""
    wanted = key_of(model.target.model)
    entry = next((entry for entry in roster.entries if key_of(entry["name"]) == wanted), None)
    if entry is None or roster.is_down:
        return replace(model, resident=Resident())
    return _completed(model.config, Resident(entry), roster.known(entry), default_max_tokens)


def _completed(
    config: ModelConfig, resident: Resident, known: Known, default_max_tokens: int | None
) -> Model:
    told: dict[str, Any] = {}
    if config.capabilities is None and known.capabilities is not None:
        told["capabilities"] = known.capabilities
    if config.context_length is None and known.context_length is not None:
        told["context_length"] = known.context_length
    model = complete(config.model_copy(update=told), kind=KIND, default_max_tokens=default_max_tokens)
    modified_at = moment((resident.entry or {}).get("modified_at")) or CATALOGUE_DATE
    return replace(model, config=config, resident=resident, modified_at=modified_at)
