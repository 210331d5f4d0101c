"""Who is to answer instead of a model, its fallbacks and what budgets name: whether they exist, and lead anywhere."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Literal, TypeAlias

from ollama_bridge.allowances import Budget
from ollama_bridge.backends import KINDS
from ollama_bridge.catalog import ModelConfig, catalogue_models
from ollama_bridge.config.nearest import suggestion
from ollama_bridge.config.offering import perhaps, shelf_of
from ollama_bridge.config.schema import Config, KeyPath
from ollama_bridge.discovered import other_name
from ollama_bridge.lineage import folded, key_of, places
from ollama_bridge.lists import NO_LISTS, Lists

_Fault: TypeAlias = tuple[KeyPath, str]
_Named: TypeAlias = Sequence[Sequence[str]]
"""For each model whom it names, in order."""


def instead_faults(
    written: Config,
    models: Sequence[ModelConfig],
    whole: Sequence[ModelConfig],
    lists: Lists = NO_LISTS,
) -> Iterator[_Fault]:
    """What cannot be meant, and where it stands.

    Args:
        written: What the operator wrote.
        models: All that there will be, enabled or not; the operator's first.
        whole: The same with what they inherit.
        lists: What the providers said of their models.
    """
    known = places(models)
    nobodys = partial(_nobodys, written, lists)
    yield from _fallback_faults(models, known, nobodys)
    yield from _budget_faults(written.budgets, known, nobodys)
    yield from _model_budget_faults(whole, known, nobodys)


def unanswered(config: Config, lists: Lists) -> Iterator[str]:
    """Names that may be meant, and that nobody answers to now, for people: where each stands, and why.

    Args:
        config: With all of its models.
        lists: What the providers said of them.
    """
    models = folded(config.models)
    known = {*places(models), *(key_of(other_name(model)) for model in models), *map(key_of, _offered())}
    named = [(f"model '{model.name}' falls back to", name) for model in models for name in model.fallbacks]
    named += [
        (f"the budget of model '{model.name}' names", name)
        for model in models
        for name in _instead_of(model.budget)
    ]
    named += [
        (f"budgets.{who} names", name)
        for who, budget in config.budgets.items()
        for name in _instead_of(budget)
    ]
    for where, name in named:
        if key_of(name) not in known:
            yield f"{where} '{name}', which nobody offers: {perhaps(config, lists, name)}"
    for model in models:
        if model.enabled and model.upstream in shelf_of(config, lists, model.backend).former:
            yield f"model '{model.name}': {model.backend} lists '{model.upstream}' no more"


def _nobodys(written: Config, lists: Lists, name: str) -> bool:
    return bool(_stands_for_others(name)) or not perhaps(written, lists, name)


def _fallback_faults(
    models: Sequence[ModelConfig], known: Mapping[str, int], nobodys: Callable[[str], bool]
) -> Iterator[_Fault]:
    named = [model.fallbacks for model in models]
    for index, number in _missing(named, known, nobodys):
        name = named[index][number]
        spellings = (spelling for model in models for spelling in (model.name, *model.aliases))
        hint = _stands_for_others(name) or suggestion(name, [*spellings, *_offered()])
        message = f"model '{models[index].name}' falls back to '{name}', which does not exist{hint}"
        yield ("models", index, "fallbacks", number), message
    for index, number, line in _circles(named, known):
        others = "".join(f", by way of '{models[at].name}'" for at in line)
        message = f"model '{models[index].name}' falls back to itself{others}: take one of them out"
        yield ("models", index, "fallbacks", number), message


def _budget_faults(
    budgets: Mapping[Literal["all", "key"], Budget],
    known: Mapping[str, int],
    nobodys: Callable[[str], bool],
) -> Iterator[_Fault]:
    whose = list(budgets)
    named = [_instead_of(budget) for budget in budgets.values()]
    for index, number in _missing(named, known, nobodys):
        who, name = whose[index], named[index][number]
        message = f"budgets.{who}.instead: there is no model '{name}'{_remedy(name)}"
        yield ("budgets", who, "instead"), message


def _model_budget_faults(
    models: Sequence[ModelConfig], known: Mapping[str, int], nobodys: Callable[[str], bool]
) -> Iterator[_Fault]:
    named = [_instead_of(model.budget) for model in models]
    for index, number in _missing(named, known, nobodys):
        name = named[index][number]
        message = f"model '{models[index].name}': its budget names '{name}' to answer instead"
        yield _place(index), f"{message}, and there is no such model{_remedy(name)}"
    for index, _, line in _circles(named, known):
        way = " -> ".join(models[at].name for at in (index, *line, index))
        message = f"model '{models[index].name}': what answers instead leads back to it ({way})"
        yield _place(index), f"{message}; leave one 'instead' out"


def _missing(
    named: _Named, known: Mapping[str, int], nobodys: Callable[[str], bool]
) -> Iterator[tuple[int, int]]:
    """Who names a model that does not exist, and which of its names that is.

    What the catalogue has of providers without a key exists: a key that is taken away must not keep the daemon from
    starting.
    """
    for index, names in enumerate(named):
        for number, name in enumerate(names):
            if key_of(name) not in known and key_of(name) not in map(key_of, _offered()) and nobodys(name):
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
