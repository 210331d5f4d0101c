"""Who is to answer instead of a model, its fallbacks and what budgets name: whether they exist, and lead anywhere."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, TypeAlias

from ollama_bridge.allowances import Budget
from ollama_bridge.backends import KINDS
from ollama_bridge.catalog import ModelConfig, catalogue_models
from ollama_bridge.config.nearest import suggestion
from ollama_bridge.config.offering import says_who
from ollama_bridge.config.schema import Config, KeyPath
from ollama_bridge.lineage import key_of, places

_Fault: TypeAlias = tuple[KeyPath, str]
_Named: TypeAlias = Sequence[Sequence[str]]
"""For each model whom it names, in order."""


def instead_faults(
    written: Config,
    models: Sequence[ModelConfig],
    whole: Sequence[ModelConfig],
) -> Iterator[_Fault]:
    """What cannot be meant, and where it stands.

    Args:
        written: What the operator wrote.
        models: All that there will be, enabled or not; the operator's first.
        whole: The same with what they inherit.
    """
    known = places(models)
    yield from _fallback_faults(written, models, known)
    yield from _budget_faults(written.budgets, known)
    yield from _model_budget_faults(whole, known)


def _fallback_faults(
    written: Config, models: Sequence[ModelConfig], known: Mapping[str, int]
) -> Iterator[_Fault]:
    named = [model.fallbacks for model in models]
    for index, number in _missing(named, known):
        name = named[index][number]
        if says_who(written, name):  # a list that is gone must not keep the daemon from starting
            continue
        spellings = (spelling for model in models for spelling in (model.name, *model.aliases))
        hint = _stands_for_others(name) or suggestion(name, [*spellings, *_offered()])
        message = f"model '{models[index].name}' falls back to '{name}', which does not exist{hint}"
        yield ("models", index, "fallbacks", number), message
    for index, number, line in _circles(named, known):
        others = "".join(f", by way of '{models[at].name}'" for at in line)
        message = f"model '{models[index].name}' falls back to itself{others}: take one of them out"
        yield ("models", index, "fallbacks", number), message


def _budget_faults(
    budgets: Mapping[Literal["all", "key"], Budget], known: Mapping[str, int]
) -> Iterator[_Fault]:
    whose = list(budgets)
    named = [_instead_of(budget) for budget in budgets.values()]
    for index, number in _missing(named, known):
        who, name = whose[index], named[index][number]
        message = f"budgets.{who}.instead: there is no model '{name}'{_remedy(name)}"
        yield ("budgets", who, "instead"), message


def _model_budget_faults(models: Sequence[ModelConfig], known: Mapping[str, int]) -> Iterator[_Fault]:
    named = [_instead_of(model.budget) for model in models]
    for index, number in _missing(named, known):
        name = named[index][number]
        message = f"model '{models[index].name}': its budget names '{name}' to answer instead"
        yield _place(index), f"{message}, and there is no such model{_remedy(name)}"
    for index, _, line in _circles(named, known):
        way = " -> ".join(models[at].name for at in (index, *line, index))
        message = f"model '{models[index].name}': what answers instead leads back to it ({way})"
        yield _place(index), f"{message}; leave one 'instead' out"


def _missing(named: _Named, known: Mapping[str, int]) -> Iterator[tuple[int, int]]:
    """Who names a model that does not exist, and which of its names that is.

    What the catalogue has of providers without a key exists: a key that is taken away must not keep the daemon from
    starting.
    """
    for index, names in enumerate(named):
        for number, name in enumerate(names):
            if key_of(name) not in known and key_of(name) not in map(key_of, _offered()):
                yield index, number


def _circles(named: _Named, known: Mapping[str, int]) -> Iterator[tuple[int, int, list[int]]]:
    """Who leads back to itself, by which of its names, and by way of whom."""
    ways = [[known.get(key_of(name)) for name in names] for names in named]
    for index, own in enumerate(ways):
        for number, way in enumerate(own):
            if (line := _back(ways, way, index)) is not None:
                yield index, number, line


def _back(ways: Sequence[Sequence[int | None]], start: int | None, end: int) -> list[int] | None:
    """Who stands between a model and itself, if a way leads from `start` back to `end`."""
    lines: list[tuple[int | None, list[int]]] = [(start, [])]
    seen: set[int] = set()
    while lines:
        at, line = lines.pop()
        if at == end:
            return line
        if at is not None and at not in seen:
            seen.add(at)
            lines += [(way, [*line, at]) for way in ways[at]]
    return None


def _stands_for_others(name: str) -> str:
    """Why `small`, `auto:chat` and the like are no model that could be named here; empty: it is none of them.

    Whom they stand for is chosen among all models, and so may be the very one that does not answer.
    """
    from ollama_bridge.policies.stand_ins import NAMES  # noqa: PLC0415 - who has made no mistake need not wait for it

    is_one = key_of(name) in map(key_of, NAMES)
    return ": that is a name for whoever is chosen for a request; name one model" if is_one else ""


def _remedy(name: str) -> str:
    return _stands_for_others(name) or "; name one that is cheaper"


def _instead_of(budget: Budget | None) -> tuple[str, ...]:
    return (budget.instead,) if budget is not None and budget.instead else ()


def _offered() -> Iterator[str]:
    return (model.name for kind in KINDS for model in catalogue_models(kind, kind))


def _place(index: int) -> KeyPath:
    return "models", index, "budget", "instead"
